"""The figures of the pipeline show the run they were given; the timeline needs no other file."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from fpqvar_lab.figures import pipeline, style
from fpqvar_lab.figures.timeline import timeline_explorer
from fpqvar_lab.hardware.accelerator import Design, Run, Unit, simulate, workload
from fpqvar_lab.var import VARConfig

mpl.use("agg")

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
def figures(runs) -> dict[str, Figure]:
    run = runs["both levels"]
    splits = [pipeline.matrix_split(s, DESIGN.macs_per_cycle) for s in run.steps[:3]]
    bars = {name: pipeline.bars_of(run) for name, run in runs.items()}
    points = {name: [(2.0, 1e9), (30.0, 2e10), (200.0, 1e11)] for name in LEVELS[:2]}
    curves = {"a": {2: 3.0, 8: 1.0}, "b": {4: 5.0, 16: 5.0}}
    return {
        "timelines": pipeline.timelines(bars, DESIGN.clock_hz),
        "tasks": pipeline.timelines({"": pipeline.tasks_of(run)}, 1e8, (Unit.MATRIX,)),
        "splits": pipeline.step_splits({"one": splits}, SMALL.tokens_per_step),
        "roofline": pipeline.step_roofline(1e11, 1e9, points, ("x", 2.0, 1e9)),
        "lanes": pipeline.lane_curves(curves, {"a": 2, "b": 16}, "ms"),
    }


def test_every_figure_has_the_width_of_the_page_and_draws(figures):
    for name, figure in figures.items():
        assert figure.get_figwidth() == style.WIDTH, name
        figure.draw_without_rendering()


def test_bars_keep_every_busy_cycle(runs):
    for run in runs.values():
        bars = pipeline.bars_of(run)
        assert len(bars) < len(run.events)
        for unit in Unit:
            assert sum(b.end - b.start for b in bars if b.unit is unit) == run.busy[unit]


def test_a_window_cuts_bars_at_its_ends(runs):
    run = runs["both levels"]
    begin, end = pipeline.block_window(run, 1)
    bars = pipeline.bars_of(run, begin, end)
    assert 0 < begin < end < run.cycles
    assert min(bar.start for bar in bars) == 0
    assert max(bar.end for bar in bars) <= end - begin
    assert {bar.op.block for bar in bars if bar.unit is Unit.SPECIAL} >= {1}


def test_the_split_of_the_matrix_arrays_time_is_complete(runs):
    for run in runs.values():
        splits = [pipeline.matrix_split(s, DESIGN.macs_per_cycle) for s in run.steps]
        assert sum(sum(split.values()) for split in splits) == pytest.approx(run.cycles)
        assert all(value >= 0 for split in splits for value in split.values())
        useful = sum(split[pipeline.USEFUL] for split in splits) * DESIGN.macs_per_cycle
        assert useful == pytest.approx(sum(step.macs[Unit.MATRIX] for step in run.steps))


def test_operations_have_the_colour_of_their_layer(runs):
    ops = {op.name.rpartition("/")[2]: op for op in runs["neither"].ops}
    expected = {
        "mat_qkv": "mat_qkv",
        "fc1.hadamard": "fc1",
        "gelu": "fc1",
        "fc2.quantize": "fc2",
        "softmax": "attention",
        "cache-write": "attention",
        "norm1": "other",
        "head": "other",
    }
    assert {name: pipeline.group_of(ops[name]) for name in expected} == expected


# The interactive timeline


@pytest.fixture(scope="module")
def views(runs):
    panels = {name: pipeline.bars_of(run) for name, run in runs.items()}
    return {"early": panels, "late": panels}


def test_the_explorer_holds_every_bar(views):
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
        self.unlabelled += tag == "input" and "label" not in self.parents
        if tag != "input":
            self.parents.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.parents.pop() != tag:
            pass


def test_the_explorer_needs_no_other_file_and_labels_its_controls(views):
    html = timeline_explorer(views, 1e8).html
    elements = Elements(html)
    assert not any({"src", "href"} & attributes.keys() for _, attributes in elements.found)
    assert set(re.findall(r"https?://[^\"' )]+", html)) == {"http://www.w3.org/2000/svg"}
    assert elements.unlabelled == 0
    tags = [tag for tag, _ in elements.found]
    assert (tags.count("noscript"), tags.count("fieldset"), tags.count("legend")) == (1, 3, 3)
    assert tags.count("input") == len(views) + 2
    (svg,) = [attributes for tag, attributes in elements.found if tag == "svg"]
    assert svg["aria-label"]
    assert svg["tabindex"] == "0"


def test_the_explorer_is_the_same_each_time_and_refuses_a_missing_level(views):
    assert timeline_explorer(views, 1e8) == timeline_explorer(views, 1e8)
    panels = {name: bars for name, bars in views["late"].items() if name != "neither"}
    with pytest.raises(ValueError, match="late lacks 'neither'"):
        timeline_explorer({"late": panels}, 1e8)
