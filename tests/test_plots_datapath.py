"""The drawings of the pages on quantizers and multipliers in lookup tables show what they got."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import datapath

mpl.use("agg")

LEVELS, THRESHOLDS = (0.0, 0.5, 1.0), (0.25, 0.75)
SPANS = {"in": [(0, 4), (4, 8)], "out": [(6, 10), (10, 14)]}
WAVES = {"valid": [0, 1, 1, 0], "data": [None, "a", "a", "b"]}
COSTS = {"core": {"E2M1": {"table": 3, "logic": 79}}, "unit": {"E2M1": {"table": 800}}}
BITS = [[0, 0], [0, 1]]
GROWTH = {"a": {4: 9, 5: 32}, "b": {4: 21}, "c": {4: 8}}
FORMATS = {"INT4": "int", "E2M1": "fp"}
POINTS = {"INT4": (16.8, 19.0), "E2M1": (20.9, 20.7)}
FAMILIES = {"table": "memory", "logic": "arithmetic"}


def figures():
    return {
        "fabric": datapath.fabric(),
        "ways": datapath.quantizer_ways(),
        "staircase": datapath.rounding_staircase(LEVELS, THRESHOLDS, (False, True), 0.25),
        "contents": datapath.table_contents({"a": [[0, 1], [1, 1]], "b": [[0, 0], [0, 1]]}, "xy"),
        "costs": datapath.cost_bars(COSTS, FAMILIES, "LUTs"),
        "timeline": datapath.stage_timeline(SPANS, (0, 6), 4),
        "waves": datapath.waveform(WAVES, [(1, 2)]),
        "multipliers": datapath.multiplier_ways(),
        "map": datapath.product_map((0, 1), [[0, 0], [0, 9]], {"o[1]": BITS, "o[0]": BITS}),
        "growth": datapath.table_growth(GROWTH, dict.fromkeys(GROWTH, "fp"), {4: 7, 5: 33}),
        "formats": datapath.format_costs({"INT4": (7, 16.8), "E2M1": (9, 20.9)}, FORMATS),
        "accuracy": datapath.accuracy_against_cost({"a": POINTS}, FORMATS, ["INT4"], ("x", "y")),
    }


@pytest.mark.parametrize("name", figures())
def test_every_drawing_is_a_figure_that_can_be_rendered(name):
    figure = figures()[name]
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.axes


def test_a_tie_s_dot_is_filled_at_the_level_that_is_taken():
    axis = figures()["staircase"].axes[0]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    filled = [line for line in dots if line.get_markerfacecolor() != "white"]
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in filled]
    assert places == [(0.25, 0.0), (0.75, 1.0)]


def test_bars_carry_their_numbers():
    figure = figures()["costs"]
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts == ["3", "79", "800"]


def test_a_stage_is_busy_from_its_first_cycle_to_its_last():
    axis = figures()["timeline"].axes[0]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axis.patches]
    assert bars == [*SPANS["in"], *SPANS["out"]]


def test_a_word_that_stays_is_drawn_once_and_one_that_does_not_count_not_at_all():
    axis = figures()["waves"].axes[0]
    words = {text.get_text(): text.get_position()[0] for text in axis.texts}
    assert words == {"a": 2.0, "b": 3.5}
    wire = np.asarray(axis.lines[1].get_ydata()) > -1
    assert wire.tolist() == [False, False, True, True, True, True, False, False]


def test_the_map_shows_every_product():
    texts = [text.get_text() for text in figures()["map"].axes[0].texts]
    assert texts == ["0", "0", "0", "9"]


def test_the_line_joins_only_the_formats_that_were_named():
    line, *points = figures()["accuracy"].axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [16.8]
    assert [float(point.get_xdata()[0]) for point in points] == [16.8, 20.9]
