"""Drawing of the pages on the Hadamard unit and the matrix unit, in the house style of
`fpqvar_lab.figures.style`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from fpqvar_lab.figures.schematics import Box, Wire, schematic
from fpqvar_lab.figures.style import (
    CENTRED,
    COLOURS,
    FAINT,
    INK,
    STEP_MAP,
    WIDTH,
    finish,
    step_colour,
)

LOGIC = COLOURS["arithmetic"]
STORAGE = COLOURS["memory"]
HADAMARD = COLOURS["ght"]


def butterfly_graph(points: int) -> Figure:
    """Which numbers each stage of the fast transform adds (solid) and subtracts (dashed)."""
    stages = points.bit_length() - 1
    figure, axis = plt.subplots(figsize=(WIDTH, 0.33 * points + 0.7))
    for stage in range(stages):
        for low in range(points):
            if not low & 2**stage:
                _butterfly(axis, stage, low, low + 2**stage)
    for row in range(points):
        axis.plot(range(stages + 1), [row] * (stages + 1), "o", color=INK, ms=4.5, zorder=3)
        axis.text(-0.1, row, f"$x_{row}$", ha="right", va="center")
        axis.text(stages + 0.1, row, f"$y_{row}$", ha="left", va="center")
    for stage in range(stages):
        axis.text(stage + 0.5, -0.7, f"distance {2**stage}", ha="center", color=INK, fontsize=9)
    axis.plot([], [], color=HADAMARD, label="added")
    axis.plot([], [], "--", color=LOGIC, label="subtracted")
    axis.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0.03))
    axis.set(xlim=(-0.5, stages + 0.5), ylim=(points + 0.2, -1.1))
    axis.set_axis_off()
    return finish(figure)


def folded_unit(points: int) -> Figure:
    """The transform with two lanes: butterflies, and commutators of growing delay between them."""
    stages = points.bit_length() - 1
    figure, axis = plt.subplots(figsize=(WIDTH, 1.75))
    x = 0.55
    for stage in range(stages):
        if stage:
            x = _commutator(axis, x, 2 ** (stage - 1))
        _box(axis, (x, 0.0), (0.62, 1.5), "+\n−", LOGIC)
        if stage == 0:
            _wires(axis, 0.0, x - 0.31, labels=("lane 0", "lane 1"))
        _wires(axis, x + 0.31, x + 0.5)
        x += 0.5
    _wires(axis, x, x + 0.25)
    axis.set(xlim=(-0.75, x + 0.35), ylim=(-1.05, 1.05), aspect="equal")
    axis.set_axis_off()
    return finish(figure)


def meetings(orders: Sequence[NDArray[Any]], titles: Sequence[str]) -> Figure:
    """Which element is in each lane (row) in each beat (column), at several places of a unit.

    Args:
        orders: indices (beats, lanes), one array per place.
        titles: titles of the places.
    """
    size = (WIDTH, 1.6)
    figure, axes = plt.subplots(1, len(orders), figsize=size, squeeze=False)
    for axis, order, title in zip(axes[0], orders, titles, strict=True):
        axis.imshow(order.T, cmap=STEP_MAP, vmin=0, vmax=order.size / 0.85, aspect="auto")
        for (beat, lane), index in np.ndenumerate(order):
            axis.text(beat, lane, str(index), color="white", ha="center", va="center")
        axis.set_xticks(np.arange(len(order) + 1) - 0.5, [])
        axis.set_xticks(range(len(order)), range(len(order)), minor=True)
        axis.set_yticks(range(order.shape[1]), [f"lane {lane}" for lane in range(order.shape[1])])
        axis.grid(color="white", linewidth=2, axis="x")
        axis.tick_params(length=0, which="both")
        axis.set_xlabel("beat")
        axis.set_title(title, fontsize=9)
        if axis is not axes[0, 0]:
            axis.set_yticklabels([])
    return finish(figure)


def word_lengths(allocated: Sequence[int], needed: Mapping[str, Sequence[float]]) -> Figure:
    """Bits of a word after each stage: as built, and as inputs need them.

    Args:
        allocated: bits after 0, 1, 2, ... stages.
        needed: name -> bits after the same stages.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 2.9))
    places = range(len(allocated))
    axis.bar(places, allocated, 0.72, color="#dfe7ec", label="width of the unit's words")
    styles = (("o", INK), ("s", COLOURS["fc1"]), ("^", COLOURS["mat_qkv"]))
    for (name, bits), (marker, colour) in zip(needed.items(), styles, strict=False):
        axis.plot(places, bits, marker=marker, color=colour, lw=1.3, ms=5.5, label=name)
    axis.set(xlabel="stages passed", ylabel="bits, sign included", xticks=list(places))
    axis.set_ylim(min(min(bits) for bits in needed.values()) - 2, allocated[-1] + 1)
    axis.grid(axis="y")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return finish(figure)


def cost_by_rate(
    rates: Sequence[int],
    costs: Mapping[str, Sequence[int]],
    needed: float,
    model: Sequence[float],
) -> Figure:
    """Lookup tables over elements per cycle, on logarithmic axes.

    Args:
        rates: numbers of elements per cycle.
        costs: "logic" and "delays" -> lookup tables at each rate.
        needed: elements per cycle that an accelerator asks for, a dashed line.
        model: an estimate at each rate, a thin line.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.1))
    styles = ((LOGIC, "o", 7), (STORAGE, "s", -13))
    for (name, counts), (colour, marker, above) in zip(costs.items(), styles, strict=True):
        shown = [(rate, count) for rate, count in zip(rates, counts, strict=True) if count]
        axis.plot(*zip(*shown, strict=True), marker=marker, color=colour, lw=1.3, label=name)
        for rate, count in shown:
            axis.annotate(
                f"{count:,}", (rate, count), (0, above), textcoords="offset points", ha="center",
                fontsize=8, color=colour,
            )  # fmt: skip
    axis.plot(rates, model, ":", color=INK, lw=1.2, label="bits of all adders")
    axis.axvline(needed, color=FAINT, ls="--", lw=1)
    axis.text(needed * 1.08, 5000, "VAR-d30 needs", fontsize=8, color=INK)
    axis.set(xscale="log", yscale="log", xlabel="elements a cycle", ylabel="lookup tables")
    axis.set_xticks(rates, [str(rate) for rate in rates])
    axis.minorticks_off()
    axis.set_xlim(needed / 1.4, rates[-1] * 1.5)
    axis.set_ylim(80, 40_000)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.grid(axis="y")
    axis.legend(loc="lower right")
    return finish(figure)


def adder_tree() -> Figure:
    """Four lanes, two levels of adders with the signs' ways, and the accumulator."""
    boxes, wires = list[Box](), list[Wire]()
    for lane in range(4):
        y = 4.1 - 1.15 * lane
        boxes.append(Box(f"a$_{lane}$ · b$_{lane}$", (0.85, y), (1.3, 0.75), "arithmetic"))
    for index, y in enumerate((3.525, 1.225)):
        first = f"s$_{2 * index}$"
        boxes.append(Box("±", (3.5, y), (0.7, 1.0), "arithmetic", f"{first} ⊕ s$_{2 * index + 1}$"))
        for lane, side in ((2 * index, 0.25), (2 * index + 1, -0.25)):
            start = (1.7, 4.1 - 1.15 * lane)
            label = f"p$_{lane}$, s$_{lane}$"
            wires.append(((start, (2.85, start[1]), (2.85, y + side), (3.15, y + side)), label))
        sign = "sum, " + first
        boxes.append(Box("", (4.25, y), (0.24, 1.0), "memory"))
        wires.append((((3.85, y), (4.13, y)), ""))
        target = 2.375 + (0.25 if index == 0 else -0.25)
        wires.append((((4.37, y), (5.4, y), (5.4, target), (5.75, target)), sign))
    boxes += [
        Box("±", (6.1, 2.375), (0.7, 1.0), "arithmetic", "s$_0$ ⊕ s$_2$"),
        Box("", (6.85, 2.375), (0.24, 1.0), "memory"),
        Box("±", (8.5, 2.375), (0.7, 1.0), "arithmetic", "s$_0$"),
        Box("total", (9.75, 2.375), (0.9, 1.0), "memory"),
    ]
    wires += [
        (((6.45, 2.375), (6.73, 2.375)), ""),
        (((6.97, 2.375), (8.15, 2.375)), "sum, s$_0$"),
        (((8.85, 2.375), (9.3, 2.375)), ""),
        (((9.75, 2.875), (9.75, 3.5), (8.5, 3.5), (8.5, 2.875)), ""),
    ]
    for lane in range(4):
        y = 4.1 - 1.15 * lane
        boxes.append(Box("", (1.6, y), (0.2, 0.75), "memory"))
    return schematic(boxes, wires, (10.4, 4.7), 3.0)


def matrix_tile(rows: int, columns: int) -> Figure:
    """Dot products in rows and columns, what comes in on either side, and a scale unit a column."""
    boxes, wires = list[Box](), list[Wire]()
    right = 2.9 + 2.2 * (columns - 1)
    for column in range(columns):
        x = 2.9 + 2.2 * column
        wires += [(((x, rows + 1.75), (x, 1.3)), ""), (((x, 0.7), (x, 0.15)), "")]
        boxes.append(Box(f"weights {column}", (x, rows + 2.05), (1.6, 0.5), "memory"))
        boxes.append(Box("scale unit", (x, 1.0), (1.6, 0.6), "quality"))
    for row in range(rows):
        y = rows + 1.15 - row
        wires.append((((1.6, y), (right - 0.75, y)), ""))
        boxes.append(Box(f"activations {row}", (0.85, y), (1.6, 0.55), "memory"))
        for column in range(columns):
            centre = (2.9 + 2.2 * column, y)
            boxes.append(Box("dot product", centre, (1.5, 0.55), "arithmetic"))
    titles = {(0.05, 0.1): "results"}
    return schematic(boxes, wires, (right + 1.2, rows + 2.4), 0.45 * rows + 1.3, titles)


def lut_bars(values: Mapping[str, Mapping[int, float]], colours: Mapping[str, str]) -> Figure:
    """Lookup tables for each product per cycle, one bar for each count of lanes.

    Args:
        values: format -> lanes -> lookup tables per multiply-accumulate operation.
        colours: format -> key of `COLOURS`.
    """
    counts = sorted({lanes for row in values.values() for lanes in row})
    figure, axis = plt.subplots(figsize=(WIDTH, 0.52 * len(values) + 0.9))
    height = 0.78 / len(counts)
    for row, (name, found) in enumerate(values.items()):
        for index, (lanes, value) in enumerate(sorted(found.items())):
            place = row + (index - (len(found) - 1) / 2) * height
            alpha = 1.0 if lanes == counts[-1] else 0.5
            axis.barh(place, value, 0.9 * height, color=COLOURS[colours[name]], alpha=alpha)
            axis.text(value + 0.8, place, f"{value:.1f}   {lanes} lanes", va="center", fontsize=8)
    top = max(value for row in values.values() for value in row.values())
    axis.set(xlabel="lookup tables for each product a cycle (LUT/MAC)", xlim=(0, 1.25 * top))
    axis.set_yticks(range(len(values)), list(values))
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    return finish(figure)


def tile_timeline(stages: Mapping[str, Sequence[tuple[int, int, int]]], groups: int) -> Figure:
    """When each part is busy with which group of which tile; a tile has one shade.

    Args:
        stages: name -> (number of the group, first cycle, cycle after the last).
        groups: number of groups of a tile.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(stages) + 0.9))
    last = max(number for spans in stages.values() for number, _, _ in spans)
    tiles = last // groups + 1
    for row, spans in enumerate(stages.values()):
        for number, start, end in spans:
            colour = step_colour(number // groups, tiles + 1)
            axis.barh(row, end - start, 0.66, left=start, color=colour, edgecolor="white")
            text = f"{number % groups + 1}"
            axis.text((start + end) / 2, row, text, color="white", ha="center", va="center")
    for tile in range(tiles):
        axis.bar(0, 0, color=step_colour(tile, tiles + 1), label=f"tile {tile + 1}")
    axis.set_yticks(range(len(stages)), list(stages))
    axis.set(xlabel="cycle", xlim=(0, None), ylim=(len(stages) - 0.4, -0.6))
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.legend(ncols=tiles, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return finish(figure)


def stacked_parts(parts: Mapping[str, Mapping[str, float]], xlabel: str) -> Figure:
    """One bar per design, split by what it is made of; parts above 2 are written, and the whole.

    Args:
        parts: design -> part -> length; the parts' names are those of the first design, or more.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
    """
    names = list(dict.fromkeys(name for row in parts.values() for name in row))
    shades = (COLOURS["arithmetic"], COLOURS["dual"], COLOURS["quality"], "#9a9a9a")
    figure, axis = plt.subplots(figsize=(WIDTH, 0.5 * len(parts) + 1.1))
    left = dict.fromkeys(parts, 0.0)
    for name, colour in zip(names, shades, strict=False):
        widths = {design: row.get(name, 0.0) for design, row in parts.items()}
        axis.barh(
            list(parts), list(widths.values()), 0.6, left=list(left.values()), color=colour,
            edgecolor="white", label=name,
        )  # fmt: skip
        for place, (design, width) in enumerate(widths.items()):
            if width > 2:
                axis.text(left[design] + width / 2, place, f"{width:.1f}", color="white", **CENTRED)
            left[design] += width
    for place, whole in enumerate(left.values()):
        axis.text(whole + 0.5, place, f"{whole:.1f}", va="center", fontsize=9)
    axis.set(xlabel=xlabel, xlim=(0, 1.1 * max(left.values())))
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0), handlelength=1.0)
    return finish(figure)


def shift_histogram(counts: Mapping[int, int], window: range) -> Figure:
    """How many groups have which shift, on a logarithmic axis, with the window that is served.

    Args:
        counts: shift -> number of groups that need it.
        window: the shifts that the unit can do.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 2.8))
    axis.axvspan(window[0] - 0.5, window[-1] + 0.5, color="#e8f0ea")
    middle = (window[0] + window[-1]) / 2
    top = max(counts.values())
    axis.text(middle, 4 * top, "one pass", ha="center", fontsize=9)
    for shift, count in sorted(counts.items()):
        colour = COLOURS["dual"] if shift in window else COLOURS["int"]
        axis.bar(shift, count, 0.75, color=colour)
        axis.annotate(
            f"{count:,}", (shift, count), (0, 3), textcoords="offset points", ha="center",
            fontsize=6.8,
        )  # fmt: skip
    shifts = range(min(*counts, window[0]), max(counts) + 1)
    axis.set(yscale="log", ylim=(0.5, 12 * top), xticks=list(shifts))
    axis.set(xlabel="shift $k$: negative scale = positive scale · $2^k$", ylabel="groups")
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y")
    return finish(figure)


def _butterfly(axis: Axes, stage: int, low: int, high: int) -> None:
    ends = (stage, stage + 1)
    for start, end in ((low, low), (high, low), (low, high)):
        axis.plot(ends, (start, end), color=HADAMARD, lw=1.2)
    axis.plot(ends, (high, high), "--", color=LOGIC, lw=1.4)


def _commutator(axis: Axes, x: float, beats: int) -> float:
    """A delay in the upper-numbered lane, the switch, a delay in the other; where it ends."""
    text = f"{beats} beat" + "s" * (beats > 1)
    _box(axis, (x + 0.42, -0.45), (0.84, 0.5), text, STORAGE, fontsize=6.8)
    axis.plot((x, x + 0.84), (0.45, 0.45), color=INK, lw=1.1)
    _box(axis, (x + 1.24, 0.0), (0.56, 1.5), "", FAINT)
    for start, end in ((0.45, -0.45), (-0.45, 0.45)):
        axis.plot((x + 1.02, x + 1.46), (start, end), color=INK, lw=1)
        axis.plot((x + 1.02, x + 1.46), (start, start), color=FAINT, lw=1, ls=":")
    _wires(axis, x + 0.84, x + 0.96)
    _box(axis, (x + 2.06, 0.45), (0.84, 0.5), text, STORAGE, fontsize=7.5)
    axis.plot((x + 1.52, x + 1.64), (0.45, 0.45), color=INK, lw=1.1)
    axis.plot((x + 1.52, x + 2.6), (-0.45, -0.45), color=INK, lw=1.1)
    axis.plot((x + 2.48, x + 2.6), (0.45, 0.45), color=INK, lw=1.1)
    return x + 2.91


def _wires(axis: Axes, start: float, end: float, labels: tuple[str, str] | None = None) -> None:
    for lane, y in enumerate((0.45, -0.45)):
        axis.plot((start, end), (y, y), color=INK, lw=1.1)
        if labels:
            axis.text(start - 0.08, y, labels[lane], ha="right", va="center", fontsize=9)


def _box(
    axis: Axes,
    centre: tuple[float, float],
    size: tuple[float, float],
    text: str,
    colour: str,
    fontsize: float = 9,
) -> None:
    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    shape = FancyBboxPatch(
        corner, *size, boxstyle="round,pad=0,rounding_size=0.06", fc="white", ec=colour, lw=1.5
    )
    axis.add_patch(shape)
    axis.text(*centre, text, ha="center", va="center", fontsize=fontsize)
