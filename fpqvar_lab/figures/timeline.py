"""A timeline to zoom into and walk through, in the rendered page, with nothing from elsewhere."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from string import Template

from fpqvar_lab.figures.interactive import Interactive
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
        clock_hz: cycles a second.

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
    choices = "".join(
        f'<label><input type="radio" name="{name}-view" value="{index}"'
        f"{' checked' if index == len(views) - 1 else ''}> {view}</label>"
        for index, view in enumerate(views)
    )
    html = Template(_HTML).substitute(
        name=name, data=data, views=choices, style=_STYLE.replace("NAME", name), script=_SCRIPT
    )
    return Interactive(html)


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


_STYLE = """
#NAME {background: #fff; color: #222; padding: 0.6rem; border-radius: 4px; text-align: left;
  color-scheme: light; font-family: system-ui, sans-serif; font-size: 14px; line-height: 1.4}
#NAME form {display: flex; flex-wrap: wrap; gap: 0.4rem 1.2rem; align-items: center; margin: 0}
#NAME fieldset {border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: 0.3rem 0.8rem}
#NAME legend {position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden}
#NAME label {color: #222; display: inline-flex; gap: 0.35rem; align-items: center; margin: 0}
#NAME button {color: #222; background: #f2f2f2; border: 1px solid #767676; border-radius: 3px;
  min-width: 2rem; min-height: 1.8rem; font: inherit; cursor: pointer}
#NAME :focus-visible {outline: 2px solid #0b5fff; outline-offset: 2px}
#NAME svg {display: block; width: 100%; height: 232px; margin-top: 0.5rem; touch-action: pan-y;
  cursor: crosshair}
#NAME svg text {fill: #222; font-size: 12px; font-family: inherit}
#NAME p {margin: 0.3rem 0 0; color: #222; min-height: 4.2em}
#NAME p.keys {min-height: 0; color: #555; font-size: 13px}
"""

_HTML = """
<div id="$name">
<style>$style</style>
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
<script type="application/json">$data</script>
<script>$script
explore("$name");
})();</script>
</div>
"""

_SCRIPT = """(function () {
"use strict";
function explore(name) {
  const root = document.getElementById(name);
  const about = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const [form, svg, summary, keys] =
    ["form", "svg", "p[aria-live]", "p.keys"].map(s => root.querySelector(s));
  [form, svg, summary, keys].forEach(element => element.removeAttribute("hidden"));
  const left = 74, right = 8, top = 6, pitch = 31, bottom = top + about.units.length * pitch;
  let bars, whole, from, to, cursor;

  function unpack() {
    const view = Number(root.querySelector("input[type=radio]:checked").value);
    const on = level => root.querySelector(`[data-level=${level}]`).checked;
    const packed = about.bars[view][2 * on("fine") + on("coarse")];
    bars = packed.map(row => {
      const found = [];
      for (let i = 0, end = 0; i < row.length; i += 3) {
        const start = end + row[i + 1];
        end = start + row[i + 2];
        found.push({name: row[i], start, end});
      }
      return found;
    });
    whole = Math.max(...bars.flat().map(bar => bar.end));
    // The same time for all four, so that switching a level shows what it is worth.
    const longest = Math.max(...about.bars[view].flatMap(level => level.map(row =>
      row.reduce((sum, value, i) => i % 3 ? sum + value : sum, 0))));
    [from, to, cursor] = [0, longest, null];
    about.longest = longest;
  }

  function element(kind, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
    Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
    if (text !== undefined) node.textContent = text;
    svg.appendChild(node);
    return node;
  }

  const number = value => Math.round(value).toLocaleString("en");
  const digits = value => value.toLocaleString("en", {maximumSignificantDigits: 3});
  const micro = cycles => cycles * about.microseconds;

  function tickStep(span) {
    const rough = span / 4, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map(m => m * power).find(step => step >= rough);
  }

  function draw() {
    const width = Math.max(svg.clientWidth, 260), inner = width - left - right;
    const x = cycle => left + (cycle - from) / (to - from) * inner;
    svg.setAttribute("viewBox", `0 0 ${width} 232`);
    svg.replaceChildren();
    const step = tickStep(micro(to - from));
    for (let tick = Math.ceil(micro(from) / step) * step; tick <= micro(to); tick += step) {
      const at = x(tick / about.microseconds);
      element("line", {x1: at, x2: at, y1: top, y2: bottom, stroke: "#ddd"});
      const anchor = at > width - 30 ? "end" : at < left + 12 ? "start" : "middle";
      element("text", {x: at, y: bottom + 16, "text-anchor": anchor},
        tick.toLocaleString("en", {maximumFractionDigits: 3}));
    }
    element("text", {x: left + inner / 2, y: bottom + 34, "text-anchor": "middle"},
      "microseconds");
    about.units.forEach((unit, row) => {
      const y = top + row * pitch;
      element("text", {x: left - 6, y: y + 20, "text-anchor": "end"}, unit);
      const paths = {};
      for (const bar of bars[row]) {
        if (bar.end < from || bar.start > to) continue;
        const a = x(Math.max(bar.start, from)), b = x(Math.min(bar.end, to));
        const colour = about.colours[bar.name];
        (paths[colour] = paths[colour] || []).push(
          `M${a.toFixed(2)} ${y + 4}h${Math.max(b - a, 0.3).toFixed(2)}v23h${
            (-Math.max(b - a, 0.3)).toFixed(2)}z`);
      }
      Object.entries(paths).forEach(([fill, d]) => element("path", {d: d.join(""), fill}));
    });
    if (whole <= to) {
      element("line", {x1: x(whole), x2: x(whole), y1: top, y2: bottom, stroke: "#222",
        "stroke-dasharray": "2 3"});
    }
    if (cursor) {
      const bar = bars[cursor.row][cursor.index], y = top + cursor.row * pitch;
      const a = Math.max(x(bar.start), left), b = Math.min(x(bar.end), width - right);
      if (b >= a) element("rect", {x: a - 1.5, y: y + 2, width: b - a + 3, height: 27,
        fill: "none", stroke: "#222", "stroke-width": 2});
    }
    say();
  }

  function say() {
    const total = `All of it takes ${number(micro(whole))} microseconds.`;
    let text = total;
    if (cursor) {
      const bar = bars[cursor.row][cursor.index];
      text = `${about.names[bar.name]} on ${about.units[cursor.row]}: ` +
        `${number(bar.end - bar.start)} cycles, from cycle ${number(bar.start)}, ` +
        `${digits(micro(bar.end - bar.start))} microseconds. ${total}`;
    }
    summary.textContent = text;
    svg.setAttribute("aria-label", "Timeline of six units. " + text);
  }

  function show(begin, end) {
    const span = Math.min(Math.max(end - begin, 60), about.longest);
    from = Math.min(Math.max(begin, 0), about.longest - span);
    to = from + span;
    draw();
  }

  function zoom(factor, centre) {
    show(centre - (centre - from) * factor, centre + (to - centre) * factor);
  }

  function centre() {
    if (!cursor) return (from + to) / 2;
    const bar = bars[cursor.row][cursor.index];
    return (bar.start + bar.end) / 2;
  }

  const moves = {
    in: () => zoom(0.5, centre()),
    out: () => zoom(2, centre()),
    left: () => show(from - (to - from) / 2, to - (to - from) / 2),
    right: () => show(from + (to - from) / 2, to + (to - from) / 2),
    all: () => show(0, about.longest),
  };

  function select(row, index) {
    if (!bars[row] || !bars[row][index]) return;
    cursor = {row, index};
    const bar = bars[row][index], span = to - from;
    if (bar.start < from || bar.start > to) {
      show(bar.start - span / 2, bar.start + span / 2);
    } else draw();
  }

  function nearest(row, cycle) {
    let best = 0;
    bars[row].forEach((bar, index) => {
      const distance = b => Math.max(b.start - cycle, cycle - b.end, 0);
      if (distance(bar) < distance(bars[row][best])) best = index;
    });
    return best;
  }

  function otherUnit(direction) {
    let row = cursor ? cursor.row + direction : 0;
    while (bars[row] && !bars[row].length) row += direction;
    if (bars[row]) select(row, nearest(row, cursor ? centre() : from));
  }

  const keyboard = {
    "+": moves.in, "=": moves.in, "-": moves.out, PageUp: moves.left, PageDown: moves.right,
    Home: moves.all,
    ArrowDown: () => otherUnit(1),
    ArrowUp: () => otherUnit(-1),
    ArrowRight: () => cursor ? select(cursor.row, cursor.index + 1) : otherUnit(1),
    ArrowLeft: () => cursor ? select(cursor.row, cursor.index - 1) : otherUnit(1),
  };
  svg.addEventListener("keydown", event => {
    if (!keyboard[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keyboard[event.key]();
  });

  function place(event) {
    const box = svg.getBoundingClientRect(), inner = box.width - left - right;
    const cycle = from + (event.clientX - box.left - left) / inner * (to - from);
    return {cycle, row: Math.floor((event.clientY - box.top - top) / pitch), perPixel:
      (to - from) / inner};
  }

  svg.addEventListener("wheel", event => {
    if (document.activeElement !== svg && !event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, place(event).cycle);
  }, {passive: false});
  let drag = null;
  svg.addEventListener("pointerdown", event => {
    drag = {x: event.clientX, from, to};
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", event => {
    const at = place(event);
    if (drag) {
      const shift = (event.clientX - drag.x) * at.perPixel;
      if (Math.abs(event.clientX - drag.x) > 3) show(drag.from - shift, drag.to - shift);
      return;
    }
    if (!bars[at.row] || !bars[at.row].length) return;
    const found = nearest(at.row, at.cycle), bar = bars[at.row][found];
    const near = 3 * at.perPixel;
    if (at.cycle < bar.start - near || at.cycle > bar.end + near) return;
    if (!cursor || cursor.row !== at.row || cursor.index !== found) select(at.row, found);
  });
  ["pointerup", "pointercancel"].forEach(kind => svg.addEventListener(kind, () => drag = null));

  root.querySelectorAll("button").forEach(button =>
    button.addEventListener("click", () => moves[button.dataset.move]()));
  form.addEventListener("input", () => { unpack(); draw(); });
  form.addEventListener("submit", event => event.preventDefault());
  unpack();
  if (window.ResizeObserver) new ResizeObserver(draw).observe(root);
  draw();
}
"""
