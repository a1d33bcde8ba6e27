"""The drawings of what units cost show what they got."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import unit_costs

mpl.use("agg")

COSTS = {"core": {"E2M1": {"table": 3, "logic": 79}}, "unit": {"E2M1": {"table": 800}}}
GROWTH = {"a": {4: 9, 5: 32}, "b": {4: 21}, "c": {4: 8}}
FORMATS = {"INT4": "int", "E2M1": "fp"}
POINTS = {"INT4": (16.8, 19.0), "E2M1": (20.9, 20.7)}
FAMILIES = {"table": "memory", "logic": "arithmetic"}


def figures():
    return {
        "bars": unit_costs.cost_bars({"a": 500, "b": 20_000}, ["red", "blue"], "LUT"),
        "costs": unit_costs.grouped_cost_bars(COSTS, FAMILIES, "LUTs"),
        "growth": unit_costs.table_growth(GROWTH, dict.fromkeys(GROWTH, "fp"), {4: 7, 5: 33}),
        "formats": unit_costs.format_costs({"INT4": (7, 16.8), "E2M1": (9, 20.9)}, FORMATS),
        "accuracy": unit_costs.accuracy_against_cost({"a": POINTS}, FORMATS, ["INT4"], ("x", "y")),
    }


@pytest.mark.parametrize("name", figures())
def test_every_drawing_is_a_figure_that_can_be_rendered(name):
    figure = figures()[name]
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.axes


def test_bars_carry_their_numbers():
    figure = figures()["costs"]
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts == ["3", "79", "800"]
    texts = [text.get_text() for text in figures()["bars"].axes[0].texts]
    assert texts == ["500", "20,000"]


def test_the_line_joins_only_the_formats_that_were_named():
    line, *points = figures()["accuracy"].axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [16.8]
    assert [float(point.get_xdata()[0]) for point in points] == [16.8, 20.9]
