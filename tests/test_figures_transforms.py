"""The drawings of the page on the Hadamard transform show the values they are given."""

import matplotlib as mpl
import pytest
import torch
from matplotlib.figure import Figure

from fpqvar_lab.figures import style, transforms

PAIR = [("mini", "fc1"), ("mini-outlier", "fc1")]


@pytest.fixture
def figures():
    with mpl.rc_context():
        style.use_house_style()
        methods = {name: [0.5, 0.25] for name in transforms.METHODS}
        strips = {model: {"fc1, block 1": [0.9, 1.1]} for model, _ in PAIR}
        errors = {(model, layer): methods for model, _ in PAIR for layer in ("mat_qkv", "fc1")}
        yield {
            "pairs": transforms.before_and_after(
                {"a": (torch.eye(4)[1], torch.ones(4))}, ["before", "after"]
            ),
            "errors": transforms.errors_by_block(errors, "error"),
            "crest": transforms.gain_against_crest(
                {key: [(3.0, 0.9), (7.0, 0.4)] for key in PAIR}, 2.8, ("x", "y")
            ),
            "sizes": transforms.by_group_size({key: [1.0, 0.5] for key in PAIR}, [1, 2], "y"),
            "strips": transforms.seed_strips(strips, "ratio"),
        }


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_every_figure_has_the_width_of_the_page_and_draws(figures):
    for name, figure in figures.items():
        assert isinstance(figure, Figure), name
        assert figure.get_figwidth() == style.WIDTH, name
        figure.draw_without_rendering()


def test_the_crest_factors_are_those_of_the_vectors(figures):
    # A spike in four channels has sqrt(4), a flat vector 1.
    assert texts(figures["pairs"]) == ["crest factor 2.0", "crest factor 1.0"]


def test_the_mean_over_the_seeds_is_written(figures):
    assert texts(figures["strips"]) == ["1.000", "1.000"]


def test_each_panel_of_errors_has_a_line_for_each_method(figures):
    assert [len(axis.lines) for axis in figures["errors"].axes] == [3] * 4
