"""The drawings of the pages on recipes and on the KV cache show what they were given."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.evaluation import Estimate
from fpqvar_lab.figures import method
from fpqvar_lab.method import RECIPES

mpl.use("agg")


def figures():
    rows = {"a": Estimate(0.1, 0.08, 0.12), "b": Estimate(0.004)}
    colours = {"a": "fp", "b": "dual"}
    steps = [[3.0, 2.0], [2.0, 1.0]]
    parts = {"a": [1.0, 1.0], "b": [0.5, 2.0]}
    written = [[0.1, 0.2], [0.1]]
    lengths = {"block 1": np.array([1.0, 2.0, 2.5]), "block 2": np.array([0.5, 2.0, 4.0])}
    return {
        "diagram": method.block_diagram(RECIPES["fp4-fpqvar-kv6"]),
        "estimates": method.estimates(rows, colours, "x"),
        "logarithmic": method.estimates(rows, colours, "x", log=True),
        "blocks": method.by_block_and_step({"fc1": steps, "fc2": steps}, "dB"),
        "growth": method.cache_growth(parts, colours, (1, 4)),
        "rows": method.row_histograms({"keys": lengths, "values": lengths}, "x"),
        "ageing": method.ageing({"keys": {"again": written, "once": written}}, "error"),
        "stacked": method.stacked_steps({"16 bits": parts}, colours, (1, 4), "GB"),
    }


@pytest.mark.parametrize("name", figures())
def test_every_drawing_is_a_figure_that_can_be_rendered(name):
    figure = figures()[name]
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.axes


@pytest.mark.parametrize("name", RECIPES)
def test_a_block_can_be_drawn_for_every_recipe(name):
    method.block_diagram(RECIPES[name]).canvas.draw()


def words(recipe):
    return [text.get_text() for text in method.block_diagram(recipe).axes[0].texts]


def test_the_diagram_shows_what_the_recipe_says():
    drawn = words(RECIPES["fp4-fpqvar-kv6"])
    assert drawn.count("× λ") == 2
    assert drawn.count("R\n128") == 2
    assert drawn.count("Q\nE2M1") == 3
    assert "Q\nE1M2|\nE2M1" in drawn
    assert "KV cache\nE2M3" in drawn


def test_the_diagram_of_a_plain_recipe_has_no_transform_and_no_factors():
    drawn = words(RECIPES["fp4-baseline"])
    assert "× λ" not in drawn
    assert not any(text.startswith("R\n") for text in drawn)
    assert drawn.count("Q\nE2M1") == 4
    assert "KV cache\n16 bits" in drawn


def test_a_transform_before_proj_and_fc2_is_shown_with_their_quantizers():
    assert words(RECIPES["int4-quarot"]).count("R, Q\nINT4") == 2


def test_the_diagram_of_the_original_quantizes_nothing():
    assert not any(text.startswith(("Q", "W")) for text in words(RECIPES["fp16"]))


def test_an_interval_reaches_from_low_to_high():
    line = figures()["estimates"].axes[0].lines[0]
    assert list(line.get_xdata()) == [0.08, 0.12]


def test_bars_are_stacked_in_the_order_given():
    bars = figures()["stacked"].axes[0].patches
    assert [bar.get_y() for bar in bars] == [0, 0, 1, 1]
    assert [bar.get_height() for bar in bars] == [1, 1, 0.5, 2]


def test_entries_are_drawn_from_the_step_that_wrote_them():
    lines = figures()["ageing"].axes[0].lines
    assert list(lines[0].get_xdata()) == [1, 2]
    assert list(lines[1].get_xdata()) == [2]
