"""Units that work through their tasks in a fixed order, and the reason of every idle cycle.

Each unit takes its tasks in the order in which they are given to `Timeline.run`; a task starts when
its unit is free and everything it needs is there. All times are then sums and maxima of durations,
so that no task ever finishes later because another one became shorter (a queue that picks whatever
is ready first would not have this property: R. L. Graham, "Bounds on multiprocessing timing
anomalies", 1969).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from fpqvar_lab.hardware.accelerator.operation import Op


class Unit(StrEnum):
    """What can be busy."""

    DMA = "dma"
    """The one channel to the external memory."""
    HADAMARD = "hadamard"
    QUANTIZER = "quantizer"
    MATRIX = "matrix"
    ATTENTION = "attention"
    SPECIAL = "special"


class StallReason(StrEnum):
    """Why a unit is idle: what comes last of what its next task needs."""

    WEIGHTS = "waits for weights"
    INPUT = "waits for input"
    CACHE = "waits for cached keys and values"
    ROOM = "waits for room in the buffer"
    TURN = "waits for the operation before"
    STAGE = "waits for the stage before"
    DRAIN = "fills and drains"
    DONE = "has nothing left"


Dependency = tuple[int, StallReason]
"""The cycle from which something is there, and what a unit that is idle until then waits for."""
NOTHING: Dependency = (0, StallReason.INPUT)


@dataclass(frozen=True)
class Event:
    """One task on the timeline.

    Args:
        op: The operation that the task is a part of.
        unit: The unit that works on it.
        start: The cycle in which the unit starts.
        end: The cycle from which the unit is not busy with it any more.
        ready: The cycle from which the task's results are there.
    """

    op: Op
    unit: Unit
    start: int
    end: int
    ready: int


@dataclass
class Timeline:
    """Runs tasks, and accounts for every cycle of every unit.

    Args:
        record: Whether all events are kept.
        turn: What every task waits for besides its own needs.
        free: The cycle from which each unit is free.
        busy: Busy cycles by unit and step.
        stalls: Idle cycles by unit, step and reason.
        step_ends: The cycle in which the last result of each step is there.
        events: All tasks, if they are kept.
        count: How many tasks there were.
        latest: The cycle in which the last result so far is there.
    """

    record: bool = False
    turn: Dependency = NOTHING
    free: dict[Unit, int] = field(default_factory=lambda: dict.fromkeys(Unit, 0))
    busy: dict[tuple[Unit, int | None], int] = field(default_factory=dict)
    stalls: dict[tuple[Unit, int | None, StallReason], int] = field(default_factory=dict)
    step_ends: dict[int | None, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    count: int = 0
    latest: int = 0

    def wait_for_all(self) -> None:
        """Let every further task wait until all results so far are there."""
        self.turn = (self.latest, StallReason.TURN)

    def run(
        self, op: Op, unit: Unit, cycles: int, *needs: Dependency, tail: int = 0, drain: int = 0
    ) -> int:
        """Give a unit its next task; returns the cycle from which its results are there.

        Args:
            op: The operation that the task is a part of.
            unit: The unit that does the work.
            cycles: For how many cycles the unit is busy.
            needs: For each thing that must be there first, the cycle from which it is.
            tail: How many cycles after the last busy one the results are there.
            drain: For how many cycles after the last busy one the unit takes no other task.
        """
        step, start = op.step, self._start(op.step, unit, needs)
        end = start + cycles
        self.busy[unit, step] = self.busy.get((unit, step), 0) + cycles
        if drain:
            self._charge(unit, step, StallReason.DRAIN, drain)
        self.free[unit] = end + drain
        ready = end + (tail if tail > drain else drain)
        self.count += 1
        if ready > self.latest:
            self.latest = ready
        if ready > self.step_ends.get(step, 0):
            self.step_ends[step] = ready
        if self.record:
            self.events.append(Event(op, unit, start, end, ready))
        return ready

    def _start(self, step: int | None, unit: Unit, needs: tuple[Dependency, ...]) -> int:
        """The cycle in which a unit's next task starts; the cycles until then are charged."""
        start = self.free[unit]
        ready, reason = max(*needs, self.turn) if needs else self.turn
        if ready <= start:
            return start
        # Nothing else can be said to be late before the task has its turn.
        turn = self.turn[0]
        if start < turn < ready:
            self._charge(unit, step, StallReason.TURN, turn - start)
            start = turn
        self._charge(unit, step, reason, ready - start)
        return ready

    def finish(self, step: int | None) -> int:
        """Charge the cycles after each unit's last task to a step; returns the cycles in all."""
        for unit, free in self.free.items():
            if free < self.latest:
                self._charge(unit, step, StallReason.DONE, self.latest - free)
                self.free[unit] = self.latest
        return self.latest

    def _charge(self, unit: Unit, step: int | None, reason: StallReason, cycles: int) -> None:
        key = (unit, step, reason)
        self.stalls[key] = self.stalls.get(key, 0) + cycles
