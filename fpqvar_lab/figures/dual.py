"""Drawing of the pages on the dual format and on choosing formats, in the house style of
`fpqvar_lab.figures.style`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, LAYER_COLOURS, WIDTH, finish

Span = tuple[float, float]


def densities(reference: Mapping[str, Tensor], layers: Mapping[str, Tensor], span: Span) -> Figure:
    """Histograms on a logarithmic scale: references as dashed lines, layers as filled bands.

    Args:
        reference: name -> values, any shape.
        layers: name -> values, any shape; all are drawn in the colour of `fc2`.
        span: the range of values shown.
    """
    edges = np.linspace(*span, 87)
    middles = (edges[1:] + edges[:-1]) / 2
    curves = {name: _density(values, edges) for name, values in layers.items()}
    figure, axis = plt.subplots(figsize=(WIDTH, 3.0))
    stacked = np.stack(list(curves.values()))
    label = f"input of fc2, {next(iter(layers))} to {list(layers)[-1].split()[-1]}"
    colour = LAYER_COLOURS["fc2"]
    axis.fill_between(middles, stacked.min(0), stacked.max(0), color=colour, label=label)
    for name, values in reference.items():
        axis.plot(middles, _density(values, edges), "--", color=INK, lw=1.2, label=name)
    axis.axvline(0, color=FAINT, linewidth=0.8)
    axis.set(yscale="log", xlabel="value", ylabel="density", xlim=span, ylim=(1e-3, None))
    axis.legend(loc="upper right")
    return finish(figure)


def group_levels(
    group: Tensor, levels: Mapping[str, Sequence[float]], colours: Mapping[str, str]
) -> Figure:
    """One group's values and the levels that each format offers them, each side of zero on an axis
    of its own.

    Args:
        group: (n,) values that share their scales.
        levels: name -> levels times scale.
        colours: name -> key of `COLOURS`.
    """
    values = group.numpy()
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.45 * len(levels) + 1.25), sharey=True)
    sides = ((values.min(), values <= 0, "below zero"), (values.max(), values >= 0, "above zero"))
    for axis, (end, chosen, title) in zip(axes, sides, strict=True):
        margin = 0.04 * abs(end)
        axis.set_xlim(min(end, 0) - margin, max(end, 0) + margin)
        axis.plot(values[chosen], np.zeros(chosen.sum()), "|", color=INK, ms=14, alpha=0.5)
        for row, (name, places) in enumerate(levels.items(), start=1):
            axis.axhline(row, color="#dddddd", linewidth=0.8, zorder=0)
            shown = [place for place in places if place * np.sign(end) >= 0]
            axis.plot(shown, [row] * len(shown), "o", color=COLOURS[colours[name]], ms=5)
        axis.set(title=title, xlabel="value")
        axis.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(levels) + 1), ["values", *levels])
    axes[0].tick_params(axis="y", length=0)
    axes[1].tick_params(axis="y", length=0)
    axes[0].set_ylim(len(levels) + 0.6, -0.6)
    return finish(figure)


def code_shares(shares: Mapping[str, Sequence[float]], colours: Mapping[str, str]) -> Figure:
    """How often each code is used: one panel per format, one bar per level, on a logarithmic scale.

    Args:
        shares: name -> per cent of the values on level -7, ..., 0, ..., 7.
        colours: name -> key of `COLOURS`.
    """
    size = (WIDTH, 1.15 * len(shares) + 0.6)
    figure, axes = plt.subplots(len(shares), 1, figsize=size, sharex=True, sharey=True)
    for axis, (name, heights) in zip(np.atleast_1d(axes), shares.items(), strict=True):
        places = np.arange(len(heights)) - len(heights) // 2
        axis.bar(places, heights, 0.8, color=COLOURS[colours[name]])
        for place, height in zip(places, heights, strict=True):
            if height == 0:
                axis.text(place, 0.012, "unused", rotation=90, color=FAINT, fontsize=7, ha="center")
        axis.set(yscale="log", ylim=(0.01, 100), ylabel="% of values")
        axis.set_title(name, loc="left")
        axis.grid(axis="y")
    axis.set(xlabel="level, counted from zero", xticks=places)
    axis.tick_params(axis="x", length=0)
    return finish(figure)


def ratio_dots(
    values: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    xlabel: str,
    reference: Mapping[str, float] | None = None,
) -> Figure:
    """One row per candidate, one dot per block; the mean over the blocks is written.

    Args:
        values: name -> one value per block.
        colours: name -> key of `COLOURS`.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
        reference: name -> a value drawn as a cross, such as that of a Gaussian.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.33 * len(values) + 0.9))
    every = [value for row in values.values() for value in row]
    right = max([*every, *(reference or {}).values()])
    for row, (name, places) in enumerate(values.items()):
        colour = COLOURS[colours[name]]
        axis.plot(places, [row] * len(places), "o", color=colour, ms=5, alpha=0.75)
        if reference:
            axis.plot(reference[name], row, "x", color=INK, ms=5)
        mean = f"{sum(places) / len(places):.2f}"
        axis.text(1.01, row, mean, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.text(1.01, -0.9, "mean", transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.set_xlim(right=right + 0.03 * (right - min(every)))
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set(xlabel=xlabel)
    axis.grid(True)
    axis.tick_params(axis="y", length=0)
    return finish(figure)


def pair_matrix(values: Mapping[tuple[str, str], float], label: str) -> Figure:
    """A number for each pair (row, column), dark where it is large.

    Args:
        values: (row's name, column's name) -> number.
        label: title of the figure: the quantity and its unit.
    """
    rows = list(dict.fromkeys(row for row, _ in values))
    columns = list(dict.fromkeys(column for _, column in values))
    table = np.array([[values[row, column] for column in columns] for row in rows])
    figure, axis = plt.subplots(figsize=(WIDTH, 0.5 * len(rows) + 1.1))
    texts = [[f"{value:.2f}" for value in row] for row in table]
    _heat(axis, table, texts)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set(xlabel="activation format", ylabel="weight format", title=label)
    return finish(figure)


def winner_table(
    winners: Mapping[str, Sequence[str]], gains: Mapping[str, Sequence[float]], label: str
) -> Figure:
    """The winning pair of every layer (row) and block (column), shaded by what it gains.

    Args:
        winners: layer -> name of the winner in each block.
        gains: layer -> its gain in each block, written below the name.
        label: title of the figure: what is gained, and its unit.
    """
    table = np.array(list(gains.values()))
    texts = [
        [f"{name}\n{gain:+.2f}" for name, gain in zip(winners[layer], gains[layer], strict=True)]
        for layer in winners
    ]
    figure, axis = plt.subplots(figsize=(WIDTH, 0.55 * len(texts) + 1.1))
    _heat(axis, table, texts, top=max(float(table.max()), 0.5), fontsize=7.5)
    axis.set_xticks(range(table.shape[1]), [str(block + 1) for block in range(table.shape[1])])
    axis.set_yticks(range(len(texts)), list(winners))
    axis.set(xlabel="block", title=label)
    return finish(figure)


def margins(values: Mapping[str, Sequence[Sequence[float]]], xlabel: str) -> Figure:
    """For each layer and block one dot for each calibration set, right of the line where the first
    of two wins.

    Args:
        values: layer -> block -> one margin per set.
        xlabel: text of the horizontal axis: the margin and its unit.
    """
    count = sum(len(blocks) for blocks in values.values())
    figure, axis = plt.subplots(figsize=(WIDTH, 0.15 * count + 0.9))
    row, names = 0, []
    for layer, blocks in values.items():
        for block, places in enumerate(blocks):
            axis.plot(
                places, [row] * len(places), "o", color=COLOURS[layer], ms=4.5, mec=INK, mew=0.4
            )
            names.append(f"{layer} {block + 1}")
            row += 1
    axis.axvline(0, color=INK, linewidth=1)
    axis.set_yticks(range(count), names, fontsize=7)
    axis.set_ylim(count - 0.3, -0.7)
    axis.set(xlabel=xlabel)
    axis.tick_params(axis="y", length=0)
    axis.grid(True)
    return finish(figure)


def crest_scatter(
    layers: Mapping[str, Sequence[tuple[float, float]]],
    curve: Sequence[tuple[float, float]],
    curve_name: str,
    labels: tuple[str, str],
) -> Figure:
    """Points of each layer, and a reference curve, around a horizontal line at zero.

    Args:
        layers: layer -> one (x, y) per block.
        curve: the reference's (x, y), ascending in x.
        curve_name: name of the reference in the legend.
        labels: texts of the horizontal and the vertical axis.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.3))
    axis.axhline(0, color=INK, linewidth=1)
    axis.plot(*zip(*curve, strict=True), "--", color=FAINT, label=curve_name)
    for (layer, points), marker in zip(layers.items(), "osD^v", strict=False):
        x, y = zip(*points, strict=True)
        axis.plot(x, y, marker, color=COLOURS[layer], mec=INK, mew=0.5, ms=6, label=layer)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.legend(ncols=3, loc="upper left")
    axis.margins(y=0.2)
    axis.grid(True)
    return finish(figure)


def _density(values: Tensor, edges: np.ndarray) -> np.ndarray:
    counts = np.histogram(values.flatten().numpy(), edges)[0]
    # An empty bin lies below the axis; zero would be a hole in a logarithmic one.
    return np.maximum(counts / values.numel() / np.diff(edges), 1e-9)


def _heat(
    axis: Axes,
    table: np.ndarray,
    texts: Sequence[Sequence[str]],
    top: float | None = None,
    fontsize: float = 9,
) -> None:
    low, high = float(table.min()), float(table.max()) if top is None else top
    axis.imshow(table, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        dark = value > low + 0.6 * (high - low) and high > low
        colour = "white" if dark else INK
        text = texts[row][column]
        axis.text(column, row, text, color=colour, ha="center", va="center", fontsize=fontsize)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
