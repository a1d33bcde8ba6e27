"""The compiled input pass against the quantizer, the transform and float64, step by step."""

import logging

import pytest
import torch
from torch import Tensor

from fpqvar_lab.execution import InputPass, native
from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6,
    DUAL_MR4,
    DUAL_MR4_POW2,
    E1M2,
    E2M1,
    E2M3,
    E3M0,
    E4M3,
    INT4,
    INT6,
    INT8,
    MR4,
    DualFormat,
    GridFormat,
    IntFormat,
)
from fpqvar_lab.quantization import (
    ABSMAX,
    MSE,
    PER_CHANNEL,
    PER_TOKEN,
    Quantizer,
    ScaleDtype,
    per_group,
    ratio,
)
from fpqvar_lab.transforms import GroupHadamard, random_signs

NOT_EVEN = GridFormat((0, 1, 2, 3, 4, 5, 7, 9))
FORMATS = [
    *(E2M1, E1M2, E3M0, E2M3, E4M3, INT4, INT6, INT8, NOT_EVEN, MR4),
    *(
        DUAL_FP4,
        DUAL_FP4_POW2,
        DUAL_FP6,
        DUAL_MR4,
        DUAL_MR4_POW2,
        DualFormat(GridFormat((0, 0.1, 0.5)), E2M1),
    ),
]


@pytest.fixture(autouse=True)
def _needs_kernels():
    if native.library() is None:
        pytest.skip("no C compiler")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def activations() -> Tensor:
    """Rows of many sizes, one of zeros, and one with a zero of each sign."""
    x = normal(40, 3, 256) * torch.logspace(-6, 3, 40)[:, None, None]
    x[0] = 0
    x[1, 0, :2] = torch.tensor([0.0, -0.0])
    return x


def signed(group: int) -> GroupHadamard:
    return GroupHadamard(group, random_signs(group, torch.Generator().manual_seed(1)))


def assert_same_bits(values: Tensor, expected: Tensor) -> None:
    assert torch.equal(values.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("scale_dtype", ScaleDtype)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_without_a_transform_the_values_are_the_quantizers_bit_for_bit(fmt, scale_dtype):
    x = activations()
    for granularity in (per_group(32), per_group(64), per_group(128), PER_TOKEN):
        for method in (ABSMAX, ratio(0.92)):
            q = Quantizer(fmt, granularity, method, scale_dtype=scale_dtype)
            values, factor = InputPass(q)(x, torch.float32)
            if factor is None:
                assert_same_bits(values, q(x))
            else:  # the scale of the tensor is outside: one rounding less
                torch.testing.assert_close(values * factor, q(x), rtol=3e-7, atol=0)


@pytest.mark.parametrize("group", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, INT8], ids=str)
def test_a_transform_differs_by_its_order_of_summation_only(fmt, group):
    x, transform = normal(64, 512), signed(group)
    for granularity in (per_group(32), per_group(128), PER_TOKEN):
        q = Quantizer(fmt, granularity)
        values = InputPass(q, transform)(x, torch.float32).values
        exact = q(transform(x.double()))
        elsewhere = (values - exact).abs() > 1e-5 * exact.abs().amax()
        assert int(elsewhere.sum()) <= 3


@pytest.mark.parametrize("group", [512, 12])
def test_long_and_other_transforms_come_before_the_kernel(group):
    x, q = normal(8, 1536 if group == 512 else 96), Quantizer(E2M1, PER_TOKEN)
    transform = signed(group)
    values = InputPass(q, transform)(x, torch.float32).values
    assert_same_bits(values, q(transform(x)))


def test_factors_and_shift_are_applied_before_the_transform():
    x, transform = normal(32, 128), signed(128)
    factors, shift = normal(128, seed=1).exp(), normal(128, seed=2)
    q = Quantizer(E2M1, per_group(128))
    values = InputPass(q, transform, factors)(x, torch.float32, shift).values
    exact = q(transform(x.double() * factors - shift))
    assert int(((values - exact).abs() > 1e-5).sum()) <= 1
    plain = InputPass(q, None, factors)(x, torch.float32, shift).values
    assert_same_bits(plain, q(x * factors - shift))


def test_bfloat16_inputs_are_widened_first_and_nothing_between_is_rounded():
    x, transform = normal(32, 256).bfloat16(), signed(128)
    q = Quantizer(E2M1, per_group(128))
    from_bfloat16 = InputPass(q, transform)(x, torch.float32).values
    assert_same_bits(from_bfloat16, InputPass(q, transform)(x.float(), torch.float32).values)


@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, DUAL_FP4_POW2, E2M3], ids=str)
@pytest.mark.parametrize("scale_dtype", [ScaleDtype.E4M3, ScaleDtype.UE5M3])
def test_bfloat16_operands_are_the_float32_ones_where_they_are_exact(fmt, scale_dtype):
    x = activations()
    steps = InputPass(Quantizer(fmt, per_group(128), scale_dtype=scale_dtype))
    narrow, wide = steps(x, torch.bfloat16), steps(x, torch.float32)
    assert_same_bits(narrow.values.float(), wide.values)


@pytest.mark.parametrize(
    "quantizer",
    [
        Quantizer(E2M1, per_group(128), MSE),
        Quantizer(IntFormat(6, symmetric=False), PER_TOKEN),
        Quantizer(E2M1, PER_CHANNEL),
        Quantizer(E2M1, per_group(4, 0)),
    ],
    ids=str,
)
def test_what_the_kernel_cannot_do_runs_step_by_step(quantizer):
    x, transform = normal(8, 256), signed(128)
    values = InputPass(quantizer, transform)(x, torch.float32).values
    assert_same_bits(values, quantizer(transform(x)))


@pytest.mark.parametrize("scale_dtype", [ScaleDtype.FLOAT32, ScaleDtype.E4M3, ScaleDtype.UE5M3])
def test_without_a_compiler_the_results_are_the_same(scale_dtype, monkeypatch):
    x, q = activations(), Quantizer(DUAL_FP4, per_group(128), scale_dtype=scale_dtype)
    compiled = InputPass(q)(x, torch.float32)
    monkeypatch.setattr(native, "library", lambda: None)
    stepwise = InputPass(q)(x, torch.float32)
    assert_same_bits(compiled.values, stepwise.values)
    assert compiled.factor == stepwise.factor


def test_without_a_compiler_one_warning_says_so(monkeypatch, caplog):
    monkeypatch.setenv("CC", "/nowhere/cc")
    with caplog.at_level(logging.WARNING):
        assert native.library.__wrapped__() is None
    assert "the C kernels do not compile here" in caplog.text


@pytest.mark.parametrize("scale_dtype", [ScaleDtype.FLOAT32, ScaleDtype.E4M3])
@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused(bad, scale_dtype):
    x = normal(4, 128)
    x[2, 3] = bad
    q = Quantizer(DUAL_FP4, per_group(128), scale_dtype=scale_dtype)
    for steps in (InputPass(q), InputPass(q, signed(128))):
        with pytest.raises(ValueError, match="NaN or infinity"):
            steps(x, torch.float32)


def test_shapes_that_do_not_fit_are_refused_as_by_the_quantizer():
    steps = InputPass(Quantizer(E2M1, per_group(128)), signed(128))
    with pytest.raises(ValueError, match="does not divide 200"):
        steps(torch.ones(2, 200), torch.float32)
    with pytest.raises(ValueError, match="no elements"):
        steps(torch.ones(0, 128), torch.float32)
    with pytest.raises(TypeError, match="int64"):
        steps(torch.ones(2, 128, dtype=torch.long), torch.float32)


def test_inputs_in_another_memory_order():
    x, q = normal(256, 24).T, Quantizer(E2M1, per_group(128))
    assert_same_bits(InputPass(q)(x, torch.float32).values, q(x))


def test_many_rows_are_shared_among_threads():
    x, q = normal(512, 256), Quantizer(E2M1, per_group(64))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert_same_bits(InputPass(q)(x, torch.float32).values, q(x))
    finally:
        torch.set_num_threads(threads)
