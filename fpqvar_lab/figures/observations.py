"""Drawing of the pages on imbalanced activations and on time-varying outlier channels, in the house
style of `fpqvar_lab.figures.style`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter
from torch import Tensor

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, LAYER_COLOURS, WIDTH, finish

MARKERS = {"mat_qkv": "o", "proj": "s", "fc1": "D", "fc2": "^"}
"""A mark for each layer, so that none is told by its colour alone."""


def density_panels(layers: Mapping[str, Sequence[Tensor]], reach: float = 6.0) -> Figure:
    """One panel per layer: density of its values, as the band over its blocks, and a Gaussian.

    Args:
        layers: layer -> one tensor per block, any shape.
        reach: the axis ends at this many times the root mean square, on both sides.
    """
    edges = np.linspace(-reach, reach, 121)
    middles = (edges[1:] + edges[:-1]) / 2
    gaussian = np.exp(-(middles**2) / 2) / np.sqrt(2 * np.pi)
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 3.9), sharex=True, sharey=True)
    for axis, (layer, blocks) in zip(axes.flat, layers.items(), strict=True):
        curves = np.stack([_standard_density(block, edges) for block in blocks])
        axis.fill_between(middles, curves.min(0), curves.max(0), color=LAYER_COLOURS[layer])
        axis.plot(middles, gaussian, "--", color=INK, linewidth=1.0, label="Gaussian")
        axis.axvline(0, color=FAINT, linewidth=0.8)
        axis.set_title(layer, loc="left")
        axis.set(yscale="log", ylim=(1e-4, 20), xlim=(-reach, reach))
    axes[0, 0].legend(loc="upper right", fontsize=8)
    figure.supxlabel("value over the root mean square", fontsize=10)
    figure.supylabel("density", fontsize=10)
    return finish(figure)


def share_scatter(layers: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """One point per block: the share of values below zero against the share of the range there.

    Args:
        layers: layer -> (per cent of the values, per cent of the range) of each block.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.3))
    axis.plot((0, 100), (0, 100), color=FAINT, linewidth=0.8, zorder=0)
    for layer, points in layers.items():
        axis.plot(*zip(*points, strict=True), **_marks(layer), label=layer)
    note: dict[str, Any] = {
        "rotation": 45,
        "transform_rotates_text": True,
        "rotation_mode": "anchor",
    }
    axis.text(12, 6, "as much range as values", color=FAINT, fontsize=8, **note)
    axis.set(xlim=(0, 100), ylim=(0, 70), ylabel="share of the range below zero (%)")
    axis.set(xlabel="share of the values below zero (%)")
    axis.legend(loc="upper left", ncols=2)
    axis.grid(True)
    return finish(figure)


def level_bars(layers: Mapping[str, Sequence[float]]) -> Figure:
    """One panel per layer: how often each level of a grid is used, on a logarithmic scale.

    Args:
        layers: layer -> per cent of the values on each level, lowest level first.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 3.6), sharex=True, sharey=True)
    for axis, (layer, heights) in zip(axes.flat, layers.items(), strict=True):
        places = np.arange(len(heights)) - len(heights) // 2
        colour = LAYER_COLOURS[layer]
        axis.bar(places, heights, 0.8, color=colour, edgecolor=INK, linewidth=0.4)
        axis.set_title(layer, loc="left")
        axis.set(yscale="log", ylim=(0.005, 100), xticks=places[::2] + 1 - len(places) % 4 // 3)
        axis.grid(axis="y")
        axis.tick_params(axis="x", length=0)
    figure.supxlabel("level", fontsize=10)
    figure.supylabel("% of values", fontsize=10)
    return finish(figure)


def block_panels(measures: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One panel a measure: a line for each layer over the blocks.

    Args:
        measures: name with its unit -> layer -> one value per block.
    """
    size = (WIDTH, 2.9)
    figure, axes = plt.subplots(1, len(measures), figsize=size, squeeze=False)
    for axis, (name, layers) in zip(axes[0], measures.items(), strict=True):
        for layer, values in layers.items():
            axis.plot(
                range(1, len(values) + 1),
                values,
                **(_marks(layer) | {"linestyle": "-", "linewidth": 1.2}),
                label=layer,
            )
        axis.set_title(name, fontsize=9)
        axis.set(xlabel="block")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(0, 1.08 * max(max(values) for values in layers.values()))
        axis.grid(axis="y")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return finish(figure)


def level_strips(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Where levels lie: one panel per layer, a row of dots per grid, the last in its colour.

    Args:
        panels: layer -> name of the grid -> its levels, in units of the group's largest magnitude.
    """
    rows = max(len(grids) for grids in panels.values())
    size = (WIDTH, len(panels) * (0.26 * rows + 0.3) + 0.5)
    figure, axes = plt.subplots(len(panels), 1, figsize=size, sharex=True, squeeze=False)
    for axis, (layer, grids) in zip(axes[:, 0], panels.items(), strict=True):
        for row, levels in enumerate(grids.values()):
            colour = LAYER_COLOURS[layer] if row == len(grids) - 1 else FAINT
            axis.axhline(row, color="#dddddd", linewidth=0.8, zorder=0)
            axis.plot(levels, [row] * len(levels), "o", color=colour, mec=INK, mew=0.5, ms=5.5)
        axis.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
        axis.set_yticks(range(len(grids)), list(grids))
        axis.set_ylim(len(grids) - 0.4, -0.6)
        axis.set_title(layer, loc="left")
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    axes[-1, 0].set(xlabel="level over the group's largest magnitude")
    return finish(figure)


def layer_bars(models: Mapping[str, Mapping[str, float]], xlabel: str) -> Figure:
    """A bar for each layer, in groups by model, with its value written.

    Args:
        models: model -> layer -> value.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
    """
    count = sum(len(layers) for layers in models.values())
    figure, axis = plt.subplots(figsize=(WIDTH, 0.3 * (count + len(models)) + 0.7))
    top, row, ticks = max(max(layers.values()) for layers in models.values()), 0, []
    for model, layers in models.items():
        if len(models) > 1:
            axis.text(0.005 * top, row, model, va="center", fontstyle="italic")
            row += 1
        for layer, value in layers.items():
            axis.barh(row, value, 0.75, color=LAYER_COLOURS[layer], edgecolor=INK, linewidth=0.4)
            axis.text(value + 0.01 * top, row, f"{value:.3f}", va="center", fontsize=8)
            ticks.append((row, layer))
            row += 1
    axis.set_yticks([place for place, _ in ticks], [layer for _, layer in ticks])
    axis.set(xlabel=xlabel, xlim=(0, 1.12 * top))
    axis.set_ylim(row - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    return finish(figure)


def channel_maps(models: Mapping[str, Mapping[str, Tensor]], columns: int = 128) -> Figure:
    """Channel magnitudes by step: a strip map for each layer (row) and model (column).

    Args:
        models: model -> layer -> (steps, channels), magnitude over the step's median channel.
        columns: neighbouring channels share one of so many columns, which shows the largest.
    """
    layers = list(next(iter(models.values())))
    size = (WIDTH, 1.05 * len(layers) + 1.0)
    figure, axes = plt.subplots(len(layers), len(models), figsize=size, squeeze=False)
    for side, (model, maps) in enumerate(models.items()):
        for axis, (layer, values) in zip(axes[:, side], maps.items(), strict=True):
            steps, channels = values.shape
            largest = values.reshape(steps, columns, channels // columns).amax(-1).log2()
            image = axis.imshow(
                largest.numpy(),
                aspect="auto",
                cmap="inferno_r",
                vmin=0,
                vmax=5,
                extent=(0, channels, steps + 0.5, 0.5),
                interpolation="nearest",
            )
            axis.set_title(f"{model}: {layer}", loc="left", fontsize=9)
            axis.set_yticks(range(1, steps + 1))
            axis.tick_params(length=0, labelsize=8)
            axis.xaxis.set_major_locator(MaxNLocator(4))
    figure.supxlabel("channel", fontsize=10)
    figure.supylabel("step", fontsize=10)
    ticks = range(6)
    bar = figure.colorbar(image, ax=axes, location="top", aspect=50, shrink=0.8, extend="both")
    bar.set_ticks(list(ticks), labels=[f"{2**tick}" for tick in ticks])
    bar.set_label("magnitude over the median channel's", fontsize=9)
    return finish(figure)


def step_bands(
    models: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], ylabel: str
) -> Figure:
    """One panel per model: by layer the mean over the blocks at each step, and the first block.

    Args:
        models: model -> layer -> block -> one value per step.
        ylabel: text of the vertical axis, which is logarithmic: the measured quantity and its unit.
    """
    figure, axes = plt.subplots(1, len(models), figsize=(WIDTH, 3.3), sharey=True, squeeze=False)
    for axis, (model, layers) in zip(axes[0], models.items(), strict=True):
        for place, (layer, blocks) in enumerate(layers.items()):
            steps = np.arange(1, len(blocks[0]) + 1) + 0.16 * (place - (len(layers) - 1) / 2)
            table = np.array(blocks)
            axis.vlines(steps, table.min(0), table.max(0), color=LAYER_COLOURS[layer], lw=3)
            axis.plot(steps, table[0], **_marks(layer), label=layer)
        axis.set_title(model)
        axis.set(yscale="log", xlabel="step", xticks=range(1, len(blocks[0]) + 1))
        axis.yaxis.set_major_locator(FixedLocator([1, 2, 4, 8, 16, 32, 64]))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.tick_params(axis="x", length=0)
        axis.grid(axis="y")
    axes[0, 0].set(ylabel=ylabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return finish(figure)


def overlap_matrices(models: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """A matrix of per cents for each layer (column) and model (row), steps down and across.

    Args:
        models: model -> layer -> (steps, steps), per cent; the diagonal is drawn with a frame.
    """
    layers = list(next(iter(models.values())))
    size = (WIDTH, 1.6 * len(models) + 0.45)
    figure, axes = plt.subplots(len(models), len(layers), figsize=size, squeeze=False)
    for row, (model, matrices) in zip(axes, models.items(), strict=True):
        for axis, (layer, matrix) in zip(row, matrices.items(), strict=True):
            _matrix(axis, matrix.numpy())
            axis.set_title(layer, fontsize=9)
        row[0].set_ylabel(f"{model}\nstep")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    return finish(figure)


def scaling_dots(panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> Figure:
    """One panel per layer and model, a row per way of scaling, a dot per block and the mean.

    Args:
        panels: name -> way of scaling -> one value per block.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
    """
    ways = len(next(iter(panels.values())))
    size = (WIDTH, 0.5 + len(panels) // 2 * (0.26 * ways + 0.45))
    figure, axes = plt.subplots(len(panels) // 2, 2, figsize=size, sharex=True, sharey=True)
    for axis, (name, rows) in zip(axes.flat, panels.items(), strict=True):
        for row, values in enumerate(rows.values()):
            axis.plot(values, [row] * len(values), "o", color=COLOURS["smoothing"], ms=5, alpha=0.7)
            mean = f"{np.mean(values):.1f}"
            axis.text(
                1.01, row, mean, transform=axis.get_yaxis_transform(), va="center", fontsize=8
            )
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_yticks(range(ways), list(rows))
        axis.set_ylim(ways - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.grid(True)
    figure.supxlabel(xlabel, fontsize=10)
    return finish(figure)


def _marks(layer: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": MARKERS[layer],
        "color": LAYER_COLOURS[layer],
        "markeredgecolor": INK,
        "markeredgewidth": 0.5,
        "markersize": 6,
    }


def _standard_density(values: Tensor, edges: np.ndarray) -> np.ndarray:
    scaled = (values / values.square().mean().sqrt()).flatten().numpy()
    counts = np.histogram(scaled, edges)[0]
    # An empty bin lies below the axis; zero would be a hole in a logarithmic one.
    return np.maximum(counts / values.numel() / np.diff(edges), 1e-9)


def _matrix(axis: Axes, table: np.ndarray) -> None:
    axis.imshow(table, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if value > 60 else INK
        weight = "bold" if row == column else "normal"
        axis.text(
            column,
            row,
            f"{value:.0f}",
            color=colour,
            weight=weight,
            fontsize=7,
            ha="center",
            va="center",
        )
    axis.set_xticks(range(len(table)), [str(step + 1) for step in range(len(table))], fontsize=8)
    axis.set_yticks(range(len(table)), [str(step + 1) for step in range(len(table))], fontsize=8)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
