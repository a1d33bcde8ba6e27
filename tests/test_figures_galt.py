"""The drawings of the page on the learnable transformation show what they were given."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from fpqvar_lab.figures import galt

mpl.use("agg")

LAYERS = ("mat_qkv", "fc1")
MODELS = ("mini", "mini-outlier")
BLOCKS = 3
PLANTED = torch.arange(8) < 2


def factors():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(8, generator=generator) + 0.5 for _ in range(BLOCKS)]


def figures():
    blocks = [1.0, 0.9, 1.1]
    names = galt.METHODS
    pair = (torch.stack(factors()), torch.stack(factors()))
    points = {layer: [(0.5, 0.6)] * BLOCKS for layer in LAYERS}
    slopes = {"a": {"one": -1.0, "two": -2.0}, "b": {"one": 0.0, "two": 1.0}}
    return {
        "tangents": galt.tangents([-1, 0, 1], {"a": [3, 2, 1], "b": [1, 2, 3]}, slopes, "t"),
        "curves": galt.learning_curves({k: [[2.0, 1.0, 1.5]] * BLOCKS for k in LAYERS}),
        "strips": galt.factor_strips(
            {m: {k: factors() for k in LAYERS} for m in MODELS}, {"mini-outlier": PLANTED}
        ),
        "balance": galt.balance(
            dict.fromkeys(LAYERS, pair), PLANTED, dict.fromkeys(MODELS, points)
        ),
        "errors": galt.method_errors(
            {m: {k: {name: [0.01, 0.02, 0.03] for name in names} for k in LAYERS} for m in MODELS}
        ),
        "ratios": galt.error_ratios(
            {k: {"x": blocks, "y": blocks} for k in LAYERS}, {"x": "galt", "y": "baseline"}, "z"
        ),
    }


@pytest.mark.parametrize("name", figures())
def test_every_drawing_is_a_figure_that_can_be_rendered(name):
    figure = figures()[name]
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert len(figure.axes) in (2, 4)


def test_tangents_pass_through_the_value_at_zero():
    axis = figures()["tangents"].axes[0]
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in axis.lines}
    assert lines["one"].tolist() == [3, 2, 1]
    assert lines["two"].tolist() == [4, 2, 0]


def test_learning_curves_start_at_one_and_mark_the_least_error():
    curve, dot, *_ = figures()["curves"].axes[0].lines
    assert np.asarray(curve.get_ydata()).tolist() == [1.0, 0.5, 0.75]
    assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([1], [0.5])


def test_only_the_model_with_planted_channels_has_dots():
    axes = figures()["strips"].axes
    dots = [
        sum(len(line.get_ydata()) for line in axis.lines if line.get_marker() == "o")
        for axis in axes
    ]
    assert dots == [0, 0, BLOCKS * 2, BLOCKS * 2]
