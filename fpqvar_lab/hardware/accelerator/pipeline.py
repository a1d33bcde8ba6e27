"""A cycle-level simulation of the two-level pipeline: our reading of the two words that FPQVAR's
abstract (arXiv 2505.16335) has about it.

`scheduler` says what overlaps at which level, `timeline` how time is counted. Times are exact
integers of cycles. The timing of matrix arrays, transforms and quantizers is that of the units of
Part VI; attention array, special-function unit and external memory are modelled by their rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.operation import PRODUCTS, Kind, Op
from fpqvar_lab.hardware.accelerator.scheduler import PipelineScheduler
from fpqvar_lab.hardware.accelerator.timeline import Event, StallReason, Timeline, Unit


@dataclass(frozen=True)
class StepRun:
    """What happened for the operations of one step.

    Args:
        step: The step; None for the operations that run once per image.
        cycles: The cycles from the end of the step before to the end of this one; for step None,
            those after the last step.
        busy: Busy cycles of each unit.
        stalls: Idle cycles of each unit before its tasks of this step, by their reason.
        macs: Multiply-accumulate operations of each of the two arrays.
        bytes_read: Bytes read from the external memory.
        bytes_written: Bytes written to it.
    """

    step: int | None
    cycles: int
    busy: dict[Unit, int]
    stalls: dict[Unit, dict[StallReason, int]]
    macs: dict[Unit, int]
    bytes_read: float
    bytes_written: float


@dataclass(frozen=True)
class Run:
    """The result of `simulate`. For each unit, busy cycles and stalls add up to all cycles.

    Args:
        ops: The operations that ran.
        design: The design that they ran on.
        memory_bytes_per_s: Bytes per second that the external memory gave.
        cycles: Number of cycles from the first task's start to the last result.
        steps: What happened in each step.
        events: All tasks, if they were recorded.
        tasks: How many tasks there were.
    """

    ops: tuple[Op, ...]
    design: Design
    memory_bytes_per_s: float
    cycles: int
    steps: tuple[StepRun, ...]
    events: tuple[Event, ...]
    tasks: int

    @property
    def seconds(self) -> float:
        return self.cycles / self.design.clock_hz

    @property
    def busy(self) -> dict[str, int]:
        """Cycles in which each unit works, on padding too; by the names of `Unit`."""
        return {unit: sum(step.busy[unit] for step in self.steps) for unit in Unit}

    @property
    def stalls(self) -> dict[Unit, dict[StallReason, int]]:
        """Idle cycles of each unit, by their cause."""
        return {
            unit: {c: sum(step.stalls[unit][c] for step in self.steps) for c in StallReason}
            for unit in Unit
        }

    @property
    def macs(self) -> int:
        return sum(sum(step.macs.values()) for step in self.steps)

    @property
    def bytes_read(self) -> float:
        return sum(step.bytes_read for step in self.steps)

    @property
    def bytes_written(self) -> float:
        return sum(step.bytes_written for step in self.steps)

    @property
    def padding(self) -> float:
        """The fraction of the matrix arrays' busy time that is spent on empty rows and columns."""
        macs = sum(step.macs[Unit.MATRIX] for step in self.steps)
        indices = self.busy[Unit.MATRIX] * self.design.macs_per_cycle
        return 1 - macs / indices if indices else 0.0

    def utilisation(self, unit: Unit) -> float:
        """The fraction of all cycles in which a unit is busy."""
        return self.busy[unit] / self.cycles if self.cycles else 0.0


def simulate(
    ops: Sequence[Op], design: Design, *, memory_bytes_per_s: float, record: bool = False
) -> Run:
    """Run operations on a design.

    Args:
        ops: The operations, in an order in which they can run, as from `workload`.
        design: The design that they run on.
        memory_bytes_per_s: What the external memory gives; nothing more of it is modelled.
        record: Whether to keep the timeline.

    Raises:
        ValueError: when the design cannot do the work (formats, buffers), the bandwidth is not
            positive, or an operation comes before one that it needs.
    """
    timeline = Timeline(record)
    PipelineScheduler(ops, design, memory_bytes_per_s, timeline).run()
    cycles = timeline.finish(ops[-1].step if ops else None)
    return Run(
        tuple(ops),
        design,
        memory_bytes_per_s,
        cycles,
        _steps(ops, timeline),
        tuple(timeline.events),
        timeline.count,
    )


def _steps(ops: Sequence[Op], timeline: Timeline) -> tuple[StepRun, ...]:
    steps = sorted({op.step for op in ops}, key=lambda step: (step is None, step or 0))
    found, before = [], 0
    for step in steps:
        mine = [op for op in ops if op.step == step]
        end = max(before, timeline.step_ends.get(step, 0))
        busy = {unit: timeline.busy.get((unit, step), 0) for unit in Unit}
        stalls = {u: {c: timeline.stalls.get((u, step, c), 0) for c in StallReason} for u in Unit}
        read = sum(op.weight_bytes + op.cache_read_bytes for op in mine)
        written = sum(op.cache_written_bytes for op in mine)
        found.append(StepRun(step, end - before, busy, stalls, _macs(mine), read, written))
        before = end
    return tuple(found)


def _macs(ops: Sequence[Op]) -> dict[Unit, int]:
    macs = {Unit.MATRIX: 0, Unit.ATTENTION: 0}
    for op in ops:
        if op.kind in (*PRODUCTS, Kind.SCORES, Kind.VALUES):
            macs[Unit.MATRIX if op.multiplies_low_bit_weights else Unit.ATTENTION] += op.macs
    return macs
