"""Bounds against the simulator, the front, the commands, and LightMamba's published figure."""

import json
from dataclasses import replace

import pytest

from fpqvar_lab.cli import main
from fpqvar_lab.formats import DUAL_FP4, E2M1, E2M3
from fpqvar_lab.hardware.accelerator import (
    VCK190,
    Candidate,
    Design,
    Expectation,
    Exploration,
    Interval,
    Load,
    Point,
    Space,
    Unit,
    candidates,
    evaluate_design,
    explore,
    formats_of,
    least,
    pareto_front,
    problem_of,
    product_cycles,
    resources,
    simulate,
)
from fpqvar_lab.method import RECIPES, find_recipe
from fpqvar_lab.neighbours.mamba import (
    DESIGN,
    PUBLISHED_TOKENS_PER_SECOND,
    Mamba2,
    memory_rate,
    token,
)

SMALL = Space(
    tiles=((8, 16), (16, 8)),
    columns=(8, 16),
    attention_macs=(64, 256),
    hadamard_lanes=(16,),
    quantizer_lanes=(16,),
    special_lanes=(16, 64),
    weight_buffers=(2**17,),
)


@pytest.fixture(scope="module")
def problem():
    """Small enough to simulate every design."""
    return problem_of("mini", "fp4-fpqvar-pow2")


@pytest.fixture(scope="module")
def every(problem):
    """All designs that fit, with their bounds, simulated."""
    return [(c, evaluate_design(c.design, problem)) for c in candidates(SMALL, problem)]


def test_no_simulation_beats_its_bounds(every):
    for candidate, (point, _) in every:
        assert point.images_per_second <= candidate.images_per_second * (1 + 1e-9)
        assert 1 / point.middle <= candidate.images_per_joule * (1 + 1e-9)


def test_bounds_hold_and_are_near_for_the_large_model():
    """Oracle: the simulator. The bound is of use only if it is near."""
    problem = problem_of("d30", "fp4-fpqvar-pow2")
    load = Load(problem.ops)
    design = replace(problem.base, attention_macs=1024, rows=8, lanes=16)
    run = simulate(problem.ops, design, memory_bytes_per_s=problem.rate)
    assert 0.9 * run.cycles < least(load, design, problem.rate).cycles <= run.cycles


def test_the_matrix_s_busy_cycles_are_those_of_the_closed_form(problem, every):
    load = Load(problem.ops)
    for candidate, (_, run) in every[:5]:
        assert sum(s.products(candidate.design) for s in load.steps) == run.busy[Unit.MATRIX]


def test_a_product_takes_a_beat_for_each_lane_s_share():
    design = Design(rows=16, columns=80, lanes=8)
    assert product_cycles(17, 128, 81, design) == 2 * 2 * 16


def test_pruning_finds_the_same_front_as_simulating_everything(problem, every):
    """Oracle: all designs."""
    found = explore(SMALL, Exploration(problem))
    assert len(found.points) < len(every)
    assert len(found.points) + found.pruned == found.fitting == len(every)
    best = pareto_front([point for _, (point, _) in every])
    assert {p.objectives for p in found.pareto_front} == {p.objectives for p in best}


def test_a_limit_is_kept_and_told(problem):
    found = explore(SMALL, Exploration(problem), limit=2, at_once=2)
    assert len(found.points) == 2
    assert found.left + found.pruned == found.fitting - 2


def test_a_search_goes_on_from_its_file(problem, tmp_path):
    file = tmp_path / "designs.json"
    first = explore(SMALL, Exploration(problem), limit=2, at_once=1)
    first.write(file)
    second = Exploration(problem)
    second.read(file)
    assert second.points == first.points
    explore(SMALL, second)
    assert second.points[:2] == first.points
    assert {p.objectives for p in second.pareto_front} == {
        p.objectives for p in explore(SMALL, Exploration(problem)).pareto_front
    }


def test_points_of_another_problem_are_not_taken_over(problem, tmp_path):
    file = tmp_path / "designs.json"
    Exploration(problem).write(file)
    with pytest.raises(ValueError, match="of another problem"):
        Exploration(replace(problem, clock_hz=1e8)).read(file)


def point(images, joules, divergence):
    return Point(Design(), "x", images, Interval(joules, joules), joules, {}, {}, divergence)


def test_the_front_keeps_what_nothing_beats_in_all_respects():
    points = [point(2, 1, 0.1), point(1, 2, 0.1), point(1, 2, 0.05), point(2, 1, 0.1)]
    assert [p.objectives for p in pareto_front(points)] == [
        points[0].objectives,
        points[2].objectives,
    ]


def test_kinds_that_fell_short_of_their_bounds_come_after_untried_ones():
    tried, alike, other = (Candidate(Design(special_lanes=n), 2.0, 1.0) for n in (16, 16, 32))
    expected = Expectation()
    expected.learn(tried, point(1.5, 1, 0.1))
    assert expected.of(alike) == 1.5
    assert expected.of(other) == 2.0


def test_unmeasured_quality_is_the_worst():
    assert pareto_front([point(1, 1, None), point(1, 1, 0.5)])[0].divergence == 0.5


def test_formats_come_from_the_recipe():
    assert formats_of(RECIPES["fp4-fpqvar"]) == (E2M1, E2M1, DUAL_FP4)
    assert formats_of(RECIPES["fp6-baseline"]) == (E2M3, E2M3, E2M3)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("fp16", "needs one format for each of the four layers"),
        ("int4-litevar", "needs one format for each of the four layers"),
        ("fp4-best", "mixes e1m2, e2m1"),
    ],
)
def test_recipes_that_no_matrix_unit_serves_are_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        formats_of(find_recipe(recipe))


# LightMamba


def test_lightmamba_s_products_are_the_published_cycles():
    """Oracle: 40.2 M cycles per token on 8 x 8 multipliers (the authors' README)."""
    run = simulate(token(), DESIGN, memory_bytes_per_s=memory_rate(VCK190.sustained()))
    assert run.busy[Unit.MATRIX] == Mamba2().macs / 64
    assert round(Mamba2().macs / 64 / 1e6, 1) == 40.2
    assert run.macs == Mamba2().macs


@pytest.mark.parametrize("overlapped", [False, True])
def test_the_model_explains_lightmamba_within_thirty_percent(overlapped):
    op = token(overlapped=overlapped)
    run = simulate(op, DESIGN, memory_bytes_per_s=memory_rate(VCK190.sustained()))
    assert 0.7 < 1 / run.seconds / PUBLISHED_TOKENS_PER_SECOND < 1.3


# The commands


MINI = ("--model", "mini", "--device", "k26", "--columns", "8", "--attention-macs", "128")


def test_simulate_prints_speed_cells_and_energy(capsys, tmp_path):
    trace = tmp_path / "trace.json"
    assert main(["simulate", *MINI, "--trace", str(trace)]) == 0
    text = capsys.readouterr().out
    for expected in ("image/s", "GMAC", "matrix", "LUT (", "J per image", "static power", "KL"):
        assert expected in text
    assert json.loads(trace.read_text())["traceEvents"]


def test_the_design_that_simulate_starts_from_fits_its_device():
    base = problem_of("d30", "fp4-fpqvar-pow2").base
    assert max(resources(base).fractions(VCK190).values()) <= 1


def test_simulate_says_when_a_design_does_not_fit(capsys):
    assert main(["simulate", *MINI[:4], "--columns", "80"]) == 0
    assert "does not fit AMD Kria K26: too many LUT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simulate", "--device", "a100"), "is no FPGA; use vck190"),
        (("simulate", "--device", "abacus"), "no device 'abacus'"),
        (("simulate", "--model", "d99"), "no preset 'd99'"),
        (("simulate", "--recipe", "fp16"), "needs one format for each"),
        (("simulate", "--model", "mini", "--rows", "64"), "must divide the group"),
        (("simulate", "--efficiency", "2"), "above 0 and at most 1"),
        (("explore", "--recipe", "fp4-best"), "mixes e1m2, e2m1"),
        (("explore", "--workers", "1", "--scheduler", "x:1"), "exclude each other"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_explore_writes_designs_and_prints_the_front(capsys, tmp_path):
    out = tmp_path / "designs.json"
    arguments = ("explore", "--model", "mini", "--limit", "2", "--at-once", "2", "--out", str(out))
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "2 simulated" in text
    assert "image/s" in text
    assert len(json.loads(out.read_text())["points"]) == 2


@pytest.mark.slow
def test_explore_runs_on_other_processes(tmp_path):
    out = tmp_path / "designs.json"
    arguments = ("explore", "--model", "mini", "--limit", "2", "--workers", "2", "--out", str(out))
    assert main(arguments) == 0
    assert len(json.loads(out.read_text())["points"]) == 2
