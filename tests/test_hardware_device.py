"""Machines and their figures; intervals and what depends on the same unknowns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpqvar_lab.hardware.accelerator import (
    DEVICES,
    FPGA,
    NO_SOURCE,
    Interval,
    Uncertain,
    Unknown,
    figures,
    find_device,
    find_fpga,
    ratio,
)

EVERY = [(name, field, f) for name, device in DEVICES.items() for field, f in figures(device)]


@pytest.mark.parametrize(("name", "field", "figure"), EVERY, ids=lambda v: v if str(v) == v else "")
def test_every_figure_has_a_unit_and_a_source_or_is_marked_as_recalled(name, field, figure):
    assert figure.unit
    assert figure.recalled == (figure.source == NO_SOURCE)


def test_what_the_vck190_s_figures_rest_on():
    recalled = {field for name, field, figure in EVERY if name == "vck190" and figure.recalled}
    assert recalled == {"lut", "ff", "bram", "uram", "memory", "static"}


def test_each_lut_of_an_fpga_has_two_flip_flops():
    for device in DEVICES.values():
        if isinstance(device, FPGA):
            assert device.ff.value == 2 * device.lut.value


def test_unknown_names_say_what_there_is():
    with pytest.raises(ValueError, match="no device 'abacus'; there are vck190, u280, k26"):
        find_device("abacus")
    with pytest.raises(ValueError, match="A100 40 GB is no FPGA; use vck190, u280, k26"):
        find_fpga("a100")


# Intervals

limits = st.tuples(st.floats(0.1, 10), st.floats(0, 10)).map(lambda p: Interval(p[0], p[0] + p[1]))
fractions = st.lists(st.floats(0, 100), min_size=3, max_size=3)


def uncertain(ranges, factors):
    unknowns = [Unknown(f"u{i}", one, "J", "test") for i, one in enumerate(ranges)]
    return Uncertain(dict(zip(unknowns, factors, strict=True)))


@given(st.lists(limits, min_size=3, max_size=3), fractions, fractions, st.data())
def test_a_ratio_lies_within_its_bounds_whatever_the_unknowns_are(ranges, above, below, data):
    """Oracle: values drawn from the ranges."""
    top, bottom = uncertain(ranges, above), uncertain(ranges, [b + 0.1 for b in below])
    bounds = ratio(top, bottom)
    values = {u: data.draw(st.floats(u.range.low, u.range.high)) for u in bottom.factors}
    found = top.at(values) / bottom.at(values)
    assert bounds.low - 1e-9 <= found <= bounds.high + 1e-9


@given(st.lists(limits, min_size=3, max_size=3), fractions)
def test_a_sum_over_itself_is_one_and_over_its_double_one_half(ranges, factors):
    energy = uncertain(ranges, [f + 0.1 for f in factors])
    same, half = ratio(energy, energy), ratio(energy, energy * 2)
    assert (same.low, same.high) == pytest.approx((1, 1))
    assert (half.low, half.high) == pytest.approx((0.5, 0.5))


def test_shared_unknowns_make_a_ratio_narrower_than_its_intervals_divided():
    ranges = [Interval(1, 4), Interval(2, 3)]
    above, below = uncertain(ranges, [5, 1]), uncertain(ranges, [4, 2])
    tight = ratio(above, below)
    assert above.interval.low / below.interval.high < tight.low
    assert tight.high < above.interval.high / below.interval.low


def test_sums_add_the_factors_of_the_same_unknown():
    ranges = [Interval(1, 4), Interval(2, 3)]
    total = uncertain(ranges, [5, 1]) + uncertain(ranges, [4, 0])
    assert total.interval == Interval(11, 39)
    assert list(total.terms().values()) == [Interval(9, 36), Interval(2, 3)]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="low must not exceed high"):
        Interval(2, 1)
    with pytest.raises(ValueError, match="is negative"):
        uncertain([Interval(0, 1)], [-1])
    with pytest.raises(ValueError, match="must be above zero"):
        ratio(uncertain([Interval(0, 1)], [1]), uncertain([Interval(0, 1)], [1]))
