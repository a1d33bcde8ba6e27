"""A cache of keys and values in low-bit codes, quantized for each token and head."""

import math

import torch
from torch import Tensor

from fpqvar_lab.quantization import QuantizedTensor, Quantizer


class QuantKVCache:
    """Keys and values of one block, each entry quantized when it is written, and kept packed.

    Args:
        quantizer: the quantizer of keys and values (batch, heads, tokens, head_dim).
    """

    def __init__(self, quantizer: Quantizer) -> None:
        self._quantizer = quantizer
        self._keys: list[QuantizedTensor] = []
        self._values: list[QuantizedTensor] = []
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store (batch, heads, new, head_dim) keys and values; returns all stored so far."""
        self.length += k.shape[2]
        self._keys.append(self._quantizer.quantize(k))
        self._values.append(self._quantizer.quantize(v))
        return _joined(self._keys), _joined(self._values)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored codes and scales."""
        return sum(entry.nbytes for entry in (*self._keys, *self._values))


class RequantizedKVCache:
    """The cache as the code released with FPQVAR has it: all of it is quantized again at each step.

    Groups run on over rows: with 128 values per group and 64 per head, a group is two neighbouring
    rows, which pair up anew as the cache grows. It holds values, not codes; for study.

    Args:
        quantizer: the quantizer of keys and values; a granularity by group applies to the flattened
            cache.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        self._quantizer = quantizer
        self._cached: tuple[Tensor, Tensor] | None = None
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store (batch, heads, new, head_dim) keys and values; returns all stored so far."""
        self.length += k.shape[2]
        if self._cached is not None:
            k = torch.cat((self._cached[0], k), dim=2)
            v = torch.cat((self._cached[1], v), dim=2)
        self._cached = self._again(k), self._again(v)
        return self._cached

    def _again(self, x: Tensor) -> Tensor:
        length = self._quantizer.granularity.row_length(x.shape)
        if math.prod(x.shape) % length:
            raise ValueError(f"a cache of shape {tuple(x.shape)} does not divide into {length}s")
        return self._quantizer(x.reshape(-1, length)).view(x.shape)


def _joined(entries: list[QuantizedTensor]) -> Tensor:
    return torch.cat([entry.dequantize() for entry in entries], dim=2)
