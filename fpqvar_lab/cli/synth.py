"""What `fpqvar-lab synth` does."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from fpqvar_lab import data
from fpqvar_lab.files import write_text
from fpqvar_lab.hardware.toolchain import (
    COLUMNS,
    ENTRIES,
    KINDS,
    RESULTS,
    Entry,
    build,
    cells,
    constraints,
    measure,
    result_key,
    synthesize,
    to_verilog,
    versions,
)


def synth(options: argparse.Namespace) -> None:
    """Print the cost of units, write their Verilog, or renew the committed table."""
    if options.list:
        for name, kind in KINDS.items():
            print(f"{name:26} {kind.summary}")
        return
    if options.all:
        _renew(ENTRIES)
        return
    entries = [Entry(options.unit, fmt, options.lanes) for fmt in options.format or ["e2m1"]]
    if options.verilog:
        _export(entries, options.verilog)
    print_table((entry, measure(entry, options.family)) for entry in entries)


def print_table(rows: Iterable[tuple[Entry, dict[str, object]]]) -> None:
    """Units and their cost in aligned columns, each as soon as it is there."""
    print("  ".join(f"{title:>{width}}" for title, width in COLUMNS))
    for entry, result in rows:
        texts = zip(cells(entry, result), COLUMNS, strict=True)
        print("  ".join(f"{text:>{width}}" for text, (_, width) in texts), flush=True)


def _renew(entries: Iterable[Entry]) -> None:
    units, rows = [], []
    for entry in entries:
        unit = build(entry.kind, entry.format, entry.lanes)
        report = synthesize(unit, dsp=entry.dsp)
        key = result_key(unit, dsp=entry.dsp)
        units.append({"entry": asdict(entry), "digest": key, "result": asdict(report)})
        rows.append((entry, asdict(report)))
    print_table(rows)
    table = {
        "command": "fpqvar-lab synth --all",
        "versions": versions(),
        "units": units,
    }
    file = data.path() / RESULTS
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps(table, indent=1) + "\n")
    print(file)


def _export(entries: Iterable[Entry], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        name = f"{entry.kind}_{entry.format}".replace("-", "_").lower()
        unit = build(entry.kind, entry.format, entry.lanes)
        write_text(folder / f"{name}.v", to_verilog(unit, name))
        print(folder / f"{name}.v")
    write_text(folder / "clock.xdc", constraints())
