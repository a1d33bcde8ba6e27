"""The figures of Part II show what they were given."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from fpqvar_lab.figures import observations, style

mpl.use("agg")

LAYERS = ("mat_qkv", "proj", "fc1", "fc2")
MODELS = ("mini", "mini-outlier")


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    torch.manual_seed(0)
    series = {layer: [1.0, 2.0, 3.0] for layer in LAYERS}
    steps = {layer: [[2.0, 30.0], [1.0, 4.0], [8.0, 3.0]] for layer in LAYERS}
    maps = {layer: torch.rand(5, 256).exp() for layer in LAYERS}
    matrices = {layer: 100 * torch.rand(5, 5) for layer in LAYERS}
    return {
        "density": observations.density_panels({k: [torch.randn(999)] * 2 for k in LAYERS}),
        "shares": observations.share_scatter({k: [(50.0, 49.0), (88.0, 3.0)] for k in LAYERS}),
        "levels": observations.level_bars({k: list(range(15)) for k in LAYERS}),
        "blocks": observations.block_panels({"a": series, "b": series}),
        "strips": observations.level_strips({"fc1": {"even": [-1, 0, 1], "free": [0, 1]}}),
        "bars": observations.layer_bars({m: dict.fromkeys(LAYERS, 0.5) for m in MODELS}, "x"),
        "maps": observations.channel_maps(dict.fromkeys(MODELS, maps)),
        "bands": observations.step_bands(dict.fromkeys(MODELS, steps), "ratio"),
        "overlap": observations.overlap_matrices(dict.fromkeys(MODELS, matrices)),
        "dots": observations.scaling_dots(
            {name: {"none": [1.0, 2.0], "static": [3.0, 5.0]} for name in "abcd"}, "dB"
        ),
    }


def test_every_figure_has_the_width_of_the_page_and_draws(figures):
    for name, figure in figures.items():
        assert figure.get_figwidth() == style.WIDTH, name
        figure.draw_without_rendering()


def test_the_density_of_gaussian_values_lies_on_the_gaussian():
    blocks = [torch.randn(200_000, generator=torch.Generator().manual_seed(1)) * 7]
    figure = observations.density_panels(dict.fromkeys(LAYERS, blocks))
    path = figure.axes[0].collections[0].get_paths()[0].vertices
    middle = path[np.abs(path[:, 0]) < 1]
    expected = np.exp(-(middle[:, 0] ** 2) / 2) / np.sqrt(2 * np.pi)
    assert np.allclose(middle[:, 1], expected, rtol=0.06)


def test_a_map_shows_the_largest_of_the_channels_that_share_a_column():
    values = torch.ones(5, 256)
    values[2, 77] = 8.0
    maps = dict.fromkeys(LAYERS, values)
    figure = observations.channel_maps({"mini": maps})
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (5, 128)
    assert image[2, 38] == 3
    assert np.count_nonzero(image) == 1


def test_dots_write_their_mean(figures):
    texts = [text.get_text() for text in figures["dots"].axes[0].texts]
    assert texts == ["1.5", "4.0"]
