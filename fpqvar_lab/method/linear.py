"""A linear layer whose weight is kept as packed low-bit codes and whose input is quantized."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpqvar_lab.execution import Execution, FloatProduct, InputPass, IntegerProduct, Product
from fpqvar_lab.quantization import QuantizedTensor, Quantizer
from fpqvar_lab.transforms import GroupHadamard

_WEIGHT = "weight_"


@dataclass(frozen=True)
class StepShift:
    """What is subtracted from a layer's input in each step, and what that leaves to be added.

    Args:
        input: (steps, in_channels), subtracted after the factors and before the transform.
        bias: (steps, out_channels), the product of the step's mean with the original weight.
    """

    input: Tensor
    bias: Tensor


class QuantLinear(nn.Module):
    """Computes ``Q((x * s - mu) H) W^T + bias + b`` for a weight W that is stored packed.

    The weight holds everything that was folded into it: ``W = Q((W0 / s) H)``. The shift mu and the
    bias b that makes up for it are those of each token's step. All of it is in the `state_dict`, as
    buffers; `from_state` makes the layer again.

    Args:
        weight: the packed weight, (out_channels, in_channels).
        bias: the bias (out_channels,), which is never quantized; None for none.
        input_quantizer: the quantizer of the activations.
        transform: the Hadamard transform of the input channels; None for none.
        scale: factors (in_channels,) that are applied here because they fold into no layer before.
        shift: the shift by step, or None. A layer with one is told by `token_steps` which tokens
            come: pairs of a step and how many tokens of it follow; the model does so.
    """

    bias: Tensor | None
    master_weight: nn.Parameter | None
    input_scale: Tensor | None
    input_shift: Tensor | None
    step_bias: Tensor | None
    token_steps: Sequence[tuple[int, int]] | None
    transform: GroupHadamard | None

    def __init__(
        self,
        weight: QuantizedTensor,
        bias: Tensor | None,
        input_quantizer: Quantizer,
        transform: GroupHadamard | None = None,
        scale: Tensor | None = None,
        shift: StepShift | None = None,
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
        self.register_buffer("input_shift", None if shift is None else shift.input)
        self.register_buffer("step_bias", None if shift is None else shift.bias)
        self.token_steps = None
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
            _read_shift(state, prefix),
        )

    @property
    def weight(self) -> QuantizedTensor:
        """The packed weight."""
        return self._weight

    @property
    def nbytes(self) -> int:
        """The bytes that hold the weight, with scales, and with values where they are kept."""
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
        if self.input_shift is None:
            return self._inputs(x, None)
        shift = self.input_shift
        return torch.cat([self._inputs(part, shift[step]) for step, part in self._by_step(x)], -2)

    def _inputs(self, x: Tensor, shift: Tensor | None) -> Tensor:
        if self.input_scale is not None:
            x = x * self.input_scale.to(x.dtype)
        if shift is not None:
            x = x - shift.to(x.dtype)
        if self.transform is not None:
            x = self.transform(x)
        return self.input_quantizer(x)

    def _by_step(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The parts of an input (..., tokens, channels) that belong to one step each."""
        runs = self.token_steps or ()
        if sum(count for _, count in runs) != x.shape[-2]:
            raise ValueError(
                f"the input has {x.shape[-2]} tokens, whose steps are not known; set token_steps, "
                "or call the model"
            )
        parts = x.split([count for _, count in runs], dim=-2)
        return zip((step for step, _ in runs), parts, strict=True)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., in_channels) -> (..., out_channels); `bias` replaces the layer's own."""
        bias = self.bias if bias is None else bias
        if self.input_shift is None or self.step_bias is None:
            return self._compute(x, bias, None)
        parts = []
        for step, part in self._by_step(x):
            added = self.step_bias[step].to(x.dtype)
            added = added if bias is None else added + bias
            parts.append(self._compute(part, added, self.input_shift[step]))
        return torch.cat(parts, -2)

    def _compute(self, x: Tensor, bias: Tensor | None, shift: Tensor | None) -> Tensor:
        if self._product is not None and not (torch.is_grad_enabled() and x.requires_grad):
            return self._product(x, bias, shift)
        weight = self._current_weight()
        return F.linear(self._inputs(x, shift), weight.to(x.dtype), bias)

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
        for name in ("input_scale", "input_shift", "step_bias"):
            tensor = self._buffers[name]
            self._buffers[name] = None if tensor is None else tensor.to(device)
        if self.transform is not None:
            self.transform.to(device)
        if self._values is not None:
            self.materialize()
        if self._product is not None:
            self.execute(self._execution, keep_values=self._keeps_values)
        return self


def _read_shift(state: Mapping[str, Tensor], prefix: str) -> StepShift | None:
    shift, bias = (state.get(prefix + name) for name in ("input_shift", "step_bias"))
    return None if shift is None or bias is None else StepShift(shift, bias)
