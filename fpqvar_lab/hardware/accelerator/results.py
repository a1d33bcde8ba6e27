"""The committed results on whole accelerators: how they are made, and whether they still hold.

`fpqvar-lab explore --all` makes them in some minutes; the pages of Part VII read them and compute
a part of them again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from fpqvar_lab import data
from fpqvar_lab.hardware.accelerator.baselines import BASELINES, RECIPE, compare
from fpqvar_lab.hardware.accelerator.cost import resources
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.explore import Expectation, Exploration, explore
from fpqvar_lab.hardware.accelerator.interval import Interval
from fpqvar_lab.hardware.accelerator.point import Point, evaluate_design
from fpqvar_lab.hardware.accelerator.problem import Problem, problem_of
from fpqvar_lab.hardware.accelerator.space import Candidate, Space, candidates
from fpqvar_lab.hardware.cost_table import SYNTHESIS_RESULTS
from fpqvar_lab.method import find_recipe, recipe_digest
from fpqvar_lab.var import VQVAEConfig, operations

RESULTS = "results/accelerator.json"
FORMAT = "fpqvar-lab accelerator 1"

PAPER_IMAGES_PER_SECOND = 1.1
"""FPQVAR on the VCK190 (arXiv 2505.16335, abstract)."""

EXPLORED = (
    *((RECIPE, batch, 400e6) for batch in (1, 2, 3)),
    (RECIPE, 3, 300e6),
    *((recipe, 2, 400e6) for recipe in ("fp4-fpqvar", "fp4-ght-only", "fp6-baseline")),
)
"""(recipe, batch, clock) of the searches."""
AROUND: dict[str, Any] = {
    "rows": 16,
    "lanes": 8,
    "attention_macs": 1280,
    "hadamard_lanes": 32,
    "quantizer_lanes": 32,
    "special_lanes": 32,
    "weight_buffer_bytes": 2**21,
}
"""What surrounds the arrays that are compared with the paper's speed."""


# The array that gives the paper's speed


def reaches(problem: Problem, columns: int) -> Point:
    """A design with so many columns of arrays."""
    return evaluate_design(replace(problem.base, columns=columns, **AROUND), problem)[0]


def smallest(problem: Problem, images_per_second: float = PAPER_IMAGES_PER_SECOND) -> Point:
    """The design with the fewest columns that gives this speed.

    Raises:
        ValueError: 256 columns do not.
    """
    low, high = 1, 256
    best = reaches(problem, high)
    if best.images_per_second < images_per_second:
        raise ValueError(f"{high} columns give {best.images_per_second:.2f} image/s only")
    while high - low > 1:
        middle = (low + high) // 2
        point = reaches(problem, middle)
        if point.images_per_second < images_per_second:
            low = middle
        else:
            high, best = middle, point
    return best


# What breaks a design


def variations(point: Point, problem: Problem) -> Iterator[tuple[str, str, Design, Problem]]:
    """What is changed, to what, and the design and problem with it."""
    design = point.design
    for mhz in (200, 250, 300, 350, 400, 450):
        clocked = replace(problem, clock_hz=1e6 * mhz)
        yield "clock", str(mhz), replace(design, clock_hz=1e6 * mhz), clocked
    for percent in (40, 50, 60, 70, 80, 90, 100):
        yield "memory", str(percent), design, replace(problem, efficiency=percent / 100)
    for fraction in (50, 60, 70, 80, 90, 100):
        columns = max(1, design.columns * fraction // 100)
        yield "arrays", str(fraction), replace(design, columns=columns), problem
    yield "levels", "no fine level", replace(design, fine=False), problem
    yield "levels", "no coarse level", replace(design, coarse=False), problem
    yield "levels", "neither level", replace(design, fine=False, coarse=False), problem
    halved = replace(design, attention_macs=design.attention_macs // 2)
    slower = replace(design, special_lanes=design.special_lanes // 2)
    yield "attention", "half its products", halved, problem
    yield "special", "half its lanes", slower, problem


def with_decoder(point: Point, problem: Problem) -> float:
    """Images per second when the VQVAE's decoder runs in the attention array, after each batch."""
    codec = VQVAEConfig.preset("ch160v4096z32")
    macs = operations.total(operations.vqvae_operations(codec, problem.batch))
    decoding = macs / (point.design.attention_macs * point.design.clock_hz)
    return problem.batch / (problem.batch / point.images_per_second + decoding)


def best_by_fraction(problem: Problem, fractions: Sequence[float]) -> Iterator[tuple[float, Point]]:
    """For each fraction of the LUTs that may be used, the fastest design found."""
    found = candidates(Space(), problem)
    taken = {c.design: resources(c.design).fractions(problem.board)["lut"] for c in found}
    for fraction in fractions:
        fitting = [c for c in found if taken[c.design] <= fraction]
        if fitting:
            yield fraction, _fastest(fitting, problem)


def _fastest(choices: Sequence[Candidate], problem: Problem, limit: int = 8) -> Point:
    """The fastest of those tried, the most promising first, until no bound is above it."""
    expected, waiting = Expectation(), list(choices)
    best: Point | None = None
    for _ in range(limit):
        candidate = max(waiting, key=expected.of)
        waiting.remove(candidate)
        point, _ = evaluate_design(candidate.design, problem)
        expected.learn(candidate, point)
        if best is None or point.images_per_second > best.images_per_second:
            best = point
        speed = best.images_per_second
        waiting = [c for c in waiting if c.images_per_second > speed]
        if not waiting:
            break
    assert best is not None
    return best


# All of it


def make(limit: int = 24, say: Any = print) -> dict[str, Any]:
    """All results, in some minutes.

    Args:
        limit: how many designs to simulate at most in each search.
        say: called with a line of text whenever a part is done.
    """
    targets = {}
    for mhz in (250, 300, 350, 400):
        targets[mhz] = smallest(replace(problem_of("d30", RECIPE), clock_hz=1e6 * mhz))
        say(f"{mhz} MHz: {targets[mhz].design.macs_per_cycle} products a cycle")
    baselines = [compare(b, targets[round(b.clock_hz / 1e6)]) for b in BASELINES]
    say("baselines")
    searches = [_search(*search, limit, say) for search in EXPLORED]
    problem = replace(problem_of("d30", RECIPE, batch=3), clock_hz=400e6)
    ours = best(searches, problem)
    return {
        "format": FORMAT,
        "command": "fpqvar-lab explore --all",
        **provenance(),
        "targets": [point.to_json() for point in targets.values()],
        "baselines": baselines,
        "searches": [search.to_json() for search in searches],
        "ours": ours.to_json(),
        "variations": [_varied(*variation) for variation in variations(ours, problem)],
        "with_decoder": with_decoder(ours, problem),
        "by_share": [
            {"batch": batch, "share": fraction, "point": point.to_json()}
            for batch in (1, 3)
            for fraction, point in best_by_fraction(
                replace(problem, batch=batch), [s / 100 for s in range(30, 100, 10)]
            )
        ],
    }


def _search(recipe: str, batch: int, clock_hz: float, limit: int, say: Any) -> Exploration:
    problem = replace(problem_of("d30", recipe, batch=batch), clock_hz=clock_hz)
    found = explore(Space(), Exploration(problem), limit=limit)
    fastest = max(found.points, key=lambda p: p.images_per_second)
    say(f"{recipe}, batch {batch}, {clock_hz / 1e6:.0f} MHz: {fastest.images_per_second:.3f}")
    return found


def best(searches: Iterable[Exploration], problem: Problem) -> Point:
    """The fastest design found for a problem."""
    (found,) = (search for search in searches if search.problem.head == problem.head)
    return max(found.points, key=lambda point: point.images_per_second)


def _varied(what: str, to: str, design: Design, problem: Problem) -> dict[str, Any]:
    point, _ = evaluate_design(design, problem)
    found = {"what": what, "to": to, "images_per_second": point.images_per_second}
    return found | {"joules_per_image": asdict(point.joules_per_image)}


# What it rests on


def provenance() -> dict[str, Any]:
    """Digests of what the results are made from."""
    recipes = dict.fromkeys([RECIPE, *(recipe for recipe, _, _ in EXPLORED)])
    recipes |= dict.fromkeys(["int6-rtn", "int4-quarot"])
    return {
        "synthesis_sha256": _synthesis_digest(),
        "recipes": {name: recipe_digest(find_recipe(name)) for name in recipes},
    }


@cache
def _synthesis_digest() -> str:
    """Digest of what every unit costs and of the hardware that it is the cost of."""
    table = json.loads(data.path(SYNTHESIS_RESULTS).read_text(encoding="utf-8"))
    units = [
        [row["entry"], row["digest"], {**row["result"], "seconds": None}] for row in table["units"]
    ]
    return hashlib.sha256(json.dumps(units, sort_keys=True).encode()).hexdigest()


def read() -> dict[str, Any]:
    """The committed results.

    Raises:
        FileNotFoundError: when there are none; `fpqvar-lab explore --all` makes them.
        ValueError: the file holds something else.
    """
    file = data.path(RESULTS)
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{file}: no results of fpqvar-lab explore --all")
    return content


def stale(content: Mapping[str, Any]) -> list[str]:
    """What results were made from and is not so any more; empty where all holds."""
    now, found = provenance(), []
    if content["synthesis_sha256"] != now["synthesis_sha256"]:
        found.append("the table of synthesized units has changed")
    for name, digest in content["recipes"].items():
        if now["recipes"].get(name) != digest:
            found.append(f"recipe {name} has changed")
    return found


def interval_of(content: Mapping[str, float]) -> Interval:
    """An interval from the results."""
    return Interval(content["low"], content["high"])
