"""The drawings of what lookup tables hold show what they got."""

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import lut_contents

mpl.use("agg")

LEVELS, THRESHOLDS = (0.0, 0.5, 1.0), (0.25, 0.75)
CONTENTS = {"a": [[0, 1], [1, 1]], "b": [[0, 0], [0, 1]]}
BITS = [[0, 0], [0, 1]]


def figures():
    return {
        "staircase": lut_contents.rounding_staircase(LEVELS, THRESHOLDS, (False, True), 0.25),
        "contents": lut_contents.table_contents(CONTENTS, "xy"),
        "map": lut_contents.product_map((0, 1), [[0, 0], [0, 9]], {"o[1]": BITS, "o[0]": BITS}),
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


def test_the_map_shows_every_product():
    texts = [text.get_text() for text in figures()["map"].axes[0].texts]
    assert texts == ["0", "0", "0", "9"]
