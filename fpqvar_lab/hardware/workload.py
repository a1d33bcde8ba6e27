"""A VAR as a list of operations for an accelerator: by step, block and kind, in an order that can
run.

The totals are those of `fpqvar_lab.var.operations`, which the tests ask. Each recipe's own
quantizers say how many bits weights, inputs and cache take, scales included.

What is counted where: weights pass once a step, for both halves of guidance and the whole batch.
AdaLN runs once an image. Of the cache, only what earlier steps wrote is read from memory: a step's
own keys and values are still on the chip. Layers that a recipe leaves alone have 16 bits.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an operation does."""

    LINEAR = "linear"
    SCORES = "scores"
    VALUES = "values"
    SOFTMAX = "softmax"
    GELU = "gelu"
    NORM = "norm"
    """LayerNorm and AdaLN's modulation, a row at a time."""
    UNIT = "unit"
    """Queries and keys to unit length, a head at a time."""
    CONDITION = "condition"
    """AdaLN's own product, once an image."""
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


@dataclass(frozen=True)
class Work:
    """One operation of one block in one step.

    Args:
        name: such as `step 3/blocks.7/fc1`; steps and blocks count from 0.
        kind: what it does.
        step: in which it runs; None for what runs once an image.
        block: to which it belongs; None outside the blocks.
        rows: of the product (rows, inner) x (inner, columns).
        inner: see `rows`.
        columns: see `rows`.
        products: of that shape; 0 rows mean none.
        elements: of element-wise work.
        weight_bytes: read from the external memory.
        cache_read_bytes: of keys and values, read from the external memory.
        cache_written_bytes: of keys and values, written to the external memory.
        activation_bytes: that enter and leave on the chip.
        input_format: of a product's input, or of what a quantizer gives.
        weight_format: of a product's weights.
        group: elements that share a scale in a quantizer's result; 0 for a whole row.
        heads: equal parts that can follow each other; 1 where there are none.
        after: names of the operations whose results it needs.
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
    input_format: str = "fp16"
    weight_format: str = "fp16"
    group: int = 0
    heads: int = 1
    after: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.rows * self.inner * self.columns * self.products
