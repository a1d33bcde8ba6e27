"""A format's codes as the integers that a datapath multiplies: every level is an integer times a
power of two.
"""

import itertools

from fpqvar_lab.formats import DualFormat, Format, IntFormat, Rounding, SignedFormat, code_values


def code_integers(fmt: Format) -> tuple[int, ...]:
    """The integer of each of the 2^bits codes, in units of the format's `quantum`.

    The branches of a dual format each count in their own unit. A code that is no number (E4M3FN's
    highest) counts as 0: it never comes.
    """
    if isinstance(fmt, DualFormat):
        above, below = fmt.positive.quantum, fmt.negative.quantum
    else:
        unit = 1.0 if isinstance(fmt, IntFormat) else fmt.quantum
        above = below = unit
    values = code_values(fmt).tolist()
    half = len(values) // 2
    units = [above] * half + [below] * half
    return tuple(
        0 if value != value else int(value / unit)
        for value, unit in zip(values, units, strict=True)
    )


def is_sign_magnitude(fmt: Format) -> bool:
    """Whether a code is a sign bit above a magnitude; the alternative is two's complement."""
    return not (isinstance(fmt, IntFormat) and not fmt.symmetric)


def quantum_exponent(fmt: SignedFormat) -> int:
    """The e for which 2^e is the value of the integer 1: -1 for E2M1."""
    unit = 1.0 if isinstance(fmt, IntFormat) else fmt.quantum
    numerator, denominator = unit.as_integer_ratio()
    return numerator.bit_length() - denominator.bit_length()


def branches(fmt: Format) -> tuple[SignedFormat, ...]:
    """The formats of a code's magnitudes: one, or (positive, negative) for a dual format."""
    return (fmt.positive, fmt.negative) if isinstance(fmt, DualFormat) else (fmt,)


def midpoints(fmt: SignedFormat) -> tuple[int, ...]:
    """Half way between magnitude code i and i + 1, in units of half the format's integer unit."""
    count = len(fmt.magnitudes.levels)
    integers = code_integers(fmt)[:count]
    return tuple(low + high for low, high in itertools.pairwise(integers))


def midpoint_exponent(fmt: SignedFormat) -> int:
    """The e for which 2^e is the unit of `midpoints`: -2 for E2M1."""
    numerator, denominator = (fmt.quantum / 2).as_integer_ratio()
    return numerator.bit_length() - denominator.bit_length()


def tie_goes_up(lower: int, negative: bool, rounding: Rounding) -> bool:
    """Whether a tie between magnitude codes `lower` and `lower + 1` takes the larger magnitude."""
    if rounding is Rounding.TIES_TO_EVEN:
        return lower % 2 == 1
    return negative == (rounding is Rounding.TIES_TO_NEGATIVE)
