"""The drawings of the pages on the Hadamard unit and the matrix unit show what they were given."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import style, units

mpl.use("agg")


def figures():
    order = np.arange(8).reshape(4, 2)
    costs = {"logic": [10, 20, 900], "delays": [5, 8, 0]}
    parts = {"a": {"dots": 20.0, "rest": 1.0}, "b": {"dots": 30.0, "aligners": 3.0, "rest": 1.5}}
    return {
        "graph": units.butterfly_graph(8),
        "folded": units.folded_unit(8),
        "meetings": units.meetings([order, order], ["a", "b"]),
        "words": units.word_lengths([13, 14], {"worst": [13, 14], "real": [11, 11.5]}),
        "rates": units.cost_by_rate([2, 4, 128], costs, 0.5, [12, 24, 800]),
        "tree": units.adder_tree(),
        "tile": units.matrix_tile(2, 3),
        "lut": units.lut_bars(
            {"E2M1": {16: 21.0, 64: 20.0}, "INT8": {16: 106.0}}, {"E2M1": "fp", "INT8": "int"}
        ),
        "time": units.tile_timeline(
            {"operands": [(0, 0, 8), (1, 8, 16)], "results": [(1, 20, 24)]}, groups=1
        ),
        "parts": units.stacked_parts(parts, "LUT/MAC"),
        "shifts": units.shift_histogram({-1: 100, 0: 50, 7: 1}, range(-4, 4)),
    }


@pytest.fixture(scope="module")
def drawn():
    with mpl.rc_context():
        style.use_house_style()
        yield figures()


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_every_figure_has_the_width_of_the_page_and_draws(drawn):
    for name, figure in drawn.items():
        assert isinstance(figure, Figure), name
        assert figure.get_figwidth() == style.WIDTH, name
        figure.canvas.draw()


def test_each_butterfly_is_three_sums_and_a_difference(drawn):
    (axis,) = drawn["graph"].axes
    lines = [line for line in axis.lines if len(line.get_xdata()) == 2]
    assert len(lines) == 4 * 3 * 4
    assert sum(line.get_linestyle() == "--" for line in lines) == 3 * 4


def test_the_delays_of_the_folded_unit_double(drawn):
    written = texts(drawn["folded"])
    assert written.count("1 beat") == written.count("2 beats") == 2


def test_a_tile_has_a_dot_product_in_each_place_and_a_scale_unit_in_each_column(drawn):
    written = texts(drawn["tile"])
    assert (written.count("dot product"), written.count("scale unit")) == (6, 3)


def test_bars_are_written_with_their_values(drawn):
    assert "20.0   64 lanes" in texts(drawn["lut"])
    assert {"21.0", "34.5"} <= set(texts(drawn["parts"]))


def test_delays_that_are_not_there_are_not_drawn(drawn):
    assert "0" not in texts(drawn["rates"])


def test_shifts_outside_the_window_have_another_colour(drawn):
    (axis,) = drawn["shifts"].axes
    colours = {
        round(bar.get_x() + bar.get_width() / 2): bar.get_facecolor()
        for container in axis.containers
        for bar in container
    }
    assert colours[-1] == colours[0] != colours[7]
