"""A design as simulated: its speed, energy, cells and quality, and how a file holds it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from fpqvar_lab import data
from fpqvar_lab.evaluation import read_results
from fpqvar_lab.formats import format_from_text
from fpqvar_lab.hardware.accelerator.cost import resources
from fpqvar_lab.hardware.accelerator.design import Design, OperandFormats
from fpqvar_lab.hardware.accelerator.energy import energy
from fpqvar_lab.hardware.accelerator.format_key import format_key
from fpqvar_lab.hardware.accelerator.interval import Interval
from fpqvar_lab.hardware.accelerator.pipeline import Run, simulate
from fpqvar_lab.hardware.accelerator.problem import Problem


@dataclass(frozen=True)
class Point:
    """A design as simulated.

    Args:
        design: The design that was simulated.
        recipe: The name of the recipe.
        images_per_second: The simulated speed.
        joules_per_image: The interval in which the energy per image lies.
        middle: Joules per image with every price in the middle of its range.
        fractions: The fraction of the device's cells that is used, by kind.
        busy: The fraction of all cycles in which each unit works.
        divergence: KL of the recipe on the model `mini-outlier`, in nats per token; None if it was
            not measured.
    """

    design: Design
    recipe: str
    images_per_second: float
    joules_per_image: Interval
    middle: float
    fractions: Mapping[str, float]
    busy: Mapping[str, float]
    divergence: float | None

    @property
    def objectives(self) -> tuple[float, float, float]:
        """Images per second, images per joule, and minus the divergence; larger is better."""
        divergence = float("inf") if self.divergence is None else self.divergence
        return self.images_per_second, 1 / self.middle, -divergence

    def to_json(self) -> dict[str, Any]:
        """The point as JSON can hold it, with formats as text and fractions as "shares"."""
        return {
            "design": design_to_json(self.design),
            "recipe": self.recipe,
            "images_per_second": self.images_per_second,
            "joules_per_image": asdict(self.joules_per_image),
            "middle": self.middle,
            "shares": dict(self.fractions),
            "busy": dict(self.busy),
            "divergence": self.divergence,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Point":
        """The point that `to_json` wrote."""
        return Point(
            design_from_json(content["design"]),
            content["recipe"],
            content["images_per_second"],
            Interval(**content["joules_per_image"]),
            content["middle"],
            content["shares"],
            content["busy"],
            content["divergence"],
        )


def design_to_json(design: Design) -> dict[str, Any]:
    """A design as JSON can hold it."""
    content = {field.name: getattr(design, field.name) for field in fields(design)}
    return content | {"formats": [format_key(fmt) for fmt in design.formats]}


def design_from_json(content: Mapping[str, Any]) -> Design:
    """The design that `design_to_json` wrote."""
    formats = OperandFormats(*map(format_from_text, content["formats"]))
    return Design(**{**content, "formats": formats})


def evaluate_design(design: Design, problem: Problem, *, record: bool = False) -> tuple[Point, Run]:
    """Simulate a design, and say what it gives and costs."""
    run = simulate(problem.ops, design, memory_bytes_per_s=problem.rate, record=record)
    joules = energy(design, run, problem.board) * (1 / problem.batch)
    point = Point(
        design,
        problem.recipe.name,
        problem.batch / run.seconds,
        joules.interval,
        joules.middle,
        resources(design).fractions(problem.board),
        {str(unit): cycles / run.cycles for unit, cycles in run.busy.items()},
        divergence(problem.recipe.name),
    )
    return point, run


def divergence(recipe: str) -> float | None:
    """KL of a recipe from the original on `mini-outlier`, from the committed scores.

    It is the small model's: it ranks recipes, and says nothing of VAR-d30 in numbers.
    """
    rows = read_results(data.path("results/mini-outlier.json"))["rows"]
    found = rows.get(recipe, {}).get("kl")
    return None if found is None else float(found["value"])
