"""The figures of Part II show what they were given, and the interactive one needs no other file."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from fpqvar_lab.figures import observations, style
from fpqvar_lab.figures.interactive import outlier_explorer

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


@pytest.fixture(scope="module")
def magnitudes() -> dict[str, dict[str, torch.Tensor]]:
    source = torch.Generator().manual_seed(2)
    return {
        model: {
            layer: torch.randn(3, 5, channels, generator=source).exp()
            for layer, channels in (("mat_qkv", 8), ("fc2", 16))
        }
        for model in MODELS
    }


def test_the_explorer_holds_all_magnitudes_to_two_per_cent(magnitudes):
    html = outlier_explorer(magnitudes).html
    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.S)
    assert found is not None
    held = json.loads(found[1])
    about = held["about"]
    codes = np.frombuffer(b64decode(held["data"]), np.uint8) / 255
    values = 2.0 ** (about["lowest"] + codes * (about["highest"] - about["lowest"]))
    expected = np.concatenate(
        [maps.numpy().ravel() for layers in magnitudes.values() for maps in layers.values()]
    )
    inside = (expected > 2 ** about["lowest"]) & (expected < 2 ** about["highest"])
    assert inside.mean() > 0.95
    assert np.allclose(values[inside], expected[inside], rtol=0.02)
    assert (about["blocks"], about["steps"]) == (3, 5)
    assert [(layer["name"], layer["channels"]) for layer in about["layers"]] == [
        ("mat_qkv", 8),
        ("fc2", 16),
    ]


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.parents: list[str] = []
        self.unlabelled = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in ("input", "select") and "label" not in self.parents:
            self.unlabelled += 1
        if tag != "input":
            self.parents.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.parents.pop() != tag:
            pass


def test_the_explorer_needs_no_other_file_and_labels_its_controls(magnitudes):
    html = outlier_explorer(magnitudes).html
    elements = Elements(html)
    assert not any({"src", "href"} & attributes.keys() for _, attributes in elements.found)
    assert set(re.findall(r"https?://[^\"' )]+", html)) == {"http://www.w3.org/2000/svg"}
    assert elements.unlabelled == 0
    tags = [tag for tag, _ in elements.found]
    assert tags.count("noscript") == 1
    assert tags.count("option") == 2 + 3
    slider = [a for tag, a in elements.found if tag == "input" and a.get("type") == "range"]
    assert [(a["min"], a["max"]) for a in slider] == [("1", "5")]
    assert all(a.get("aria-label") for tag, a in elements.found if tag == "svg")


def test_the_explorer_is_the_same_each_time_and_refuses_other_shapes(magnitudes):
    assert outlier_explorer(magnitudes) == outlier_explorer(magnitudes)
    with pytest.raises(ValueError, match="proj has shape"):
        outlier_explorer({"mini": {"proj": torch.ones(2, 3)}})
