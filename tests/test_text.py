"""The text of formats and quantizers: total over the values that occur, and read back exactly."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fpqvar_lab.formats import (
    DUAL_FP4_POW2,
    E1M2,
    E2M1,
    E2M3,
    FORMATS,
    DualFormat,
    FloatFormat,
    GridFormat,
    IntFormat,
    Rounding,
    SignedFormat,
    format_from_text,
    format_to_text,
)
from fpqvar_lab.quantization import (
    MSE,
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    AbsMax,
    MseSearch,
    PerGroup,
    Quantizer,
    ScaleDtype,
    per_group,
    percentile,
    ratio,
)


@st.composite
def minifloats(draw: st.DrawFn) -> FloatFormat:
    exponent_bits = draw(st.integers(1, 7))
    mantissa_bits = draw(st.integers(0, 7 - exponent_bits))
    bias = draw(st.none() | st.integers(-80, 140))
    highest = 2 ** (exponent_bits + mantissa_bits) - 2
    nans = draw(st.integers(0, highest)) if draw(st.booleans()) else 0
    try:
        return FloatFormat(exponent_bits, mantissa_bits, bias, nans)
    except ValueError:  # levels outside what float32 computes with
        assume(False)
        raise


def grids() -> st.SearchStrategy[GridFormat]:
    magnitudes = st.floats(0, 2.0**100, exclude_min=True, width=32)
    sets = st.sets(magnitudes, min_size=2, max_size=127)
    mid_tread = sets.map(lambda values: GridFormat((0, *sorted(values))))
    return mid_tread | sets.map(lambda values: GridFormat(tuple(sorted(values))))


integers = st.integers(2, 8).map(IntFormat)
halves: st.SearchStrategy[SignedFormat] = minifloats() | integers | grids()
formats = (
    halves
    | st.integers(2, 8).map(lambda bits: IntFormat(bits, symmetric=False))
    | st.builds(DualFormat, halves, halves, st.sampled_from(["free", "power-of-two"]))
    | st.sampled_from(list(FORMATS.values()))
)
granularities = st.sampled_from([PER_TENSOR, PER_CHANNEL, PER_TOKEN]) | st.builds(
    PerGroup, st.integers(1, 4096), st.integers(-4, 4)
)
positive = st.floats(0, 1e6, exclude_min=True)
methods = (
    st.sampled_from([AbsMax(), MSE])
    | st.floats(0, 100, exclude_min=True).map(percentile)
    | st.lists(positive, min_size=1, max_size=30).map(lambda ratios: MseSearch(tuple(ratios)))
)
quantizers = st.builds(
    Quantizer,
    formats,
    granularities,
    methods,
    st.sampled_from(Rounding),
    st.sampled_from(ScaleDtype),
    st.sampled_from(["clipped", "everywhere"]),
    st.booleans(),
)


@given(formats)
def test_every_format_comes_back_from_its_text_in_any_case(fmt):
    text = format_to_text(fmt)
    assert " " not in text
    assert format_from_text(text) == format_from_text(text.lower()) == fmt


@given(quantizers)
def test_every_quantizer_comes_back_from_its_text(quantizer):
    assert Quantizer.from_text(quantizer.to_text()) == quantizer


def test_compile_is_not_in_the_text():
    quantizer = Quantizer(E2M1, PER_TOKEN, compile=True)
    assert Quantizer.from_text(quantizer.to_text()) == Quantizer(E2M1, PER_TOKEN)


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (FloatFormat(3, 4), "E3M4"),
        (FloatFormat(4, 3, bias=8), "E4M3(bias=8)"),
        (FloatFormat(4, 3, bias=8, num_high_nans=1), "E4M3(bias=8,num_high_nans=1)"),
        (FloatFormat(4, 3, num_high_nans=1), "E4M3FN"),
        (IntFormat(5), "INT5"),
        (IntFormat(4, symmetric=False), "INT4-ASYMMETRIC"),
        (GridFormat((0, 0.1, 5)), "GRID(0,0.1,5)"),
        (GridFormat.integers(32), "GRID(0...32)"),
        (GridFormat((1, 3, 5)), "GRID(1,3,5)"),
        (DualFormat(E2M1, IntFormat(4)), "E2M1|INT4"),
        (DualFormat(E1M2, E2M3, "power-of-two"), "E1M2|E2M3|power-of-two"),
        (DUAL_FP4_POW2, "DUAL_FP4_POW2"),
    ],
)
def test_the_text_of_a_format_is_short(fmt, text):
    assert format_to_text(fmt) == text


@pytest.mark.parametrize(
    ("quantizer", "text"),
    [
        (Quantizer(E2M1, PER_CHANNEL), "E2M1 per-channel"),
        (Quantizer(E2M1, per_group(16, dim=0), MSE), "E2M1 per-group-16 dim=0 scale=mse"),
        (
            Quantizer(E2M1, per_group(16), scale_dtype=ScaleDtype.E4M3),
            "E2M1 per-group-16 scale-dtype=e4m3",
        ),
        (Quantizer(E2M1, PER_TOKEN, percentile(99)), "E2M1 per-token scale=percentile-99"),
        (Quantizer(E2M1, PER_TOKEN, ratio(1e-7)), "E2M1 per-token scale=ratio-1e-07"),
        (Quantizer(E2M1, PER_TOKEN, MseSearch((1, 0.9))), "E2M1 per-token scale=mse-1,0.9"),
        (
            Quantizer(E2M1, PER_TOKEN, gradient="everywhere", check=False),
            "E2M1 per-token gradient=everywhere check=off",
        ),
    ],
)
def test_the_text_of_a_quantizer_names_what_is_not_the_default(quantizer, text):
    assert quantizer.to_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("E2M1", "write a format and a granularity"),
        ("E9M9 per-token", "exponent_bits 9"),
        ("FP5 per-token", "format 'FP5'; use one of E3M0, E2M1"),
        ("E4M3(base=2) per-token", "options are bias and num_high_nans"),
        ("E4M3(bias=x) per-token", "bias is 'x'; use a whole number"),
        ("GRID(0,x) per-token", "magnitude 'x'"),
        ("GRID(2,1) per-token", "ascend from 0 or above"),
        ("E2M1|E2M1|free|E2M1 per-token", "two halves and a scale ratio"),
        ("E2M1|DUAL_FP4 per-token", "two halves and a scale ratio"),
        ("E2M1|E2M1|some per-token", "scale_ratio 'some'"),
        ("E2M1 per-row", "granularity 'per-row'; use per-tensor"),
        ("E2M1 per-token dim=0", "dim=0 is for groups"),
        ("E2M1 per-group-8 dim=x", "dim is 'x'; use a whole number"),
        ("E2M1 per-token size=3", "option 'size'"),
        ("E2M1 per-token scale=best", "scale 'best'; use absmax, mse, percentile"),
        ("E2M1 per-token scale=ratio-1,2", "scale 'ratio-1,2'"),
        ("E2M1 per-token rounding=up", "rounding 'up'; use ties-to-even"),
        ("E2M1 per-token scale-dtype=int8", "scale-dtype 'int8'; use float32"),
        ("E2M1 per-token check=maybe", "check 'maybe'; use on or off"),
        ("E2M1 per-token gradient=none", "gradient 'none'"),
    ],
)
def test_a_text_that_is_no_quantizer_says_what_is(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("|", r"\|")):
        Quantizer.from_text(text)
