"""The best designs for a device: enumerated, pruned by bounds, simulated, and compared.

A design is worth something if no other one gives more images per second and more images per joule
at once. Every candidate first gets bounds on both (see `lower_bound`); only those whose bounds are
not already beaten are simulated. The quality belongs to the recipe, not to the design.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpqvar_lab.files import digest, write_text
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.pareto import covers, pareto_front
from fpqvar_lab.hardware.accelerator.point import Point, design_to_json, evaluate_design
from fpqvar_lab.hardware.accelerator.problem import Problem
from fpqvar_lab.hardware.accelerator.space import Candidate, Space, candidates
from fpqvar_lab.parallel import results

FORMAT = "fpqvar-lab exploration 1"


@dataclass
class Expectation:
    """What a candidate will probably give: its bound, times the best fraction that others like it
    reached of theirs.

    Designs with the same units around the arrays are alike. One unlike all so far is expected to
    reach its bound, so that each kind is tried early.

    Args:
        reached: The best fraction of the bound so far, by kind of design.
    """

    reached: dict[tuple[int, int, int], float] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> float:
        """The speed to expect, in images per second."""
        return candidate.images_per_second * self.reached.get(_kind(candidate), 1.0)

    def learn(self, candidate: Candidate, point: Point) -> None:
        """Take a simulation into account."""
        fraction = point.images_per_second / candidate.images_per_second
        self.reached[_kind(candidate)] = max(fraction, self.reached.get(_kind(candidate), 0.0))


def _kind(candidate: Candidate) -> tuple[int, int, int]:
    design = candidate.design
    return design.special_lanes, design.quantizer_lanes, design.weight_buffer_bytes


@dataclass(frozen=True)
class DesignTask:
    """One design to simulate, in this process or another (`parallel.results`).

    Args:
        design: The design.
        problem: The work that the design is to do, and the device it has to fit.
    """

    design: Design
    problem: Problem

    @property
    def name(self) -> str:
        """A name that no other design for the same problem has."""
        return digest(design_to_json(self.design))[:16]

    @property
    def count(self) -> int:
        """How many designs the task simulates."""
        return 1

    def run(self) -> Point:
        """Simulate the design."""
        return evaluate_design(self.design, self.problem)[0]


@dataclass
class Exploration:
    """A search, which can be interrupted and goes on from its file.

    Args:
        problem: The work that designs are to do, and the device they have to fit.
        points: The designs simulated so far.
        fitting: How many designs fit.
        pruned: How many of these were not simulated, because their bounds are beaten.
        left: How many were not simulated because of the limit.
    """

    problem: Problem
    points: list[Point] = field(default_factory=list)
    fitting: int = 0
    pruned: int = 0
    left: int = 0

    @property
    def pareto_front(self) -> list[Point]:
        """The designs that no other one beats."""
        return pareto_front(self.points)

    def to_json(self) -> dict[str, Any]:
        """The whole search as JSON can hold it."""
        return {
            "format": FORMAT,
            "problem": self.problem.head,
            "fitting": self.fitting,
            "pruned": self.pruned,
            "left": self.left,
            "points": [point.to_json() for point in self.points],
        }

    def write(self, file: Path) -> None:
        """Replace the file by what is known now."""
        write_text(file, json.dumps(self.to_json(), indent=1) + "\n")

    def read(self, file: Path) -> None:
        """Take over the points of an earlier run.

        Raises:
            ValueError: the file holds something else, or the points of another problem.
        """
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"{file}: no exploration of fpqvar-lab explore")
        if content["problem"] != self.problem.head:
            raise ValueError(f"{file}: its points are of another problem; choose another --out")
        self.points = [Point.from_json(point) for point in content["points"]]


def explore(
    space: Space,
    exploration: Exploration,
    *,
    client: Any = None,
    limit: int = 200,
    at_once: int = 4,
    progress: Callable[[Exploration, int], None] = lambda *_: None,
) -> Exploration:
    """Simulate the designs of a space that may be among the best.

    Args:
        space: The designs to choose from.
        exploration: What is asked and known; what is found is added to it.
        client: A `distributed.Client`, or None to simulate here.
        limit: How many designs to simulate at most; those that are expected to be the fastest
            come first.
        at_once: How many designs are given away before the bounds are compared again.
        progress: Called after each round with the exploration and how many designs are waiting.
    """
    known = {point.design: point for point in exploration.points}
    waiting, expected = candidates(space, exploration.problem), Expectation()
    exploration.fitting = len(waiting)
    for candidate in waiting:
        if candidate.design in known:
            expected.learn(candidate, known[candidate.design])
    waiting = [candidate for candidate in waiting if candidate.design not in known]
    while waiting and limit > 0:
        hopeful = [c for c in waiting if not _is_beaten(c, exploration.points)]
        exploration.pruned += len(waiting) - len(hopeful)
        hopeful.sort(key=expected.of, reverse=True)
        chosen, waiting = hopeful[: min(at_once, limit)], hopeful[min(at_once, limit) :]
        designs = [candidate.design for candidate in chosen]
        found = _simulated(designs, exploration.problem, client)
        exploration.points += found
        for candidate, point in zip(chosen, found, strict=True):
            expected.learn(candidate, point)
        limit -= len(chosen)
        progress(exploration, len(waiting))
    exploration.left = len(waiting)
    return exploration


def _simulated(designs: Sequence[Design], problem: Problem, client: Any) -> list[Point]:
    tasks = [DesignTask(design, problem) for design in designs]
    found = {task.name: point for task, point in results(tasks, client)}
    return [found[task.name] for task in tasks]


def _is_beaten(candidate: Candidate, points: Sequence[Point]) -> bool:
    bound = (candidate.images_per_second, candidate.images_per_joule)
    return any(covers(point.objectives[:2], bound) for point in points)
