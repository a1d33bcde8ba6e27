"""Drawing of the page on the GHT-aware learnable transformation, in the house style of
`fpqvar_lab.figures.style`.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from torch import Tensor

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, LAYER_COLOURS, WIDTH, finish

Blocks = Sequence[float]
"""One number per block."""

# Colour and marker of each way to compute a layer.
METHODS = {
    "none": ("baseline", "o", True),
    "smooth": ("smoothing", "s", True),
    "GHT": ("ght", "^", True),
    "smooth + GHT": ("ght", "D", False),
    "GALT": ("galt", "o", True),
}
PLANTED = "#CC3311"


def tangents(
    dial: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    slopes: Mapping[str, Mapping[str, float]],
    xlabel: str,
) -> Figure:
    """A panel for each curve, and through its value at zero lines of given slopes.

    Args:
        dial: positions at which the curves are known; one of them is 0.
        curves: panel -> one value per position.
        slopes: panel -> name of the slope -> slope at 0.
        xlabel: text of the horizontal axis of both panels.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(WIDTH, 2.9))
    places = np.asarray(dial)
    start = int(np.abs(places).argmin())
    for axis, (name, values) in zip(np.atleast_1d(axes), curves.items(), strict=True):
        axis.plot(places, values, color=INK, label="error, measured")
        for (label, slope), style in zip(slopes[name].items(), ("-", "--"), strict=False):
            line = values[start] + slope * places
            axis.plot(places, line, style, color=COLOURS["galt"], lw=1.3, label=label)
        axis.plot(0, values[start], "o", color=INK, ms=4)
        axis.set(title=name, xlabel=xlabel, ylim=(0, 1.25 * max(values)))
        axis.grid(True)
    np.atleast_1d(axes)[0].set_ylabel("relative squared output error")
    np.atleast_1d(axes)[0].legend(loc="upper right", fontsize=8)
    return finish(figure)


def learning_curves(histories: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Error against epoch, as a share of the error before learning; a panel per layer, a line per
    block, dark for the first; a dot at the iterate that is kept.

    Args:
        histories: layer -> block -> error before learning and after each epoch.
    """
    figure, axes = plt.subplots(1, len(histories), figsize=(WIDTH, 3.0), sharey=True)
    for axis, (layer, blocks) in zip(np.atleast_1d(axes), histories.items(), strict=True):
        for block, history in enumerate(blocks):
            values = np.asarray(history) / history[0]
            colour = _shade(LAYER_COLOURS[layer], block / len(blocks))
            axis.plot(values, color=colour, lw=1.4, label=f"block {block + 1}")
            axis.plot(values.argmin(), values.min(), "o", color=colour, ms=4.5)
        axis.set(title=layer, xlabel="epoch", ylim=(0, 1.06))
        axis.legend(ncols=2, loc="lower left", fontsize=8)
        axis.grid(True)
    np.atleast_1d(axes)[0].set_ylabel("error / error of GHT alone")
    return finish(figure)


def factor_strips(
    factors: Mapping[str, Mapping[str, Sequence[Tensor]]], planted: Mapping[str, Tensor]
) -> Figure:
    """The factors of each block on a logarithmic axis: every channel a stroke, planted ones dots.

    Args:
        factors: model -> layer -> block -> factors (channels,).
        planted: model -> (channels,) bool, drawn as dots; models without an entry have none.
    """
    layers = list(next(iter(factors.values())))
    size = (WIDTH, 2.3 * len(factors) + 0.3)
    figure, grid = plt.subplots(
        len(factors), len(layers), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axes, (model, table) in zip(grid, factors.items(), strict=True):
        for axis, layer in zip(axes, layers, strict=True):
            for block, values in enumerate(table[layer]):
                _strip(axis, block, values, LAYER_COLOURS[layer], planted.get(model))
            axis.axhline(1, color=FAINT, lw=0.8, zorder=0)
            axis.set_title(f"{model}: {layer}", loc="left")
            axis.set(yscale="log")
            axis.set_xticks(range(len(table[layer])), _numbers(table[layer]))
            axis.tick_params(axis="x", length=0)
            axis.grid(axis="y")
        axes[0].set_ylabel("factor")
    _plain_ticks(grid[0, 0], (0.5, 0.7, 1, 1.4, 2, 2.8))
    for axis in grid[-1]:
        axis.set_xlabel("block")
    marks = [
        Line2D([], [], ls="", marker="_", color=INK, alpha=0.5, ms=10, label="a channel"),
        Line2D([], [], ls="", marker="o", color=PLANTED, ms=4, label="a planted channel"),
    ]
    figure.legend(handles=marks, loc="outside upper right", ncols=2)
    return finish(figure)


def balance(
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    planted: Tensor,
    gains: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> Figure:
    """Learned factors against balanced ones, and measured gains against predicted ones.

    Args:
        pairs: layer -> balanced and learned factors, each (blocks, channels).
        planted: (channels,) bool.
        gains: model -> layer -> one (predicted, measured) ratio of errors per block. The first
            model's dots are open, the second's filled.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    for layer, (balanced, learned) in pairs.items():
        common = {"color": LAYER_COLOURS[layer], "ms": 2.2, "alpha": 0.35, "ls": "", "marker": "."}
        left.plot(balanced[:, ~planted].flatten(), learned[:, ~planted].flatten(), **common)
    for balanced, learned in pairs.values():  # last, so that no other dot hides them
        places = balanced[:, planted].flatten(), learned[:, planted].flatten()
        left.plot(*places, ".", color=PLANTED, ms=4)
    left.set(xscale="log", yscale="log", xlabel="balanced factor", ylabel="learned factor")
    left.set_title("each channel", loc="left")
    _plain_ticks(left, (0.25, 0.5, 1, 2))
    for (model, table), fill in zip(gains.items(), (False, True), strict=True):
        for layer, points in table.items():
            colour = LAYER_COLOURS[layer]
            face = colour if fill else "white"
            x, y = zip(*points, strict=True)
            label = f"{model}, {layer}"
            right.plot(x, y, "o", color=colour, mfc=face, ms=5.5, label=label)
    right.set(xlabel="predicted error / GHT's", ylabel="measured error / GHT's")
    right.set_title("each layer", loc="left")
    right.legend(loc="upper left", fontsize=8)
    for axis in (left, right):
        axis.axline((0.5, 0.5), (1, 1), color=FAINT, lw=0.8, zorder=0)
        axis.set_aspect("equal", adjustable="datalim")
        axis.grid(True)
    return finish(figure)


def method_errors(errors: Mapping[str, Mapping[str, Mapping[str, Blocks]]]) -> Figure:
    """The error of each method in each block: a row per model, a column per layer.

    Args:
        errors: model -> layer -> method, a key of `METHODS` -> its error in each block.
    """
    layers = list(next(iter(errors.values())))
    size = (WIDTH, 2.2 * len(errors) + 0.4)
    figure, grid = plt.subplots(
        len(errors), len(layers), figsize=size, sharex=True, sharey="row", squeeze=False
    )
    for axes, (model, table) in zip(grid, errors.items(), strict=True):
        for axis, layer in zip(axes, layers, strict=True):
            for name, values in table[layer].items():
                colour, marker, filled = METHODS[name]
                style = {"color": COLOURS[colour], "mfc": COLOURS[colour] if filled else "white"}
                axis.plot(values, marker=marker, ms=4.5, lw=1, label=name, **style)
            axis.set_title(f"{model}: {layer}", loc="left")
            axis.set_xticks(range(len(values)), _numbers(values))
            axis.set_yscale("log")
            axis.tick_params(axis="x", length=0)
            axis.grid(axis="y")
        _plain_ticks(axes[0], (0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.04))
        axes[0].set_ylabel("output error")
    for axis in grid[-1]:
        axis.set_xlabel("block")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return finish(figure)


def error_ratios(
    ratios: Mapping[str, Mapping[str, Blocks]], colours: Mapping[str, str], ylabel: str
) -> Figure:
    """Ratios as stems from a line at one: a panel per layer, a stem for each name in every block.

    Args:
        ratios: layer -> name -> one ratio per block.
        colours: name -> key of `COLOURS`.
        ylabel: text of the vertical axis: what is divided by what.
    """
    figure, axes = plt.subplots(1, len(ratios), figsize=(WIDTH, 2.8), sharey=True)
    for axis, (layer, table) in zip(np.atleast_1d(axes), ratios.items(), strict=True):
        for offset, (name, values) in enumerate(table.items()):
            places = np.arange(len(values)) + 0.24 * (offset - (len(table) - 1) / 2)
            colour = COLOURS[colours[name]]
            axis.vlines(places, 1, values, color=colour, lw=1.2)
            axis.plot(places, values, "o", color=colour, ms=4.5, label=name)
        axis.axhline(1, color=INK, lw=1)
        axis.set_title(layer, loc="left")
        axis.set_xticks(range(len(values)), _numbers(values))
        axis.set_xlabel("block")
        axis.tick_params(axis="x", length=0)
        axis.grid(axis="y")
    np.atleast_1d(axes)[0].set_ylabel(ylabel)
    handles, names = np.atleast_1d(axes)[0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return finish(figure)


def _strip(axis: Axes, place: int, values: Tensor, colour: str, planted: Tensor | None) -> None:
    numbers = values.numpy()
    axis.hlines(numbers, place - 0.3, place + 0.3, color=colour, lw=0.5, alpha=0.3)
    if planted is not None:
        chosen = numbers[planted.numpy()]
        axis.plot([place] * len(chosen), chosen, "o", color=PLANTED, ms=2.6, alpha=0.8)


def _shade(colour: str, share: float) -> tuple[float, float, float]:
    """The colour itself at 0, lighter toward 1."""
    red, green, blue = (part + (1 - part) * 0.8 * share for part in mpl.colors.to_rgb(colour))
    return red, green, blue


def _numbers(values: Sequence[object]) -> list[str]:
    return [str(number + 1) for number in range(len(values))]


def _plain_ticks(axis: Axes, ticks: Sequence[float]) -> None:
    axes = [axis.yaxis] if axis.get_xscale() == "linear" else [axis.xaxis, axis.yaxis]
    for one in axes:
        one.set_major_locator(FixedLocator(ticks))
        one.set_minor_locator(NullLocator())
        formatter = ScalarFormatter()
        formatter.set_scientific(False)
        one.set_major_formatter(formatter)
