"""The drawings of throughput, energy and the design space show what they were given."""

import matplotlib as mpl
import pytest

from fpqvar_lab.figures import accelerator
from fpqvar_lab.hardware.accelerator import Interval

mpl.use("agg")


def test_ratios_are_dots_and_bars_and_published_values_are_lines():
    rows = {
        "a": accelerator.Ratio(2.0, Interval(1, 4), "int"),
        "b": accelerator.Ratio(0.5, Interval(2, 3), "fp"),
    }
    speed, energy = accelerator.ratios(rows, 3.1, 3.6).axes
    dots = [line.get_xdata()[0] for line in speed.lines if line.get_marker() == "o"]
    assert dots == [2.0, 0.5]
    assert 3.1 in [line.get_xdata()[0] for line in speed.lines]
    bars = [tuple(line.get_xdata()) for line in energy.lines if line.get_linewidth() == 5]
    assert bars == [(1, 4), (2, 3)]


def test_terms_end_in_their_sum_and_mark_what_can_be_zero():
    values = {"x": Interval(0, 1), "y": Interval(1, 2)}
    (axis,) = accelerator.terms(values, Interval(1, 3)).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x", "y", "all together"]
    assert sum(line.get_marker() == "<" for line in axis.lines) == 1


def test_designs_have_a_dot_at_their_speed_and_a_bar_from_least_to_most_energy():
    marks = [accelerator.Mark(1.5, Interval(5, 20), "one", "fp")]
    speed, joules = accelerator.designs(marks, {"goal": 2.0}).axes
    assert [line.get_xdata()[0] for line in speed.lines] == [1.5, 2.0]
    assert tuple(joules.lines[0].get_xdata()) == (5, 20)
    assert [label.get_text() for label in speed.get_yticklabels()] == ["one"]


def test_curves_and_lines_share_one_axis():
    figure = accelerator.against(
        {"clock": {"a": {1.0: 2.0}}, "memory": {"": {3.0: 4.0}}}, {"goal": 2.5}
    )
    clock, memory = figure.axes
    assert list(clock.lines[0].get_ydata()) == [2.0]
    assert clock.get_ylim() == memory.get_ylim()
    assert clock.get_ylim()[0] == pytest.approx(0)
