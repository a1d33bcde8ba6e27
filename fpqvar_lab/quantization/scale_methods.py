"""How the size of a scale is chosen: from the largest magnitude of a row, or by clipping it.

A method gives each row an amax, the magnitude that its scale maps on the format's largest level.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AbsMax:
    """The largest magnitude of the row: nothing saturates."""


@dataclass(frozen=True)
class Percentile:
    """The magnitude that `percent` per cent of the row's nonzero magnitudes do not exceed (an order
    statistic).

    Raises:
        ValueError: when `percent` is not above 0 and at most 100.
    """

    percent: float = 99.9

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise ValueError(f"percent {self.percent} is not in (0, 100]")

    def amax(self, magnitudes: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
        """The amax (rows,) of `magnitudes` (rows, n); `error` is not used."""
        descending = magnitudes.sort(-1, descending=True).values
        count = (magnitudes > 0).sum(-1, keepdim=True)
        rank = torch.ceil(count.double() * self.percent / 100).long()
        return descending.gather(-1, (count - rank).clamp_min(0)).squeeze(-1)


@dataclass(frozen=True)
class MseSearch:
    """The largest magnitude times the ratio with the least squared error of the row, the first of
    equals.

    Args:
        ratios: the ratios that are tried. Each costs one quantization of the tensor.

    Raises:
        ValueError: when there are none, or one is not positive.
    """

    ratios: tuple[float, ...] = tuple(1 - index / 40 for index in range(21))

    def __post_init__(self) -> None:
        if not self.ratios or min(self.ratios) <= 0:
            raise ValueError(f"ratios {self.ratios} must be positive, and at least one")

    def amax(self, magnitudes: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
        """The amax (rows,) of `magnitudes` (rows, n) with the least `error(amax) -> (rows,)`."""
        largest = magnitudes.amax(-1)
        best = largest * self.ratios[0]
        if len(self.ratios) == 1:
            return best
        least = error(best)
        for ratio in self.ratios[1:]:
            amax = largest * ratio
            errors = error(amax)
            best = torch.where(errors < least, amax, best)
            least = torch.minimum(errors, least)
        return best


AmaxSearch = Percentile | MseSearch
ScaleMethod = AbsMax | AmaxSearch

ABSMAX = AbsMax()
MSE = MseSearch()


def ratio(value: float) -> MseSearch:
    """The largest magnitude times one fixed ratio: clipping without a search."""
    return MseSearch((value,))


def percentile(percent: float) -> Percentile:
    """A `Percentile`: the magnitude that `percent` per cent do not exceed."""
    return Percentile(percent)
