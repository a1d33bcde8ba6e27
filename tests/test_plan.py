"""What a recipe means for the layers of a model. Expected values are written by hand."""

from dataclasses import replace

import pytest
import torch

from fpqvar_lab.formats import E2M1
from fpqvar_lab.method import RECIPES, make_plan, uniform_recipe
from fpqvar_lab.quantization import per_group
from fpqvar_lab.transforms import random_signs
from fpqvar_lab.var import VAR, VARConfig

CONFIG = VARConfig(
    depth=2, width=128, heads=2, patch_sizes=(1, 2, 3), vocabulary=64, code_channels=4, classes=3
)
LAYERS = [
    f"blocks.{block}.{layer}"
    for block in range(2)
    for layer in ("attn.mat_qkv", "attn.proj", "ffn.fc1", "ffn.fc2")
]
AFTER_ADALN = [name for name in LAYERS if name.endswith(("mat_qkv", "fc1"))]


def shape(**changes):
    """A model without memory: a plan looks at no weights."""
    with torch.device("meta"):
        return VAR(replace(CONFIG, **changes))


def entries(recipe, **changes):
    return {layer.name: layer for layer in make_plan(shape(**changes), recipe).layers}


def test_a_plan_has_an_entry_for_each_layer_that_a_pattern_matches():
    assert list(entries("fp4-fpqvar")) == LAYERS
    assert list(entries("int4-litevar")) == [name for name in LAYERS if "fc2" not in name]
    assert not entries("fp16")


def test_an_entry_has_the_rule_of_its_pattern():
    recipe = RECIPES["fp4-fpqvar"]
    assert all(layer.rule == recipe.rule_for(name) for name, layer in entries(recipe).items())


def test_only_what_is_learned_on_inputs_is_captured():
    assert make_plan(shape(), "fp4-dfq-ght").captured() == []
    assert make_plan(shape(), "fp4-fpqvar").captured() == AFTER_ADALN
    assert make_plan(shape(), "fp4-gptq").captured() == LAYERS
    assert make_plan(shape(), "fp4-mixed").captured() == LAYERS


def test_given_factors_spare_calibration_unless_gptq_needs_it():
    fpqvar, gptq = (make_plan(shape(), name) for name in ("fp4-fpqvar", "fp4-gptq"))
    assert fpqvar.needs_calibration()
    assert fpqvar.needs_calibration(AFTER_ADALN[1:])
    assert not fpqvar.needs_calibration(AFTER_ADALN)
    assert gptq.needs_calibration(LAYERS)


def test_factors_fold_into_the_blocks_own_adaln_and_stay_under_a_shared_one():
    layers = entries("fp4-fpqvar")
    qkv, fc1 = layers["blocks.1.attn.mat_qkv"].fold, layers["blocks.1.ffn.fc1"].fold
    assert (qkv.adaln, qkv.scale_part, qkv.shift_part) == ("blocks.1.ada_lin.linear", 2, 4)
    assert (fc1.adaln, fc1.scale_part, fc1.shift_part) == ("blocks.1.ada_lin.linear", 3, 5)
    assert layers["blocks.1.attn.proj"].fold is None
    assert all(layer.fold is None for layer in entries("fp4-fpqvar", shared_aln=True).values())


def test_a_full_transform_has_the_width_of_its_layer_and_the_recipes_signs():
    layers = entries(replace(RECIPES["int4-quarot"], sign_seed=5))
    assert layers["blocks.0.attn.proj"].hadamard == 128
    transform = layers["blocks.0.ffn.fc2"].transform(torch.device("cpu"))
    expected = random_signs(512, torch.Generator().manual_seed(5))
    assert torch.equal(transform.signs, expected)
    assert entries("fp4-dfq-ght")["blocks.0.ffn.fc2"].transform(torch.device("cpu")) is None


def test_groups_that_do_not_fit_are_found_before_anything_is_captured():
    wide = uniform_recipe("wide", "", E2M1, granularity=per_group(96))
    with pytest.raises(ValueError, match=r"wide, layer blocks.0.*: group_size 96 does not divide"):
        make_plan(shape(), wide)
    rotated = uniform_recipe("rotated", "", E2M1, hadamard=96)
    with pytest.raises(ValueError, match="group 96 does not divide 128 channels"):
        make_plan(shape(), rotated)


def test_a_plan_says_which_layers_lack_their_inputs():
    plan = make_plan(shape(), "fp4-fpqvar")
    plan.check(AFTER_ADALN, [])
    plan.check(AFTER_ADALN[1:], AFTER_ADALN[:1])
    with pytest.raises(ValueError, match=r"needs the inputs of blocks\.1\.ffn\.fc1"):
        plan.check(AFTER_ADALN[:-1], [])
