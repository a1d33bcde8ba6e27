"""Post-training quantization: a VAR and a recipe become a quantized VAR and a report.

The quantized model samples as the original does. Its linear layers hold packed codes; factors are
folded into AdaLN where each block owns one, and multiplied on the fly where AdaLN is shared (as in
VAR-d36). Source of the method: FPQVAR, arXiv 2505.16335.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from fpqvar_lab.calibration import Activations, CalibrationSet, capture
from fpqvar_lab.method.distillation import DistillationSet, distill, sample_distillation_set
from fpqvar_lab.method.format_search import choose_formats
from fpqvar_lab.method.gptq import input_moments, quantize_gptq
from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.method.quantized_var import QuantizedVAR
from fpqvar_lab.method.recipe import LayerRecipe, Recipe
from fpqvar_lab.method.recipes import find_recipe
from fpqvar_lab.method.report import Report, report
from fpqvar_lab.quantization import ABSMAX
from fpqvar_lab.transforms import (
    GroupHadamard,
    QuantizedProduct,
    fit_scale,
    fit_smoothquant,
    fold_into_adaln,
    random_signs,
)
from fpqvar_lab.var import VAR, VQVAE, Block

Calibration = Mapping[str, Sequence[Tensor]]
"""Inputs of layers by name, a tensor (tokens, channels) for each step, as `capture` gives them."""

_ADALN_PARTS = {"mat_qkv": (2, 4), "fc1": (3, 5)}  # which sixth of AdaLN is scale, and which shift


def calibrate(
    var: VAR,
    vqvae: VQVAE,
    recipe: Recipe | str,
    *,
    pictures: int = 100,
    tokens: int | None = 1024,
    seed: int = 0,
    batch_size: int = 50,
    spill: Path | None = None,
) -> Activations | None:
    """The inputs that a recipe needs to see, captured while the model samples; None if none.

    Args:
        var: the model to be quantized.
        vqvae: the one it was trained with.
        recipe: or its name.
        pictures: how many are drawn, their labels spread over the classes.
        tokens: kept for each layer and step, which bounds the memory; None keeps all.
        seed: of labels and sampling.
        batch_size: pictures drawn at a time.
        spill: a safetensors file to keep them in, instead of memory.
    """
    recipe = find_recipe(recipe)
    names = recipe.calibrated_layers(list(_rules(var, recipe)))
    if not names:
        return None
    labels = CalibrationSet(var.config.classes, pictures, seed)
    return capture(var, vqvae, labels, names, tokens=tokens, batch_size=batch_size, spill=spill)


def quantize_model(
    var: VAR,
    recipe: Recipe | str,
    calibration: Calibration | None = None,
    *,
    distillation_set: DistillationSet | None = None,
    factors: Mapping[str, Tensor] | None = None,
    progress: bool = True,
) -> tuple[QuantizedVAR, Report]:
    """A quantized model, and what was done. The original is left as it is.

    What is not quantized is shared with the original, not copied.

    Args:
        var: the model, on the device where the work is to be done.
        recipe: or its name, or a TOML file.
        calibration: from `calibrate`, where the recipe needs it.
        distillation_set: from `sample_distillation_set`, where the recipe distills.
        factors: positive factors (channels,) by layer name, instead of learned ones.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when a pattern matches no layer, a group size does not fit a layer's width, or
            calibration, distillation set or factors are missing or have another width.
    """
    recipe = find_recipe(recipe)
    rules = _rules(var, recipe)
    factors = factors or {}
    _check_inputs(recipe, rules, calibration, factors)
    if recipe.distillation_steps and distillation_set is None:
        raise ValueError(
            f"{recipe.name} distills; pass distillation_set=sample_distillation_set(var, vqvae)"
        )
    model = _sharing(var, recipe)
    rotation = _rotate_values(model) if recipe.rotate_values else None
    for name, rule in tqdm(rules.items(), desc=recipe.name, disable=not progress, leave=False):
        linear = cast(nn.Linear, model.get_submodule(name))
        steps = [] if calibration is None else list(calibration.get(name, ()))
        if rotation is not None and name.endswith("attn.proj"):
            steps = [rotation(x) for x in steps]
        try:
            rule = _with_chosen_formats(rule, recipe, linear, steps)
            scale = factors.get(name) if rule.scaling != "none" else None
            if scale is None:
                scale = _fit(rule, linear, steps, recipe.sign_seed)
            folded = scale is not None and _fold(model, name, scale)
            layer = _quantized(linear, rule, scale, folded, steps, recipe.sign_seed)
        except ValueError as error:
            raise ValueError(f"{recipe.name}, layer {name}: {error}") from error
        model.set_submodule(name, layer)
    if recipe.distillation_steps and distillation_set is not None:
        distill(model, var, distillation_set, steps=recipe.distillation_steps, progress=progress)
    return model, report(model)


def calibrate_and_quantize(
    var: VAR,
    vqvae: VQVAE,
    recipe: Recipe | str,
    *,
    pictures: int = 100,
    tokens: int | None = 1024,
    seed: int = 0,
    distillation_pictures: int = 6000,
    factors: Mapping[str, Tensor] | None = None,
    batch_size: int = 50,
    spill: Path | None = None,
    progress: bool = True,
) -> tuple[QuantizedVAR, Report]:
    """Everything a recipe asks for: `calibrate`, a distillation set, `quantize_model`.

    Args:
        var: the model to be quantized.
        vqvae: the one it was trained with.
        recipe: or its name, or a TOML file.
        pictures: as for `calibrate`, like the next two.
        tokens: kept for each layer and step.
        seed: of labels and sampling.
        distillation_pictures: how many are sampled to distill on, from the next seed.
        factors: as for `quantize_model`; where they serve all layers, nothing is captured.
        batch_size: pictures drawn at a time, which bounds the memory of large models.
        spill: a safetensors file to keep captured inputs in, instead of memory.
        progress: whether to show progress bars.
    """
    recipe = find_recipe(recipe)
    seen = None
    if not _given(recipe, _rules(var, recipe), factors or {}):
        seen = calibrate(
            var,
            vqvae,
            recipe,
            pictures=pictures,
            tokens=tokens,
            seed=seed,
            batch_size=batch_size,
            spill=spill,
        )
    examples = None
    if recipe.distillation_steps:
        examples = sample_distillation_set(var, vqvae, distillation_pictures, seed=seed + 1)
    return quantize_model(
        var, recipe, seen, distillation_set=examples, factors=factors, progress=progress
    )


def _rules(var: VAR, recipe: Recipe) -> dict[str, LayerRecipe]:
    names = [name for name, module in var.named_modules() if isinstance(module, nn.Linear)]
    for pattern, _ in recipe.layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"{recipe.name}: pattern {pattern!r} matches no linear layer; there are "
                f"{', '.join(names)}"
            )
    rules = {name: recipe.rule_for(name) for name in names}
    return {name: rule for name, rule in rules.items() if rule is not None}


def _check_inputs(
    recipe: Recipe,
    rules: Mapping[str, LayerRecipe],
    calibration: Calibration | None,
    factors: Mapping[str, Tensor],
) -> None:
    for name in factors.keys() - rules.keys():
        raise ValueError(f"factors for {name}; {recipe.name} quantizes {', '.join(rules)}")
    for name in recipe.calibrated_layers(list(rules)):
        if name not in (calibration or {}) and not _given(recipe, {name: rules[name]}, factors):
            raise ValueError(
                f"{recipe.name} needs the inputs of {name}; pass calibration=calibrate(var, vqvae, "
                f"{recipe.name!r})"
            )


def _given(recipe: Recipe, rules: Mapping[str, LayerRecipe], factors: Mapping[str, Tensor]) -> bool:
    """Whether the factors are all that these layers need of calibration."""
    needing = recipe.calibrated_layers(list(rules))
    return not recipe.candidates and all(
        name in factors and not rules[name].gptq for name in needing
    )


def _sharing(var: VAR, recipe: Recipe) -> QuantizedVAR:
    """A model with the original's tensors and modules of its own to hold them."""
    with torch.device("meta"):
        model = QuantizedVAR(var.config, recipe)
    model.load_state_dict(var.state_dict(), strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _transform(rule: LayerRecipe, channels: int, seed: int) -> GroupHadamard | None:
    if rule.hadamard is None:
        return None
    group = channels if rule.hadamard == "full" else rule.hadamard
    return GroupHadamard(group, random_signs(group, torch.Generator().manual_seed(seed)))


def _with_chosen_formats(
    rule: LayerRecipe, recipe: Recipe, linear: nn.Linear, steps: Sequence[Tensor]
) -> LayerRecipe:
    if not recipe.candidates:
        return rule
    pairs = list(product(recipe.candidates, recipe.candidates))
    weight = linear.weight.float().cpu()
    choice = choose_formats(
        steps, weight, pairs, rule.input.granularity, weight_granularity=rule.weight.granularity
    )
    return replace(
        rule,
        weight=replace(rule.weight, format=choice.weight_format),
        input=replace(rule.input, format=choice.activation_format),
    )


def _fit(rule: LayerRecipe, linear: nn.Linear, steps: Sequence[Tensor], seed: int) -> Tensor | None:
    if rule.scaling == "none":
        return None
    transform = _transform(rule, linear.in_features, seed)
    if transform is not None:
        transform = transform.to(linear.weight.device)
    weight = replace(rule.weight, scale=ABSMAX)  # a search at every step would take hours
    if rule.scaling == "smoothquant":
        quantized = QuantizedProduct(rule.input, weight, transform)
        return fit_smoothquant(steps, linear.weight, quantized).scale
    return fit_scale(
        steps, linear.weight, transform, rule.input, weight_quantizer=weight, progress=False
    ).scale


def _fold(model: QuantizedVAR, name: str, scale: Tensor) -> bool:
    """Fold factors into the block's AdaLN; False where it shares one."""
    block = cast(Block, model.get_submodule(".".join(name.split(".")[:2])))
    part = name.rpartition(".")[2]
    if block.shared_aln or part not in _ADALN_PARTS:
        return False
    linear = block.ada_lin.linear
    linear.weight = nn.Parameter(linear.weight.clone(), requires_grad=False)
    linear.bias = nn.Parameter(linear.bias.clone(), requires_grad=False)
    scale_part, shift_part = _ADALN_PARTS[part]
    fold_into_adaln(linear, scale, scale_part=scale_part, shift_part=shift_part)
    return True


def _quantized(
    linear: nn.Linear,
    rule: LayerRecipe,
    scale: Tensor | None,
    folded: bool,
    steps: Sequence[Tensor],
    seed: int,
) -> QuantLinear:
    device = linear.weight.device
    transform = _transform(rule, linear.in_features, seed)
    transform = None if transform is None else transform.to(device)
    weight = linear.weight.double()
    if scale is not None:
        scale = scale.to(device, torch.float32)
        weight = weight / scale.double()
    if transform is not None:
        weight = transform(weight)
    weight = weight.to(linear.weight.dtype)
    if rule.gptq:
        quantized = QuantizedProduct(rule.input, transform=transform)
        inputs = (quantized.inputs(x.to(device).float(), scale) for x in steps)
        packed = quantize_gptq(weight, rule.weight, input_moments(inputs))
    else:
        packed = rule.weight.quantize(weight)
    return QuantLinear(packed, linear.bias, rule.input, transform, None if folded else scale)


def _rotate_values(model: QuantizedVAR) -> GroupHadamard:
    """Rotate the values within each head; the rotation folds into the layers around attention."""
    rotation = GroupHadamard(model.config.head_dim)
    for module in model.blocks:
        attention = cast(Block, module).attn
        rotation = rotation.to(attention.proj.weight.device)
        rows = slice(2 * model.config.width, None)
        weight, bias = attention.mat_qkv.weight.clone(), attention.v_bias.clone()
        weight[rows] = rotation(weight[rows].double().T).T.to(weight)
        attention.mat_qkv.weight = nn.Parameter(weight, requires_grad=False)
        attention.v_bias = nn.Parameter(rotation(bias.double()).to(bias), requires_grad=False)
        proj = rotation.fold_into_weight(attention.proj.weight)
        attention.proj.weight = nn.Parameter(proj, requires_grad=False)
    return rotation
