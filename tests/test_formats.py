"""Formats against independent oracles: ml_dtypes where it has the format, gfloat elsewhere,
exhaustively.
"""

import bisect
import itertools
import math
from fractions import Fraction
from typing import Any, cast

import gfloat  # type: ignore[import-untyped]
import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import formats as gf
from gfloat.types import Domain, FormatInfo  # type: ignore[import-untyped]
from torch import Tensor

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP6,
    DUAL_FP6_HW,
    DUAL_MR4,
    E1M2,
    E2M1,
    E2M3,
    E3M0,
    E3M2,
    E4M3,
    E4M3FN,
    E5M2,
    E5M2_IEEE,
    FORMATS,
    INT4,
    INT8,
    MR4,
    MR4_NEGATIVE,
    MR4_POSITIVE,
    MR4_UNIFORM,
    MT4,
    TIES_TO_EVEN,
    TIES_TO_NEGATIVE,
    TIES_TO_POSITIVE,
    DualFormat,
    FloatFormat,
    GridFormat,
    IntFormat,
    Rounding,
    by_name,
    decode,
    encode,
    round_to,
)

ML_DTYPES = {
    E2M1: ml_dtypes.float4_e2m1fn,
    E2M3: ml_dtypes.float6_e2m3fn,
    E3M2: ml_dtypes.float6_e3m2fn,
    E4M3FN: ml_dtypes.float8_e4m3fn,
    E5M2_IEEE: ml_dtypes.float8_e5m2,
}
FLOATS = [E3M0, E2M1, E1M2, E2M3, E3M2, E4M3, E4M3FN, E5M2, E5M2_IEEE]
IRREGULAR = GridFormat((0, 0.0625, 0.1, 1 / 3, 2.5, 7))
MID_RISE = [MR4, MR4_NEGATIVE, MR4_POSITIVE, MR4_UNIFORM, GridFormat((0.125, 0.375))]
SIGNED = [*FLOATS, INT4, INT8, GridFormat.integers(32), IRREGULAR, MT4, *MID_RISE]
TWOS_COMPLEMENT = IntFormat(4, symmetric=False)
UNIFORM_HALVES = DualFormat(GridFormat((0, 0.5, 1, 1.5)), IRREGULAR)
DUALS = [DUAL_FP4, DUAL_FP6, DUAL_FP6_HW, UNIFORM_HALVES, DUAL_MR4, DualFormat(E1M2, MR4)]
ALL = [*SIGNED, TWOS_COMPLEMENT, *DUALS]


def gfloat_info(fmt: FloatFormat) -> FormatInfo:
    """gfloat's own description, built from the widths alone, of a format all of whose codes are
    numbers.
    """
    bias = 2 ** (fmt.exponent_bits - 1) - 1 if fmt.exponent_bits > 1 else 1
    return FormatInfo(
        str(fmt),
        fmt.bits,
        fmt.mantissa_bits + 1,
        bias=bias,
        is_signed=True,
        domain=Domain.Finite,
        has_nz=True,
        num_high_nans=fmt.num_high_nans,
        has_subnormals=True,
        is_twos_complement=False,
    )


def bits(x: Tensor) -> Tensor:
    """The bit patterns, so that the two zeros differ."""
    return x.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def valid_codes(fmt) -> list[int]:
    if fmt is TWOS_COMPLEMENT:
        return list(range(16))
    halves = (fmt.positive, fmt.negative) if isinstance(fmt, DualFormat) else (fmt, fmt)
    counts = [len(half.magnitudes.levels) for half in halves]
    return [*range(counts[0]), *(2 ** (fmt.bits - 1) + index for index in range(counts[1]))]


def every_float16() -> np.ndarray:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return values[np.isfinite(values)]


def around(points: list[float], ulps: int = 3) -> np.ndarray:
    """float32 numbers a few ulps around points, and the points, with both signs."""
    centres = np.array([*points, *(-point for point in points)], dtype=np.float32)
    found, below, above = [centres], centres, centres
    for _ in range(ulps):
        below = np.nextafter(below, np.float32(-np.inf))
        above = np.nextafter(above, np.float32(np.inf))
        found += [below, above]
    return np.concatenate(found)


def hard_points(fmt) -> np.ndarray:
    levels = fmt.levels
    middles = [(low + high) / 2 for low, high in itertools.pairwise(levels)]
    tiny = [0.0, 1e-45, 1e-40, 1.2e-38, 3e38]
    return around([*levels, *middles, 2 * fmt.max, *tiny])


def half_of(x: float, fmt):
    if not isinstance(fmt, DualFormat):
        return fmt
    return fmt.negative if math.copysign(1, x) < 0 else fmt.positive


def nearest_by_enumeration(x: float, fmt, rounding: Rounding) -> float:
    """The definition, in exact rational arithmetic; without a level at zero its sign decides."""
    own = half_of(x, fmt)
    if x == 0 and 0 not in own.levels:
        return math.copysign(own.magnitudes.levels[0], x)
    levels = [value for value in own.levels if own is fmt or value * x >= 0]
    place = bisect.bisect(levels, x)
    levels = levels[max(place - 2, 0) : place + 2]
    distances = [abs(Fraction(level) - Fraction(x)) for level in levels]
    nearest = [level for level, d in zip(levels, distances, strict=True) if d == min(distances)]
    if rounding is TIES_TO_EVEN:
        return min(nearest, key=lambda level: magnitude_index(level, x, fmt) % 2)
    return nearest[-1] if rounding is TIES_TO_POSITIVE else nearest[0]


def magnitude_index(level: float, x: float, fmt) -> int:
    if fmt is TWOS_COMPLEMENT:
        return int(level)
    return half_of(x, fmt).magnitudes.levels.index(abs(level))


@pytest.mark.parametrize("fmt", ML_DTYPES, ids=str)
def test_every_code_decodes_as_in_ml_dtypes(fmt):
    codes = np.arange(2**fmt.bits, dtype=np.uint8)
    expected = codes.view(ML_DTYPES[fmt]).astype(np.float32)
    finite = np.isfinite(expected)
    ours = decode(torch.from_numpy(codes[finite]), fmt)
    assert torch.equal(bits(ours), bits(torch.from_numpy(expected[finite])))
    assert finite.sum() == 2**fmt.bits - 2 * fmt.num_high_nans


@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_every_code_decodes_as_in_gfloat(fmt):
    codes = valid_codes(fmt)
    expected = [gfloat.decode_float(gfloat_info(fmt), code).fval for code in codes]
    ours = decode(torch.tensor(codes), fmt)
    assert torch.equal(bits(ours), bits(torch.tensor(expected, dtype=torch.float32)))


def test_gfloat_descriptions_are_those_of_ocp():
    for fmt, info in (
        (E2M1, gf.format_info_ocp_e2m1),
        (E2M3, gf.format_info_ocp_e2m3),
        (E3M2, gf.format_info_ocp_e3m2),
    ):
        assert (gfloat_info(fmt).bias, gfloat_info(fmt).max) == (info.bias, info.max)


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_codes_survive_decoding_and_encoding(fmt):
    codes = torch.tensor(valid_codes(fmt), dtype=torch.uint8)
    assert torch.equal(encode(decode(codes, fmt), fmt), codes)


@pytest.mark.parametrize("fmt", ML_DTYPES, ids=str)
def test_every_float16_rounds_as_in_ml_dtypes(fmt):
    values = every_float16()
    # Beyond the largest level ml_dtypes gives NaN where the format has one; ours saturates.
    inside = values[np.abs(values.astype(np.float64)) <= fmt.max]
    expected = inside.astype(ML_DTYPES[fmt])
    ours = round_to(torch.from_numpy(inside), fmt)
    codes = encode(torch.from_numpy(inside), fmt)
    assert np.array_equal(ours.numpy().view(np.uint16), expected.astype(np.float16).view(np.uint16))
    assert np.array_equal(codes.numpy(), expected.view(np.uint8))


@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_every_float16_rounds_as_in_gfloat(fmt):
    values = every_float16().astype(np.float64)
    expected = gfloat.round_ndarray(gfloat_info(fmt), values, sat=True)
    ours = round_to(torch.from_numpy(values), fmt)
    assert torch.equal(bits(ours), bits(torch.from_numpy(expected)))


@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_hard_points_round_as_in_gfloat(fmt):
    values = hard_points(fmt)
    expected = gfloat.round_ndarray(gfloat_info(fmt), values.astype(np.float64), sat=True)
    ours = round_to(torch.from_numpy(values), fmt)
    assert torch.equal(bits(ours), bits(torch.from_numpy(expected.astype(np.float32))))


NEAREST = [E2M1, E1M2, E2M3, E3M0, INT4, IRREGULAR, TWOS_COMPLEMENT, MT4, *MID_RISE, *DUALS]


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", NEAREST)
def test_rounding_is_the_nearest_level_by_enumeration(fmt, rounding):
    values = hard_points(fmt)[:1200]
    expected = [nearest_by_enumeration(float(value), fmt, rounding) for value in values]
    ours = round_to(torch.from_numpy(values), fmt, rounding)
    assert ours.tolist() == expected


@pytest.mark.parametrize("rounding", [TIES_TO_POSITIVE, TIES_TO_NEGATIVE])
@pytest.mark.parametrize("fmt", SIGNED, ids=str)
def test_directed_ties_differ_from_even_at_midpoints_only(fmt, rounding):
    values = torch.from_numpy(
        np.concatenate([every_float16().astype(np.float32), hard_points(fmt)])
    )
    even, directed = round_to(values, fmt), round_to(values, fmt, rounding)
    levels = torch.tensor(fmt.levels, dtype=torch.float64)
    middles = (levels[1:] + levels[:-1]) / 2
    middles = middles[middles != 0]  # without a level at zero its sign decides, not the rule
    is_tie = torch.isin(values.double(), middles)
    upper = levels[torch.searchsorted(levels, values[is_tie].double())].float()
    lower = levels[torch.searchsorted(levels, values[is_tie].double()) - 1].float()
    assert torch.equal(even[~is_tie], directed[~is_tie])
    assert is_tie.sum() > 2
    assert torch.equal(directed[is_tie], upper if rounding is TIES_TO_POSITIVE else lower)


def test_the_number_below_one_half_does_not_round_up():
    below = torch.tensor(np.nextafter(np.float32(0.5), np.float32(0)))
    assert round_to(below, INT8, TIES_TO_POSITIVE) == 0


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_levels_stay_where_they_are(fmt):
    levels = torch.tensor([level for level in fmt.levels if level in half_of(level, fmt).levels])
    for rounding in Rounding:
        assert torch.equal(round_to(levels, fmt, rounding), levels)


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_values_beyond_the_ends_saturate(fmt):
    beyond = torch.tensor([1e30, -1e30, torch.inf, -torch.inf])
    assert round_to(beyond, fmt).tolist() == [fmt.max, fmt.min, fmt.max, fmt.min]


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_nan_stays_nan(fmt):
    assert torch.isnan(round_to(torch.tensor([torch.nan]), fmt)).all()


@pytest.mark.parametrize("fmt", [*SIGNED, *DUALS], ids=str)
def test_the_sign_bit_of_a_code_is_that_of_the_input(fmt):
    x = torch.tensor([-0.0, 0.0, -1e-9, 1e-9, -3.0, 3.0])
    sign = encode(x, fmt) >> (fmt.bits - 1)
    assert torch.equal(sign.bool(), torch.signbit(x))


def test_twos_complement_has_one_zero():
    zero = round_to(torch.tensor([-0.0, -0.2]), TWOS_COMPLEMENT)
    assert bits(zero).tolist() == [0, 0]
    assert encode(torch.tensor([-8.0, -1.0, 7.0]), TWOS_COMPLEMENT).tolist() == [8, 15, 7]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_round_once(dtype):
    x = torch.linspace(-8, 8, 4001, dtype=dtype)
    assert round_to(x, E2M3).dtype == dtype
    assert torch.equal(round_to(x, E2M3).double(), round_to(x.double(), E2M3))


def test_a_dtype_that_cannot_hold_the_levels_is_refused():
    with pytest.raises(ValueError, match="float16 cannot hold every level"):
        round_to(torch.ones(3, dtype=torch.float16), E5M2)


def test_integers_are_refused():
    with pytest.raises(TypeError, match="int64"):
        round_to(torch.ones(3, dtype=torch.int64), E2M1)


def test_grids_are_those_of_the_paper():
    assert E2M1.magnitudes.levels == (0, 0.5, 1, 1.5, 2, 3, 4, 6)
    assert E1M2.magnitudes.levels == tuple(0.25 * index for index in range(8))
    assert E3M0.magnitudes.levels == (0, 0.25, 0.5, 1, 2, 4, 8, 16)
    assert (E2M3.max, E3M2.max) == (7.5, 28)
    assert DUAL_FP4.levels == (*(-0.25 * i for i in range(7, 0, -1)), 0, 0.5, 1, 1.5, 2, 3, 4, 6)


def test_eight_bit_maxima_in_both_conventions():
    assert (E4M3.max, E4M3FN.max, E5M2.max, E5M2_IEEE.max) == (480, 448, 114688, 57344)


def test_the_dual_six_bit_format_needs_seven_bits_with_33_levels():
    assert (DUAL_FP6.bits, DUAL_FP6_HW.bits) == (7, 6)
    assert (DUAL_FP6.min, DUAL_FP6_HW.min) == (-32, -31)


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_levels_ascend_and_end_at_min_and_max(fmt):
    assert list(fmt.levels) == sorted(set(fmt.levels))
    assert (fmt.levels[0], fmt.levels[-1]) == (fmt.min, fmt.max)
    assert fmt.smallest_subnormal == min(abs(level) for level in fmt.levels if level)
    assert len(fmt.levels) <= 2**fmt.bits


def test_binades_of_e2m1():
    assert E2M1.binades == ((0, 0.5), (2, 1), (4, 2))


@pytest.mark.parametrize(
    ("fmt", "unit", "largest"),
    [(E2M1, 0.5, 12), (E2M3, 0.125, 60), (E1M2, 0.25, 7), (INT8, 1, 127)],
)
def test_levels_are_integers_times_a_power_of_two(fmt, unit, largest):
    assert fmt.quantum == unit
    assert fmt.max / unit == largest


def test_formats_are_values():
    assert FloatFormat(2, 1) == E2M1 == FloatFormat(2, 1, bias=1)
    assert len({FloatFormat(2, 1), E2M1, FloatFormat(2, 1, bias=1)}) == 1
    assert FloatFormat(2, 1, bias=2).max == 3
    assert [str(fmt) for fmt in (E2M1, E4M3FN, INT4, DUAL_FP6_HW)] == [
        "E2M1",
        "E4M3(num_high_nans=1)",
        "INT4",
        "GRID(0...31)|E2M3",
    ]


def test_by_name_finds_every_format_and_lists_them():
    assert all(by_name(name.lower()) is fmt for name, fmt in FORMATS.items())
    assert by_name("dual-fp4") is DUAL_FP4
    with pytest.raises(ValueError, match=r"'e9m9'; there are E3M0, .*DUAL_FP6_HW"):
        by_name("e9m9")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FloatFormat(0, 3), "at least 1 and 0"),
        (lambda: FloatFormat(5, 3), "at most 8 bits"),
        (lambda: FloatFormat(2, 1, bias=200), "bias 200"),
        (lambda: FloatFormat(2, 1, num_high_nans=7), "num_high_nans 7"),
        (lambda: IntFormat(9), "bits 9"),
        (lambda: GridFormat((-1, 2)), "from 0 or above"),
        (lambda: GridFormat((0, 2, 1)), "ascend"),
        (lambda: GridFormat((0,)), "1 magnitudes"),
        (lambda: GridFormat(tuple(range(129))), "129 magnitudes"),
        (lambda: DualFormat(TWOS_COMPLEMENT, E2M1), "symmetric=True"),
        (lambda: DualFormat(E1M2, E2M1, cast(Any, "odd")), "'odd'"),
    ],
)
def test_impossible_formats_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_codes_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"0 \.\.\. 15"):
        decode(torch.tensor([16]), E2M1)
    with pytest.raises(ValueError, match="1 of the codes"):
        decode(torch.tensor([127, 0]), E4M3FN)
