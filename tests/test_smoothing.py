"""Oracles: float64 products, SmoothQuant's formula by NumPy, gradients by finite differences."""

import numpy as np
import pytest
import torch
from torch import nn

from fpqvar_lab.formats import E2M1, E2M3
from fpqvar_lab.quantization import PER_CHANNEL, PER_TOKEN, Quantizer, per_group
from fpqvar_lab.transforms import (
    GroupHadamard,
    QuantizedProduct,
    fit_scale,
    fit_smoothquant,
    fold_into_adaln,
    output_error,
    random_signs,
    smoothquant_scale,
)
from fpqvar_lab.var import AdaLN, VARConfig, load_var

CHANNELS, GROUP = 64, 32
QUANTIZER = Quantizer(E2M1, per_group(GROUP))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def problem(steps=3, outliers=True):
    """Activations whose outlier channels move with the step, and a weight."""
    activations = [draw(40, CHANNELS, seed=step) for step in range(steps)]
    if outliers:
        for step, x in enumerate(activations):
            x[:, 7 * step + 3] *= 20
    return activations, draw(48, CHANNELS, seed=99) / 8


def transform():
    return GroupHadamard(GROUP, random_signs(GROUP, torch.Generator().manual_seed(1)))


class Exact:
    """Stands for a quantizer that changes nothing."""

    def __call__(self, x):
        return x


def test_without_quantization_scale_and_transform_leave_the_product_as_it_was():
    (x, *_), weight = problem()
    scale = draw(CHANNELS, seed=5).exp().double()
    product = QuantizedProduct(Exact(), transform=transform())
    expected = x.double() @ weight.double().T
    torch.testing.assert_close(product(x.double(), weight.double(), scale), expected)


def test_output_error_is_what_numpy_computes():
    activations, weight = problem()
    product = QuantizedProduct(QUANTIZER)
    differences, squares = [], []
    for x in activations:
        true = x.double().numpy() @ weight.double().numpy().T
        found = QUANTIZER(x).double().numpy() @ QUANTIZER(weight).double().numpy().T
        differences.append(np.mean((found - true) ** 2))
        squares.append(np.mean(true**2))
    expected = np.mean(differences) / np.mean(squares)
    assert output_error(activations, weight, product) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_smoothquant_follows_its_formula(alpha):
    (x, *_), weight = problem()
    amax = x.abs().amax(0)
    ours = smoothquant_scale(amax, weight, alpha).numpy()
    # The paper divides x by max|x|^alpha / max|W|^(1 - alpha).
    theirs = 1 / (amax.numpy() ** alpha / np.abs(weight.numpy()).max(0) ** (1 - alpha))
    np.testing.assert_allclose(ours, theirs / np.exp(np.log(theirs).mean()), rtol=1e-5)


def test_smoothquant_copes_with_channels_of_zeros():
    amax, weight = torch.rand(CHANNELS) + 0.1, draw(8, CHANNELS)
    amax[3], weight[:, 5] = 0, 0
    scale = smoothquant_scale(amax, weight)
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()


def test_smoothquant_rejects_a_strength_outside_0_to_1():
    with pytest.raises(ValueError, match=r"alpha 1\.5; allowed are 0 \.\.\. 1"):
        smoothquant_scale(torch.ones(CHANNELS), draw(8, CHANNELS), 1.5)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        smoothquant_scale(torch.ones(3), draw(8, CHANNELS))


def test_the_searched_strength_has_the_least_error_of_all_tried():
    activations, weight = problem()
    product = QuantizedProduct(QUANTIZER)
    fitted = fit_smoothquant(activations, weight, product)
    assert fitted.error == min(fitted.history)
    assert fitted.error == output_error(activations, weight, product, fitted.scale)
    assert fitted.error < output_error(activations, weight, product)


@pytest.mark.parametrize("per_step", [False, True])
def test_learned_factors_lower_the_error_and_are_positive(per_step):
    activations, weight = problem()
    product = QuantizedProduct(QUANTIZER, transform=transform())
    fitted = fit_scale(
        activations, weight, product.transform, QUANTIZER, per_step=per_step, progress=False
    )
    assert fitted.scale.shape == ((3, CHANNELS) if per_step else (CHANNELS,))
    assert (fitted.scale > 0).all()
    assert fitted.error < 0.8 * output_error(activations, weight, product)
    found = output_error(activations, weight, product, fitted.scale)
    assert found == pytest.approx(fitted.error, rel=1e-5)


def test_the_best_iterate_is_kept_when_learning_overshoots():
    activations, weight = problem()
    fitted = fit_scale(
        activations, weight, None, QUANTIZER, learning_rate=2.0, epochs=6, progress=False
    )
    assert fitted.error == min(fitted.history)
    assert fitted.history[-1] > fitted.error


def test_learning_stops_when_it_no_longer_improves():
    activations, weight = problem()
    fitted = fit_scale(
        activations, weight, None, QUANTIZER, learning_rate=3.0, patience=2, progress=False
    )
    assert len(fitted.history) - 1 == fitted.history.index(fitted.error) + 2


def test_learning_is_deterministic():
    activations, weight = problem()
    first, second = (
        fit_scale(activations, weight, transform(), QUANTIZER, epochs=5, progress=False)
        for _ in range(2)
    )
    assert torch.equal(first.scale, second.scale)
    assert first.history == second.history


def test_different_quantizers_for_weight_and_activations_are_used_where_they_belong():
    (x, *_), weight = problem()
    product = QuantizedProduct(Quantizer(E2M3, PER_TOKEN), Quantizer(E2M3, PER_CHANNEL))
    expected = Quantizer(E2M3, PER_TOKEN)(x) @ Quantizer(E2M3, PER_CHANNEL)(weight).T
    torch.testing.assert_close(product(x, weight), expected)


def test_the_gradient_is_that_of_the_product_with_rounding_held_fixed():
    # Straight through: d loss / d log s is that of (x s + a)(W / s + b)^T, a and b constant.
    (x, *_), weight = problem(outliers=False)
    x, weight = x.double(), weight.double()
    logarithm = (draw(CHANNELS, seed=4).double() / 4).requires_grad_()
    product = QuantizedProduct(QUANTIZER, transform=transform().double())
    target = x @ weight.T

    (product(x, weight, logarithm.exp()) - target).square().mean().backward()

    scale = logarithm.detach().exp()
    rotate = product.transform
    a = product.inputs(x, scale) - rotate(x * scale)
    b = product.weight(weight, scale) - rotate(weight / scale)

    def held(logs):
        s = logs.exp()
        output = (rotate(x * s) + a) @ (rotate(weight / s) + b).T
        return (output - target).square().mean()

    for channel in (0, 17, 63):
        step = torch.zeros(CHANNELS, dtype=torch.float64)
        step[channel] = 1e-6
        difference = held(logarithm.detach() + step) - held(logarithm.detach() - step)
        assert logarithm.grad[channel].item() == pytest.approx(difference.item() / 2e-6, rel=1e-5)


def test_activations_made_in_inference_mode_serve():
    with torch.inference_mode():
        activations, _ = problem()
    fitted = fit_scale(activations, problem()[1], None, QUANTIZER, epochs=2, progress=False)
    assert torch.isfinite(fitted.scale).all()


def test_what_cannot_be_fitted_is_said():
    activations, weight = problem()
    with pytest.raises(ValueError, match="activations_by_step is empty"):
        fit_scale([], weight, None, QUANTIZER)
    with pytest.raises(ValueError, match="activations have 32 channels; weight has 64"):
        fit_scale([draw(4, 32)], weight, None, QUANTIZER)
    with pytest.raises(ValueError, match="64 positive factors"):
        fit_scale(activations, weight, None, QUANTIZER, start=-torch.ones(CHANNELS))
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit_scale([torch.full((2, CHANNELS), torch.nan)], weight, None, QUANTIZER)


@pytest.mark.parametrize(("scale_part", "shift_part"), [(2, 4), (3, 5)])
def test_factors_fold_exactly_into_adaln(scale_part, shift_part):
    torch.manual_seed(0)
    layer = AdaLN(CHANNELS, 6).double()
    condition, h = draw(5, CHANNELS).double(), draw(5, 9, CHANNELS).double()
    scale = draw(CHANNELS, seed=8).exp()

    def modulated(parts):
        return h * (parts[:, :, scale_part] + 1) + parts[:, :, shift_part]

    with torch.no_grad():
        before = layer(condition)
        fold_into_adaln(layer.linear, scale, scale_part=scale_part, shift_part=shift_part)
        after = layer(condition)
    torch.testing.assert_close(modulated(after), modulated(before) * scale.double())
    for part in set(range(6)) - {scale_part, shift_part}:
        assert torch.equal(after[:, :, part], before[:, :, part])


def test_folding_rejects_factors_of_another_width():
    layer = nn.Linear(CHANNELS, 6 * CHANNELS)
    with pytest.raises(ValueError, match=r"6 parts of 384 outputs take \(64,\)"):
        fold_into_adaln(layer, torch.ones(6), scale_part=2, shift_part=4)


def test_galt_beats_ght_alone_in_every_block_of_mini_outlier():
    from fpqvar_lab.calibration import capture
    from fpqvar_lab.var import load_vqvae

    var = load_var("mini-outlier")
    patterns = ("*.attn.mat_qkv", "*.ffn.fc1")
    activations = capture(
        var,
        load_vqvae("mini"),
        torch.arange(10),
        patterns,
        tokens=128,
        generator=torch.Generator().manual_seed(0),
    )
    quantizer = Quantizer(E2M1, per_group(128))
    rotate = GroupHadamard(128, random_signs(128, torch.Generator().manual_seed(0)))
    assert len(activations) == 2 * VARConfig.preset("mini").depth
    for name, steps in activations.items():
        weight = var.get_submodule(name).weight
        alone = output_error(steps, weight, QuantizedProduct(quantizer, transform=rotate))
        fitted = fit_scale(steps, weight, rotate, quantizer, epochs=12, progress=False)
        assert fitted.error < 0.97 * alone, name
