"""Drawing of the pages on image quality and on real checkpoints, in the house style of
`fpqvar_lab.figures.style`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, WIDTH, finish

Interval = tuple[float, float, float]
"""A value and the ends of its interval."""

MARKS = (("o", "full"), ("s", "none"), ("D", "full"))
"""Marker and fill of each model, in their order; all have the colour of quality."""
PARTS = {
    "weights": COLOURS["memory"],
    "VQVAE": COLOURS["vqvae"],
    "KV cache": COLOURS["attention"],
    "decoding": "#d6d68a",  # a lighter VQVAE
    "captured inputs": FAINT,
    "one layer's work": COLOURS["galt"],
}
"""Colours of what fills a memory."""


def scores(
    rows: Sequence[str],
    panels: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    *,
    logarithmic: Sequence[str] = (),
) -> Figure:
    """Values with their intervals: a row each, a panel for each measure, a mark for each model.

    Args:
        rows: names, from top to bottom.
        panels: measure -> model -> row -> interval; a row that a model lacks has no mark.
        logarithmic: measures drawn on a logarithmic axis.
    """
    size = (WIDTH, 0.3 * len(rows) + 1.1)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (measure, models) in zip(axes[0], panels.items(), strict=True):
        spread = 0.17 * (len(models) - 1)
        offsets = np.linspace(-spread, spread, len(models))
        for offset, mark, values in zip(offsets, MARKS, models.values(), strict=False):
            _marks(axis, rows, values, offset, mark)
        if measure in logarithmic:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set(xlabel=measure)
        axis.grid(True)
        axis.tick_params(axis="y", length=0)
    axes[0][0].set_yticks(range(len(rows)), rows)
    axes[0][0].set_ylim(len(rows) - 0.4, -0.6)
    names = list(next(iter(panels.values())))
    handles = [_handle(mark) for mark, _ in zip(MARKS, names, strict=False)]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return finish(figure)


def ranks(columns: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> Figure:
    """Each row's place in several rankings, best at the top, joined by a line.

    Args:
        columns: ranking -> row -> value, smallest is best; rows are those that all columns have.
        colours: row -> key of `COLOURS`.
    """
    shared = [row for row in colours if all(row in values for values in columns.values())]
    places = {
        name: {row: place for place, row in enumerate(sorted(shared, key=values.__getitem__))}
        for name, values in columns.items()
    }
    figure, axis = plt.subplots(figsize=(WIDTH, 0.27 * len(shared) + 0.8))
    x = range(len(columns))
    for row in shared:
        heights = [places[name][row] for name in columns]
        axis.plot(x, heights, "o-", color=COLOURS[colours[row]], ms=5, lw=1.5)
        axis.text(-0.06, heights[0], row, ha="right", va="center", fontsize=8)
        axis.text(len(columns) - 0.94, heights[-1], row, ha="left", va="center", fontsize=8)
    axis.set_xticks(x, list(columns))
    axis.xaxis.tick_top()
    axis.set_xlim(-0.75, len(columns) - 0.25)
    axis.set_ylim(len(shared) - 0.4, -0.6)
    axis.set_yticks([])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return finish(figure)


def noise(
    values: Mapping[int, float], lines: Mapping[str, float], xlabel: str, ylabel: str
) -> Figure:
    """A measure that falls with the number of pictures, both axes logarithmic.

    Args:
        values: number of pictures -> value.
        lines: name -> a value to compare with, drawn across.
        xlabel: text of the horizontal axis: the measured quantity and its unit.
        ylabel: text of the vertical axis: the measured quantity and its unit.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 2.8))
    counts = np.array(list(values))
    last = counts[-1]
    guide = values[int(last)] * last / counts
    axis.plot(counts, guide, "--", color=FAINT, lw=1, label="proportional to 1 / pictures")
    axis.plot(counts, list(values.values()), "o-", color=COLOURS["quality"])
    for name, value in lines.items():
        axis.axhline(value, color=INK, lw=0.9)
        axis.annotate(
            name, (counts[-1], value), (0, 3), textcoords="offset points", ha="right", fontsize=9
        )
    axis.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    axis.set_xticks(counts, [f"{count:,}" for count in counts])
    low, high = axis.get_ylim()
    ticks = [2.0**power for power in range(-10, 11) if low <= 2.0**power <= high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(loc="lower left")
    axis.grid(True)
    return finish(figure)


def memory(rows: Mapping[str, Mapping[str, float]], limits: Mapping[str, float]) -> Figure:
    """What fills a memory, a stacked bar per row.

    Args:
        rows: name -> part (a key of `PARTS`) -> GB.
        limits: name -> GB, drawn as a line down.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.36 * len(rows) + 1.5))
    left = np.zeros(len(rows))
    for part, colour in PARTS.items():
        width = np.array([row.get(part, 0.0) for row in rows.values()])
        axis.barh(range(len(rows)), width, 0.62, left=left, color=colour, label=part)
        left += width
    for place, whole in enumerate(left):
        card = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(whole + 0.6, place, f"{whole:.1f}", va="center", fontsize=8, bbox=card)
    for name, limit in limits.items():
        axis.axvline(limit, color=INK, lw=1, ls="--")
        axis.text(limit, -0.62, name, ha="center", va="bottom", fontsize=8)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_ylim(len(rows) - 0.5, -0.6)
    axis.set_xlim(0, 1.09 * max(left.max(), *limits.values()))
    axis.set(xlabel="GB")
    axis.tick_params(axis="y", length=0)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return finish(figure)


def _marks(
    axis: Axes,
    rows: Sequence[str],
    values: Mapping[str, Interval],
    offset: float,
    mark: tuple[str, str],
) -> None:
    for place, row in enumerate(rows):
        if row not in values:
            continue
        value, low, high = values[row]
        height, colour = place + offset, COLOURS["quality"]
        axis.plot([low, high], [height, height], "-", color=colour, lw=1.4)
        face = colour if mark[1] == "full" else "white"
        axis.plot(value, height, mark[0], color=colour, mfc=face, ms=5)


def _handle(mark: tuple[str, str]) -> Line2D:
    colour = COLOURS["quality"]
    face = colour if mark[1] == "full" else "white"
    return Line2D([], [], marker=mark[0], color=colour, mfc=face, ms=5)
