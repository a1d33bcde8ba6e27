"""A figure with controls: the magnitudes of a layer's channels, step by step."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from string import Template

import torch
from torch import Tensor

from fpqvar_lab.figures.interactive import Interactive, interactive, options, radio_buttons
from fpqvar_lab.figures.style import LAYER_COLOURS

_LOWEST, _HIGHEST = -4.0, 7.0  # powers of two that the first and the last byte stand for


def outlier_explorer(models: Mapping[str, Mapping[str, Tensor]], top: int = 8) -> Interactive:
    """Channel magnitudes at one step, chosen with a slider, for a model, layer and block chosen
    with buttons and lists; the top channels of the step are marked, and those of the step before.

    Magnitudes are stored as bytes on a logarithmic scale from 2^-4 to 2^7, 1.5 % per step of it.

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
    name = "explorer-" + hashlib.sha256(data).hexdigest()[:10]
    body = Template(_BODY).substitute(
        steps=description["steps"],
        models=radio_buttons(f"{name}-model", list(models)),
        layers=options(list(layers)),
        blocks=options([str(block + 1) for block in range(next(iter(layers.values())).shape[0])]),
    )
    held = json.dumps({"about": description, "data": b64encode(data).decode()})
    return interactive("outlier_explorer", name, body, held)


def _as_bytes(values: Tensor) -> bytes:
    place = (values.double().clamp_min(1e-30).log2() - _LOWEST) / (_HIGHEST - _LOWEST)
    return (255 * place.clamp(0, 1)).round().to(torch.uint8).numpy().tobytes()


_BODY = """\
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
"""
