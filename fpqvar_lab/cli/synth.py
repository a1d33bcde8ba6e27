"""`fpqvar-lab synth`."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fpqvar_lab.cli.checks import hardware_extra, writable_folder
from fpqvar_lab.cli.options import between
from fpqvar_lab.cli.table import table

if TYPE_CHECKING:
    from fpqvar_lab.hardware.cost_table import Entry, Report

# The families of Yosys' synth_xilinx, the newest first.
# fmt: off
Family = Literal[
    "xcup", "xcu", "xc7", "xc6s", "xc6v", "xc5v", "xc4v", "xc3sda",
    "xc3sa", "xc3se", "xc3s", "xc2vp", "xc2v", "xcve", "xcv",
]
# fmt: on


def synth(
    *,
    unit: str = "fp-multiplier",
    formats: Annotated[tuple[str, ...], Parameter(name="--format")] = (),
    lanes: Annotated[int | None, between(1, 1024)] = None,
    family: Family = "xcup",
    verilog: Annotated[Path | None, Parameter(metavar="FOLDER")] = None,
    show: Annotated[bool, Parameter(name="--list")] = False,
    renew: Annotated[bool, Parameter(name="--all")] = False,
) -> None:
    """Count what a hardware unit takes of an FPGA.

    Args:
        unit: see --list
        formats: e2m1 (default), int4, dual-fp4, ...; may be repeated
        lanes: elements per cycle, where the unit has lanes
        family: of synth_xilinx
        verilog: write Verilog there too
        show: list the units
        renew: renew data/results/synthesis.json

    Examples:
        fpqvar-lab synth --list
        fpqvar-lab synth --unit fp-multiplier --format e2m1
        fpqvar-lab synth --unit dot-product --format e2m1 --format int4 --lanes 16
        fpqvar-lab synth --unit hadamard --lanes 4 --verilog out/
    """
    if verilog:
        writable_folder(verilog, "--verilog")
    with hardware_extra():
        from fpqvar_lab.hardware.cost_table import ENTRIES, Entry
        from fpqvar_lab.hardware.toolchain import UNIT_KINDS, synthesize_entry
    if show:
        for name, kind in UNIT_KINDS.items():
            print(f"{name:26} {kind.summary}")
        return
    if renew:
        _renew(ENTRIES)
        return
    entries = [Entry(unit, fmt, lanes) for fmt in formats or ("e2m1",)]
    if verilog:
        _export(entries, verilog)
    print_costs((entry, synthesize_entry(entry, family)) for entry in entries)


def print_costs(rows: "Iterable[tuple[Entry, Report]]") -> None:
    """Units and their cost."""
    from fpqvar_lab.hardware.toolchain import TABLE_COLUMNS, table_row

    costs = [table_row(entry, report) for entry, report in rows]
    print(table(TABLE_COLUMNS, costs, left=("unit", "format")))


def _renew(entries: "Iterable[Entry]") -> None:
    from fpqvar_lab import data
    from fpqvar_lab.files import write_text
    from fpqvar_lab.hardware.cost_table import SYNTHESIS_RESULTS
    from fpqvar_lab.hardware.toolchain import build_unit, result_key, synthesize, tool_versions

    file = data.path() / SYNTHESIS_RESULTS
    units, rows = [], []
    for entry in entries:
        unit = build_unit(entry.kind, entry.format, entry.lanes)
        report = synthesize(unit, dsp=entry.dsp)
        key = result_key(unit, dsp=entry.dsp)
        units.append({"entry": asdict(entry), "digest": key, "result": asdict(report)})
        rows.append((entry, report))
    print_costs(rows)
    content = {"command": "fpqvar-lab synth --all", "versions": tool_versions(), "units": units}
    write_text(file, json.dumps(content, indent=1) + "\n")
    print(file)


def _export(entries: "Iterable[Entry]", folder: Path) -> None:
    from fpqvar_lab.files import write_text
    from fpqvar_lab.hardware.toolchain import build_unit, clock_constraint, to_verilog

    for entry in entries:
        name = f"{entry.kind}_{entry.format}".replace("-", "_").lower()
        unit = build_unit(entry.kind, entry.format, entry.lanes)
        write_text(folder / f"{name}.v", to_verilog(unit, name))
        print(folder / f"{name}.v")
    write_text(folder / "clock.xdc", clock_constraint())
