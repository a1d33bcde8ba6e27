"""The figures of the pipeline show the run they were given."""

from dataclasses import replace

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import pipeline, style
from fpqvar_lab.hardware.accelerator import Design, Run, Unit, simulate, workload
from fpqvar_lab.var import VARConfig

mpl.use("agg")

LEVELS = ("both levels", "fine level only", "coarse level only", "neither")
SMALL = VARConfig(3, 128, 2, (1, 2, 3), vocabulary=64, code_channels=16)
DESIGN = Design(rows=4, columns=20, special_lanes=8)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    ops = workload(SMALL, "fp4-fpqvar-pow2")
    designs = {
        name: replace(DESIGN, fine=name[0] in "bf", coarse=name[0] in "bc") for name in LEVELS
    }
    return {
        name: simulate(ops, design, memory_bytes_per_s=1e10, record=True)
        for name, design in designs.items()
    }


@pytest.fixture(scope="module")
def figures(runs) -> dict[str, Figure]:
    run = runs["both levels"]
    splits = [pipeline.matrix_split(s, DESIGN.macs_per_cycle) for s in run.steps[:3]]
    bars = {name: pipeline.bars_of(run) for name, run in runs.items()}
    points = {name: [(2.0, 1e9), (30.0, 2e10), (200.0, 1e11)] for name in LEVELS[:2]}
    curves = {"a": {2: 3.0, 8: 1.0}, "b": {4: 5.0, 16: 5.0}}
    return {
        "timelines": pipeline.timelines(bars, DESIGN.clock_hz),
        "tasks": pipeline.timelines({"": pipeline.tasks_of(run)}, 1e8, (Unit.MATRIX,)),
        "splits": pipeline.step_splits({"one": splits}, SMALL.tokens_per_step),
        "roofline": pipeline.step_roofline(1e11, 1e9, points, ("x", 2.0, 1e9)),
        "lanes": pipeline.lane_curves(curves, {"a": 2, "b": 16}, "ms"),
    }


def test_every_figure_has_the_width_of_the_page_and_draws(figures):
    for name, figure in figures.items():
        assert figure.get_figwidth() == style.WIDTH, name
        figure.draw_without_rendering()


def test_bars_keep_every_busy_cycle(runs):
    for run in runs.values():
        bars = pipeline.bars_of(run)
        assert len(bars) < len(run.events)
        for unit in Unit:
            assert sum(b.end - b.start for b in bars if b.unit is unit) == run.busy[unit]


def test_a_window_cuts_bars_at_its_ends(runs):
    run = runs["both levels"]
    begin, end = pipeline.block_window(run, 1)
    bars = pipeline.bars_of(run, begin, end)
    assert 0 < begin < end < run.cycles
    assert min(bar.start for bar in bars) == 0
    assert max(bar.end for bar in bars) <= end - begin
    assert {bar.op.block for bar in bars if bar.unit is Unit.SPECIAL} >= {1}


def test_the_split_of_the_matrix_arrays_time_is_complete(runs):
    for run in runs.values():
        splits = [pipeline.matrix_split(s, DESIGN.macs_per_cycle) for s in run.steps]
        assert sum(sum(split.values()) for split in splits) == pytest.approx(run.cycles)
        assert all(value >= 0 for split in splits for value in split.values())
        useful = sum(split[pipeline.USEFUL] for split in splits) * DESIGN.macs_per_cycle
        assert useful == pytest.approx(sum(step.macs[Unit.MATRIX] for step in run.steps))


def test_operations_have_the_colour_of_their_layer(runs):
    ops = {op.name.rpartition("/")[2]: op for op in runs["neither"].ops}
    expected = {
        "mat_qkv": "mat_qkv",
        "fc1.hadamard": "fc1",
        "gelu": "fc1",
        "fc2.quantize": "fc2",
        "softmax": "attention",
        "cache-write": "attention",
        "norm1": "other",
        "head": "other",
    }
    assert {name: pipeline.group_of(ops[name]) for name in expected} == expected
