"""The figures with controls hold what they got, need no other file, and label their controls.

What they do in a reader's hands is tested in `test_browser.py`.
"""

import json
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from fpqvar_lab.figures import pipeline
from fpqvar_lab.figures.interactive import Interactive, interactive
from fpqvar_lab.figures.minifloat_explorer import minifloat_explorer
from fpqvar_lab.figures.outlier_explorer import outlier_explorer
from fpqvar_lab.figures.timeline_explorer import timeline_explorer
from fpqvar_lab.hardware.accelerator import Design, Run, Unit, simulate, workload
from fpqvar_lab.var import VARConfig

MODELS = ("mini", "mini-outlier")
LEVELS = ("both levels", "fine level only", "coarse level only", "neither")
SMALL = VARConfig(3, 128, 2, (1, 2, 3), vocabulary=64, code_channels=16)
DESIGN = Design(rows=4, columns=20, special_lanes=8)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    ops = workload(SMALL, "fp4-fpqvar-pow2")
    designs = {
        name: replace(DESIGN, fine=name[0] in "bf", coarse=name[0] in "bc") for name in LEVELS
    }
    return {
        name: simulate(ops, design, memory_bytes_per_s=1e10, record=True)
        for name, design in designs.items()
    }


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


def test_the_outlier_explorer_holds_all_magnitudes_to_two_per_cent(magnitudes):
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


@pytest.fixture(scope="module")
def views(runs):
    panels = {name: pipeline.bars_of(run) for name, run in runs.items()}
    return {"early": panels, "late": panels}


def test_the_timeline_explorer_holds_every_bar(views):
    html = timeline_explorer(views, 1e8).html
    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.S)
    assert found is not None
    about = json.loads(found[1])
    assert about["microseconds"] == 0.01
    order = ("neither", "coarse level only", "fine level only", "both levels")
    for view, held in zip(views.values(), about["bars"], strict=True):
        for level, units in zip(order, held, strict=True):
            assert list(unpacked(units, about["names"])) == sorted(expected_bars(view[level]))


def unpacked(units, names):
    for row, numbers in enumerate(units):
        end = 0
        for index in range(0, len(numbers), 3):
            name, gap, length = numbers[index : index + 3]
            yield row, end + gap, end + gap + length, names[name]
            end += gap + length


def expected_bars(bars):
    units = list(Unit)
    return [(units.index(b.unit), b.start, b.end, b.op.name.rpartition("/")[2]) for b in bars]


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


@pytest.fixture(params=["outliers", "timeline", "minifloats"])
def make(request, magnitudes, views) -> Callable[[], Interactive]:
    """Makes one of the figures, anew at each call."""
    makers: dict[str, Callable[[], Interactive]] = {
        "outliers": lambda: outlier_explorer(magnitudes),
        "timeline": lambda: timeline_explorer(views, 1e8),
        "minifloats": lambda: minifloat_explorer({"a < b": torch.linspace(-1, 1, 4096)}),
    }
    return makers[request.param]


def test_a_figure_with_controls_needs_no_other_file(make):
    html = make().html
    elements = Elements(html)
    assert not any({"src", "href"} & attributes.keys() for _, attributes in elements.found)
    assert set(re.findall(r"https?://[^\"' )]+", html)) == {"http://www.w3.org/2000/svg"}


def test_a_figure_with_controls_labels_them_and_says_what_it_is_without_scripts(make):
    elements = Elements(make().html)
    assert elements.unlabelled == 0
    assert [tag for tag, _ in elements.found].count("noscript") == 1


def test_a_figure_with_controls_is_the_same_each_time(make):
    assert make() == make()


def test_a_title_is_text_and_no_markup(make):
    assert "a < b</option>" not in make().html


def test_a_figure_without_style_sheet_and_script_is_refused():
    with pytest.raises(FileNotFoundError):
        interactive("nothing_of_this_name", "name", "", "{}")


def test_the_outlier_explorer_has_a_choice_for_each_layer_block_and_step(magnitudes):
    elements = Elements(outlier_explorer(magnitudes).html)
    assert [tag for tag, _ in elements.found].count("option") == 2 + 3
    slider = [a for tag, a in elements.found if tag == "input" and a.get("type") == "range"]
    assert [(a["min"], a["max"]) for a in slider] == [("1", "5")]
    assert all(a.get("aria-label") for tag, a in elements.found if tag == "svg")


def test_the_timeline_explorer_has_groups_of_controls_and_takes_the_keyboard(views):
    elements = Elements(timeline_explorer(views, 1e8).html)
    tags = [tag for tag, _ in elements.found]
    assert (tags.count("fieldset"), tags.count("legend")) == (3, 3)
    assert tags.count("input") == len(views) + 2
    (svg,) = [attributes for tag, attributes in elements.found if tag == "svg"]
    assert svg["aria-label"]
    assert svg["tabindex"] == "0"


def test_the_outlier_explorer_refuses_other_shapes():
    with pytest.raises(ValueError, match="proj has shape"):
        outlier_explorer({"mini": {"proj": torch.ones(2, 3)}})


def test_the_timeline_explorer_refuses_a_missing_level(views):
    panels = {name: bars for name, bars in views["late"].items() if name != "neither"}
    with pytest.raises(ValueError, match="late lacks 'neither'"):
        timeline_explorer({"late": panels}, 1e8)
