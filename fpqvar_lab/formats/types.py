"""The kinds of low-bit number formats as frozen values: minifloats, integers, grids and dual
formats.

Sources: OCP Microscaling Formats v1.0, section 5.3; the dual format of FPQVAR, arXiv 2505.16335.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fpqvar_lab.formats.rounding import Binades, Magnitudes, Uniform, classify

MAX_BITS = 8


class _Signed:
    """What all sign-magnitude formats share; a subclass provides `magnitudes`."""

    @property
    def magnitudes(self) -> Magnitudes:
        """The non-negative levels, in the form that rounds to them."""
        raise NotImplementedError

    @property
    def max(self) -> float:
        """The largest level."""
        return self.magnitudes.maximum

    @property
    def min(self) -> float:
        """The most negative level."""
        return -self.max

    @property
    def smallest_subnormal(self) -> float:
        """The smallest level above zero, a subnormal where the format has any."""
        return next(level for level in self.magnitudes.levels if level > 0)

    @property
    def levels(self) -> tuple[float, ...]:
        """All distinct values, ascending; the two zeros, where there are any, are one level."""
        levels = self.magnitudes.levels
        zero = (0.0,) if levels[0] == 0 else ()
        positive = levels[len(zero) :]
        return (*(-value for value in reversed(positive)), *zero, *positive)

    @property
    def binades(self) -> tuple[tuple[float, float], ...]:
        """(start, step) of each run of equally spaced magnitudes, ascending."""
        levels = self.magnitudes.levels
        steps = [high - low for low, high in itertools.pairwise(levels)]
        starts = [i for i in range(len(steps)) if i == 0 or steps[i] != steps[i - 1]]
        return tuple((levels[i], steps[i]) for i in starts)

    @property
    def quantum(self) -> float:
        """The largest power of two of which every level is a whole multiple."""
        return _quantum(self.magnitudes.levels)


def _standard_bias(exponent_bits: int) -> int:
    return max(2 ** (exponent_bits - 1) - 1, 1)


@dataclass(frozen=True)
class FloatFormat(_Signed):
    """A signed minifloat with subnormals and a signed zero, without infinities or NaN.

    Args:
        exponent_bits: width of the exponent field, at least 1.
        mantissa_bits: width of the fraction field, 0 or more; at most 8 bits in all.
        bias: what is subtracted from the exponent field; by default `2^(exponent_bits - 1) - 1`, or
            1 when `exponent_bits` is 1, which makes E1M2 the grid 0, 0.25, ..., 1.75.
        num_high_nans: how many of the highest magnitude codes are no numbers (1 in OCP's E4M3, 4 in
            its E5M2, where infinity is one of them).

    Raises:
        ValueError: when the widths, the bias or `num_high_nans` do not describe such a format.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int | None = None
    num_high_nans: int = 0

    def __post_init__(self) -> None:
        if self.exponent_bits < 1 or self.mantissa_bits < 0 or self.bits > MAX_BITS:
            raise ValueError(
                f"exponent_bits {self.exponent_bits} and mantissa_bits {self.mantissa_bits}: "
                f"use at least 1 and 0, and with the sign at most {MAX_BITS} bits"
            )
        if self.bias is None:
            object.__setattr__(self, "bias", _standard_bias(self.exponent_bits))
        codes = 2 ** (self.bits - 1)
        if not 0 <= self.num_high_nans <= codes - 2:
            raise ValueError(f"num_high_nans {self.num_high_nans} is not in 0 ... {codes - 2}")
        # Kept well inside float32, so that every level and every quotient by a step is exact.
        if self._lowest - self.mantissa_bits < -100 or self.max >= 2.0**100:
            raise ValueError(f"bias {self.bias} puts levels outside 2^-100 ... 2^100")

    @property
    def _lowest(self) -> int:
        assert self.bias is not None
        return 1 - self.bias

    @property
    def bits(self) -> int:
        """Bits of a code, sign included."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def magnitudes(self) -> Magnitudes:
        """The non-negative levels, in the form that rounds to them."""
        count = 2 ** (self.bits - 1) - self.num_high_nans
        if self.exponent_bits == 1:
            return Uniform(2.0 ** (self._lowest - self.mantissa_bits), count)
        return Binades(self._lowest, self.mantissa_bits, count)

    def __repr__(self) -> str:
        standard = _standard_bias(self.exponent_bits)
        options = [f"bias={self.bias}"] if self.bias != standard else []
        options += [f"num_high_nans={self.num_high_nans}"] if self.num_high_nans else []
        suffix = f"({', '.join(options)})" if options else ""
        return f"E{self.exponent_bits}M{self.mantissa_bits}{suffix}"


@dataclass(frozen=True)
class IntFormat(_Signed):
    """Integers of 2 to 8 bits.

    Args:
        bits: the width of a code, sign included.
        symmetric: True for sign-magnitude -(2^(bits-1) - 1) ... 2^(bits-1) - 1; False for two's
            complement, one value more below zero, which a `Quantizer` uses with a zero point
            (min-max quantization).

    Raises:
        ValueError: when `bits` is not in 2 ... 8.
    """

    bits: int
    symmetric: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits {self.bits} is not in 2 ... {MAX_BITS}")

    @property
    def magnitudes(self) -> Magnitudes:
        """The non-negative levels, in the form that rounds to them."""
        return Uniform(1.0, 2 ** (self.bits - 1))

    @property
    def min(self) -> float:
        """The most negative level."""
        return -self.max if self.symmetric else -self.max - 1

    @property
    def levels(self) -> tuple[float, ...]:
        """All values, ascending."""
        return tuple(float(value) for value in range(int(self.min), int(self.max) + 1))

    def __repr__(self) -> str:
        return f"INT{self.bits}" + ("" if self.symmetric else "(symmetric=False)")


@dataclass(frozen=True)
class GridFormat(_Signed):
    """A sign-magnitude format with any magnitudes.

    With a magnitude of 0 the grid is *mid-tread*, and one of its codes, that of -0, is wasted.
    Without one it is *mid-rise*: every code is another level, and a zero becomes the smallest level
    of its own sign, whatever the tie rule.

    Args:
        values: the magnitudes, ascending from 0 or from a positive number; 2 to 128 of them. They
            are held as float32 numbers.

    Raises:
        ValueError: when the values are negative, do not ascend, are not finite, or are too many or
            too few.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(np.float32(value)) for value in self.values)
        if not 2 <= len(values) <= 2 ** (MAX_BITS - 1):
            raise ValueError(f"values has {len(values)} magnitudes; use 2 to {2 ** (MAX_BITS - 1)}")
        ascending = all(low < high for low, high in itertools.pairwise(values))
        if values[0] < 0 or not ascending or not math.isfinite(values[-1]):
            raise ValueError(
                f"values {self.values} must be finite float32s that ascend from 0 or above it"
            )
        object.__setattr__(self, "values", values)

    @property
    def bits(self) -> int:
        """Bits of a code, sign included."""
        return 1 + (len(self.values) - 1).bit_length()

    @property
    def magnitudes(self) -> Magnitudes:
        """The non-negative levels, in the form that rounds to them."""
        return classify(self.values)

    @property
    def is_mid_rise(self) -> bool:
        """Whether there is no level at zero, so that all codes are different levels."""
        return self.values[0] > 0

    @classmethod
    def integers(cls, highest: int) -> "GridFormat":
        """The magnitudes 0, 1, ..., `highest`."""
        return cls(tuple(float(value) for value in range(highest + 1)))

    def __repr__(self) -> str:
        if self.values == tuple(range(len(self.values))):
            return f"GRID(0...{len(self.values) - 1})"
        return f"GRID({', '.join(f'{value:g}' for value in self.values)})"


SignedFormat = FloatFormat | IntFormat | GridFormat
ScaleRatio = Literal["free", "power-of-two"]


@dataclass(frozen=True)
class DualFormat:
    """Two formats that share a code: the sign bit selects the half (FPQVAR, arXiv
    2505.16335).

    Args:
        negative: the format whose magnitudes lie below zero.
        positive: the format whose magnitudes lie above zero.
        scale_ratio: "free" when a `Quantizer` may give each half any scale; "power-of-two" when the
            negative half's scale is rounded up to the positive half's times a power of two, so that
            one adder tree serves both halves.

    Raises:
        ValueError: when a half is two's complement, or `scale_ratio` is neither of the two.
    """

    negative: SignedFormat
    positive: SignedFormat
    scale_ratio: ScaleRatio = "free"

    def __post_init__(self) -> None:
        for half in (self.negative, self.positive):
            if isinstance(half, IntFormat) and not half.symmetric:
                raise ValueError(f"{half} has no sign-magnitude codes; use symmetric=True")
        if self.scale_ratio not in ("free", "power-of-two"):
            raise ValueError(f"scale_ratio {self.scale_ratio!r}; use 'free' or 'power-of-two'")

    @property
    def bits(self) -> int:
        """Bits of a code, the sign and the wider half's magnitude."""
        return max(self.negative.bits, self.positive.bits)

    @property
    def max(self) -> float:
        """The largest level."""
        return self.positive.max

    @property
    def min(self) -> float:
        """The most negative level, in units of the negative half's scale."""
        return -self.negative.max

    @property
    def smallest_subnormal(self) -> float:
        """The smallest level above zero of the two halves, each in units of its own scale."""
        return min(self.negative.smallest_subnormal, self.positive.smallest_subnormal)

    @property
    def levels(self) -> tuple[float, ...]:
        """All distinct values, ascending, each half in units of its own scale."""
        below = tuple(value for value in self.negative.levels if value < 0)
        above = tuple(value for value in self.positive.levels if value > 0)
        has_zero = 0.0 in (self.negative.magnitudes.levels[0], self.positive.magnitudes.levels[0])
        return (*below, *((0.0,) if has_zero else ()), *above)

    @property
    def binades(self) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
        """The binades of the two halves, (negative, positive)."""
        return self.negative.binades, self.positive.binades

    def __repr__(self) -> str:
        ratio = "" if self.scale_ratio == "free" else f"({self.scale_ratio})"
        return f"{self.negative}|{self.positive}{ratio}"


Format = SignedFormat | DualFormat


def _quantum(levels: Iterable[float]) -> float:
    ratios = [value.as_integer_ratio() for value in levels]
    denominator = max(bottom for _, bottom in ratios)
    common = math.gcd(*(top * (denominator // bottom) for top, bottom in ratios))
    return (common & -common) / denominator
