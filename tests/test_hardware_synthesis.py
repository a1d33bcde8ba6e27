"""What units cost, that netlists and Verilog do what the units do, and the command line."""

import json
import shutil
import subprocess
from dataclasses import asdict

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, Out

from fpqvar_lab import data
from fpqvar_lab.cli import main
from fpqvar_lab.formats import DUAL_FP4_POW2, E2M1, E2M3, INT4, TIES_TO_POSITIVE
from fpqvar_lab.hardware.cost_table import ENTRIES, SYNTHESIS_RESULTS, Entry, load_table
from fpqvar_lab.hardware.rtl import (
    ArithmeticMultiplier,
    ComparatorBank,
    DotProduct,
    HadamardUnit,
    OperandAligner,
    RoundingTable,
    TableMultiplier,
    lane_for,
)
from fpqvar_lab.hardware.toolchain import (
    UNIT_KINDS,
    CompiledUnit,
    ToolError,
    build_unit,
    cache,
    from_words,
    netlist_is_equal,
    run_yosys,
    synthesis,
    to_rtlil,
    to_verilog,
    to_words,
    tool_versions,
    units_are_equal,
)


@pytest.fixture(scope="module")
def table():
    """The committed table."""
    return json.loads(data.path(SYNTHESIS_RESULTS).read_text(encoding="utf-8"))


def committed(table, entry: Entry):
    (found,) = (row for row in table["units"] if Entry(**row["entry"]) == entry)
    return found


def synthesized_again(entry: Entry):
    unit = build_unit(entry.kind, entry.format, entry.lanes)
    report = synthesis.run_synthesis(to_rtlil(unit), synthesis.synthesis_command(dsp=entry.dsp))
    return {**asdict(report), "seconds": None}


def named(entry: Entry) -> str:
    return f"{entry.kind}-{entry.format}-{entry.lanes}"


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=named(entry), marks=[] if entry.quick else [pytest.mark.slow])
        for entry in ENTRIES
    ],
)
def test_synthesizing_again_gives_the_committed_figures(table, entry):
    if table["versions"] != tool_versions():
        pytest.skip("the table was made with other versions of the tools")
    assert synthesized_again(entry) == {**committed(table, entry)["result"], "seconds": None}


def is_small(entry: Entry) -> bool:
    return entry.kind != "matrix-unit" and (entry.lanes or 0) < 64


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_committed_table_is_of_the_present_units(table, small):
    if table["versions"] != tool_versions():
        pytest.skip("the table was made with other versions of the tools")
    for entry in (entry for entry in ENTRIES if is_small(entry) == small):
        unit = build_unit(entry.kind, entry.format, entry.lanes)
        assert committed(table, entry)["digest"] == synthesis.result_key(unit, dsp=entry.dsp)


def test_the_table_can_be_read_without_building_anything():
    table = load_table()
    assert set(table) == set(ENTRIES)
    assert table[Entry("fp-multiplier", "e2m1")].lut == 9


@pytest.mark.parametrize(
    ("entry", "lut"),
    [
        (Entry("fp-multiplier", "e2m1"), 9),
        (Entry("quantizer-core", "e2m1"), 4),
        (Entry("dot-product", "e2m1", 64), 25 * 64),
        (Entry("dot-product", "dual-fp4-pow2", 16), 32 * 16),
        (Entry("dot-product", "dual-fp4", 16), 54 * 16),
        (Entry("dot-product", "e2m3", 16), 80 * 16),
        (Entry("hadamard"), 1500),
    ],
    ids=lambda value: value.kind + "-" + value.format if isinstance(value, Entry) else "",
)
def test_targets_are_met(table, entry, lut):
    result = committed(table, entry)["result"]
    assert result["lut"] + result["memory_lut"] <= lut
    assert result["depth"] == 1 or entry.kind != "fp-multiplier"


def test_a_cold_cache_works_and_shows_progress(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(synthesis, "_committed", dict)
    monkeypatch.setattr(synthesis, "_kept_file", lambda key: tmp_path / "kept" / key)
    cold = synthesis.synthesize(RoundingTable(E2M1))
    assert "synthesizing RoundingTable for xcup ..." in capsys.readouterr().err
    assert synthesis.synthesize(RoundingTable(E2M1)) == cold
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_checkout", [True, False])
def test_results_are_kept_in_a_checkout_or_else_in_the_user_s_cache(
    is_checkout, monkeypatch, tmp_path
):
    monkeypatch.setattr(cache, "_ROOT", tmp_path / "site-packages")
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    (tmp_path / "site-packages").mkdir()
    if is_checkout:
        (tmp_path / "site-packages" / "pyproject.toml").touch()
    root = tmp_path / "site-packages" / "_build" if is_checkout else tmp_path / "cache"
    assert cache.cache_folder("synthesis") == root / "synthesis"


def test_only_the_names_may_change_under_one_digest():
    """Oracle: two units of the same parts with other names, and two that differ in one constant."""

    class Counter(Component):
        o: Out(4)

        def __init__(self, name: str, step: int):
            self.name, self.step = name, step
            super().__init__()

        def elaborate(self, platform):
            m = Module()
            count = Signal(4, name=self.name)
            m.d.sync += count.eq(count + self.step)
            m.d.comb += self.o.eq(count)
            return m

    key = synthesis.result_key(Counter("count", 1))
    assert synthesis.result_key(Counter("total", 1)) == key
    assert synthesis.result_key(Counter("count", 3)) != key


def test_an_error_of_the_tool_is_reported():
    with pytest.raises(ToolError, match="no_such_command"):
        run_yosys("no_such_command", {})


# Equivalence


@pytest.mark.parametrize(
    ("fmt", "output"),
    [
        (E2M1, "sign-magnitude"),
        (E2M1, "twos-complement"),
        (INT4, "twos-complement"),
        (E2M3, "sign-magnitude"),
        pytest.param(E2M3, "twos-complement", marks=pytest.mark.slow),
    ],
)
def test_table_and_arithmetic_are_the_same_function(fmt, output):
    table, arithmetic = (
        kind(fmt, output=output) for kind in (TableMultiplier, ArithmeticMultiplier)
    )
    assert units_are_equal(table, arithmetic)


def test_the_solver_tells_tie_rules_apart():
    assert not units_are_equal(RoundingTable(E2M1), RoundingTable(E2M1, TIES_TO_POSITIVE))


@pytest.mark.parametrize(
    ("unit", "cycles"),
    [
        (TableMultiplier(E2M1), 1),
        pytest.param(ArithmeticMultiplier(E2M3), 1, marks=pytest.mark.slow),
        pytest.param(RoundingTable(DUAL_FP4_POW2), 1, marks=pytest.mark.slow),
        pytest.param(ComparatorBank(7, 8), 1, marks=pytest.mark.slow),
        pytest.param(OperandAligner(DUAL_FP4_POW2), 1, marks=pytest.mark.slow),
        pytest.param(HadamardUnit(4, 2, 3), 8, marks=pytest.mark.slow),
        pytest.param(DotProduct(lane_for(E2M1), 2, 4), 6, marks=pytest.mark.slow),
    ],
    ids=lambda value: type(value).__name__,
)
def test_netlist_does_what_the_unit_does(unit, cycles):
    assert netlist_is_equal(unit, cycles=cycles)


# Other simulators


def random_inputs(unit: CompiledUnit, cycles: int) -> dict[str, list[int]]:
    generator = np.random.default_rng(0)
    return {
        name: [int.from_bytes(generator.bytes(-(-bits // 8))) % 2**bits for _ in range(cycles)]
        for name, bits in unit.inputs.items()
    }


def compiled_outputs(unit: CompiledUnit, inputs, cycles):
    words = {
        name: to_words(np.array([[v >> i & 1 for i in range(bits)] for v in inputs[name]]), 1)
        for name, bits in unit.inputs.items()
    }
    outputs = unit.run(cycles, words)
    rows = {name: from_words(outputs[name], 1, bits) for name, bits in unit.outputs.items()}
    return {
        name: [sum(int(bit) << i for i, bit in enumerate(row)) for row in bits]
        for name, bits in rows.items()
    }


def bench_text(name, unit: CompiledUnit, inputs, cycles, has_clock) -> str:
    """A Verilog test bench that sets the inputs and prints the outputs before each clock edge."""
    lines = [f"module bench; reg clk = 0, rst = 0; {name} dut("]
    ports = [*unit.inputs, *unit.outputs] + (["clk", "rst"] if has_clock else [])
    lines.append(", ".join(f".{port}({port})" for port in ports) + ");")
    lines += [f"reg [{bits - 1}:0] {port};" for port, bits in unit.inputs.items()]
    lines += [f"wire [{bits - 1}:0] {port};" for port, bits in unit.outputs.items()]
    lines.append("initial begin")
    shown = ", ".join(unit.outputs)
    format_text = " ".join(["%h"] * len(unit.outputs))
    for cycle in range(cycles):
        lines += [f"{p} = {bits}'h{inputs[p][cycle]:x};" for p, bits in unit.inputs.items()]
        lines.append(f'#1; $display("{format_text}", {shown}); clk = 1; #1; clk = 0; #1;')
    return "\n".join([*lines, "end", "endmodule"])


@pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus Verilog is not installed")
@pytest.mark.parametrize(
    ("unit", "cycles"),
    [
        (TableMultiplier(E2M1), 300),
        (HadamardUnit(8, 2, 4, [1, -1] * 4), 100),
        (DotProduct(lane_for(E2M1), 4, 16), 100),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exported_verilog_gives_the_same_in_icarus(unit, cycles, tmp_path):
    """Random inputs in every cycle; oracle: the compiled simulator."""
    compiled = CompiledUnit(unit)
    inputs = random_inputs(compiled, cycles)
    text = to_verilog(unit, "unit")
    (tmp_path / "unit.v").write_text(text)
    bench = bench_text("unit", compiled, inputs, cycles, "clk" in text.split(";")[0])
    (tmp_path / "bench.v").write_text(bench)
    command = ["iverilog", "-g2012", "-o", "bench", "bench.v", "unit.v"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        ["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    expected = compiled_outputs(compiled, inputs, cycles)
    # Registers without a reset start as unknown in Verilog; all are filled after the latency.
    start = 2 * unit.latency + 2
    for column, name in enumerate(compiled.outputs):
        assert [int(line[column], 16) for line in lines[start:]] == expected[name][start:]


@pytest.mark.skipif(not shutil.which("verilator"), reason="Verilator is not installed")
def test_exported_verilog_passes_verilator_s_checks(tmp_path):
    (tmp_path / "unit.v").write_text(to_verilog(build_unit("quantizer"), "unit"))
    command = ["verilator", "--lint-only", "-Wno-fatal", "unit.v"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.slow
def test_the_compiled_simulator_is_fast():
    """A tile's column, 16 lanes; more than a million cycles per second on an idle machine."""
    import time

    compiled = CompiledUnit(DotProduct(lane_for(E2M1), 16))
    cycles = 200_000
    inputs = dict.fromkeys(compiled.inputs, 1)
    start = time.perf_counter()
    compiled.run(cycles, inputs)
    assert cycles / (time.perf_counter() - start) > 100_000


# The command line


def test_every_kind_of_unit_can_be_built():
    for name in UNIT_KINDS:
        unit = build_unit(name, "dual-fp4-pow2" if name == "operand-aligner" else "e2m1")
        assert unit.latency >= 0
        assert unit.interval >= 1


def test_synth_prints_the_cost(capsys):
    assert main(["synth", "--unit", "fp-multiplier", "--format", "e2m1"]) == 0
    titles, row = capsys.readouterr().out.splitlines()
    cost = dict(zip(titles.replace("mem LUT", "memory").split(), row.split(), strict=False))
    assert row.split()[:4] == ["fp-multiplier", "e2m1", "9", "9.0"]
    assert "LUT" in cost


def test_synth_writes_verilog_and_a_constraint(tmp_path, capsys):
    assert main(["synth", "--verilog", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "fp_multiplier_e2m1.v").read_text()
    assert "module fp_multiplier_e2m1(" in text
    assert "create_clock" in (tmp_path / "out" / "clock.xdc").read_text()
    assert "fp_multiplier_e2m1.v" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--unit", "abacus"), "no unit is named 'abacus'; there are fp-multiplier"),
        (("--format", "e9m9"), "no format is named 'e9m9'"),
        (
            ("--family", "nonsense"),
            'invalid value "nonsense" for --family. Choose from: "xcup", "xcu"',
        ),
        (("--unit", "kv-quantizer", "--format", "dual-fp4"), "dual format"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys):
    assert main(["synth", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_clock_of_a_shorter_path_is_estimated_higher():
    """A multiplier array without registers behind an adder is slower than a table before one."""
    fast, slow = (
        synthesis.estimate_fmax(build_unit("dot-product", fmt, 4)) for fmt in ("int4", "int8")
    )
    assert fast > 1.1 * slow
