"""Shift by step: the mean of each step is taken out of a layer's input before it is quantized.

With the mean mu of a step, ``x W^T = (x - mu) W^T + mu W^T``: only ``x - mu`` is quantized, and the
second term is a bias for each step, exact in the original weight. Where AdaLN gives the input, the
subtraction is part of its shift and costs nothing. Relatives: Outlier Suppression+ (arXiv
2304.09145) shifts by one vector for all inputs; a VAR's steps have means of their own.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Shift = Literal["none", "all", "step"]


def step_means(inputs: Sequence[Tensor], shift: Shift) -> Tensor | None:
    """What is subtracted from the inputs of each step.

    Args:
        inputs: a tensor (tokens, channels) for each step.
        shift: "step" for the mean of each step, "all" for the mean over all steps, each counted
            once, "none" for None.

    Returns:
        (steps, channels) float32, or None.

    Raises:
        ValueError: there are no inputs to take means of.
    """
    if shift == "none":
        return None
    if not inputs:
        raise ValueError(f"shift {shift!r} needs the layer's inputs; there are none")
    means = torch.stack([x.double().mean(0) for x in inputs])
    if shift == "all":
        means = means.mean(0, keepdim=True).expand_as(means)
    return means.float().contiguous()


def mean_power(inputs: Sequence[Tensor]) -> Tensor:
    """The fraction of each channel's power that its means by step account for.

    Args:
        inputs: a tensor (tokens, channels) for each step; steps count alike, whatever their tokens.

    Returns:
        (channels,) float64 in [0, 1]; 0 for a channel that is always 0.
    """
    power = torch.stack([x.double().square().mean(0) for x in inputs]).sum(0)
    means = torch.stack([x.double().mean(0).square() for x in inputs]).sum(0)
    return torch.where(power > 0, means / power, 0.0)
