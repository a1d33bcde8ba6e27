"""When the parts of each operation's result are there."""

from bisect import bisect_left
from dataclasses import dataclass, field

from fpqvar_lab.hardware.accelerator.operation import Op


@dataclass
class Availability:
    """When parts of one operation's result are there, in the order in which they come.

    Args:
        columns: Pairs of a number of columns and the cycle from which so many are there in all
            rows.
        rows: Pairs of a number of rows and the cycle from which so many are there in all columns.
    """

    columns: list[tuple[int, int]] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)

    @property
    def whole(self) -> int:
        """The cycle from which all of it is there."""
        return max(time for _, time in (*self.columns, *self.rows))

    def of_rows(self, count: int) -> int:
        """The cycle from which the first `count` rows are there; all of it if there are fewer."""
        if not self.rows:
            return self.whole
        index = bisect_left(self.rows, (count, 0))
        return self.rows[min(index, len(self.rows) - 1)][1]


class Results:
    """The availability of all results so far, by the names of operations."""

    def __init__(self) -> None:
        self._by_name: dict[str, Availability] = {}

    def of(self, name: str) -> Availability:
        """The result of an operation that has run.

        Raises:
            ValueError: when it has not.
        """
        if name not in self._by_name:
            raise ValueError(f"{name!r} is needed before it is there; put the work in order")
        return self._by_name[name]

    def open(self, op: Op) -> Availability:
        """The result of an operation that runs now, to add parts to."""
        return self._by_name.setdefault(op.name, Availability())
