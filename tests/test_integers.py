"""The integer view is exact: int64 dot products against rational and float64 arithmetic."""

import itertools
from fractions import Fraction

import pytest
import torch

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6,
    E1M2,
    E2M1,
    E2M3,
    E3M0,
    E3M2,
    E5M2,
    FORMATS,
    INT4,
    INT8,
    GridFormat,
    IntFormat,
)
from fpqvar_lab.quantization import PER_TOKEN, Quantizer, ScaleDtype, per_group

GROUP = 32
MIN_MAX = IntFormat(4, symmetric=False)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def group_dots(a, w):
    """int64 dot products of two planes by group: (tokens, outputs, groups)."""
    left = a.values.long().view(a.values.shape[0], -1, GROUP)
    right = w.values.long().view(w.values.shape[0], -1, GROUP)
    return (left[:, None] * right[None]).sum(-1)


EXACT_SCALES = [ScaleDtype.FLOAT16, ScaleDtype.BFLOAT16, ScaleDtype.POWER_OF_TWO]
INPUTS = [E2M1, E1M2, E3M0, E2M3, E3M2, INT4, INT8, DUAL_FP4, DUAL_FP4_POW2, DUAL_FP6]


@pytest.mark.parametrize("scale_dtype", EXACT_SCALES)
@pytest.mark.parametrize("fmt", INPUTS, ids=str)
def test_integer_dot_products_times_scales_equal_float64_products(fmt, scale_dtype):
    x, weight = normal(6, 4 * GROUP, seed=0), normal(5, 4 * GROUP, seed=1)
    inputs = Quantizer(fmt, per_group(GROUP), scale_dtype=scale_dtype)
    weights = Quantizer(E2M1, per_group(GROUP), scale_dtype=scale_dtype)
    (w,) = weights.integer_codes(weight)
    total = torch.zeros(6, 5, 4, dtype=torch.float64)
    for a in inputs.integer_codes(x):
        scales = a.scales.double()[:, None] * w.scales.double()[None]
        total += group_dots(a, w).double() * (a.quantum * w.quantum) * scales
    left = inputs(x).double().view(6, 1, 4, GROUP)
    right = weights(weight).double().view(1, 5, 4, GROUP)
    assert torch.equal(total, (left * right).sum(-1))


def test_with_float32_scales_the_identity_holds_in_rational_arithmetic():
    x, weight = normal(2, GROUP, seed=0), normal(2, GROUP, seed=1)
    q = Quantizer(E2M3, per_group(GROUP))
    (a,), (w,) = q.integer_codes(x), q.integer_codes(weight)
    dots = group_dots(a, w)
    for i, j in itertools.product(range(2), range(2)):
        scale_a, scale_w = Fraction(a.scales[i, 0].item()), Fraction(w.scales[j, 0].item())
        unit = Fraction(a.quantum) * Fraction(w.quantum)
        exact = int(dots[i, j, 0]) * unit * scale_a * scale_w
        by_levels = sum(
            Fraction(left.item())
            * Fraction(a.quantum)
            * scale_a
            * Fraction(right.item())
            * Fraction(w.quantum)
            * scale_w
            for left, right in zip(a.values[i], w.values[j], strict=True)
        )
        # The values themselves are rounded to float32 once, each by at most 2^-24.
        rounded = (q(x)[i].double() * q(weight)[j].double()).sum().item()
        assert exact == by_levels
        assert (
            abs(float(exact) - rounded)
            <= 2.0**-22 * (q(x)[i].double() * q(weight)[j].double()).abs().sum()
        )


@pytest.mark.parametrize("fmt", [*FORMATS.values(), MIN_MAX], ids=str)
def test_planes_add_up_to_the_values(fmt):
    x = normal(8, 64, seed=2)
    q = Quantizer(fmt, PER_TOKEN, scale_dtype=ScaleDtype.FLOAT16)
    total = torch.zeros(8, 64, dtype=torch.float64)
    for plane in q.integer_codes(x):
        values = plane.values.double()
        if plane.zero_points is not None:
            values -= plane.zero_points[:, None].double()
        total += values * plane.quantum * plane.scales[:, None].double()
    assert torch.equal(total, q(x).double())


def test_units_and_dtypes_are_the_smallest_that_fit():
    x = normal(2, 64, seed=3)
    for fmt, unit, dtype in (
        (E2M1, 0.5, torch.int8),
        (E2M3, 0.125, torch.int8),
        (E3M0, 0.25, torch.int8),
        (E3M2, 0.0625, torch.int16),
        (E5M2, 2.0**-16, torch.int64),
        (MIN_MAX, 1.0, torch.int8),
    ):
        (plane,) = Quantizer(fmt, PER_TOKEN).integer_codes(x)
        assert (plane.quantum, plane.values.dtype) == (unit, dtype)
    grid = GridFormat((0, 1e-30, 1e30))
    with pytest.raises(ValueError, match="64 bits"):
        Quantizer(grid, PER_TOKEN).integer_codes(x)


def test_dual_planes_do_not_overlap_and_have_their_own_scales():
    x = normal(4, 64, seed=4)
    negative, positive = Quantizer(DUAL_FP4, PER_TOKEN).integer_codes(x)
    assert ((negative.values == 0) | (positive.values == 0)).all()
    assert (negative.values <= 0).all()
    assert (positive.values >= 0).all()
    assert (negative.quantum, positive.quantum) == (0.25, 0.5)
    assert torch.equal(positive.scales, x.amax(-1) / 6)


def test_with_a_power_of_two_ratio_one_accumulator_serves_both_halves():
    x, weight = normal(16, GROUP, seed=5), normal(4, GROUP, seed=6)
    inputs = Quantizer(DUAL_FP4_POW2, per_group(GROUP), scale_dtype=ScaleDtype.FLOAT16)
    weights = Quantizer(E2M1, per_group(GROUP), scale_dtype=ScaleDtype.FLOAT16)
    (negative, positive), (w,) = inputs.integer_codes(x), weights.integer_codes(weight)
    steps = [plane.scales.double() * plane.quantum for plane in (negative, positive)]
    ratio = steps[0] / steps[1]
    shift = torch.log2(ratio)
    assert torch.equal(shift, shift.round())
    least = shift.clamp_max(0)
    below = group_dots(negative, w) << (shift - least).long()[:, None]
    above = group_dots(positive, w) << (-least).long()[:, None]
    unit = positive.quantum * w.quantum * torch.exp2(least)[:, None]
    scales = positive.scales.double()[:, None] * w.scales.double()[None]
    expected = (inputs(x).double()[:, None] * weights(weight).double()[None]).sum(-1)
    assert torch.equal(((below + above) * unit * scales)[..., 0], expected)
