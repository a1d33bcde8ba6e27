"""The figures of the pages on the model show what they were given."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from fpqvar_lab.figures import model, style

mpl.use("agg")


@pytest.fixture
def figures():
    with mpl.rc_context():
        style.use_house_style()
        yield draw_each()


def draw_each():
    codes = [torch.arange(size * size) % 16 for size in (1, 2, 3)]
    step_of = torch.repeat_interleave(torch.arange(3), torch.tensor([1, 4, 9]))
    tokens = (1, 4, 9)
    return {
        "grid": model.picture_grid([torch.rand(3, 1, 8, 8)] * 2, ["a", "b", "c"], ["one", "two"]),
        "tokens": model.token_maps(codes, torch.randn(16, 4)),
        "curve": model.curve([1, 2, 3], [0.1, 20.0, 300.0], "x", "y"),
        "mask": model.attention_mask(step_of[:, None] >= step_of, (1, 2, 3)),
        "shares": model.stacked_shares({"m": {"fc1": 3, "phi": 1}, "n": {"fc1": 1}}, "share"),
        "bars": model.step_bars({"a": tokens}, "ms", {"a": "memory"}, tokens),
        "panels": model.step_panels({"a": tokens, "b": tokens}, dict.fromkeys("ab", "fp"), tokens),
        "roofline": model.roofline({"d": (1e12, 1e9)}, {"d": "gpu"}, {"p": [1.0, 10.0, 1e4]}),
    }


def test_every_figure_has_the_width_of_the_page_and_draws(figures):
    for name, figure in figures.items():
        assert isinstance(figure, Figure), name
        assert figure.get_figwidth() == style.WIDTH, name
        figure.draw_without_rendering()


def test_shares_add_up_to_a_hundred_and_unknown_layers_become_other(figures):
    axis = figures["shares"].axes[0]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers}
    assert widths == {"fc1": [75.0, 100.0], "other": [25.0, 0.0]}


def test_the_mask_shows_exactly_the_allowed_pairs(figures):
    shown = figures["mask"].axes[0].images[0].get_array()
    step_of = np.repeat([0, 1, 2], [1, 4, 9])
    assert np.array_equal(
        ~np.ma.getmaskarray(np.ma.masked_invalid(shown)), step_of[:, None] >= step_of
    )


def test_the_roof_is_the_smaller_of_peak_and_bandwidth_times_intensity(figures):
    reach, speed = figures["roofline"].axes[0].lines[0].get_data()
    assert np.allclose(speed, np.minimum(1e12, 1e9 * reach) / 1e12)


def test_a_grey_picture_keeps_its_values(figures):
    image = figures["grid"].axes[0].images[0]
    assert image.get_clim() == (0, 1)
    assert image.get_array().shape == (8, 8)
