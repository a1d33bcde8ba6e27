"""The exact integer view of a quantized tensor: what an integer datapath multiplies and adds.

Every level is an integer times a power of two (E2M1 in halves, E2M3 in eighths, E1M2 in quarters),
so a group's dot product is an exact integer times two scales and two powers of two.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fpqvar_lab.formats import SignedFormat
from fpqvar_lab.quantization.granularity import Granularity, Shape
from fpqvar_lab.quantization.schemes import Affine, Columns, Dual, Scheme


@dataclass(frozen=True, eq=False)
class IntegerPlane:
    """One integer operand: `(values - zero_points) * quantum * scales` is what it stands for.

    A dual format has two planes, whose sum is the tensor: an element that is not of a plane's half
    is 0 there.

    Args:
        values: the integers, in the shape of the tensor; int8 where they fit, else int16, int32 or
            int64.
        quantum: what an integer of one stands for, a power of two.
        scales: the scales as float32 numbers, in the granularity's `scale_shape`.
        zero_points: the integers that stand for 0, int8 in the same shape; only for min-max
            quantization.
    """

    values: Tensor
    quantum: float
    scales: Tensor
    zero_points: Tensor | None = None

    def shaped(self, granularity: Granularity, shape: Shape) -> "IntegerPlane":
        """The plane of rows (rows, n) as that of the tensor whose rows they are."""
        scale_shape = granularity.scale_shape(shape)
        zero_points = self.zero_points
        return IntegerPlane(
            granularity.restore(self.values, shape),
            self.quantum,
            self.scales.reshape(scale_shape),
            None if zero_points is None else zero_points.reshape(scale_shape),
        )


def integer_planes(scheme: Scheme, levels: Tensor, columns: Columns) -> tuple[IntegerPlane, ...]:
    """The planes of levels (rows, n) whose scales are the columns (rows, 1).

    One plane, or for a dual format (negative, positive).
    """
    if isinstance(scheme, Affine):
        scale, zero = columns
        return (IntegerPlane(levels.to(torch.int8), 1.0, scale, zero.to(torch.int8)),)
    if isinstance(scheme, Dual):
        below, above = columns
        negative = _plane(scheme.format.negative, levels.clamp_max(0), below)
        return negative, _plane(scheme.format.positive, levels.clamp_min(0), above)
    return (_plane(scheme.format, levels, columns[0]),)


def _plane(fmt: SignedFormat, levels: Tensor, scale: Tensor) -> IntegerPlane:
    integers = levels.double() / fmt.quantum
    return IntegerPlane(integers.to(_narrowest(fmt.max / fmt.quantum)), fmt.quantum, scale)


def _narrowest(largest: float) -> torch.dtype:
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        if largest <= torch.iinfo(dtype).max:
            return dtype
    raise ValueError(f"an integer as large as {largest:g} does not fit 64 bits")
