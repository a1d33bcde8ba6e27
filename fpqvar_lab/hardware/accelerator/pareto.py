"""The Pareto front: which designs no other design beats."""

from collections.abc import Sequence

from fpqvar_lab.hardware.accelerator.point import Point


def covers(objectives: Sequence[float], others: Sequence[float]) -> bool:
    """Whether some objectives are at least as large as others, each of them."""
    return all(a >= b for a, b in zip(objectives, others, strict=True))


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats or equals in all objectives; equals are kept once."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: p.objectives, reverse=True):
        if not any(covers(other.objectives, point.objectives) for other in found):
            found.append(point)
    return found
