"""Time in cycles: when each stage of a unit is busy, and what its signals are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpqvar_lab.figures.style import (
    CENTRED,
    COLOURS,
    FAINT,
    INK,
    WIDTH,
    finish,
    step_colour,
)


def stage_timeline(
    stages: Mapping[str, Sequence[tuple[int, int]]], latency: tuple[int, int], interval: int
) -> Figure:
    """When each stage is busy with which group; a group has one shade in all stages.

    Args:
        stages: name -> for each group the first cycle and the cycle after the last.
        latency: cycle in which the first group's first beat enters, and in which its first leaves.
        interval: cycles between two groups at the output.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(stages) + 1.3))
    for row, spans in enumerate(stages.values()):
        for group, (start, end) in enumerate(spans):
            colour = step_colour(group, len(spans))
            axis.barh(row, end - start, 0.62, left=start, color=colour, edgecolor="white")
            text = "white" if group < 0.6 * len(spans) else INK
            axis.text((start + end) / 2, row, str(group + 1), color=text, **CENTRED)
    bottom, top = len(stages) - 0.25, -0.75
    outputs = list(stages.values())[-1]
    _span(axis, *latency, top, f"latency {latency[1] - latency[0]} cycles")
    _span(axis, outputs[0][0], outputs[1][0], bottom, f"interval {interval} cycles")
    axis.set_yticks(range(len(stages)), list(stages))
    axis.set(xlabel="cycle", ylim=(bottom + 0.4, top - 0.4))
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    return finish(figure)


def waveform(
    waves: Mapping[str, Sequence[int | str | None]], shaded: Sequence[tuple[int, int]] = ()
) -> Figure:
    """Signals over clock cycles: wires as lines, words as lanes with their value.

    Args:
        waves: label -> one value per cycle. Numbers 0 and 1 draw a wire; texts a word; None is
            a word that does not count.
        shaded: spans of cycles, first and one after the last, drawn on a tinted ground.
    """
    cycles = len(next(iter(waves.values())))
    figure, axis = plt.subplots(figsize=(WIDTH, 0.34 * (len(waves) + 1) + 0.55))
    for start, end in shaded:
        axis.axvspan(start, end, color=COLOURS["fp"], alpha=0.1, lw=0)
    # A cycle begins and ends with a rising edge; its values are taken at the one that ends it.
    times = np.repeat(np.arange(2 * cycles + 1) / 2, 2)[1:-1]
    axis.plot(times, np.tile([0.25, 0.25, -0.25, -0.25], cycles), color=FAINT, lw=1)
    for row, values in enumerate(waves.values(), start=1):
        _wave(axis, -row, values)
    axis.set_yticks([-row for row in range(len(waves) + 1)], ["clock", *waves])
    axis.set_xticks(np.arange(cycles) + 0.5, [str(c) for c in range(cycles)], fontsize=7)
    axis.set(xlim=(0, cycles), ylim=(-len(waves) - 0.5, 0.6), xlabel="cycle")
    axis.tick_params(length=0)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return finish(figure)


def _span(axis: Axes, start: float, end: float, y: float, text: str) -> None:
    style = {"arrowstyle": "<->", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (start, y), (end, y), arrowprops=style)
    axis.text(end + 1, y, text, va="center", fontsize=8)


def _wave(axis: Axes, y: float, values: Sequence[int | str | None]) -> None:
    if all(isinstance(value, int) for value in values):
        levels = np.repeat(np.array(values, dtype=float), 2)
        times = np.repeat(np.arange(len(values) + 1), 2)[1:-1]
        axis.plot(times, y - 0.3 + 0.6 * levels, color=INK, lw=1.4)
        return
    start = 0
    for cycle in range(1, len(values) + 1):
        if cycle < len(values) and values[cycle] == values[start]:
            continue
        _word(axis, start, cycle, y, values[start])
        start = cycle


def _word(axis: Axes, start: int, end: int, y: float, value: int | str | None) -> None:
    slant, half = 0.12, 0.3
    if value is None:
        axis.plot([start, end], [y, y], color=FAINT, lw=1)
        return
    x = [start, start + slant, end - slant, end, end - slant, start + slant, start]
    heights = [y, y + half, y + half, y, y - half, y - half, y]
    axis.fill(x, heights, facecolor="white", edgecolor=COLOURS["memory"], lw=1.2)
    axis.text((start + end) / 2, y, str(value), ha="center", va="center", fontsize=7)
