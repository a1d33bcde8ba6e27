"""What an accelerator is built of, in the terms of Part VI's units, as one frozen value."""

from dataclasses import dataclass
from typing import NamedTuple

from fpqvar_lab.formats import DUAL_FP4_POW2, E2M1, Format
from fpqvar_lab.hardware.accelerator.unit_timing import (
    POINTS,
    QUANTIZER_LANES,
    UnitTiming,
    hadamard_timing,
    matrix_timing,
    quantizer_timing,
)


class OperandFormats(NamedTuple):
    """What the matrix arrays multiply.

    Args:
        activations: The format of the inputs of the first three layers of a block.
        weights: The format of all weights.
        fc2_input: The format of the fourth layer's input.
    """

    activations: Format
    weights: Format
    fc2_input: Format


FP4_FORMATS = OperandFormats(E2M1, E2M1, DUAL_FP4_POW2)
"""FPQVAR's formats of 4 bits, with a power-of-two ratio in the dual one."""


@dataclass(frozen=True)
class Design:
    """What is built. Change it with `dataclasses.replace`.

    Matrix arrays, transforms and quantizers are the units ``MatrixUnit``, ``HadamardUnit`` and
    ``GroupQuantizer``, which are asked for their latencies and intervals. The attention array and
    the special-function unit (softmax, GELU, normalisation, sampling) are modelled by what they do
    per cycle; they are not built.

    Args:
        rows: The height of a matrix array: how many tokens a tile has.
        columns: The width of a matrix array: how many output channels a tile has.
        lanes: How many products each of its dot products computes per cycle.
        arrays: How many equal matrix arrays split the columns of a product.
        formats: The formats that the matrix arrays multiply.
        attention_macs: Multiply-accumulate operations per cycle in the array of multiplier blocks
            for the two products with keys and values, and for the layers that stay in 16 bits.
        hadamard_lanes: Elements per cycle of the transform: a power of two from 2 to 128, or a
            multiple of 128.
        quantizer_lanes: Elements per cycle that enter the quantizers; a multiple of 8.
        special_lanes: Elements per cycle of the special-function unit.
        clock_hz: Cycles per second.
        weight_buffer_bytes: Room for weights on their way from the external memory.
        activation_buffer_bytes: Room for activations, and for keys and values on their way.
        double_buffered: Whether weights may arrive while others are in use.
        fine: Whether the stages of one matrix operation overlap, tile by tile.
        coarse: Whether operations overlap.
        group: How many elements share a scale in the matrix arrays.

    Raises:
        ValueError: when a number is not positive, or the units cannot be built so.
    """

    rows: int = 16
    columns: int = 80
    lanes: int = 8
    arrays: int = 1
    formats: OperandFormats = FP4_FORMATS
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
        for input_format in (self.formats.activations, self.formats.fc2_input):
            self.matrix_timing(input_format)

    @property
    def tile_columns(self) -> int:
        """Output channels that all arrays compute at a time."""
        return self.columns * self.arrays

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulate operations per cycle of the matrix arrays, when tiles are full."""
        return self.rows * self.tile_columns * self.lanes

    @property
    def quantizers(self) -> int:
        """How many quantizers work side by side."""
        return self.quantizer_lanes // QUANTIZER_LANES

    @property
    def transforms(self) -> int:
        """How many Hadamard units work side by side."""
        return max(1, self.hadamard_lanes // POINTS)

    def matrix_timing(self, input_format: Format | None = None) -> UnitTiming:
        """The timing of a matrix array for inputs in a format (the activations' by default).

        Raises:
            ValueError: when there can be no such array.
        """
        chosen = self.formats.activations if input_format is None else input_format
        return matrix_timing(chosen, self.formats.weights, self.rows, self.lanes, self.group)

    def quantizer_timing(self, fmt: Format, group: int) -> UnitTiming:
        """The timing of one quantizer to a format, in cycles per group of so many elements."""
        return quantizer_timing(fmt, group)

    @property
    def hadamard_timing(self) -> UnitTiming:
        """The timing of one Hadamard unit, in cycles per group."""
        return hadamard_timing(min(self.hadamard_lanes, POINTS))


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
