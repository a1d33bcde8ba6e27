"""Integer accelerators to compare with: the same design, with other arrays.

FPQVAR's abstract (arXiv 2505.16335) reports 3.1 times the speed of an integer-based accelerator,
and does not describe that. Those here are the ways in which an FPGA multiplies integers.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from fpqvar_lab.formats import INT4, INT6, INT8
from fpqvar_lab.hardware.accelerator.cost import DSPMultipliers, matrix, resources
from fpqvar_lab.hardware.accelerator.design import Design, OperandFormats
from fpqvar_lab.hardware.accelerator.device import VCK190
from fpqvar_lab.hardware.accelerator.energy import energy
from fpqvar_lab.hardware.accelerator.interval import ratio
from fpqvar_lab.hardware.accelerator.pipeline import simulate
from fpqvar_lab.hardware.accelerator.point import Point
from fpqvar_lab.hardware.accelerator.problem import problem_of
from fpqvar_lab.method import Recipe, find_recipe, uniform_recipe

RECIPE = "fp4-fpqvar-pow2"
"""The recipe of the FP4 designs that the baselines are compared with."""

INT8_RECIPE = uniform_recipe("int8", "integers of 8 bits, an output channel and a token each", INT8)


@dataclass(frozen=True)
class Baseline:
    """An integer accelerator of which only the arrays differ.

    Args:
        name: The name for people.
        recipe: The recipe that says what is quantized, and how.
        clock_hz: The clock of both designs that are compared.
        products: How many products one DSP computes per cycle; 0 for multipliers in LUTs.
        columns: The columns of the arrays; None for as many as take the LUTs of the other design's
            arrays.
    """

    name: str
    recipe: Recipe
    clock_hz: float
    products: int = 0
    columns: int | None = None


BASELINES = (
    Baseline("INT8 in DSPs, one product each", INT8_RECIPE, 400e6, 1, 12),
    Baseline("INT8 in DSPs, two products each", INT8_RECIPE, 300e6, 2, 24),
    Baseline("INT8 in DSP58s' dot products", INT8_RECIPE, 400e6, 3, 32),
    Baseline("INT8 in LUTs", INT8_RECIPE, 400e6),
    Baseline("INT6 in LUTs", find_recipe("int6-rtn"), 400e6),
    Baseline("INT4 in LUTs", find_recipe("int4-quarot"), 400e6),
)
"""The input of fc2 has symmetric integers in all of them, for the table has no unit for others."""


def baseline_design(baseline: Baseline, other: Design) -> Design:
    """The baseline beside a design that it is compared with."""
    fmt = {8: INT8, 6: INT6, 4: INT4}[baseline.recipe.layers[0][1].weight.format.bits]
    base = replace(other, formats=OperandFormats(fmt, fmt, fmt), quantizer_lanes=1024)
    if baseline.products:
        assert baseline.columns is not None
        # DSPs are short: attention and special functions get what the arrays leave.
        return replace(base, columns=baseline.columns, attention_macs=256, special_lanes=16)
    room = matrix(other).lut
    columns = max(c for c in range(1, 512) if matrix(replace(base, columns=c)).lut <= room)
    return replace(base, columns=columns)


def symmetric(recipe: Recipe) -> Recipe:
    """The recipe with the first layer's formats everywhere."""
    first = recipe.layers[0][1]
    rules = tuple(
        (pattern, replace(rule, weight=first.weight, input=first.input, hadamard=None))
        for pattern, rule in recipe.layers
    )
    return replace(recipe, layers=rules)


def compare(baseline: Baseline, other: Point) -> dict[str, Any]:
    """A baseline beside a point of the same clock: ratios of speed and of energy per image."""
    ours = replace(problem_of("d30", RECIPE), clock_hz=baseline.clock_hz)
    theirs = replace(ours, recipe=symmetric(baseline.recipe))
    design = replace(
        baseline_design(baseline, other.design),
        activation_buffer_bytes=theirs.base.activation_buffer_bytes,
    )
    multipliers = DSPMultipliers(baseline.products) if baseline.products else None
    run = simulate(theirs.ops, design, memory_bytes_per_s=theirs.rate)
    mine = simulate(ours.ops, other.design, memory_bytes_per_s=ours.rate)
    # Integer quantizers are taken to be as large as those beside them, and never to hold up.
    built = replace(design, quantizer_lanes=other.design.quantizer_lanes)
    energies = energy(built, run, VCK190, multipliers), energy(other.design, mine, VCK190)
    taken = resources(built, multipliers)
    return {
        "name": baseline.name,
        "clock_hz": baseline.clock_hz,
        "macs_per_cycle": design.macs_per_cycle,
        "images_per_second": 1 / run.seconds,
        "ratio": run.seconds / mine.seconds,
        "energy_ratio": asdict(ratio(*energies)),
        "joules_per_image": asdict(energies[0].interval),
        "shares": taken.fractions(VCK190),
        "bytes": run.bytes_read + run.bytes_written,
    }
