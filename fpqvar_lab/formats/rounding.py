"""Rounding to the magnitudes of a low-bit format, exactly, under three tie rules.

A set of magnitudes is one of three kinds: `Uniform` (integers times a step), `Binades` (a
minifloat: the step doubles with each power of two) or `Table` (anything else). The first two divide
by a step that is a power of two and round to an integer, which is exact in float32 and float64; the
last looks thresholds up.
"""

import enum
import functools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fpqvar_lab.formats.bitwise import INTEGER_OF, select

_EXPONENT_MASK = {torch.float32: 0x7F800000, torch.float64: 0x7FF0000000000000}
_FLOAT32_FRACTION_BITS = 23
_FLOAT32_BIAS = 127


class Rounding(enum.Enum):
    """What happens to a value exactly half way between two levels.

    `TIES_TO_EVEN` (IEEE 754, OCP MX) takes the level whose magnitude code is even,
    `TIES_TO_POSITIVE` the upper of the two and `TIES_TO_NEGATIVE` the lower. All other values go to
    the nearest level.
    """

    TIES_TO_EVEN = "ties-to-even"
    TIES_TO_POSITIVE = "ties-to-positive"
    TIES_TO_NEGATIVE = "ties-to-negative"


TIES_TO_EVEN = Rounding.TIES_TO_EVEN
TIES_TO_POSITIVE = Rounding.TIES_TO_POSITIVE
TIES_TO_NEGATIVE = Rounding.TIES_TO_NEGATIVE


def round_to_integer(t: Tensor, rounding: Rounding) -> Tensor:
    """Nearest integers to `t` (any shape, float); a zero keeps the sign of `t`.

    `floor(t + 0.5)` is not this: the sum rounds, so 0.49999997 would become 1. Here `t - nearest`
    is exact.
    """
    nearest = torch.round(t)
    if rounding is TIES_TO_POSITIVE:
        return select(t - nearest == 0.5, nearest + 1, nearest)
    if rounding is TIES_TO_NEGATIVE:
        return select(nearest - t == 0.5, nearest - 1, nearest)
    return nearest


@dataclass(frozen=True)
class Uniform:
    """Magnitudes 0, step, 2 step, ..., (count - 1) step; `step` is a power of two."""

    step: float
    count: int

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(index * self.step for index in range(self.count))

    @property
    def maximum(self) -> float:
        return (self.count - 1) * self.step

    def steps(self, x: Tensor) -> Tensor:
        """The distance of the levels around each element; here one number."""
        return torch.full((), self.step, dtype=x.dtype, device=x.device)

    def round(self, x: Tensor, rounding: Rounding) -> Tensor:
        t = x.clamp(-self.maximum, self.maximum).mul_(1 / self.step)
        return round_to_integer(t, rounding).mul_(self.step)

    def indices(self, magnitudes: Tensor) -> Tensor:
        return magnitudes * (1 / self.step)


@dataclass(frozen=True)
class Binades:
    """Magnitudes of a minifloat: the lowest normal binade starts at 2^lowest, subnormals lie below
    it.
    """

    lowest: int
    mantissa_bits: int
    count: int

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(self._level(index) for index in range(self.count))

    def _level(self, index: int) -> float:
        field, fraction = divmod(index, 2**self.mantissa_bits)
        significand = fraction / 2**self.mantissa_bits + (field > 0)
        return significand * 2.0 ** (self.lowest + max(field - 1, 0))

    @property
    def maximum(self) -> float:
        return self._level(self.count - 1)

    @property
    def highest(self) -> int:
        """Exponent of the binade that holds the largest magnitude."""
        return math.frexp(self.maximum)[1] - 1

    def round(self, x: Tensor, rounding: Rounding) -> Tensor:
        # Working in place on its own intermediate results keeps a block's data in the cache.
        t = x.clamp(-self.maximum, self.maximum)
        step = self.steps(t)
        t = t.div_(step)
        nearest = round_to_integer(t, rounding)
        if self.mantissa_bits == 0 and rounding is TIES_TO_EVEN:
            nearest = self._keep_even_exponent(t, nearest, step)
        return nearest.mul_(step)

    def steps(self, x: Tensor) -> Tensor:
        """The distance of the levels around each element of `x`, which lies within the levels."""
        return self._power_below(x).mul_(2.0**-self.mantissa_bits)

    def _power_below(self, x: Tensor) -> Tensor:
        """The start of each element's binade, 2^lowest for subnormals."""
        if torch.compiler.is_compiling():
            return self._power_by_comparison(x.abs())
        bits = x.contiguous().view(INTEGER_OF[x.dtype]) & _EXPONENT_MASK[x.dtype]
        return bits.view(x.dtype).clamp_min_(2.0**self.lowest)

    def _power_by_comparison(self, magnitudes: Tensor) -> Tensor:
        # The bit form is the faster one in eager mode, but inductor does not vectorize bit casts.
        power = torch.full_like(magnitudes, 2.0**self.lowest)
        for exponent in range(self.lowest + 1, self.highest + 1):
            power = torch.where(magnitudes >= 2.0**exponent, 2.0**exponent, power)
        return power

    def _keep_even_exponent(self, t: Tensor, nearest: Tensor, step: Tensor) -> Tensor:
        # Without a mantissa the last bit of the code is the exponent's: 1.5 * 2^e stays at 2^e when
        # the code of 2^e is even, that is when e - lowest is odd. The step is that power itself.
        odd = torch.zeros_like(t, dtype=torch.bool)
        for exponent in range(self.lowest + 1, self.highest, 2):
            odd = odd | (step == 2.0**exponent)
        return select(odd & (t.abs() == 1.5), torch.sign(t), nearest)

    def indices(self, magnitudes: Tensor) -> Tensor:
        power = self._power_below(magnitudes)
        bits = power.view(torch.int32) >> _FLOAT32_FRACTION_BITS
        binade = bits - (_FLOAT32_BIAS + self.lowest)
        return (magnitudes / power + binade) * 2.0**self.mantissa_bits


@dataclass(frozen=True)
class Table:
    """Any ascending magnitudes from 0 or above it; `levels` are float32 numbers.

    Where they begin above 0, zeros go to the smallest of their own sign under every tie rule.
    """

    levels: tuple[float, ...]

    @property
    def maximum(self) -> float:
        return self.levels[-1]

    def round(self, x: Tensor, rounding: Rounding) -> Tensor:
        magnitudes = self._magnitudes_by(x, self._outward(rounding, negative=False))
        if rounding is not TIES_TO_EVEN:
            below = self._magnitudes_by(x, self._outward(rounding, negative=True))
            magnitudes = torch.where(x < 0, below, magnitudes)
        # A NaN is on no side of a threshold; it must not turn into a number.
        return torch.where(torch.isnan(x), x, torch.copysign(magnitudes, x))

    def _magnitudes_by(self, x: Tensor, outward: tuple[bool, ...]) -> Tensor:
        if torch.compiler.is_compiling():
            return self._by_comparison(x.abs(), outward)
        levels = torch.tensor(self.levels, dtype=x.dtype, device=x.device)
        return levels[self._indices_by(x, outward)]

    def _outward(self, rounding: Rounding, negative: bool) -> tuple[bool, ...]:
        """For each threshold, whether its tie goes away from zero."""
        if rounding is TIES_TO_EVEN:
            return tuple(index % 2 == 1 for index in range(len(self.levels) - 1))
        away = (rounding is TIES_TO_NEGATIVE) if negative else (rounding is TIES_TO_POSITIVE)
        return (away,) * (len(self.levels) - 1)

    def _indices_by(self, x: Tensor, outward: tuple[bool, ...]) -> Tensor:
        thresholds = _thresholds(self.levels, outward, str(x.dtype).removeprefix("torch."))
        boundaries = torch.tensor(thresholds, dtype=x.dtype, device=x.device)
        return torch.bucketize(x.abs(), boundaries, right=True)

    def _by_comparison(self, x: Tensor, outward: tuple[bool, ...]) -> Tensor:
        """The levels of few magnitudes, in a form that inductor turns into vector code."""
        found = torch.full_like(x, self.levels[0])
        thresholds = _constant_thresholds(self.levels, outward, str(x.dtype).removeprefix("torch."))
        for threshold, level in zip(thresholds, self.levels[1:], strict=True):
            found = torch.where(x >= threshold, level, found)
        return found

    def indices(self, magnitudes: Tensor) -> Tensor:
        boundaries = torch.tensor(self.levels[1:], dtype=magnitudes.dtype, device=magnitudes.device)
        return torch.bucketize(magnitudes, boundaries, right=True)


@functools.lru_cache(maxsize=256)
def _thresholds(
    levels: tuple[float, ...], outward: tuple[bool, ...], dtype: str
) -> tuple[float, ...]:
    """The least number of `dtype` that rounds to each level above the first."""
    pairs = zip(levels, levels[1:], outward, strict=False)
    return tuple(_threshold(low, high, away, np.dtype(dtype).type) for low, high, away in pairs)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constant_thresholds(
    levels: tuple[float, ...], outward: tuple[bool, ...], dtype: str
) -> tuple[float, ...]:
    return _thresholds(levels, outward, dtype)


def _threshold(low: float, high: float, away: bool, number: type[np.floating]) -> float:
    middle = (Fraction(low) + Fraction(high)) / 2
    candidate = number(float(middle))
    while _above(candidate, middle, away):
        candidate = np.nextafter(candidate, number(-np.inf))
    while not _above(candidate, middle, away):
        candidate = np.nextafter(candidate, number(np.inf))
    return float(candidate)


def _above(candidate: np.floating, middle: Fraction, inclusive: bool) -> bool:
    value = Fraction(float(candidate))
    return value >= middle if inclusive else value > middle


Magnitudes = Uniform | Binades | Table


def round_halves(
    x: Tensor, mask: Tensor, negative: Magnitudes, positive: Magnitudes, rounding: Rounding
) -> Tensor:
    """Round to the negative half's levels where the mask of `negative_mask(x)` is set, else the
    other's.
    """
    if _has_even_steps(negative, rounding) and _has_even_steps(positive, rounding):
        assert not isinstance(negative, Table)
        assert not isinstance(positive, Table)
        t = x.clamp(-negative.maximum, positive.maximum)
        step = select(mask, negative.steps(t), positive.steps(t))
        return round_to_integer(t.div_(step), rounding).mul_(step)
    return select(mask, negative.round(x, rounding), positive.round(x, rounding))


def _has_even_steps(magnitudes: Magnitudes, rounding: Rounding) -> bool:
    """Whether rounding to a multiple of the step is all there is to it."""
    if isinstance(magnitudes, Binades):
        return magnitudes.mantissa_bits > 0 or rounding is not TIES_TO_EVEN
    return isinstance(magnitudes, Uniform)


def classify(levels: tuple[float, ...]) -> Magnitudes:
    """`Uniform` for 0, s, 2s, ... with s a power of two, otherwise `Table`."""
    step = levels[1]
    is_uniform = levels == tuple(index * step for index in range(len(levels)))
    if is_uniform and math.frexp(step)[0] == 0.5:
        return Uniform(step, len(levels))
    return Table(levels)
