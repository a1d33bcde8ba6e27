"""Quantizers as one line of text: `E2M1 per-group-128 scale=mse scale-dtype=e4m3`.

The format (`fpqvar_lab.formats.format_to_text`) and the granularity come first; options follow,
each where it is not the default:

    dim=0                   of groups that run along another dimension than the last
    scale=mse               or percentile-99.9, ratio-0.9, mse-1,0.9,0.8 (the ratios that are tried)
    rounding=ties-to-positive
    scale-dtype=e4m3
    gradient=everywhere
    check=off

Recipes and stored tensors use this form. `compile` is not in it: it belongs to the machine.
"""

from collections.abc import Mapping
from typing import Any

from fpqvar_lab.formats import TIES_TO_EVEN, Rounding, format_from_text, format_to_text
from fpqvar_lab.quantization.granularity import (
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    PerGroup,
)
from fpqvar_lab.quantization.scale_methods import (
    ABSMAX,
    MSE,
    MseSearch,
    Percentile,
    ScaleMethod,
    ratio,
)
from fpqvar_lab.quantization.scales import ScaleDtype

_GRANULARITIES: dict[str, Granularity] = {
    "per-tensor": PER_TENSOR,
    "per-channel": PER_CHANNEL,
    "per-token": PER_TOKEN,
}
_DEFAULTS = {
    "dim": "-1",
    "scale": "absmax",
    "rounding": TIES_TO_EVEN.value,
    "scale-dtype": ScaleDtype.FLOAT32.value,
    "gradient": "clipped",
    "check": "on",
}
_WORDS = {
    "rounding": [rounding.value for rounding in Rounding],
    "scale-dtype": [dtype.value for dtype in ScaleDtype],
    "check": ["on", "off"],
}


def fields_to_text(fields: Mapping[str, Any]) -> str:
    """The text of a quantizer's fields, given by name."""
    granularity = fields["granularity"]
    options = {
        "dim": str(granularity.dim) if isinstance(granularity, PerGroup) else "-1",
        "scale": _method_to_text(fields["scale"]),
        "rounding": fields["rounding"].value,
        "scale-dtype": fields["scale_dtype"].value,
        "gradient": fields["gradient"],
        "check": "on" if fields["check"] else "off",
    }
    words = [format_to_text(fields["format"]), _granularity_to_text(granularity)]
    words += [f"{name}={word}" for name, word in options.items() if word != _DEFAULTS[name]]
    return " ".join(words)


def fields_from_text(text: str) -> dict[str, Any]:
    """The fields, by name, of the quantizer that a text describes.

    Raises:
        ValueError: when a word is not understood; the message says what is.
    """
    words = text.split()
    if len(words) < 2:
        raise ValueError(f"{text!r}: write a format and a granularity, as in 'E2M1 per-group-128'")
    given = dict(word.partition("=")[::2] for word in words[2:])
    if unknown := given.keys() - _DEFAULTS.keys():
        raise ValueError(f"{text!r}: option {min(unknown)!r}; use {', '.join(_DEFAULTS)}")
    for name, allowed in _WORDS.items():
        if given.get(name, _DEFAULTS[name]) not in allowed:
            raise ValueError(
                f"{name} {given[name]!r}; use {', '.join(allowed[:-1])} or {allowed[-1]}"
            )
    options = _DEFAULTS | given
    return {
        "format": format_from_text(words[0]),
        "granularity": _granularity_from_text(words[1], given.get("dim")),
        "scale": _method_from_text(options["scale"]),
        "rounding": Rounding(options["rounding"]),
        "scale_dtype": ScaleDtype(options["scale-dtype"]),
        "gradient": options["gradient"],
        "check": options["check"] == "on",
    }


def _granularity_to_text(granularity: Granularity) -> str:
    if isinstance(granularity, PerGroup):
        return f"per-group-{granularity.size}"
    return next(name for name, value in _GRANULARITIES.items() if value == granularity)


def _granularity_from_text(word: str, dim: str | None) -> Granularity:
    prefix, _, size = word.rpartition("-")
    if prefix == "per-group" and size.isdigit():
        return PerGroup(int(size), -1 if dim is None else _whole_number("dim", dim))
    if word not in _GRANULARITIES:
        allowed = ", ".join([*_GRANULARITIES, "per-group-128"])
        raise ValueError(f"granularity {word!r}; use {allowed} (or another size)")
    if dim is not None:
        raise ValueError(f"dim={dim} is for groups; {word} has no dimension to choose")
    return _GRANULARITIES[word]


def _whole_number(name: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{name} is {word!r}; use a whole number") from None


def _method_to_text(method: ScaleMethod) -> str:
    if isinstance(method, Percentile):
        return f"percentile-{_number_to_text(method.percent)}"
    if not isinstance(method, MseSearch):
        return "absmax"
    if len(method.ratios) == 1:
        return f"ratio-{_number_to_text(method.ratios[0])}"
    return "mse" if method == MSE else f"mse-{','.join(map(_number_to_text, method.ratios))}"


def _method_from_text(word: str) -> ScaleMethod:
    methods: dict[str, ScaleMethod] = {"absmax": ABSMAX, "mse": MSE}
    if word in methods:
        return methods[word]
    name, _, numbers = word.partition("-")
    try:
        values = tuple(float(number) for number in numbers.split(","))
    except ValueError:
        values = ()
    if name == "mse" and values:
        return MseSearch(values)
    if name in ("percentile", "ratio") and len(values) == 1:
        return Percentile(*values) if name == "percentile" else ratio(*values)
    raise ValueError(
        f"scale {word!r}; use absmax, mse, percentile-99.9, ratio-0.9 or mse-1,0.9,0.8"
    )


def _number_to_text(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
