"""The straight-through gradient: rounding counts as the identity, clipping as a constant."""

from typing import Any

import torch
from torch import Tensor


def straight_through(x: Tensor, values: Tensor, clip_mask: Tensor | None) -> Tensor:
    """`values`, with a gradient that passes to `x` as if they were `x`.

    Args:
        x: the tensor that was quantized, of any shape.
        values: the quantized tensor, of the same shape.
        clip_mask: bool, of the same shape: True where the gradient passes, False where the value
            was clipped and gets 0. None passes all of it.
    """
    return _StraightThrough.apply(x, values, clip_mask)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, clip_mask: Tensor | None) -> Tensor:
        ctx.clip_mask = clip_mask
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient if ctx.clip_mask is None else gradient * ctx.clip_mask, None, None
