"""What units cost, as bars and curves: one bar each, bars in groups, and costs over a format's bits
or beside its accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from fpqvar_lab.figures.style import (
    COLOURS,
    FAINT,
    WIDTH,
    finish,
)

_TICKS = (10, 20, 50, 100)
_ON_LINES: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "center",
    "fontsize": 8,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.85},
}


def cost_bars(values: Mapping[str, float], colours: Sequence[str], xlabel: str) -> Figure:
    """One horizontal bar for each name, its value written.

    Args:
        values: name -> length of its bar.
        colours: colours of the bars.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.4 * len(values) + 0.8))
    bars = axis.barh(list(values), list(values.values()), 0.65, color=list(colours))
    axis.bar_label(bars, [f"{value:,.0f}" for value in values.values()], padding=4, fontsize=9)
    axis.set(xlabel=xlabel, xlim=(0, 1.12 * max(values.values())))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    return finish(figure)


def grouped_cost_bars(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], colours: Mapping[str, str], label: str
) -> Figure:
    """Bars in groups on a logarithmic axis, one panel a question, each bar with its number.

    Args:
        panels: title -> group's name -> series -> cost.
        colours: series -> key of `COLOURS`.
        label: text of the cost's axis: the quantity and its unit.
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
    return finish(figure)


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
    return finish(figure)


def format_costs(costs: Mapping[str, tuple[float, float]], families: Mapping[str, str]) -> Figure:
    """Two bars per format: the multiplier alone (pale), and a MAC of a dot product.

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
    return finish(figure)


def accuracy_against_cost(
    panels: Mapping[str, Mapping[str, tuple[float, float]]],
    families: Mapping[str, str],
    line: Sequence[str],
    labels: tuple[str, str],
) -> Figure:
    """A point per format: accuracy over cost, with a line through the formats of one kind.

    Args:
        panels: title -> format -> (cost, accuracy).
        families: format -> key of `COLOURS`.
        line: the formats that a line joins, in its order.
        labels: texts of the horizontal and the vertical axis.
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
    return finish(figure)


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
