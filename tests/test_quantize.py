"""Quantizers against literal loops, ml_dtypes, gfloat and rational arithmetic; bit patterns, not
values.
"""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6,
    E1M2,
    E2M1,
    E2M3,
    E3M0,
    E3M2,
    FORMATS,
    INT4,
    INT8,
    TIES_TO_POSITIVE,
    GridFormat,
    IntFormat,
    Rounding,
)
from fpqvar_lab.quantization import (
    MSE,
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    MseSearch,
    Quantizer,
    ScaleDtype,
    Scales,
    StoredScale,
    per_group,
    percentile,
)

MIN_MAX = IntFormat(4, symmetric=False)
GRID = GridFormat((0, 0.1, 0.25, 0.5, 1))
EVERY_FORMAT = [*FORMATS.values(), MIN_MAX, GRID]
GRANULARITIES = [PER_TENSOR, PER_CHANNEL, PER_TOKEN, per_group(8), per_group(4, dim=0)]


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def awkward(rows: int = 64, columns: int = 16) -> Tensor:
    """Rows of every order of magnitude, zeros of both signs, one-signed rows, ties."""
    x = normal(rows, columns)
    exponents = torch.linspace(-149, 125, rows).round()
    x = x * torch.exp2(exponents / 2)[:, None] * torch.exp2(exponents - (exponents / 2))[:, None]
    x[:, 3], x[:, 4] = 0.0, -0.0
    x[10], x[11], x[12] = x[10].abs(), -x[11].abs(), 0.0
    x[13] = torch.arange(columns) * 0.25 - 2
    return x


def literal_group(x: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """The released kernel's rule, in float32: the last of equal distances on an ascending grid."""
    scale = np.float32(np.abs(x).max() / np.float32(max(levels)))
    quantized = []
    for value in x:
        best = levels[0]
        for level in levels:
            quotient = float(value / (scale if scale > 0 else np.float32(1)))
            if abs(level - quotient) <= abs(best - quotient):
                best = level
        quantized.append(np.float32(best) * scale)
    return np.array(quantized, dtype=np.float32)


@pytest.mark.parametrize("fmt", [E2M1, E1M2, E3M0, INT4], ids=str)
def test_ties_up_equals_the_released_loop(fmt):
    x = torch.cat([normal(40, 16), torch.round(normal(40, 16) * 8) / 4])
    expected = np.stack([literal_group(row, fmt.levels) for row in x.numpy()])
    ours = Quantizer(fmt, per_group(16), rounding=TIES_TO_POSITIVE)(x)
    assert torch.equal(ours, torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("fmt", "oracle"),
    [(E2M1, ml_dtypes.float4_e2m1fn), (E2M3, ml_dtypes.float6_e2m3fn)],
    ids=["E2M1", "E2M3"],
)
def test_groups_equal_ml_dtypes_with_the_scale_by_hand(fmt, oracle):
    x = normal(50, 64).numpy()
    scale = np.abs(x.reshape(50, 4, 16)).max(-1, keepdims=True) / np.float32(fmt.max)
    levels = (x.reshape(50, 4, 16) / scale).astype(oracle).astype(np.float32)
    expected = torch.from_numpy((levels * scale).reshape(50, 64))
    assert torch.equal(bits(Quantizer(fmt, per_group(16))(torch.from_numpy(x))), bits(expected))


def test_dual_halves_equal_two_single_formats():
    x = normal(64, 32)
    above = Quantizer(E2M1, PER_TOKEN)(x.clamp_min(0))
    below = Quantizer(E1M2, PER_TOKEN)(x.clamp_max(0))
    assert torch.equal(Quantizer(DUAL_FP4, PER_TOKEN)(x), above + below)


@pytest.mark.parametrize("fmt", EVERY_FORMAT, ids=str)
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_dequantize_equals_the_call(fmt, granularity):
    x = awkward()
    for rounding, scale_dtype in itertools.product(Rounding, ScaleDtype):
        q = Quantizer(fmt, granularity, rounding=rounding, scale_dtype=scale_dtype)
        assert torch.equal(bits(q.quantize(x).dequantize()), bits(q(x))), (rounding, scale_dtype)


@pytest.mark.parametrize("scale", [MSE, percentile(90)], ids=["mse", "percentile"])
@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, DUAL_FP4_POW2], ids=str)
def test_dequantize_equals_the_call_for_searched_scales(fmt, scale):
    x = awkward()
    for scale_dtype in ScaleDtype:
        q = Quantizer(fmt, per_group(8), scale, scale_dtype=scale_dtype)
        assert torch.equal(bits(q.quantize(x).dequantize()), bits(q(x)))


@pytest.mark.parametrize("fmt", EVERY_FORMAT, ids=str)
def test_results_are_finite_at_every_magnitude(fmt):
    x = awkward()
    x[5, 0], x[6, 0] = torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max
    for scale_dtype in ScaleDtype:
        assert torch.isfinite(Quantizer(fmt, PER_TOKEN, scale_dtype=scale_dtype)(x)).all()


@pytest.mark.parametrize("fmt", EVERY_FORMAT, ids=str)
def test_all_zero_rows_stay_zero(fmt):
    x = normal(4, 8)
    x[1:3] = 0
    for scale_dtype in ScaleDtype:
        # Neither a mid-rise grid nor an exponent has a zero: what is left is below 2^-121.
        least = 2.0**-121 if scale_dtype is ScaleDtype.POWER_OF_TWO else 0
        found = Quantizer(fmt, PER_TOKEN, scale_dtype=scale_dtype)(x)[1:3].abs()
        assert (found <= (least if 0 not in fmt.levels else 0)).all()
    assert (Quantizer(fmt, PER_TENSOR)(torch.zeros(3, 4)) == 0).all()


@pytest.mark.parametrize("fmt", [DUAL_FP4, DUAL_FP4_POW2, DUAL_FP6], ids=str)
def test_one_signed_rows_gain_no_values_of_the_other_sign(fmt):
    x = normal(8, 16).abs() + 0.01
    assert (Quantizer(fmt, PER_TOKEN)(x) >= 0).all()
    assert (Quantizer(fmt, PER_TOKEN)(-x) <= 0).all()


def test_a_row_whose_scale_underflows_becomes_zero():
    x = torch.full((1, 4), 1e-45)
    q = Quantizer(E2M1, PER_TOKEN)
    assert q.scales(x).main.effective().item() == 0
    assert (q(x) == 0).all()
    small = torch.full((1, 4), 1e-9)
    assert (Quantizer(E2M1, PER_TOKEN, scale_dtype=ScaleDtype.FLOAT16)(small) == 0).all()


def test_zeros_keep_their_sign():
    x = torch.tensor([[-0.0, 0.0, -1e-3, 6.0]])
    for fmt in (E2M1, DUAL_FP4):
        assert torch.signbit(Quantizer(fmt, PER_TOKEN)(x)).tolist() == [[True, False, True, False]]
    below = torch.tensor([[-0.0, -0.0, -1.0]])
    for fmt in (E2M1, DUAL_FP4, DUAL_FP4_POW2):
        assert torch.signbit(Quantizer(fmt, PER_TOKEN)(below)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, MIN_MAX], ids=str)
def test_non_finite_input_raises(fmt, bad):
    x = normal(4, 8)
    x[2, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        Quantizer(fmt, PER_TOKEN)(x)
    with pytest.raises(ValueError, match="NaN or infinity"):
        Quantizer(fmt, PER_TOKEN).quantize(x, Quantizer(fmt, PER_TOKEN).scales(normal(4, 8)))
    clean = Quantizer(fmt, PER_TOKEN)(normal(4, 8))
    unchecked = Quantizer(fmt, PER_TOKEN, check=False)(x)
    assert torch.equal(unchecked[:2], clean[:2])


def test_shapes_that_do_not_fit_are_refused():
    for granularity, shape, message in (
        (per_group(96), (2, 256), "group_size 96 does not divide 256 channels; use a divisor"),
        (per_group(2, dim=2), (2, 4), r"dim 2 is not a dimension"),
        (PER_TENSOR, (0, 4), "no elements"),
        (PER_CHANNEL, (4,), "per-channel needs"),
        (PER_TOKEN, (), "per-token needs"),
        (per_group(2), (), "dim -1 is not"),
    ):
        with pytest.raises(ValueError, match=message):
            Quantizer(E2M1, granularity)(torch.ones(shape))
    with pytest.raises(ValueError, match="size 0"):
        per_group(0)
    with pytest.raises(TypeError, match="int64"):
        Quantizer(E2M1, PER_TENSOR)(torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="only ABSMAX"):
        Quantizer(MIN_MAX, PER_TENSOR, MSE)(torch.ones(3))
    with pytest.raises(ValueError, match="'none'"):
        Quantizer(E2M1, PER_TENSOR, gradient="none")


@pytest.mark.parametrize("dimensions", range(6))
def test_any_number_of_dimensions(dimensions):
    shape = (2, 3, 2, 3, 8)[5 - dimensions :]
    x = normal(*shape)
    granularities = [PER_TENSOR] + [PER_TOKEN, per_group(4)] * (dimensions > 0)
    for granularity in granularities + [PER_CHANNEL] * (dimensions > 1):
        q = Quantizer(E2M3, granularity)
        assert q(x).shape == q.quantize(x).codes.shape == x.shape
        assert q.scales(x).main.values.shape == tuple(granularity.scale_shape(shape))
        assert (q(x) - x).abs().max() <= x.abs().max() / 15


def test_groups_along_another_dimension_are_the_transpose():
    x = normal(16, 3, 5)
    along_first = Quantizer(E2M1, per_group(8, dim=0))
    along_last = Quantizer(E2M1, per_group(8))
    assert torch.equal(along_first(x), along_last(x.movedim(0, -1)).movedim(-1, 0))
    assert torch.equal(along_first.quantize(x).dequantize(), along_first(x))


@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, MIN_MAX], ids=str)
def test_non_contiguous_input_gives_the_same(fmt):
    x = normal(16, 24).T
    q = Quantizer(fmt, per_group(8))
    assert torch.equal(q(x), q(x.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_in_float32(dtype):
    x = normal(32, 16, dtype=dtype)
    q = Quantizer(E2M1, PER_TOKEN)
    assert q(x).dtype == dtype
    assert torch.equal(q(x), q(x.float()).to(dtype))
    assert torch.equal(q.quantize(x).dequantize(), q(x))


def test_float64_input_is_computed_in_float64():
    x = normal(32, 16).double() * (1 + 1e-12)
    scale = (x.abs().amax(-1, keepdim=True) / 6).float()
    quotients = (x / scale).clamp(-6, 6)
    levels = torch.tensor(E2M1.levels, dtype=torch.float64)
    nearest = levels[(quotients[..., None] - levels).abs().argmin(-1)]
    assert torch.equal(Quantizer(E2M1, PER_TOKEN)(x), nearest * scale)


def test_large_tensors_in_blocks_equal_small_ones():
    x = normal(300, 1024)
    for granularity in (PER_TOKEN, per_group(128), PER_TENSOR):
        q = Quantizer(DUAL_FP4, granularity)
        values = q(x)
        if granularity != PER_TENSOR:
            assert torch.equal(values[:5], q(x[:5]))
        assert torch.equal(values, q.quantize(x).dequantize())


finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_nan=False, allow_infinity=False)
rows_of_eight = st.lists(st.lists(finite, min_size=8, max_size=8), min_size=1, max_size=4)
formats = st.sampled_from([E2M1, E1M2, E2M3, E3M0, INT4, INT8])


@settings(max_examples=60, deadline=None)
@given(rows_of_eight, formats)
def test_quantization_is_odd_with_ties_to_even(rows, fmt):
    x = torch.tensor(rows)
    q = Quantizer(fmt, PER_TOKEN)
    assert torch.equal(bits(q(-x)), bits(-q(x)))


@settings(max_examples=60, deadline=None)
@given(rows_of_eight, st.sampled_from([*FORMATS.values(), GRID]), st.sampled_from(Rounding))
def test_quantization_is_monotone_within_a_row(rows, fmt, rounding):
    x = torch.tensor(rows).sort(-1).values + 0.0  # a mid-rise grid tells the two zeros apart
    values = Quantizer(fmt, PER_TOKEN, rounding=rounding)(x)
    assert (values.diff(dim=-1) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(rows_of_eight, st.sampled_from([*FORMATS.values()]))
def test_quantizing_values_again_with_their_scales_changes_nothing(rows, fmt):
    x = torch.tensor(rows)
    q = Quantizer(fmt, PER_TOKEN, scale_dtype=ScaleDtype.BFLOAT16)
    scales = q.scales(x)
    assert torch.equal(q(q(x, scales), scales), q(x, scales))


@settings(max_examples=40, deadline=None)
@given(st.integers(-60, 60), st.sampled_from([*FORMATS.values(), MIN_MAX]))
def test_scaling_by_a_power_of_two_scales_the_result(exponent, fmt):
    x, factor = normal(4, 16), 2.0**exponent
    q = Quantizer(fmt, PER_TOKEN)
    assert torch.equal(q(x * factor), q(x) * factor)


def test_groups_do_not_influence_each_other():
    x = normal(2, 64)
    changed = x.clone()
    changed[0, :16] *= 1000
    q = Quantizer(DUAL_FP4, per_group(16))
    assert torch.equal(q(x)[0, 16:], q(changed)[0, 16:])
    assert torch.equal(q(x)[1], q(changed)[1])


def test_scales_can_be_given():
    x = normal(4, 16)
    q = Quantizer(E2M1, per_group(8))
    assert torch.equal(q(x, q.scales(x)), q(x))
    scales = q.scales(x * 2)
    assert torch.equal(q(x, scales), q.quantize(x, scales).dequantize())
    assert not torch.equal(q(x, scales), q(x))
    with pytest.raises(ValueError, match="8 scales; x has 4 rows"):
        q(x[:2], scales)


def test_min_max_reaches_both_ends_and_zero():
    x = torch.tensor([[-1.0, 0.0, 2.0, 0.7, 6.5]])
    values = Quantizer(MIN_MAX, PER_TOKEN)(x)
    expected = [-1.0, 0.0, 2.0, 0.5, 6.5]
    assert values.tolist() == [expected]


@pytest.mark.parametrize("bits_", [4, 6, 8])
def test_min_max_equals_torch_fake_quantize(bits_):
    x = normal(200) + 0.3
    fmt = IntFormat(bits_, symmetric=False)
    q = Quantizer(fmt, PER_TENSOR)
    scales = q.scales(x)
    assert scales.zero_points is not None
    step, zero = scales.main.values, scales.zero_points
    expected = torch.fake_quantize_per_tensor_affine(
        x, step.item(), int(zero), int(fmt.min), int(fmt.max)
    )
    # torch multiplies by the reciprocal of the step, so a value at a tie may go the other way.
    differs = (q(x) - expected).abs() > 1e-6
    ties = ((x / step) % 1 - 0.5).abs() < 1e-5
    assert not (differs & ~ties).any()


def test_gradient_passes_straight_through():
    x = normal(4, 16).requires_grad_()
    weights = normal(4, 16, seed=1)
    (Quantizer(E2M1, PER_TOKEN)(x) * weights).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, weights)


def test_values_are_the_same_with_and_without_gradient():
    x = normal(4, 16)
    q = Quantizer(DUAL_FP4, PER_TOKEN, MSE, scale_dtype=ScaleDtype.FLOAT16)
    assert torch.equal(bits(q(x.clone().requires_grad_()).detach()), bits(q(x)))


@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, DUAL_FP4_POW2], ids=str)
def test_clipped_elements_get_no_gradient_unless_asked(fmt):
    x = torch.tensor([[1.0, 2.0, 3.0, 100.0, -50.0, -0.5]])
    narrow = Quantizer(fmt, PER_TOKEN).scales(x.clamp(-0.5, 3))
    for gradient, expected in (("clipped", [1, 1, 1, 0, 0, 1]), ("everywhere", [1] * 6)):
        leaf = x.clone().requires_grad_()
        Quantizer(fmt, PER_TOKEN, gradient=gradient)(leaf, narrow).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.tolist() == [expected]


@pytest.mark.parametrize(
    ("fmt", "below", "above"),
    [
        # By hand: the largest level and half of the step that leads to it.
        (E2M1, -(6 + 2 / 2), 6 + 2 / 2),
        (E3M2, -(28 + 4 / 2), 28 + 4 / 2),
        (INT4, -(7 + 1 / 2), 7 + 1 / 2),
        (GridFormat((0, 1, 5)), -(5 + 4 / 2), 5 + 4 / 2),
        (DUAL_FP4, -(1.75 + 0.25 / 2), 6 + 2 / 2),
        (IntFormat(4, symmetric=False), -(8 + 1 / 2), 7 + 1 / 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_gradient_ends_half_a_step_beyond_the_largest_level(fmt, below, above, scale):
    """Oracle: the limits by hand, in units of the scale; on them, and one float32 beyond them."""
    edges = torch.tensor([below, above]) * scale
    x = torch.cat([edges, torch.nextafter(edges, edges * 2)])[None].requires_grad_()
    one = StoredScale(torch.tensor([scale]))
    affine = isinstance(fmt, IntFormat) and not fmt.symmetric
    zero = torch.tensor([0], dtype=torch.int8) if affine else None
    scales = Scales(one, one if fmt == DUAL_FP4 else None, zero_points=zero)
    Quantizer(fmt, PER_TOKEN)(x, scales).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1, 0, 0]]


def test_the_gradient_s_limits_move_with_the_zero_point():
    x = torch.tensor([[-11.5, -11.6, 4.5, 4.6]], requires_grad=True)
    one, zero = StoredScale(torch.ones(1)), torch.tensor([3], dtype=torch.int8)
    Quantizer(IntFormat(4, symmetric=False), PER_TOKEN)(
        x, Scales(one, zero_points=zero)
    ).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 0, 1, 0]]  # -8 - 3 - 1/2 ... 7 - 3 + 1/2


def test_mse_never_does_worse_than_absmax_and_here_better():
    x = normal(64, 128)
    for fmt in (E2M1, INT4, DUAL_FP4):
        errors = [
            (Quantizer(fmt, PER_TOKEN, scale)(x) - x).square().sum(-1)
            for scale in (MseSearch((1.0,)), MSE)
        ]
        assert (errors[1] <= errors[0]).all()
        assert errors[1].sum() < 0.95 * errors[0].sum()
        assert torch.equal(
            Quantizer(fmt, PER_TOKEN)(x), Quantizer(fmt, PER_TOKEN, MseSearch((1.0,)))(x)
        )


def test_percentile_is_an_order_statistic():
    x = torch.arange(1.0, 101).view(1, 100) * torch.tensor([1.0, -1.0]).repeat(50)
    scales = Quantizer(E2M1, PER_TOKEN, percentile(90)).scales(x)
    assert scales.main.values.item() == 90 / 6
    dual = Quantizer(DUAL_FP4, PER_TOKEN, percentile(90)).scales(x)
    assert dual.negative is not None
    # The negatives are 2, 4, ..., 100, the positives 1, 3, ..., 99: the 45th of 50 of each.
    assert dual.negative.values.item() == 90 / np.float32(1.75)
    assert dual.main.values.item() == np.float32(89 / 6)


@pytest.mark.parametrize("percent", [0, 101])
def test_impossible_percentiles_are_refused(percent):
    with pytest.raises(ValueError, match="percent"):
        percentile(percent)
    with pytest.raises(ValueError, match="ratios"):
        MseSearch(())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("fmt", EVERY_FORMAT, ids=str)
def test_cuda_gives_the_same_bits(fmt):
    x = awkward()
    for scale_dtype in ScaleDtype:
        q = Quantizer(fmt, per_group(8), scale_dtype=scale_dtype, compile=True)
        assert torch.equal(bits(q(x.cuda()).cpu()), bits(q(x)))
        assert torch.equal(bits(q.quantize(x.cuda()).dequantize().cpu()), bits(q(x)))
