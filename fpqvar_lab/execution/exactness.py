"""Whether the operands of a quantized product are exact in a dtype that the processor multiplies.

A value is a level of the format times a stored scale. Both are short binary numbers, and their
product has at most as many significant bits as the two together: E2M1's levels have two, an E4M3
scale has four, and bfloat16 holds eight. Where all products are exact, a matrix product in that
dtype with float32 sums computes what the reference computes, up to the order of summation.
"""

import functools
import math
from dataclasses import dataclass

import torch

from fpqvar_lab.formats import DualFormat, Format, SignedFormat
from fpqvar_lab.quantization import LARGEST_SHIFT, LEAST_SHIFT, UE5M3_MAX, ScaleDtype


@dataclass(frozen=True)
class _Numbers:
    """Binary numbers with so many significant bits at most; multiples of `quantum`."""

    bits: int
    quantum: float
    largest: float


# The range above is left open where a quantizer keeps scales so small that no value overflows.
_SCALES = {
    ScaleDtype.FLOAT32: _Numbers(24, 2.0**-149, 0.0),
    ScaleDtype.FLOAT16: _Numbers(11, 2.0**-24, 65504.0),
    ScaleDtype.BFLOAT16: _Numbers(8, 2.0**-133, 0.0),
    ScaleDtype.E4M3: _Numbers(4, 2.0**-9, 448.0),
    ScaleDtype.UE5M3: _Numbers(4, 2.0**-17, UE5M3_MAX),
    ScaleDtype.POWER_OF_TWO: _Numbers(1, 2.0**-127, 0.0),
}
_DTYPES = {
    torch.float32: _Numbers(24, 2.0**-149, torch.finfo(torch.float32).max),
    torch.bfloat16: _Numbers(8, 2.0**-133, torch.finfo(torch.bfloat16).max),
    torch.float8_e4m3fn: _Numbers(4, 2.0**-9, 448.0),
}


@functools.cache
def is_exact(fmt: Format, scale_dtype: ScaleDtype, dtype: torch.dtype) -> bool:
    """Whether every operand that a quantizer can make is a number of `dtype`.

    In float32 and bfloat16 an operand is a level times its stored scale; E4M3's scale for the
    tensor stays outside the product. In FP8 E4M3 (`torch.float8_e4m3fn`) it is the level alone, for
    there the scales of both sides are applied to sums over groups; the two halves of a dual format,
    whose scales differ within a group, cannot be computed so.

    Subnormal bfloat16 numbers count as exact, though matrix units take them for zero. Only scales
    that are powers of two reach them, with values below 2^-120.

    Args:
        fmt: format of the codes.
        scale_dtype: the storage of the scales.
        dtype: float32, bfloat16 or float8_e4m3fn.

    Raises:
        ValueError: for another dtype.
    """
    if dtype not in _DTYPES:
        allowed = ", ".join(str(dtype) for dtype in _DTYPES)
        raise ValueError(f"dtype {dtype}; use one of {allowed}")
    held, scales = _DTYPES[dtype], _SCALES[scale_dtype]
    if dtype == torch.float8_e4m3fn:
        return not isinstance(fmt, DualFormat) and _fit(fmt, _Numbers(1, 1.0, 1.0), held)
    if not isinstance(fmt, DualFormat):
        return _fit(fmt, scales, held)
    below = scales if fmt.scale_ratio == "free" else _shifted(scale_dtype)
    return _fit(fmt.negative, below, held) and _fit(fmt.positive, scales, held)


def _fit(fmt: SignedFormat, scales: _Numbers, held: _Numbers) -> bool:
    """Whether all products of levels and scales are among the numbers that a dtype holds."""
    levels = [abs(level) for level in fmt.levels if level]
    longest = max(_odd_part(level) for level in levels) * (2**scales.bits - 1)
    quantum = min(level / _odd_part(level) for level in levels) * scales.quantum
    in_range = quantum >= held.quantum and max(levels) * scales.largest <= held.largest
    return longest.bit_length() <= held.bits and in_range


def _odd_part(level: float) -> int:
    numerator, _ = level.as_integer_ratio()
    return numerator // (numerator & -numerator)


def _shifted(scale_dtype: ScaleDtype) -> _Numbers:
    """The scales of a dual format's negative half, when they are the other's times a power of two.

    Shifts of scales in 8 bits are bounded; those of others are not, and the least scale times the
    least shift is below any dtype's range.
    """
    scales = _SCALES[scale_dtype]
    if scale_dtype not in (ScaleDtype.E4M3, ScaleDtype.UE5M3):
        return _Numbers(scales.bits, 0.0, math.inf)
    return _Numbers(
        scales.bits, scales.quantum * 2.0**LEAST_SHIFT, scales.largest * 2.0**LARGEST_SHIFT
    )
