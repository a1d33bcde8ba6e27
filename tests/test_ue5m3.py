"""Scales in 8 bits. Oracles: UE5M3's numbers written out as fractions, ml_dtypes for E4M3."""

import itertools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

from fpqvar_lab.formats import DUAL_FP4, DUAL_FP4_POW2, E2M1, INT4
from fpqvar_lab.quantization import (
    LARGEST_SHIFT,
    LEAST_SHIFT,
    PER_CHANNEL,
    QuantizedTensor,
    Quantizer,
    ScaleDtype,
    StoredScale,
    decode_ue5m3,
    encode_ue5m3,
    per_group,
    round_to_ue5m3,
    store,
)

CODES = torch.arange(256).to(torch.uint8).view(torch.int8)
IN_A_BYTE = [ScaleDtype.E4M3, ScaleDtype.UE5M3]


def number(code: int) -> Fraction:
    """Exponent field e, fraction f: f/8 * 2^-14 where e is 0, else (1 + f/8) * 2^(e - 15)."""
    exponent, fraction = divmod(code, 8)
    significand = Fraction(fraction, 8) + (exponent > 0)
    return significand * Fraction(2) ** (max(exponent, 1) - 15)


NUMBERS = [number(code) for code in range(255)]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_every_code_stands_for_its_number():
    assert decode_ue5m3(CODES[:255]).tolist() == [float(value) for value in NUMBERS]
    assert math.isnan(decode_ue5m3(CODES[255:]).item())
    assert torch.equal(encode_ue5m3(decode_ue5m3(CODES[:255])), CODES[:255])


def test_the_numbers_around_every_midpoint_go_to_the_nearest_ties_to_even():
    for code, (low, high) in enumerate(itertools.pairwise(NUMBERS)):
        middle = np.float32(float((low + high) / 2))
        assert Fraction(float(middle)) == (low + high) / 2
        around = [
            np.nextafter(middle, np.float32(0)),
            middle,
            np.nextafter(middle, np.float32(1e9)),
        ]
        expected = [low, high if code % 2 else low, high]
        rounded = round_to_ue5m3(torch.tensor(np.array(around)))
        assert rounded.tolist() == [float(value) for value in expected]


def test_too_large_scales_saturate_and_too_small_ones_vanish():
    scales = torch.tensor([1e9, 114688.0, 120000.0, 2.0**-18, 2.0**-17, 0.0])
    expected = [114688.0, 114688.0, 114688.0, 0.0, 2.0**-17, 0.0]
    assert round_to_ue5m3(scales).tolist() == expected


def test_every_e4m3_scale_is_the_value_that_ml_dtypes_gives():
    stored = StoredScale(CODES.view(torch.float8_e4m3fn), torch.tensor(0.25))
    values = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32) / 4
    np.testing.assert_array_equal(stored.effective().numpy(), values)


@pytest.mark.parametrize("dtype", IN_A_BYTE)
@pytest.mark.parametrize("fmt", [E2M1, INT4, DUAL_FP4, DUAL_FP4_POW2], ids=str)
def test_quantized_tensors_keep_scales_in_a_byte(fmt, dtype):
    quantizer = Quantizer(fmt, per_group(128), scale_dtype=dtype)
    assert Quantizer.from_text(quantizer.to_text()) == quantizer
    x = normal(8, 512)
    packed = quantizer.quantize(x)
    again = QuantizedTensor.from_state_dict(packed.state_dict())
    assert torch.equal(packed.dequantize(), quantizer(x))
    assert torch.equal(again.dequantize(), quantizer(x))
    scales_per_group = 1 if fmt in (E2M1, INT4) else 2  # or a scale and a shift
    tensor_scales = 0 if dtype is ScaleDtype.UE5M3 else 2 if fmt == DUAL_FP4 else 1
    expected = 4 + 8 * scales_per_group / 128 + 32 * tensor_scales / x.numel()
    assert packed.bits_per_value == pytest.approx(expected, rel=1e-12)


def test_the_halves_of_a_dual_format_share_the_scale_of_the_tensor():
    x = normal(8, 128) * torch.where(torch.arange(128) % 2 == 0, 1.0, 0.1)
    scales = Quantizer(DUAL_FP4, per_group(128), scale_dtype=ScaleDtype.E4M3).scales(x)
    assert scales.negative is not None
    assert scales.main.tensor_scale is not None
    assert torch.equal(scales.main.tensor_scale, scales.negative.tensor_scale)
    largest = max(x.amax() / 6, -x.amin() / 1.75)
    assert scales.main.tensor_scale.item() == pytest.approx(largest.item() / 448, rel=1e-6)


@pytest.mark.parametrize("dtype", IN_A_BYTE)
def test_a_power_of_two_ratio_covers_the_negative_half_however_small_the_positive_one(dtype):
    x = -normal(64, 128).abs() * torch.logspace(-3, 3, 64)[:, None]
    x[:, 0] = torch.logspace(-12, 0, 64)
    quantizer = Quantizer(DUAL_FP4_POW2, per_group(128), scale_dtype=dtype)
    scales = quantizer.scales(x)
    assert scales.shifts is not None
    assert LEAST_SHIFT <= int(scales.shifts.min()) <= int(scales.shifts.max()) <= LARGEST_SHIFT
    below, _ = quantizer.scheme.columns(scales)
    # No clipping: the largest level below zero reaches the group's minimum.
    reach = below.flatten() * DUAL_FP4_POW2.negative.max
    visible = -x.amin(1) > scales_floor(dtype, x)
    assert visible.sum() > 32
    assert (reach[visible] >= -x.amin(1)[visible]).all()


def scales_floor(dtype: ScaleDtype, x: Tensor) -> float:
    """Below this a group is too small for the storage of its scale."""
    if dtype is ScaleDtype.UE5M3:
        return 2.0**-14 * 6
    return float(x.abs().max()) / 448 * 2.0**-6 * 6


def test_scales_of_channels_need_no_tensor_scale():
    stored = store(torch.tensor([0.5, 2.0]), 1.0, ScaleDtype.UE5M3)
    assert stored.tensor_scale is None
    assert stored.effective().tolist() == [0.5, 2.0]
    packed = Quantizer(E2M1, PER_CHANNEL, scale_dtype=ScaleDtype.UE5M3).quantize(normal(4, 64))
    assert packed.scales.main.values.element_size() == 1
