"""What `fpqvar-lab synth` does."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from fpqvar_lab import data
from fpqvar_lab.files import write_text
from fpqvar_lab.hardware.cost_table import ENTRIES, SYNTHESIS_RESULTS, Entry, Report
from fpqvar_lab.hardware.toolchain import (
    TABLE_COLUMNS,
    UNIT_KINDS,
    build_unit,
    clock_constraint,
    result_key,
    synthesize,
    synthesize_entry,
    table_row,
    to_verilog,
    tool_versions,
)


def synth(options: argparse.Namespace) -> None:
    """Print the cost of units, write their Verilog, or renew the committed table."""
    if options.list:
        for name, kind in UNIT_KINDS.items():
            print(f"{name:26} {kind.summary}")
        return
    if options.all:
        _renew(ENTRIES)
        return
    entries = [Entry(options.unit, fmt, options.lanes) for fmt in options.format or ["e2m1"]]
    if options.verilog:
        _export(entries, options.verilog)
    print_table((entry, synthesize_entry(entry, options.family)) for entry in entries)


def print_table(rows: Iterable[tuple[Entry, Report]]) -> None:
    """Units and their cost in aligned columns, each as soon as it is there."""
    print("  ".join(f"{title:>{width}}" for title, width in TABLE_COLUMNS))
    for entry, report in rows:
        texts = zip(table_row(entry, report), TABLE_COLUMNS, strict=True)
        print("  ".join(f"{text:>{width}}" for text, (_, width) in texts), flush=True)


def _renew(entries: Iterable[Entry]) -> None:
    file = data.path() / SYNTHESIS_RESULTS
    units, rows = [], []
    for entry in entries:
        unit = build_unit(entry.kind, entry.format, entry.lanes)
        report = synthesize(unit, dsp=entry.dsp)
        key = result_key(unit, dsp=entry.dsp)
        units.append({"entry": asdict(entry), "digest": key, "result": asdict(report)})
        rows.append((entry, report))
    print_table(rows)
    table = {
        "command": "fpqvar-lab synth --all",
        "versions": tool_versions(),
        "units": units,
    }
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps(table, indent=1) + "\n")
    print(file)


def _export(entries: Iterable[Entry], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        name = f"{entry.kind}_{entry.format}".replace("-", "_").lower()
        unit = build_unit(entry.kind, entry.format, entry.lanes)
        write_text(folder / f"{name}.v", to_verilog(unit, name))
        print(folder / f"{name}.v")
    write_text(folder / "clock.xdc", clock_constraint())
