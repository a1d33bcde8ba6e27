"""Drawing of the figures on number formats and scales, in the house style.

The colour tells the family (integer, floating point, dual); line and marker tell the member, so
that grey print and every reader keep the formats apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from torch import Tensor

from fpqvar_lab.figures.style import COLOURS, FAINT, WIDTH, finish

DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
MARKERS = "osD^v"
_LEAST_BITS_APART = 0.2


def number_lines(rows: Mapping[str, Sequence[float]], families: Mapping[str, str]) -> Figure:
    """One line per format, with a mark at each level, all stretched to one width.

    Args:
        rows: name -> levels, ascending.
        families: name -> key of `COLOURS`. A dual format's line has two colours: the negative half
            is drawn paler.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(rows) + 0.7))
    for place, (name, levels) in enumerate(rows.items()):
        below, above = max(-levels[0], 0.0) or 1.0, levels[-1]
        x = [level / (below if level < 0 else above) for level in levels]
        axis.axhline(place, color=FAINT, linewidth=0.6, zorder=1)
        axis.scatter(x, [place] * len(x), s=130, marker="|", color=COLOURS[families[name]])
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlim=(-1.03, 1.03), ylim=(len(rows) - 0.5, -0.5), xlabel="level / largest level")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    return finish(figure)


def family_lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    families: Mapping[str, str],
    xlabel: str,
    ylabel: str,
    *,
    markers: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    ticks: Sequence[float] = (),
) -> Figure:
    """Curves over one axis, named in a legend above the plot.

    Args:
        x: positions along the horizontal axis, shared by all curves.
        series: name -> one value for each of `x`.
        families: name -> key of `COLOURS`; members of a family differ in dashes and markers.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
        ylabel: text of the vertical axis: the measured quantity and its unit.
        markers: whether the points are marked.
        log_x: whether the axis of `x` is logarithmic, to base 2.
        log_y: whether the other one is, to base 10.
        ticks: positions of the ticks on the axis of `x`.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.3))
    for name, y in series.items():
        axis.plot(x, y, label=name, **_style(name, families, markers))
    if log_x:
        axis.set_xscale("log", base=2)
    if log_y:
        _plain_log(axis)
    if ticks:
        axis.set_xticks(ticks, [_short(tick) for tick in ticks])
    axis.set(xlabel=xlabel, ylabel=ylabel)
    _dress(axis, len(series))
    return finish(figure)


def errors_against_bits(
    panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]],
    families: Mapping[str, str],
    named: Sequence[str],
) -> Figure:
    """Error against stored bits per value, one panel per tensor, one curve per series.

    Args:
        panels: title -> series -> point's name -> (bits for each value, error).
        families: series -> key of `COLOURS`.
        named: the series whose points' names are written beside them, where there is room.
    """
    size = (WIDTH, 3.5)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (title, series) in zip(axes[0], panels.items(), strict=True):
        for name, points in series.items():
            bits, errors = zip(*points.values(), strict=True)
            axis.plot(bits, errors, label=name, **_style(name, families, markers=True))
            if name in named:
                _name_points(axis, points)
        axis.set(title=title, xlabel="stored bits a value")
        _plain_log(axis)
        axis.grid(axis="y", which="both")
        axis.margins(x=0.12, y=0.1)
    axes[0, 0].set_ylabel("relative squared error")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return finish(figure)


def vanishing_fractions(rows: Mapping[str, Mapping[str, Tensor]], threshold: float) -> Figure:
    """Histograms of magnitudes relative to the amax, the part that becomes zero shaded.

    Args:
        rows: row title -> panel title -> magnitudes over the amax they are scaled by.
        threshold: the ratio up to which a magnitude rounds to zero.
    """
    first = next(iter(rows.values()))
    size = (WIDTH, 1.35 * len(rows) + 0.8)
    figure, axes = plt.subplots(
        len(rows), len(first), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    edges = np.linspace(-14, 0, 57)
    limit = np.log2(threshold)
    for row, (name, panels) in zip(axes, rows.items(), strict=True):
        for axis, (title, ratios) in zip(row, panels.items(), strict=True):
            magnitudes = np.log2(ratios.flatten().clamp_min(2.0**-14).cpu().numpy())
            weights = np.full(magnitudes.size, 100 / magnitudes.size)
            axis.hist(magnitudes, edges, weights=weights, color=COLOURS["fp"])
            axis.axvspan(edges[0], limit, color=COLOURS["int"], alpha=0.25, linewidth=0)
            lost = 100 * float((ratios <= threshold).float().mean())
            axis.text(-13.5, 0.96, f"{lost:.0f} % become 0", va="top", transform=_mixed(axis))
            axis.set_title(title if axis in axes[0] else "")
            axis.grid(axis="y")
        row[0].set_ylabel(f"{name}\nshare (%)")
    for axis in axes[-1]:
        axis.set_xticks(
            [-12, -9, -6, -3, 0], ["$2^{-12}$", "$2^{-9}$", "$2^{-6}$", "$2^{-3}$", "1"]
        )
        axis.set_xlabel("|x| / amax")
    return finish(figure)


def _style(name: str, families: Mapping[str, str], markers: bool) -> dict[str, Any]:
    family = families[name]
    members = [other for other, key in families.items() if key == family]
    index = members.index(name) % len(DASHES)
    style: dict[str, Any] = {"color": COLOURS[family], "linestyle": DASHES[index]}
    return style | ({"marker": MARKERS[index], "markersize": 5} if markers else {})


def _dress(axis: Axes, entries: int) -> None:
    axis.grid(True, which="major")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(entries, 5), handlelength=2.4)


def _name_points(axis: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    last = -np.inf
    for name, (bits, error) in points.items():
        if bits - last >= _LEAST_BITS_APART:
            axis.annotate(name, (bits, error), (3, 5), textcoords="offset points", fontsize=8)
            last = bits


def _plain_log(axis: Axes) -> None:
    """A logarithmic axis with plain numbers, close enough for less than a decade."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def _short(tick: float) -> str:
    is_unit_fraction = 0 < tick < 1 and (1 / tick).is_integer()
    return f"1/{1 / tick:.0f}" if is_unit_fraction else f"{tick:g}"


def _mixed(axis: Axes) -> Any:
    return axis.get_xaxis_transform()
