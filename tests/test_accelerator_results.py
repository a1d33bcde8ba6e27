"""The committed results on whole accelerators: that they are of the present units and recipes."""

from dataclasses import replace

import pytest

from fpqvar_lab.hardware.accelerator import (
    BASELINES,
    Exploration,
    Point,
    evaluate_design,
    problem_of,
    symmetric,
)
from fpqvar_lab.hardware.accelerator import results as accelerator_results
from fpqvar_lab.method import find_recipe


@pytest.fixture(scope="module")
def results():
    return accelerator_results.read()


def test_the_results_are_of_the_present_units_and_recipes(results):
    assert accelerator_results.stale(results) == []


def test_a_changed_unit_or_recipe_is_noticed(results):
    changed = {**results, "synthesis_sha256": "", "recipes": {"fp4-fpqvar": ""}}
    assert accelerator_results.stale(changed) == [
        "the table of synthesized units has changed",
        "recipe fp4-fpqvar has changed",
    ]


def test_the_best_design_comes_out_the_same_again(results):
    """Not only digests: the simulator, the costs and the prices give the committed figures."""
    ours = Point.from_json(results["ours"])
    problem = replace(problem_of("d30", ours.recipe, batch=3), clock_hz=ours.design.clock_hz)
    assert evaluate_design(ours.design, problem)[0] == ours


def test_our_design_is_at_twice_the_published_speed_within_nine_tenths_of_the_board(results):
    ours = Point.from_json(results["ours"])
    assert ours.images_per_second >= 2 * accelerator_results.PAPER_IMAGES_PER_SECOND
    assert max(ours.fractions.values()) <= 0.9


def test_targets_reach_the_published_speed_and_hardly_more(results):
    for target in map(Point.from_json, results["targets"]):
        assert 1.1 <= target.images_per_second < 1.15


def test_each_search_s_points_fit_the_board(results):
    for search in results["searches"]:
        assert search["points"]
        for point in map(Point.from_json, search["points"]):
            assert max(point.fractions.values()) <= search["problem"]["share"]


def test_best_is_of_the_problem_asked(results):
    problem = problem_of("d30", "fp4-fpqvar-pow2")
    slow, fast = (Point.from_json({**results["ours"], "images_per_second": s}) for s in (1, 2))
    other = Exploration(replace(problem, batch=2), [replace(fast, images_per_second=9)])
    found = accelerator_results.best([Exploration(problem, [slow, fast]), other], problem)
    assert found == fast


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: b.name)
def test_baselines_take_no_more_than_there_is(results, baseline):
    (row,) = (r for r in results["baselines"] if r["name"] == baseline.name)
    assert max(row["shares"].values()) <= 1
    assert row["energy_ratio"]["low"] <= row["energy_ratio"]["high"]


def test_a_symmetric_recipe_has_one_format_everywhere():
    found = symmetric(find_recipe("int6-rtn"))
    assert {rule.input.format for _, rule in found.layers} == {found.layers[0][1].input.format}
