(function () {
"use strict";

function levelsOf(exponentBits, mantissaBits) {
  const bias = Math.max(2 ** (exponentBits - 1) - 1, 1), steps = 2 ** mantissaBits;
  return Array.from({length: 2 ** (exponentBits + mantissaBits)}, (_, code) => {
    const exponent = Math.floor(code / steps), mantissa = code % steps;
    return exponent === 0
      ? 2 ** (1 - bias) * mantissa / steps
      : 2 ** (exponent - bias) * (1 + mantissa / steps);
  });
}

function nearest(magnitude, levels) {
  let low = 0, high = levels.length - 1;
  if (magnitude >= levels[high]) return levels[high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (levels[middle] <= magnitude) low = middle; else high = middle;
  }
  const below = magnitude - levels[low], above = levels[high] - magnitude;
  const toLow = below < above || (below === above && low % 2 === 0);
  return levels[toLow ? low : high];
}

function relativeError(values, levels, reach) {
  const scale = reach / levels[levels.length - 1];
  let error = 0, power = 0;
  for (const value of values) {
    const magnitude = Math.abs(value);
    error += (nearest(magnitude / scale, levels) * scale - magnitude) ** 2;
    power += value * value;
  }
  return error / power;
}

function draw(name) {
  const root = document.getElementById(name);
  const about = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const data = about.map(({name: title, values}) => {
    const bytes = Uint8Array.from(atob(values), c => c.charCodeAt(0));
    return {title, values: new Float32Array(bytes.buffer)};
  });
  const [form, summary, details] =
    ["form", "p[aria-live]", "details"].map(s => root.querySelector(s));
  const [lines, curves] = root.querySelectorAll("svg");
  const control = kind => root.querySelector(`[data-choice=${kind}]`);
  const number = kind => Number(control(kind).value);
  [form, summary, details, lines, curves].forEach(node => node.removeAttribute("hidden"));

  const places = Array.from({length: 113}, (_, i) => 2 ** (i / 16 - 1));  // 0.5 ... 64
  const known = new Map();

  function curveOf(exponentBits, mantissaBits, which) {
    const key = [exponentBits, mantissaBits, which].join();
    if (!known.has(key)) {
      const levels = levelsOf(exponentBits, mantissaBits);
      known.set(key, places.map(place => relativeError(data[which].values, levels, place)));
    }
    return known.get(key);
  }

  function least(curve) {
    return curve.indexOf(Math.min(...curve));
  }

  function painter(svg, height) {
    const width = Math.max(svg.clientWidth, 260);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    function add(kind, attributes, text) {
      const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
      Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
      if (text !== undefined) node.textContent = text;
      svg.appendChild(node);
    }
    return {width, add};
  }

  function drawLevels(values, levels, reach) {
    const {width, add} = painter(lines, 190);
    const left = 8, right = 8, base = 130, ends = 4;
    const x = value => left + (value + ends) / (2 * ends) * (width - left - right);
    const bins = new Array(64).fill(0);
    for (const value of values) {
      const bin = Math.floor((value + ends) / (2 * ends) * bins.length);
      if (bin >= 0 && bin < bins.length) bins[bin] += 1;
    }
    const peak = Math.max(...bins);
    bins.forEach((count, bin) => add("rect", {class: "data",
      x: x(-ends + bin * 2 * ends / bins.length), y: base - count / peak * (base - 22),
      width: (width - left - right) / bins.length, height: count / peak * (base - 22)}));
    const scale = reach / levels[levels.length - 1];
    const marks = levels.flatMap(level => [level * scale, -level * scale])
      .filter(value => Math.abs(value) <= ends);
    add("path", {class: "level", d: marks.map(v => `M${x(v).toFixed(2)} ${base + 2}v18`).join("")});
    for (const end of [-reach, reach].filter(end => Math.abs(end) <= ends)) {
      add("path", {class: "end", d: `M${x(end)} 22V${base + 20}`});
    }
    add("text", {x: left, y: 13}, "the data, and below them the levels");
    for (let tick = -ends; tick <= ends; tick += 1) {
      add("text", {x: x(tick), y: base + 37,
        "text-anchor": tick === -ends ? "start" : tick === ends ? "end" : "middle"}, tick);
    }
    add("text", {x: width / 2, y: base + 55, "text-anchor": "middle"},
      "value / root mean square");
  }

  function drawCurves(curve, integers, reach, error) {
    const {width, add} = painter(curves, 230);
    const left = 46, right = 10, high = 24, low = 182;
    const floor = Math.floor(Math.log10(Math.min(...curve, ...integers)));
    const x = place => left + (Math.log2(place) + 1) / 7 * (width - left - right);
    const y = value => low - (Math.log10(Math.min(value, 1)) - floor) / -floor * (low - high);
    for (let power = floor; power <= 0; power += 1) {
      add("line", {class: "grid", x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power)});
      const percent = 10 ** (power + 2);
      add("text", {x: left - 5, y: y(10 ** power) + 4, "text-anchor": "end"},
        `${Number(percent.toPrecision(1))} %`);
    }
    for (const tick of [0.5, 1, 2, 4, 8, 16, 32, 64]) {
      add("text", {x: x(tick), y: low + 17, "text-anchor": "middle"}, tick);
    }
    const path = series => "M" + series.map((v, i) =>
      `${x(places[i]).toFixed(1)} ${y(v).toFixed(1)}`).join("L");
    add("path", {class: "integer", d: path(integers)});
    add("path", {class: "format", d: path(curve)});
    add("circle", {cx: x(reach), cy: y(error), r: 5.5});
    add("text", {x: 4, y: 13}, "relative squared error; dashed: integers");
    add("text", {x: (left + width) / 2, y: low + 36, "text-anchor": "middle"},
      "largest level / root mean square");
  }

  const percent = value => `${(100 * value).toPrecision(3)} %`;
  const plain = value => String(Number(value.toPrecision(3)));

  function update() {
    const exponentBits = number("exponent"), mantissaBits = number("mantissa");
    const which = number("data"), reach = places[number("scale")];
    const bits = 1 + exponentBits + mantissaBits, format = `E${exponentBits}M${mantissaBits}`;
    const levels = levelsOf(exponentBits, mantissaBits), values = data[which].values;
    const largest = levels[levels.length - 1];
    const curve = curveOf(exponentBits, mantissaBits, which);
    const integers = curveOf(1, bits - 2, which);
    const error = curve[number("scale")], best = least(curve), bestInteger = least(integers);

    drawLevels(values, levels, reach);
    drawCurves(curve, integers, reach, error);
    for (const kind of ["exponent", "mantissa"]) control(kind).nextElementSibling.value = number(kind);
    control("scale").nextElementSibling.value = plain(reach);
    root.querySelector("[data-levels]").textContent = levels.join(", ");
    root.querySelector("summary").textContent = `The ${levels.length} magnitudes of ${format}`;
    root.dataset.error = error;
    const text = `${format}, ${bits} bits, ${2 * levels.length - 1} levels, the largest ` +
      `${plain(largest)}. On ${data[which].title}, with a scale of ${plain(reach / largest)} root ` +
      `mean squares, the relative squared error is ${percent(error)}. Its smallest is ` +
      `${percent(curve[best])}, with the largest level at ${plain(places[best])}; that of ` +
      `${bits}-bit integers ${percent(integers[bestInteger])}, at ${plain(places[bestInteger])}.`;
    summary.textContent = text;
    lines.setAttribute("aria-label", `Histogram of ${data[which].title} above the levels. ${text}`);
    curves.setAttribute("aria-label", `Error over the place of the largest level. ${text}`);
  }

  function keepToEightBits(changed) {
    const other = changed === "exponent" ? "mantissa" : "exponent";
    if (number("exponent") + number("mantissa") > 7) control(other).value = 7 - number(changed);
  }

  form.addEventListener("input", event => {
    keepToEightBits(event.target.dataset.choice);
    update();
  });
  form.addEventListener("submit", event => event.preventDefault());
  root.querySelector("button").addEventListener("click", () => {
    const curve = curveOf(number("exponent"), number("mantissa"), number("data"));
    control("scale").value = least(curve);
    update();
  });
  if (window.ResizeObserver) new ResizeObserver(update).observe(root);
  update();
}

draw(document.currentScript.dataset.figure);
})();
