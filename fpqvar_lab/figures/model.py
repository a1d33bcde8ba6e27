"""Figures of the pages on the model: pictures and token maps, which token sees which, and where the
operations, bytes and seconds of each step go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from fpqvar_lab.figures.style import (
    CENTRED,
    COLOURS,
    LAYER_COLOURS,
    STEP_MAP,
    WIDTH,
    finish,
    ink_on,
    step_colour,
)


def picture_grid(
    pictures: Sequence[Sequence[Tensor]],
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
) -> Figure:
    """Pictures in rows and columns.

    Args:
        pictures: rows of images, each (channels, height, width) or (height, width), in [0, 1].
        columns: a title over each column.
        rows: a title left of each row.
    """
    down, across = len(pictures), max(len(row) for row in pictures)
    margin = 0.075 * max((len(row) for row in rows), default=0)
    side = min((WIDTH - margin) / across, 1.2)
    height = side * down + (0.25 if columns else 0.0)
    close = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    size = (WIDTH, height)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout=close)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, images in zip(axes, pictures, strict=True):
        for axis, image in zip(row, images, strict=False):
            axis.imshow(_as_picture(image), cmap="gray", vmin=0, vmax=1)
    for axis, title in zip(axes[0], columns, strict=False):
        axis.set_title(title, fontsize=10 if across < 8 else 7)
    for axis, title in zip(axes[:, 0], rows, strict=False):
        axis.text(-0.08, 0.5, title, transform=axis.transAxes, ha="right", va="center")
    return finish(figure)


def token_maps(codes: Sequence[Tensor], codebook: Tensor) -> Figure:
    """The token map of each scale; tokens whose code vectors are alike have like colours.

    Args:
        codes: one (patch * patch,) tensor of integer codes for each scale.
        codebook: (vocabulary, channels).
    """
    colours = _principal_colours(codebook.float())
    figure, axes = plt.subplots(1, len(codes), figsize=(WIDTH, WIDTH / len(codes) + 0.3))
    for axis, scale in zip(np.atleast_1d(axes), codes, strict=True):
        size = round(len(scale) ** 0.5)
        axis.imshow(colours[scale].reshape(size, size, 3))
        axis.set_xticks(np.arange(size + 1) - 0.5, [])
        axis.set_yticks(np.arange(size + 1) - 0.5, [])
        axis.grid(color="white", linewidth=1)
        axis.tick_params(length=0)
        axis.set_title(f"{size} × {size}")
        if size <= 3:
            _write_codes(axis, scale.reshape(size, size))
    return finish(figure)


def curve(
    x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str, colour: str = "quality"
) -> Figure:
    """One measured curve with its points marked and their values written."""
    figure, axis = plt.subplots(figsize=(WIDTH, 2.7))
    axis.plot(x, y, marker="o", color=COLOURS[colour])
    for point in zip(x, y, strict=True):
        axis.annotate(
            _three_digits(point[1]), point, (0, 7), textcoords="offset points", ha="center"
        )
    axis.set(xlabel=xlabel, ylabel=ylabel, xticks=list(x))
    axis.margins(y=0.2)
    axis.grid(axis="y")
    return finish(figure)


def attention_mask(allowed: Tensor, patch_sizes: Sequence[int]) -> Figure:
    """Which token may look at which: (tokens, tokens), true where a row sees a column."""
    edges = np.cumsum([0, *(size * size for size in patch_sizes)])
    step = np.repeat(np.arange(len(patch_sizes)), np.diff(edges)) + 1
    shade = np.where(allowed.cpu().numpy(), step[None, :], np.nan)
    figure, axis = plt.subplots(figsize=(WIDTH, 4.2))
    axis.imshow(shade, cmap=STEP_MAP, vmin=1, vmax=len(patch_sizes) / 0.85, aspect="equal")
    middles, names = _block_labels(edges)
    axis.set_xticks(middles, names)
    axis.set_yticks(middles, names)
    axis.set(xlabel="key: token of step", ylabel="query: token of step")
    axis.tick_params(length=0)
    for edge in edges[1:-1]:
        axis.axhline(edge - 0.5, color="white", linewidth=1)
        axis.axvline(edge - 0.5, color="white", linewidth=1)
    return finish(figure)


def stacked_shares(table: Mapping[str, Mapping[str, float]], xlabel: str) -> Figure:
    """One bar per row, of length 100 %, split by layer; shares above 4 % are written.

    Args:
        table: for each row's name the value of each layer; layers not in `LAYER_COLOURS` are
            added up as "other".
        xlabel: text of the horizontal axis: what the shares are shares of.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(table) + 1.2))
    rows = {name: _shares(values) for name, values in table.items()}
    left = np.zeros(len(rows))
    for layer, colour in LAYER_COLOURS.items():
        widths = np.array([shares[layer] for shares in rows.values()])
        if not widths.any():
            continue
        axis.barh(list(rows), widths, left=left, color=colour, edgecolor="white", label=layer)
        for position, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width > 4:
                label = f"{width:.0f}"
                axis.text(start + width / 2, position, label, color=ink_on(colour), **CENTRED)
        left = left + widths
    axis.set(xlim=(0, 100), xlabel=xlabel)
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.46, 1.0), handlelength=1.0)
    return finish(figure)


def step_bars(
    values: Mapping[str, Sequence[float]],
    ylabel: str,
    colours: Mapping[str, str],
    tokens: Sequence[int],
) -> Figure:
    """Bars side by side for each step, one colour for each named series.

    Args:
        values: name -> one height per step.
        ylabel: text of the vertical axis: the measured quantity and its unit.
        colours: name -> key of `COLOURS`.
        tokens: number of tokens of each step, written below it.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
    breadth = 0.8 / len(values)
    for index, (name, heights) in enumerate(values.items()):
        places = np.arange(len(tokens)) + (index - (len(values) - 1) / 2) * breadth
        axis.bar(places, heights, breadth, label=name, color=COLOURS[colours[name]])
    axis.set(ylabel=ylabel)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(values), handlelength=1.0)
    _step_axis(axis, tokens)
    return finish(figure)


def step_panels(
    values: Mapping[str, Sequence[float]], colours: Mapping[str, str], tokens: Sequence[int]
) -> Figure:
    """One row of bars over the steps for each quantity, each on its own axis from zero."""
    size = (WIDTH, 1.5 * len(values) + 0.6)
    figure, axes = plt.subplots(len(values), 1, figsize=size, sharex=True, squeeze=False)
    for axis, (name, heights) in zip(axes[:, 0], values.items(), strict=True):
        bars = axis.bar(range(len(tokens)), heights, 0.7, color=COLOURS[colours[name]])
        axis.bar_label(bars, [_three_digits(height) for height in heights], fontsize=8)
        axis.set(ylabel=name)
        axis.margins(y=0.15)
    _step_axis(axes[-1, 0], tokens)
    return finish(figure)


def roofline(
    devices: Mapping[str, tuple[float, float]],
    colours: Mapping[str, str],
    points: Mapping[str, Sequence[float]],
) -> Figure:
    """Attainable speed against arithmetic intensity, one roof a device.

    Args:
        devices: name -> (peak in MAC/s, bandwidth in byte/s).
        colours: name of the device -> key of `COLOURS`.
        points: name -> arithmetic intensity (MAC per byte) of each step, drawn as a rug of dots.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 4.0))
    every = [value for values in points.values() for value in values]
    reach = np.geomspace(min(every) / 3, max(every) * 4, 300)
    for name, (peak, bandwidth) in devices.items():
        speed = np.minimum(peak, bandwidth * reach) / 1e12
        colour = COLOURS[colours[name]]
        axis.plot(reach, speed, color=colour)
        axis.plot(peak / bandwidth, peak / 1e12, marker="v", color=colour)
        axis.annotate(name, (reach[-1], speed[-1]), (0, 4), textcoords="offset points", ha="right")
    axis.set(xscale="log", yscale="log")
    low = min(b * reach[0] for _, b in devices.values()) / 1e12
    for row, (name, values) in enumerate(points.items()):
        height = low / 4.0 ** (row + 1)
        shades = [step_colour(step, len(values)) for step in range(len(values))]
        axis.scatter(values, [height] * len(values), c=shades, s=28, zorder=3)
        axis.annotate(name, (reach[0], height), (2, 5), textcoords="offset points", fontsize=8)
    axis.set_ylim(bottom=low / 4.0 ** (len(points) + 1))
    axis.set(xlabel="arithmetic intensity (MAC per byte)", ylabel="attainable speed (TMAC/s)")
    axis.grid(True)
    return finish(figure)


def _as_picture(image: Tensor) -> np.ndarray:
    values = image.detach().float().cpu()
    if values.dim() == 3:
        values = values.movedim(0, -1).squeeze(-1)
    return values.clamp(0, 1).numpy()


def _block_labels(edges: np.ndarray) -> tuple[list[float], list[str]]:
    """Where to write the numbers of blocks; blocks too small for a number of their own share."""
    middles, names, start = [], [], 0
    for step in range(len(edges) - 1):
        if edges[step + 1] - edges[start] < 0.05 * edges[-1]:
            continue
        middles.append((edges[start] + edges[step + 1] - 1) / 2)
        names.append(", ".join(str(index + 1) for index in range(start, step + 1)))
        start = step + 1
    return middles, names


def _principal_colours(codebook: Tensor) -> np.ndarray:
    centred = codebook.detach().cpu() - codebook.detach().cpu().mean(dim=0)
    directions = torch.linalg.svd(centred, full_matrices=False)[2][:3]
    places = centred @ directions.T
    ranks = places.argsort(dim=0).argsort(dim=0).float() / max(len(places) - 1, 1)
    return (0.15 + 0.75 * ranks).numpy()


def _write_codes(axis: Axes, codes: Tensor) -> None:
    for (row, column), code in np.ndenumerate(codes.cpu().numpy()):
        axis.text(column, row, str(code), color="white", **CENTRED)


def _step_axis(axis: Axes, tokens: Sequence[int]) -> None:
    names = [f"{step + 1}\n{count}" for step, count in enumerate(tokens)]
    axis.set_xticks(range(len(tokens)), names)
    axis.set_xlabel("step, and below it its tokens")
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y")


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    whole = sum(values.values())
    shares = dict.fromkeys(LAYER_COLOURS, 0.0)
    for layer, value in values.items():
        shares[layer if layer in shares else "other"] += 100 * value / whole
    return shares
