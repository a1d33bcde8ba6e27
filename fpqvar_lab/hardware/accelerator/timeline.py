"""Units that work through their tasks in a fixed order, and the reason of every idle cycle.

Each unit takes its tasks in the order in which they are given to `Timeline.run`; a task starts when
its unit is free and everything it needs is there. All times are then sums and maxima of durations,
so that no task ever finishes later because another one became shorter (a queue that picks whatever
is ready first would not have this property: R. L. Graham, "Bounds on multiprocessing timing
anomalies", 1969).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from fpqvar_lab.hardware.accelerator.workload import Op


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
"""When something is there, and what an idle unit is said to wait for until then."""
NOTHING: Dependency = (0, StallReason.INPUT)


@dataclass(frozen=True)
class Event:
    """One task: which operation, on which unit, from when to when.

    `end` is when the unit can take the next task; `ready`, when the task's results are there.
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
        record: whether all events are kept.
    """

    record: bool = False
    free: dict[Unit, int] = field(default_factory=lambda: dict.fromkeys(Unit, 0))
    busy: dict[tuple[Unit, int | None], int] = field(default_factory=dict)
    stalls: dict[tuple[Unit, int | None, StallReason], int] = field(default_factory=dict)
    step_ends: dict[int | None, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    count: int = 0
    latest: int = 0

    def run(
        self, op: Op, unit: Unit, cycles: int, *needs: Dependency, tail: int = 0, drain: int = 0
    ) -> tuple[int, int]:
        """Give a unit its next task.

        Args:
            op: the operation that the task is a part of.
            unit: that does it.
            cycles: for which the unit is busy.
            needs: what must be there first.
            tail: cycles after the last busy one until the results are there.
            drain: cycles after the last busy one in which the unit takes no other task.

        Returns:
            The cycles in which the unit starts, and in which the results are there.
        """
        step, start = op.step, self.free[unit]
        ready, reason = max(needs, default=NOTHING)
        if ready > start:
            for time, other in needs:
                # Nothing else can be said to be late before the task has its turn.
                if other is StallReason.TURN and start < time < ready:
                    self._charge(unit, step, other, time - start)
                    start = time
            self._charge(unit, step, reason, ready - start)
            start = ready
        end = start + cycles
        self.busy[unit, step] = self.busy.get((unit, step), 0) + cycles
        if drain:
            self._charge(unit, step, StallReason.DRAIN, drain)
        self.free[unit] = end + drain
        done = end + (tail if tail > drain else drain)
        self.count += 1
        if done > self.latest:
            self.latest = done
        if done > self.step_ends.get(step, 0):
            self.step_ends[step] = done
        if self.record:
            self.events.append(Event(op, unit, start, end, done))
        return start, done

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
