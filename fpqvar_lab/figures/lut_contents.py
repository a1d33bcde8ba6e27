"""What the lookup tables of quantizers and multipliers hold: the levels that they round to, their
bits, and the products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from fpqvar_lab.figures.style import (
    CENTRED,
    COLOURS,
    FAINT,
    INK,
    WIDTH,
    finish,
)

_BITS = ListedColormap(["#e4e9f2", COLOURS["memory"]])
_BELOW: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "center",
    "va": "top",
    "fontsize": 8,
    "annotation_clip": False,
}


def rounding_staircase(
    levels: Sequence[float], thresholds: Sequence[float], goes_up: Sequence[bool], step: float
) -> Figure:
    """Which level a quotient becomes: steps at the thresholds, a dot where a tie goes.

    Args:
        levels: the magnitudes, ascending.
        thresholds: half way between neighbours, one fewer.
        goes_up: for each threshold whether a quotient exactly on it takes the upper level.
        step: step of the address, whose numbers are written below the axis.
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
    return finish(figure)


def table_contents(rows: Mapping[str, Sequence[Sequence[int]]], notes: Sequence[str]) -> Figure:
    """What lookup tables hold: for each a strip of cells, dark for 1, one row per note.

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
    return finish(figure)


def product_map(
    levels: Sequence[float],
    products: Sequence[Sequence[int]],
    planes: Mapping[str, Sequence[Sequence[int]]],
) -> Figure:
    """All products of two magnitudes, and beside them each of their bits: what one table holds.

    Args:
        levels: the levels of the magnitudes, written at the axes.
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
        axis.text(column, row, str(product), color=colour, **(CENTRED | {"fontsize": 7.5}))
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
    return finish(figure)
