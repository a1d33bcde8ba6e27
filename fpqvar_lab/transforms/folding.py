"""Factors folded into the AdaLN layer that gives a layer its input, where they cost nothing."""

import torch
from torch import Tensor, nn


def fold_into_adaln(
    linear: nn.Linear, scale: Tensor, *, scale_part: int, shift_part: int, parts: int = 6
) -> None:
    """Fold factors into the AdaLN layer before them, in place: then it gives ``h * s`` for ``h``.

    AdaLN gives ``h = LN(x) * (1 + scale) + shift``, where scale and shift are rows of its linear
    layer, so ``h * s`` has the scale ``(1 + scale) * s - 1`` and the shift ``shift * s``: the rows
    times s, and biases ``s * (1 + b) - 1`` and ``s * b``. Computed in float64.

    Args:
        linear: AdaLN's linear layer, weight (parts * channels, channels), with a bias.
        scale: the factors s, (channels,).
        scale_part: which part of the layer's outputs, from 0, is the scale.
        shift_part: which part is the shift.
        parts: how many parts the outputs have.

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
