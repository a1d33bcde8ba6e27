"""A linear layer with scaled, transformed and quantized input channels, and its error.

It is computed as ``y = Q((x * s) H) Q((W / s) H)^T``: one positive factor ``s`` for each input
channel, H an orthogonal transform or nothing, so that without the quantizers Q the product is
``x W^T`` whatever the factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from fpqvar_lab.quantization import Quantizer
from fpqvar_lab.transforms.hadamard import GroupHadamard


@dataclass(frozen=True)
class QuantizedProduct:
    """A linear layer as it is computed after scaling, transformation and quantization.

    Args:
        quantizer: quantizes the activations.
        weight_quantizer: quantizes the weight; by default the same as the activations.
        transform: the transform of the input channels of both; none by default.
    """

    quantizer: Quantizer
    weight_quantizer: Quantizer | None = None
    transform: GroupHadamard | None = None

    def inputs(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """What the layer multiplies: ``Q((x * s) H)``, the shape of x (..., channels)."""
        return self.quantizer(self._transformed(x if scale is None else x * scale))

    def weight(self, weight: Tensor, scale: Tensor | None = None) -> Tensor:
        """What it multiplies with: ``Q((W / s) H)``, the shape of W (out_channels, channels)."""
        quantizer = self.weight_quantizer or self.quantizer
        return quantizer(self._transformed(weight if scale is None else weight / scale))

    def __call__(self, x: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
        """The layer's output (..., out_channels), without bias."""
        return self.inputs(x, scale) @ self.weight(weight, scale).T

    def unchecked(self) -> "QuantizedProduct":
        """The same for inner loops, where the tensors are known to be finite."""
        own = self.weight_quantizer
        return QuantizedProduct(
            replace(self.quantizer, check=False),
            None if own is None else replace(own, check=False),
            self.transform,
        )

    def _transformed(self, x: Tensor) -> Tensor:
        return x if self.transform is None else self.transform(x)


class FittedScale(NamedTuple):
    """Factors and how they were found.

    Args:
        scale: the factors, positive; (channels,), or (steps, channels) where each step has its own.
        error: the relative squared output error with these factors: squared differences from
            ``x W^T`` over its squares, each averaged within a step and then over the steps.
        history: the error before the first epoch and after every epoch of learning; for
            SmoothQuant, the error with every strength that was tried.
        alpha: SmoothQuant's strength; None where the factors were learned.
    """

    scale: Tensor
    error: float
    history: tuple[float, ...]
    alpha: float | None = None


def output_error(
    activations_by_step: Sequence[Tensor],
    weight: Tensor,
    product: QuantizedProduct,
    scale: Tensor | None = None,
) -> float:
    """The relative squared output error of a product, as `FittedScale.error` defines it.

    Args:
        activations_by_step: the layer's inputs (tokens, channels), one tensor per step.
        weight: the layer's weight, (out_channels, channels).
        product: how the layer is computed.
        scale: factors (channels,), or (steps, channels) with a row per step; none by default.

    Raises:
        ValueError: when there are no activations, shapes do not fit, or there is a NaN or infinity.
    """
    with torch.no_grad():
        return ReferenceLayer(activations_by_step, weight, product).error(scale)


class ReferenceLayer:
    """A layer's calibration inputs and its outputs without quantization, and how far a product is
    from them.

    Args:
        activations_by_step: the layer's inputs (tokens, channels), one tensor per step.
        weight: the layer's weight, (out_channels, channels).
        product: how the layer is computed with quantization.

    Raises:
        ValueError: when there are no activations, shapes do not fit, or there is a NaN or infinity.
    """

    def __init__(
        self, activations_by_step: Sequence[Tensor], weight: Tensor, product: QuantizedProduct
    ) -> None:
        self.weight = weight.detach().float()
        self.activations = [_tokens(x, weight) for x in activations_by_step]
        if not self.activations:
            raise ValueError("activations_by_step is empty; give a tensor for each step")
        for x in (*self.activations, self.weight):
            product.quantizer(x)  # once with the check for NaN and infinity
        self.product = product.unchecked()
        self.outputs = [x @ self.weight.T for x in self.activations]
        power = sum(y.square().mean().item() for y in self.outputs) / len(self.outputs)
        self.power = power or 1.0

    def loss(self, step: int, scale: Tensor | None, weight: Tensor | None = None) -> Tensor:
        """Mean squared difference at one step; `weight` is the quantized one where it is known."""
        if weight is None:
            weight = self.product.weight(self.weight, scale)
        outputs = self.product.inputs(self.activations[step], scale) @ weight.T
        return (outputs - self.outputs[step]).square().mean()

    @torch.no_grad()
    def error(self, scale: Tensor | None) -> float:
        """The relative squared output error, as `FittedScale.error` defines it."""
        if scale is not None and scale.ndim == 2:
            losses = [self.loss(step, row) for step, row in enumerate(scale)]
        else:
            weight = self.product.weight(self.weight, scale)
            losses = [self.loss(step, scale, weight) for step in range(len(self.activations))]
        return torch.stack(losses).mean().item() / self.power


def _tokens(x: Tensor, weight: Tensor) -> Tensor:
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"activations have {x.shape[-1]} channels; weight has {weight.shape[1]}")
    x = x.clone() if x.is_inference() else x.detach()  # autograd refuses inference tensors
    return x.reshape(-1, x.shape[-1]).to(weight.device, torch.float32)
