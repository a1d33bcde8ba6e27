"""Rounding to a format, and its codes: encoding and decoding.

A code is what hardware stores: the sign in the top bit, the index of the magnitude below it.
Rounding and coding keep the sign of a zero, so -0.1 becomes -0.0 and the code 1000; the sign bit of
a code is the sign bit of the input. Two's complement integers (`symmetric=False`) have one zero and
unsigned codes modulo 2^bits.
"""

import functools

import torch
from torch import Tensor

from fpqvar_lab.formats.bitwise import negative_mask, select
from fpqvar_lab.formats.packing import unpack
from fpqvar_lab.formats.rounding import TIES_TO_EVEN, Rounding, round_halves, round_to_integer
from fpqvar_lab.formats.types import DualFormat, Format, IntFormat


def round_to(x: Tensor, fmt: Format, rounding: Rounding = TIES_TO_EVEN) -> Tensor:
    """Round every element to the nearest level of a format, saturating at its ends.

    The result is exact: no intermediate rounding happens in `x`'s own dtype. Both halves of a dual
    format have a scale of 1 here. Zeros keep the sign of the input; NaN stays NaN, and
    infinities saturate.

    Args:
        x: floating point, any shape.
        fmt: the format to round to.
        rounding: which way exact ties go.

    Returns:
        The levels, with the shape and the dtype of `x`.

    Raises:
        TypeError: when `x` is not floating point.
        ValueError: when `x`'s dtype cannot hold every level (float16 and the 65536 of `E5M2`).
    """
    require_float(x)
    if x.dtype not in (torch.float32, torch.float64):
        _require_levels_fit(fmt, x.dtype)
        return round_to(x.float(), fmt, rounding).to(x.dtype)
    if isinstance(fmt, DualFormat):
        halves = fmt.negative.magnitudes, fmt.positive.magnitudes
        return round_halves(x, negative_mask(x), *halves, rounding)
    if isinstance(fmt, IntFormat) and not fmt.symmetric:
        # Two's complement has a single zero.
        return round_to_integer(x.clamp(fmt.min, fmt.max), rounding) + 0.0
    return fmt.magnitudes.round(x, rounding)


def require_float(x: Tensor) -> None:
    """Raise `TypeError` unless `x` is floating point."""
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; use a floating-point tensor")


@functools.lru_cache(maxsize=256)
def _require_levels_fit(fmt: Format, dtype: torch.dtype) -> None:
    levels = torch.tensor(fmt.levels, dtype=torch.float64)
    if not torch.equal(levels.to(dtype).double(), levels):
        raise ValueError(f"{dtype} cannot hold every level of {fmt}; pass x.float()")


def encode(x: Tensor, fmt: Format) -> Tensor:
    """The codes of values that are levels of a format; others are rounded first, ties to even.

    Args:
        x: floating point, any shape.
        fmt: the format to encode in.

    Returns:
        uint8 codes with the shape of `x`: sign bit (bit `bits - 1`) and magnitude index, or two's
        complement. A NaN has no code: what it gives is undefined.

    Raises:
        TypeError: when `x` is not floating point.
    """
    require_float(x)
    wide = x if x.dtype == torch.float64 else x.float()
    return encode_levels(round_to(wide, fmt).float(), fmt)


def encode_levels(levels: Tensor, fmt: Format) -> Tensor:
    """`encode` without the rounding: `levels` (float32) are all levels of `fmt`."""
    if isinstance(fmt, IntFormat) and not fmt.symmetric:
        return levels.to(torch.int16).bitwise_and_(2**fmt.bits - 1).to(torch.uint8)
    negative = negative_mask(levels)
    magnitudes = levels.abs()
    if isinstance(fmt, DualFormat):
        below = fmt.negative.magnitudes.indices(magnitudes.clamp_max(fmt.negative.max))
        above = fmt.positive.magnitudes.indices(magnitudes.clamp_max(fmt.positive.max))
        index = select(negative, below.float(), above.float())
    else:
        index = fmt.magnitudes.indices(magnitudes)
    return (index.int() | (negative & 2 ** (fmt.bits - 1))).to(torch.uint8)


def decode(codes: Tensor, fmt: Format) -> Tensor:
    """The values of codes.

    Args:
        codes: integer, any shape.
        fmt: the format that the codes were encoded in.

    Returns:
        float32 levels with the shape of `codes`.

    Raises:
        ValueError: when a code is not one of the format's.
    """
    table = code_values(fmt).to(codes.device)
    flat = codes.flatten().int()
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < len(table):
        raise ValueError(f"codes of {fmt} are 0 ... {len(table) - 1}")
    values = table.index_select(0, flat)
    if table.isnan().any() and values.isnan().any():
        raise ValueError(f"{int(values.isnan().sum())} of the codes are not codes of {fmt}")
    return values.view(codes.shape)


def decode_packed(packed: Tensor, fmt: Format, count: int) -> Tensor:
    """The values of codes that `pack` has packed; codes of 4 bits are not checked.

    Args:
        packed: uint8, one dimension.
        fmt: the format that the codes were encoded in.
        count: how many codes were packed.

    Returns:
        float32 levels, one dimension, `count` long.
    """
    if fmt.bits != 4:
        return decode(unpack(packed, fmt.bits, count), fmt)
    # A byte is a pair of codes: one look-up instead of unpacking and two.
    pairs = _pair_values(fmt).to(packed.device).index_select(0, packed.int())
    return pairs.flatten()[:count]


@functools.lru_cache(maxsize=32)
def _pair_values(fmt: Format) -> Tensor:
    values = code_values(fmt)
    return torch.stack([values.repeat(16), values.repeat_interleave(16)], -1)


@functools.lru_cache(maxsize=64)
def code_values(fmt: Format) -> Tensor:
    """The value of each of the 2^bits codes in order, float32; NaN where there is no such code."""
    size = 2**fmt.bits
    if isinstance(fmt, IntFormat) and not fmt.symmetric:
        codes = torch.arange(size, dtype=torch.float32)
        return torch.where(codes < size // 2, codes, codes - size)
    below, above = _halves(fmt)
    table = torch.full((2, size // 2), float("nan"))
    table[0, : len(above)] = torch.tensor(above)
    table[1, : len(below)] = -torch.tensor(below)
    return table.flatten()


def _halves(fmt: Format) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(fmt, DualFormat):
        return fmt.negative.magnitudes.levels, fmt.positive.magnitudes.levels
    return fmt.magnitudes.levels, fmt.magnitudes.levels
