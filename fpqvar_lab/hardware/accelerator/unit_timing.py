"""Latencies and initiation intervals of Part VI's units, asked of the units themselves.

Amaranth is needed from the first question on, and not before.
"""

from dataclasses import dataclass
from functools import cache

from fpqvar_lab.formats import DualFormat, Format

POINTS = 128
"""The length of the Hadamard transform."""
QUANTIZER_LANES = 8
"""Elements per beat of one quantizer; more lanes are more quantizers side by side."""


@dataclass(frozen=True)
class UnitTiming:
    """Cycles of one unit: see `rtl.unit.Unit`."""

    latency: int
    interval: int


@cache
def matrix_timing(
    activations: Format, weights: Format, rows: int, lanes: int, group: int
) -> UnitTiming:
    """The timing of a matrix array.

    Raises:
        ValueError: when there can be no such array.
    """
    from fpqvar_lab.hardware.rtl import MatrixUnit

    if isinstance(weights, DualFormat):
        raise ValueError(f"formats: weights cannot be in the dual format {weights}")
    # One column is enough to ask: the others work beside it.
    unit = MatrixUnit(activations, weights, rows, 1, lanes, group)
    return UnitTiming(unit.latency, unit.interval)


@cache
def quantizer_timing(fmt: Format, group: int) -> UnitTiming:
    """The timing of one quantizer, for groups of so many elements."""
    from fpqvar_lab.hardware.rtl import GroupQuantizer

    unit = GroupQuantizer(fmt, QUANTIZER_LANES, group=group)
    return UnitTiming(unit.latency, unit.interval)


@cache
def hadamard_timing(lanes: int) -> UnitTiming:
    """The timing of one Hadamard unit of so many elements per cycle."""
    from fpqvar_lab.hardware.rtl import HadamardUnit

    unit = HadamardUnit(POINTS, lanes)
    return UnitTiming(unit.latency, unit.interval)
