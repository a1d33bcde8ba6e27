"""A tensor as it is stored after quantization: packed codes, scales, and what is needed to read
them.
"""

import dataclasses
import enum
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fpqvar_lab import format_types, granularity, rounding, scales
from fpqvar_lab.blocks import map_elements
from fpqvar_lab.formats import Format, code_values, decode
from fpqvar_lab.packing import packed_size, unpack
from fpqvar_lab.scales import StoredScale
from fpqvar_lab.schemes import Scales

if TYPE_CHECKING:
    from fpqvar_lab.quantize import Quantizer

_MODULES = (format_types, granularity, rounding, scales)
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
    arguments = {name: _build(entry) for name, entry in description.items() if name != "kind"}
    return _kinds()[description["kind"]](**arguments)


@functools.cache
def _kinds() -> dict[str, Any]:
    # Imported late: the quantizer makes quantized tensors.
    from fpqvar_lab.quantize import Quantizer

    things = [thing for module in _MODULES for thing in vars(module).values()]
    names = {module.__name__ for module in _MODULES}
    kinds = [thing for thing in things if isinstance(thing, type) and thing.__module__ in names]
    return {kind.__name__: kind for kind in [*kinds, Quantizer]}
