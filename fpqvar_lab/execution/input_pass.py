"""The input of a quantized layer in one pass: factors, shift, transform, quantization, cast.

On a CPU a kernel in C reads the activations once and writes the operand of the product once. Where
it does not apply (other devices, min-max quantization, searched scales, no compiler) the same steps
run one after the other in PyTorch, with the same codes up to the transform's order of summation.
"""

import math
from ctypes import byref
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from fpqvar_lab.execution import native
from fpqvar_lab.execution.magnitudes import halves
from fpqvar_lab.execution.scratch import scratch
from fpqvar_lab.formats import TIES_TO_EVEN, DualFormat, require_float
from fpqvar_lab.quantization import (
    ABSMAX,
    Affine,
    Granularity,
    MseSearch,
    PerGroup,
    PerToken,
    Quantizer,
    ScaleDtype,
    Scales,
)
from fpqvar_lab.transforms import GroupHadamard

# In the kernel; longer ones are products of matrices before it.
_LONGEST_TRANSFORM = 256

# What the kernel stores scales in; in other storages PyTorch rounds them, between two passes.
_STORAGES = {ScaleDtype.FLOAT32: 0, ScaleDtype.UE5M3: 1}


class Operand(NamedTuple):
    """One side of a product.

    `values` are in the product's dtype; `factor`, float32 of shape (), is the scale of the tensor,
    with which the result is to be multiplied, or None.
    """

    values: Tensor
    factor: Tensor | None


@dataclass(frozen=True, eq=False)
class InputPass:
    """What a quantized layer does with its input before the product.

    ``Q((x * factors - shift) H)``, computed in float32 and rounded once, to the operand's dtype.

    Args:
        quantizer: quantizer of the activations.
        transform: transform of the channels before they are quantized, or None.
        factors: (channels,) float32, or None.
    """

    quantizer: Quantizer
    transform: GroupHadamard | None = None
    factors: Tensor | None = None

    def __call__(
        self,
        x: Tensor,
        dtype: torch.dtype,
        shift: Tensor | None = None,
        *,
        reuse_memory: bool = False,
    ) -> Operand:
        """The operand for activations.

        Args:
            x: (..., channels), floating point.
            dtype: type of the operand's values, float32 or bfloat16.
            shift: (channels,), subtracted before the transform; or None.
            reuse_memory: whether the values may lie in memory that the thread's next call of any
                input pass overwrites.

        Raises:
            TypeError: when `x` is not floating point.
            ValueError: when `x` holds NaN or infinity, is empty, or does not fit the granularity.
        """
        require_float(x)
        if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16):
            group = self._group(x)
            if group is not None and native.library() is not None and not _is_recorded(x):
                self.quantizer.granularity.scale_shape(x.shape)
                held = scratch("operand", x.shape, dtype) if reuse_memory else None
                values = torch.empty(x.shape, dtype=dtype) if held is None else held
                return self._by_kernel(x, values, shift, group)
        return self._quantized(self._transformed(x, shift), dtype)

    def _group(self, x: Tensor) -> int | None:
        """How many channels share a scale; None where the kernel does not quantize so."""
        quantizer = self.quantizer
        if isinstance(quantizer.scheme, Affine) or quantizer.rounding is not TIES_TO_EVEN:
            return None
        if _clip_ratio(quantizer) is None or not x.dim():
            return None
        return channels_per_scale(quantizer.granularity, x.shape)

    def _transformed(self, x: Tensor, shift: Tensor | None) -> Tensor:
        """The factors, the shift and the transform one after the other, in float32."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.factors is not None:
            x = x * self.factors
        if shift is not None:
            x = x - shift
        return x if self.transform is None else self.transform(x)

    def _quantized(self, x: Tensor, dtype: torch.dtype) -> Operand:
        quantizer = self.quantizer
        if quantizer.scale_dtype is not ScaleDtype.E4M3 or isinstance(quantizer.scheme, Affine):
            return Operand(quantizer(x).to(dtype), None)
        scales = quantizer.scales(x)
        stored, factor = split_factor(scales)
        rows, scheme = quantizer.granularity.rows(x), quantizer.scheme
        levels = scheme.levels(rows, *scheme.columns(scales))
        values = scheme.values(levels, *scheme.columns(stored))
        return Operand(quantizer.granularity.restore(values, x.shape).to(dtype), factor)

    def _by_kernel(self, x: Tensor, values: Tensor, shift: Tensor | None, group: int) -> Operand:
        if self.transform is not None and not _fits_kernel(self.transform, x):
            x, shift = self._transformed(x, shift), None
            inner = InputPass(self.quantizer)
        else:
            inner = self
        x = x.contiguous()
        call = inner._call(x, values.dtype, group)
        tensors = inner._tensors(x, shift)
        if self.quantizer.scale_dtype in _STORAGES and not _is_coupled(self.quantizer):
            _run(call, tensors, None, values, self.quantizer.check)
            return Operand(values, None)
        given, factor = inner._given_scales(call, tensors, x)
        _run(call, tensors, given, values, False)
        return Operand(values, factor)

    def integers(self, x: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Activations as integers, for a quantizer with one scale for each token.

        Returns:
            int8 (tokens, channels), and float32 (tokens, 1), with which they are to be multiplied.

        Raises:
            ValueError: as a call does.
        """
        x = self._transformed(x, shift)
        (plane,) = self.quantizer.integer_codes(x)
        values = plane.values.view(-1, x.shape[-1])
        if plane.zero_points is not None:
            values = values - plane.zero_points.view(-1, 1)
        return values, plane.scales.view(-1, 1) * plane.quantum

    def _call(self, x: Tensor, dtype: torch.dtype, group: int) -> native.Pass:
        length = 1 if self.transform is None else self.transform.group
        ratio = _clip_ratio(self.quantizer)
        assert ratio is not None
        return native.Pass(
            rows=x.numel() // x.shape[-1],
            channels=x.shape[-1],
            transform=length,
            group=group,
            input_dtype=native.DTYPES[x.dtype],
            output_dtype=native.DTYPES[dtype],
            halves=2 if isinstance(self.quantizer.format, DualFormat) else 1,
            scale_storage=_STORAGES.get(self.quantizer.scale_dtype, 0),
            ratio=ratio,
            normaliser=1 / math.sqrt(length),
            quantum=1.0,
            half=halves(self.quantizer.format),
        )

    def _tensors(self, x: Tensor, shift: Tensor | None) -> tuple[Tensor | None, ...]:
        """The kernel's inputs, which must live until it returns."""
        factors = None if self.factors is None else self.factors.float().contiguous()
        shift = None if shift is None else shift.float().contiguous()
        return x, factors, shift, None if self.transform is None else self.transform.signs

    def _given_scales(
        self, call: native.Pass, tensors: tuple[Tensor | None, ...], x: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """(groups, 4) divisors and multipliers, below and above zero each, and the factor."""
        kernels = native.library()
        assert kernels is not None
        amax = torch.empty(x.numel() // call.group, 2)
        _require(kernels.find_amax(byref(call), *map(native.address, tensors), amax.data_ptr()))
        if self.quantizer.check and not math.isfinite(amax.amax().item()):
            raise ValueError(_NOT_FINITE)
        scheme = self.quantizer.scheme
        below, above = (amax * call.ratio).unbind(1)
        scales = scheme.store(scheme.absmax(below, above), self.quantizer.scale_dtype)
        stored, factor = split_factor(scales)
        columns = [*scheme.columns(scales), *scheme.columns(stored)]
        both = [column for column in columns for _ in range(4 // len(columns))]
        return torch.cat(both, 1).contiguous(), factor


def channels_per_scale(granularity: Granularity, shape: torch.Size) -> int | None:
    """How many neighbouring channels (the last dimension) share a scale; None if that is not so."""
    if isinstance(granularity, PerToken):
        return shape[-1]
    if isinstance(granularity, PerGroup) and granularity.dim in (-1, len(shape) - 1):
        return granularity.size
    return None


def split_factor(scales: Scales) -> tuple[Scales, Tensor | None]:
    """Scales without the scale of the tensor, and that scale; as they are where there is none.

    A dual format's halves may have one each; then both stay inside.
    """
    factor, negative = scales.main.tensor_scale, scales.negative
    if factor is None:
        return scales, None
    if negative is not None:
        other = negative.tensor_scale
        if other is None or (other is not factor and not torch.equal(other, factor)):
            return scales, None
        negative = replace(negative, tensor_scale=None)
    return replace(scales, main=replace(scales.main, tensor_scale=None), negative=negative), factor


_NOT_FINITE = "x holds NaN or infinity; clean it, or pass check=False"


def _run(
    call: native.Pass,
    tensors: tuple[Tensor | None, ...],
    given: Tensor | None,
    values: Tensor,
    check: bool,
) -> None:
    kernels = native.library()
    assert kernels is not None
    addresses = [*map(native.address, tensors), native.address(given), None, values.data_ptr()]
    not_finite = _require(kernels.quantize_rows(byref(call), *addresses))
    if not_finite and check:
        raise ValueError(_NOT_FINITE)


def _require(result: int) -> int:
    if result < 0:
        raise MemoryError("the input pass could not allocate a row")
    return result


def _is_recorded(x: Tensor) -> bool:
    return torch.compiler.is_compiling() or (torch.is_grad_enabled() and x.requires_grad)


def _is_coupled(quantizer: Quantizer) -> bool:
    """Whether the scales of a group's halves depend on each other."""
    fmt = quantizer.format
    return isinstance(fmt, DualFormat) and fmt.scale_ratio != "free"


def _fits_kernel(transform: GroupHadamard, x: Tensor) -> bool:
    length = transform.group
    is_power_of_two = length & (length - 1) == 0
    return is_power_of_two and length <= _LONGEST_TRANSFORM and x.shape[-1] % length == 0


def _clip_ratio(quantizer: Quantizer) -> float | None:
    """The largest magnitude's share that the largest level stands for; None if it is searched."""
    if quantizer.scale == ABSMAX:
        return 1.0
    if isinstance(quantizer.scale, MseSearch) and len(quantizer.scale.ratios) == 1:
        return quantizer.scale.ratios[0]
    return None
