"""The house style of all figures, and the tables.

A colour has one meaning throughout: a layer, a format, a method, a device or a quantity, looked up
by name in `COLOURS`. The colours of a family stay apart under the common colour vision deficiencies
(most are from Paul Tol's schemes), and marks are labelled, so that grey print loses nothing.

Figures are drawn on a white card of one width, so that text has the same size in all of them and
both colour modes of the book show them alike. Each function returns a closed `Figure`; as the last
expression of a notebook cell it is shown once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython.core.getipython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

WIDTH = 6.4
"""All figures are this many inches wide; in a page's column their text is as large as the prose."""

LAYER_COLOURS = {
    "mat_qkv": "#332288",
    "attention": "#CC6677",
    "proj": "#88CCEE",
    "fc1": "#117733",
    "fc2": "#DDCC77",
    "ada_lin": "#882255",
    "head": "#44AA99",
    "vqvae": "#999933",
    "other": "#DDDDDD",
}
FORMAT_COLOURS = {
    "float": "#222222",
    "int": "#EE6677",
    "fp": "#4477AA",
    "dual": "#228833",
}
METHOD_COLOURS = {
    "baseline": "#4D4D4D",
    "smoothing": "#A87B00",
    "ght": "#1F8FB8",
    "galt": "#AA3377",
}
DEVICE_COLOURS = {"gpu": "#004488", "cpu": "#B17A12", "fpga": "#BB5566"}
QUANTITY_COLOURS = {"arithmetic": "#D4601A", "memory": "#0077BB", "quality": "#4B2E6F"}
COLOURS = LAYER_COLOURS | FORMAT_COLOURS | METHOD_COLOURS | DEVICE_COLOURS | QUANTITY_COLOURS

INK = "#222222"
FAINT = "#8a8a8a"
STEP_MAP = mpl.colormaps["viridis"]

CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
"""How a small text stands on its place."""

STYLE: dict[str, Any] = {
    "figure.figsize": (WIDTH, 3.2),
    "figure.facecolor": "white",
    "figure.dpi": 220,  # a page is about 700 CSS pixels wide: two points of the picture for each
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.8,
}


def use_house_style() -> None:
    """Set the style for this process; in a notebook, show figures uncropped."""
    plt.style.use(STYLE)
    if get_ipython() is not None:
        set_matplotlib_formats("png", bbox_inches=None)  # cropping would vary the text's size


def step_colour(step: int, steps: int) -> tuple[float, float, float, float]:
    """Colour of a step: dark for the first, light for the last, never too light for white."""
    return STEP_MAP(0.85 * step / max(steps - 1, 1))


@dataclass(frozen=True)
class Table:
    """A table that a notebook shows as HTML."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def table(rows: Mapping[str, Mapping[str, object]], precision: int = 1) -> Table:
    """A table that scrolls by itself where the page is too narrow for it.

    Args:
        rows: for each row's name its cells by column title.
        precision: digits after the point of floating point numbers.
    """
    titles = next(iter(rows.values()))
    head = "".join(
        f'<th scope="col" style="padding-left: 1em">{escape(title)}</th>' for title in ("", *titles)
    )
    body = "".join(_table_row(name, cells, precision) for name, cells in rows.items())
    return Table(
        '<div style="overflow-x: auto" tabindex="0"><table class="dataframe">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def finish(figure: Figure) -> Figure:
    """The figure, closed, so that a notebook shows it once: as the value of its cell."""
    plt.close(figure)
    return figure


def _table_row(name: str, cells: Mapping[str, object], precision: int) -> str:
    texts = [f"{c:.{precision}f}" if isinstance(c, float) else str(c) for c in cells.values()]
    row = "".join(f'<td style="padding-left: 1em">{escape(text)}</td>' for text in texts)
    return f'<tr><th scope="row">{escape(name)}</th>{row}</tr>'


def ink_on(colour: str) -> str:
    """White or ink, whichever can be read on the colour."""
    red, green, blue = mpl.colors.to_rgb(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK
