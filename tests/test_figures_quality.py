"""The drawings of the pages on image quality and real checkpoints show what they were given."""

import matplotlib as mpl
import pytest

from fpqvar_lab.figures import quality

mpl.use("agg")

ROWS = ("a", "b", "c")
VALUES = {"one": {"a": (3.0, 2.5, 3.5), "b": (2.0, 1.5, 2.5)}, "two": {"c": (1.0, 0.5, 1.5)}}


def test_scores_leave_out_what_was_not_measured():
    figure = quality.scores(ROWS, {"KL": VALUES, "FID": VALUES}, logarithmic=("KL",))
    for axis in figure.axes:
        points = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 1]
        assert sorted(float(x[0]) for x in points) == [1.0, 2.0, 3.0]
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "linear"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_intervals_are_drawn_from_end_to_end():
    (axis,) = quality.scores(ROWS, {"KL": VALUES}).axes
    bars = [tuple(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2]
    assert sorted(bars) == [(0.5, 1.5), (1.5, 2.5), (2.5, 3.5)]


def test_ranks_order_each_column_and_keep_only_shared_rows():
    columns = {"x": {"a": 1.0, "b": 2.0, "c": 3.0}, "y": {"a": 9.0, "c": 5.0}}
    (axis,) = quality.ranks(columns, {"a": "int", "b": "fp", "c": "dual"}).axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[0, 1], [1, 0]]


def test_noise_draws_values_and_a_guide_through_the_last():
    (axis,) = quality.noise({10: 4.0, 20: 2.5, 40: 1.0}, {"model": 3.0}, "n", "FID").axes
    guide, values, line = axis.lines
    assert list(values.get_ydata()) == [4.0, 2.5, 1.0]
    assert list(guide.get_ydata()) == pytest.approx([4.0, 2.0, 1.0])
    assert set(line.get_ydata()) == {3.0}


def test_memory_stacks_its_parts():
    rows = {"one": {"weights": 4.0, "KV cache": 3.0}, "two": {"weights": 1.0}}
    (axis,) = quality.memory(rows, {"24 GB": 24}).axes
    ends = [
        max(bar.get_x() + bar.get_width() for bar in bars)
        for bars in zip(*axis.containers, strict=True)
    ]
    assert ends == [7.0, 1.0]
