"""Oracles: GPTQ column by column with an explicit inverse, and the output error it is to lower."""

import pytest
import torch

from fpqvar_lab.formats import DUAL_FP4, E2M1, E2M3
from fpqvar_lab.method import DAMPING, input_moments, quantize_gptq
from fpqvar_lab.quantization import PER_CHANNEL, PER_TENSOR, Quantizer, per_group

ROWS, CHANNELS = 24, 64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(tokens=300):
    return draw(tokens, CHANNELS, seed=1) @ draw(CHANNELS, CHANNELS, seed=2) / 8


def one_column_at_a_time(weight, quantizer, moments):
    """Optimal Brain Quantization in a fixed order: invert what is left, round, update the rest."""
    size = quantizer.granularity.size
    by_row = Quantizer(quantizer.format, PER_CHANNEL)
    left = moments + DAMPING * moments.diagonal().mean() * torch.eye(CHANNELS, dtype=torch.float64)
    weight, result = weight.double().clone(), torch.zeros_like(weight)
    for column in range(CHANNELS):
        if column % size == 0:
            scales = by_row.scales(weight[:, column : column + size].float())
        result[:, column] = by_row(weight[:, column : column + 1].float(), scales)[:, 0]
        inverse = torch.linalg.inv(left[column:, column:])
        error = (weight[:, column] - result[:, column]) / inverse[0, 0]
        weight[:, column:] -= error[:, None] * inverse[0]
    return result


@pytest.mark.parametrize("size", [16, 32, 64])
def test_it_is_what_inverting_anew_for_every_column_gives(size):
    weight, moments = draw(ROWS, CHANNELS), input_moments([correlated()])
    quantizer = Quantizer(E2M1, per_group(size))
    found = quantize_gptq(weight, quantizer, moments).dequantize()
    expected = one_column_at_a_time(weight, quantizer, moments)
    # A value next to a tie may round the other way in float32, and all after it then differ.
    rows = (found - expected).abs().amax(1) < 1e-4
    assert rows.float().mean() > 0.8


@pytest.mark.parametrize(
    "quantizer", [Quantizer(E2M1, per_group(16)), Quantizer(E2M3, PER_CHANNEL)], ids=str
)
def test_the_output_error_falls(quantizer):
    x, weight = correlated(), draw(ROWS, CHANNELS)
    found = quantize_gptq(weight, quantizer, input_moments([x])).dequantize()
    plain = (x @ (quantizer(weight) - weight).T).square().sum()
    assert (x @ (found - weight).T).square().sum() < 0.8 * plain


def test_uncorrelated_inputs_leave_rounding_to_nearest():
    weight, quantizer = draw(ROWS, CHANNELS), Quantizer(E2M1, per_group(16))
    found = quantize_gptq(weight, quantizer, torch.eye(CHANNELS, dtype=torch.float64))
    assert torch.equal(found.dequantize(), quantizer(weight))


def test_inputs_that_are_zero_throughout_do_no_harm():
    weight, quantizer = draw(ROWS, CHANNELS), Quantizer(E2M1, per_group(16))
    found = quantize_gptq(weight, quantizer, input_moments([torch.zeros(5, CHANNELS)]))
    assert torch.equal(found.dequantize(), quantizer(weight))


def test_moments_weigh_all_steps_alike():
    few, many = draw(3, CHANNELS, seed=5).double(), draw(700, CHANNELS, seed=6).double()
    expected = (few.T @ few / 3 + many.T @ many / 700) / 2
    torch.testing.assert_close(input_moments([few, many]), expected)


def test_what_does_not_fit_is_said():
    weight = draw(ROWS, CHANNELS)
    eye = torch.eye(CHANNELS, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"moments have shape \(3, 3\); 64 channels"):
        quantize_gptq(weight, Quantizer(E2M1, per_group(16)), torch.eye(3))
    with pytest.raises(ValueError, match="use PER_CHANNEL or per_group"):
        quantize_gptq(weight, Quantizer(E2M1, PER_TENSOR), eye)
    with pytest.raises(ValueError, match="dual formats"):
        quantize_gptq(weight, Quantizer(DUAL_FP4, per_group(16)), eye)
    with pytest.raises(ValueError, match="empty"):
        input_moments([])
