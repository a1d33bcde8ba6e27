"""What an accelerator is built of, in the terms of Part VI's units, as one frozen value."""

from dataclasses import dataclass
from functools import cache

from fpqvar_lab.formats import DualFormat, format_from_text
from fpqvar_lab.hardware.rtl import GroupQuantizer, HadamardUnit, MatrixUnit

POINTS = 128
"""Of the Hadamard transform."""
QUANTIZER_LANES = 8
"""Elements a beat of one quantizer; more lanes are more quantizers side by side."""


@dataclass(frozen=True)
class UnitTiming:
    """Cycles of one unit: see `rtl.unit.Unit`."""

    latency: int
    interval: int


@dataclass(frozen=True)
class Design:
    """What is built. Change it with `dataclasses.replace`.

    Matrix arrays, transforms and quantizers are the units ``MatrixUnit``, ``HadamardUnit`` and
    ``GroupQuantizer``, which are asked for their latencies and intervals. The attention array and
    the special-function unit (softmax, GELU, normalisation, sampling) are modelled by what they do
    a cycle; they are not built.

    Args:
        rows: of a matrix array: tokens of a tile.
        columns: of a matrix array: output channels of a tile.
        lanes: products a cycle in each of its dot products.
        arrays: equal matrix arrays that split the columns of a product.
        formats: of activations, of weights, and of what enters `fc2`.
        attention_macs: a cycle, in the array of multiplier blocks for the two products with keys
            and values, and for the layers that stay in 16 bits.
        hadamard_lanes: elements a cycle: a power of two from 2 to 128, or a multiple of 128.
        quantizer_lanes: elements that enter the quantizers a cycle; a multiple of 8.
        special_lanes: elements a cycle of the special-function unit.
        clock_hz: cycles a second.
        weight_buffer_bytes: for weights on their way from the external memory.
        activation_buffer_bytes: for activations, and keys and values on their way.
        double_buffered: whether weights may arrive while others are in use.
        fine: whether the stages of one matrix operation overlap, tile by tile.
        coarse: whether operations overlap.
        group: elements that share a scale in the matrix arrays.

    Raises:
        ValueError: when a number is not positive, or the units cannot be built so.
    """

    rows: int = 16
    columns: int = 80
    lanes: int = 8
    arrays: int = 1
    formats: tuple[str, str, str] = ("e2m1", "e2m1", "dual-fp4-pow2")
    attention_macs: int = 2048
    hadamard_lanes: int = 32
    quantizer_lanes: int = 64
    special_lanes: int = 64
    clock_hz: float = 300e6
    weight_buffer_bytes: int = 2**21
    activation_buffer_bytes: int = 2**23
    double_buffered: bool = True
    fine: bool = True
    coarse: bool = True
    group: int = 128

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.quantizer_lanes % QUANTIZER_LANES:
            raise ValueError(
                f"quantizer_lanes {self.quantizer_lanes} is no multiple of {QUANTIZER_LANES}"
            )
        lanes = self.hadamard_lanes
        if lanes % POINTS and (lanes.bit_count() != 1 or not 2 <= lanes <= POINTS):
            raise ValueError(
                f"hadamard_lanes {lanes}: use a power of two from 2 to {POINTS}, "
                f"or a multiple of {POINTS}"
            )
        for input_format in (self.formats[0], self.formats[2]):
            self.matrix_timing(input_format)

    @property
    def tile_columns(self) -> int:
        """Output channels that all arrays compute at a time."""
        return self.columns * self.arrays

    @property
    def macs_per_cycle(self) -> int:
        """Of the matrix arrays, when every place of a tile is used."""
        return self.rows * self.tile_columns * self.lanes

    @property
    def quantizers(self) -> int:
        """How many quantizers work side by side."""
        return self.quantizer_lanes // QUANTIZER_LANES

    @property
    def transforms(self) -> int:
        """How many Hadamard units work side by side."""
        return max(1, self.hadamard_lanes // POINTS)

    def matrix_timing(self, input_format: str | None = None) -> UnitTiming:
        """Of a matrix array for inputs in a format (by default, that of the activations).

        Raises:
            ValueError: when there can be no such array.
        """
        chosen = self.formats[0] if input_format is None else input_format
        return _matrix_timing(chosen, self.formats[1], self.rows, self.lanes, self.group)

    def quantizer_timing(self, fmt: str, group: int) -> UnitTiming:
        """Of one quantizer to a format: cycles for a group of so many elements."""
        return _quantizer_timing(fmt, group)

    @property
    def hadamard_timing(self) -> UnitTiming:
        """Of one Hadamard unit, in cycles for a group."""
        return _hadamard_timing(min(self.hadamard_lanes, POINTS))


_POSITIVE = (
    "rows",
    "columns",
    "lanes",
    "arrays",
    "attention_macs",
    "hadamard_lanes",
    "quantizer_lanes",
    "special_lanes",
    "clock_hz",
    "weight_buffer_bytes",
    "activation_buffer_bytes",
    "group",
)


@cache
def _matrix_timing(a: str, b: str, rows: int, lanes: int, group: int) -> UnitTiming:
    weights = format_from_text(b)
    if isinstance(weights, DualFormat):
        raise ValueError(f"formats: weights cannot be in the dual format {b}")
    # One column is enough to ask: the others work beside it.
    unit = MatrixUnit(format_from_text(a), weights, rows, 1, lanes, group)
    return UnitTiming(unit.latency, unit.interval)


@cache
def _quantizer_timing(fmt: str, group: int) -> UnitTiming:
    unit = GroupQuantizer(format_from_text(fmt), QUANTIZER_LANES, group=group)
    return UnitTiming(unit.latency, unit.interval)


@cache
def _hadamard_timing(lanes: int) -> UnitTiming:
    unit = HadamardUnit(POINTS, lanes)
    return UnitTiming(unit.latency, unit.interval)
