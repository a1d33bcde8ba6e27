"""Memory that is used again: for operands and unpacked weights, which live for one product.

A fresh tensor of megabytes costs as much as the pass that fills it, for the system hands out its
pages one by one. Each thread has its own memory, since models may run in several.
"""

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

_own = threading.local()


def scratch(purpose: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor on the CPU with undefined content, valid until the next call for the same purpose.

    Args:
        purpose: name of the use; tensors that live at the same time need different ones.
        shape: shape of the tensor.
        dtype: type of the tensor's values.
    """
    held: dict[tuple[str, torch.dtype], Tensor] = _own.__dict__.setdefault("held", {})
    count, key = math.prod(shape), (purpose, dtype)
    if key not in held or held[key].numel() < count:
        held[key] = torch.empty(count, dtype=dtype)
    return held[key][:count].view(*shape)
