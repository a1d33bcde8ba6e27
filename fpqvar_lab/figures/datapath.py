"""Drawing of the pages on the quantizer and the multiplier in lookup tables, in the house style of
`fpqvar_lab.plots`: schematics, waveforms, contents of tables, and what they cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from matplotlib.ticker import NullLocator

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, WIDTH, step_colour

TABLE = COLOURS["memory"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A part of a schematic.

    Args:
        text: inside it.
        centre: (x, y), in units of the schematic.
        size: (width, height).
        colour: key of `COLOURS` of its frame; ink if empty.
        note: below it, small.
    """

    text: str
    centre: Point
    size: Point = (1.0, 0.6)
    colour: str = ""
    note: str = ""

    @property
    def left(self) -> Point:
        return self.centre[0] - self.size[0] / 2, self.centre[1]

    @property
    def right(self) -> Point:
        return self.centre[0] + self.size[0] / 2, self.centre[1]


Wire = tuple[Sequence[Point], str]
"""The corners that an arrow passes, and what is written over its first stretch."""


def schematic(
    boxes: Sequence[Box],
    wires: Sequence[Wire],
    size: Point,
    height: float,
    titles: Mapping[Point, str] | None = None,
) -> Figure:
    """Boxes and arrows.

    Args:
        boxes: the parts.
        wires: corners from where an arrow starts to where it ends, and a label for its start.
        size: (width, height) of the drawing in its own units; the origin is at the lower left.
        height: of the figure, in inches.
        titles: lower left corner -> text that stands alone.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, height))
    axis.set(xlim=(0, size[0]), ylim=(0, size[1]))
    axis.set_axis_off()
    for corners, label in wires:
        _wire(axis, corners, label)
    for box in boxes:
        _box(axis, box)
    for (x, y), text in (titles or {}).items():
        axis.text(x, y, text, fontsize=10)
    return _closed(figure)


def fabric() -> Figure:
    """The three things that logic in an FPGA is made of: lookup table, flip-flop, carry chain."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.3), width_ratios=(1.15, 1, 1.25))
    titles = ("lookup table (LUT)", "flip-flop (FF)", "carry chain")
    for axis, title, draw in zip(axes, titles, (_draw_lut, _draw_ff, _draw_carry), strict=True):
        axis.set(xlim=(0, 4), ylim=(0, 4), title=title)
        axis.set_axis_off()
        draw(axis)
    return _closed(figure)


def quantizer_ways() -> Figure:
    """The two quantizers as chains of stages, with what passes once a group and what every beat."""
    boxes = [
        Box("store,\nfind peak", (1.6, 5.65), (1.7, 2.5), "quality"),
        Box("divide\n$\\Delta$ = peak / 6", (4.7, 6.4), (1.8, 1.0), "arithmetic"),
        Box("7 thresholds\nmidpoint $\\times$ $\\Delta$", (7.5, 6.4), (2.1, 1.0), "arithmetic"),
        Box("7 comparators\na number", (10.5, 5.65), (2.1, 2.5), "arithmetic"),
        Box("store,\nfind peak", (1.6, 1.45), (1.7, 2.5), "quality"),
        Box("leading one\nof the peak", (4.7, 2.2), (1.8, 1.0), "arithmetic"),
        Box("shift\na number", (7.5, 1.45), (2.1, 2.5), "arithmetic"),
        Box("rounding table\na number", (10.5, 1.45), (2.1, 1.0), "memory"),
    ]
    wires: list[Wire] = []
    for peaks, numbers, lane in ((6.4, 4.9, 9.45), (2.2, 0.7, 6.45)):
        middle = (peaks + numbers) / 2
        wires += [
            (((0.0, middle), (0.75, middle)), ""),
            (((2.45, peaks), (3.8, peaks)), "peak"),
            (((5.6, peaks), (6.45, peaks)), ""),
            (((2.45, numbers), (lane, numbers)), "numbers"),
            (((11.55, middle), (12.4, middle)), "codes"),
        ]
    wires += [(((8.55, 6.4), (9.45, 6.4)), ""), (((8.55, 1.45), (9.45, 1.45)), "")]
    titles = {(0.75, 7.3): "any scale", (0.75, 3.1): "a power of two"}
    return schematic(boxes, wires, (12.5, 7.8), 3.4, titles)


def rounding_staircase(
    levels: Sequence[float], thresholds: Sequence[float], goes_up: Sequence[bool], step: float
) -> Figure:
    """Which level a quotient becomes: steps at the thresholds, a dot where a tie goes.

    Args:
        levels: the magnitudes, ascending.
        thresholds: half way between neighbours, one fewer.
        goes_up: for each threshold whether a quotient exactly on it takes the upper level.
        step: of the address, whose numbers are written below the axis.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6))
    edges = [0.0, *thresholds, levels[-1] * 1.16]
    for level, low, high in zip(levels, edges, edges[1:], strict=False):
        axis.plot([low, high], [level, level], color=COLOURS["fp"], lw=2.6)
    for index, threshold in enumerate(thresholds):
        below, above = levels[index], levels[index + 1]
        axis.plot([threshold] * 2, [0, above], ":", color=FAINT, lw=1, zorder=0)
        ends = ((above, goes_up[index]), (below, not goes_up[index]))
        for level, is_taken in ends:
            face = COLOURS["fp"] if is_taken else "white"
            axis.plot(threshold, level, "o", ms=6, mfc=face, mec=COLOURS["fp"])
        number = f"{threshold:g}\n{threshold / step:.0f}"
        axis.annotate(number, (threshold, 0), (0, -4), **_BELOW)
    axis.annotate("quotient\naddress", (0, 0), (-4, -4), **(_BELOW | {"ha": "right"}))
    axis.set_xticks(thresholds, [])
    axis.set_yticks(levels, [f"{level:g}" for level in levels], fontsize=8)
    axis.set(xlim=(0, edges[-1]), ylim=(0, levels[-1] * 1.05), ylabel="level")
    axis.set_xlabel(f"|x| / Δ, and below it the same in units of {step:g}", labelpad=26)
    return _closed(figure)


def table_contents(rows: Mapping[str, Sequence[Sequence[int]]], notes: Sequence[str]) -> Figure:
    """What lookup tables hold: for each a strip of cells, dark for 1, one row a note.

    Args:
        rows: name of an output bit -> for each of the notes the bits over the addresses.
        notes: what the rows of each strip differ in.
    """
    first = next(iter(rows.values()))
    columns = len(first[0])
    size = (WIDTH, 0.62 * len(rows) + 0.75)
    figure, axes = plt.subplots(len(rows), 1, figsize=size, sharex=True, squeeze=False)
    for axis, (name, bits) in zip(axes[:, 0], rows.items(), strict=True):
        axis.pcolormesh(np.array(bits), cmap=_BITS, vmin=0, vmax=1, edgecolor="white", lw=1)
        axis.set_yticks(np.arange(len(notes)) + 0.5, notes, fontsize=8)
        axis.invert_yaxis()
        axis.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    places = np.arange(0, columns, 4)
    axes[-1, 0].set_xticks(places + 0.5, [str(place) for place in places], fontsize=8)
    axes[-1, 0].set_xlabel("magnitude (quarters of the quotient, rounded down)")
    return _closed(figure)


def cost_bars(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], colours: Mapping[str, str], label: str
) -> Figure:
    """Bars in groups on a logarithmic axis, one panel a question, each bar with its number.

    Args:
        panels: title -> group's name -> series -> cost.
        colours: series -> key of `COLOURS`.
        label: of the axis, with its unit.
    """
    counts = [sum(len(series) for series in groups.values()) for groups in panels.values()]
    size = (WIDTH, 0.24 * sum(counts) + 0.62 * len(panels) + 0.5)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, sharex=True, squeeze=False, height_ratios=counts
    )
    for axis, (title, groups) in zip(axes[:, 0], panels.items(), strict=True):
        _bar_groups(axis, groups, colours)
        axis.set_title(title, loc="left", fontsize=9)
    last = axes[-1, 0]
    last.set(xscale="log", xlabel=label)
    last.set_xlim(1, 2.2 * max(v for g in panels.values() for s in g.values() for v in s.values()))
    handles = [Rectangle((0, 0), 1, 1, color=COLOURS[key]) for key in colours.values()]
    figure.legend(handles, list(colours), loc="outside upper center", ncols=len(colours))
    return _closed(figure)


def stage_timeline(
    stages: Mapping[str, Sequence[tuple[int, int]]], latency: tuple[int, int], interval: int
) -> Figure:
    """When each stage is busy with which group; a group has one shade in all stages.

    Args:
        stages: name -> for each group the first cycle and the cycle after the last.
        latency: cycle in which the first group's first beat enters, and in which its first leaves.
        interval: cycles between two groups at the output.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(stages) + 1.3))
    for row, spans in enumerate(stages.values()):
        for group, (start, end) in enumerate(spans):
            colour = step_colour(group, len(spans))
            axis.barh(row, end - start, 0.62, left=start, color=colour, edgecolor="white")
            text = "white" if group < 0.6 * len(spans) else INK
            axis.text((start + end) / 2, row, str(group + 1), color=text, **_CENTRED)
    bottom, top = len(stages) - 0.25, -0.75
    outputs = list(stages.values())[-1]
    _span(axis, *latency, top, f"latency {latency[1] - latency[0]} cycles")
    _span(axis, outputs[0][0], outputs[1][0], bottom, f"interval {interval} cycles")
    axis.set_yticks(range(len(stages)), list(stages))
    axis.set(xlabel="cycle", ylim=(bottom + 0.4, top - 0.4))
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    return _closed(figure)


def waveform(
    waves: Mapping[str, Sequence[int | str | None]], shaded: Sequence[tuple[int, int]] = ()
) -> Figure:
    """Signals over clock cycles: wires as lines, words as lanes with their value.

    Args:
        waves: label -> one value a cycle. Numbers 0 and 1 draw a wire; texts a word; None is a word
            that does not count.
        shaded: spans of cycles, first and one after the last, drawn on a tinted ground.
    """
    cycles = len(next(iter(waves.values())))
    figure, axis = plt.subplots(figsize=(WIDTH, 0.34 * (len(waves) + 1) + 0.55))
    for start, end in shaded:
        axis.axvspan(start, end, color=COLOURS["fp"], alpha=0.1, lw=0)
    # A cycle begins and ends with a rising edge; its values are taken at the one that ends it.
    times = np.repeat(np.arange(2 * cycles + 1) / 2, 2)[1:-1]
    axis.plot(times, np.tile([0.25, 0.25, -0.25, -0.25], cycles), color=FAINT, lw=1)
    for row, values in enumerate(waves.values(), start=1):
        _wave(axis, -row, values)
    axis.set_yticks([-row for row in range(len(waves) + 1)], ["clock", *waves])
    axis.set_xticks(np.arange(cycles) + 0.5, [str(c) for c in range(cycles)], fontsize=7)
    axis.set(xlim=(0, cycles), ylim=(-len(waves) - 0.5, 0.6), xlabel="cycle")
    axis.tick_params(length=0)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return _closed(figure)


def multiplier_ways() -> Figure:
    """A product of two E2M1 codes by tables, and by significands and exponents."""
    boxes = [
        Box("8 lookup tables\nof 6 inputs", (5.6, 6.1), (3.0, 1.5), "memory"),
        Box("XOR", (5.6, 4.55), (1.2, 0.8), "memory"),
        Box("2 bits $\\times$ 2 bits", (4.6, 2.7), (2.2, 0.9), "arithmetic"),
        Box("+", (4.6, 1.5), (2.2, 0.8), "arithmetic"),
        Box("shift", (8.0, 2.1), (1.5, 2.0), "arithmetic"),
        Box("XOR", (8.0, 0.5), (1.2, 0.8), "memory"),
    ]
    wires: list[Wire] = [
        (((0.6, 6.5), (4.1, 6.5)), "3 bits of a"),
        (((0.6, 5.7), (4.1, 5.7)), "3 bits of b"),
        (((7.1, 6.1), (10.9, 6.1)), "magnitude, 8 bits"),
        (((0.6, 4.55), (5.0, 4.55)), "2 signs"),
        (((6.2, 4.55), (10.9, 4.55)), "sign"),
        (((0.6, 2.7), (3.5, 2.7)), "significands"),
        (((0.6, 1.5), (3.5, 1.5)), "exponents"),
        (((5.7, 2.7), (7.25, 2.7)), "4 bits"),
        (((5.7, 1.5), (7.25, 1.5)), "places"),
        (((8.75, 2.1), (10.9, 2.1)), "magnitude"),
        (((0.6, 0.5), (7.4, 0.5)), "2 signs"),
        (((8.6, 0.5), (10.9, 0.5)), "sign"),
    ]
    titles = {(0.6, 7.2): "by tables", (0.6, 3.5): "by arithmetic"}
    return schematic(boxes, wires, (11.2, 7.8), 3.9, titles)


def product_map(
    levels: Sequence[float],
    products: Sequence[Sequence[int]],
    planes: Mapping[str, Sequence[Sequence[int]]],
) -> Figure:
    """All products of two magnitudes, and beside them each of their bits: what one table holds.

    Args:
        levels: of the magnitudes, for the axes.
        products: [b][a], whole numbers.
        planes: name of a bit -> [b][a], 0 or 1.
    """
    figure = plt.figure(figsize=(WIDTH, 3.5))
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1), squeeze=False)[0]
    axis = left.subplots()
    table = np.array(products)
    axis.imshow(np.sqrt(table), cmap="Blues", vmax=1.25 * np.sqrt(table.max()))
    for (row, column), product in np.ndenumerate(table):
        colour = "white" if product > 0.35 * table.max() else INK
        axis.text(column, row, str(product), color=colour, **(_CENTRED | {"fontsize": 7.5}))
    names = [f"{level:g}" for level in levels]
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="a", ylabel="b", title="product, in quarters")
    axis.tick_params(length=0)
    for small, (name, bits) in zip(
        right.subplots(-(-len(planes) // 2), 2).flat, planes.items(), strict=True
    ):
        small.pcolormesh(np.array(bits), cmap=_BITS, vmin=0, vmax=1, edgecolor="white", lw=0.6)
        small.set(xticks=[], yticks=[], aspect="equal")
        small.invert_yaxis()
        small.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for spine in small.spines.values():
            spine.set_visible(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return _closed(figure)


def table_growth(
    series: Mapping[str, Mapping[int, float]],
    families: Mapping[str, str],
    bound: Mapping[int, float],
) -> Figure:
    """LUTs of a multiplier against the bits of its operands; a bound as a dotted line.

    Args:
        series: name -> bits -> LUTs; every point's number is written.
        families: name -> key of `COLOURS`.
        bound: bits -> LUTs of a table without any luck.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6))
    axis.plot(list(bound), list(bound.values()), ":", color=COLOURS["memory"], lw=1.4)
    last = list(bound.items())[-1]
    axis.annotate(
        "table of integers, at most", last, (-8, -1), textcoords="offset points", ha="right"
    )
    for index, (name, points) in enumerate(series.items()):
        style: dict[str, Any] = {"marker": "osD^"[index], "linestyle": ("-", "-", "--")[index]}
        axis.plot(
            list(points), list(points.values()), label=name, color=COLOURS[families[name]], **style
        )
        for bits, luts in points.items():
            offset = ((-11, 4), (0, 7), (0, -13))[index]
            axis.annotate(f"{luts:.0f}", (bits, luts), offset, **_ON_LINES)
    axis.set(yscale="log", xlabel="bits of an operand", ylabel="LUTs", xticks=list(bound))
    axis.grid(axis="y")
    axis.legend(loc="upper left")
    axis.margins(x=0.06, y=0.1)
    return _closed(figure)


def format_costs(costs: Mapping[str, tuple[float, float]], families: Mapping[str, str]) -> Figure:
    """Two bars a format: the multiplier alone (pale), and a MAC of a dot product.

    Args:
        costs: name -> (LUTs of the multiplier, LUTs for each MAC).
        families: name -> key of `COLOURS`.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.5 * len(costs) + 1.0))
    for row, (name, pair) in enumerate(costs.items()):
        for shift, value, alpha in zip((-0.19, 0.19), pair, (0.4, 1.0), strict=True):
            axis.barh(row + shift, value, 0.36, color=COLOURS[families[name]], alpha=alpha)
            text = f"{value:.0f}" if alpha < 1 else f"{value:.1f}"
            axis.text(value + 0.8, row + shift, text, va="center", fontsize=8)
    axis.set_yticks(range(len(costs)), list(costs))
    most = max(max(pair) for pair in costs.values())
    axis.set(xlabel="LUTs", xlim=(0, 1.1 * most), ylim=(len(costs) - 0.45, -0.55))
    handles = [Rectangle((0, 0), 1, 1, color=FAINT, alpha=alpha) for alpha in (0.4, 1.0)]
    labels = ["multiplier alone", "a MAC: multiplier, adder tree, accumulator"]
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    return _closed(figure)


def accuracy_against_cost(
    panels: Mapping[str, Mapping[str, tuple[float, float]]],
    families: Mapping[str, str],
    line: Sequence[str],
    labels: tuple[str, str],
) -> Figure:
    """A point a format: accuracy over cost, with a line through the formats of one kind.

    Args:
        panels: title -> format -> (cost, accuracy).
        families: format -> key of `COLOURS`.
        line: the formats to join.
        labels: of the two axes.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), sharey=True, squeeze=False)
    for axis, (title, points) in zip(axes[0], panels.items(), strict=True):
        joined = [points[name] for name in line]
        axis.plot(*zip(*joined, strict=True), "--", color=COLOURS["int"], lw=1.1, zorder=1)
        for name, (cost, accuracy) in points.items():
            colour = COLOURS[families[name]]
            axis.plot(cost, accuracy, "s" if name in line else "o", color=colour, ms=6)
            right = name in line or families[name] == "dual"
            place = (6, -11) if right else (-6, 5)
            text = {
                "textcoords": "offset points",
                "fontsize": 8,
                "ha": "left" if right else "right",
            }
            axis.annotate(name, (cost, accuracy), place, color=colour, **text)
        axis.set(title=title, xscale="log", xlabel=labels[0])
        costs = [cost for cost, _ in points.values()]
        axis.set_xlim(0.6 * min(costs), 1.7 * max(costs))
        axis.set_xticks(_TICKS, [str(tick) for tick in _TICKS])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(True)
    axes[0, 0].set_ylabel(labels[1])
    axes[0, 0].margins(y=0.1)
    return _closed(figure)


_ON_LINES: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "center",
    "fontsize": 8,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.85},
}
_TICKS = (10, 20, 50, 100)
_BITS = ListedColormap(["#e4e9f2", TABLE])
_BELOW: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "center",
    "va": "top",
    "fontsize": 8,
    "annotation_clip": False,
}
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}


def _box(axis: Axes, box: Box) -> None:
    (x, y), (width, height) = box.centre, box.size
    edge = COLOURS[box.colour] if box.colour else INK
    axis.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor="white",
            edgecolor=edge,
            linewidth=1.6,
            zorder=2,
        )
    )
    axis.text(x, y, box.text, zorder=3, **_CENTRED)
    if box.note:
        axis.text(
            x, y - height / 2 - 0.06, box.note, ha="center", va="top", fontsize=7.5, color=FAINT
        )


def _wire(axis: Axes, corners: Sequence[Point], label: str) -> None:
    x, y = zip(*corners[:-1], strict=True)
    if len(corners) > 2:
        axis.plot(x, y, color=INK, lw=1.1, zorder=1, solid_capstyle="projecting")
    style = {"arrowstyle": "-|>", "color": INK, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", corners[-1], corners[-2], arrowprops=style, zorder=1)
    if label:
        middle = (corners[0][0] + corners[1][0]) / 2
        axis.text(middle, corners[0][1] + 0.05, label, ha="center", va="bottom", fontsize=7.5)


def _draw_lut(axis: Axes) -> None:
    inputs = 6
    _box(axis, Box(f"$2^{inputs}$ = {2**inputs}\nstored bits", (2.1, 2), (1.6, 3.0), "memory"))
    for place in np.linspace(0.8, 3.2, inputs):
        _wire(axis, ((0.5, place), (1.3, place)), "")
    _wire(axis, ((2.9, 2), (3.8, 2)), "")
    axis.text(0.4, 2, f"{inputs} bits", rotation=90, ha="right", va="center", fontsize=8)
    axis.text(3.9, 2.15, "1 bit", ha="right", va="bottom", fontsize=8)


def _draw_ff(axis: Axes) -> None:
    _box(axis, Box("holds\n1 bit", (2, 2), (1.5, 2.2), "quality"))
    axis.add_patch(Polygon([(1.25, 1.0), (1.25, 1.5), (1.6, 1.25)], fill=False, ec=INK, zorder=3))
    _wire(axis, ((0.3, 2.5), (1.25, 2.5)), "")
    _wire(axis, ((2.75, 2.5), (3.8, 2.5)), "")
    _wire(axis, ((0.3, 1.25), (1.25, 1.25)), "")
    axis.text(0.3, 2.62, "in", ha="left", va="bottom", fontsize=8)
    axis.text(3.8, 2.62, "out", ha="right", va="bottom", fontsize=8)
    axis.text(0.3, 1.12, "clock", ha="left", va="top", fontsize=8)


def _draw_carry(axis: Axes) -> None:
    for index, y in enumerate((0.75, 1.95, 3.15)):
        _box(axis, Box("LUT", (1.3, y), (0.9, 0.8), "memory"))
        _box(axis, Box("+", (2.6, y), (0.55, 0.8), "arithmetic"))
        _wire(axis, ((0.2, y + 0.15), (0.85, y + 0.15)), "")
        _wire(axis, ((0.2, y - 0.15), (0.85, y - 0.15)), "")
        _wire(axis, ((1.75, y), (2.33, y)), "")
        _wire(axis, ((2.88, y), (3.5, y)), "")
        axis.text(3.55, y, f"sum {index}", va="center", fontsize=8)
    for y in (1.15, 2.35, 3.55):
        _wire(axis, ((2.6, y), (2.6, y + 0.4)), "")
    axis.text(2.7, 1.36, "carry", fontsize=7.5, color=FAINT, va="center")


def _bar_groups(
    axis: Axes, groups: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]
) -> None:
    place, ticks = 0.0, []
    for series in groups.values():
        ticks.append(place + (len(series) - 1) / 2)
        for name, value in series.items():
            axis.barh(place, value - 0.5, 0.86, left=0.5, color=COLOURS[colours[name]])
            axis.text(value * 1.06, place, f"{value:,.0f}", va="center", fontsize=8)
            place += 1
        place += 0.6
    axis.set_yticks(ticks, list(groups))
    axis.set_ylim(place - 1, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")


def _span(axis: Axes, start: float, end: float, y: float, text: str) -> None:
    style = {"arrowstyle": "<->", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (start, y), (end, y), arrowprops=style)
    axis.text(end + 1, y, text, va="center", fontsize=8)


def _wave(axis: Axes, y: float, values: Sequence[int | str | None]) -> None:
    if all(isinstance(value, int) for value in values):
        levels = np.repeat(np.array(values, dtype=float), 2)
        times = np.repeat(np.arange(len(values) + 1), 2)[1:-1]
        axis.plot(times, y - 0.3 + 0.6 * levels, color=INK, lw=1.4)
        return
    start = 0
    for cycle in range(1, len(values) + 1):
        if cycle < len(values) and values[cycle] == values[start]:
            continue
        _word(axis, start, cycle, y, values[start])
        start = cycle


def _word(axis: Axes, start: int, end: int, y: float, value: int | str | None) -> None:
    slant, half = 0.12, 0.3
    if value is None:
        axis.plot([start, end], [y, y], color=FAINT, lw=1)
        return
    x = [start, start + slant, end - slant, end, end - slant, start + slant, start]
    heights = [y, y + half, y + half, y, y - half, y - half, y]
    axis.fill(x, heights, facecolor="white", edgecolor=TABLE, lw=1.2)
    axis.text((start + end) / 2, y, str(value), ha="center", va="center", fontsize=7)


def _closed(figure: Figure) -> Figure:
    plt.close(figure)
    return figure
