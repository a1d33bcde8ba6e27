"""What the committed results say, as the book's text relies on it."""

import pytest

from fpqvar_lab import data
from fpqvar_lab.evaluation import difference, read_results
from fpqvar_lab.method import RECIPES


@pytest.fixture(scope="module")
def outlier():
    return read_results(data.path("results/mini-outlier.json"))["rows"]


def kl(rows, name):
    return rows[name]["kl"]["value"]


def test_every_recipe_was_measured_on_mini_outlier(outlier):
    assert RECIPES.keys() <= outlier.keys()


def test_at_four_bits_each_part_of_the_method_brings_the_model_nearer(outlier):
    ladder = ("int4-rtn", "fp4-baseline", "fp4-mixed", "fp4-dfq-ght", "fp4-fpqvar", "fp4-best")
    distances = [kl(outlier, name) for name in ladder]
    assert distances == sorted(distances, reverse=True)


def test_at_six_bits_fpqvar_is_the_nearest(outlier):
    others = ("int6-rtn", "int6-litevar", "fp6-baseline", "fp6-mixed")
    assert all(kl(outlier, "fp6-fpqvar") < kl(outlier, name) for name in others)


def test_the_power_of_two_ratio_costs_little_divergence(outlier):
    assert kl(outlier, "fp4-fpqvar-pow2") < 1.05 * kl(outlier, "fp4-fpqvar")


def test_best_is_nearer_than_fpqvar_beyond_the_noise(outlier):
    gap = difference(outlier["fp4-fpqvar"]["kl"], outlier["fp4-best"]["kl"])
    assert gap.low is not None
    assert gap.low > 0
