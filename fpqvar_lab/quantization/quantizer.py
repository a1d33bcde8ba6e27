"""Quantization with scales: from a tensor to low-bit codes and scales, and to the values they stand
for.

Scales, quotients and codes are computed in float32 (float64 for float64 tensors), whatever the
tensor's dtype; the value is level * scale, rounded once to that precision and once to the tensor's
dtype. A row (what shares a scale) of zeros gives zeros, and so does one whose scale is too small
for its storage. Zeros keep their sign. Follows FPQVAR, arXiv 2505.16335; where the released code
differs is listed with `Quantizer`.

A quantizer makes quantized tensors, and a quantized tensor names the quantizer that made it: the
two directions of one map, and therefore one file.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fpqvar_lab.formats import (
    TIES_TO_EVEN,
    Format,
    Rounding,
    decode_packed,
    encode_levels,
    pack,
    packed_size,
    require_float,
    unpack,
)
from fpqvar_lab.quantization import compiled
from fpqvar_lab.quantization.blocks import map_elements
from fpqvar_lab.quantization.first_edition import fields_from_description
from fpqvar_lab.quantization.granularity import Granularity
from fpqvar_lab.quantization.integer_planes import IntegerPlane, integer_planes
from fpqvar_lab.quantization.scale_methods import ABSMAX, AbsMax, ScaleMethod
from fpqvar_lab.quantization.scales import ScaleDtype, Scales
from fpqvar_lab.quantization.schemes import Columns, Scheme, extremes, scheme_for
from fpqvar_lab.quantization.straight_through import straight_through
from fpqvar_lab.quantization.text import fields_from_text, fields_to_text


@dataclass(frozen=True)
class Quantizer:
    """How a tensor is quantized: a frozen value, called as a function.

    Differences from the code released with the paper: a scale of zero divides by 1; NaN and
    infinity raise instead of becoming 0; a group size that does not divide raises instead of
    straddling rows; nothing is computed in half precision.

    Args:
        format: the format of the codes. A dual format has a scale for each half of each row, and
            `IntFormat(bits, symmetric=False)` a zero point (min-max quantization).
        granularity: what shares a scale.
        scale: how the size of a scale is chosen, by `ABSMAX`, `MSE`, `percentile(99.9)` or
            `ratio(0.9)`.
        rounding: which way exact ties go.
        scale_dtype: in what form scales are stored, and hence what values they take.
        gradient: which straight-through gradient is used. "clipped" passes it where rounding, not
            clipping, moved the value, that is up to half a step beyond the largest level; clipped
            elements get 0. "everywhere" passes it to all elements. With absolute-maximum scales in
            float32 nothing is clipped, and the two are the same. No gradient flows through the
            scales.
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
    gradient: Literal["clipped", "everywhere"] = "clipped"
    check: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        if self.gradient not in ("clipped", "everywhere"):
            raise ValueError(f"gradient {self.gradient!r}; use 'clipped' or 'everywhere'")

    def to_text(self) -> str:
        """The quantizer as a line of text: `E2M1 per-group-128 scale=mse`.

        All of it is in the text but for `compile`.
        """
        return fields_to_text(vars(self))

    @classmethod
    def from_text(cls, line: str) -> "Quantizer":
        """The quantizer of a text such as `INT4 per-channel` or `E2M1 per-group-128 scale=mse`.

        Raises:
            ValueError: when a word is not understood; the message says what is.
        """
        return cls(**fields_from_text(line))

    @property
    def scheme(self) -> Scheme:
        """How rows are quantized once the granularity has laid them out."""
        return scheme_for(self.format, self.rounding)

    def __call__(self, x: Tensor, scales: Scales | None = None) -> Tensor:
        """The values `x` (any shape, floating point) has after quantization, with its shape and
        dtype.

        Differentiable in `x` with the straight-through estimator.

        Args:
            x: the tensor to quantize.
            scales: the scales to use instead of those of `x`, from the method `scales` for a tensor
                of the same shape.

        Raises:
            TypeError: when `x` is not floating point.
            ValueError: when it is empty, its shape does not fit the granularity, or it holds NaN or
                infinity.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            mask = None if self._never_clips(scales) else self._clip_mask(x, scales)
            return straight_through(x, self._values(x, scales), mask)
        return self._values(x, scales)

    def scales(self, x: Tensor) -> Scales:
        """The scales of `x`, in the granularity's `scale_shape`. Errors are those of `q(x)`."""
        rows = self._rows(x)
        return self._scales_of(rows).reshape(*self.granularity.scale_shape(x.shape))

    def quantize(self, x: Tensor, scales: Scales | None = None) -> "QuantizedTensor":
        """`x` as packed codes and scales; their `dequantize()` equals `q(x)` bit for bit.

        Arguments and errors are those of `q(x)`.
        """
        rows, scales, columns = self._prepared(x, scales)
        codes = map_elements(self._codes, rows, columns, torch.uint8)
        scales = scales.reshape(*self.granularity.scale_shape(x.shape))
        quantizer = replace(self, compile=False)
        return QuantizedTensor(
            pack(codes, self.format.bits), scales, tuple(x.shape), x.dtype, quantizer
        )

    def integer_codes(self, x: Tensor, scales: Scales | None = None) -> tuple[IntegerPlane, ...]:
        """`x` as integers, scales and a power of two: what an integer datapath sees.

        Arguments and errors are those of `q(x)`.

        Returns:
            One plane, or (negative, positive) for a dual format; see `IntegerPlane`.
        """
        rows, _, columns = self._prepared(x, scales)
        levels = map_elements(self.scheme.levels, rows, columns, rows.dtype)
        planes = integer_planes(self.scheme, levels, columns)
        return tuple(plane.shaped(self.granularity, x.shape) for plane in planes)

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
        require_float(x)
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
        return self.scheme.store(self._amax(rows), self.scale_dtype)

    def _amax(self, rows: Tensor) -> Columns:
        limits = self._extremes(rows)
        if self.check:
            _require_finite(*limits)
        if isinstance(self.scale, AbsMax):
            return self.scheme.absmax(*limits)
        return self.scheme.search_amax(rows, self.scale, self.scale_dtype)

    def _extremes(self, rows: Tensor) -> Columns:
        return compiled.find_extremes(rows) if self._compiles(rows) else extremes(rows)

    def _compiles(self, rows: Tensor) -> bool:
        return self.compile and compiled.can_compile(self.scheme, rows)

    def _codes(self, rows: Tensor, *columns: Tensor) -> Tensor:
        return encode_levels(self.scheme.levels(rows, *columns).float(), self.format)

    def _clip_mask(self, x: Tensor, scales: Scales | None) -> Tensor:
        rows, _, columns = self._prepared(x, scales)
        mask = map_elements(self.scheme.clip_mask, rows, columns, torch.bool)
        return self.granularity.restore(mask, x.shape)

    def _never_clips(self, scales: Scales | None) -> bool:
        if self.gradient == "everywhere":
            return True
        is_default = self.scale == ABSMAX and self.scale_dtype is ScaleDtype.FLOAT32
        return scales is None and is_default


def _require_finite(*amax: Tensor) -> None:
    # The largest shows both: a NaN makes it NaN. (One reduction, where isfinite takes several.)
    if not all(math.isfinite(largest.amax().item()) for largest in amax):
        raise ValueError("x holds NaN or infinity; clean it, or pass check=False")


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Packed codes and scales; made by `Quantizer.quantize`.

    Args:
        packed: the codes in the order of the granularity's rows, as `pack` packs them; uint8, one
            dimension.
        scales: the scales, in the shape of the granularity's `scale_shape`.
        shape: the shape of the tensor that was quantized.
        dtype: the dtype of that tensor, and of what `dequantize` returns.
        quantizer: the quantizer that made it.
    """

    packed: Tensor
    scales: Scales
    shape: tuple[int, ...]
    dtype: torch.dtype
    quantizer: "Quantizer"

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales together."""
        return self.packed.nbytes + sum(tensor.nbytes for tensor in self.scales.tensors().values())

    @property
    def bits_per_value(self) -> float:
        """Stored bits for each element, scales counted."""
        return 8 * self.nbytes / math.prod(self.shape)

    @property
    def codes(self) -> Tensor:
        """uint8 codes in the shape of the tensor."""
        fmt = self.quantizer.format
        codes = unpack(self.packed, fmt.bits, math.prod(self.shape))
        return self.quantizer.granularity.restore(codes, self.shape)

    def dequantize(self) -> Tensor:
        """The values, bit for bit what the quantizer's `q(x)` gives for the same tensor."""
        quantizer = self.quantizer
        work = torch.promote_types(self.dtype, torch.float32)
        columns = quantizer.scheme.columns(self.scales)
        levels = decode_packed(self.packed, quantizer.format, math.prod(self.shape)).to(work)
        rows = levels.view(-1, quantizer.granularity.row_length(self.shape))
        values = map_elements(quantizer.scheme.values, rows, columns, work)
        return quantizer.granularity.restore(values, self.shape).to(self.dtype)

    def to(self, device: torch.device | str) -> "QuantizedTensor":
        """The same on another device."""
        tensors = {name: tensor.to(device) for name, tensor in self.scales.tensors().items()}
        return replace(self, packed=self.packed.to(device), scales=Scales.from_tensors(tensors))

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """All of it as tensors, for `torch.save` or safetensors, each name after `prefix`.

        Names: `codes`, those of `Scales.tensors`, and `metadata`, UTF-8 JSON as uint8: the shape,
        the dtype and the quantizer's text.
        """
        tensors = {"codes": self.packed, **self.scales.tensors(), "metadata": self._metadata()}
        return {prefix + name: tensor for name, tensor in tensors.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], prefix: str = "") -> "QuantizedTensor":
        """What `state_dict(prefix)` was made from, here or in the first edition; other entries are
        ignored.

        Raises:
            KeyError: when an entry is missing.
            ValueError: when the codes do not fit the metadata.
        """
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if missing := {"codes", "scales", "metadata"} - own.keys():
            raise KeyError(prefix + min(missing))
        metadata = json.loads(bytes(own["metadata"].cpu().numpy()).decode())
        quantizer, shape = _read_quantizer(metadata["quantizer"]), tuple(metadata["shape"])
        expected = packed_size(math.prod(shape), quantizer.format.bits)
        if own["codes"].numel() != expected:
            found = own["codes"].numel()
            raise ValueError(f"{prefix}codes has {found} bytes; {shape} takes {expected}")
        dtype = getattr(torch, metadata["dtype"])
        return cls(own["codes"], Scales.from_tensors(own), shape, dtype, quantizer)

    def _metadata(self) -> Tensor:
        description = {
            "shape": self.shape,
            "dtype": str(self.dtype).removeprefix("torch."),
            "quantizer": self.quantizer.to_text(),
        }
        text = json.dumps(description).encode()
        return torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.packed.device)


def _read_quantizer(description: str | Mapping[str, object]) -> Quantizer:
    if isinstance(description, str):
        return Quantizer.from_text(description)
    return Quantizer(**fields_from_description(description))
