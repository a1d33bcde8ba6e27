"""Compiled kernels give the bits of eager mode, subnormal numbers and signed zeros included."""

import logging

import pytest
import torch

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_MR4_POW2,
    E2M1,
    E5M2,
    FORMATS,
    INT8,
    TIES_TO_EVEN,
    TIES_TO_NEGATIVE,
    TIES_TO_POSITIVE,
    GridFormat,
    IntFormat,
)
from fpqvar_lab.quantization import (
    MSE,
    PER_TENSOR,
    PER_TOKEN,
    Quantizer,
    ScaleDtype,
    compiled,
    per_group,
)

MIN_MAX = IntFormat(4, symmetric=False)
# Each costs seconds of compilation, and one more for a single row; the slow test has the rest.
QUICK = [
    (E2M1, TIES_TO_EVEN, ScaleDtype.FLOAT32),
    (DUAL_FP4, TIES_TO_POSITIVE, ScaleDtype.FLOAT32),
    (MIN_MAX, TIES_TO_NEGATIVE, ScaleDtype.FLOAT32),
    (DUAL_FP4_POW2, TIES_TO_EVEN, ScaleDtype.BFLOAT16),
    (DUAL_MR4_POW2, TIES_TO_POSITIVE, ScaleDtype.BFLOAT16),
]
SEVERAL_ROWS = (2, 3, 16, 65, 1000)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int32)


def assert_same_bits(fmt, rounding, scale_dtype, granularity, counts) -> None:
    eager = Quantizer(fmt, granularity, rounding=rounding, scale_dtype=scale_dtype)
    fast = Quantizer(fmt, granularity, rounding=rounding, scale_dtype=scale_dtype, compile=True)
    generator = torch.Generator().manual_seed(0)
    for rows in counts:
        x = torch.randn(rows, 64, generator=generator)
        x[0, :3] = torch.tensor([0.0, -0.0, -1e-3])
        ties = torch.round(x * 4) / 4
        ties[:, 5] = 6.0
        for factor in (1.0, 2.0**-126, 2.0**-140, 2.0**-148, 2.0**124):
            for values in (x * factor, ties * factor, -x.abs() * factor):
                assert torch.equal(bits(fast(values)), bits(eager(values))), (rows, factor)


@pytest.mark.parametrize(("fmt", "rounding", "scale_dtype"), QUICK, ids=str)
def test_compiled_equals_eager_bit_for_bit(fmt, rounding, scale_dtype):
    assert_same_bits(fmt, rounding, scale_dtype, per_group(32), SEVERAL_ROWS)


def test_a_single_row_has_its_own_kernel_with_the_same_bits():
    assert_same_bits(E2M1, TIES_TO_EVEN, ScaleDtype.FLOAT32, per_group(64), (1,))


@pytest.mark.slow
@pytest.mark.parametrize("fmt", [*FORMATS.values(), MIN_MAX], ids=str)
def test_compiled_equals_eager_for_everything(fmt):
    for rounding in (TIES_TO_EVEN, TIES_TO_POSITIVE, TIES_TO_NEGATIVE):
        for scale_dtype in (ScaleDtype.FLOAT32, ScaleDtype.POWER_OF_TWO):
            for granularity in (per_group(32), PER_TOKEN, PER_TENSOR):
                assert_same_bits(fmt, rounding, scale_dtype, granularity, (1, *SEVERAL_ROWS))


def test_compiled_equals_eager_for_searched_scales_and_one_scale():
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    for granularity in (per_group(32), PER_TENSOR):
        eager = Quantizer(E2M1, granularity, MSE)
        fast = Quantizer(E2M1, granularity, MSE, compile=True)
        assert torch.equal(bits(fast(x)), bits(eager(x)))


def test_compilation_leaves_subnormal_numbers_on():
    Quantizer(E2M1, per_group(32), compile=True)(torch.ones(2, 64))
    assert (torch.tensor([1e-40]) * 1.0).item() > 0


def test_a_kernel_is_compiled_only_once(monkeypatch):
    q = Quantizer(E2M1, per_group(32), compile=True)
    q(torch.ones(2, 64))

    def fail(*args, **kwargs):
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiled, "_compile", fail)
    q(torch.ones(2, 64))


def test_compiled_checks_and_gradients_work():
    q = Quantizer(E2M1, per_group(32), compile=True)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    q(x).sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()
    with pytest.raises(ValueError, match="NaN or infinity"):
        q(torch.full((2, 64), torch.nan))


def test_what_cannot_be_compiled_runs_in_eager_mode(monkeypatch):
    monkeypatch.setattr(compiled, "_compile", None)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    for fmt, values in ((GridFormat((0, 0.1, 1)), x), (INT8, x.double())):
        q = Quantizer(fmt, per_group(32), compile=True)
        assert torch.equal(q(values), Quantizer(fmt, per_group(32))(values))


def test_without_a_compiler_one_warning_is_logged(monkeypatch, caplog, tmp_path):
    from torch._inductor import config

    # Nothing cached from a run with a compiler, and no compiler to be found.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled._log_once.cache_clear()
    compiled._value_kernel.cache_clear()
    compiled._extremes_kernel.cache_clear()
    x = torch.randn(8, 48, generator=torch.Generator().manual_seed(0))
    without_compiler = {"cpp.cxx": (None, str(tmp_path / "none")), "force_disable_caches": True}
    with (
        config.patch(without_compiler),
        caplog.at_level(logging.WARNING, logger=compiled.__name__),
    ):
        for fmt in (E2M1, E5M2):
            q = Quantizer(fmt, per_group(48), compile=True)
            assert torch.equal(q(x), Quantizer(fmt, per_group(48))(x))
            assert torch.equal(q(x), Quantizer(fmt, per_group(48))(x))
    messages = [r for r in caplog.records if r.name == compiled.__name__]
    compiled._value_kernel.cache_clear()
    compiled._extremes_kernel.cache_clear()
    assert len(messages) == 1
    assert "eager mode" in messages[0].getMessage()
