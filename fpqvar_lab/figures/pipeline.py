"""Figures of the two-level pipeline: timelines of units, and where their cycles go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fpqvar_lab.figures.style import COLOURS, FAINT, INK, WIDTH, step_colour
from fpqvar_lab.hardware.accelerator import Kind, Op, Run, StallReason, StepRun, Unit

UNIT_NAMES = {
    Unit.DMA: "memory",
    Unit.HADAMARD: "transform",
    Unit.QUANTIZER: "quantizer",
    Unit.MATRIX: "matrix",
    Unit.ATTENTION: "attention",
    Unit.SPECIAL: "special",
}
GROUPS = {name: COLOURS[name] for name in ("mat_qkv", "attention", "proj", "fc1", "fc2")}
"""The colour of each layer; in a timeline, what only prepares or finishes a layer has it too."""
_OTHER = "#B8B8B8"

USEFUL, PADDING = "useful products", "empty places of tiles"
_SPLIT_COLOURS = {
    USEFUL: COLOURS["arithmetic"],
    PADDING: "#F4C7A8",
    StallReason.WEIGHTS: COLOURS["memory"],
    StallReason.INPUT: "#9A9A9A",
    StallReason.TURN: "#5B5B5B",
    StallReason.DRAIN: "#D9D9D9",
    "other": "#EFEFEF",
}
SPLIT = tuple(str(name) for name in _SPLIT_COLOURS)
"""What the matrix arrays' cycles are split into."""


@dataclass(frozen=True)
class Bar:
    """Some work of one unit without a gap, in cycles."""

    unit: Unit
    op: Op
    start: int
    end: int


def group_of(op: Op) -> str:
    """The layer to which an operation belongs, a key of `GROUPS`, or "other"."""
    name = op.name.rpartition("/")[2].partition(".")[0]
    if op.heads > 1 or op.kind is Kind.CACHE_WRITE:
        return "attention"
    return {"gelu": "fc1"}.get(name, name if name in GROUPS else "other")


def bars_of(run: Run, begin: int = 0, end: int | None = None) -> list[Bar]:
    """A recorded run's tasks, with those of one operation on one unit joined where no cycle lies
    between; cut to the cycles from `begin` to `end` and counted from `begin`.
    """
    stop = run.cycles if end is None else end
    found: list[Bar] = []
    last: dict[Unit, Bar] = {}
    for event in run.events:
        if event.end <= begin or event.start >= stop or event.start == event.end:
            continue
        op = event.op
        before = last.get(event.unit)
        start, finish = max(event.start, begin) - begin, min(event.end, stop) - begin
        if before is not None and before.op is op and before.end == start:
            found.remove(before)
            start = before.start
        last[event.unit] = bar = Bar(event.unit, op, start, finish)
        found.append(bar)
    return found


def tasks_of(run: Run) -> list[Bar]:
    """All tasks of a recorded run, each as a bar of its own."""
    return [Bar(event.unit, event.op, event.start, event.end) for event in run.events]


def block_window(run: Run, block: int) -> tuple[int, int]:
    """The cycles from the start of a block's first operation to that of the next block's."""
    starts: dict[int, int] = {}
    for event in run.events:
        op = event.op
        if op.name.endswith("/norm1") and op.block is not None:
            starts.setdefault(op.block, event.start)
    return starts[block], starts[block + 1]


def timelines(
    panels: Mapping[str, Sequence[Bar]],
    clock_hz: float,
    units: Sequence[Unit] = tuple(Unit),
    height: float = 1.35,
) -> Figure:
    """Timelines one below the other, on the same axis of time.

    Args:
        panels: title -> bars.
        clock_hz: cycles per second.
        units: the units that are drawn, from the top.
        height: height of a panel in inches.
    """
    size = (WIDTH, height * len(panels) + 0.75)
    figure, axes = plt.subplots(len(panels), 1, figsize=size, sharex=True, squeeze=False)
    scale = 1e6 / clock_hz
    for axis, (title, bars) in zip(axes[:, 0], panels.items(), strict=True):
        _timeline(axis, bars, scale, units)
        axis.set_title(title, loc="left", fontsize=9)
    axes[-1, 0].set_xlabel("microseconds")
    names = [name for name in GROUPS if any(_has(bars, name) for bars in panels.values())]
    marks = [Patch(color=GROUPS[name], label=name) for name in names]
    if any(_has(bars, "other") for bars in panels.values()):
        marks.append(Patch(color=_OTHER, label="norm, residual"))
    if len(marks) > 1:
        figure.legend(handles=marks, loc="outside upper center", ncols=6, handlelength=1.0)
    plt.close(figure)
    return figure


def _has(bars: Sequence[Bar], group: str) -> bool:
    return any(group_of(bar.op) == group for bar in bars)


def _timeline(axis: Axes, bars: Sequence[Bar], scale: float, units: Sequence[Unit]) -> None:
    for row, unit in enumerate(units):
        mine = [bar for bar in bars if bar.unit is unit]
        spans = [(bar.start * scale, (bar.end - bar.start) * scale) for bar in mine]
        colours = [GROUPS.get(group_of(bar.op), _OTHER) for bar in mine]
        axis.broken_barh(spans, (row - 0.4, 0.8), facecolors=colours, linewidth=0, snap=False)
    end = max((bar.end for bar in bars), default=0) * scale
    axis.axvline(end, color=INK, linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(units)), [UNIT_NAMES[unit] for unit in units], fontsize=8)
    axis.set_ylim(len(units) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")


def matrix_split(step: StepRun, macs_per_cycle: int) -> dict[str, float]:
    """The cycles of the matrix arrays that belong to a step: useful, padding, and idle by cause."""
    useful = step.macs[Unit.MATRIX] / macs_per_cycle
    idle = step.stalls[Unit.MATRIX]
    named = {str(reason): idle[reason] for reason in StallReason if reason in _SPLIT_COLOURS}
    split = {USEFUL: useful, PADDING: step.busy[Unit.MATRIX] - useful, **named}
    split["other"] = sum(idle.values()) - sum(named.values())
    return {name: split[name] for name in SPLIT}


def step_splits(
    panels: Mapping[str, Sequence[Mapping[str, float]]], tokens: Sequence[int]
) -> Figure:
    """Stacked bars by step, one panel for each named run.

    Args:
        panels: name -> for each step, what -> milliseconds, as `matrix_split` names it.
        tokens: number of tokens of each step.
    """
    size = (WIDTH, 1.75 * len(panels) + 1.1)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axis, (title, splits) in zip(axes[:, 0], panels.items(), strict=True):
        base = np.zeros(len(tokens))
        for name, colour in _SPLIT_COLOURS.items():
            heights = np.array([split[name] for split in splits])
            axis.bar(range(len(tokens)), heights, 0.75, bottom=base, color=colour)
            base += heights
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_ylabel("milliseconds")
        axis.grid(axis="y")
    names = [f"{step + 1}\n{count}" for step, count in enumerate(tokens)]
    axes[-1, 0].set_xticks(range(len(tokens)), names)
    axes[-1, 0].set_xlabel("step, and below it its tokens")
    seen = [n for n in _SPLIT_COLOURS if any(s[n] for splits in panels.values() for s in splits)]
    marks = [Patch(facecolor=_SPLIT_COLOURS[n], edgecolor=FAINT, lw=0.4, label=n) for n in seen]
    figure.legend(handles=marks, loc="outside upper center", ncols=3, handlelength=1.0)
    plt.close(figure)
    return figure


def step_roofline(
    peak: float,
    bandwidth: float,
    points: Mapping[str, Sequence[tuple[float, float]]],
    single: tuple[str, float, float],
) -> Figure:
    """What each step attains, below the roof of one design.

    Args:
        peak: multiply-accumulate operations per second at most.
        bandwidth: bytes per second of the external memory.
        points: series -> (MAC per byte, MAC/s) for each step; the first series is drawn filled.
        single: name, MAC per byte and MAC/s of one more point.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.9))
    reach = np.geomspace(1, 3e3, 200)
    axis.plot(reach, np.minimum(peak, bandwidth * reach) / 1e9, color=INK)
    for series, (name, values) in enumerate(points.items()):
        for step, (intensity, speed) in enumerate(values):
            colour = step_colour(step, len(values))
            face = colour if series == 0 else "white"
            label = name if step == len(values) // 2 else None
            shape = "o" if series == 0 else "s"
            axis.plot(
                intensity,
                speed / 1e9,
                shape,
                color=colour,
                markerfacecolor=face,
                linestyle="",
                label=label,
            )
    name, intensity, speed = single
    axis.plot(intensity, speed / 1e9, "D", color=COLOURS["gpu"], linestyle="", label=name)
    for step in (0, len(next(iter(points.values()))) - 1):
        intensity, speed = next(iter(points.values()))[step]
        offset = (8, -3) if step == 0 else (4, 7)
        axis.annotate(
            f"step {step + 1}",
            (intensity, speed / 1e9),
            offset,
            textcoords="offset points",
            ha="left" if step == 0 else "center",
            fontsize=8,
        )
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="arithmetic intensity (MAC per byte)", ylabel="speed (GMAC/s)")
    axis.legend(loc="lower right")
    axis.grid(True)
    plt.close(figure)
    return figure


def lane_curves(
    curves: Mapping[str, Mapping[int, float]], chosen: Mapping[str, int], ylabel: str
) -> Figure:
    """Small panels side by side: time against a unit's size.

    Args:
        curves: unit -> elements or MAC per cycle -> value.
        chosen: unit -> the size of the page's design, marked.
        ylabel: text of the vertical axis: the measured quantity and its unit.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(WIDTH, 2.5), sharey=True)
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        sizes = list(curve)
        axis.plot(sizes, list(curve.values()), "o-", color=COLOURS["fpga"], markersize=4)
        mark = chosen[name]
        axis.plot(mark, curve[mark], "o", color=INK, markersize=8, markerfacecolor="none")
        axis.set_xscale("log", base=4)
        axis.set_xticks(sizes[::2], [str(size) for size in sizes[::2]], fontsize=8)
        axis.set_title(name, fontsize=9)
        axis.minorticks_off()
        axis.grid(True)
    axes[0].set_ylabel(ylabel)
    axes[0].set_ylim(bottom=0)
    figure.supxlabel("elements, or MAC, a cycle", fontsize=9)
    plt.close(figure)
    return figure
