"""Which unit serves an operation, and how many cycles it takes."""

from dataclasses import dataclass

from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.operation import Kind, Op
from fpqvar_lab.hardware.accelerator.timeline import Unit
from fpqvar_lab.hardware.accelerator.unit_timing import POINTS, QUANTIZER_LANES

MODELLED_LATENCY = 16
"""Cycles from the last input to the last result of the units that are modelled, not built."""


@dataclass(frozen=True)
class ElementService:
    """A unit that treats elements.

    Args:
        unit: The unit that does the work.
        elements: How many elements it takes at a time.
        interval: For how many cycles these keep it busy.
        tail: How many cycles after the last busy one the results are there.
    """

    unit: Unit
    elements: int
    interval: int = 1
    tail: int = MODELLED_LATENCY

    def cycles(self, count: int) -> int:
        """For how many cycles so many elements keep the unit busy."""
        return -(-count // self.elements) * self.interval


def element_service(op: Op, design: Design) -> ElementService:
    """The unit for an operation that is no product."""
    if op.kind is Kind.HADAMARD:
        timing = design.hadamard_timing
        return ElementService(
            Unit.HADAMARD, POINTS * design.transforms, timing.interval, timing.latency
        )
    if op.kind is Kind.QUANTIZE:
        return quantizer_service(op, design)
    return ElementService(Unit.SPECIAL, design.special_lanes)


def quantizer_service(op: Op, design: Design) -> ElementService:
    """The quantizers, for groups as a quantizing operation has them."""
    assert op.input_format is not None
    group = op.group or op.columns
    timing = design.quantizer_timing(op.input_format, group)
    tail = timing.latency + -(-group // QUANTIZER_LANES) - timing.interval
    return ElementService(Unit.QUANTIZER, group * design.quantizers, timing.interval, tail)


@dataclass(frozen=True)
class ProductService:
    """An array that multiplies rows by one chunk of columns.

    Args:
        unit: The array.
        rows: How many rows it takes at a time.
        cycles_per_tile: For how many cycles these keep it busy, even if some rows are empty.
        tail: How many cycles after the last busy one the results are there.
    """

    unit: Unit
    rows: int
    cycles_per_tile: int
    tail: int

    def cycles(self, rows: int) -> int:
        """For how many cycles so many rows keep the array busy."""
        return -(-rows // self.rows) * self.cycles_per_tile


def product_service(op: Op, width: int, design: Design) -> ProductService:
    """The array for a product with `width` columns of weights."""
    if not op.multiplies_low_bit_weights:
        cycles = -(-op.inner * width // design.attention_macs)
        return ProductService(Unit.ATTENTION, 1, cycles, MODELLED_LATENCY)
    timing = design.matrix_timing(op.input_format)
    cycles = -(-op.inner // design.group) * timing.interval
    tail = timing.latency - timing.interval + design.rows
    return ProductService(Unit.MATRIX, design.rows, cycles, tail)
