"""Where a format's rounding changes from one magnitude to the next, and which way ties go."""

import itertools

from fpqvar_lab.formats import DualFormat, Format, Rounding, SignedFormat
from fpqvar_lab.hardware.rtl.integers import code_integers


def halves(fmt: Format) -> tuple[SignedFormat, ...]:
    """The formats of a code's magnitudes: one, or (positive, negative) for a dual format."""
    return (fmt.positive, fmt.negative) if isinstance(fmt, DualFormat) else (fmt,)


def midpoints(fmt: SignedFormat) -> tuple[int, ...]:
    """Half way between magnitude code i and i + 1, in units of half the format's integer unit."""
    count = len(fmt.magnitudes.levels)
    integers = code_integers(fmt)[:count]
    return tuple(low + high for low, high in itertools.pairwise(integers))


def midpoint_exponent(fmt: SignedFormat) -> int:
    """The e for which 2^e is the unit of `midpoints`: -2 for E2M1."""
    numerator, denominator = (fmt.integer_unit / 2).as_integer_ratio()
    return numerator.bit_length() - denominator.bit_length()


def tie_goes_up(lower: int, negative: bool, rounding: Rounding) -> bool:
    """Whether a tie between magnitude codes `lower` and `lower + 1` takes the larger magnitude."""
    if rounding is Rounding.TIES_TO_EVEN:
        return lower % 2 == 1
    return negative == (rounding is Rounding.TIES_TO_NEGATIVE)
