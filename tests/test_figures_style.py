"""The house style: colours that stay apart and stand out; tables that round what is broken."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest

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
