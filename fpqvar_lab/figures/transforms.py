"""Drawing of the page on the Hadamard transform, in the house style."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, WIDTH, finish

METHODS: dict[str, dict[str, Any]] = {
    "none": {"color": COLOURS["baseline"], "marker": "o"},
    "groups of 128": {"color": COLOURS["ght"], "marker": "s"},
    "full": {"color": INK, "marker": "x"},
}
MODEL_MARKERS = {"mini": "o", "mini-outlier": "^"}


def before_and_after(cases: Mapping[str, tuple[Tensor, Tensor]], titles: Sequence[str]) -> Figure:
    """One row per case: a group's values by channel on the left, their transform on the right.

    Args:
        cases: name -> two vectors (n,).
        titles: titles of the two columns.
    """
    size = (WIDTH, 1.3 * len(cases) + 0.7)
    figure, axes = plt.subplots(len(cases), 2, figsize=size, sharex=True, squeeze=False)
    for row, (name, pair) in zip(axes, cases.items(), strict=True):
        for axis, values, method in zip(row, pair, ("baseline", "ght"), strict=True):
            axis.vlines(range(len(values)), 0, values.numpy(), color=COLOURS[method], lw=1.3)
            axis.axhline(0, color=FAINT, linewidth=0.8)
            crest = float(values.abs().max() / values.square().mean().sqrt())
            label = f"crest factor {crest:.1f}"
            axis.text(1, 1.02, label, transform=axis.transAxes, ha="right", va="bottom", fontsize=8)
            axis.margins(x=0.02, y=0.12)
        row[0].set_ylabel(name)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, loc="left", pad=14)
    for axis in axes[-1]:
        axis.set_xlabel("channel")
    return finish(figure)


def errors_by_block(
    errors: Mapping[tuple[str, str], Mapping[str, Sequence[float]]], ylabel: str
) -> Figure:
    """A panel for each model (row) and layer (column), a mark for each block and method.

    Args:
        errors: (model, layer) -> method of `METHODS` -> one error per block.
        ylabel: text of the vertical axis: the kind of error and its unit.
    """
    models = list(dict.fromkeys(model for model, _ in errors))
    layers = list(dict.fromkeys(layer for _, layer in errors))
    size = (WIDTH, 1.9 * len(models) + 0.7)
    figure, axes = plt.subplots(len(models), len(layers), figsize=size, sharex=True, sharey=True)
    for (model, layer), methods in errors.items():
        axis = axes[models.index(model), layers.index(layer)]
        for name, values in methods.items():
            blocks = range(1, len(values) + 1)
            axis.plot(blocks, values, label=name, lw=1, ms=6, mew=1.5, **METHODS[name])
        axis.set_title(f"{layer}, {model}", loc="left")
        axis.set(yscale="log", xticks=list(blocks))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(FuncFormatter(_few_labels))
        axis.grid(axis="y", which="both")
    for axis in axes[-1]:
        axis.set_xlabel("block")
    figure.supylabel(ylabel, fontsize=10)
    _legend_above(figure, axes[0, 0], len(METHODS))
    return finish(figure)


def gain_against_crest(
    points: Mapping[tuple[str, str], Sequence[tuple[float, float]]],
    gaussian: float,
    labels: tuple[str, str],
) -> Figure:
    """A mark for each layer and block, around the line where the transform changes nothing.

    Args:
        points: (model, layer) -> one (x, y) per block.
        gaussian: the x of Gaussian values, drawn as a vertical line.
        labels: texts of the horizontal and the vertical axis.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
    axis.axhline(1, color=INK, linewidth=1)
    axis.axvline(gaussian, color=FAINT, linewidth=1, linestyle="--")
    axis.annotate("Gaussian", (gaussian, 0.04), (4, 0), textcoords="offset points", fontsize=8)
    for (model, layer), places in points.items():
        x, y = zip(*places, strict=True)
        style: dict[str, Any] = {"color": COLOURS[layer], "mec": INK, "mew": 0.5, "ls": "none"}
        axis.plot(x, y, marker=MODEL_MARKERS[model], ms=6.5, label=f"{layer}, {model}", **style)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.set_ylim(0, 1.1)
    axis.grid(True)
    axis.legend(loc="lower center", ncols=2)
    return finish(figure)


def by_group_size(
    curves: Mapping[tuple[str, str], Sequence[float]], sizes: Sequence[int], ylabel: str
) -> Figure:
    """One curve for each model and layer over the order of the transform.

    Args:
        curves: (model, layer) -> one value per size.
        sizes: powers of two; 1 is no transform.
        ylabel: text of the vertical axis: the measured quantity and its unit.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.0))
    axis.axhline(1, color=INK, linewidth=1)
    for (model, layer), values in curves.items():
        line = "-" if model == "mini-outlier" else "--"
        axis.plot(
            sizes,
            values,
            line,
            marker=MODEL_MARKERS[model],
            color=COLOURS[layer],
            label=f"{layer}, {model}",
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set(xlabel="channels transformed together", ylabel=ylabel)
    axis.set_ylim(0, 1.15)
    axis.grid(axis="y")
    axis.legend(ncols=2, loc="lower left")
    return finish(figure)


def seed_strips(ratios: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> Figure:
    """A panel for each model, a row for each layer, a dot for each seed, the mean written.

    Args:
        ratios: model -> layer -> one value per seed.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
    """
    rows = max(len(layers) for layers in ratios.values())
    size = (WIDTH, 0.36 * rows + 1.2)
    figure, axes = plt.subplots(1, len(ratios), figsize=size, sharey=True, sharex=True)
    for axis, (model, layers) in zip(np.atleast_1d(axes), ratios.items(), strict=True):
        axis.axvline(1, color=INK, linewidth=1)
        for row, (layer, values) in enumerate(layers.items()):
            colour = COLOURS[layer.split(",")[0]]
            axis.plot(values, [row] * len(values), "o", color=colour, ms=4, alpha=0.55)
            mean = sum(values) / len(values)
            axis.plot(mean, row, "|", color=INK, ms=14)
            place = axis.get_yaxis_transform()
            axis.text(1.01, row, f"{mean:.3f}", transform=place, fontsize=8, va="center")
        axis.set_title(model, loc="left")
        axis.set_xlabel(xlabel)
        axis.set_yticks(range(len(layers)), list(layers))
        axis.set_ylim(len(layers) - 0.4, -0.7)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
    return finish(figure)


def _few_labels(value: float, _: object) -> str:
    mantissa = value / 10 ** np.floor(np.log10(value) + 1e-9)
    return f"{value:g}" if round(mantissa) in (2, 5) else ""


def _legend_above(figure: Figure, axis: Axes, columns: int) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=columns, loc="outside upper center")
