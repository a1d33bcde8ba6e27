"""The best designs for a device: enumerated, pruned by bounds, simulated, and compared.

A design is worth something if no other one gives more images a second and more images a joule at
once. Every candidate first gets bounds on both that no schedule can beat; only those whose bounds
are not already beaten are simulated. The quality belongs to the recipe, not to the design.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import torch

from fpqvar_lab import data
from fpqvar_lab.cluster import results
from fpqvar_lab.formats import DualFormat, by_name
from fpqvar_lab.hardware.bound import Load, least
from fpqvar_lab.hardware.cost import resources
from fpqvar_lab.hardware.design import Design
from fpqvar_lab.hardware.device import FPGA, URAM_BITS, find_fpga
from fpqvar_lab.hardware.energy import energy
from fpqvar_lab.hardware.feasibility import activation_bytes_needed
from fpqvar_lab.hardware.interval import Interval
from fpqvar_lab.hardware.pipeline import Run, simulate
from fpqvar_lab.hardware.workload import Work, with_bfloat16_scales, workload
from fpqvar_lab.recipe import Recipe, find_recipe
from fpqvar_lab.results import digest, read_results, recipe_digest
from fpqvar_lab.shards import Result
from fpqvar_lab.spelling import spell_format
from fpqvar_lab.var import VARConfig

FORMAT = "fpqvar-lab exploration 1"
EFFICIENCY = 0.8
"""Of the memory's peak bandwidth, in long bursts; assumed."""


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
class Problem:
    """What is to be drawn, and on what.

    Args:
        model: a preset of `VARConfig`.
        recipe: what is quantized.
        device: a name in `device.DEVICES`.
        batch: images sampled together.
        clock_hz: of the design; an assumption, for nothing here has been placed and routed.
        efficiency: of the external memory.
        share: of each kind of cell that may be used.
    """

    model: str
    recipe: Recipe
    device: str = "vck190"
    batch: int = 1
    clock_hz: float = 300e6
    efficiency: float = EFFICIENCY
    share: float = 0.9

    @cached_property
    def board(self) -> FPGA:
        """The device itself."""
        return find_fpga(self.device)

    @cached_property
    def work(self) -> tuple[Work, ...]:
        """The operations, with scales in bfloat16 and without the VQVAE."""
        config = VARConfig.preset(self.model)
        return workload(config, with_bfloat16_scales(self.recipe), batch=self.batch)

    @cached_property
    def rate(self) -> float:
        """Bytes a second from the external memory."""
        return self.board.sustained(self.efficiency)

    @cached_property
    def base(self) -> Design:
        """A design for the recipe, with an activation buffer as large as the work needs."""
        needed = activation_bytes_needed(self.work)
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
            "share": self.share,
        }


def formats_of(recipe: Recipe) -> tuple[str, str, str]:
    """What a design for this recipe multiplies: activations, weights, and fc2's input.

    Raises:
        ValueError: the recipe leaves one of the layers in 16 bits, or has several formats for
            weights or for the inputs of the first three layers.
    """
    layers = ("attn.mat_qkv", "attn.proj", "ffn.fc1", "ffn.fc2")
    rules = [recipe.rule_for(f"blocks.0.{layer}") for layer in layers]
    if recipe.candidates or any(rule is None for rule in rules):
        raise ValueError(
            f"recipe {recipe.name!r}: a matrix unit needs one format for each of the four layers"
        )
    found = [rule for rule in rules if rule is not None]
    inputs = [spell_format(rule.input.format).lower().replace("_", "-") for rule in found]
    weights = {spell_format(rule.weight.format).lower().replace("_", "-") for rule in found}
    if len(set(inputs[:3])) > 1 or len(weights) > 1:
        several = ", ".join(sorted({*inputs[:3], *weights}))
        raise ValueError(f"recipe {recipe.name!r} mixes {several} in layers of one matrix unit")
    return inputs[0], weights.pop(), inputs[3]


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
    load = Load(problem.work)
    found = []
    for design in space.designs(problem.base):
        # One tile's columns are in use while those of the next arrive.
        holds = design.weight_buffer_bytes > 2 * load.column_bytes * design.tile_columns
        if not holds or not resources(design).fit(problem.board, problem.share):
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
        share = point.images_per_second / candidate.images_per_second
        self.reached[_kind(candidate)] = max(share, self.reached.get(_kind(candidate), 0.0))


def _kind(candidate: Candidate) -> tuple[int, int, int]:
    design = candidate.design
    return design.special_lanes, design.quantizer_lanes, design.weight_buffer_bytes


@dataclass(frozen=True)
class Point:
    """A design as simulated.

    Args:
        design: what is built.
        recipe: its name.
        images_per_second: simulated.
        joules_per_image: where it lies.
        middle: joules an image with every price in the middle of its range.
        shares: of the device's cells, by kind.
        busy: the share of all cycles in which each unit works.
        divergence: of the recipe on the model `mini-outlier`, nats a token; None if not measured.
    """

    design: Design
    recipe: str
    images_per_second: float
    joules_per_image: Interval
    middle: float
    shares: Mapping[str, float]
    busy: Mapping[str, float]
    divergence: float | None

    @property
    def merits(self) -> tuple[float, float, float]:
        """Images a second, images a joule, minus the divergence; larger is better in each."""
        divergence = float("inf") if self.divergence is None else self.divergence
        return self.images_per_second, 1 / self.middle, -divergence

    def to_json(self) -> dict[str, Any]:
        """The point as JSON can hold it."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Point":
        """The point that `to_json` wrote."""
        values = dict(content)
        design = values.pop("design") | {"formats": tuple(content["design"]["formats"])}
        joules = Interval(**values.pop("joules_per_image"))
        return Point(design=Design(**design), joules_per_image=joules, **values)


def evaluate_design(design: Design, problem: Problem, *, record: bool = False) -> tuple[Point, Run]:
    """Simulate a design, and say what it gives and costs."""
    run = simulate(problem.work, design, memory_bytes_per_s=problem.rate, record=record)
    joules = energy(design, run, problem.board) * (1 / problem.batch)
    point = Point(
        design,
        problem.recipe.name,
        problem.batch / run.seconds,
        joules.interval,
        joules.middle,
        resources(design).shares(problem.board),
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

    def run(self) -> Result:
        """The point, as text in a tensor of bytes."""
        point, _ = evaluate_design(self.design, self.problem)
        return {
            "point": torch.tensor(list(json.dumps(point.to_json()).encode()), dtype=torch.uint8)
        }


def _point_of(result: Result) -> Point:
    return Point.from_json(json.loads(bytes(result["point"].tolist())))


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats or equals in all merits; equals are kept once."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: p.merits, reverse=True):
        if not any(_covers(other.merits, point.merits) for other in found):
            found.append(point)
    return found


def _covers(merits: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(merits, others, strict=True))


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
    def front(self) -> list[Point]:
        """The designs that no other one beats."""
        return front(self.points)

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
        partial = file.with_name(f"{file.name}.partial")
        partial.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(file)

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
    return any(_covers(point.merits[:2], bound) for point in points)


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
