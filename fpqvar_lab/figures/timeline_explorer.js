(function () {
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

explore(document.currentScript.dataset.figure);
})();
