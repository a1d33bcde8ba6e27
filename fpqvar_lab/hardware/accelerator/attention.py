"""Attention head by head: what runs for one head, and how the heads follow each other."""

from collections import deque
from collections.abc import Sequence

from fpqvar_lab.hardware.accelerator.availability import Availability, Results
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.memory import MemoryChannel
from fpqvar_lab.hardware.accelerator.operation import Kind, Op
from fpqvar_lab.hardware.accelerator.service import (
    MODELLED_LATENCY,
    element_service,
    quantizer_service,
)
from fpqvar_lab.hardware.accelerator.timeline import Dependency, StallReason, Timeline, Unit


class HeadRunner:
    """Runs one head of one operation.

    Keys and values that are read from memory take the room of an earlier head's: of the head before
    the last one where the buffers are double, and else of the last one.

    Args:
        design: The design that the work runs on.
        timeline: The timeline that the tasks run on.
        memory: The channel to the external memory.
        results: What has run, to which each head's part is added.
    """

    def __init__(self, design: Design, timeline: Timeline, memory: MemoryChannel, results: Results):
        self._design, self._timeline = design, timeline
        self._memory, self._results = memory, results
        self._values_ready: deque[int] = deque(maxlen=2 if design.double_buffered else 1)

    def run(self, op: Op, head: int, *needs: Dependency) -> int:
        """Run one head of one operation; returns the cycle in which its result is there."""
        if op.kind is Kind.CACHE_READ:
            ready = self._read_cache(op, head, *needs)
        elif op.kind in (Kind.SCORES, Kind.VALUES):
            ready = self._multiply(op, *needs)
        else:
            service = element_service(op, self._design)
            cycles = service.cycles(-(-op.elements // op.heads))
            ready = self._timeline.run(op, service.unit, cycles, *needs, tail=service.tail)
        if op.kind is Kind.VALUES:
            self._values_ready.append(ready)
        width = op.columns if op.kind is Kind.VALUES else 1
        self._results.open(op).columns.append(((head + 1) * width, ready))
        return ready

    def _multiply(self, op: Op, *needs: Dependency) -> int:
        cycles = -(-op.inner * op.columns // self._design.attention_macs)
        cycles *= op.rows * op.products // op.heads
        tail = MODELLED_LATENCY
        return self._timeline.run(op, Unit.ATTENTION, cycles, *needs, tail=tail)

    def _read_cache(self, op: Op, head: int, *needs: Dependency) -> int:
        is_full = len(self._values_ready) == self._values_ready.maxlen
        room = self._values_ready[0] if is_full and self._design.coarse else 0
        count = _part(op.cache_read_bytes, head, op.heads)
        return self._memory.transfer(op, count, (room, StallReason.ROOM), *needs)


def _part(total: float, index: int, count: int) -> int:
    """The bytes of one of `count` nearly equal parts."""
    whole = int(-(-total // 1))
    return whole * (index + 1) // count - whole * index // count


class ColumnQuantizer:
    """Quantizes what comes column by column, as soon as groups are complete.

    Args:
        op: The quantizing operation.
        design: The design that the work runs on.
        timeline: The timeline that the tasks run on.
        result: The operation's result, to which groups are added.
    """

    def __init__(self, op: Op, design: Design, timeline: Timeline, result: Availability):
        self._op, self._timeline, self._result = op, timeline, result
        self._service = quantizer_service(op, design)
        self._groups = 0

    def feed(self, columns: int, time: int) -> None:
        """Quantize what is complete now that so many columns are there in all rows, from `time`."""
        op, service = self._op, self._service
        new = columns // op.group - self._groups
        if not new:
            return
        self._groups += new
        cycles = service.cycles(op.rows * new * op.group)
        need = (time, StallReason.INPUT)
        ready = self._timeline.run(op, service.unit, cycles, need, tail=service.tail)
        self._result.columns.append((self._groups * op.group, ready))


class HeadPipeline:
    """Attention for one head after the other, the weighted sums one head behind the scores.

    So the array computes the scores of a head while softmax works on those of the head before.

    Args:
        ops: The operations that run for each head.
        runner: Runs one head of one operation.
        quantizer: Takes the columns that the weighted sums give, if anything does.
    """

    def __init__(self, ops: Sequence[Op], runner: HeadRunner, quantizer: ColumnQuantizer | None):
        self._ops = {op.kind: op for op in ops}
        self._runner, self._quantizer = runner, quantizer
        self._held: tuple[int, int] | None = None

    def run(self, head: int, time: int) -> None:
        """Run all of a head but its weighted sum, and the weighted sum of the head before.

        Args:
            head: The head, from 0.
            time: The cycle from which its queries, keys and values are there.
        """
        needs = [(time, StallReason.INPUT)]
        for kind in (Kind.UNIT, Kind.QUANTIZE):
            if kind in self._ops:
                needs = [(self._run(kind, head, *needs), StallReason.INPUT)]
        if Kind.CACHE_READ in self._ops:
            needs.append((self._run(Kind.CACHE_READ, head), StallReason.CACHE))
        scores = self._run(Kind.SCORES, head, *needs)
        self.finish()
        self._held = head, self._run(Kind.SOFTMAX, head, (scores, StallReason.INPUT))

    def finish(self) -> None:
        """Run the weighted sum of the last head."""
        if self._held is None:
            return
        head, softmax = self._held
        self._held = None
        ready = self._run(Kind.VALUES, head, (softmax, StallReason.INPUT))
        if self._quantizer:
            self._quantizer.feed((head + 1) * self._ops[Kind.VALUES].columns, ready)

    def _run(self, kind: Kind, head: int, *needs: Dependency) -> int:
        return self._runner.run(self._ops[kind], head, *needs)
