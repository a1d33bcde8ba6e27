"""SmoothQuant (arXiv 2211.10438): factors in closed form from the largest magnitudes of channels,
and the search for their strength.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fpqvar_lab.transforms.quantized_product import FittedScale, QuantizedProduct, ReferenceLayer

ALPHAS = tuple(round(0.05 * i, 2) for i in range(21))
"""The strengths that `fit_smoothquant` tries."""


def smoothquant_scale(activation_amax: Tensor, weight: Tensor, alpha: float = 0.5) -> Tensor:
    """SmoothQuant's factors, for multiplication with x: ``max|W_j|^(1-alpha) / max|x_j|^alpha``.

    Args:
        activation_amax: the largest magnitude of each input channel on calibration data,
            (channels,).
        weight: the layer's weight, (out_channels, channels).
        alpha: how much of the activations' range moves into the weight, from 0 to 1.

    Returns:
        The factors, (channels,), with a geometric mean of 1. A channel of zeros gets the factor it
        would have with the smallest magnitude of all channels that are not zero.

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
        activations_by_step: the layer's inputs (tokens, channels), one tensor per step.
        weight: the layer's weight, (out_channels, channels).
        product: how the layer is computed.
        alphas: the strengths to try.
    """
    layer = ReferenceLayer(activations_by_step, weight, product)
    amax = torch.stack([x.abs().amax(0) for x in layer.activations]).amax(0)
    scales = [smoothquant_scale(amax, layer.weight, alpha) for alpha in alphas]
    with torch.no_grad():
        errors = [layer.error(scale) for scale in scales]
    best = min(range(len(errors)), key=errors.__getitem__)
    return FittedScale(scales[best], errors[best], tuple(errors), alphas[best])


def _log_amax(amax: Tensor) -> Tensor:
    amax = amax.double()
    positive = amax[amax > 0]
    smallest = positive.min() if positive.numel() else amax.new_ones(())
    return amax.clamp_min(smallest).log()
