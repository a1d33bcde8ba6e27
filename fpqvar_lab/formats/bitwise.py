"""`torch.where` by bit operations in eager mode, and by comparisons where it is compiled.

On a CPU, eager `torch.where` takes thirty times as long as a multiplication; three bit operations
do the same. Inductor vectorizes comparisons, but not bit casts.
"""

import torch
from torch import Tensor

INTEGER_OF = {torch.float32: torch.int32, torch.float64: torch.int64}


def negative_mask(x: Tensor) -> Tensor:
    """A mask for `select` where `x` (float32, float64) is negative; -0.0 may count as either."""
    if torch.compiler.is_compiling():
        return x < 0
    integer = INTEGER_OF[x.dtype]
    return x.contiguous().view(integer) >> (torch.iinfo(integer).bits - 1)


def select(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """`chosen` where the mask is set, `other` elsewhere, bit for bit.

    Args:
        mask: bool, or from `negative_mask`.
        chosen: the values where the mask is set; float32 or float64, in a shape that broadcasts
            with the mask.
        other: the values elsewhere, in the same dtype and shape.
    """
    if torch.compiler.is_compiling():
        return torch.where(mask, chosen, other)
    integer = INTEGER_OF[chosen.dtype]
    if mask.dtype == torch.bool:
        mask = mask.to(integer).neg_()
    below, above = chosen.contiguous().view(integer), other.contiguous().view(integer)
    return (above ^ ((above ^ below) & mask.to(integer))).view(chosen.dtype)
