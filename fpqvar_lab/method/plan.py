"""A recipe resolved for one model: what is to be done with each of its linear layers.

Everything that quantization looks up by a layer's name is looked up here, once: the rule, the size
of the Hadamard transform, the layer into which learned factors fold, and what must be captured.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from fpqvar_lab.formats import Format
from fpqvar_lab.method.recipe import LayerRecipe, Recipe
from fpqvar_lab.method.recipes import find_recipe
from fpqvar_lab.transforms import GroupHadamard, random_signs
from fpqvar_lab.var import VAR

Calibration = Mapping[str, Sequence[Tensor]]
"""Inputs of layers by name, a tensor (tokens, channels) for each step, as `capture` gives them."""

_ADALN_PARTS = {"attn.mat_qkv": (2, 4), "ffn.fc1": (3, 5)}


@dataclass(frozen=True)
class Fold:
    """The layer before a quantized one, into which the factors of the latter are folded.

    Args:
        adaln: name of the linear layer of the block's own AdaLN, whose output has six parts.
        scale_part: index of the part that scales the quantized layer's input.
        shift_part: index of the part that shifts it.
    """

    adaln: str
    scale_part: int
    shift_part: int


@dataclass(frozen=True)
class LayerPlan:
    """What is to be done with one linear layer of a model.

    Args:
        name: the layer's name in the model.
        rule: how the layer is computed.
        hadamard: group size of the Hadamard transform of its input channels; None for none.
        sign_seed: seed of that transform's random signs.
        fold: where factors fold; None where they stay with the layer, as under a shared AdaLN.
        candidates: formats of which weight and input get the best pair; empty for the rule's own.
        rotated: whether its inputs are the values of attention and these are rotated, by a matrix
            that captured inputs do not have yet.
    """

    name: str
    rule: LayerRecipe
    hadamard: int | None = None
    sign_seed: int = 0
    fold: Fold | None = None
    candidates: tuple[Format, ...] = ()
    rotated: bool = False

    @property
    def learns_factors(self) -> bool:
        """Whether factors for the input channels are learned, unless they are given."""
        return self.rule.scaling != "none"

    def needs_inputs(self, *, has_factors: bool = False) -> bool:
        """Whether captured inputs of the layer are needed.

        Args:
            has_factors: whether its factors are given.
        """
        if self.candidates or self.rule.gptq or self.rule.shift != "none":
            return True
        return self.learns_factors and not has_factors

    def transform(self, device: torch.device) -> GroupHadamard | None:
        """The layer's Hadamard transform as a new module, with the signs of the recipe's seed."""
        if self.hadamard is None:
            return None
        generator = torch.Generator().manual_seed(self.sign_seed)
        return GroupHadamard(self.hadamard, random_signs(self.hadamard, generator)).to(device)


@dataclass(frozen=True)
class Plan:
    """A recipe resolved for a model, from `make_plan`.

    Args:
        recipe: the recipe.
        layers: an entry for each layer that is quantized, in the model's order.
    """

    recipe: Recipe
    layers: tuple[LayerPlan, ...]

    def captured(self) -> list[str]:
        """Names of the layers whose inputs calibration captures, where nothing is given."""
        return [layer.name for layer in self.layers if layer.needs_inputs()]

    def needs_calibration(self, factors: Collection[str] = ()) -> bool:
        """Whether any layer needs captured inputs when the layers in `factors` have theirs."""
        return any(layer.needs_inputs(has_factors=layer.name in factors) for layer in self.layers)

    def check(self, calibration: Collection[str], factors: Collection[str]) -> None:
        """Whether all that the layers need is there.

        Args:
            calibration: names of the layers whose inputs were captured.
            factors: names of the layers whose factors are given.

        Raises:
            ValueError: factors are for a layer that is not quantized, or inputs are missing.
        """
        recipe, names = self.recipe.name, [layer.name for layer in self.layers]
        for name in set(factors) - set(names):
            raise ValueError(f"factors for {name}; {recipe} quantizes {', '.join(names)}")
        for layer in self.layers:
            needed = layer.needs_inputs(has_factors=layer.name in factors)
            if needed and layer.name not in calibration:
                raise ValueError(
                    f"{recipe} needs the inputs of {layer.name}; pass "
                    f"calibration=calibrate(var, vqvae, {recipe!r})"
                )


def make_plan(var: VAR, recipe: Recipe | str | Path) -> Plan:
    """What a recipe means for the layers of a model, whose weights are not looked at.

    Args:
        var: the model, which may be without memory (on the "meta" device).
        recipe: a recipe, the name of one, or a TOML file.

    Raises:
        ValueError: there is no such recipe, one of its patterns matches no linear layer, or a group
            does not divide a layer's channels.
    """
    recipe = find_recipe(recipe)
    linear = {name: m for name, m in var.named_modules() if isinstance(m, nn.Linear)}
    _check_patterns(recipe, linear)
    rules = {name: recipe.rule_for(name) for name in linear}
    layers = (
        _layer_plan(var, recipe, name, rule, linear[name])
        for name, rule in rules.items()
        if rule is not None
    )
    return Plan(recipe, tuple(layers))


def _check_patterns(recipe: Recipe, names: Collection[str]) -> None:
    for pattern, _ in recipe.layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"{recipe.name}: pattern {pattern!r} matches no linear layer; there are "
                f"{', '.join(names)}"
            )


def _layer_plan(
    var: VAR, recipe: Recipe, name: str, rule: LayerRecipe, linear: nn.Linear
) -> LayerPlan:
    group = linear.in_features if rule.hadamard == "full" else rule.hadamard
    plan = LayerPlan(
        name,
        rule,
        hadamard=group,
        sign_seed=recipe.sign_seed,
        fold=_fold(var, name),
        candidates=recipe.candidates,
        rotated=recipe.rotate_values and name.endswith("attn.proj"),
    )
    try:
        _check_groups(plan, linear)
    except ValueError as error:
        raise ValueError(f"{recipe.name}, layer {name}: {error}") from error
    return plan


def _check_groups(plan: LayerPlan, linear: nn.Linear) -> None:
    channels = linear.in_features
    plan.rule.weight.granularity.scale_shape((linear.out_features, channels))
    plan.rule.input.granularity.scale_shape((1, channels))
    if plan.hadamard is not None and channels % plan.hadamard:
        raise ValueError(f"group {plan.hadamard} does not divide {channels} channels")


def _fold(var: VAR, name: str) -> Fold | None:
    """Where the factors of a layer fold, for names such as `blocks.0.ffn.fc1`."""
    block, _, layer = name.removeprefix("blocks.").partition(".")
    if var.config.shared_aln or layer not in _ADALN_PARTS:
        return None
    return Fold(f"blocks.{block}.ada_lin.linear", *_ADALN_PARTS[layer])
