"""Scale storage against ml_dtypes and numpy, and the power-of-two ratio against its definition."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
import torch

from fpqvar_lab.formats import DUAL_FP4_POW2, E2M1, DualFormat, GridFormat
from fpqvar_lab.quantization import (
    PER_TENSOR,
    PER_TOKEN,
    Quantizer,
    ScaleDtype,
    StoredScale,
    divide,
    shift_up,
    shifted,
    store,
)


def positive(count: int = 20000) -> torch.Tensor:
    """Positive float32 numbers of every exponent, subnormals included."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(1, 0x7F000000, (count,), generator=generator, dtype=torch.int32)
    return torch.cat([patterns.view(torch.float32), torch.exp2(torch.arange(-126.0, 126))])


def test_float32_scales_are_the_rounded_quotient():
    amax = positive()
    expected = amax.numpy() / np.float32(6)
    kept = expected < 5e37
    ours = store(amax, 6.0, ScaleDtype.FLOAT32).effective().numpy()
    assert np.array_equal(ours[kept], expected[kept])


@pytest.mark.parametrize(
    ("dtype", "oracle"),
    [(ScaleDtype.FLOAT16, np.float16), (ScaleDtype.BFLOAT16, ml_dtypes.bfloat16)],
)
def test_half_precision_scales_are_rounded_once_more(dtype, oracle):
    quotients = divide(positive(), 6.0).numpy()
    largest = float(ml_dtypes.finfo(oracle).max)
    expected = np.minimum(quotients, largest).astype(oracle).astype(np.float32)
    ours = store(positive(), 6.0, dtype).effective().numpy()
    assert np.array_equal(ours, expected)


def test_e4m3_scales_are_relative_to_the_largest():
    amax = torch.tensor([6.0, 3.0, 1.7, 0.001, 0.0]) * 1.1
    stored = store(amax, 6.0, ScaleDtype.E4M3)
    assert stored.tensor_scale is not None
    relative = (amax / 6).numpy() / stored.tensor_scale.numpy()
    expected = relative.astype(ml_dtypes.float8_e4m3fn)
    assert stored.values[0].float() == 448
    assert np.array_equal(stored.values.view(torch.uint8).numpy(), expected.view(np.uint8))
    assert torch.equal(stored.effective(), stored.values.float() * stored.tensor_scale)


def test_power_of_two_scales_follow_the_mx_rule():
    amax = positive()
    exponents = np.floor(np.log2(amax.double().numpy())) - 2
    expected = np.exp2(np.clip(exponents, -127, 127)).astype(np.float32)
    stored = store(amax, 6.0, ScaleDtype.POWER_OF_TWO)
    kept = amax.numpy() < 2.0**125
    assert stored.values.dtype == torch.uint8
    assert np.array_equal(stored.effective().numpy()[kept], expected[kept])


def test_every_stored_exponent_is_that_of_ml_dtypes():
    codes = torch.arange(255, dtype=torch.uint8)
    expected = codes.numpy().view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    assert np.array_equal(StoredScale(codes).effective().numpy(), expected)


@pytest.mark.parametrize("dtype", ScaleDtype)
def test_zero_peaks_scale_nothing(dtype):
    effective = store(torch.zeros(3), 6.0, dtype).effective()
    assert (effective <= 2.0**-127).all()


@pytest.mark.parametrize("dtype", ScaleDtype)
@pytest.mark.parametrize("largest", [1.75, 6.0, 7.0, 127.0, 114688.0])
def test_the_largest_level_times_a_scale_is_finite(dtype, largest):
    amax = torch.tensor([torch.finfo(torch.float32).max, 1.0])
    assert torch.isfinite(store(amax, largest, dtype).effective() * largest).all()


def test_shifts_are_the_least_that_reach():
    scales, references = positive()[:5000], positive().flip(0)[:5000]
    ratio = np.log2(scales.double().numpy()) - np.log2(references.double().numpy())
    near = np.abs(ratio) < 100
    scales, references = scales[near], references[near]
    shifts = shift_up(scales, references)
    reached = references.double() * torch.exp2(shifts.double())
    assert (scales.double() <= reached).all()
    assert (scales.double() > reached / 2).all()
    assert shift_up(torch.tensor(0.0), torch.tensor(3.0)) == 0
    assert shift_up(torch.tensor(3.0), torch.tensor(3.0)) == 0


def test_shifted_is_exact_at_every_shift():
    shifts = torch.arange(-126, 128, dtype=torch.int8)
    assert torch.equal(shifted(torch.tensor(1.0), shifts).double(), torch.exp2(shifts.double()))


def rows_of_both_signs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 16, generator=generator)
    sizes = torch.exp2(torch.linspace(-40, 40, 200))[:, None]
    return torch.where(x < 0, x * sizes, x)


@pytest.mark.parametrize("dtype", ScaleDtype)
def test_the_negative_scale_is_the_positive_times_a_power_of_two_rounded_up(dtype):
    x = rows_of_both_signs()
    scales = Quantizer(DUAL_FP4_POW2, PER_TOKEN, scale_dtype=dtype).scales(x)
    free = divide((-x).amax(-1), 1.75)
    assert scales.shifts is not None
    assert scales.negative is None
    above = scales.main.effective().double()
    below = above * torch.exp2(scales.shifts.double())
    used = above > 0
    assert (below[used] >= free[used]).all()
    assert (below[used] < 2 * free[used]).all()
    assert (
        torch.equal(scales.main.effective(), store(x.amax(-1), 6.0, dtype).effective())
        or dtype is ScaleDtype.E4M3
    )


def test_a_ratio_that_is_a_power_of_two_already_changes_nothing():
    x = torch.tensor([[6.0, 1.5, -1.75, -0.5], [6.0, 2.0, -7.0, -1.0]])
    free = DualFormat(DUAL_FP4_POW2.negative, DUAL_FP4_POW2.positive)
    assert torch.equal(Quantizer(DUAL_FP4_POW2, PER_TOKEN)(x), Quantizer(free, PER_TOKEN)(x))


def test_without_positive_values_the_ratio_is_one():
    x = torch.tensor([[-1.0, -2.0, -3.5, 0.0]])
    q = Quantizer(DUAL_FP4_POW2, PER_TOKEN)
    scales = q.scales(x)
    assert scales.shifts is not None
    assert (scales.shifts.item(), scales.main.effective().item()) == (0, 2.0)
    assert q(x).tolist() == [[-1.0, -2.0, -3.5, 0.0]]


def test_halves_of_extreme_ratio_stay_defined():
    tiny, huge = 1e-44, 3e38
    for x in ([[tiny, -huge]], [[huge, -tiny]], [[huge, -huge]], [[tiny, -tiny]]):
        values = Quantizer(DUAL_FP4_POW2, PER_TOKEN)(torch.tensor(x))
        assert torch.isfinite(values).all()
        assert max(map(abs, values[0].tolist())) >= max(map(abs, x[0])) * 0.7


def test_formats_whose_largest_level_is_a_power_of_two_clip_in_mx_scales():
    grid = GridFormat.integers(32)
    x = torch.tensor([[63.0, 1.0]])
    values = Quantizer(grid, PER_TENSOR, scale_dtype=ScaleDtype.POWER_OF_TWO)(x)
    assert values.tolist() == [[32.0, 1.0]]


def test_e4m3_error_is_close_to_that_of_float32_scales():
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    errors = {
        dtype: (Quantizer(E2M1, PER_TOKEN, scale_dtype=dtype)(x) - x).square().mean().item()
        for dtype in ScaleDtype
    }
    for dtype, other in itertools.product(ScaleDtype, ScaleDtype):
        allowed = 1.3 if ScaleDtype.POWER_OF_TWO in (dtype, other) else 1.1
        assert errors[dtype] < allowed * errors[other]
    assert all(math.isfinite(error) for error in errors.values())
