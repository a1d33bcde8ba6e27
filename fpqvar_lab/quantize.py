"""Quantization with scales: from a tensor to low-bit codes and scales, and to the values they stand
for.

Scales, quotients and codes are computed in float32 (float64 for float64 tensors), whatever the
tensor's dtype; the value is level * scale, rounded once to that precision and once to the tensor's
dtype. A row (what shares a scale) of zeros gives zeros, and so does one whose scale is too small
for its storage. Zeros keep their sign. Follows FPQVAR, arXiv 2505.16335; where the released code
differs is listed with `Quantizer`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from fpqvar_lab import compiled
from fpqvar_lab.blocks import map_elements
from fpqvar_lab.formats import TIES_TO_EVEN, Format, Rounding, encode_levels
from fpqvar_lab.formats import require_float as _require_float
from fpqvar_lab.granularity import (
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    PerGroup,
    per_group,
)
from fpqvar_lab.integers import IntegerPlane, integer_planes
from fpqvar_lab.packing import pack
from fpqvar_lab.quantized_tensor import QuantizedTensor
from fpqvar_lab.scales import (
    ABSMAX,
    MSE,
    AbsMax,
    MseSearch,
    Percentile,
    ScaleDtype,
    ScaleMethod,
    StoredScale,
    percentile,
    ratio,
)
from fpqvar_lab.schemes import Columns, Scales, Scheme, extremes, scheme_for

__all__ = [
    "ABSMAX",
    "MSE",
    "PER_CHANNEL",
    "PER_TENSOR",
    "PER_TOKEN",
    "AbsMax",
    "Granularity",
    "IntegerPlane",
    "MseSearch",
    "PerGroup",
    "Percentile",
    "QuantizedTensor",
    "Quantizer",
    "ScaleDtype",
    "ScaleMethod",
    "Scales",
    "StoredScale",
    "per_group",
    "percentile",
    "ratio",
]


@dataclass(frozen=True)
class Quantizer:
    """How a tensor is quantized: a frozen value, called as a function.

    Differences from the code released with the paper: a scale of zero divides by 1; NaN and
    infinity raise instead of becoming 0; a group size that does not divide raises instead of
    straddling rows; nothing is computed in half precision.

    Args:
        format: of the codes. A dual format has a scale for each half of each row; `IntFormat(bits,
            symmetric=False)` a zero point (min-max quantization).
        granularity: what shares a scale.
        scale: how its size is chosen: `ABSMAX`, `MSE`, `percentile(99.9)` or `ratio(0.9)`.
        rounding: where exact ties go.
        scale_dtype: in what form scales are stored, and hence what values they take.
        gradient: "inside" passes the gradient where rounding, not clipping, moved the value: up to
            half a step beyond the largest level; clipped elements get 0. "everywhere" passes it to
            all. With absolute-maximum scales in float32 nothing is clipped, and the two are the
            same. No gradient flows through the scales.
        check: whether NaN and infinity raise. Without the check their rows' values are undefined.
        compile: whether `q(x)` of a float32 tensor on a CPU runs as a kernel from `torch.compile`,
            with the same bits as without. The first call compiles (seconds). Without a compiler,
            one warning is logged and it runs as without.
    """

    format: Format
    granularity: Granularity
    scale: ScaleMethod = ABSMAX
    rounding: Rounding = TIES_TO_EVEN
    scale_dtype: ScaleDtype = ScaleDtype.FLOAT32
    gradient: Literal["inside", "everywhere"] = "inside"
    check: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        if self.gradient not in ("inside", "everywhere"):
            raise ValueError(f"gradient {self.gradient!r}; use 'inside' or 'everywhere'")

    @property
    def scheme(self) -> Scheme:
        """How rows are quantized once the granularity has laid them out."""
        return scheme_for(self.format, self.rounding)

    def __call__(self, x: Tensor, scales: Scales | None = None) -> Tensor:
        """The values `x` (any shape, floating point) has after quantization, with its shape and
        dtype.

        Differentiable in `x` with the straight-through estimator.

        Args:
            x: what to quantize.
            scales: to use instead of those of `x`; from `scales` of a tensor of the same shape.

        Raises:
            TypeError: when `x` is not floating point.
            ValueError: when it is empty, its shape does not fit the granularity, or it holds NaN or
                infinity.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            return _StraightThrough.apply(x, self, scales)
        return self._values(x.detach(), scales)

    def scales(self, x: Tensor) -> Scales:
        """The scales of `x`, in the granularity's `scale_shape`. Raises as `q(x)` does."""
        rows = self._rows(x)
        return self._scales_of(rows).reshape(*self.granularity.scale_shape(x.shape))

    def quantize(self, x: Tensor, scales: Scales | None = None) -> QuantizedTensor:
        """`x` as packed codes and scales; `dequantize()` of it equals `q(x)` bit for bit. Raises as
        that.
        """
        rows, scales, columns = self._prepared(x, scales)
        codes = map_elements(self._codes, rows, columns, torch.uint8)
        scales = scales.reshape(*self.granularity.scale_shape(x.shape))
        quantizer = replace(self, compile=False)
        return QuantizedTensor(
            pack(codes, self.format.bits), scales, tuple(x.shape), x.dtype, quantizer
        )

    def integer_codes(self, x: Tensor, scales: Scales | None = None) -> tuple[IntegerPlane, ...]:
        """`x` as integers, scales and a power of two: what an integer datapath sees. Raises as
        `q(x)`.

        Returns:
            One plane, or (negative, positive) for a dual format; see `IntegerPlane`.
        """
        rows, _, columns = self._prepared(x, scales)
        levels = map_elements(self.scheme.levels, rows, columns, rows.dtype)
        planes = integer_planes(self.scheme, levels, columns)
        return tuple(self._shaped(plane, x.shape) for plane in planes)

    def _values(self, x: Tensor, scales: Scales | None) -> Tensor:
        rows = self._rows(x)
        values = self._with_scales(rows, scales)
        return self.granularity.restore(values, x.shape).to(x.dtype)

    def _with_scales(self, rows: Tensor, scales: Scales | None) -> Tensor:
        columns = self.scheme.columns(self._checked_scales(rows, scales))
        if self._compiles(rows):
            return compiled.quantize_with(self.scheme, rows, columns)
        return map_elements(self.scheme.quantize, rows, columns, rows.dtype)

    def _prepared(self, x: Tensor, scales: Scales | None) -> tuple[Tensor, Scales, Columns]:
        rows = self._rows(x)
        scales = self._checked_scales(rows, scales)
        return rows, scales, self.scheme.columns(scales)

    def _rows(self, x: Tensor) -> Tensor:
        _require_float(x)
        self.granularity.scale_shape(x.shape)
        work = torch.promote_types(x.dtype, torch.float32)
        return self.granularity.rows(x.detach()).to(work).contiguous()

    def _checked_scales(self, rows: Tensor, scales: Scales | None) -> Scales:
        if scales is None:
            return self._scales_of(rows)
        if self.check:
            _require_finite(*self._extremes(rows))
        count = scales.main.values.numel()
        if count != rows.shape[0]:
            raise ValueError(f"scales has {count} scales; x has {rows.shape[0]} rows")
        return scales

    def _scales_of(self, rows: Tensor) -> Scales:
        return self.scheme.store(self._peaks(rows), self.scale_dtype)

    def _peaks(self, rows: Tensor) -> Columns:
        limits = self._extremes(rows)
        if self.check:
            _require_finite(*limits)
        if isinstance(self.scale, AbsMax):
            return self.scheme.absmax(*limits)
        return self.scheme.peaks(rows, self.scale, self.scale_dtype)

    def _extremes(self, rows: Tensor) -> Columns:
        return compiled.find_extremes(rows) if self._compiles(rows) else extremes(rows)

    def _compiles(self, rows: Tensor) -> bool:
        return self.compile and compiled.can_compile(self.scheme, rows)

    def _codes(self, rows: Tensor, *columns: Tensor) -> Tensor:
        return encode_levels(self.scheme.levels(rows, *columns).float(), self.format)

    def _shaped(self, plane: IntegerPlane, shape: torch.Size) -> IntegerPlane:
        scale_shape = self.granularity.scale_shape(shape)
        zero_points = plane.zero_points
        return IntegerPlane(
            self.granularity.restore(plane.values, shape),
            plane.unit,
            plane.scales.reshape(scale_shape),
            None if zero_points is None else zero_points.reshape(scale_shape),
        )

    def _inside(self, x: Tensor, scales: Scales | None) -> Tensor:
        rows, _, columns = self._prepared(x, scales)
        inside = map_elements(self.scheme.inside, rows, columns, torch.bool)
        return self.granularity.restore(inside, x.shape)

    def _never_clips(self, scales: Scales | None) -> bool:
        if self.gradient == "everywhere":
            return True
        is_default = self.scale == ABSMAX and self.scale_dtype is ScaleDtype.FLOAT32
        return scales is None and is_default


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quantizer: Quantizer, scales: Scales | None) -> Tensor:
        ctx.inside = None if quantizer._never_clips(scales) else quantizer._inside(x, scales)
        return quantizer._values(x, scales)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient if ctx.inside is None else gradient * ctx.inside, None, None


def _require_finite(*peaks: Tensor) -> None:
    # The largest shows both: a NaN makes it NaN. (One reduction, where isfinite takes several.)
    if not all(math.isfinite(peak.amax().item()) for peak in peaks):
        raise ValueError("x holds NaN or infinity; clean it, or pass check=False")
