"""Shift by step: means by hand, the product in float64, and the model as a whole."""

import math

import pytest
import torch
from torch import nn

from fpqvar_lab.formats import INT4
from fpqvar_lab.method import (
    QuantLinear,
    StepShift,
    calibrate,
    find_recipe,
    load_quantized,
    mid_rise_recipe,
    quantize_model,
    read_recipe,
    save_quantized,
)
from fpqvar_lab.quantization import PER_CHANNEL, PER_TOKEN, Quantizer
from fpqvar_lab.transforms import GroupHadamard, mean_power, step_means
from fpqvar_lab.var import VAR, VQVAE, VARConfig, VQVAEConfig, sample

CONFIG = VARConfig(
    depth=2, width=128, heads=2, patch_sizes=(1, 2, 3), vocabulary=64, code_channels=4, classes=3
)
LABELS = torch.arange(3)


@pytest.fixture(scope="module")
def var():
    torch.manual_seed(0)
    model = VAR(CONFIG)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vqvae():
    torch.manual_seed(0)
    shape = VQVAEConfig(
        image_size=12,
        image_channels=1,
        channels=32,
        channel_multipliers=(1, 1, 1),
        residual_blocks=1,
        vocabulary=64,
        code_channels=4,
        patch_sizes=(1, 2, 3),
    )
    return VQVAE(shape).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def quantized(var, vqvae):
    recipe = find_recipe("fp4-midrise-64")
    return quantize_model(var, recipe, calibrate(var, vqvae, recipe, images=6), progress=False)[0]


def teacher_forcing_input():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, CONFIG.tokens - 1, CONFIG.code_channels, generator=generator)


def test_means_by_hand():
    inputs = [torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[6.0, 4.0]])]
    assert step_means(inputs, "none") is None
    assert step_means(inputs, "step").tolist() == [[2, 0], [6, 4]]
    assert step_means(inputs, "all").tolist() == [[4, 2], [4, 2]]
    # (2^2 + 6^2) / ((1 + 9) / 2 + 36), and a channel that is its mean in both steps
    assert mean_power(inputs).tolist() == pytest.approx([40 / 41, 1])


def test_a_shift_without_inputs_is_refused():
    with pytest.raises(ValueError, match="shift 'step' needs the layer's inputs"):
        step_means([], "step")


@pytest.mark.parametrize("execution", ["reference", "float32"])
@pytest.mark.parametrize("transform", [None, GroupHadamard(16)])
def test_the_layer_is_the_product_where_rounding_changes_nothing(transform, execution):
    """Inputs less their step's mean, and weights, are levels of their grids once transformed."""
    generator = torch.Generator().manual_seed(0)

    def levels(*shape):
        found = torch.randint(-7, 8, shape, generator=generator).double()
        found[..., 0] = 7
        return found if transform is None else transform(found)

    shift, bias = torch.randn(3, 16, generator=generator), torch.randn(8, generator=generator)
    steps = [(0, 1), (1, 4), (2, 9)]
    token_steps = torch.tensor([step for step, count in steps for _ in range(count)])
    weight, x = levels(8, 16), levels(2, 14, 16) + shift[token_steps].double()
    packed = Quantizer(INT4, PER_CHANNEL).quantize(
        (weight if transform is None else transform(weight)).float()
    )
    made = StepShift(shift, (shift.double() @ weight.T).float())
    layer = QuantLinear(packed, bias, Quantizer(INT4, PER_TOKEN), transform, shift=made)
    layer.execute(execution)
    layer.token_steps = steps
    expected = x @ weight.T + bias.double()
    torch.testing.assert_close(layer(x.float()).double(), expected, rtol=0, atol=1e-4)


def test_a_layer_that_does_not_know_the_steps_says_so(quantized):
    layer = next(m for m in quantized.quantized_layers().values() if m.input_shift is not None)
    layer.token_steps = [(0, 1)]
    with pytest.raises(ValueError, match="4 tokens, whose steps are not known"):
        layer(torch.ones(2, 4, layer.in_features))


def test_all_tokens_at_once_give_what_the_steps_give(quantized, vqvae):
    inputs = teacher_forcing_input()
    whole = quantized(LABELS, inputs)
    caches, modulation = quantized.new_cache(3), quantized.modulation(LABELS)
    x = torch.cat((quantized.first_tokens(LABELS), quantized.word_embed(inputs)), 1)
    x = (x + quantized.positions()).split(CONFIG.tokens_per_step, dim=1)
    by_step = torch.cat([quantized.logits(part, modulation, caches=caches) for part in x], 1)
    # Another order of summation in attention can move a value to the neighbouring level.
    assert (whole - by_step).norm() < 0.02 * whole.norm()
    assert (
        sample(quantized, vqvae, LABELS, generator=torch.Generator().manual_seed(0))
        .isfinite()
        .all()
    )


def test_a_file_keeps_the_shifts(quantized, tmp_path):
    save_quantized(quantized, tmp_path / "q.safetensors")
    loaded = load_quantized(tmp_path / "q.safetensors")
    inputs = teacher_forcing_input()
    assert torch.equal(loaded(LABELS, inputs), quantized(LABELS, inputs))


@pytest.mark.parametrize("shift", ["all", "step"])
def test_a_recipe_s_text_keeps_the_shift(shift):
    recipe = mid_rise_recipe("shifted", "", shift=shift)
    assert read_recipe(recipe.to_toml()) == recipe
    assert f'shift = "{shift}"' in recipe.to_toml()
    with pytest.raises(ValueError, match="shift 'odd'; use one of none, all, step"):
        read_recipe(recipe.to_toml().replace(f'"{shift}"', '"odd"'))
