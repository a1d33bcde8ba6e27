"""The house style: colours that stay apart, and figures that show what they were given."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from fpqvar_lab.figures import style

mpl.use("agg")

FAMILIES = {
    name: value for name, value in vars(style).items() if name.endswith("_COLOURS") and value
}

# Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009: full protanopia and deuteranopia.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("family", FAMILIES)
def test_colours_of_a_family_stay_apart(family, vision):
    # Oracle: CIE 1976 colour difference; about 2.3 is just noticeable.
    colours = {name: lab(code, VISION[vision]) for name, code in FAMILIES[family].items()}
    for (a, first), (b, second) in itertools.combinations(colours.items(), 2):
        assert np.linalg.norm(first - second) > 12, (a, b)


def test_a_colour_has_one_meaning():
    members = [code for family in FAMILIES.values() for code in family.values()]
    assert len(members) == len(set(members)) == len(style.COLOURS)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "LAYER_COLOURS"])
def test_colours_of_lines_stand_out_on_white(family):
    # Oracle: the contrast ratio of WCAG 2.1, 3 to 1 for graphics. Layers are labelled areas.
    for name, code in FAMILIES[family].items():
        assert 1.05 / (luminance(code) + 0.05) > 3, name


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
        "grid": style.picture_grid([torch.rand(3, 1, 8, 8)] * 2, ["a", "b", "c"], ["one", "two"]),
        "tokens": style.token_maps(codes, torch.randn(16, 4)),
        "curve": style.curve([1, 2, 3], [0.1, 20.0, 300.0], "x", "y"),
        "mask": style.attention_mask(step_of[:, None] >= step_of, (1, 2, 3)),
        "shares": style.stacked_shares({"m": {"fc1": 3, "phi": 1}, "n": {"fc1": 1}}, "share"),
        "bars": style.step_bars({"a": tokens}, "ms", {"a": "memory"}, tokens),
        "panels": style.step_panels({"a": tokens, "b": tokens}, dict.fromkeys("ab", "fp"), tokens),
        "roofline": style.roofline({"d": (1e12, 1e9)}, {"d": "gpu"}, {"p": [1.0, 10.0, 1e4]}),
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


def test_a_table_rounds_what_is_broken_and_keeps_what_is_whole():
    text = style.table({"a": {"x": 1.25, "n": 3}, "b": {"x": 10.0, "n": 40}}, precision=1).html
    for cell in (
        '<th scope="row">a</th>',
        ">1.2</td>",
        ">3</td>",
        ">10.0</td>",
        ">40</td>",
    ):
        assert cell in text


def linear(code):
    channels = np.array(mpl.colors.to_rgb(code))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(code):
    return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(code))


def lab(code, vision):
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(vision @ linear(code), 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
