"""Recipes: what of a VAR is quantized, and how, as frozen values.

`RECIPES` holds every row of FPQVAR's results table (arXiv 2505.16335) and rows that the table
lacks. A recipe names layers by pattern, so one recipe serves models of all depths and widths.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast, get_args

import tomli_w

from fpqvar_lab.format_choice import FP4_FORMATS, FP6_FORMATS
from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6,
    E1M2,
    E2M1,
    E2M3,
    INT4,
    INT6,
    Format,
    IntFormat,
)
from fpqvar_lab.granularity import PER_CHANNEL, PER_TOKEN, Granularity, per_group
from fpqvar_lab.quantize import Quantizer
from fpqvar_lab.scales import MSE, ScaleDtype, ScaleMethod, ratio
from fpqvar_lab.spelling import read_format, read_quantizer, spell, spell_format

Scaling = Literal["none", "smoothquant", "galt"]
CacheMode = Literal["once", "released"]

AFTER_ADALN = ("*.attn.mat_qkv", "*.ffn.fc1")
"""The layers that read what AdaLN gives; transforms are applied to these."""
ALL_LINEAR = ("*.attn.mat_qkv", "*.attn.proj", "*.ffn.fc1", "*.ffn.fc2")
"""The layers that are quantized, all linear layers of the blocks but their own AdaLN."""


@dataclass(frozen=True)
class LayerRecipe:
    """How one linear layer is computed.

    Args:
        weight: quantizer of the weight (out_channels, in_channels).
        input: quantizer of the activations (..., in_channels).
        hadamard: group size of the Hadamard transform of its input channels, "full" for all of
            them at once, None for no transform.
        scaling: factors for its input channels: "smoothquant" or "galt"; see `smoothing`.
        compensate: whether rounding errors of the weight are compensated on calibration data
            (GPTQ; see `compensation`).
    """

    weight: Quantizer
    input: Quantizer
    hadamard: int | Literal["full"] | None = None
    scaling: Scaling = "none"
    compensate: bool = False

    def __post_init__(self) -> None:
        if self.scaling not in get_args(Scaling):
            raise ValueError(f"scaling {self.scaling!r}; use one of {', '.join(get_args(Scaling))}")
        if isinstance(self.hadamard, str) and self.hadamard != "full":
            raise ValueError(f"hadamard {self.hadamard!r}; use a group size, 'full' or None")

    @property
    def needs_calibration(self) -> bool:
        return self.scaling != "none" or self.compensate


@dataclass(frozen=True)
class Recipe:
    """What is quantized, and how.

    Args:
        name: a short name, as in `RECIPES`.
        description: one line for people.
        layers: (pattern of layer names, how these layers are computed); the first pattern that
            matches counts, and layers that none matches stay as they are.
        kv: quantizer of keys and values (batch, heads, tokens, head_dim); None for none.
        kv_mode: "once": each entry is quantized when it is written. "released": the whole cache is
            quantized again at every step, as the released code does.
        candidates: formats of which each layer's weight and input get the pair of least output
            error (the MixedFormat baseline), instead of those of `layers`.
        rotate_values: whether the values of each head are rotated by a Hadamard matrix that folds
            into `mat_qkv` and `proj` (QuaRot, arXiv 2404.00456).
        tuning_steps: optimiser steps that tune what stays in high precision (`tuning`); 0 for none.
        sign_seed: of the Hadamard transforms' random signs.
    """

    name: str
    description: str
    layers: tuple[tuple[str, LayerRecipe], ...] = ()
    kv: Quantizer | None = None
    kv_mode: CacheMode = "once"
    candidates: tuple[Format, ...] = ()
    rotate_values: bool = False
    tuning_steps: int = 0
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

    def calibrated_layers(self, names: Sequence[str]) -> list[str]:
        """Those of the names whose inputs must be captured."""
        rules = {name: self.rule_for(name) for name in names}
        needed = {name: rule for name, rule in rules.items() if rule is not None}
        return [name for name, rule in needed.items() if self.candidates or rule.needs_calibration]

    def to_toml(self) -> str:
        """The recipe as TOML, which `read_recipe` reads."""
        content: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "sign_seed": self.sign_seed,
            "rotate_values": self.rotate_values,
            "tuning_steps": self.tuning_steps,
        }
        if self.kv is not None:
            content |= {"kv": spell(self.kv), "kv_mode": self.kv_mode}
        if self.candidates:
            content["candidates"] = [spell_format(fmt) for fmt in self.candidates]
        content["layers"] = [_to_table(pattern, rule) for pattern, rule in self.layers]
        return tomli_w.dumps(content)

    def table(self) -> str:
        """The recipe as a text table, a row for each pattern."""
        head = ("layers", "weight", "input", "hadamard", "scaling", "compensated")
        rows = [head, *(_to_row(pattern, rule) for pattern, rule in self.layers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        cache = "16 bits" if self.kv is None else f"{spell(self.kv)}, {self.kv_mode}"
        return "\n".join([f"{self.name}: {self.description}", *lines, f"KV cache: {cache}"])


def read_recipe(text: str) -> Recipe:
    """The recipe of a TOML text.

    Raises:
        ValueError: when the text is no TOML, or an entry is missing, unknown or not understood.
    """
    content = tomllib.loads(text)
    known = set(Recipe.__dataclass_fields__)
    if unknown := content.keys() - known:
        raise ValueError(f"recipe has an entry {min(unknown)!r}; known are {', '.join(known)}")
    if missing := {"name", "layers"} - content.keys():
        raise ValueError(f"recipe lacks {min(missing)!r}")
    content["layers"] = tuple(_from_table(table) for table in content["layers"])
    content["candidates"] = tuple(read_format(name) for name in content.get("candidates", ()))
    if "kv" in content:
        content["kv"] = read_quantizer(content["kv"])
    return Recipe(**({"description": ""} | content))


def find_recipe(source: str | Path | Recipe) -> Recipe:
    """A recipe by name, from a TOML file, or itself.

    Raises:
        ValueError: when there is neither such a name nor such a file; or as `read_recipe`.
    """
    if isinstance(source, Recipe):
        return source
    if str(source) in RECIPES:
        return RECIPES[str(source)]
    if Path(source).suffix == ".toml":
        return read_recipe(Path(source).read_text(encoding="utf-8"))
    raise ValueError(f"no recipe {str(source)!r}; there are {', '.join(RECIPES)}, or a .toml file")


def _to_table(pattern: str, rule: LayerRecipe) -> dict[str, Any]:
    table = {"pattern": pattern, "weight": spell(rule.weight), "input": spell(rule.input)}
    options = {"hadamard": rule.hadamard, "scaling": rule.scaling, "compensate": rule.compensate}
    defaults = {"hadamard": None, "scaling": "none", "compensate": False}
    return table | {key: value for key, value in options.items() if value != defaults[key]}


def _from_table(table: Mapping[str, Any]) -> tuple[str, LayerRecipe]:
    known = {"pattern", *LayerRecipe.__dataclass_fields__}
    if unknown := table.keys() - known:
        raise ValueError(f"a layer has an entry {min(unknown)!r}; known are {', '.join(known)}")
    if missing := {"pattern", "weight", "input"} - table.keys():
        raise ValueError(f"a layer lacks {min(missing)!r}")
    fields = {key: value for key, value in table.items() if key != "pattern"}
    fields |= {key: read_quantizer(table[key]) for key in ("weight", "input")}
    return table["pattern"], LayerRecipe(**cast(Any, fields))


def _to_row(pattern: str, rule: LayerRecipe) -> tuple[str, ...]:
    hadamard = "-" if rule.hadamard is None else str(rule.hadamard)
    scaling = "-" if rule.scaling == "none" else rule.scaling
    compensated = "yes" if rule.compensate else "-"
    return pattern, spell(rule.weight), spell(rule.input), hadamard, scaling, compensated


# The named recipes


def uniform_recipe(
    name: str,
    description: str,
    fmt: Format,
    *,
    fc2_input: Format | None = None,
    granularity: Granularity | None = None,
    hadamard: int | Literal["full"] | None = None,
    hadamard_layers: Sequence[str] = AFTER_ADALN,
    scaling: Scaling = "none",
    scale: ScaleMethod | None = None,
    scale_dtype: ScaleDtype = ScaleDtype.FLOAT32,
    compensate: bool = False,
    **options: Any,
) -> Recipe:
    """A recipe with one format for all layers, but perhaps another for the input of `fc2`.

    Args:
        name: of the recipe.
        description: of the recipe.
        fmt: of weights and inputs. Formats of 4 bits have a scale for each group of 128 channels;
            longer ones, for each output channel and each token.
        fc2_input: format of the input of `fc2`; `fmt` by default.
        granularity: of weights and inputs, instead of the one above.
        hadamard: transform of the layers `hadamard_layers`.
        hadamard_layers: patterns of the layers that are transformed.
        scaling: of the layers after AdaLN.
        scale: how the weights' scales are chosen; by the largest magnitude by default.
        scale_dtype: in what form scales are stored.
        compensate: whether the weights' rounding errors are compensated.
        options: the remaining fields of `Recipe`.
    """
    grouped = per_group(128) if fmt.bits <= 4 else None
    of_weight = granularity or grouped or PER_CHANNEL
    of_input = granularity or grouped or PER_TOKEN
    weight = Quantizer(fmt, of_weight, scale_dtype=scale_dtype)
    weight = weight if scale is None else replace(weight, scale=scale)

    def rule(pattern: str) -> LayerRecipe:
        read = fc2_input if fc2_input is not None and pattern.endswith("fc2") else fmt
        return LayerRecipe(
            weight,
            Quantizer(read, of_input, scale_dtype=scale_dtype),
            hadamard if pattern in hadamard_layers else None,
            scaling if pattern in AFTER_ADALN else "none",
            compensate,
        )

    rules = tuple((pattern, rule(pattern)) for pattern in ALL_LINEAR)
    return Recipe(name, description, rules, **options)


def _litevar(recipe: Recipe, name: str) -> Recipe:
    kept = tuple((pattern, rule) for pattern, rule in recipe.layers if "fc2" not in pattern)
    text = f"{recipe.description}; fc2 stays in 16 bits (LiteVAR, as reported)"
    return replace(recipe, name=name, description=text, layers=kept)


def _best(recipe: Recipe) -> Recipe:
    # A rotated group is nearly Gaussian: evenly spaced levels, slightly clipped, serve it better.
    rotated = Quantizer(E1M2, per_group(128), scale=ratio(0.92))
    layers = tuple(
        (pattern, replace(rule, input=rotated) if rule.hadamard else rule)
        for pattern, rule in recipe.layers
    )
    text = "FPQVAR, E1M2 for rotated inputs, compensated weights, tuned"
    return replace(recipe, name="fp4-best", description=text, layers=layers, tuning_steps=800)


def _named() -> dict[str, Recipe]:
    kv6 = Quantizer(E2M3, PER_TOKEN)
    kv4 = Quantizer(E2M1, PER_TOKEN)
    fpqvar = "dual format for fc2's input, GHT and GALT"
    int6 = uniform_recipe(
        "int6-rtn",
        "integers, round to nearest; min-max for fc2's input",
        INT6,
        fc2_input=IntFormat(6, symmetric=False),
    )
    int4 = uniform_recipe(
        "int4-rtn",
        "integers, round to nearest; min-max for fc2's input",
        INT4,
        fc2_input=IntFormat(4, symmetric=False),
    )
    fp6 = uniform_recipe("fp6-baseline", "E2M3 everywhere", E2M3)
    fp4 = uniform_recipe("fp4-baseline", "E2M1 everywhere", E2M1)
    fp6_fpqvar = uniform_recipe(
        "fp6-fpqvar", fpqvar, E2M3, fc2_input=DUAL_FP6, hadamard=128, scaling="galt"
    )
    fp4_fpqvar = uniform_recipe(
        "fp4-fpqvar", fpqvar, E2M1, fc2_input=DUAL_FP4, hadamard=128, scaling="galt"
    )
    gptq = uniform_recipe(
        "fp4-gptq",
        f"{fpqvar}; compensated weights",
        E2M1,
        fc2_input=DUAL_FP4,
        hadamard=128,
        scaling="galt",
        scale=MSE,
        compensate=True,
    )
    recipes = [
        Recipe("fp16", "nothing is quantized"),
        int6,
        _litevar(int6, "int6-litevar"),
        fp6,
        replace(
            fp6,
            name="fp6-mixed",
            description="the best pair for each layer",
            candidates=FP6_FORMATS,
        ),
        fp6_fpqvar,
        replace(fp6_fpqvar, name="fp6-fpqvar-kv6", description=f"{fpqvar}; 6-bit KV cache", kv=kv6),
        int4,
        _litevar(int4, "int4-litevar"),
        fp4,
        replace(
            fp4,
            name="fp4-mixed",
            description="the best pair for each layer",
            candidates=FP4_FORMATS,
        ),
        fp4_fpqvar,
        replace(fp4_fpqvar, name="fp4-fpqvar-kv6", description=f"{fpqvar}; 6-bit KV cache", kv=kv6),
        uniform_recipe(
            "int4-smooth",
            "SmoothQuant, its strength searched; min-max for fc2's input",
            INT4,
            fc2_input=IntFormat(4, symmetric=False),
            scaling="smoothquant",
        ),
        uniform_recipe(
            "int4-quarot",
            "full Hadamard transforms before all layers (QuaRot's idea)",
            INT4,
            hadamard="full",
            hadamard_layers=ALL_LINEAR,
        ),
        uniform_recipe(
            "mxfp4",
            "OCP MXFP4: groups of 32, power-of-two scales",
            E2M1,
            granularity=per_group(32),
            scale_dtype=ScaleDtype.POWER_OF_TWO,
        ),
        uniform_recipe(
            "nvfp4",
            "NVFP4: groups of 16, E4M3 scales",
            E2M1,
            granularity=per_group(16),
            scale_dtype=ScaleDtype.E4M3,
        ),
        uniform_recipe("fp4-dfq-only", "dual format for fc2's input", E2M1, fc2_input=DUAL_FP4),
        uniform_recipe("fp4-ght-only", "group-wise Hadamard transform", E2M1, hadamard=128),
        uniform_recipe(
            "fp4-dfq-ght", "dual format and GHT", E2M1, fc2_input=DUAL_FP4, hadamard=128
        ),
        replace(fp4_fpqvar, name="fp4-fpqvar-kv4", description=f"{fpqvar}; 4-bit KV cache", kv=kv4),
        uniform_recipe(
            "fp4-fpqvar-pow2",
            f"{fpqvar}; power-of-two ratio of the halves' scales",
            E2M1,
            fc2_input=DUAL_FP4_POW2,
            hadamard=128,
            scaling="galt",
        ),
        gptq,
        _best(gptq),
    ]
    return {recipe.name: recipe for recipe in recipes}


RECIPES = _named()
"""All named recipes, in the order of the results table."""

ABLATION = ("fp4-baseline", "fp4-dfq-only", "fp4-ght-only", "fp4-dfq-ght", "fp4-fpqvar")
"""The ladder from round-to-nearest to the whole method, at 4 bits."""
