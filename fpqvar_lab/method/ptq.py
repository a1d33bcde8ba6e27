"""Post-training quantization: a VAR and a recipe become a quantized VAR and a report.

The recipe is resolved into a plan once; calibration, fitting and quantization take the plan. The
quantized model samples as the original does. Its linear layers hold packed codes; factors are
folded into AdaLN where each block owns one, and multiplied on the fly where AdaLN is shared (as in
VAR-d36). Source of the method: FPQVAR, arXiv 2505.16335.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from fpqvar_lab.calibration import Activations, CalibrationSet, capture
from fpqvar_lab.method.distillation import DistillationSet, distill, sample_distillation_set
from fpqvar_lab.method.fitting import quantize_layer
from fpqvar_lab.method.plan import Calibration, Plan, make_plan
from fpqvar_lab.method.quantized_var import QuantizedVAR
from fpqvar_lab.method.recipe import Recipe
from fpqvar_lab.method.report import Report, report
from fpqvar_lab.method.weight_only import pack_adaln
from fpqvar_lab.transforms import GroupHadamard
from fpqvar_lab.var import VAR, VQVAE, Block


def calibrate(
    var: VAR,
    vqvae: VQVAE,
    recipe: Recipe | str | Path,
    *,
    images: int = 100,
    tokens: int | None = 1024,
    seed: int = 0,
    batch_size: int = 50,
    spill: Path | None = None,
) -> Activations | None:
    """The inputs that a recipe needs to see, captured while the model samples; None if none.

    Args:
        var: the model to be quantized.
        vqvae: the VQVAE that the model was trained with.
        recipe: a recipe, the name of one, or a TOML file.
        images: number of images that are sampled, their labels spread over the classes.
        tokens: number of tokens kept for each layer and step, which bounds the memory; None keeps
            all of them.
        seed: seed of labels and sampling.
        batch_size: number of images sampled at a time.
        spill: a safetensors file to keep the inputs in, instead of memory.

    Raises:
        ValueError: the recipe does not exist or does not fit the model (`make_plan`).
    """
    plan = make_plan(var, recipe)
    examples = CalibrationSet(var.config.classes, images, seed)
    return _capture(var, vqvae, plan, examples, tokens, batch_size, spill)


def quantize_model(
    var: VAR,
    recipe: Recipe | str | Path,
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
        recipe: a recipe, the name of one, or a TOML file.
        calibration: inputs of layers from `calibrate`, where the recipe needs them.
        distillation_set: from `sample_distillation_set`, where the recipe distills.
        factors: positive factors (in_channels,) by layer name, to be used instead of learned ones.
        progress: whether to show a progress bar.

    Raises:
        ValueError: the recipe does not exist or does not fit the model (`make_plan`); calibration,
            distillation set or factors are missing or have another width.
    """
    plan = make_plan(var, recipe)
    return _quantize(var, plan, calibration, distillation_set, factors or {}, progress)


def calibrate_and_quantize(
    var: VAR,
    vqvae: VQVAE,
    recipe: Recipe | str | Path,
    *,
    images: int = 100,
    tokens: int | None = 1024,
    seed: int = 0,
    distillation_images: int = 6000,
    factors: Mapping[str, Tensor] | None = None,
    batch_size: int = 50,
    spill: Path | None = None,
    progress: bool = True,
) -> tuple[QuantizedVAR, Report]:
    """Everything a recipe asks for: `calibrate`, a distillation set, `quantize_model`.

    Args:
        var: the model to be quantized.
        vqvae: the VQVAE that the model was trained with.
        recipe: a recipe, the name of one, or a TOML file.
        images: number of images that calibration samples.
        tokens: number of tokens kept for each layer and step; None keeps all of them.
        seed: seed of the labels and the sampling of calibration.
        distillation_images: number of images sampled to distill on, from the next seed.
        factors: as for `quantize_model`; where they serve all layers, nothing is captured.
        batch_size: number of images that calibration samples at a time, which bounds the memory
            of large models.
        spill: a safetensors file to keep captured inputs in, instead of memory.
        progress: whether to show progress bars.

    Raises:
        ValueError: as `quantize_model`.
    """
    plan, given = make_plan(var, recipe), factors or {}
    seen, distillation_set = None, None
    if plan.needs_calibration(given):
        examples = CalibrationSet(var.config.classes, images, seed)
        seen = _capture(var, vqvae, plan, examples, tokens, batch_size, spill)
    if plan.recipe.distillation_steps:
        distillation_set = sample_distillation_set(var, vqvae, distillation_images, seed=seed + 1)
    return _quantize(var, plan, seen, distillation_set, given, progress)


def _capture(
    var: VAR,
    vqvae: VQVAE,
    plan: Plan,
    examples: CalibrationSet,
    tokens: int | None,
    batch_size: int,
    spill: Path | None,
) -> Activations | None:
    names = plan.captured()
    if not names:
        return None
    return capture(var, vqvae, examples, names, tokens=tokens, batch_size=batch_size, spill=spill)


def _quantize(
    var: VAR,
    plan: Plan,
    calibration: Calibration | None,
    distillation_set: DistillationSet | None,
    factors: Mapping[str, Tensor],
    progress: bool,
) -> tuple[QuantizedVAR, Report]:
    recipe, calibration = plan.recipe, calibration or {}
    plan.check(calibration, factors)
    _check_distillation(recipe, distillation_set)
    model = _sharing(var, recipe)
    rotation = _rotate_values(model) if recipe.rotate_values else None
    for layer in tqdm(plan.layers, desc=recipe.name, disable=not progress, leave=False):
        inputs = list(calibration.get(layer.name, ()))
        if rotation is not None and layer.rotated:
            inputs = [rotation(x) for x in inputs]
        try:
            quantize_layer(model, layer, inputs, factors.get(layer.name))
        except ValueError as error:
            raise ValueError(f"{recipe.name}, layer {layer.name}: {error}") from error
    if recipe.distillation_steps and distillation_set is not None:
        distill(model, var, distillation_set, steps=recipe.distillation_steps, progress=progress)
    if recipe.adaln is not None:
        pack_adaln(model, recipe.adaln)
    return model, report(model)


def _check_distillation(recipe: Recipe, distillation_set: DistillationSet | None) -> None:
    if recipe.distillation_steps and distillation_set is None:
        raise ValueError(
            f"{recipe.name} distills; pass distillation_set=sample_distillation_set(var, vqvae)"
        )


def _sharing(var: VAR, recipe: Recipe) -> QuantizedVAR:
    """A model with the original's tensors and modules of its own to hold them."""
    with torch.device("meta"):
        model = QuantizedVAR(var.config, recipe)
    model.load_state_dict(var.state_dict(), strict=True, assign=True)
    return model.eval().requires_grad_(False)


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
