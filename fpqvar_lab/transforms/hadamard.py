"""Hadamard matrices, and the group-wise Hadamard transform (GHT) of activations and weights.

A Hadamard matrix has entries +1 and -1 and orthogonal rows, H H^T = n I. Sylvester's construction
gives the powers of two, Paley's (R. E. A. C. Paley, "On Orthogonal Matrices", 1933) the orders 12,
20 and 28; Kronecker products give the rest. The transform follows FPQVAR, arXiv 2505.16335.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fpqvar_lab.formats import require_float

# Odd factor of the order -> order of Paley's matrix with it -> the prime that gives that matrix.
_PALEY_ORDERS = {3: 12, 5: 20, 7: 28}
_PALEY_PRIMES = {12: 11, 20: 19, 28: 13}

# Up to here one matrix product is the fastest route (benchmarks/hadamard.py): it touches each value
# once, at the peak of the processor. A butterfly has 7 operations per value instead of 128, but in
# seven passes over memory. A product of two small factors is as fast and twice as accurate, but
# then the signs need a pass of their own, where one matrix absorbs them. Longer groups take it.
_LONGEST_PRODUCT = 128


def hadamard_matrix(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A Hadamard matrix of order `n`, (n, n), with entries +1 and -1; not normalised.

    Sylvester's, which is symmetric, for powers of two. Otherwise a Kronecker product of Paley's
    matrices of order 12, 20 and 28 with it, in general not symmetric. 1024, 1280, 1536, 1920 and
    2304, the widths of VAR, are all among the orders.

    Raises:
        ValueError: when these constructions do not reach `n`.
    """
    return _product(_factors(n), dtype)


def random_signs(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Random signs, float32 (n,), each +1 or -1 with equal odds."""
    return torch.randint(0, 2, (n,), generator=generator).mul_(2).sub_(1).float()


class GroupHadamard(nn.Module):
    """The normalised Hadamard transform of each group of neighbouring channels: an orthogonal map.

    In each group ``y = (x * signs) H / sqrt(group)``, with the same signs and the same H for all
    groups. It is computed in float32, or in float64 for float64 tensors, whatever `torch.autocast`
    says, and rounded once to the tensor's dtype. (A float32 product obeys
    `torch.set_float32_matmul_precision`; leave that at "highest".) Differentiable.

    Args:
        group: how many channels are transformed together, an order of `hadamard_matrix`; the width
            of `x` for the full transform.
        signs: the signs +1 and -1, (group,), from `random_signs`; all +1 by default. They are kept
            in the `state_dict`, for no seed gives the same signs on every version and device.

    Raises:
        ValueError: when there is no matrix of order `group`, or `signs` have another shape or other
            entries.
    """

    signs: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, group: int = 128, signs: Tensor | None = None) -> None:
        super().__init__()
        left, right = _split(_factors(group))
        self.group = group
        self.register_buffer("signs", _checked_signs(group, signs))
        self.register_buffer("left", _product(left, torch.float32), persistent=False)
        self.register_buffer("right", _product(right, torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The transform of `x` (..., channels), with its shape and dtype.

        Raises:
            TypeError: when `x` is not floating point.
            ValueError: when the group does not divide the channels.
        """
        return self._in_precision(self._transform, x)

    def inverse(self, y: Tensor) -> Tensor:
        """What was transformed into `y` (..., channels). Raises as `forward`."""
        return self._in_precision(self._invert, y)

    def fold_into_weight(self, weight: Tensor) -> Tensor:
        """The weight that takes transformed inputs: ``(x H) (W H)^T = x W^T``.

        Args:
            weight: (out_channels, in_channels); computed in float64, rounded once to its dtype.

        Raises:
            TypeError: when it is not floating point.
            ValueError: when the group does not divide its input channels.
        """
        require_float(weight)
        return self(weight.double()).to(weight.dtype)

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The matrix by which a group is multiplied from the right, (group, group)."""
        hadamard = self.right.to(dtype)
        if len(self.left) > 1:
            hadamard = torch.kron(self.left.to(dtype), hadamard)
        return self.signs.to(dtype)[:, None] * (1 / math.sqrt(self.group)) * hadamard

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses."""
        negative = int((self.signs < 0).sum())
        return f"group={self.group}, signs=({negative} of {self.group} negative)"

    def _in_precision(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        require_float(x)
        if x.dim() == 0 or x.shape[-1] % self.group:
            channels = x.shape[-1] if x.dim() else 0
            raise ValueError(f"group {self.group} does not divide {channels} channels")
        work = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            groups = function(x.to(work).reshape(-1, self.group))
        return groups.reshape(x.shape).to(x.dtype)

    def _transform(self, groups: Tensor) -> Tensor:
        if self.group <= _LONGEST_PRODUCT:
            return groups @ self.matrix(groups.dtype)
        left, right = self._scaled(groups.dtype)
        return _times_kron(groups * self.signs.to(groups.dtype), left, right)

    def _invert(self, groups: Tensor) -> Tensor:
        if self.group <= _LONGEST_PRODUCT:
            return groups @ self.matrix(groups.dtype).T
        left, right = self._scaled(groups.dtype)
        return _times_kron(groups, left.T, right.T) * self.signs.to(groups.dtype)

    def _scaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        # Only one factor is scaled: the other stays exact.
        return self.left.to(dtype), self.right.to(dtype) * (1 / math.sqrt(self.group))


def _times_kron(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``x @ kron(left, right)`` for a matrix `x` (rows, n), without the large matrix."""
    products = (x.reshape(-1, right.shape[0]) @ right).view(-1, left.shape[0], right.shape[0])
    return (left.T @ products).reshape(x.shape)


def _factors(n: int) -> tuple[int, ...]:
    """Orders whose Kronecker product, in this order, is the matrix: Paley's outside, twos within.

    (So a cut into two factors of like size exists for all widths of VAR.)
    """
    factors = _factors_or_none(n)
    if factors is None:
        raise ValueError(
            f"no Hadamard matrix of order {n} here; use a power of two, or 12, 20 or 28 times a "
            f"power of two, or products of these, such as {_reachable_near(n)}"
        )
    return factors


def _factors_or_none(n: int) -> tuple[int, ...] | None:
    if n < 1:
        return None
    twos = (n & -n).bit_length() - 1
    odd, paley = n >> twos, list[int]()
    for factor, order in _PALEY_ORDERS.items():
        while odd % factor == 0:
            odd, twos = odd // factor, twos - 2
            paley.append(order)
    if odd > 1 or twos < 0:
        return None
    return (*paley[:1], *[2] * twos, *paley[1:])


def _reachable_near(n: int) -> str:
    below = next((m for m in range(n - 1, 0, -1) if _factors_or_none(m) is not None), None)
    above = next(m for m in itertools.count(max(n + 1, 1)) if _factors_or_none(m) is not None)
    return f"{above}" if below is None else f"{below} or {above}"


def _split(factors: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The cut into two factors with the least sum of their orders; none for short groups."""
    if math.prod(factors) <= _LONGEST_PRODUCT:
        return (), factors
    cuts = [(factors[:cut], factors[cut:]) for cut in range(len(factors) + 1)]
    return min(cuts, key=lambda cut: math.prod(cut[0]) + math.prod(cut[1]))


def _product(factors: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    result = torch.ones(1, 1, dtype=dtype)
    for factor in factors:
        result = torch.kron(result, _base(factor).to(dtype))
    return result


def _base(order: int) -> Tensor:
    """The matrices all others are products of: order 2, and Paley's."""
    sylvester = torch.tensor([[1, 1], [1, -1]])
    if order == 2:
        return sylvester
    conference = _conference(_PALEY_PRIMES[order])
    identity = torch.eye(len(conference), dtype=torch.long)
    if len(conference) == order:
        return conference + identity
    return torch.kron(conference, sylvester) + torch.kron(identity, _DIAGONAL_BLOCK)


_DIAGONAL_BLOCK = torch.tensor([[1, -1], [-1, -1]])  # where the conference matrix is zero


def _conference(prime: int) -> Tensor:
    """Paley's matrix of order prime + 1: zeros on the diagonal, rows orthogonal.

    Symmetric if the prime is 1 modulo 4, skew if it is 3. Entry (i, j) is whether i - j is a square
    modulo the prime.
    """
    numbers = torch.arange(prime)
    character = torch.full((prime,), -1)
    character[numbers.square() % prime] = 1
    character[0] = 0
    border = 1 if prime % 4 == 1 else -1
    matrix = torch.zeros(prime + 1, prime + 1, dtype=torch.long)
    matrix[0, 1:], matrix[1:, 0] = 1, border
    matrix[1:, 1:] = character[(numbers[:, None] - numbers) % prime]
    return matrix


def _checked_signs(group: int, signs: Tensor | None) -> Tensor:
    if signs is None:
        return torch.ones(group)
    if signs.shape != (group,):
        raise ValueError(f"signs have shape {tuple(signs.shape)}; group {group} needs ({group},)")
    if not (signs.abs() == 1).all():
        raise ValueError("signs hold entries other than +1 and -1; use random_signs")
    return signs.detach().clone().float()
