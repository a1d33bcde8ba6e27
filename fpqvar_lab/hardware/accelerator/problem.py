"""What is asked of a design: a model and a recipe to sample with, a batch, and a device."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

from fpqvar_lab.hardware.accelerator.design import Design, OperandFormats
from fpqvar_lab.hardware.accelerator.device import FPGA, URAM_BITS, find_fpga
from fpqvar_lab.hardware.accelerator.feasibility import activation_bytes_needed
from fpqvar_lab.hardware.accelerator.format_key import format_key
from fpqvar_lab.hardware.accelerator.operation import Op
from fpqvar_lab.hardware.accelerator.storage import with_bfloat16_scales
from fpqvar_lab.hardware.accelerator.workload import workload
from fpqvar_lab.method import Recipe, find_recipe, recipe_digest
from fpqvar_lab.var import VARConfig

EFFICIENCY = 0.8
"""The fraction of the memory's peak bandwidth that long bursts get; assumed."""


@dataclass(frozen=True)
class Problem:
    """What is to be sampled, and on what.

    Args:
        model: The name of a preset of `VARConfig`.
        recipe: The recipe that says what is quantized, and how.
        device: The name of an FPGA in `device.DEVICES`.
        batch: How many images are sampled together.
        clock_hz: The clock of the design; an assumption, for nothing here has been placed and
            routed.
        efficiency: The fraction of the external memory's peak bandwidth that can be used.
        max_fraction: The fraction of each kind of cell that may be used.
    """

    model: str
    recipe: Recipe
    device: str = "vck190"
    batch: int = 1
    clock_hz: float = 300e6
    efficiency: float = EFFICIENCY
    max_fraction: float = 0.9

    @cached_property
    def board(self) -> FPGA:
        """The device itself."""
        return find_fpga(self.device)

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """The operations, with scales in bfloat16 and without the VQVAE."""
        config = VARConfig.preset(self.model)
        return workload(config, with_bfloat16_scales(self.recipe), batch=self.batch)

    @cached_property
    def rate(self) -> float:
        """Bytes per second from the external memory."""
        return self.board.sustained(self.efficiency)

    @cached_property
    def base(self) -> Design:
        """A design for the recipe, with an activation buffer as large as the work needs."""
        needed = activation_bytes_needed(self.ops)
        block = URAM_BITS // 8
        return Design(
            # The largest tile that takes any format.
            rows=8,
            lanes=8,
            attention_macs=1280,  # which leaves a VCK190 multipliers for the rest
            formats=formats_of(self.recipe),
            clock_hz=self.clock_hz,
            activation_buffer_bytes=block * ceil(needed / block),
        )

    @property
    def head(self) -> dict[str, Any]:
        """What an exploration's results depend on, besides the code."""
        return {
            "model": self.model,
            "recipe": self.recipe.name,
            "recipe_sha256": recipe_digest(self.recipe),
            "device": self.device,
            "batch": self.batch,
            "clock_hz": self.clock_hz,
            "efficiency": self.efficiency,
            "share": self.max_fraction,
        }


def formats_of(recipe: Recipe) -> OperandFormats:
    """What a design for this recipe multiplies.

    Raises:
        ValueError: the recipe leaves one of the layers in 16 bits, or has several formats for
            weights or for the inputs of the first three layers.
    """
    layers = ("attn.mat_qkv", "attn.proj", "ffn.fc1", "ffn.fc2")
    rules = [recipe.rule_for(f"blocks.0.{layer}") for layer in layers]
    found = [rule for rule in rules if rule is not None]
    if recipe.candidates or len(found) < len(layers):
        raise ValueError(
            f"recipe {recipe.name!r}: a matrix unit needs one format for each of the four layers"
        )
    inputs = [rule.input.format for rule in found]
    weights = {rule.weight.format for rule in found}
    if len(set(inputs[:3])) > 1 or len(weights) > 1:
        several = ", ".join(sorted(map(format_key, {*inputs[:3], *weights})))
        raise ValueError(f"recipe {recipe.name!r} mixes {several} in layers of one matrix unit")
    return OperandFormats(inputs[0], weights.pop(), inputs[3])


def problem_of(
    model: str, recipe: str, device: str = "vck190", batch: int = 1, **options: float
) -> Problem:
    """A problem by names.

    Raises:
        ValueError: for a name or number that cannot be.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    VARConfig.preset(model)
    find_fpga(device)
    return Problem(model, find_recipe(recipe), device, batch, **options)
