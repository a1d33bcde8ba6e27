"""One operation of a VAR as an accelerator sees it: what it computes, moves and waits for."""

from dataclasses import dataclass
from enum import StrEnum

from fpqvar_lab.formats import Format


class Kind(StrEnum):
    """What an operation does."""

    LINEAR = "linear"
    SCORES = "scores"
    VALUES = "values"
    SOFTMAX = "softmax"
    GELU = "gelu"
    NORM = "norm"
    """LayerNorm and AdaLN's modulation, row by row."""
    UNIT = "unit"
    """Scaling queries and keys to unit length, head by head."""
    CONDITION = "condition"
    """AdaLN's own product, once per image."""
    HADAMARD = "hadamard"
    QUANTIZE = "quantize"
    CACHE_WRITE = "cache-write"
    CACHE_READ = "cache-read"
    HEAD = "head"
    EMBED = "embed"
    RESIDUAL = "residual"
    SAMPLING = "sampling"
    DECODE = "decode"
    """The VQVAE's convolution after a step, and its decoder."""


PRODUCTS = (Kind.LINEAR, Kind.HEAD, Kind.EMBED, Kind.CONDITION, Kind.DECODE)
"""The kinds that multiply by weights."""


@dataclass(frozen=True)
class Op:
    """One operation of one block in one step.

    Args:
        name: The name is unique, such as `step 3/blocks.7/fc1`; steps and blocks count from 0.
        kind: What the operation does.
        step: The step in which it runs; None for what runs once per image.
        block: The block to which it belongs; None outside the blocks.
        rows: A product has the shape (rows, inner) x (inner, columns); element-wise work treats
            (rows, columns) elements.
        inner: See `rows`; 0 where there is no product.
        columns: See `rows`.
        products: How many products of that shape there are.
        elements: How many elements are treated one by one.
        weight_bytes: Bytes of weights read from the external memory.
        cache_read_bytes: Bytes of keys and values read from the external memory.
        cache_written_bytes: Bytes of keys and values written to the external memory.
        activation_bytes: Bytes of activations that enter and leave on the chip.
        input_format: The format of a product's input, or of a quantizer's result; None for 16
            bits.
        weight_format: The format of a product's weights; None for 16 bits.
        group: How many elements of a quantizer's result share a scale; 0 for a whole row.
        heads: Into how many equal parts, one after the other, the work can be divided; 1 where it
            cannot.
        after: Names of the operations whose results this one needs.
    """

    name: str
    kind: Kind
    step: int | None
    block: int | None
    rows: int = 0
    inner: int = 0
    columns: int = 0
    products: int = 1
    elements: int = 0
    weight_bytes: float = 0
    cache_read_bytes: float = 0
    cache_written_bytes: float = 0
    activation_bytes: float = 0
    input_format: Format | None = None
    weight_format: Format | None = None
    group: int = 0
    heads: int = 1
    after: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.rows * self.inner * self.columns * self.products

    @property
    def multiplies_low_bit_weights(self) -> bool:
        """Whether the matrix arrays do it; products in 16 bits are the attention array's."""
        return self.kind in PRODUCTS and self.weight_format is not None
