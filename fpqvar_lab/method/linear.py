"""A linear layer whose weight is kept as packed low-bit codes and whose input is quantized."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpqvar_lab.execution import Execution, FloatProduct, InputPass, IntegerProduct, Product
from fpqvar_lab.quantization import QuantizedTensor, Quantizer
from fpqvar_lab.transforms import GroupHadamard

_WEIGHT = "weight_"


class QuantLinear(nn.Module):
    """Computes ``Q((x * s) H) W^T + bias`` for a weight W that is stored packed.

    The weight holds everything that was folded into it: ``W = Q((W0 / s) H)``. All of it is in the
    `state_dict`, as buffers; `from_state` makes the layer again.

    Args:
        weight: the packed weight, (out_channels, in_channels).
        bias: the bias (out_channels,), which is never quantized; None for none.
        input_quantizer: the quantizer of the activations.
        transform: the Hadamard transform of the input channels; None for none.
        scale: factors (in_channels,) that are applied here because they fold into no layer before.
    """

    bias: Tensor | None
    master_weight: nn.Parameter | None
    input_scale: Tensor | None
    transform: GroupHadamard | None

    def __init__(
        self,
        weight: QuantizedTensor,
        bias: Tensor | None,
        input_quantizer: Quantizer,
        transform: GroupHadamard | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.input_quantizer = input_quantizer
        self._weight = weight
        for name, tensor in weight.state_dict(_WEIGHT).items():
            self.register_buffer(name, tensor)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, False))
        self.transform = transform
        self.register_buffer("input_scale", scale)
        self._values: Tensor | None = None
        self._execution: Execution = "reference"
        self._product: Product | None = None
        self._keeps_values = False
        self.register_parameter("master_weight", None)

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], input_quantizer: Quantizer, prefix: str = ""
    ) -> "QuantLinear":
        """The layer whose `state_dict(prefix=prefix)` this is.

        Raises:
            KeyError, ValueError: when the state does not describe one.
        """
        signs = state.get(prefix + "transform.signs")
        return cls(
            QuantizedTensor.from_state_dict(state, prefix + _WEIGHT),
            state.get(prefix + "bias"),
            input_quantizer,
            None if signs is None else GroupHadamard(len(signs), signs),
            state.get(prefix + "input_scale"),
        )

    @property
    def weight(self) -> QuantizedTensor:
        """The packed weight."""
        return self._weight

    @property
    def nbytes(self) -> int:
        """Bytes of the weight as it is held: codes, scales, and values where they are kept."""
        if self._product is not None:
            return self._product.nbytes
        return self._weight.nbytes + (0 if self._values is None else self._values.nbytes)

    @property
    def execution(self) -> Execution:
        """How the layer is computed; see `execute`."""
        return self._execution

    def execute(self, execution: Execution, *, keep_values: bool = False) -> None:
        """Compute the layer from now on in another way; where a gradient is asked for, as before.

        Args:
            execution: "reference" for each step by itself, else "float32", "bfloat16" or "int8".
            keep_values: whether the unpacked weight is kept beside its codes.

        Raises:
            ValueError: when the weight or the input is not such that "int8" serves them.
        """
        self._values, self._product = None, None
        self._execution, self._keeps_values = execution, keep_values
        if execution == "reference":
            if keep_values:
                self.materialize()
            return
        inputs = InputPass(self.input_quantizer, self.transform, self.input_scale)
        if execution == "int8":
            self._product = IntegerProduct(self._weight, inputs)
        else:
            self._product = FloatProduct(self._weight, inputs, getattr(torch, execution))
        if keep_values:
            self._product.keep()

    def materialize(self) -> None:
        """Keep the weight's values as well as its codes: faster calls, for as much memory as before
        quantization.
        """
        self._values = self._weight.dequantize()

    def unfreeze(self) -> nn.Parameter:
        """Make the weight a parameter that is quantized in every call, its scales fixed.

        Returns:
            The parameter `master_weight`, (out_channels, in_channels), to be learned until
            `requantize`.
        """
        self.master_weight = nn.Parameter(self._weight.dequantize())
        self.execute("reference")
        return self.master_weight

    def requantize(self) -> None:
        """Pack the learned weight again, with the scales it had."""
        assert self.master_weight is not None
        packed = self._weight.quantizer.quantize(self.master_weight.detach(), self._weight.scales)
        self._weight, self.master_weight = packed, None
        self._buffers.update(packed.state_dict(_WEIGHT))

    def inputs(self, x: Tensor) -> Tensor:
        """What is multiplied with the weight, for activations (..., in_channels)."""
        if self.input_scale is not None:
            x = x * self.input_scale.to(x.dtype)
        if self.transform is not None:
            x = self.transform(x)
        return self.input_quantizer(x)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., in_channels) -> (..., out_channels); `bias` replaces the layer's own."""
        bias = self.bias if bias is None else bias
        if self._product is not None and not (torch.is_grad_enabled() and x.requires_grad):
            return self._product(x, bias)
        weight = self._current_weight()
        return F.linear(self.inputs(x), weight.to(x.dtype), bias)

    def _current_weight(self) -> Tensor:
        if self.master_weight is not None:
            return replace(self._weight.quantizer, check=False)(
                self.master_weight, self._weight.scales
            )
        return self._weight.dequantize() if self._values is None else self._values

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses."""
        weight = self._weight.quantizer.format
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, "
            f"weight={weight}, input={self.input_quantizer.format}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantLinear":
        # Codes and scales move between devices with the model, but keep their own dtypes.
        if self.bias is not None:
            self.bias.data = fn(self.bias.data)
        device = fn(torch.empty(0, device=self._weight.packed.device)).device
        self._weight = self._weight.to(device)
        self._buffers.update(self._weight.state_dict(_WEIGHT))
        if self.input_scale is not None:
            self.input_scale = self.input_scale.to(device)
        if self.transform is not None:
            self.transform.to(device)
        if self._values is not None:
            self.materialize()
        if self._product is not None:
            self.execute(self._execution, keep_values=self._keeps_values)
        return self
