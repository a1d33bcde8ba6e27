"""Numbers that are not known exactly: intervals, and sums over unknowns that keep track of them.

Two energies that depend on the same unknown price, say of a byte from memory, are not independent:
whatever the price is, it is the same for both. An `Uncertain` is therefore a sum of unknowns with
known factors, and a ratio of two of them is bounded over all values that the unknowns can have
together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`.

    Raises:
        ValueError: when `low` exceeds `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"interval from {self.low} to {self.high}; low must not exceed high")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> "Interval":
        ends = (self.low * factor, self.high * factor)
        return Interval(min(ends), max(ends))

    @property
    def middle(self) -> float:
        """Half way between both ends, and no better a guess than any other number between them."""
        return (self.low + self.high) / 2

    def __str__(self) -> str:
        return f"{self.low:.3g} ... {self.high:.3g}"


@dataclass(frozen=True)
class Unknown:
    """One number that is known to lie within an interval.

    Args:
        name: unique name; unknowns of one name are one and the same.
        range: the interval in which the number lies.
        unit: unit in which the number counts.
        source: the document from which the range is taken.
        recalled: whether no source is at hand for a part of the range.
    """

    name: str
    range: Interval
    unit: str
    source: str
    recalled: bool = False


@dataclass(frozen=True)
class Uncertain:
    """A sum of unknowns, each times a known factor that is not negative.

    Args:
        factors: the factor of each unknown, that is how often it is counted.
    """

    factors: Mapping[Unknown, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for unknown, factor in self.factors.items():
            if factor < 0:
                raise ValueError(f"factor {factor} of {unknown.name} is negative")

    def __add__(self, other: "Uncertain") -> "Uncertain":
        factors = dict(self.factors)
        for unknown, factor in other.factors.items():
            factors[unknown] = factors.get(unknown, 0.0) + factor
        return Uncertain(factors)

    def __mul__(self, factor: float) -> "Uncertain":
        return Uncertain({unknown: own * factor for unknown, own in self.factors.items()})

    @property
    def interval(self) -> Interval:
        """Where the sum lies."""
        total = Interval(0.0, 0.0)
        for unknown, factor in self.factors.items():
            total += unknown.range * factor
        return total

    @property
    def middle(self) -> float:
        """The sum when each unknown is in the middle of its range, for ranking only."""
        return self.interval.middle

    def terms(self) -> dict[str, Interval]:
        """Where each unknown's part of the sum lies, by its name."""
        return {unknown.name: unknown.range * f for unknown, f in self.factors.items()}

    def at(self, values: Mapping[Unknown, float]) -> float:
        """The sum when the unknowns have these values."""
        return sum(factor * values[unknown] for unknown, factor in self.factors.items())


def ratio(above: Uncertain, below: Uncertain) -> Interval:
    """Where `above / below` lies when both depend on the same unknowns.

    Such a quotient of sums is monotonic in each unknown while the others stay, so its extremes are
    at corners of the box that the unknowns span; all corners are tried.

    Raises:
        ValueError: when `below` can be zero, or there are more than 16 unknowns.
    """
    unknowns = tuple({**above.factors, **below.factors})
    if len(unknowns) > 16:
        raise ValueError(f"{len(unknowns)} unknowns; all corners are tried for at most 16")
    if below.interval.low <= 0:
        raise ValueError(f"the divisor lies in {below.interval}; it must be above zero")
    ends = [sorted({unknown.range.low, unknown.range.high}) for unknown in unknowns]
    corners = [dict(zip(unknowns, corner, strict=True)) for corner in product(*ends)]
    quotients = [above.at(corner) / below.at(corner) for corner in corners]
    return Interval(min(quotients), max(quotients))
