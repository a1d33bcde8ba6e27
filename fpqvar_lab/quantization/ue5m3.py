"""UE5M3, an unsigned 8-bit number for scales: five exponent bits with bias 15, three fraction bits.

Its range, 2^-17 to 114688, covers the scales of a model without a second scale for the tensor,
which E4M3, with as many fraction bits, needs. It has subnormals below 2^-14, no infinities, and one
NaN, code 255. So code 254 is the largest number, 1.75 * 2^16.
"""

import torch
from torch import Tensor

UE5M3_MAX = 1.75 * 2.0**16

_SMALLEST_NORMAL = 2.0**-14
_SMALLEST = 2.0**-17
_FRACTION_BITS = 3
# float32 has the same bits in another place: a longer fraction, a larger bias.
_LONGER = 23 - _FRACTION_BITS
_REBIASED = (127 - 15) << _FRACTION_BITS


def round_to_ue5m3(x: Tensor) -> Tensor:
    """The UE5M3 numbers nearest to `x`, ties to even.

    What is larger than the largest number becomes it; 2^-18 and less becomes zero.

    Args:
        x: float32, any shape, not negative.

    Returns:
        float32, in the shape of `x`.
    """
    clamped = x.contiguous().clamp_max(UE5M3_MAX)
    power = (clamped.view(torch.int32) & 0x7F800000).view(torch.float32)
    step = power.clamp_min(_SMALLEST_NORMAL) * 2.0**-_FRACTION_BITS
    return torch.round(clamped / step) * step


def encode_ue5m3(numbers: Tensor) -> Tensor:
    """The codes of UE5M3 numbers (float32): their bits, as int8, in the same shape."""
    normal = (numbers.contiguous().view(torch.int32) >> _LONGER) - _REBIASED
    subnormal = (numbers * (1 / _SMALLEST)).int()
    codes = torch.where(numbers < _SMALLEST_NORMAL, subnormal, normal)
    return codes.to(torch.uint8).view(torch.int8)


def decode_ue5m3(codes: Tensor) -> Tensor:
    """The numbers of codes (int8, any shape), float32; NaN for code 255."""
    bits = codes.contiguous().view(torch.uint8).int()
    normal = ((bits + _REBIASED) << _LONGER).view(torch.float32)
    numbers = torch.where(bits < 2**_FRACTION_BITS, bits * _SMALLEST, normal)
    return torch.where(bits == 255, torch.nan, numbers)
