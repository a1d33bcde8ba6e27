"""A timeline to zoom into and walk through, in the rendered page, with nothing from elsewhere."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from string import Template

from fpqvar_lab.figures.interactive import Interactive, interactive, radio_buttons
from fpqvar_lab.figures.pipeline import GROUPS, UNIT_NAMES, Bar, group_of
from fpqvar_lab.hardware.accelerator import Unit

_OTHER = "#8A8A8A"
_LEVELS = ("neither", "coarse level only", "fine level only", "both levels")


def timeline_explorer(
    views: Mapping[str, Mapping[str, Sequence[Bar]]], clock_hz: float
) -> Interactive:
    """Timelines of the same work with each level of the pipeline on and off.

    Buttons, keys, the wheel and dragging zoom and move; pointing at a bar, or walking from bar to
    bar with the arrow keys, says what it is.

    Args:
        views: view, such as a step -> "both levels", "fine level only", "coarse level only" and
            "neither" -> bars.
        clock_hz: cycles per second.

    Raises:
        ValueError: when a view lacks one of the four.
    """
    for view, panels in views.items():
        if missing := set(_LEVELS) - set(panels):
            raise ValueError(f"{view} lacks {sorted(missing)[0]!r}; give {', '.join(_LEVELS)}")
    every = [bar for panels in views.values() for bars in panels.values() for bar in bars]
    groups = {_short(bar): group_of(bar.op) for bar in every}
    names = sorted(groups)
    indices = {name: index for index, name in enumerate(names)}
    description = {
        "views": list(views),
        "units": [UNIT_NAMES[unit] for unit in Unit],
        "names": names,
        "colours": [GROUPS.get(groups[name], _OTHER) for name in names],
        "microseconds": 1e6 / clock_hz,
        "bars": [
            [_packed(panels[level], indices) for level in _LEVELS] for panels in views.values()
        ],
    }
    data = json.dumps(description, separators=(",", ":"))
    name = "timeline-" + hashlib.sha256(data.encode()).hexdigest()[:10]
    body = Template(_BODY).substitute(views=radio_buttons(f"{name}-view", list(views)))
    return interactive("timeline_explorer", name, body, data)


def _short(bar: Bar) -> str:
    return bar.op.name.rpartition("/")[2]


def _packed(bars: Sequence[Bar], indices: Mapping[str, int]) -> list[list[int]]:
    """For each unit: name, gap since the bar before, length; over and over."""
    rows: list[list[int]] = []
    for unit in Unit:
        row, end = [], 0
        for bar in sorted((b for b in bars if b.unit is unit), key=lambda b: b.start):
            row += [indices[_short(bar)], bar.start - end, bar.end - bar.start]
            end = bar.end
        rows.append(row)
    return rows


_BODY = """\
<noscript><p>This figure needs scripts; the plain figures above show the same timelines.</p>
</noscript>
<form aria-label="What the timeline shows" hidden>
<fieldset><legend>Step</legend>$views</fieldset>
<fieldset><legend>Levels of the pipeline</legend>
<label><input type="checkbox" data-level="fine" checked> fine level</label>
<label><input type="checkbox" data-level="coarse" checked> coarse level</label></fieldset>
<fieldset><legend>Part of the time that is shown</legend>
<button type="button" data-move="in" aria-label="Zoom in">+</button>
<button type="button" data-move="out" aria-label="Zoom out">&minus;</button>
<button type="button" data-move="left" aria-label="Earlier">&larr;</button>
<button type="button" data-move="right" aria-label="Later">&rarr;</button>
<button type="button" data-move="all">all</button></fieldset>
</form>
<svg role="application" aria-roledescription="timeline" tabindex="0"
 aria-label="Timeline of six units" hidden></svg>
<p aria-live="polite" hidden></p>
<p class="keys" hidden>Drag to move; with the timeline in focus, the wheel or + and &minus; zoom,
arrows go from bar to bar and from unit to unit, Page Up and Page Down move, Home shows all.</p>
"""
