"""A figure with controls: the levels of any minifloat of at most 8 bits, and what rounding to them
costs a distribution, over the scale.

It computes everything in the reader's browser, from `minifloat_explorer.js` beside this file; a
test holds it to `fpqvar_lab.formats`.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from string import Template

import torch
from torch import Tensor

from fpqvar_lab.figures.interactive import Interactive, interactive, options

QUANTILES = 2048


def minifloat_explorer(samples: Mapping[str, Tensor]) -> Interactive:
    """Levels and error of a format chosen with sliders, for a sample chosen from a list.

    Args:
        samples: title -> values of any shape. `quantiles_of` a sample stand for it.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("samples is empty; give at least one tensor")
    data = json.dumps([{"name": name, "values": _text(x)} for name, x in samples.items()])
    name = "minifloats-" + hashlib.sha256(data.encode()).hexdigest()[:10]
    body = Template(_BODY).substitute(options=options(list(samples)))
    return interactive("minifloat_explorer", name, body, data)


def quantiles_of(values: Tensor) -> Tensor:
    """`QUANTILES` equally likely values of a sample, scaled to a root mean square of one: float32.

    Args:
        values: any shape, with at least `QUANTILES` elements.
    """
    ordered = values.flatten().double().sort().values
    indices = (torch.arange(QUANTILES) + 0.5) / QUANTILES * len(ordered)
    chosen = ordered[indices.long()]
    return (chosen / chosen.square().mean().sqrt()).float()


def _text(values: Tensor) -> str:
    return b64encode(quantiles_of(values).numpy().astype("<f4").tobytes()).decode()


_BODY = """\
<noscript><p>This figure needs scripts; the plain figures of this page show the formats of 4 and 6
bits.</p></noscript>
<form aria-label="Format, scale and data" hidden>
<label>exponent bits <input type="range" data-choice="exponent" min="1" max="7" value="2">
<output>2</output></label>
<label>mantissa bits <input type="range" data-choice="mantissa" min="0" max="6" value="1">
<output>1</output></label>
<label>data <select data-choice="data">$options</select></label>
<label>largest level at <input type="range" data-choice="scale" min="0" max="112" value="64">
<output>8</output></label>
<button type="button">best scale</button>
</form>
<svg role="img" height="190" hidden></svg>
<svg role="img" height="230" hidden></svg>
<p aria-live="polite" hidden></p>
<details hidden><summary></summary><p data-levels></p></details>
"""
