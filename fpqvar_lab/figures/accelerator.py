"""Drawing of the pages on throughput, energy and the design space, in the house style of
`fpqvar_lab.figures.style`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, WIDTH, finish
from fpqvar_lab.hardware.accelerator import Interval

FAMILY = {
    "fp4-fpqvar-pow2": "fp",
    "fp4-fpqvar": "dual",
    "fp4-ght-only": "ght",
    "fp6-baseline": "float",
}
"""Recipe -> key of `COLOURS`, in the figures of designs."""


@dataclass(frozen=True)
class Ratio:
    """How another design compares with ours.

    Args:
        speed: our speed over the design's.
        energy: the design's joules per image over ours.
        colour: a key of `COLOURS`.
    """

    speed: float
    energy: Interval
    colour: str


def ratios(rows: Mapping[str, Ratio], speed: float, energy: float) -> Figure:
    """Speed as a dot and energy as a bar for each row; published values as vertical lines.

    Args:
        rows: name of a design -> its ratios, from top to bottom.
        speed: the published ratio of speeds.
        energy: the published ratio of energies.
    """
    size = (WIDTH, 0.36 * len(rows) + 1.2)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True)
    for index, row in enumerate(rows.values()):
        colour = COLOURS[row.colour]
        axes[0].plot(row.speed, index, "o", color=colour, ms=7)
        label = f"{row.speed:.2f}"
        axes[0].annotate(
            label,
            (row.speed, index),
            (8, -3),
            textcoords="offset points",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
        _bar(axes[1], row.energy, index, colour)
    for axis, value in zip(axes, (speed, energy), strict=True):
        axis.axvline(value, color=INK, lw=1, ls="--")
        axis.annotate(
            f"published {value:g}",
            (value, 1.0),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    axes[0].set(xlabel="speed: FP4 over it")
    axes[1].set(xlabel="energy: it over FP4")
    axes[0].set_yticks(range(len(rows)), list(rows))
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    low, high = axes[0].get_xlim()
    axes[0].set_xlim(low, high * 1.4)
    return finish(figure)


def terms(values: Mapping[str, Interval], total: Interval) -> Figure:
    """Where each part of a sum lies, and the sum, on a logarithmic axis."""
    rows = {**values, "all together": total}
    figure, axis = plt.subplots(figsize=(WIDTH, 0.36 * len(rows) + 0.9))
    floor = min(one.low for one in rows.values() if one.low > 0) / 4
    for index, (name, one) in enumerate(rows.items()):
        colour = INK if name == "all together" else COLOURS["arithmetic"]
        _bar(axis, Interval(max(one.low, floor), one.high), index, colour, one.low == 0)
        axis.annotate(
            f"{one.low:.2g} ... {one.high:.2g}",
            (one.high, index),
            (6, -3),
            textcoords="offset points",
            fontsize=8,
        )
    axis.set(xscale="log", xlabel="joules an image")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlim(floor, total.high * 6)
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    return finish(figure)


@dataclass(frozen=True)
class Mark:
    """One design: its speed, where its energy per image lies, its name and colour."""

    images_per_second: float
    joules: Interval
    label: str
    colour: str


def designs(marks: Sequence[Mark], lines: Mapping[str, float]) -> Figure:
    """A row for each design: its speed as a dot, its joules per image from least to most as a bar.

    Args:
        marks: the designs, from top to bottom.
        lines: name -> images per second, drawn through all rows.
    """
    size = (WIDTH, 0.36 * len(marks) + 1.2)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True)
    for index, mark in enumerate(marks):
        colour = COLOURS[mark.colour]
        axes[0].plot(mark.images_per_second, index, "o", color=colour, ms=7)
        _bar(axes[1], mark.joules, index, colour)
    for name, value in lines.items():
        axes[0].axvline(value, color=INK, lw=1, ls="--", zorder=0)
        axes[0].annotate(
            name,
            (value, 1.0),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes[0].set_yticks(range(len(marks)), [mark.label for mark in marks])
    axes[0].set_ylim(len(marks) - 0.5, -0.5)
    for axis, label in zip(axes, ("images a second", "joules an image"), strict=True):
        axis.set(xlabel=label)
        axis.set_xlim(left=0)
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    return finish(figure)


def against(
    panels: Mapping[str, Mapping[str, Mapping[float, float]]],
    lines: Mapping[str, float],
    ylabel: str = "images a second",
    colours: Sequence[str] = ("fp", "memory"),
) -> Figure:
    """Panels side by side on one vertical axis; in each, curves by name.

    Args:
        panels: what is varied -> name of the curve -> value -> height.
        lines: name -> height, drawn across all panels.
        ylabel: text of the vertical axis: the measured quantity and its unit.
        colours: keys of `COLOURS`, one for each curve.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 2.9), sharey=True, squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for colour, (name, points) in zip(colours, curves.items(), strict=False):
            axis.plot(list(points), list(points.values()), "o-", color=COLOURS[colour], ms=4)
            if name:
                end = list(points.items())[-1]
                axis.annotate(
                    name, end, (-4, 6), textcoords="offset points", ha="right", fontsize=8
                )
        for value in lines.values():
            axis.axhline(value, color=INK, lw=1, ls="--")
        axis.set(xlabel=title)
        axis.grid(True)
    for name, value in lines.items():
        axes[0][0].annotate(
            name,
            (0.02, value),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=8,
        )
    axes[0][0].set(ylabel=ylabel)
    axes[0][0].set_ylim(bottom=0)
    return finish(figure)


def _bar(axis: Axes, one: Interval, index: int, colour: str, fades: bool = False) -> None:
    axis.plot([one.low, one.high], [index, index], color=colour, lw=5, solid_capstyle="butt")
    if fades:
        axis.plot(one.low, index, "<", color=FAINT, ms=7)
