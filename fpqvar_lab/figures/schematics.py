"""Schematics of the pages on the datapath: boxes and arrows, what an FPGA's logic is made of, and
the two ways to quantize and to multiply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from fpqvar_lab.figures.style import (
    CENTRED,
    COLOURS,
    FAINT,
    INK,
    WIDTH,
    finish,
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A part of a schematic.

    Args:
        text: text inside the box.
        centre: (x, y) of the box's middle, in units of the schematic.
        size: (width, height) of the box, in the same units.
        colour: key of `COLOURS` for the frame; ink if empty.
        note: text below the box, in small type.
    """

    text: str
    centre: Point
    size: Point = (1.0, 0.6)
    colour: str = ""
    note: str = ""

    @property
    def left(self) -> Point:
        return self.centre[0] - self.size[0] / 2, self.centre[1]

    @property
    def right(self) -> Point:
        return self.centre[0] + self.size[0] / 2, self.centre[1]


Wire = tuple[Sequence[Point], str]
"""The corners that an arrow passes, and what is written over its first stretch."""


def schematic(
    boxes: Sequence[Box],
    wires: Sequence[Wire],
    size: Point,
    height: float,
    titles: Mapping[Point, str] | None = None,
) -> Figure:
    """Boxes and arrows.

    Args:
        boxes: the parts of the schematic.
        wires: corners from where an arrow starts to where it ends, and a label for its start.
        size: (width, height) of the drawing in its own units; the origin is at the lower left.
        height: height of the figure in inches.
        titles: lower left corner -> text that stands alone.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, height))
    axis.set(xlim=(0, size[0]), ylim=(0, size[1]))
    axis.set_axis_off()
    for corners, label in wires:
        _wire(axis, corners, label)
    for box in boxes:
        _box(axis, box)
    for (x, y), text in (titles or {}).items():
        axis.text(x, y, text, fontsize=10)
    return finish(figure)


def fabric() -> Figure:
    """The three things that logic in an FPGA is made of: lookup table, flip-flop, carry chain."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.3), width_ratios=(1.15, 1, 1.25))
    titles = ("lookup table (LUT)", "flip-flop (FF)", "carry chain")
    for axis, title, draw in zip(axes, titles, (_draw_lut, _draw_ff, _draw_carry), strict=True):
        axis.set(xlim=(0, 4), ylim=(0, 4), title=title)
        axis.set_axis_off()
        draw(axis)
    return finish(figure)


def quantizer_ways() -> Figure:
    """The two quantizers as chains of stages: what passes once per group and what every beat."""
    boxes = [
        Box("store,\nfind peak", (1.6, 5.65), (1.7, 2.5), "quality"),
        Box("divide\n$\\Delta$ = peak / 6", (4.7, 6.4), (1.8, 1.0), "arithmetic"),
        Box("7 thresholds\nmidpoint $\\times$ $\\Delta$", (7.5, 6.4), (2.1, 1.0), "arithmetic"),
        Box("7 comparators\na number", (10.5, 5.65), (2.1, 2.5), "arithmetic"),
        Box("store,\nfind peak", (1.6, 1.45), (1.7, 2.5), "quality"),
        Box("leading one\nof the peak", (4.7, 2.2), (1.8, 1.0), "arithmetic"),
        Box("shift\na number", (7.5, 1.45), (2.1, 2.5), "arithmetic"),
        Box("rounding table\na number", (10.5, 1.45), (2.1, 1.0), "memory"),
    ]
    wires: list[Wire] = []
    for peaks, numbers, lane in ((6.4, 4.9, 9.45), (2.2, 0.7, 6.45)):
        middle = (peaks + numbers) / 2
        wires += [
            (((0.0, middle), (0.75, middle)), ""),
            (((2.45, peaks), (3.8, peaks)), "peak"),
            (((5.6, peaks), (6.45, peaks)), ""),
            (((2.45, numbers), (lane, numbers)), "numbers"),
            (((11.55, middle), (12.4, middle)), "codes"),
        ]
    wires += [(((8.55, 6.4), (9.45, 6.4)), ""), (((8.55, 1.45), (9.45, 1.45)), "")]
    titles = {(0.75, 7.3): "any scale", (0.75, 3.1): "a power of two"}
    return schematic(boxes, wires, (12.5, 7.8), 3.4, titles)


def multiplier_ways() -> Figure:
    """A product of two E2M1 codes by tables, and by significands and exponents."""
    boxes = [
        Box("8 lookup tables\nof 6 inputs", (5.6, 6.1), (3.0, 1.5), "memory"),
        Box("XOR", (5.6, 4.55), (1.2, 0.8), "memory"),
        Box("2 bits $\\times$ 2 bits", (4.6, 2.7), (2.2, 0.9), "arithmetic"),
        Box("+", (4.6, 1.5), (2.2, 0.8), "arithmetic"),
        Box("shift", (8.0, 2.1), (1.5, 2.0), "arithmetic"),
        Box("XOR", (8.0, 0.5), (1.2, 0.8), "memory"),
    ]
    wires: list[Wire] = [
        (((0.6, 6.5), (4.1, 6.5)), "3 bits of a"),
        (((0.6, 5.7), (4.1, 5.7)), "3 bits of b"),
        (((7.1, 6.1), (10.9, 6.1)), "magnitude, 8 bits"),
        (((0.6, 4.55), (5.0, 4.55)), "2 signs"),
        (((6.2, 4.55), (10.9, 4.55)), "sign"),
        (((0.6, 2.7), (3.5, 2.7)), "significands"),
        (((0.6, 1.5), (3.5, 1.5)), "exponents"),
        (((5.7, 2.7), (7.25, 2.7)), "4 bits"),
        (((5.7, 1.5), (7.25, 1.5)), "places"),
        (((8.75, 2.1), (10.9, 2.1)), "magnitude"),
        (((0.6, 0.5), (7.4, 0.5)), "2 signs"),
        (((8.6, 0.5), (10.9, 0.5)), "sign"),
    ]
    titles = {(0.6, 7.2): "by tables", (0.6, 3.5): "by arithmetic"}
    return schematic(boxes, wires, (11.2, 7.8), 3.9, titles)


def _box(axis: Axes, box: Box) -> None:
    (x, y), (width, height) = box.centre, box.size
    edge = COLOURS[box.colour] if box.colour else INK
    axis.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor="white",
            edgecolor=edge,
            linewidth=1.6,
            zorder=2,
        )
    )
    axis.text(x, y, box.text, zorder=3, **CENTRED)
    if box.note:
        axis.text(
            x, y - height / 2 - 0.06, box.note, ha="center", va="top", fontsize=7.5, color=FAINT
        )


def _wire(axis: Axes, corners: Sequence[Point], label: str) -> None:
    x, y = zip(*corners[:-1], strict=True)
    if len(corners) > 2:
        axis.plot(x, y, color=INK, lw=1.1, zorder=1, solid_capstyle="projecting")
    style = {"arrowstyle": "-|>", "color": INK, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", corners[-1], corners[-2], arrowprops=style, zorder=1)
    if label:
        middle = (corners[0][0] + corners[1][0]) / 2
        axis.text(middle, corners[0][1] + 0.05, label, ha="center", va="bottom", fontsize=7.5)


def _draw_lut(axis: Axes) -> None:
    inputs = 6
    _box(axis, Box(f"$2^{inputs}$ = {2**inputs}\nstored bits", (2.1, 2), (1.6, 3.0), "memory"))
    for place in np.linspace(0.8, 3.2, inputs):
        _wire(axis, ((0.5, place), (1.3, place)), "")
    _wire(axis, ((2.9, 2), (3.8, 2)), "")
    axis.text(0.4, 2, f"{inputs} bits", rotation=90, ha="right", va="center", fontsize=8)
    axis.text(3.9, 2.15, "1 bit", ha="right", va="bottom", fontsize=8)


def _draw_ff(axis: Axes) -> None:
    _box(axis, Box("holds\n1 bit", (2, 2), (1.5, 2.2), "quality"))
    axis.add_patch(Polygon([(1.25, 1.0), (1.25, 1.5), (1.6, 1.25)], fill=False, ec=INK, zorder=3))
    _wire(axis, ((0.3, 2.5), (1.25, 2.5)), "")
    _wire(axis, ((2.75, 2.5), (3.8, 2.5)), "")
    _wire(axis, ((0.3, 1.25), (1.25, 1.25)), "")
    axis.text(0.3, 2.62, "in", ha="left", va="bottom", fontsize=8)
    axis.text(3.8, 2.62, "out", ha="right", va="bottom", fontsize=8)
    axis.text(0.3, 1.12, "clock", ha="left", va="top", fontsize=8)


def _draw_carry(axis: Axes) -> None:
    for index, y in enumerate((0.75, 1.95, 3.15)):
        _box(axis, Box("LUT", (1.3, y), (0.9, 0.8), "memory"))
        _box(axis, Box("+", (2.6, y), (0.55, 0.8), "arithmetic"))
        _wire(axis, ((0.2, y + 0.15), (0.85, y + 0.15)), "")
        _wire(axis, ((0.2, y - 0.15), (0.85, y - 0.15)), "")
        _wire(axis, ((1.75, y), (2.33, y)), "")
        _wire(axis, ((2.88, y), (3.5, y)), "")
        axis.text(3.55, y, f"sum {index}", va="center", fontsize=8)
    for y in (1.15, 2.35, 3.55):
        _wire(axis, ((2.6, y), (2.6, y + 0.4)), "")
    axis.text(2.7, 1.36, "carry", fontsize=7.5, color=FAINT, va="center")
