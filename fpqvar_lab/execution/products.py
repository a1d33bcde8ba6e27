"""Quantized layers as one matrix product of exact operands each.

`FloatProduct` multiplies values in float32 or bfloat16, `IntegerProduct` multiplies integers, whose
sums are exact, where each token and each output channel has one scale.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from fpqvar_lab.execution.input_pass import InputPass
from fpqvar_lab.execution.weights import WeightOperand, product
from fpqvar_lab.formats import DualFormat, Format, IntFormat
from fpqvar_lab.quantization import PerChannel, PerToken, QuantizedTensor, Quantizer


class Product(Protocol):
    """A quantized layer that is ready to be called."""

    @property
    def nbytes(self) -> int:
        """Bytes of the weight as it is held, with scales, and with values where they are kept."""
        ...

    @property
    def value_nbytes(self) -> int:
        """Bytes that keeping the weight's values takes."""
        ...

    def keep(self) -> None:
        """Keep the weight's values beside its codes: faster, for `value_nbytes` more."""
        ...

    def __call__(self, x: Tensor, bias: Tensor | None, shift: Tensor | None = None) -> Tensor:
        """(..., in_channels) -> (..., out_channels) in the dtype of `x`.

        `shift` (in_channels,) is subtracted before the transform; the bias must make up for it.
        """
        ...


class FloatProduct:
    """One product in float32 or bfloat16, with float32 sums.

    In float32 its operands are the reference's. In bfloat16 they are so where `is_exact` holds, and
    the result is rounded to bfloat16 once, before the bias is added.

    Args:
        weight: packed codes and scales.
        inputs: the pass that turns activations into an operand of the product.
        dtype: float32 or bfloat16.
    """

    def __init__(self, weight: QuantizedTensor, inputs: InputPass, dtype: torch.dtype) -> None:
        self._inputs = inputs
        self.weight = WeightOperand(weight, dtype)

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    @property
    def value_nbytes(self) -> int:
        return self.weight.value_nbytes

    def keep(self) -> None:
        self.weight.keep()

    def __call__(self, x: Tensor, bias: Tensor | None, shift: Tensor | None = None) -> Tensor:
        values, factor = self._inputs(x, self.weight.dtype, shift, reuse_memory=True)
        if self.weight.factor is not None:
            factor = self.weight.factor if factor is None else factor * self.weight.factor
        if factor is None and (bias is None or bias.dtype == values.dtype):
            return product(values, self.weight, bias).to(x.dtype)
        result = product(values, self.weight, None)
        if factor is not None:
            # In float32: a scale of shape () does not widen bfloat16, and would round again.
            result = result.float() * factor.to(result.device)
        return (result if bias is None else result + bias).to(x.dtype)


class IntegerProduct:
    """One product of 8-bit integers with exact sums, times the scales of its rows and columns.

    Args:
        weight: one scale for each output channel.
        inputs: one scale for each token.

    Raises:
        ValueError: when `are_integers` does not hold.
    """

    def __init__(self, weight: QuantizedTensor, inputs: InputPass) -> None:
        if not are_integers(weight.quantizer, inputs.quantizer):
            raise ValueError(
                f"{weight.quantizer} times {inputs.quantizer} is no product of 8-bit integers"
            )
        self._inputs = inputs
        self._packed = weight
        (plane,) = weight.quantizer.integer_codes(weight.dequantize(), weight.scales)
        self._scales = plane.scales * plane.quantum
        self._multiply = _multiplication(plane.values)

    @property
    def nbytes(self) -> int:
        return self._packed.nbytes + math.prod(self._packed.shape)

    @property
    def value_nbytes(self) -> int:
        return 0

    def keep(self) -> None:
        """Nothing more: the integers, a byte each, are always kept."""

    def __call__(self, x: Tensor, bias: Tensor | None, shift: Tensor | None = None) -> Tensor:
        integers, scales = self._inputs.integers(x, shift)
        result = self._multiply(integers).mul_(scales).mul_(self._scales)
        result = result if bias is None else result + bias
        return result.view(*x.shape[:-1], -1).to(x.dtype)


def are_integers(weight: Quantizer, inputs: Quantizer) -> bool:
    """Whether a layer is one product of 8-bit integers with a scale for each token and channel."""
    per_row = isinstance(weight.granularity, PerChannel), isinstance(inputs.granularity, PerToken)
    if not all(per_row) or largest_integer(weight.format) is None:
        return False
    largest = largest_integer(inputs.format)
    # Less a zero point, an integer reaches twice as far.
    return largest is not None and (_is_symmetric(inputs.format) or 2 * largest < 128)


def largest_integer(fmt: Format) -> int | None:
    """The largest magnitude of a format's levels as integers; None if it is not below 128, or they
    have no common quantum as in a dual format.
    """
    if isinstance(fmt, DualFormat):
        return None
    largest = round(-fmt.min / fmt.quantum)
    return largest if largest < 128 else None


def _is_symmetric(fmt: Format) -> bool:
    return not (isinstance(fmt, IntFormat) and not fmt.symmetric)


def _multiplication(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """The product of int8 rows with int8 (out_channels, in_channels), float32, rounded once."""
    if weight.device.type != "cpu":
        transposed = weight.t()
        return lambda integers: torch._int_mm(integers, transposed).float()
    packed = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int64)

    def multiply(integers: Tensor) -> Tensor:
        return torch.ops.onednn.qlinear_pointwise(
            integers, 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )

    return multiply
