"""Recipes: what of a VAR is quantized, and how, as frozen values and as TOML.

A recipe names layers by pattern, so one recipe serves models of all depths and widths. The named
recipes are in `recipes`.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, cast, get_args

import tomli_w
from tabulate import tabulate

from fpqvar_lab.formats import Format, format_from_text, format_to_text
from fpqvar_lab.quantization import Quantizer
from fpqvar_lab.transforms import Shift

Scaling = Literal["none", "smoothquant", "galt"]
CacheMode = Literal["on-write", "requantize-all"]

AFTER_ADALN = ("*.attn.mat_qkv", "*.ffn.fc1")
"""The layers that read what AdaLN gives; transforms are applied to these."""
ALL_LINEAR = ("*.attn.mat_qkv", "*.attn.proj", "*.ffn.fc1", "*.ffn.fc2")
"""The layers that are quantized, all linear layers of the blocks but their own AdaLN."""

# What recipes were written with before version 2; read, never written.
_OLD_ENTRIES = {"tuning_steps": "distillation_steps"}
_OLD_LAYER_ENTRIES = {"compensate": "gptq"}
_OLD_CACHE_MODES = {"once": "on-write", "released": "requantize-all"}


@dataclass(frozen=True)
class LayerRecipe:
    """How one linear layer is computed.

    Args:
        weight: the quantizer of the weight (out_channels, in_channels).
        input: the quantizer of the activations (..., in_channels).
        hadamard: group size of the Hadamard transform of its input channels, "full" for all of
            them at once; None for no transform.
        scaling: how factors for its input channels are found: "smoothquant", "galt", or "none".
        gptq: whether GPTQ compensates rounding errors of the weight on calibration data.
        shift: what is subtracted from the input before it is quantized: the mean of each "step",
            the mean of "all" steps, or "none".
    """

    weight: Quantizer
    input: Quantizer
    hadamard: int | Literal["full"] | None = None
    scaling: Scaling = "none"
    gptq: bool = False
    shift: Shift = "none"

    def __post_init__(self) -> None:
        if self.scaling not in get_args(Scaling):
            raise ValueError(f"scaling {self.scaling!r}; use one of {', '.join(get_args(Scaling))}")
        if self.shift not in get_args(Shift):
            raise ValueError(f"shift {self.shift!r}; use one of {', '.join(get_args(Shift))}")
        if isinstance(self.hadamard, str) and self.hadamard != "full":
            raise ValueError(f"hadamard {self.hadamard!r}; use a group size, 'full' or None")

    @property
    def needs_calibration(self) -> bool:
        """Whether quantization needs captured inputs of the layer."""
        return self.scaling != "none" or self.gptq or self.shift != "none"


@dataclass(frozen=True)
class Recipe:
    """What is quantized, and how.

    Args:
        name: a short name, as in `RECIPES`.
        description: one line for people.
        layers: pairs of a pattern of layer names and how these layers are computed; the first
            pattern that matches counts, and layers that none matches stay as they are.
        kv: the quantizer of keys and values (batch, heads, tokens, head_dim); None for none.
        kv_mode: "on-write": each entry is quantized when it is written. "requantize-all": the whole
            cache is quantized again at every step, as the released code does.
        adaln: the quantizer of the weights of AdaLN's linear layers, whose inputs stay in high
            precision; None leaves them as they are.
        candidates: formats of which each layer's weight and input get the pair of least output
            error (the MixedFormat baseline), instead of those of `layers`.
        rotate_values: whether the values of each head are rotated by a Hadamard matrix that folds
            into `mat_qkv` and `proj` (QuaRot, arXiv 2404.00456).
        distillation_steps: optimiser steps that learn rounding, biases and AdaLN from the
            original's predictions (`distillation`); 0 for none.
        sign_seed: seed of the Hadamard transforms' random signs.
    """

    name: str
    description: str
    layers: tuple[tuple[str, LayerRecipe], ...] = ()
    kv: Quantizer | None = None
    kv_mode: CacheMode = "on-write"
    adaln: Quantizer | None = None
    candidates: tuple[Format, ...] = ()
    rotate_values: bool = False
    distillation_steps: int = 0
    sign_seed: int = 0

    def __post_init__(self) -> None:
        if self.kv_mode not in get_args(CacheMode):
            raise ValueError(
                f"kv_mode {self.kv_mode!r}; use one of {', '.join(get_args(CacheMode))}"
            )

    @property
    def needs_calibration(self) -> bool:
        """Whether quantization needs captured inputs of the model's layers."""
        return bool(self.candidates) or any(rule.needs_calibration for _, rule in self.layers)

    def rule_for(self, layer: str) -> LayerRecipe | None:
        """How the layer of this name is computed; None where it stays as it is."""
        return next((rule for pattern, rule in self.layers if fnmatchcase(layer, pattern)), None)

    def to_toml(self) -> str:
        """The recipe as TOML, which `read_recipe` reads."""
        content: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "sign_seed": self.sign_seed,
            "rotate_values": self.rotate_values,
            "distillation_steps": self.distillation_steps,
        }
        if self.kv is not None:
            content |= {"kv": self.kv.to_text(), "kv_mode": self.kv_mode}
        if self.adaln is not None:
            content["adaln"] = self.adaln.to_text()
        if self.candidates:
            content["candidates"] = [format_to_text(fmt) for fmt in self.candidates]
        content["layers"] = [_to_table(pattern, rule) for pattern, rule in self.layers]
        return tomli_w.dumps(content)

    def table(self) -> str:
        """The recipe as text: a table with a row per pattern, and how keys and values are kept."""
        head = ("layers", "weight", "input", "hadamard", "scaling", "GPTQ", "shift")
        rows = [_to_row(pattern, rule) for pattern, rule in self.layers]
        lines = tabulate(rows, head, tablefmt="plain", stralign="left", disable_numparse=True)
        cache = "16 bits" if self.kv is None else f"{self.kv.to_text()}, {self.kv_mode}"
        parts = [f"{self.name}: {self.description}", lines, f"KV cache: {cache}"]
        if self.adaln is not None:
            parts.append(f"AdaLN: {self.adaln.to_text()}, weights only")
        return "\n".join(parts)


def read_recipe(text: str) -> Recipe:
    """The recipe of a TOML text, also of one that the first edition wrote.

    Raises:
        ValueError: when the text is no TOML, or an entry is missing, unknown or not understood.
    """
    content = _renamed(tomllib.loads(text), _OLD_ENTRIES)
    known = set(Recipe.__dataclass_fields__)
    if unknown := content.keys() - known:
        raise ValueError(f"recipe has an entry {min(unknown)!r}; known are {', '.join(known)}")
    if missing := {"name", "layers"} - content.keys():
        raise ValueError(f"recipe lacks {min(missing)!r}")
    content["layers"] = tuple(_from_table(table) for table in content["layers"])
    content["candidates"] = tuple(format_from_text(name) for name in content.get("candidates", ()))
    for key in ("kv", "adaln"):
        if key in content:
            content[key] = Quantizer.from_text(content[key])
    if "kv_mode" in content:
        content["kv_mode"] = _OLD_CACHE_MODES.get(content["kv_mode"], content["kv_mode"])
    return Recipe(**({"description": ""} | content))


def _to_table(pattern: str, rule: LayerRecipe) -> dict[str, Any]:
    table = {"pattern": pattern, "weight": rule.weight.to_text(), "input": rule.input.to_text()}
    defaults = {"hadamard": None, "scaling": "none", "gptq": False, "shift": "none"}
    options = {name: getattr(rule, name) for name in defaults}
    return table | {key: value for key, value in options.items() if value != defaults[key]}


def _from_table(table: Mapping[str, Any]) -> tuple[str, LayerRecipe]:
    table = _renamed(table, _OLD_LAYER_ENTRIES)
    known = {"pattern", *LayerRecipe.__dataclass_fields__}
    if unknown := table.keys() - known:
        raise ValueError(f"a layer has an entry {min(unknown)!r}; known are {', '.join(known)}")
    if missing := {"pattern", "weight", "input"} - table.keys():
        raise ValueError(f"a layer lacks {min(missing)!r}")
    fields = {key: value for key, value in table.items() if key != "pattern"}
    fields |= {key: Quantizer.from_text(table[key]) for key in ("weight", "input")}
    return table["pattern"], LayerRecipe(**cast(Any, fields))


def _renamed(table: Mapping[str, Any], old: Mapping[str, str]) -> dict[str, Any]:
    """The table with the old names of its entries replaced by today's."""
    for before, now in old.items():
        if before in table and now in table:
            raise ValueError(f"{before!r} is the old name of {now!r}; keep one of them")
    return {old.get(key, key): value for key, value in table.items()}


def _to_row(pattern: str, rule: LayerRecipe) -> tuple[str, ...]:
    hadamard = "-" if rule.hadamard is None else str(rule.hadamard)
    scaling = "-" if rule.scaling == "none" else rule.scaling
    shift = "-" if rule.shift == "none" else rule.shift
    gptq = "yes" if rule.gptq else "-"
    return pattern, rule.weight.to_text(), rule.input.to_text(), hadamard, scaling, gptq, shift


def recipe_digest(recipe: Recipe) -> str:
    """The hexadecimal SHA-256 digest of the recipe's TOML text."""
    return hashlib.sha256(recipe.to_toml().encode()).hexdigest()
