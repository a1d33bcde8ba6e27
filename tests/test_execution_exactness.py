"""The predicate against every product of a level and a scale that a storage holds, in float64."""

import pytest
import torch
from torch import Tensor

from fpqvar_lab.execution import is_exact
from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP6,
    E2M1,
    E2M3,
    FORMATS,
    INT4,
    INT8,
    DualFormat,
    Format,
    SignedFormat,
)
from fpqvar_lab.quantization import LARGEST_SHIFT, LEAST_SHIFT, ScaleDtype, StoredScale

BYTES = torch.arange(256).to(torch.uint8)
WORDS = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
DTYPES = (torch.float32, torch.bfloat16)
# What a storage of 8 or 16 bits can hold: all its codes.
CODES = {
    ScaleDtype.FLOAT16: WORDS.view(torch.float16),
    ScaleDtype.BFLOAT16: WORDS.view(torch.bfloat16),
    ScaleDtype.E4M3: BYTES.view(torch.float8_e4m3fn),
    ScaleDtype.UE5M3: BYTES.view(torch.int8),
    ScaleDtype.POWER_OF_TWO: BYTES,
}
FLOAT32_MAX = torch.finfo(torch.float32).max


def scales_of(dtype: ScaleDtype) -> Tensor:
    """Every scale, not negative and a number, float64."""
    scales = StoredScale(CODES[dtype]).effective().double()
    return scales[scales.isfinite() & (scales >= 0)]


def holds_products(fmt: SignedFormat, scales: Tensor, dtype: torch.dtype) -> bool:
    levels = torch.tensor(fmt.levels, dtype=torch.float64).abs().unique()
    products = levels[:, None] * scales  # at most 24 significant bits: exact
    # A quantizer makes no scale with which a level leaves float32.
    products = products[:, (products <= FLOAT32_MAX * (1 - 2**-8)).all(0)]
    return torch.equal(products.to(dtype).double(), products)


def holds_all(fmt: Format, scale_dtype: ScaleDtype, dtype: torch.dtype) -> bool:
    scales = scales_of(scale_dtype)
    if not isinstance(fmt, DualFormat):
        return holds_products(fmt, scales, dtype)
    below = scales
    if fmt.scale_ratio == "power-of-two":
        in_byte = scale_dtype in (ScaleDtype.E4M3, ScaleDtype.UE5M3)
        first, last = (LEAST_SHIFT, LARGEST_SHIFT) if in_byte else (-126, 127)
        shifts = torch.arange(first, last + 1, dtype=torch.float64)
        # Of 65536 scales the extremes show what there is to see: some product falls out of range.
        kept = scales if len(scales) <= 256 else scales[scales > 0].sort().values[[0, -1]]
        below = (kept[:, None] * torch.exp2(shifts)).flatten().unique()
    halves = holds_products(fmt.negative, below, dtype), holds_products(fmt.positive, scales, dtype)
    return all(halves)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale_dtype", CODES)
@pytest.mark.parametrize("name", FORMATS)
def test_the_predicate_is_what_all_codes_times_all_scales_say(name, scale_dtype, dtype):
    fmt = FORMATS[name]
    assert is_exact(fmt, scale_dtype, dtype) == holds_all(fmt, scale_dtype, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_some_float32_scale_makes_a_product_inexact(name, dtype):
    fmt = FORMATS[name]
    half = fmt.negative if isinstance(fmt, DualFormat) else fmt
    scales = torch.tensor([1 + 2.0**-23, 2.0**-149], dtype=torch.float64)
    assert not holds_products(half, scales, dtype)
    assert not is_exact(fmt, ScaleDtype.FLOAT32, dtype)


@pytest.mark.parametrize("name", FORMATS)
def test_fp8_operands_are_levels_that_e4m3_holds(name):
    fmt = FORMATS[name]
    exact = is_exact(fmt, ScaleDtype.FLOAT32, torch.float8_e4m3fn)
    if isinstance(fmt, DualFormat):
        assert not exact  # its halves have different scales within a group
    else:
        levels = torch.tensor(fmt.levels)
        assert exact == torch.equal(levels.to(torch.float8_e4m3fn).float(), levels)


def test_the_formats_of_the_paper():
    exact = [
        (E2M1, ScaleDtype.E4M3),
        (E2M1, ScaleDtype.UE5M3),
        (DUAL_FP4, ScaleDtype.UE5M3),
        (INT4, ScaleDtype.UE5M3),
        (E2M3, ScaleDtype.UE5M3),
        (INT8, ScaleDtype.POWER_OF_TWO),
    ]
    inexact = [
        (E2M1, ScaleDtype.FLOAT32),
        (E2M1, ScaleDtype.BFLOAT16),
        (DUAL_FP6, ScaleDtype.UE5M3),
        (INT8, ScaleDtype.UE5M3),
    ]
    assert all(is_exact(fmt, scale, torch.bfloat16) for fmt, scale in exact)
    assert not any(is_exact(fmt, scale, torch.bfloat16) for fmt, scale in inexact)


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="float16; use one of"):
        is_exact(E2M1, ScaleDtype.E4M3, torch.float16)
