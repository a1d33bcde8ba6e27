from dataclasses import replace
from pathlib import Path

import pytest

from fpqvar_lab.formats import DUAL_FP4, E2M1, E2M3, IntFormat
from fpqvar_lab.method import ABLATION, RECIPES, LayerRecipe, Recipe, find_recipe, read_recipe
from fpqvar_lab.quantization import (
    PER_TOKEN,
    Quantizer,
    per_group,
)

FIRST_EDITION = Path(__file__).parent / "data" / "first-edition" / "recipes"

# The rows of the paper's table, and what it lacks.
ROWS = [
    *("fp16", "int6-rtn", "int6-litevar", "fp6-baseline", "fp6-mixed", "fp6-fpqvar"),
    *("fp6-fpqvar-kv6", "int4-rtn", "int4-litevar", "fp4-baseline", "fp4-mixed", "fp4-fpqvar"),
    *("fp4-fpqvar-kv6", "int4-smooth", "int4-quarot", "mxfp4", "nvfp4"),
    *("fp4-dfq-only", "fp4-ght-only", "fp4-dfq-ght", "fp4-best"),
]


@pytest.mark.parametrize("name", ROWS)
def test_the_named_rows_exist(name):
    assert RECIPES[name].name == name


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_comes_back_from_toml(recipe):
    assert read_recipe(recipe.to_toml()) == recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_table_shows_every_pattern(recipe):
    table = recipe.table()
    assert all(pattern in table for pattern, _ in recipe.layers)
    assert recipe.name in table


def test_the_ladder_adds_one_thing_at_a_time():
    baseline, dual, ght, both, fpqvar = (RECIPES[name] for name in ABLATION)
    fc1, fc2 = "blocks.0.ffn.fc1", "blocks.0.ffn.fc2"
    assert baseline.rule_for(fc2).input == Quantizer(E2M1, per_group(128))
    assert dual.rule_for(fc2).input == Quantizer(DUAL_FP4, per_group(128))
    assert dual.rule_for(fc1) == baseline.rule_for(fc1)
    assert ght.rule_for(fc1) == replace(baseline.rule_for(fc1), hadamard=128)
    assert ght.rule_for(fc2) == baseline.rule_for(fc2)
    assert (both.rule_for(fc1), both.rule_for(fc2)) == (ght.rule_for(fc1), dual.rule_for(fc2))
    assert fpqvar.rule_for(fc1) == replace(both.rule_for(fc1), scaling="galt")


def test_formats_and_granularities_are_the_papers():
    six = RECIPES["fp6-fpqvar"].rule_for("blocks.1.attn.proj")
    assert six.weight.to_text() == "E2M3 per-channel"
    assert six.input.to_text() == "E2M3 per-token"
    assert RECIPES["fp6-fpqvar-kv6"].kv == Quantizer(E2M3, PER_TOKEN)
    integer = RECIPES["int4-rtn"].rule_for("blocks.1.ffn.fc2").input
    assert integer.format == IntFormat(4, symmetric=False)
    assert RECIPES["int4-litevar"].rule_for("blocks.1.ffn.fc2") is None


def test_only_what_learns_needs_calibration():
    needing = {name for name, recipe in RECIPES.items() if recipe.needs_calibration}
    assert {"fp6-mixed", "fp4-mixed", "fp4-fpqvar", "int4-smooth", "fp4-best"} <= needing
    assert not needing & {"fp16", "int4-rtn", "fp4-baseline", "fp4-dfq-ght", "mxfp4", "int4-quarot"}


def test_the_first_matching_pattern_counts():
    first, second = (
        LayerRecipe(Quantizer(fmt, per_group(128)), Quantizer(fmt, per_group(128)))
        for fmt in (E2M3, E2M1)
    )
    recipe = Recipe("mine", "", (("*.0.*.fc1", first), ("*.fc1", second)))
    assert recipe.rule_for("blocks.0.ffn.fc1") is first
    assert recipe.rule_for("blocks.1.ffn.fc1") is second
    assert recipe.rule_for("blocks.1.ffn.fc2") is None


def test_a_recipe_is_found_by_name_from_a_file_or_is_one(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(RECIPES["nvfp4"].to_toml())
    assert find_recipe("nvfp4") == find_recipe(file) == find_recipe(RECIPES["nvfp4"])
    with pytest.raises(ValueError, match="no recipe 'fp5'; there are fp16, int6-rtn"):
        find_recipe("fp5")


@pytest.mark.parametrize("file", sorted(FIRST_EDITION.glob("*.toml")), ids=lambda file: file.stem)
def test_recipes_that_the_first_edition_wrote_mean_what_they_meant(file):
    recipe = read_recipe(file.read_text())
    assert replace(recipe, description="") == replace(RECIPES[file.stem], description="")


def test_the_first_edition_wrote_every_recipe_but_those_that_came_later():
    assert {file.stem for file in FIRST_EDITION.glob("*.toml")} <= RECIPES.keys()
    assert len(list(FIRST_EDITION.glob("*.toml"))) == 24


@pytest.mark.parametrize(("old", "new"), [("once", "on-write"), ("released", "requantize-all")])
def test_the_first_editions_cache_modes_are_read(old, new):
    text = "name = 'x'\nlayers = []\nkv = 'E2M1 per-token'\nkv_mode = "
    assert read_recipe(f"{text}'{old}'").kv_mode == read_recipe(f"{text}'{new}'").kv_mode == new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'x'\nlayers = []\ntuning_steps = 1\ndistillation_steps = 1", "old name of"),
        ("name = 'x'", "lacks 'layers'"),
        ("name = 'x'\nlayers = []\ncolour = 1", "entry 'colour'"),
        ("name = 'x'\nlayers = [{pattern = '*'}]", "a layer lacks 'input'"),
        ("name = 'x'\nlayers = [{pattern = '*', speed = 2}]", "a layer has an entry 'speed'"),
        ("name = 'x'\nlayers = []\nkv_mode = 'twice'", "kv_mode 'twice'; use one of on-write"),
        ("name =", "Invalid"),
    ],
)
def test_a_toml_that_is_wrong_says_where(text, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(text)


def test_rules_reject_what_does_not_exist():
    q = Quantizer(E2M1, per_group(128))
    with pytest.raises(ValueError, match="scaling 'magic'; use one of none, smoothquant, galt"):
        LayerRecipe(q, q, scaling="magic")
    with pytest.raises(ValueError, match="hadamard 'half'"):
        LayerRecipe(q, q, hadamard="half")
