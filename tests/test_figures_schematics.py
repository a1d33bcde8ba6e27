"""The schematics of the pages on quantizers and multipliers can be drawn."""

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import schematics

mpl.use("agg")


def figures():
    return {
        "fabric": schematics.fabric(),
        "ways": schematics.quantizer_ways(),
        "multipliers": schematics.multiplier_ways(),
    }


@pytest.mark.parametrize("name", figures())
def test_every_drawing_is_a_figure_that_can_be_rendered(name):
    figure = figures()[name]
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.axes
