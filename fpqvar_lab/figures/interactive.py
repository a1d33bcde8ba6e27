"""Figures with controls that work in the rendered page: one piece of HTML each, without server,
network or library.

What such a figure shows at first is drawn by its script; readers without scripts are told so, and
find the same data in a plain figure beside it.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

import torch
from torch import Tensor

from fpqvar_lab.figures.style import LAYER_COLOURS

_LOWEST, _HIGHEST = -4.0, 7.0  # powers of two that the first and the last byte stand for


@dataclass(frozen=True)
class Interactive:
    """HTML with a script, which a notebook shows and a static page keeps working."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def outlier_explorer(models: Mapping[str, Mapping[str, Tensor]], top: int = 8) -> Interactive:
    """Channel magnitudes at one step, chosen with a slider, for a model, layer and block chosen
    with buttons and lists; the top channels of the step are marked, and those of the step before.

    Magnitudes are stored as bytes on a logarithmic scale from 2^-4 to 2^7, 1.5 % a step of it.

    Args:
        models: model -> layer -> (blocks, steps, channels), magnitude over the median channel's of
            that block and step. All models have the same layers and shapes.
        top: how many channels are marked.

    Raises:
        ValueError: a tensor has other than three dimensions.
    """
    layers = next(iter(models.values()))
    for layer, values in layers.items():
        if values.dim() != 3:
            raise ValueError(
                f"{layer} has shape {tuple(values.shape)}; give (block, step, channel)"
            )
    description = {
        "models": list(models),
        "layers": [
            {"name": name, "colour": LAYER_COLOURS[name], "channels": values.shape[2]}
            for name, values in layers.items()
        ],
        "blocks": next(iter(layers.values())).shape[0],
        "steps": next(iter(layers.values())).shape[1],
        "top": top,
        "lowest": _LOWEST,
        "highest": _HIGHEST,
    }
    data = b"".join(_as_bytes(values) for maps in models.values() for values in maps.values())
    text = b64encode(data).decode()
    name = "explorer-" + hashlib.sha256(data).hexdigest()[:10]
    html = Template(_HTML).substitute(
        name=name,
        description=json.dumps(description),
        data=text,
        steps=description["steps"],
        models=_radio_buttons(name, list(models)),
        layers=_options(list(layers)),
        blocks=_options([str(block + 1) for block in range(next(iter(layers.values())).shape[0])]),
        style=_STYLE.replace("NAME", name),
        script=_SCRIPT,
    )
    return Interactive(html)


def _as_bytes(values: Tensor) -> bytes:
    place = (values.double().clamp_min(1e-30).log2() - _LOWEST) / (_HIGHEST - _LOWEST)
    return (255 * place.clamp(0, 1)).round().to(torch.uint8).numpy().tobytes()


def _radio_buttons(name: str, values: list[str]) -> str:
    return "".join(
        f'<label><input type="radio" name="{name}-model" value="{place}"'
        f"{' checked' if place == len(values) - 1 else ''}> {value}</label>"
        for place, value in enumerate(values)
    )


def _options(values: list[str]) -> str:
    return "".join(
        f'<option value="{place}">{value}</option>' for place, value in enumerate(values)
    )


_STYLE = """
#NAME {background: #fff; color: #222; padding: 0.6rem; border-radius: 4px; text-align: left;
  color-scheme: light;
  font-family: system-ui, sans-serif; font-size: 14px; line-height: 1.4}
#NAME form {display: flex; flex-wrap: wrap; gap: 0.4rem 1.2rem; align-items: center; margin: 0}
#NAME fieldset {border: 0; margin: 0; padding: 0; display: flex; gap: 0.8rem}
#NAME legend {position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden}
#NAME label {color: #222; display: inline-flex; gap: 0.35rem; align-items: center; margin: 0}
#NAME select {color: #222; background: #fff; border: 1px solid #767676; border-radius: 3px;
  padding: 0.15rem 0.3rem; font: inherit}
#NAME input[type=range] {width: 9rem; accent-color: #332288}
#NAME :focus-visible {outline: 2px solid #0b5fff; outline-offset: 2px}
#NAME output {font-variant-numeric: tabular-nums; min-width: 2.6rem}
#NAME svg {display: block; width: 100%; height: 260px; margin-top: 0.4rem; overflow: visible}
#NAME svg text {fill: #222; font-size: 12px; font-family: inherit}
#NAME p {margin: 0.3rem 0 0; color: #222}
"""

_HTML = """
<div id="$name">
<style>$style</style>
<noscript><p>This figure needs scripts; the plain figure beside it shows the first block.</p>
</noscript>
<form aria-label="What the figure shows" hidden>
<fieldset><legend>Model</legend>$models</fieldset>
<label>layer <select data-choice="layer">$layers</select></label>
<label>block <select data-choice="block">$blocks</select></label>
<label>step <input type="range" data-choice="step" min="1" max="$steps" step="1" value="1">
<output>1 of $steps</output></label>
</form>
<svg role="img" aria-label="Magnitude of each channel" hidden></svg>
<p aria-live="polite" hidden></p>
<script type="application/json">{"about": $description, "data": "$data"}</script>
<script>$script
draw("$name");
})();</script>
</div>
"""

# Sizes are in CSS pixels, and the drawing is made anew when its width changes: text stays legible
# on a narrow screen, where a scaled picture's would not.
_SCRIPT = """(function () {
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
      const label = tick === 0.25 ? "\\u00bc" : tick;
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
    const times = value => value.toPrecision(value < 10 ? 2 : 3).replace(/\\.0$/, "");
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
"""
