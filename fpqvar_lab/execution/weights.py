"""A packed weight and the values that a product reads: unpacked in every call, or kept.

Unpacking is a table look-up, 16 values for each group of 4-bit codes, into a buffer that all layers
share and that holds a few rows at a time, so that unpacked values stay in the processor's cache.
"""

import functools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fpqvar_lab.execution import native
from fpqvar_lab.execution.input_pass import split_factor
from fpqvar_lab.execution.scratch import scratch
from fpqvar_lab.formats import Format, code_values
from fpqvar_lab.quantization import Affine, PerChannel, PerGroup, PerTensor, QuantizedTensor

BUFFER_BYTES = 4 << 20


class WeightOperand:
    """The values of a packed weight (out_channels, in_channels) in the dtype of a product.

    They are levels times stored scales; the scale of the tensor, where there is one, is apart.

    Args:
        weight: packed codes and scales.
        dtype: float32 or bfloat16.
    """

    def __init__(self, weight: QuantizedTensor, dtype: torch.dtype) -> None:
        self.weight = weight
        self.dtype = dtype
        self._scales, self.factor = split_factor(weight.scales)
        self._kept: Tensor | None = None

    def keep(self) -> None:
        """Unpack now, and keep the values beside the codes."""
        self._kept = torch.cat([values.clone() for _, values in self._unpacked()])

    def release(self) -> None:
        """Forget the values; unpack in every call."""
        self._kept = None

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales, and of the values where they are kept."""
        return self.weight.nbytes + (0 if self._kept is None else self._kept.nbytes)

    @property
    def value_nbytes(self) -> int:
        """Bytes that the values take, or would take, when they are kept."""
        return self.weight.shape[0] * self.weight.shape[1] * self.dtype.itemsize

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows and their values, one block after the other; a block is valid until the next."""
        if self._kept is not None:
            yield slice(0, len(self._kept)), self._kept
        else:
            yield from self._unpacked()

    def _unpacked(self) -> Iterator[tuple[slice, Tensor]]:
        rows, channels = self.weight.shape
        if not self._has_kernel():
            yield slice(0, rows), self._by_steps()
            return
        scales = self._columns()
        height = (
            rows if len(scales) == 1 else max(BUFFER_BYTES // self.dtype.itemsize // channels, 1)
        )
        # Blocks that begin with a whole byte.
        height = min(rows, -(-height // 8) * 8)
        buffer = scratch("weight", (height * channels,), self.dtype)
        for first in range(0, rows, height):
            last = min(first + height, rows)
            values = buffer[: (last - first) * channels].view(last - first, channels)
            self._unpack_rows(first, last, scales, values)
            yield slice(first, last), values

    def _has_kernel(self) -> bool:
        quantizer = self.weight.quantizer
        return (
            len(self.weight.shape) == 2
            and native.library() is not None
            and self.weight.packed.device.type == "cpu"
            and not isinstance(quantizer.scheme, Affine)
            and isinstance(quantizer.granularity, PerGroup | PerChannel | PerTensor)
            and (
                not isinstance(quantizer.granularity, PerGroup)
                or quantizer.granularity.dim in (-1, 1)
            )
        )

    def _columns(self) -> Tensor:
        """(groups, 2) scales below and above zero, contiguous."""
        columns = self.weight.quantizer.scheme.columns(self._scales)
        return torch.cat([columns[0], columns[-1]], 1).contiguous()

    def _unpack_rows(self, first: int, last: int, scales: Tensor, values: Tensor) -> None:
        kernels = native.library()
        assert kernels is not None
        channels, fmt = self.weight.shape[1], self.weight.quantizer.format
        per_scale = self.weight.quantizer.granularity.row_length(self.weight.shape)
        begin = first * channels
        levels = _levels(fmt)
        kernels.unpack_groups(
            self.weight.packed.data_ptr() + begin * fmt.bits // 8,
            values.numel() // per_scale,
            per_scale,
            fmt.bits,
            levels.data_ptr(),
            scales[begin // per_scale :].data_ptr(),
            native.DTYPES[self.dtype],
            values.data_ptr(),
        )

    def _by_steps(self) -> Tensor:
        # Without the scale of the tensor, which is applied to the product.
        weight = replace(self.weight, scales=self._scales)
        return weight.dequantize().to(self.dtype)


def product(x: Tensor, weight: WeightOperand, bias: Tensor | None) -> Tensor:
    """``x W^T + bias`` for values (..., in_channels) in the weight's dtype; (..., out_channels).

    Without the factors of the two operands; see `scaled`.
    """
    results = [
        torch.nn.functional.linear(x, values, None if bias is None else bias[rows])
        for rows, values in weight.blocks()
    ]
    return results[0] if len(results) == 1 else torch.cat(results, -1)


@functools.lru_cache(maxsize=64)
def _levels(fmt: Format) -> Tensor:
    """The levels of all codes; codes that do not occur give 0."""
    return code_values(fmt).nan_to_num(0.0).contiguous()
