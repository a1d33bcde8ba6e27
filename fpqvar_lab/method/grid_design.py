"""The best grid for given data: the magnitudes of least squared error among those that a hardware
holds exactly.

With magnitudes restricted to a finite set the optimum is found exactly, by dynamic programming over
the magnitudes in ascending order (J. D. Bruce, "Optimum quantization", 1965), for every ratio of
the largest level to the largest magnitude. Lloyd's iteration (S. P. Lloyd, "Least squares
quantization in PCM", 1982) gives the optimum without the restriction to compare with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fpqvar_lab.formats import GridFormat
from fpqvar_lab.quantization import Granularity

Vector = NDArray[np.float64]

CLIPS = tuple(1 - step / 50 for step in range(11))
"""Ratios of the largest level to the largest magnitude that are tried by default."""


@dataclass(frozen=True)
class GridDesign:
    """A grid that was designed for some data.

    Args:
        format: the grid, in the units of the integers that were allowed.
        clip: the ratio of the largest level to the largest magnitude of each group for which the
            grid was designed; `ratio(clip)` is the scale method for it.
        snr_db: the signal-to-noise ratio in decibels of the data rounded to it.
        unrestricted_db: the same for the best grid of as many magnitudes without any restriction,
            by Lloyd's iteration from this one.
    """

    format: GridFormat
    clip: float
    snr_db: float
    unrestricted_db: float


class Magnitudes:
    """Magnitudes in units of the largest of their group, each with its weight, sorted.

    Args:
        values: in [0, 1], any shape.
        weights: the square of each value's unit, in the same shape, so that squared errors add up
            to those of the data.
    """

    def __init__(self, values: Tensor, weights: Tensor) -> None:
        order = values.flatten().argsort()
        self.values: Vector = values.flatten()[order].double().numpy()
        weight: Vector = weights.flatten()[order].double().numpy()
        moments = [weight, weight * self.values, weight * self.values**2]
        self._sums = np.stack([np.concatenate([[0.0], np.cumsum(m)]) for m in moments])

    @property
    def power(self) -> float:
        """The sum of the data's squares."""
        return float(self._sums[2, -1])

    def places(self, points: Vector) -> NDArray[np.int64]:
        """How many of the values lie below each point."""
        return np.searchsorted(self.values, points)

    def errors(self, begin: NDArray, end: NDArray, levels: Vector) -> Vector:
        """The squared error of the values between two places when all of them go to a level."""
        weight, first, second = self._sums[:, end] - self._sums[:, begin]
        return second - 2 * levels * first + levels**2 * weight

    def centroids(self, begin: NDArray, end: NDArray, otherwise: Vector) -> Vector:
        """The weighted mean of the values between two places; `otherwise` where there are none."""
        weight, first, _ = self._sums[:, end] - self._sums[:, begin]
        return np.where(weight > 0, first / np.where(weight > 0, weight, 1), otherwise)

    def snr_db(self, levels: Vector) -> float:
        """The signal-to-noise ratio in decibels when each value goes to the nearest level."""
        error = self.errors(*self._cells(levels), levels).sum()
        return float(10 * np.log10(self.power / error)) if error > 0 else math.inf

    def lloyd(self, levels: Vector, *, iterations: int = 500) -> Vector:
        """Lloyd's iteration: levels and cells in turn, each the best for the other."""
        fixed = levels[:1] if levels[0] == 0 else levels[:0]
        for _ in range(iterations):
            levels = self.centroids(*self._cells(levels), otherwise=levels)
            levels[: len(fixed)] = fixed
        return levels

    def _cells(self, levels: Vector) -> tuple[NDArray, NDArray]:
        between = self.places((levels[:-1] + levels[1:]) / 2)
        return np.append(0, between), np.append(between, len(self.values))


def group_magnitudes(x: Tensor, granularity: Granularity, *, sign: int | None = None) -> Magnitudes:
    """The magnitudes of a tensor in units of the largest of their group.

    Args:
        x: floating point, any shape that suits the granularity.
        granularity: what forms a group.
        sign: 1 or -1 for the elements of that sign only, as a half of a dual format sees them.
    """
    rows = granularity.rows(x.detach()).float()
    rows = rows.abs() if sign is None else (rows * sign).clamp_min(0)
    amax = rows.amax(-1, keepdim=True)
    kept = (rows > 0) if sign is not None else (amax > 0).expand_as(rows)
    values = rows / torch.where(amax > 0, amax, 1.0)
    return Magnitudes(values[kept], amax.square().expand_as(rows)[kept])


def exact_integers(highest: int, significant_bits: int) -> list[int]:
    """The integers from 1 to `highest` that have at most so many significant bits.

    With four they are exact in FP8 E4M3, and times a scale of four significant bits in bfloat16.
    """
    odd = [number // (number & -number) for number in range(1, highest + 1)]
    return [n for n, part in enumerate(odd, 1) if part < 2**significant_bits]


def design_grid(
    data: Magnitudes,
    allowed: Sequence[int],
    *,
    count: int = 8,
    mid_rise: bool = True,
    clips: Sequence[float] = CLIPS,
) -> GridDesign:
    """The grid of least squared error whose magnitudes are among the integers allowed.

    Args:
        data: from `group_magnitudes`.
        allowed: positive integers, ascending, such as `exact_integers(32, 4)`.
        count: how many magnitudes the grid has; with a sign, `2 * count` codes.
        mid_rise: whether it has no level at zero; else 0 is one of the `count`.
        clips: ratios of the largest level to the largest magnitude that are tried.

    Raises:
        ValueError: when fewer integers are allowed than the grid has magnitudes.
    """
    chosen = count if mid_rise else count - 1
    if len(allowed) < chosen:
        raise ValueError(f"allowed has {len(allowed)} integers; the grid needs {chosen}")
    found = []
    for place in range(chosen - 1, len(allowed)):
        usable = np.array(allowed[: place + 1], dtype=np.float64)
        for clip in clips:
            picked = _best_path(data, usable * clip / usable[-1], chosen, mid_rise)
            levels = usable[picked] if mid_rise else np.append(0.0, usable[picked])
            found.append((data.snr_db(levels * clip / usable[-1]), clip, levels))
    snr, clip, levels = max(found, key=lambda entry: entry[0])
    unit = clip / levels[-1]
    unrestricted = data.snr_db(data.lloyd(levels * unit))
    return GridDesign(GridFormat(tuple(levels.tolist())), clip, snr, unrestricted)


def _best_path(data: Magnitudes, points: Vector, count: int, mid_rise: bool) -> list[int]:
    """The indices of `count` of the points, the last one among them, with the least error."""
    cost = _costs_between(data, points)
    least = _costs_below(data, points, mid_rise)
    before = []
    for _ in range(count - 1):
        totals = least[:, None] + cost
        before.append(totals.argmin(0))
        least = totals.min(0)
    path = [len(points) - 1]
    for choices in reversed(before):
        path.append(int(choices[path[-1]]))
    return path[::-1]


def _costs_between(data: Magnitudes, points: Vector) -> Vector:
    """For each pair of neighbouring levels, the error of what lies between them."""
    low, high = np.triu_indices(len(points), 1)
    ends = data.places(points)
    middle = data.places((points[low] + points[high]) / 2)
    costs = np.full((len(points), len(points)), np.inf)
    costs[low, high] = data.errors(ends[low], middle, points[low])
    costs[low, high] += data.errors(middle, ends[high], points[high])
    return costs


def _costs_below(data: Magnitudes, points: Vector, mid_rise: bool) -> Vector:
    """For each level as the first above zero, the error of what lies below it."""
    ends, start = data.places(points), np.zeros(len(points), dtype=np.int64)
    if mid_rise:
        return data.errors(start, ends, points)
    middle, zeros = data.places(points / 2), np.zeros(len(points))
    return data.errors(start, middle, zeros) + data.errors(middle, ends, points)
