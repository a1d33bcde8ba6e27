"""AdaLN's linear layers with packed weights and inputs in high precision.

They hold a third of a VAR and run once per image. So it is their size that counts, and unpacking
costs next to nothing.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fpqvar_lab.execution import WeightOperand, product
from fpqvar_lab.quantization import QuantizedTensor, Quantizer
from fpqvar_lab.var import VAR, AdaLN

_WEIGHT = "weight_"


class WeightOnlyLinear(nn.Module):
    """A linear layer whose weight is kept as packed low-bit codes; its input is not quantized.

    Args:
        weight: the packed weight, (out_channels, in_channels).
        bias: the bias (out_channels,), which is never quantized; None for none.
    """

    bias: Tensor | None

    def __init__(self, weight: QuantizedTensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._weight = weight
        for name, tensor in weight.state_dict(_WEIGHT).items():
            self.register_buffer(name, tensor)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, False))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], prefix: str = "") -> "WeightOnlyLinear":
        """The layer whose `state_dict(prefix=prefix)` this is.

        Raises:
            KeyError, ValueError: when the state does not describe one.
        """
        weight = QuantizedTensor.from_state_dict(state, prefix + _WEIGHT)
        return cls(weight, state.get(prefix + "bias"))

    @property
    def weight(self) -> QuantizedTensor:
        """The packed weight."""
        return self._weight

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_channels) -> (..., out_channels), computed in the dtype of `x`."""
        if x.dtype not in (torch.float32, torch.bfloat16) or torch.is_grad_enabled():
            return nn.functional.linear(x, self._weight.dequantize().to(x.dtype), self.bias)
        weight = WeightOperand(self._weight, torch.float32)
        bias = None if self.bias is None else self.bias.float()
        return product(x.float(), weight, bias).to(x.dtype)

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses."""
        weight = self._weight.quantizer.format
        return f"{self.in_features}, {self.out_features}, weight={weight}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WeightOnlyLinear":
        # Codes and scales move between devices with the model, but keep their own dtypes.
        if self.bias is not None:
            self.bias.data = fn(self.bias.data)
        device = fn(torch.empty(0, device=self._weight.packed.device)).device
        self._weight = self._weight.to(device)
        self._buffers.update(self._weight.state_dict(_WEIGHT))
        return self


def pack_adaln(model: VAR, quantizer: Quantizer) -> None:
    """Pack the weights of all of a model's AdaLN layers, in place.

    Args:
        model: the model; factors must have been folded before.
        quantizer: of the weights (out_channels, in_channels), without a scale for the tensor.
    """
    for module in adaln_layers(model).values():
        linear = module.linear
        bias = None if linear.bias is None else linear.bias.detach()
        module[1] = WeightOnlyLinear(quantizer.quantize(linear.weight.detach()), bias)


def adaln_layers(model: VAR) -> dict[str, AdaLN]:
    """A model's AdaLN layers by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, AdaLN)}
