"""The compiled route against the two steps of which it is made, and these against float64."""

import pytest
import torch
from torch import Tensor

from fpqvar_lab.execution import fused, transform_and_quantize
from fpqvar_lab.formats import DUAL_FP4, E2M1, E2M3, INT4, INT8
from fpqvar_lab.quantization import MSE, PER_TOKEN, Quantizer, ScaleDtype, compiled, per_group
from fpqvar_lab.transforms import GroupHadamard, random_signs


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def signed(group: int) -> GroupHadamard:
    return GroupHadamard(group, random_signs(group, torch.Generator().manual_seed(1)))


def count_elsewhere(values: Tensor, expected: Tensor) -> int:
    """How many values are on another level; scales that differ in the last bits do not count."""
    return int((values - expected).abs().gt(1e-5 * expected.abs().amax()).sum())


@pytest.mark.parametrize("group", [16, 128])
@pytest.mark.parametrize("fmt", [E2M1, INT4], ids=str)
def test_the_fused_route_equals_the_two_steps_up_to_summation_order(fmt, group):
    transform, x = signed(group), normal(512, 3, 256)
    q = Quantizer(fmt, per_group(group), compile=True)
    fused_values = transform_and_quantize(x, transform, q)
    exact = q(transform(x.double()))
    assert fused_values.shape == x.shape
    assert count_elsewhere(fused_values, q(transform(x))) <= 20
    assert count_elsewhere(fused_values.double(), exact) <= 20


def test_values_lie_within_half_a_step_of_the_exact_transform():
    transform, x = signed(128), normal(512, 256)
    q = Quantizer(INT8, per_group(128), compile=True)
    exact = transform(x.double())
    scales = q.scales(transform(x)).main.values.repeat_interleave(128, -1)
    error = (transform_and_quantize(x, transform, q) - exact).abs()
    assert (error <= scales * (0.5 + 1e-4)).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 65])
def test_any_number_of_rows(rows):
    transform, q = signed(128), Quantizer(E2M1, per_group(128), compile=True)
    x = normal(rows, 128, seed=rows)
    assert count_elsewhere(transform_and_quantize(x, transform, q), q(transform(x))) <= 1


def test_groups_of_zeros_stay_zero():
    transform, q = signed(128), Quantizer(E2M1, per_group(128), compile=True)
    assert transform_and_quantize(torch.zeros(4, 256), transform, q).eq(0).all()


@pytest.mark.parametrize(
    "quantizer",
    [
        Quantizer(E2M1, per_group(128)),
        Quantizer(E2M3, PER_TOKEN, compile=True),
        Quantizer(DUAL_FP4, per_group(128), compile=True),
        Quantizer(E2M1, per_group(64), compile=True),
        Quantizer(E2M1, per_group(128), MSE, compile=True),
        Quantizer(E2M1, per_group(128), scale_dtype=ScaleDtype.E4M3, compile=True),
    ],
    ids=str,
)
def test_what_cannot_be_fused_runs_in_two_steps(quantizer, monkeypatch):
    monkeypatch.setattr(fused, "_kernel", None)
    transform, x = signed(128), normal(8, 256)
    assert torch.equal(transform_and_quantize(x, transform, quantizer), quantizer(transform(x)))


def test_gradients_pass_through_both():
    transform, q = signed(128), Quantizer(E2M1, per_group(128), compile=True)
    x = normal(4, 256).requires_grad_()
    transform_and_quantize(x, transform, q).sum().backward()
    torch.testing.assert_close(x.grad, transform.inverse(torch.ones(4, 256)))


def test_without_a_compiler_the_kernel_runs_in_eager_mode(monkeypatch):
    monkeypatch.setattr(compiled, "_compile", None)
    fused._kernel.cache_clear()
    transform, q = signed(32), Quantizer(E2M1, per_group(32), compile=True)
    x = normal(40, 64)
    values = transform_and_quantize(x, transform, q)
    fused._kernel.cache_clear()
    assert count_elsewhere(values, Quantizer(E2M1, per_group(32))(transform(x))) <= 1


def test_errors_are_those_of_the_two_steps():
    transform, q = signed(128), Quantizer(E2M1, per_group(128), compile=True)
    with pytest.raises(ValueError, match="NaN or infinity"):
        transform_and_quantize(torch.full((2, 128), torch.nan), transform, q)
    with pytest.raises(ValueError, match="does not divide 200"):
        transform_and_quantize(torch.ones(2, 200), transform, q)
    with pytest.raises(TypeError, match="int64"):
        transform_and_quantize(torch.ones(2, 128, dtype=torch.long), transform, q)
