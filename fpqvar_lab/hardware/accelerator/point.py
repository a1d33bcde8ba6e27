"""NEW."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fpqvar_lab import data
from fpqvar_lab.evaluation import read_results
from fpqvar_lab.hardware.accelerator.cost import resources
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.energy import energy
from fpqvar_lab.hardware.accelerator.interval import Interval
from fpqvar_lab.hardware.accelerator.pipeline import Run, simulate
from fpqvar_lab.hardware.accelerator.problem import Problem


@dataclass(frozen=True)
class Point:
    """A design as simulated.

    Args:
        design: what is built.
        recipe: its name.
        images_per_second: simulated.
        joules_per_image: where it lies.
        middle: joules an image with every price in the middle of its range.
        fractions: of the device's cells, by kind.
        busy: the fraction of all cycles in which each unit works.
        divergence: of the recipe on the model `mini-outlier`, nats a token; None if not measured.
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
        """Images a second, images a joule, minus the divergence; larger is better in each."""
        divergence = float("inf") if self.divergence is None else self.divergence
        return self.images_per_second, 1 / self.middle, -divergence

    def to_json(self) -> dict[str, Any]:
        """The point as JSON can hold it."""
        content = asdict(self)
        content["shares"] = content.pop("fractions")
        return content

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Point":
        """The point that `to_json` wrote."""
        values = {**content, "fractions": content["shares"]}
        del values["shares"]
        design = values.pop("design") | {"formats": tuple(content["design"]["formats"])}
        joules = Interval(**values.pop("joules_per_image"))
        return Point(design=Design(**design), joules_per_image=joules, **values)


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


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats or equals in all objectives; equals are kept once."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: p.objectives, reverse=True):
        if not any(_covers(other.objectives, point.objectives) for other in found):
            found.append(point)
    return found


def _covers(objectives: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(objectives, others, strict=True))
