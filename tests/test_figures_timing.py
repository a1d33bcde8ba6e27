"""Stages and signals are drawn in the cycles they were given."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import timing

mpl.use("agg")

SPANS = {"in": [(0, 4), (4, 8)], "out": [(6, 10), (10, 14)]}
WAVES = {"valid": [0, 1, 1, 0], "data": [None, "a", "a", "b"]}


def figures():
    return {
        "timeline": timing.stage_timeline(SPANS, (0, 6), 4),
        "waves": timing.waveform(WAVES, [(1, 2)]),
    }


@pytest.mark.parametrize("name", figures())
def test_every_drawing_is_a_figure_that_can_be_rendered(name):
    figure = figures()[name]
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.axes


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
