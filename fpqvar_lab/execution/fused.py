"""The Hadamard transform and the quantization of its result in one compiled pass.

A Hadamard matrix of order n is a Kronecker product, ``H_n = H_4 x H_{n/4}``. Each quarter of a
group is multiplied with the small factor, into which its signs are folded. One kernel then reads
the four products once: it adds them up as `H_4` says, finds the largest magnitude, and rounds.
"""

import functools
import math

import torch
from torch import Tensor

from fpqvar_lab.quantization import (
    ABSMAX,
    Kernel,
    Quantizer,
    ScaleDtype,
    Symmetric,
    can_compile,
    per_group,
)
from fpqvar_lab.transforms import GroupHadamard, hadamard_matrix

# Of 2, 4 and 8 the fastest: the product with the small factor gets cheaper, the sums get longer.
_PARTS = 4
_GROUPS = (16, 32, 64, 128, 256)


def transform_and_quantize(x: Tensor, transform: GroupHadamard, quantizer: Quantizer) -> Tensor:
    """``quantizer(transform(x))``, compiled where that is possible.

    That is with `compile=True` in the quantizer, float32 on a CPU without a gradient, a format with
    one scale, largest-magnitude scales in float32, and groups of scales that are those of the
    transform, 16 to 256 channels and a power of two. Otherwise, and without a compiler, the two run
    one after the other.

    The compiled sums have another order, closer to the exact result. So the two routes differ in
    the last bits of the scales, and about one value in a million falls on the neighbouring level.

    Raises:
        TypeError: when `x` is not floating point.
        ValueError: as the transform and the quantizer do.
    """
    if not _is_fusible(x, transform, quantizer):
        return quantizer(transform(x))
    parts = _products(x.detach(), transform)
    for part in parts:
        torch._dynamo.maybe_mark_dynamic(part, 0)
    assert isinstance(quantizer.scheme, Symmetric)
    values, amax = _kernel(quantizer.scheme, transform.group)(*parts)
    if not math.isfinite(amax.amax().item()):
        return quantizer(transform(x))  # which says what is wrong
    return values.reshape(x.shape)


def _is_fusible(x: Tensor, transform: GroupHadamard, quantizer: Quantizer) -> bool:
    group = transform.group
    return (
        quantizer.compile
        and can_compile(quantizer.scheme, x)
        and isinstance(quantizer.scheme, Symmetric)
        and (quantizer.scale, quantizer.scale_dtype) == (ABSMAX, ScaleDtype.FLOAT32)
        and group in _GROUPS
        and quantizer.granularity in (per_group(group), per_group(group, x.dim() - 1))
        and x.numel() > 0
        and x.shape[-1] % group == 0
        and not (torch.is_grad_enabled() and x.requires_grad)
    )


def _products(x: Tensor, transform: GroupHadamard) -> list[Tensor]:
    """(groups, n) for each part of the groups: its product with the small factor.

    Four products and not a batch of four: the allocator keeps their smaller results for the next
    call, where it returns a large one to the system, which then hands out empty pages anew.
    """
    groups = x.reshape(-1, _PARTS, transform.group // _PARTS)
    factors = _signed_factor(transform)
    with torch.autocast("cpu", enabled=False):
        return [torch.mm(groups[:, part], factors[part]) for part in range(_PARTS)]


def _signed_factor(transform: GroupHadamard) -> Tensor:
    """(parts, n, n): for each part of a group the small factor with that part's signs."""
    length = transform.group // _PARTS
    factor = hadamard_matrix(length, torch.float32) * (1 / math.sqrt(transform.group))
    return transform.signs.float().view(_PARTS, length, 1) * factor


@functools.lru_cache(maxsize=64)
def _kernel(scheme: Symmetric, group: int) -> Kernel:
    def add_up_and_quantize(*parts: Tensor) -> tuple[Tensor, Tensor]:
        sums = _butterfly(list(parts))
        amax = functools.reduce(torch.maximum, [part.abs() for part in sums]).amax(-1)
        columns = scheme.columns(scheme.store((amax,), ScaleDtype.FLOAT32))
        return torch.cat([scheme.quantize(part, *columns) for part in sums], -1), amax

    return Kernel(add_up_and_quantize)


def _butterfly(parts: list[Tensor]) -> list[Tensor]:
    """Sylvester's matrix, not normalised, times a list of like tensors."""
    if len(parts) == 1:
        return parts
    pairs = list(zip(parts[: len(parts) // 2], parts[len(parts) // 2 :], strict=True))
    return _butterfly([a + b for a, b in pairs]) + _butterfly([a - b for a, b in pairs])
