"""Quantization with scales: from a tensor to low-bit codes and scales, and to the values they stand
for.

Scales, quotients and codes are computed in float32 (float64 for float64 tensors), whatever the
tensor's dtype; the value is level * scale, rounded once to that precision and once to the tensor's
dtype. A row (what shares a scale) of zeros gives zeros, and so does one whose scale is too small
for its storage. Zeros keep their sign. Follows FPQVAR, arXiv 2505.16335; where the released code
differs is listed with `Quantizer`.
"""

import dataclasses
import enum
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from fpqvar_lab.formats import (
    TIES_TO_EVEN,
    Format,
    Rounding,
    code_values,
    decode,
    encode_levels,
    pack,
    packed_size,
    rounding,
    unpack,
)
from fpqvar_lab.formats import require_float as _require_float
from fpqvar_lab.formats import types as format_types
from fpqvar_lab.quantization import compiled, granularity, scales, text
from fpqvar_lab.quantization.blocks import map_elements
from fpqvar_lab.quantization.granularity import (
    Granularity,
)
from fpqvar_lab.quantization.integer_planes import IntegerPlane, integer_planes
from fpqvar_lab.quantization.scales import (
    ABSMAX,
    AbsMax,
    ScaleDtype,
    ScaleMethod,
    StoredScale,
)
from fpqvar_lab.quantization.schemes import Columns, Scales, Scheme, extremes, scheme_for


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
        gradient: "clipped" passes the gradient where rounding, not clipping, moved the value: up to
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
        return text.fields_to_text(vars(self))

    @classmethod
    def from_text(cls, line: str) -> "Quantizer":
        """The quantizer of a text such as `INT4 per-channel` or `E2M1 per-group-128 scale=mse`.

        Raises:
            ValueError: when a word is not understood; the message says what is.
        """
        return cls(**text.fields_from_text(line))

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

    def quantize(self, x: Tensor, scales: Scales | None = None) -> "QuantizedTensor":
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

    def _shaped(self, plane: IntegerPlane, shape: torch.Size) -> IntegerPlane:
        scale_shape = self.granularity.scale_shape(shape)
        zero_points = plane.zero_points
        return IntegerPlane(
            self.granularity.restore(plane.values, shape),
            plane.quantum,
            plane.scales.reshape(scale_shape),
            None if zero_points is None else zero_points.reshape(scale_shape),
        )

    def _clip_mask(self, x: Tensor, scales: Scales | None) -> Tensor:
        rows, _, columns = self._prepared(x, scales)
        mask = map_elements(self.scheme.clip_mask, rows, columns, torch.bool)
        return self.granularity.restore(mask, x.shape)

    def _never_clips(self, scales: Scales | None) -> bool:
        if self.gradient == "everywhere":
            return True
        is_default = self.scale == ABSMAX and self.scale_dtype is ScaleDtype.FLOAT32
        return scales is None and is_default


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quantizer: Quantizer, scales: Scales | None) -> Tensor:
        ctx.mask = None if quantizer._never_clips(scales) else quantizer._clip_mask(x, scales)
        return quantizer._values(x, scales)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient if ctx.mask is None else gradient * ctx.mask, None, None


def _require_finite(*amax: Tensor) -> None:
    # The largest shows both: a NaN makes it NaN. (One reduction, where isfinite takes several.)
    if not all(math.isfinite(largest.amax().item()) for largest in amax):
        raise ValueError("x holds NaN or infinity; clean it, or pass check=False")


_MODULES = (format_types, granularity, rounding, scales)
_RENAMED = {"reserved": "num_high_nans"}
_SCALE_TENSORS = ("scales", "tensor_scale", "negative_scales", "negative_tensor_scale")


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Packed codes and scales; made by `Quantizer.quantize`.

    Args:
        packed: uint8, one dimension: the codes in the order of the granularity's rows, by
            `packing.pack`.
        scales: in the shape of the granularity's `scale_shape`.
        shape: of the tensor.
        dtype: of the tensor, and of what `dequantize` returns.
        quantizer: that made it.
    """

    packed: Tensor
    scales: Scales
    shape: tuple[int, ...]
    dtype: torch.dtype
    quantizer: "Quantizer"

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales together."""
        return self.packed.nbytes + sum(tensor.nbytes for tensor in self._scale_tensors().values())

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
        state = {name: tensor.to(device) for name, tensor in self.state_dict().items()}
        return QuantizedTensor.from_state_dict(state)

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """All of it as tensors, for `torch.save` or safetensors, each name after `prefix`.

        Names: `codes`, `scales`, where there are such `tensor_scale`, `negative_scales`,
        `negative_tensor_scale`, `shifts`, `zero_points`, and `metadata`, UTF-8 JSON as uint8.
        """
        tensors = {"codes": self.packed, **self._scale_tensors(), "metadata": self._metadata()}
        return {prefix + name: tensor for name, tensor in tensors.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], prefix: str = "") -> "QuantizedTensor":
        """What `state_dict(prefix)` was made from; other entries are ignored.

        Raises:
            KeyError: when an entry is missing.
            ValueError: when the codes do not fit the metadata.
        """
        metadata = json.loads(bytes(state[prefix + "metadata"].cpu().numpy()).decode())
        quantizer = _build(metadata["quantizer"])
        shape = tuple(metadata["shape"])
        packed = state[prefix + "codes"]
        expected = packed_size(math.prod(shape), quantizer.format.bits)
        if packed.numel() != expected:
            raise ValueError(f"{prefix}codes has {packed.numel()} bytes; {shape} takes {expected}")
        dtype = getattr(torch, metadata["dtype"])
        return cls(packed, _read_scales(state, prefix), shape, dtype, quantizer)

    def _metadata(self) -> Tensor:
        description = {
            "shape": self.shape,
            "dtype": str(self.dtype).removeprefix("torch."),
            "quantizer": _describe(self.quantizer),
        }
        text = json.dumps(description).encode()
        return torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.packed.device)

    def _scale_tensors(self) -> dict[str, Tensor]:
        parts = self.scales
        tensors = dict(zip(_SCALE_TENSORS[:2], _parts(parts.main), strict=True))
        if parts.negative is not None:
            tensors |= zip(_SCALE_TENSORS[2:], _parts(parts.negative), strict=True)
        tensors |= {"shifts": parts.shifts, "zero_points": parts.zero_points}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def decode_packed(packed: Tensor, fmt: Format, count: int) -> Tensor:
    """The levels of `count` packed codes, float32, one dimension."""
    if fmt.bits != 4:
        return decode(unpack(packed, fmt.bits, count), fmt)
    # A byte is a pair of codes: one look-up instead of unpacking and two.
    pairs = _pair_values(fmt).to(packed.device).index_select(0, packed.int())
    return pairs.flatten()[:count]


@functools.lru_cache(maxsize=32)
def _pair_values(fmt: Format) -> Tensor:
    values = code_values(fmt)
    return torch.stack([values.repeat(16), values.repeat_interleave(16)], -1)


def _parts(scale: StoredScale) -> tuple[Tensor, Tensor | None]:
    return scale.values, scale.tensor_scale


def _read_scales(state: Mapping[str, Tensor], prefix: str) -> Scales:
    values, tensor_scale, negative, negative_tensor_scale = (
        state.get(prefix + name) for name in _SCALE_TENSORS
    )
    if values is None:
        raise KeyError(f"{prefix}scales")
    return Scales(
        StoredScale(values, tensor_scale),
        None if negative is None else StoredScale(negative, negative_tensor_scale),
        state.get(prefix + "shifts"),
        state.get(prefix + "zero_points"),
    )


def _describe(value: Any) -> Any:
    """Frozen values as JSON: a dataclass as its fields beside its kind, an enum member as its
    value.
    """
    if isinstance(value, enum.Enum):
        return {"kind": type(value).__name__, "value": value.value}
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    described = {name: _describe(entry) for name, entry in fields.items()}
    return {"kind": type(value).__name__, **described}


def _build(description: Any) -> Any:
    """The frozen value that `_describe` described."""
    if isinstance(description, list):
        return tuple(description)
    if not isinstance(description, dict):
        return description
    # The first edition's names, in files that it wrote.
    description = {_RENAMED.get(name, name): entry for name, entry in description.items()}
    arguments = {name: _build(entry) for name, entry in description.items() if name != "kind"}
    if arguments.get("gradient") == "inside":
        arguments["gradient"] = "clipped"
    return _kinds()[description["kind"]](**arguments)


@functools.cache
def _kinds() -> dict[str, Any]:
    things = [thing for module in _MODULES for thing in vars(module).values()]
    names = {module.__name__ for module in _MODULES}
    kinds = [thing for thing in things if isinstance(thing, type) and thing.__module__ in names]
    return {kind.__name__: kind for kind in [*kinds, Quantizer]}
