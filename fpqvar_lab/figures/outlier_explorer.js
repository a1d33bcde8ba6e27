// Sizes are in CSS pixels, and the drawing is made anew when its width changes: text stays legible
// on a narrow screen, where a scaled picture's would not.
(function () {
"use strict";
function draw(name) {
  const root = document.getElementById(name);
  const json = root.querySelector("script[type='application/json']").textContent;
  const {about, data} = JSON.parse(json);
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const [form, svg, summary] = ["form", "svg", "p[aria-live]"].map(s => root.querySelector(s));
  const output = root.querySelector("output");
  [form, svg, summary].forEach(element => element.removeAttribute("hidden"));

  function choice(kind) {
    return Number(root.querySelector(`[data-choice=${kind}]`).value);
  }

  function magnitudes(model, layer, block, step) {
    const size = l => about.blocks * about.steps * l.channels;
    const before = about.layers.slice(0, layer).reduce((sum, l) => sum + size(l), 0);
    const all = about.layers.reduce((sum, l) => sum + size(l), 0);
    const channels = about.layers[layer].channels;
    const start = model * all + before + (block * about.steps + step) * channels;
    return Array.from(bytes.subarray(start, start + channels),
      byte => 2 ** (about.lowest + byte / 255 * (about.highest - about.lowest)));
  }

  function topChannels(values) {
    return values.map((value, channel) => [value, channel])
      .sort((a, b) => b[0] - a[0]).slice(0, about.top).map(pair => pair[1]);
  }

  function element(kind, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
    Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
    if (text !== undefined) node.textContent = text;
    svg.appendChild(node);
    return node;
  }

  function update() {
    const model = Number(root.querySelector("input[type=radio]:checked").value);
    const layer = choice("layer"), block = choice("block"), step = choice("step") - 1;
    const {colour, channels, name: layerName} = about.layers[layer];
    const values = magnitudes(model, layer, block, step);
    const top = topChannels(values);
    const earlier = step > 0 ? topChannels(magnitudes(model, layer, block, step - 1)) : [];
    const width = Math.max(svg.clientWidth, 260), left = 34, right = 8, high = 26, low = 204;
    const x = channel => left + (channel + 0.5) / channels * (width - left - right);
    const shown = value => Math.log2(Math.min(Math.max(value, 1 / 4), 64));
    const y = value => low - (shown(value) + 2) / 8 * (low - high);

    svg.setAttribute("viewBox", `0 0 ${width} 260`);
    svg.replaceChildren();
    for (const tick of [0.25, 1, 4, 16, 64]) {
      element("line", {x1: left, x2: width - right, y1: y(tick), y2: y(tick),
        stroke: tick === 1 ? "#767676" : "#ddd"});
      const label = tick === 0.25 ? "\u00bc" : tick;
      element("text", {x: left - 5, y: y(tick) + 4, "text-anchor": "end"}, label);
    }
    element("text", {x: left - 20, y: 11}, "times the median channel's magnitude");
    const stick = channel => `M${x(channel).toFixed(2)} ${low}V${y(values[channel]).toFixed(1)}`;
    element("path", {d: values.map((_, channel) => stick(channel)).join(""), stroke: "#8a8a8a",
      "stroke-width": Math.max((width - left - right) / channels * 0.7, 0.4)});
    element("path", {d: top.map(stick).join(""), stroke: colour, "stroke-width": 3});
    for (const channel of top) {
      const at = {cx: x(channel), cy: y(values[channel])};
      element("circle", {...at, r: 4.5, fill: colour, stroke: "#222"});
    }
    for (const channel of earlier) {
      const at = x(channel);
      element("path", {d: `M${at} ${low + 4}l5 9h-10z`, fill: "#fff", stroke: "#222"});
    }
    for (let channel = 0; channel <= channels; channel += channels / 4) {
      element("text", {x: x(channel - 0.5), y: low + 29,
        "text-anchor": channel === 0 ? "start" : channel === channels ? "end" : "middle"}, channel);
    }
    element("text", {x: (left + width) / 2, y: low + 46, "text-anchor": "middle"}, "channel");

    const shared = top.filter(channel => earlier.includes(channel)).length;
    const times = value => value.toPrecision(value < 10 ? 2 : 3).replace(/\.0$/, "");
    const dots = `top ${about.top} (dots)`;
    const text = `${about.models[model]}, ${layerName} of block ${block + 1}, step ${step + 1}: ` +
      `the largest channel, number ${top[0]}, has ${times(values[top[0]])} times the median ` +
      "channel's magnitude. " + (step === 0 ? `The ${dots} are those of the first step.` :
      `Of the ${dots}, ${shared} were among those of step ${step} (triangles).`);
    summary.textContent = text;
    svg.setAttribute("aria-label", "Magnitudes of all channels, logarithmic. " + text);
    output.textContent = `${step + 1} of ${about.steps}`;
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", event => event.preventDefault());
  if (window.ResizeObserver) new ResizeObserver(update).observe(root);
  update();
}

draw(document.currentScript.dataset.figure);
})();
