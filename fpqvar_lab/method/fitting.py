"""One layer of a plan carried out: formats chosen, factors fitted and folded, the weight packed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import cast

import torch
from torch import Tensor, nn

from fpqvar_lab.method.format_search import choose_formats
from fpqvar_lab.method.gptq import input_moments, quantize_gptq
from fpqvar_lab.method.linear import QuantLinear, StepShift
from fpqvar_lab.method.plan import Fold, LayerPlan
from fpqvar_lab.method.quantized_var import QuantizedVAR
from fpqvar_lab.method.recipe import LayerRecipe
from fpqvar_lab.quantization import ABSMAX, QuantizedTensor
from fpqvar_lab.transforms import (
    GroupHadamard,
    QuantizedProduct,
    fit_scale,
    fit_smoothquant,
    fold_into_adaln,
    step_means,
)


def quantize_layer(
    model: QuantizedVAR, layer: LayerPlan, inputs: Sequence[Tensor], factors: Tensor | None = None
) -> None:
    """Put a quantized layer in the place of a linear one; its factors fold into AdaLN if they can.

    Args:
        model: the model, which is changed.
        layer: the plan's entry of the layer: what is to be done to it.
        inputs: captured inputs, a tensor (tokens, in_channels) for each step; empty where the layer
            needs none.
        factors: positive factors (in_channels,) to be used instead of learned ones.

    Raises:
        ValueError: inputs or factors do not have the layer's width.
    """
    linear = cast(nn.Linear, model.get_submodule(layer.name))
    rule = _with_chosen_formats(layer, linear, inputs)
    transform = layer.transform(linear.weight.device)
    shift = step_means(inputs, rule.shift)
    if shift is not None:
        inputs = [x.float() - mean for x, mean in zip(inputs, shift, strict=True)]
    scale = factors if layer.learns_factors else None
    if scale is None:
        scale = _fit(rule, transform, linear, inputs)
    if scale is not None and layer.fold is not None:
        _fold(model, layer.fold, scale)
    if scale is not None:
        scale = scale.to(linear.weight.device, torch.float32)
    packed = _pack(linear.weight, rule, transform, scale, inputs)
    quantized = QuantLinear(
        packed,
        linear.bias,
        rule.input,
        transform,
        scale=None if layer.fold is not None else scale,
        shift=None if shift is None else _fold_shift(shift, linear.weight, scale),
    )
    model.set_submodule(layer.name, quantized)


def _with_chosen_formats(
    layer: LayerPlan, linear: nn.Linear, inputs: Sequence[Tensor]
) -> LayerRecipe:
    rule = layer.rule
    if not layer.candidates:
        return rule
    pairs = list(product(layer.candidates, layer.candidates))
    weight = linear.weight.float().cpu()
    choice = choose_formats(
        inputs, weight, pairs, rule.input.granularity, weight_granularity=rule.weight.granularity
    )
    return replace(
        rule,
        weight=replace(rule.weight, format=choice.weight_format),
        input=replace(rule.input, format=choice.activation_format),
    )


def _fit(
    rule: LayerRecipe, transform: GroupHadamard | None, linear: nn.Linear, inputs: Sequence[Tensor]
) -> Tensor | None:
    if rule.scaling == "none":
        return None
    weight = replace(rule.weight, scale=ABSMAX)  # a search at every step would take hours
    if rule.scaling == "smoothquant":
        quantized = QuantizedProduct(rule.input, weight, transform)
        return fit_smoothquant(inputs, linear.weight, quantized).scale
    return fit_scale(
        inputs, linear.weight, transform, rule.input, weight_quantizer=weight, progress=False
    ).scale


def _fold(model: QuantizedVAR, fold: Fold, scale: Tensor) -> None:
    linear = cast(nn.Linear, model.get_submodule(fold.adaln))
    linear.weight = nn.Parameter(linear.weight.clone(), requires_grad=False)
    linear.bias = nn.Parameter(linear.bias.clone(), requires_grad=False)
    fold_into_adaln(linear, scale, scale_part=fold.scale_part, shift_part=fold.shift_part)


def _fold_shift(shift: Tensor, weight: Tensor, scale: Tensor | None) -> StepShift:
    """The shift of what reaches the quantizer, after the factors, and its product as biases."""
    shift = shift.to(weight.device)
    bias = (shift.double() @ weight.double().T).float()
    return StepShift(shift if scale is None else shift * scale, bias)


def _pack(
    weight: Tensor,
    rule: LayerRecipe,
    transform: GroupHadamard | None,
    scale: Tensor | None,
    inputs: Sequence[Tensor],
) -> QuantizedTensor:
    """The weight with factors and transform folded in, quantized."""
    folded = weight.double() if scale is None else weight.double() / scale.double()
    folded = (folded if transform is None else transform(folded)).to(weight.dtype)
    if not rule.gptq:
        return rule.weight.quantize(folded)
    product_ = QuantizedProduct(rule.input, transform=transform)
    multiplied = (product_.inputs(x.to(weight.device).float(), scale) for x in inputs)
    return quantize_gptq(folded, rule.weight, input_moments(multiplied))
