"""What a unit costs, by the name of its kind: synthesized, and as a line of the printed table."""

from fpqvar_lab.hardware.cost_table import Entry, Report
from fpqvar_lab.hardware.toolchain.synthesis import synthesize
from fpqvar_lab.hardware.toolchain.units import UNIT_KINDS, build_unit

TABLE_COLUMNS = (
    "unit",
    "format",
    "lanes",
    "LUT",
    "LUT/MAC",
    "mem LUT",
    "FF",
    "carry",
    "DSP",
    "depth",
)


def synthesize_entry(entry: Entry, family: str = "xcup") -> Report:
    """The cost of a row's unit, from the cache if it is there."""
    unit = build_unit(entry.kind, entry.format, entry.lanes)
    return synthesize(unit, family, dsp=entry.dsp)


def table_row(entry: Entry, report: Report) -> tuple[str, ...]:
    """The texts of a row, one for each of `TABLE_COLUMNS`."""
    kind = UNIT_KINDS[entry.kind]
    lanes = kind.lanes if entry.lanes is None else entry.lanes
    macs = kind.macs(lanes)
    return (
        entry.kind,
        entry.format,
        str(lanes or ""),
        str(report.lut),
        f"{report.lut / macs:.1f}" if macs else "",
        str(report.memory_lut),
        str(report.ff),
        str(report.carry),
        str(report.dsp),
        str(report.depth),
    )
