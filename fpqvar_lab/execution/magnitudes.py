"""The magnitudes of a format in the form in which the kernels round to them."""

import functools
import itertools
import math

import numpy as np

from fpqvar_lab.execution.native import Half
from fpqvar_lab.formats import DualFormat, FloatFormat, Format, GridFormat, IntFormat, SignedFormat


@functools.lru_cache(maxsize=64)
def halves(fmt: Format) -> tuple[Half, Half]:
    """The negative and the positive half of a format, for ties to even; equal if it is not dual."""
    if isinstance(fmt, DualFormat):
        return _half(fmt.negative), _half(fmt.positive)
    return _half(fmt), _half(fmt)


def _half(fmt: SignedFormat) -> Half:
    steps = _steps(fmt)
    if steps is None:
        return _table(fmt.magnitudes.levels)
    lowest, highest, fraction = steps
    return Half(fmt.max, lowest, highest, fraction, 0)


def _steps(fmt: SignedFormat) -> tuple[float, float, float] | None:
    """The lowest and the highest power of two below a value, and the step as a fraction of it;
    None where the magnitudes are not a minifloat's or evenly spaced.
    """
    if isinstance(fmt, IntFormat):
        return 1.0, 1.0, 1.0
    if isinstance(fmt, GridFormat):
        levels = fmt.magnitudes.levels
        is_even = levels == tuple(index * levels[1] for index in range(len(levels)))
        return (1.0, 1.0, levels[1]) if is_even and math.frexp(levels[1])[0] == 0.5 else None
    assert isinstance(fmt, FloatFormat)
    assert fmt.bias is not None
    if fmt.mantissa_bits == 0:
        return None  # the last bit of its codes, which decides ties, is the exponent's
    lowest = 2.0 ** (1 - fmt.bias)
    highest = lowest if fmt.exponent_bits == 1 else 2.0 ** (math.frexp(fmt.max)[1] - 1)
    return lowest, highest, 2.0**-fmt.mantissa_bits


def _table(levels: tuple[float, ...]) -> Half:
    half = Half(levels[-1], 1.0, 1.0, 1.0, len(levels))
    half.levels[: len(levels)] = levels
    half.thresholds[: len(levels) - 1] = [
        _threshold(low, high, outward=index % 2 == 1)
        for index, (low, high) in enumerate(itertools.pairwise(levels))
    ]
    return half


def _threshold(low: float, high: float, *, outward: bool) -> float:
    """The least float32 that rounds to `high`, where ties do if they go outward."""
    middle = (low + high) / 2  # in float64, which is exact for float32 levels of like size
    nearest = np.float32(middle)
    if nearest < middle or (nearest == middle and not outward):
        nearest = np.nextafter(nearest, np.float32(np.inf))
    return float(nearest)
