"""Drawing of the pages on recipes and on the KV cache, in the house style."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from fpqvar_lab.evaluation import Estimate
from fpqvar_lab.figures.style import (
    COLOURS,
    FAINT,
    INK,
    LAYER_COLOURS,
    WIDTH,
    finish,
    ink_on,
    step_colour,
)
from fpqvar_lab.formats import DualFormat, format_to_text
from fpqvar_lab.method import LayerRecipe, Recipe
from fpqvar_lab.quantization import Quantizer

_SLOT, _HALF = 0.755, 0.33  # inches between the middles of two boxes, and half a box
_PLAIN = "#EEEEEE"


def block_diagram(recipe: Recipe) -> Figure:
    """One block of a VAR as a recipe computes it: where quantizers and transforms sit.

    Solid boxes are computed for every token; dashed tags below them are folded into weights
    beforehand.

    Args:
        recipe: the recipe whose rules for `blocks.0` are drawn.
    """
    rules = {
        name: recipe.rule_for(f"blocks.0.{part}.{name}")
        for part, names in (("attn", ("mat_qkv", "proj")), ("ffn", ("fc1", "fc2")))
        for name in names
    }
    figure, axis = plt.subplots(figsize=(WIDTH, 3.5), layout="none")
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1)
    axis.set(xlim=(0, WIDTH), ylim=(-0.45, 3.05))
    axis.set_axis_off()
    _attention_row(axis, 2.3, rules, recipe.kv)
    _feed_forward_row(axis, 0.85, rules)
    _diagram_legend(axis, -0.15)
    return finish(figure)


def estimates(
    rows: Mapping[str, Estimate], colours: Mapping[str, str], xlabel: str, *, log: bool = False
) -> Figure:
    """A row for each value, a dot with its interval and the number beside it.

    Args:
        rows: name -> value with its interval.
        colours: name -> key of `COLOURS`.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
        log: whether the axis is logarithmic; otherwise it starts at 0.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.33 * len(rows) + 0.75))
    for place, (name, estimate) in enumerate(rows.items()):
        colour = COLOURS[colours[name]]
        low = estimate.value if estimate.low is None else estimate.low
        high = estimate.value if estimate.high is None else estimate.high
        axis.plot((low, high), (place, place), color=colour, lw=2, solid_capstyle="butt")
        axis.plot(estimate.value, place, "o", color=colour, ms=5.5)
        text = f"{estimate.value:.2g}" if estimate.value < 0.01 else f"{estimate.value:.3f}"
        axis.annotate(text, (high, place), (5, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    most = max(e.value if e.high is None else e.high for e in rows.values())
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlim(right=1.8 * most)
    else:
        axis.set_xlim(0, 1.13 * most)
    return finish(figure)


def by_block_and_step(
    values: Mapping[str, Sequence[Sequence[float]]], ylabel: str, *, legend: bool = True
) -> Figure:
    """A panel for each name, a line for each step over the blocks, dark for the first step.

    Args:
        values: name -> block -> one value per step.
        ylabel: text of the vertical axis: the measured quantity and its unit.
        legend: whether the colours of the steps are explained.
    """
    figure, axes = plt.subplots(1, len(values), figsize=(WIDTH, 2.9), sharey=True, squeeze=False)
    for axis, (name, blocks) in zip(axes[0], values.items(), strict=True):
        table = np.asarray(blocks)
        places = np.arange(len(table)) + 1
        for step, line in enumerate(table.T):
            colour = step_colour(step, table.shape[1])
            axis.plot(places, line, "o-", color=colour, ms=3.5, lw=1.4, label=f"step {step + 1}")
        axis.set_title(name, loc="left")
        axis.set(xlabel="block", xticks=places)
        axis.tick_params(axis="x", length=0)
        axis.grid(axis="y")
    axes[0, 0].set_ylabel(ylabel)
    if legend:
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return finish(figure)


def cache_growth(
    megabytes: Mapping[str, Sequence[float]], colours: Mapping[str, str], tokens: Sequence[int]
) -> Figure:
    """What a cache holds after each step, a line per format, its last value written.

    Args:
        megabytes: name -> one size per step.
        colours: name -> key of `COLOURS`.
        tokens: number of tokens that each step adds.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.0))
    for name, sizes in megabytes.items():
        colour = COLOURS[colours[name]]
        axis.plot(sizes, "o-", color=colour, ms=4)
        last = (len(sizes) - 1, sizes[-1])
        label = f"{name}: {sizes[-1]:.0f} MB"
        axis.annotate(label, last, (7, 0), textcoords="offset points", va="center", color=colour)
    axis.set(ylabel="MB held after the step", ylim=(0, None), xlim=(-0.3, len(tokens) + 1.2))
    steps = range(len(tokens))
    axis.set_xticks(steps, [f"{s + 1}\n{n}" for s, n in zip(steps, tokens, strict=True)])
    axis.set_xlabel("step, and below it its tokens", loc="left")
    axis.grid(axis="y")
    return finish(figure)


def row_histograms(panels: Mapping[str, Mapping[str, np.ndarray]], xlabel: str) -> Figure:
    """Distributions over rows, filled, on a logarithmic axis: a panel each, a block each line.

    Args:
        panels: title -> block -> one positive number for each row (token and head).
        xlabel: text of the horizontal axis: the measured quantity and its unit.
    """
    size = (WIDTH, 2.9)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    every = np.concatenate([rows for blocks in panels.values() for rows in blocks.values()])
    bins = np.geomspace(every.min(), every.max(), 60)
    for axis, (title, blocks) in zip(axes[0], panels.items(), strict=True):
        for block, (name, rows) in enumerate(blocks.items()):
            colour = step_colour(block, len(blocks))
            counts, _ = np.histogram(rows, bins)
            middles = np.sqrt(bins[1:] * bins[:-1])
            axis.plot(middles, counts / len(rows), color=colour, lw=1.4, label=name)
        axis.set(xscale="log", xlabel=xlabel, ylim=(0, None))
        axis.set_title(title, loc="left")
        axis.grid(axis="x")
        axis.xaxis.set_major_locator(FixedLocator([2.0**power for power in range(-10, 11)]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0, 0].set_ylabel("share of rows in a bin")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return finish(figure)


def ageing(panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], ylabel: str) -> Figure:
    """How the error of cached entries changes while the cache grows.

    Args:
        panels: title -> way of quantizing, the first drawn solid and the second dashed -> step at
            which entries were written -> their error after that step and each later one.
        ylabel: text of the vertical axis: the measured quantity and its unit.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.0), sharey=True, squeeze=False)
    for axis, (title, ways) in zip(axes[0], panels.items(), strict=True):
        for style, (way, written) in zip(("-", "--"), ways.items(), strict=False):
            count = len(written)
            for step, line in enumerate(written):
                places = np.arange(step, count) + 1
                label = f"step {step + 1}" if style == "-" else None
                colour = step_colour(step, count)
                axis.plot(
                    places, line, style, color=colour, marker="o", ms=3.5, lw=1.4, label=label
                )
            axis.plot([], [], style, color=INK, lw=1.4, label=way)
        axis.set_title(title, loc="left")
        axis.set(xlabel="after step", xticks=np.arange(count) + 1, ylim=(0, None))
        axis.grid(axis="y")
    axes[0, 0].set_ylabel(ylabel)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4)
    return finish(figure)


def stacked_steps(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    colours: Mapping[str, str],
    tokens: Sequence[int],
    ylabel: str,
) -> Figure:
    """Stacked bars over the steps, a panel each, all on one axis.

    Args:
        panels: title -> part -> one height per step.
        colours: part -> key of `COLOURS`.
        tokens: number of tokens of each step.
        ylabel: text of the vertical axis: the measured quantity and its unit.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.0), sharey=True, squeeze=False)
    for axis, (title, parts) in zip(axes[0], panels.items(), strict=True):
        bottom = np.zeros(len(tokens))
        for name, heights in parts.items():
            places = np.arange(len(tokens)) + 1
            axis.bar(places, heights, 0.75, bottom=bottom, color=COLOURS[colours[name]], label=name)
            bottom += heights
        axis.set_title(title, loc="left")
        axis.set(xlabel="step", xticks=np.arange(len(tokens)) + 1)
        axis.tick_params(axis="x", length=0, labelsize=8)
        axis.grid(axis="y")
    axes[0, 0].set_ylabel(ylabel)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return finish(figure)


Rules = Mapping[str, LayerRecipe | None]


def _attention_row(axis: Axes, y: float, rules: Rules, kv: Quantizer | None) -> None:
    _input(axis, y, "attention half")
    _before(axis, y, rules["mat_qkv"], first=1)
    _layer(axis, 4, y, "mat_qkv", rules["mat_qkv"])
    _box(axis, 5, y, "attention", LAYER_COLOURS["attention"])
    cache = "16 bits" if kv is None else format_to_text(kv.format)
    _box(axis, 5, y - 0.68, f"KV cache\n{cache}", _PLAIN if kv is None else COLOURS["fp"])
    middle = _x(5)
    axis.annotate("", (middle, y - 0.25), (middle, y - 0.43), arrowprops=_arrow("<->"))
    _quantizer(axis, 6, y, rules["proj"], _transformed(rules["proj"]))
    _layer(axis, 7, y, "proj", rules["proj"])
    _output(axis, y)


def _feed_forward_row(axis: Axes, y: float, rules: Rules) -> None:
    _input(axis, y, "feed-forward half")
    _before(axis, y, rules["fc1"], first=1)
    _layer(axis, 4, y, "fc1", rules["fc1"])
    _box(axis, 5, y, "GELU", _PLAIN)
    _quantizer(axis, 6, y, rules["fc2"], _transformed(rules["fc2"]))
    _layer(axis, 7, y, "fc2", rules["fc2"])
    _output(axis, y)


def _before(axis: Axes, y: float, rule: LayerRecipe | None, first: int) -> None:
    """What stands between the residual stream and a layer after AdaLN."""
    _box(axis, first, y, "LN\nAdaLN", LAYER_COLOURS["ada_lin"])
    if rule is not None and rule.scaling != "none":
        _tag(axis, first, y, "× λ", COLOURS["galt"])
    if rule is not None and rule.hadamard is not None:
        size = "all" if rule.hadamard == "full" else rule.hadamard
        _box(axis, first + 1, y, f"R\n{size}", COLOURS["ght"])
    else:
        axis.plot((_x(first + 1) - _HALF, _x(first + 1) + _HALF), (y, y), color=FAINT, lw=1.2)
    _quantizer(axis, first + 2, y, rule)


def _quantizer(
    axis: Axes, slot: int, y: float, rule: LayerRecipe | None, transformed: bool = False
) -> None:
    if rule is None:
        axis.plot((_x(slot) - _HALF, _x(slot) + _HALF), (y, y), color=FAINT, lw=1.2)
        return
    fmt = rule.input.format
    name = "R, Q" if transformed else "Q"
    if isinstance(fmt, DualFormat):
        name += f"\n{fmt.negative}|\n{fmt.positive}"
    else:
        name += f"\n{format_to_text(fmt)}"
    _box(axis, slot, y, name, COLOURS["dual" if isinstance(fmt, DualFormat) else "fp"])


def _transformed(rule: LayerRecipe | None) -> bool:
    return rule is not None and rule.hadamard is not None


def _layer(axis: Axes, slot: int, y: float, name: str, rule: LayerRecipe | None) -> None:
    _box(axis, slot, y, name, LAYER_COLOURS[name])
    if rule is None:
        return
    folded = [
        sign for sign, used in (("/ λ", rule.scaling != "none"), ("R", rule.hadamard)) if used
    ]
    text = "W " + " ".join(folded) if folded else "W"
    _tag(axis, slot, y, f"{text}\n{format_to_text(rule.weight.format)}", LAYER_COLOURS[name])


def _x(slot: float) -> float:
    return 0.3 + slot * _SLOT - 0.25


def _input(axis: Axes, y: float, title: str) -> None:
    axis.text(0.08, y + 0.48, title, fontsize=9, color=INK, style="italic")
    axis.text(0.12, y, "x", ha="center", va="center", fontsize=10)
    _connect(axis, 0.2, _x(1) - _HALF, y)


def _output(axis: Axes, y: float) -> None:
    axis.text(_x(8) + 0.02, y, "× γ, + x", ha="center", va="center", fontsize=8)


def _box(axis: Axes, slot: float, y: float, text: str, colour: str) -> None:
    corner = (_x(slot) - _HALF, y - 0.24)
    style = "round,pad=0,rounding_size=0.06"
    box = FancyBboxPatch(corner, 2 * _HALF, 0.48, style, fc=colour, ec=INK, lw=0.8, zorder=2)
    axis.add_patch(box)
    size = 7.5 if text.count("\n") < 2 else 6.5
    place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size, "linespacing": 1.05}
    axis.text(_x(slot), y, text, color=ink_on(colour), zorder=3, **place)
    if y in (2.3, 0.85) and slot < 8:
        _connect(axis, _x(slot) + _HALF, _x(slot + 1) - _HALF, y)


def _tag(axis: Axes, slot: float, y: float, text: str, colour: str) -> None:
    height = 0.2 if "\n" not in text else 0.36
    corner = (_x(slot) - _HALF, y - 0.3 - height)
    dashed: dict[str, Any] = {"fc": "white", "ec": colour, "lw": 1.2, "ls": (0, (3, 2))}
    style = "round,pad=0,rounding_size=0.05"
    axis.add_patch(FancyBboxPatch(corner, 2 * _HALF, height, style, **dashed))
    place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "linespacing": 1.05}
    axis.text(_x(slot), y - 0.3 - height / 2, text, **place)


def _connect(axis: Axes, start: float, end: float, y: float) -> None:
    axis.annotate("", (end, y), (start, y), arrowprops=_arrow("->"))


def _arrow(style: str) -> dict[str, Any]:
    return {"arrowstyle": style, "color": FAINT, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}


def _diagram_legend(axis: Axes, y: float) -> None:
    solid = FancyBboxPatch((0.3, y - 0.07), 0.3, 0.16, "round,pad=0", fc="white", ec=INK, lw=0.8)
    dashes: dict[str, Any] = {"fc": "white", "ec": INK, "lw": 1.2, "ls": (0, (3, 2))}
    dashed = FancyBboxPatch((2.75, y - 0.07), 0.3, 0.16, "round,pad=0", **dashes)
    for patch, start, text in (
        (solid, 0.68, "computed for every token"),
        (dashed, 3.13, "folded in beforehand, free at run time"),
    ):
        axis.add_patch(patch)
        axis.text(start, y, text, va="center", fontsize=8)
