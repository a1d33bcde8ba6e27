"""How scales are stored, from float32 down to a power of two.

A scale maps an amax, the largest magnitude of a row or a clipped one, on the largest level of the
format. `store` rounds the quotient of the two to what the storage can hold.
Sources: E4M3 scales under a tensor scale, NVFP4 (NVIDIA); power-of-two scales, OCP Microscaling
Formats v1.0, section 6.3.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fpqvar_lab.formats import E4M3FN, round_to
from fpqvar_lab.quantization.ue5m3 import decode_ue5m3, encode_ue5m3, round_to_ue5m3

# A margin below float32's largest number, so that the largest level times a scale stays finite
# whatever way the scale is rounded.
LARGEST = torch.finfo(torch.float32).max * (1 - 2**-8)
_E8M0_BIAS = 127

# Of the powers of two between the scales of a dual format's halves, where scales are kept in 8
# bits: products of levels, scales and powers of two then stay far inside the range of bfloat16.
LEAST_SHIFT, LARGEST_SHIFT = -64, 64


class ScaleDtype(enum.Enum):
    """In what form scales are kept.

    `E4M3` is NVFP4's: OCP E4M3 values (at most 448) relative to one float32 scale for the tensor.
    A dual format's halves share that one. `UE5M3` is an unsigned byte with the same three fraction
    bits, whose range (2^-17 to 114688) needs no scale for the tensor.
    `POWER_OF_TWO` is MX's: one byte, the exponent with bias 127. It brings the amax into the binade
    of the largest level, so what then lies beyond that level saturates (in E2M1, from 6 to 8). The
    others round to nearest, ties to even. A scale too small for its storage becomes zero, and so
    does what it scales; one too large becomes the largest, and values saturate.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    E4M3 = "e4m3"
    UE5M3 = "ue5m3"
    POWER_OF_TWO = "power-of-two"


@dataclass(frozen=True)
class StoredScale:
    """Scales as they are kept.

    Args:
        values: the scales in any shape: float32, float16, bfloat16, float8_e4m3fn, int8 for UE5M3's
            codes, or uint8 for exponents with bias 127.
        tensor_scale: the scale of the tensor, float32 of shape (), by which E4M3 values are
            multiplied.
    """

    values: Tensor
    tensor_scale: Tensor | None = None

    def effective(self) -> Tensor:
        """The scales as float32 numbers, in the shape of `values`."""
        if self.values.dtype == torch.uint8:
            return _power_of_two(self.values)
        if self.values.dtype == torch.int8:
            return decode_ue5m3(self.values)
        values = self.values.float()
        return values if self.tensor_scale is None else values * self.tensor_scale

    def reshape(self, *shape: int) -> "StoredScale":
        """The same scales in another shape."""
        return StoredScale(self.values.reshape(shape), self.tensor_scale)


@dataclass(frozen=True)
class Scales:
    """The scales of one tensor, as they are stored.

    Args:
        main: the scales of the format, or of a dual format's positive half.
        negative: the scales of a dual format's negative half, where they are free.
        shifts: int8; the scales of a dual format's negative half are those of its positive half
            times 2^shifts, where they are not free.
        zero_points: int8; the integers that stand for 0 in min-max quantization.
    """

    main: StoredScale
    negative: StoredScale | None = None
    shifts: Tensor | None = None
    zero_points: Tensor | None = None

    def reshape(self, *shape: int) -> "Scales":
        """The same scales in another shape; a tensor scale keeps its own."""
        return Scales(
            self.main.reshape(*shape),
            None if self.negative is None else self.negative.reshape(*shape),
            None if self.shifts is None else self.shifts.reshape(shape),
            None if self.zero_points is None else self.zero_points.reshape(shape),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name: `scales`, and where there are such `tensor_scale`,
        `negative_scales`, `negative_tensor_scale`, `shifts` and `zero_points`.
        """
        negative = self.negative
        named = {
            "scales": self.main.values,
            "tensor_scale": self.main.tensor_scale,
            "negative_scales": None if negative is None else negative.values,
            "negative_tensor_scale": None if negative is None else negative.tensor_scale,
            "shifts": self.shifts,
            "zero_points": self.zero_points,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Scales":
        """The scales whose `tensors()` these are; other entries are ignored.

        Raises:
            KeyError: when `scales` is missing.
        """
        negative = tensors.get("negative_scales")
        return cls(
            StoredScale(tensors["scales"], tensors.get("tensor_scale")),
            None
            if negative is None
            else StoredScale(negative, tensors.get("negative_tensor_scale")),
            tensors.get("shifts"),
            tensors.get("zero_points"),
        )


def divide(amax: Tensor, largest: float) -> Tensor:
    """`amax / largest`, correctly rounded on every device, and kept finite times `largest`.

    CUDA multiplies by the reciprocal when a Python number divides, hence the tensor. The amax of a
    half without elements can be -0.0, hence the magnitude.
    """
    return (amax.abs() / torch.full_like(amax, largest)).clamp_max(LARGEST / max(largest, 1))


def store(
    amax: Tensor, largest: float, dtype: ScaleDtype, tensor_scale: Tensor | None = None
) -> StoredScale:
    """Scales that map `amax` on `largest`, rounded to what the storage holds.

    Args:
        amax: the magnitudes to map, not negative; any shape, float32 or float64.
        largest: the level to map them on.
        dtype: the form in which the scales are stored.
        tensor_scale: what E4M3 scales are relative to; by default the one that their maximum asks
            for.
    """
    if dtype is ScaleDtype.POWER_OF_TWO:
        return StoredScale(_exponents(amax, largest))
    scale = divide(amax, largest).float()
    if dtype is ScaleDtype.E4M3:
        return _store_e4m3(scale, tensor_scale)
    if dtype is ScaleDtype.UE5M3:
        return StoredScale(encode_ue5m3(round_to_ue5m3(scale)))
    if dtype is ScaleDtype.FLOAT16:
        scale = scale.clamp_max(torch.finfo(torch.float16).max)
    return StoredScale(scale.to(getattr(torch, dtype.value)))


def scale_of_tensor(*scales: Tensor) -> Tensor:
    """The scale, float32 of shape (), relative to which E4M3 holds these scales (float32)."""
    largest = torch.stack([scale.max() for scale in scales]).max()
    return largest / torch.full_like(largest, E4M3FN.max)


def _store_e4m3(scale: Tensor, tensor_scale: Tensor | None) -> StoredScale:
    if tensor_scale is None:
        tensor_scale = scale_of_tensor(scale)
    divisor = torch.where(tensor_scale > 0, tensor_scale, 1.0)
    return StoredScale(round_to(scale / divisor, E4M3FN).to(torch.float8_e4m3fn), tensor_scale)


def least_normal(scale: Tensor, dtype: ScaleDtype) -> Tensor | float:
    """The least scale that a storage in 8 bits holds with all its fraction bits, beside these."""
    if dtype is ScaleDtype.UE5M3:
        return 2.0**-14
    return scale_of_tensor(scale) * 2.0**-6


def _exponents(amax: Tensor, largest: float) -> Tensor:
    # frexp counts from [0.5, 1), floor(log2) from [1, 2); the difference cancels.
    exponent = torch.frexp(amax).exponent - torch.frexp(torch.tensor(largest)).exponent.item()
    smallest = -_E8M0_BIAS
    exponent = torch.where(amax > 0, exponent, smallest)
    limit = torch.frexp(torch.tensor(LARGEST / largest)).exponent.item() - 1
    return (exponent.clamp(smallest, limit) + _E8M0_BIAS).to(torch.uint8)


def _power_of_two(biased: Tensor) -> Tensor:
    # Built from bits: pow() need not be exact. 2^-127 is a float32 subnormal, half the least
    # normal.
    bits = biased.int() << 23
    return torch.where(biased > 0, bits, 1 << 22).view(torch.float32)


def shift_up(scale: Tensor, reference: Tensor) -> Tensor:
    """The least shifts e with `scale <= reference * 2^e`, int8; 0 where `scale` is 0.

    Args:
        scale: the scales to reach, float32, not negative.
        reference: the scales to shift, float32 in the same shape; positive where `scale` is, and at
            least 2^-126 times as large.
    """
    mantissa, exponent = torch.frexp(scale)
    reference_mantissa, reference_exponent = torch.frexp(reference)
    shift = exponent - reference_exponent + (mantissa > reference_mantissa).int()
    return torch.where(scale > 0, shift, 0).clamp(-126, 127).to(torch.int8)


def shifted(reference: Tensor, shifts: Tensor) -> Tensor:
    """`reference * 2^shifts`, float32."""
    return reference * _power_of_two((shifts.int() + _E8M0_BIAS).to(torch.uint8))
