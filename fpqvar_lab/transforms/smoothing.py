"""Factors that scale a layer's input channels before quantization, and the weight back by as much.

All act as ``y = Q((x * s) H) Q((W / s) H)^T``: one positive factor ``s`` for each input channel, H
an orthogonal transform or nothing, so that without the quantizers Q the product is ``x W^T``
whatever the factors. Three ways to them: SmoothQuant's closed form (arXiv 2211.10438), its strength
searched, and the GHT-aware learnable transformation (GALT) of FPQVAR (arXiv 2505.16335), which
learns them through the very transform that is used later. Where the input comes from an AdaLN, the
factors fold into that layer and cost nothing at run time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fpqvar_lab.quantization import Quantizer
from fpqvar_lab.transforms.hadamard import GroupHadamard

ALPHAS = tuple(round(0.05 * i, 2) for i in range(21))
"""The strengths that `fit_smoothquant` tries."""


class FittedScale(NamedTuple):
    """Factors and how they were found.

    Args:
        scale: positive, (channels,); (steps, channels) where each step has its own.
        error: relative squared output error with these factors: squared differences from
            ``x W^T`` over its squares, each averaged within a step and then over the steps.
        history: that error before the first epoch and after every epoch; for SmoothQuant, for
            every strength tried.
        alpha: SmoothQuant's strength, where that is what was fitted.
    """

    scale: Tensor
    error: float
    history: tuple[float, ...]
    alpha: float | None = None


@dataclass(frozen=True)
class QuantizedProduct:
    """A linear layer as it is computed after scaling, transformation and quantization.

    Args:
        quantizer: of the activations.
        weight_quantizer: of the weight; the same as the activations' by default.
        transform: of the input channels of both; none by default.
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


def output_error(
    activations_by_step: Sequence[Tensor],
    weight: Tensor,
    product: QuantizedProduct,
    scale: Tensor | None = None,
) -> float:
    """The relative squared output error of a product, as `FittedScale.error` defines it.

    Args:
        activations_by_step: the layer's inputs (tokens, channels), a tensor for each step.
        weight: (out_channels, channels).
        product: how the layer is computed.
        scale: (channels,), or (steps, channels) with a row for each step; none by default.
    """
    with torch.no_grad():
        return _Layer(activations_by_step, weight, product).error(scale)


def smoothquant_scale(activation_amax: Tensor, weight: Tensor, alpha: float = 0.5) -> Tensor:
    """SmoothQuant's factors, for multiplication with x: ``max|W_j|^(1-alpha) / max|x_j|^alpha``.

    Args:
        activation_amax: largest magnitude of each input channel on calibration data, (channels,).
        weight: (out_channels, channels).
        alpha: how much of the difficulty moves into the weight: 0 none of the activations', 1 all.

    Returns:
        (channels,), geometric mean 1. A channel that is zero throughout has the factor of one as
        small as the smallest that is not.

    Raises:
        ValueError: when alpha is outside 0 ... 1, or shapes do not fit.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha}; allowed are 0 ... 1")
    if activation_amax.shape != weight.shape[1:]:
        raise ValueError(
            f"activation_amax has shape {tuple(activation_amax.shape)}; "
            f"weight {tuple(weight.shape)} needs ({weight.shape[1]},)"
        )
    strength = (1 - alpha) * _log_amax(weight.abs().amax(0))
    strength = strength - alpha * _log_amax(activation_amax)
    return (strength - strength.mean()).exp().to(weight.dtype)


def fit_smoothquant(
    activations_by_step: Sequence[Tensor],
    weight: Tensor,
    product: QuantizedProduct,
    alphas: Sequence[float] = ALPHAS,
) -> FittedScale:
    """SmoothQuant's factors with the strength of smallest output error.

    Args:
        activations_by_step: the layer's inputs (tokens, channels), a tensor for each step.
        weight: (out_channels, channels).
        product: how the layer is computed.
        alphas: strengths to try.
    """
    layer = _Layer(activations_by_step, weight, product)
    amax = torch.stack([x.abs().amax(0) for x in layer.activations]).amax(0)
    scales = [smoothquant_scale(amax, layer.weight, alpha) for alpha in alphas]
    with torch.no_grad():
        errors = [layer.error(scale) for scale in scales]
    best = min(range(len(errors)), key=errors.__getitem__)
    return FittedScale(scales[best], errors[best], tuple(errors), alphas[best])


def fold_into_adaln(
    linear: nn.Linear, scale: Tensor, *, scale_part: int, shift_part: int, parts: int = 6
) -> None:
    """Fold factors into the AdaLN layer before them, in place: then it gives ``h * s`` for ``h``.

    AdaLN gives ``h = LN(x) * (1 + scale) + shift``, where scale and shift are rows of its linear
    layer, so ``h * s`` has the scale ``(1 + scale) * s - 1`` and the shift ``shift * s``: the rows
    times s, and biases ``s * (1 + b) - 1`` and ``s * b``. Computed in float64.

    Args:
        linear: the layer, (parts * channels, channels), with a bias.
        scale: (channels,).
        scale_part: which of its parts is the scale.
        shift_part: which is the shift.
        parts: how many there are.

    Raises:
        ValueError: when the shapes do not fit.
    """
    channels = linear.out_features // parts
    if scale.shape != (channels,) or linear.out_features % parts:
        raise ValueError(
            f"scale has shape {tuple(scale.shape)}; {parts} parts of {linear.out_features} outputs "
            f"take ({channels},)"
        )
    factors = scale.detach().double().to(linear.weight.device)
    with torch.no_grad():
        for part, offset in ((scale_part, 1.0), (shift_part, 0.0)):
            rows = slice(part * channels, (part + 1) * channels)
            linear.weight[rows] = (linear.weight[rows].double() * factors[:, None]).to(
                linear.weight
            )
            biases = factors * (linear.bias[rows].double() + offset) - offset
            linear.bias[rows] = biases.to(linear.bias)


class _Layer:
    """A layer's calibration inputs and true outputs, and the error of a product against them."""

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


def _log_amax(amax: Tensor) -> Tensor:
    amax = amax.double()
    positive = amax[amax > 0]
    smallest = positive.min() if positive.numel() else amax.new_ones(())
    return amax.clamp_min(smallest).log()
