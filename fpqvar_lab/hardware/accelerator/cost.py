"""What a design takes of a device, from the table of synthesized units.

A unit of a size that the table lacks is scaled from rows of its kind by a stated rule; the tests
hold the rules to other rows. What has not been synthesized here is an assumption, all of which are
in `ASSUMED`. Nothing here has been placed or routed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from math import ceil

from fpqvar_lab.formats import E2M1, E2M3, INT4, INT6, INT8, DualFormat, Format
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.device import (
    BRAM_BITS,
    BRAM_PORT_BITS,
    FPGA,
    URAM_BITS,
    URAM_PORT_BITS,
)
from fpqvar_lab.hardware.accelerator.format_key import format_key
from fpqvar_lab.hardware.cost_table import Entry, load_table


@dataclass(frozen=True)
class Resources:
    """Cells of an FPGA; fields as in `FPGA`. Lookup tables used as memory count as such."""

    lut: float = 0
    ff: float = 0
    dsp: float = 0
    bram: float = 0
    uram: float = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.lut + other.lut,
            self.ff + other.ff,
            self.dsp + other.dsp,
            self.bram + other.bram,
            self.uram + other.uram,
        )

    def __mul__(self, copies: float) -> "Resources":
        return Resources(
            self.lut * copies,
            self.ff * copies,
            self.dsp * copies,
            self.bram * copies,
            self.uram * copies,
        )

    def fractions(self, device: FPGA) -> dict[str, float]:
        """The fraction of the device's cells that is used, by kind of cell."""
        return {f.name: getattr(self, f.name) / getattr(device, f.name).value for f in fields(self)}

    def fit(self, device: FPGA, fraction: float = 1.0) -> bool:
        """Whether no kind of cell is used beyond this fraction of what there is."""
        return max(self.fractions(device).values()) <= fraction


@dataclass(frozen=True)
class Assumption:
    """The cost of something that was not synthesized here.

    Args:
        resources: The cells that one of them takes.
        each: The thing that is counted, such as "lane".
        reason: Why the cost is taken to be this much.
    """

    resources: Resources
    each: str
    reason: str


ASSUMED: Mapping[str, Assumption] = {
    "special": Assumption(
        Resources(lut=3 * 3532 / 8, ff=3 * 3427 / 8, dsp=3),
        "lane",
        "three units (softmax, GELU, LayerNorm), each as large as the largest of 8 lanes that "
        "LightMamba's authors list (3,532 LUTs, 3,427 flip-flops, 8 DSPs)",
    ),
    "attention": Assumption(
        Resources(lut=16, ff=32, dsp=1),
        "product per cycle",
        "one multiplier block each, and room to move two operands of 8 bits",
    ),
    "control": Assumption(
        Resources(lut=50_000, ff=60_000, bram=64),
        "design",
        "memory access, sequencing, residual sums; about half of all of LightMamba's design",
    ),
}


ALIGNED_BITS = 8
"""Bits of an operand aligner's result: the digits and where they go."""


@dataclass(frozen=True)
class DSPMultipliers:
    """A matrix unit that multiplies in DSPs, as integer accelerators do.

    Args:
        products: How many products one DSP computes per cycle.
    """

    products: int = 1


def resources(design: Design, multipliers: DSPMultipliers | None = None) -> Resources:
    """What a design takes in all.

    Args:
        design: The design whose cells are counted.
        multipliers: How the matrix unit multiplies; in LUTs by default.
    """
    total = Resources()
    for part in parts(design, multipliers).values():
        total += part
    return total


def parts(design: Design, multipliers: DSPMultipliers | None = None) -> dict[str, Resources]:
    """What each part of a design takes; arguments as for `resources`."""
    return {
        "matrix": matrix(design, multipliers),
        "quantizer": _quantizers(design),
        "hadamard": hadamard(design.hadamard_lanes),
        "attention": ASSUMED["attention"].resources * design.attention_macs,
        "special": ASSUMED["special"].resources * design.special_lanes,
        "buffers": _buffers(design),
        "control": ASSUMED["control"].resources,
    }


def matrix(design: Design, multipliers: DSPMultipliers | None = None) -> Resources:
    """All matrix units of a design."""
    fmt = matrix_format(design)
    cell = dot_product(fmt, design.lanes)
    if multipliers is not None:
        # A DSP adds to the sum of the one before it, so that no adder tree is left.
        cell = Resources(dsp=ceil(design.lanes / multipliers.products))
    unit = matrix_unit(fmt, design.rows, design.columns, design.lanes, cell)
    return unit * design.arrays


def matrix_format(design: Design) -> Format:
    """The format of activations that the matrix unit is built for.

    The unit for a dual format takes single ones too, by an operand that is never moved.
    """
    activations, _, fc2_input = design.formats
    return fc2_input if isinstance(fc2_input, DualFormat) else activations


@cache
def matrix_unit(
    fmt: Format, rows: int, columns: int, lanes: int, cell: Resources | None = None
) -> Resources:
    """One matrix unit: dot products, a scale unit per column, operand aligners where there are any.

    What is around them (queues, selection) is added in the proportion that the table's unit of
    4 x 4 dot products of E2M1 has.

    Args:
        fmt: The format of the activations.
        rows: The number of rows of dot products.
        columns: The number of columns of dot products.
        lanes: The number of products of each dot product.
        cell: What a dot product takes; by default, one with multipliers in LUTs.
    """
    cell = dot_product(fmt, lanes) if cell is None else cell
    around = _cells(E2M1, 4, 4, dot_product(E2M1, 16), 16)
    measured = _row("matrix-unit", dsp=True)
    unit = _cells(fmt, rows, columns, cell, lanes)
    return replace(
        unit, lut=unit.lut * measured.lut / around.lut, ff=unit.ff * measured.ff / around.ff
    )


def _cells(fmt: Format, rows: int, columns: int, cell: Resources, lanes: int) -> Resources:
    """What a matrix unit consists of, without what is around it."""
    unit = cell * (rows * columns) + _row("scale-unit", dsp=True) * columns
    if isinstance(fmt, DualFormat) and fmt.scale_ratio == "power-of-two":
        # Both operands wait a cycle for the aligners.
        waiting = ALIGNED_BITS * rows + fmt.positive.bits * columns
        unit += _row("operand-aligner", fmt) * (rows * lanes) + Resources(ff=waiting * lanes)
    return unit


@cache
def dot_product(fmt: Format, lanes: int) -> Resources:
    """A dot product, on the line through the table's rows of 16 and 64 lanes.

    Where the table has 16 lanes only, as for INT6 and INT8, it is scaled in proportion.

    Raises:
        ValueError: when the table has no dot product of this format.
    """
    key, entries = format_key(fmt), [e for e in load_table() if e.kind == "dot-product"]
    rows = {entry.lanes: entry for entry in entries if entry.format == key}
    if 16 not in rows:
        known = ", ".join(dict.fromkeys(entry.format for entry in entries))
        raise ValueError(f"no dot product of {key!r} was synthesized; there are {known}")
    narrow = _of(rows[16])
    if 64 not in rows:
        return narrow * (lanes / 16)
    return _line(16, narrow, 64, _of(rows[64]), lanes)


@cache
def hadamard(lanes: int) -> Resources:
    """A transform of so many elements per cycle, on the line through 2 and 16 lanes.

    More than 16 lanes are several units; as one, they would take less.
    """
    if lanes == 0:
        return Resources()
    narrow, wide = _of(Entry("hadamard")), _row("hadamard", lanes=16)
    if lanes <= 16:
        return _line(2, narrow, 16, wide, lanes)
    return wide * ceil(lanes / 16)


def _quantizers(design: Design) -> Resources:
    """Quantizers of 8 elements per cycle each: a set for each format, and one each for keys and
    values.
    """
    copies = ceil(design.quantizer_lanes / 8)
    activations, _, fc2_input = design.formats
    total = Resources()
    for fmt in dict.fromkeys((activations, fc2_input)):
        total += quantizer(fmt) * copies
    return total + _row("kv-quantizer", E2M3) * 2


@cache
def quantizer(fmt: Format) -> Resources:
    """A quantizer of 8 elements per cycle; for integers, that of the minifloat of as many bits.

    Raises:
        ValueError: when the table has no quantizer for the format, nor for one of its width.
    """
    stand_ins: dict[Format, Format] = {INT4: E2M1, INT6: E2M3, INT8: E2M3}
    entry = Entry("quantizer", format_key(stand_ins.get(fmt, fmt)))
    if entry not in load_table():
        known = ", ".join(e.format for e in load_table() if e.kind == "quantizer")
        raise ValueError(f"no quantizer of {format_key(fmt)!r} was synthesized; there are {known}")
    return _of(entry)


def _buffers(design: Design) -> Resources:
    """Weights in block memories, activations in the large ones.

    Both are large enough, and wide enough for what the matrix units read each cycle.
    """
    activations, weights, _ = design.formats
    weight_bits = design.tile_columns * design.lanes * weights.bits
    row_bits = design.rows * design.lanes * activations.bits
    of_weights = ceil(8 * design.weight_buffer_bytes / BRAM_BITS)
    of_activations = ceil(8 * design.activation_buffer_bytes / URAM_BITS)
    return Resources(
        bram=max(of_weights, ceil(weight_bits / BRAM_PORT_BITS)),
        uram=max(of_activations, ceil(row_bits / URAM_PORT_BITS)),
    )


def _row(
    kind: str, fmt: Format = E2M1, lanes: int | None = None, *, dsp: bool = False
) -> Resources:
    return _of(Entry(kind, format_key(fmt), lanes, dsp=dsp))


def _of(entry: Entry) -> Resources:
    report = load_table()[entry]
    return Resources(report.lut + report.memory_lut, report.ff, report.dsp, report.block_ram)


def _line(at: int, one: Resources, other_at: int, other: Resources, lanes: int) -> Resources:
    weight = (lanes - at) / (other_at - at)
    return one * (1 - weight) + other * weight
