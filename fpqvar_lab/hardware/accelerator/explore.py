"""The best designs for a device: enumerated, pruned by bounds, simulated, and compared.

A design is worth something if no other one gives more images a second and more images a joule at
once. Every candidate first gets bounds on both that no schedule can beat; only those whose bounds
are not already beaten are simulated. The quality belongs to the recipe, not to the design.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from fpqvar_lab.files import digest, write_text
from fpqvar_lab.formats import DualFormat, by_name
from fpqvar_lab.hardware.accelerator.cost import resources
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.device import FPGA
from fpqvar_lab.hardware.accelerator.energy import energy
from fpqvar_lab.hardware.accelerator.lower_bound import Load, least
from fpqvar_lab.hardware.accelerator.point import Point, _covers, evaluate_design, pareto_front
from fpqvar_lab.hardware.accelerator.problem import Problem
from fpqvar_lab.parallel import Tensors, results

FORMAT = "fpqvar-lab exploration 1"


@dataclass(frozen=True)
class Space:
    """The designs to choose from: all combinations.

    How many arrays share the columns is no choice here: neither time nor cells depend on it.

    Args:
        tiles: (rows, lanes) of a matrix array; 128 together, with which a column's scale unit just
            keeps up. Where each place has two totals (a dual format with free scales), half the
            rows.
        columns: of all matrix arrays together.
        attention_macs: see `Design`.
        hadamard_lanes: see `Design`.
        quantizer_lanes: see `Design`.
        special_lanes: see `Design`.
        weight_buffers: bytes; designs whose buffer does not hold two tiles' weights are left out.
    """

    tiles: tuple[tuple[int, int], ...] = ((8, 16), (16, 8), (32, 4))
    columns: tuple[int, ...] = (*range(8, 128, 16), *range(128, 288, 8))
    attention_macs: tuple[int, ...] = (128, 256, 512, 768, 1024, 1280, 1536)
    hadamard_lanes: tuple[int, ...] = (16, 32)
    quantizer_lanes: tuple[int, ...] = (8, 16, 32, 64)
    special_lanes: tuple[int, ...] = (8, 16, 32, 64)
    weight_buffers: tuple[int, ...] = (2**19, 2**20, 2**21, 3 * 2**20)

    def designs(self, base: Design) -> Iterator[Design]:
        """All designs that differ from `base` in these respects only, and can be built."""
        fc2_input = by_name(base.formats[2])
        is_free = isinstance(fc2_input, DualFormat) and fc2_input.scale_ratio == "free"
        for values in product(*(getattr(self, f.name) for f in fields(self))):
            (rows, lanes), columns, attention, hadamard, quantizer, special, weights = values
            try:
                yield replace(
                    base,
                    rows=rows // 2 if is_free else rows,
                    lanes=lanes,
                    columns=columns,
                    attention_macs=attention,
                    hadamard_lanes=hadamard,
                    quantizer_lanes=quantizer,
                    special_lanes=special,
                    weight_buffer_bytes=weights,
                )
            except ValueError:
                continue


SMALL_BOARD = Space(
    columns=tuple(range(2, 34, 2)),
    attention_macs=(32, 64, 128, 256, 512),
    weight_buffers=(2**16, 2**17, 2**18),
)
"""The designs to choose from for a board with a tenth of the VCK190's cells."""


def space_for(device: FPGA) -> Space:
    """The designs to choose from for a device."""
    return SMALL_BOARD if device.lut.value < 300_000 else Space()


@dataclass(frozen=True)
class Candidate:
    """A design that fits, and what it can give at best.

    Args:
        design: what is built.
        images_per_second: at most.
        images_per_joule: at most, with every price in the middle of its range.
    """

    design: Design
    images_per_second: float
    images_per_joule: float


def candidates(space: Space, problem: Problem) -> list[Candidate]:
    """The designs of a space that fit the device, best bound first."""
    load = Load(problem.ops)
    found = []
    for design in space.designs(problem.base):
        # One tile's columns are in use while those of the next arrive.
        holds = design.weight_buffer_bytes > 2 * load.column_bytes * design.tile_columns
        if not holds or not resources(design).fit(problem.board, problem.max_fraction):
            continue
        bound = least(load, design, problem.rate)
        joules = energy(design, bound, problem.board).middle
        found.append(Candidate(design, problem.batch / bound.seconds, problem.batch / joules))
    return sorted(found, key=lambda c: (-c.images_per_second, -c.images_per_joule))


# Simulation


@dataclass
class Expectation:
    """What a candidate will probably give: its bound, less what was missing for others like it.

    Alike are designs with the same units around the arrays. One unlike all so far is expected to
    reach its bound, so that each kind is tried early.
    """

    reached: dict[tuple[int, int, int], float] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> float:
        """Images a second."""
        return candidate.images_per_second * self.reached.get(_kind(candidate), 1.0)

    def learn(self, candidate: Candidate, point: "Point") -> None:
        """Take a simulation into account."""
        fraction = point.images_per_second / candidate.images_per_second
        self.reached[_kind(candidate)] = max(fraction, self.reached.get(_kind(candidate), 0.0))


def _kind(candidate: Candidate) -> tuple[int, int, int]:
    design = candidate.design
    return design.special_lanes, design.quantizer_lanes, design.weight_buffer_bytes


@dataclass(frozen=True)
class DesignTask:
    """One design to simulate, wherever there is time for it (`cluster.results`)."""

    design: Design
    problem: Problem

    @property
    def name(self) -> str:
        """Unique among designs for the same problem."""
        return digest(asdict(self.design))[:16]

    @property
    def count(self) -> int:
        """Designs."""
        return 1

    def run(self) -> Tensors:
        """The point, as text in a tensor of bytes."""
        point, _ = evaluate_design(self.design, self.problem)
        return {
            "point": torch.tensor(list(json.dumps(point.to_json()).encode()), dtype=torch.uint8)
        }


def _point_of(result: Tensors) -> Point:
    return Point.from_json(json.loads(bytes(result["point"].tolist())))


@dataclass
class Exploration:
    """A search, which can be interrupted and goes on from its file.

    Args:
        problem: what is asked.
        points: designs simulated so far.
        fitting: how many designs fit.
        pruned: how many of these were not simulated, because their bounds are beaten.
        left: how many were not simulated because of the limit.
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
        """All of it."""
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
        space: to choose from.
        exploration: what is asked and known; it is added to.
        client: a `distributed.Client`, or None to simulate here.
        limit: of designs to simulate, those first that are expected to be the fastest.
        at_once: designs given away before the bounds are looked at again.
        progress: called after each round with the exploration and how many designs are waiting.
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
        tasks = [DesignTask(candidate.design, exploration.problem) for candidate in chosen]
        found = {task.name: result for task, result in results(tasks, client)}
        for candidate, task in zip(chosen, tasks, strict=True):
            exploration.points.append(_point_of(found[task.name]))
            expected.learn(candidate, exploration.points[-1])
        limit -= len(chosen)
        progress(exploration, len(waiting))
    exploration.left = len(waiting)
    return exploration


def _is_beaten(candidate: Candidate, points: Sequence[Point]) -> bool:
    bound = (candidate.images_per_second, candidate.images_per_joule)
    return any(_covers(point.objectives[:2], bound) for point in points)
