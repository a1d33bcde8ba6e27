"""The named low-bit formats.

Every code of a format is a number: there are no infinities and no NaN, as in the 4- and 6-bit
element formats of OCP MX. By the same rule `E4M3` runs to 480 and `E5M2` to 114688; `E4M3FN`, the
OCP 8-bit format whose top code is a NaN, ends at 448, and `E5M2_IEEE`, whose top binade holds
infinities and NaN, at 57344.
Sources: OCP Microscaling Formats v1.0, section 5.3; OCP 8-bit Floating Point v1.0, section 5; the
dual formats of FPQVAR, arXiv 2505.16335.
"""

from fpqvar_lab.formats.types import DualFormat, FloatFormat, Format, GridFormat, IntFormat

E3M0 = FloatFormat(3, 0)
E2M1 = FloatFormat(2, 1)
E1M2 = FloatFormat(1, 2)
E2M3 = FloatFormat(2, 3)
E3M2 = FloatFormat(3, 2)
E4M3 = FloatFormat(4, 3)
E4M3FN = FloatFormat(4, 3, num_high_nans=1)
E5M2 = FloatFormat(5, 2)
E5M2_IEEE = FloatFormat(5, 2, num_high_nans=4)
INT4 = IntFormat(4)
INT6 = IntFormat(6)
INT8 = IntFormat(8)
DUAL_FP4 = DualFormat(E1M2, E2M1)
DUAL_FP4_POW2 = DualFormat(E1M2, E2M1, "power-of-two")
# 33 negative magnitudes, as in the authors' code, need 6 bits beside the sign, 7 in all; 32 need 5.
DUAL_FP6 = DualFormat(GridFormat.integers(32), E2M3)
DUAL_FP6_HW = DualFormat(GridFormat.integers(31), E2M3)
DUAL_FP6_POW2 = DualFormat(GridFormat.integers(31), E2M3, "power-of-two")
# Grids designed by `method.design_grid` from integers of at most four significant bits, so that
# their codes are exact in FP8 E4M3 too. MR: mid-rise, MT: mid-tread. The first two are for groups
# of normal data, the next two for the halves of what leaves a GELU.
MR4 = GridFormat((1, 3, 5, 7, 9, 12, 15, 20))
MT4 = GridFormat((0, 1, 2, 3, 4, 5, 7, 9))
MR4_NEGATIVE = GridFormat((1, 4, 8, 12, 16, 20, 24, 28))
MR4_POSITIVE = GridFormat((1, 4, 7, 11, 15, 20, 26, 32))
MR4_UNIFORM = GridFormat((1, 3, 5, 7, 9, 11, 13, 15))
DUAL_MR4 = DualFormat(MR4_NEGATIVE, MR4_POSITIVE)
DUAL_MR4_POW2 = DualFormat(MR4_NEGATIVE, MR4_POSITIVE, "power-of-two")

FORMATS: dict[str, Format] = {
    "E3M0": E3M0,
    "E2M1": E2M1,
    "E1M2": E1M2,
    "E2M3": E2M3,
    "E3M2": E3M2,
    "E4M3": E4M3,
    "E4M3FN": E4M3FN,
    "E5M2": E5M2,
    "E5M2_IEEE": E5M2_IEEE,
    "INT4": INT4,
    "INT6": INT6,
    "INT8": INT8,
    "DUAL_FP4": DUAL_FP4,
    "DUAL_FP4_POW2": DUAL_FP4_POW2,
    "DUAL_FP6": DUAL_FP6,
    "DUAL_FP6_HW": DUAL_FP6_HW,
    "DUAL_FP6_POW2": DUAL_FP6_POW2,
    "MR4": MR4,
    "MT4": MT4,
    "MR4_NEGATIVE": MR4_NEGATIVE,
    "MR4_POSITIVE": MR4_POSITIVE,
    "MR4_UNIFORM": MR4_UNIFORM,
    "DUAL_MR4": DUAL_MR4,
    "DUAL_MR4_POW2": DUAL_MR4_POW2,
}


def by_name(name: str) -> Format:
    """The named format, in any case, with "-" for "_" allowed: `by_name("e2m1")`,
    `by_name("dual-fp4")`.

    Raises:
        ValueError: when there is no such format; the message lists those there are.
    """
    key = name.upper().replace("-", "_")
    if key not in FORMATS:
        raise ValueError(f"no format is named {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[key]
