"""The named recipes: every row of FPQVAR's results table (arXiv 2505.16335), and others.

`find_recipe` gives them by name, and `uniform_recipe` makes others of their kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6,
    DUAL_MR4,
    DUAL_MR4_POW2,
    E1M2,
    E2M1,
    E2M3,
    INT4,
    INT6,
    INT8,
    MR4,
    Format,
    IntFormat,
)
from fpqvar_lab.method.format_search import FP4_FORMATS, FP6_FORMATS
from fpqvar_lab.method.recipe import (
    AFTER_ADALN,
    ALL_LINEAR,
    LayerRecipe,
    Recipe,
    Scaling,
    read_recipe,
)
from fpqvar_lab.quantization import (
    MSE,
    PER_CHANNEL,
    PER_TOKEN,
    Granularity,
    Quantizer,
    ScaleDtype,
    ScaleMethod,
    per_group,
    ratio,
)
from fpqvar_lab.transforms import Shift


def find_recipe(source: str | Path | Recipe) -> Recipe:
    """A recipe by name, from a TOML file, or itself.

    After a name, `-ue5m3` or `-e4m3` stands for the same recipe with scales in 8 bits, and
    `-adaln8` for AdaLN's weights in 8 bits; `fp4-dfq-ght-ue5m3-adaln8` is both.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such name; or as `read_recipe`.
    """
    if isinstance(source, Recipe):
        return source
    if str(source) in RECIPES:
        return RECIPES[str(source)]
    name, _, variant = str(source).rpartition("-")
    if variant in _VARIANTS:
        return _VARIANTS[variant](find_recipe(name))
    if Path(source).suffix == ".toml":
        return read_recipe(Path(source).read_text(encoding="utf-8"))
    raise ValueError(f"no recipe {str(source)!r}; there are {', '.join(RECIPES)}, or a .toml file")


def with_byte_scales(recipe: Recipe, storage: ScaleDtype) -> Recipe:
    """The same recipe with all scales of layers in a storage of 8 bits: UE5M3 or E4M3.

    Products of such scales and levels of at most four significant bits are exact in bfloat16. The
    cache of keys and values stays as it is. UE5M3 suits inputs better: E4M3's scale for the tensor
    depends on all rows that are computed together.
    """
    layers = tuple(
        (
            pattern,
            replace(
                rule,
                weight=replace(rule.weight, scale_dtype=storage),
                input=replace(rule.input, scale_dtype=storage),
            ),
        )
        for pattern, rule in recipe.layers
    )
    text = f"{recipe.description}; {storage.value.upper()} scales"
    name = f"{recipe.name}-{storage.value}"
    return replace(recipe, name=name, description=text, layers=layers)


def with_packed_adaln(recipe: Recipe) -> Recipe:
    """The same recipe with AdaLN's weights, a third of a VAR, as 8-bit integers per channel."""
    text = f"{recipe.description}; AdaLN's weights in 8 bits"
    packed = Quantizer(INT8, PER_CHANNEL, scale_dtype=ScaleDtype.BFLOAT16)
    return replace(recipe, name=f"{recipe.name}-adaln8", description=text, adaln=packed)


_VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "ue5m3": partial(with_byte_scales, storage=ScaleDtype.UE5M3),
    "e4m3": partial(with_byte_scales, storage=ScaleDtype.E4M3),
    "adaln8": with_packed_adaln,
}


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
    gptq: bool = False,
    **options: Any,
) -> Recipe:
    """A recipe with one format for all layers, but perhaps another for the input of `fc2`.

    Args:
        name: the name of the recipe.
        description: one line for people.
        fmt: the format of weights and inputs. Formats of 4 bits have a scale for each group of 128
            channels; longer ones, for each output channel and each token.
        fc2_input: the format of the input of `fc2`; `fmt` by default.
        granularity: the granularity of weights and inputs, instead of the one above.
        hadamard: group size of the Hadamard transform of the layers `hadamard_layers`, "full" for
            all their channels at once; None for no transform.
        hadamard_layers: patterns of the layers that are transformed.
        scaling: the kind of factors for the layers after AdaLN.
        scale: how the weights' scales are chosen; by the largest magnitude by default.
        scale_dtype: the form in which scales are stored.
        gptq: whether GPTQ compensates the weights' rounding errors.
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
            gptq,
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
    text = "FPQVAR, E1M2 for rotated inputs, GPTQ, distilled"
    return replace(recipe, name="fp4-best", description=text, layers=layers, distillation_steps=800)


# Ratios of the largest level to the largest magnitude by size of the group, for inputs and weights:
# the larger the group, the further out is its largest magnitude.
_MR4_CLIPS = {128: (0.92, 0.95), 64: (0.96, 0.98)}


def mid_rise_recipe(
    name: str,
    description: str,
    *,
    group: int = 128,
    scale_dtype: ScaleDtype = ScaleDtype.BFLOAT16,
    power_of_two: bool = False,
    shift: Shift = "step",
    **options: Any,
) -> Recipe:
    """Mid-rise grids everywhere, GHT, and the means of the steps taken out before quantization.

    Args:
        name: the name of the recipe.
        description: one line for people.
        group: how many channels share a scale, 128 or 64.
        scale_dtype: the form in which scales are stored.
        power_of_two: whether the scales of the halves of `fc2`'s input have a power of two as their
            ratio.
        shift: of all layers but `fc2`, whose input has no mean worth taking out.
        options: the remaining fields of `Recipe`.
    """

    def quantizer(fmt: Format, clip: float) -> Quantizer:
        return Quantizer(fmt, per_group(group), scale=ratio(clip), scale_dtype=scale_dtype)

    clip_input, clip_weight = _MR4_CLIPS[group]
    weight, read = quantizer(MR4, clip_weight), quantizer(MR4, clip_input)
    halves = quantizer(DUAL_MR4_POW2 if power_of_two else DUAL_MR4, 0.98)
    rules = {
        pattern: LayerRecipe(weight, halves)
        if pattern.endswith("fc2")
        else LayerRecipe(weight, read, 128 if pattern in AFTER_ADALN else None, shift=shift)
        for pattern in ALL_LINEAR
    }
    return Recipe(name, description, tuple(rules.items()), **options)


def _mid_rise() -> list[Recipe]:
    text = "mid-rise grids, GHT, shift by step; nothing is learned; groups of 64, UE5M3 scales"
    free = mid_rise_recipe("fp4-midrise-64", text, group=64, scale_dtype=ScaleDtype.UE5M3)
    tied = mid_rise_recipe(
        "fp4-midrise-64-pow2",
        f"{text}; power-of-two ratio",
        group=64,
        scale_dtype=ScaleDtype.UE5M3,
        power_of_two=True,
    )
    return [free, tied]


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
        f"{fpqvar}; GPTQ",
        E2M1,
        fc2_input=DUAL_FP4,
        hadamard=128,
        scaling="galt",
        scale=MSE,
        gptq=True,
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
        *_mid_rise(),
    ]
    return {recipe.name: recipe for recipe in recipes}


RECIPES = _named()
"""All named recipes, in the order of the results table."""


ABLATION = ("fp4-baseline", "fp4-dfq-only", "fp4-ght-only", "fp4-dfq-ght", "fp4-fpqvar")
"""The ladder from round-to-nearest to the whole method, at 4 bits."""
