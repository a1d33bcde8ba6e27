"""Operations as tasks of an accelerator's units: who waits for whom, at both levels.

Inside a matrix operation (fine level) weights come chunk by chunk, a chunk being the columns of one
tile; rows are transformed, quantized and multiplied tile by tile; results leave while the next tile
is computed. Between operations (coarse level) a consumer starts as soon as what it reads is there:
whole rows for a normalisation, columns for what works element by element, and a head for attention;
and weights come as early as the buffer has room for them, whatever is being computed.

Without the fine level each stage of a matrix operation waits for the whole stage before it, weights
come by half buffers, each used before the next one is fetched, and a tile leaves the array before
the next enters. (A larger buffer then means larger pieces, which is not always better.) Without the
coarse level an operation waits until the one before it is finished.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from fpqvar_lab.hardware.accelerator.buffers import Chunk, WeightBuffer, check, chunks_of, pieces
from fpqvar_lab.hardware.accelerator.design import POINTS, QUANTIZER_LANES, Design
from fpqvar_lab.hardware.accelerator.timeline import (
    NOTHING,
    Dependency,
    StallReason,
    Timeline,
    Unit,
)
from fpqvar_lab.hardware.accelerator.workload import PRODUCTS, Kind, Op

MODELLED_LATENCY = 16
"""Cycles from the last input to the last result of the units that are modelled, not built."""

_BY_COLUMNS = (Kind.GELU, Kind.RESIDUAL)
_HEAD_KINDS = (Kind.UNIT, Kind.QUANTIZE, Kind.CACHE_READ, Kind.SCORES, Kind.SOFTMAX, Kind.VALUES)


@dataclass
class Result:
    """When parts of an operation's result are there, in the order in which they come.

    Args:
        columns: (how many columns are there in all rows, since when).
        rows: (how many rows are there in all columns, since when).
    """

    columns: list[tuple[int, int]] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)

    @property
    def whole(self) -> int:
        """Since when all of it is there."""
        return max(time for _, time in (*self.columns, *self.rows))

    def of_rows(self, count: int) -> int:
        """Since when the first `count` rows are there; all of it where there are fewer."""
        return _lookup(self.rows, count) if self.rows else self.whole


def _lookup(parts: list[tuple[int, int]], count: int) -> int:
    index = bisect_left(parts, (count, 0))
    return parts[min(index, len(parts) - 1)][1]


class PipelineScheduler:
    """Turns operations into tasks on a timeline.

    Args:
        works: the operations, in order.
        design: of the accelerator.
        memory_bytes_per_s: what the external memory gives.
        timeline: that runs the tasks.

    Raises:
        ValueError: when the design cannot do the work: formats differ, or a buffer is too small.
    """

    def __init__(
        self, ops: Sequence[Op], design: Design, memory_bytes_per_s: float, timeline: Timeline
    ):
        if memory_bytes_per_s <= 0:
            raise ValueError(f"memory_bytes_per_s is {memory_bytes_per_s}; it must be positive")
        self.ops, self.design, self.timeline = ops, design, timeline
        ratio = Fraction(design.clock_hz) / Fraction(memory_bytes_per_s)
        self._cycles_per_byte = ratio.as_integer_ratio()
        self._kind_of = {op.name: op.kind for op in ops}
        self._results: dict[str, Result] = {}
        self.turn = NOTHING
        self.buffer = WeightBuffer(design.weight_buffer_bytes, design.double_buffered)
        self._vectors: deque[int] = deque(maxlen=2 if design.double_buffered else 1)
        check(ops, design)

    def run(self) -> None:
        """All operations, in order."""
        index = 0
        while index < len(self.ops):
            section = self._attention_section(index)
            if section:
                self._run_attention(index, section)
                index += section
                continue
            self._take_turn(index)
            self._run_one(index)
            index += 1

    # Which operations belong together

    def _attention_section(self, index: int) -> int:
        """How many operations from here are one layer with the attention that reads it by head."""
        end = index + 1
        if not self.design.coarse or self.ops[index].kind is not Kind.LINEAR:
            return 0
        while end < len(self.ops) and self._is_by_head(end):
            end += 1
        if end == index + 1:
            return 0
        quantize = end < len(self.ops) and self._quantizes_columns(end)
        return end - index + quantize

    def _is_by_head(self, index: int) -> bool:
        op = self.ops[index]
        return op.heads > 1 and op.kind in _HEAD_KINDS

    def _quantizes_columns(self, index: int) -> bool:
        """Whether an operation quantizes groups of what comes column by column."""
        op = self.ops[index]
        if op.kind is not Kind.QUANTIZE or not op.group or op.heads > 1 or not op.after:
            return False
        return self._kind_of.get(op.after[0]) in (Kind.GELU, Kind.VALUES)

    def _take_turn(self, index: int) -> None:
        """Without the coarse level: wait for all before, unless this is a stage of the same."""
        if self.design.coarse or (index and self._continues(index)):
            return
        self.turn = (self.timeline.latest, StallReason.TURN)

    def _continues(self, index: int) -> bool:
        """Whether an operation is a further stage of the matrix operation before it."""
        op, before = self.ops[index], self.ops[index - 1]
        is_stage = before.kind in (Kind.HADAMARD, Kind.QUANTIZE) and before.heads == 1
        consumes = op.kind in (Kind.QUANTIZE, *PRODUCTS) and before.name in op.after
        return is_stage and consumes

    # One operation after the other

    def _run_one(self, index: int) -> None:
        op = self.ops[index]
        if op.heads > 1:
            self._run_heads(index)
        elif op.kind in PRODUCTS:
            for _ in self._run_product(index):
                pass
        elif op.kind is Kind.CACHE_WRITE:
            self.transfer(index, op.cache_written_bytes, *self._needs(op))
        elif op.kind in _BY_COLUMNS:
            self._run_columns(index)
        elif self._quantizes_columns(index):
            quantizer = _ColumnQuantizer(self, index)
            for part in self.result(op.after[0]).columns:
                quantizer.feed(*part)
        else:
            self._run_rows(index)

    def _run_columns(self, index: int) -> None:
        """Element by element, as the columns come."""
        op = self.ops[index]
        others = [(self.result(name).whole, StallReason.INPUT) for name in op.after[1:]]
        done, result = 0, self.new_result(op)
        for end, time in self.result(op.after[0]).columns:
            cycles = -(-op.rows * (end - done) // self.design.special_lanes)
            needs = ((time, StallReason.INPUT), *others, self.turn)
            _, ready = self.timeline.run(op, Unit.SPECIAL, cycles, *needs, tail=MODELLED_LATENCY)
            result.columns.append((end, ready))
            done = end

    def _run_rows(self, index: int) -> None:
        """Row by row, in as many rows at a time as a tile has."""
        op = self.ops[index]
        source = self.result(op.after[0]) if op.after else Result(rows=[(0, 0)])
        others = [(self.result(name).whole, StallReason.INPUT) for name in op.after[1:]]
        inner = self._continues(index) if index else False
        overlaps = self.design.fine if inner else self.design.coarse
        rows, columns = op.rows, op.columns
        unit, interval, elements, tail = self._row_unit(op)
        result = self.new_result(op)
        for end in pieces(rows, self.design.rows):
            begin = result.rows[-1][0] if result.rows else 0
            cycles = -(-(end - begin) * columns // elements) * interval
            time = source.of_rows(end) if overlaps else source.whole
            needs = ((time, StallReason.INPUT), *others, self.turn)
            _, ready = self.timeline.run(op, unit, cycles, *needs, tail=tail)
            result.rows.append((end, ready))

    def _row_unit(self, op: Op) -> tuple[Unit, int, int, int]:
        """Which unit does it, its interval and for how many elements, and its tail."""
        if op.kind is Kind.HADAMARD:
            timing = self.design.hadamard_timing
            return Unit.HADAMARD, timing.interval, POINTS * self.design.transforms, timing.latency
        if op.kind is Kind.QUANTIZE:
            return self.quantizer(op)
        return Unit.SPECIAL, 1, self.design.special_lanes, MODELLED_LATENCY

    def quantizer(self, op: Op) -> tuple[Unit, int, int, int]:
        group = op.group or op.columns
        timing = self.design.quantizer_timing(op.input_format, group)
        tail = timing.latency + -(-group // QUANTIZER_LANES) - timing.interval
        return Unit.QUANTIZER, timing.interval, group * self.design.quantizers, tail

    # Products with weights

    def _run_product(self, index: int) -> Iterator[tuple[int, int]]:
        """Yields (columns done, since when) chunk by chunk."""
        op, design, timeline = self.ops[index], self.design, self.timeline
        result, stream = self.new_result(op), _WeightStream(self, index)
        inputs = self.input_times(index)
        for chunk in stream.chunks:
            loaded = (stream.load(chunk), StallReason.WEIGHTS)
            unit, cycles, tail = self._tile(op, chunk)
            drain = 0 if design.fine else tail
            edges = not result.columns or chunk.end == op.columns
            runs = inputs if edges else [(op.rows, inputs[-1][1])]
            done = 0
            for end, time in runs:
                tiles = -(-(end - done) // design.rows)
                needs = (loaded, (time, StallReason.INPUT), self.turn)
                busy = self._busy(op, end - done, tiles, cycles)
                _, ready = timeline.run(op, unit, busy, *needs, tail=tail, drain=drain * tiles)
                if chunk.end == op.columns:
                    result.rows.append((end, ready))
                done = end
            stream.release(chunk, timeline.free[unit])
            result.columns.append((chunk.end, ready))
            yield chunk.end, ready

    def _busy(self, op: Op, rows: int, tiles: int, cycles: int) -> int:
        """A tile of the matrix array takes its time even if some rows are empty."""
        return tiles * cycles if self._is_matrix(op) else rows * cycles

    def _tile(self, op: Op, chunk: Chunk) -> tuple[Unit, int, int]:
        """The unit, the cycles of a tile (or of a row, outside the matrix array), and the tail."""
        if not self._is_matrix(op):
            cycles = -(-op.inner * chunk.width // self.design.attention_macs)
            return Unit.ATTENTION, cycles, MODELLED_LATENCY
        timing = self.design.matrix_timing(op.input_format)
        cycles = -(-op.inner // self.design.group) * timing.interval
        return Unit.MATRIX, cycles, timing.latency - timing.interval + self.design.rows

    def input_times(self, index: int) -> list[tuple[int, int]]:
        """For each tile of rows, its last row and since when it is there."""
        op = self.ops[index]
        ends = pieces(op.rows, self.design.rows)
        if not op.after:
            return [(end, 0) for end in ends]
        source = self.result(op.after[0])
        overlaps = self.design.fine if index and self._continues(index) else self.design.coarse
        return [(end, source.of_rows(end) if overlaps else source.whole) for end in ends]

    def _is_matrix(self, op: Op) -> bool:
        return op.weight_format != "fp16"

    # Attention, head by head

    def _run_attention(self, index: int, count: int) -> None:
        """A layer that gives queries, keys and values, and all that follows for each head.

        Its columns come head by head (the weights' rows are sorted so, which costs nothing). The
        values of one head are computed after the scores of the next, while softmax works.
        """
        last = index + count - 1
        quantizer = None if self._is_by_head(last) else _ColumnQuantizer(self, last)
        parts = range(index + 1, last + (quantizer is None))
        heads = self.ops[index + 1].heads
        slots = _Slots(self, parts, quantizer)
        columns, done = self.ops[index].columns, 0
        for end, time in self._run_product(index):
            while done < heads and columns * (done + 1) // heads <= end:
                slots.run(done, time)
                done += 1
        slots.finish()

    def _run_heads(self, index: int) -> None:
        """All heads of one operation, one after the other."""
        op = self.ops[index]
        needs = self._needs(op)
        for head in range(op.heads):
            self.run_head(index, head, *needs, self.turn)

    def run_head(self, index: int, head: int, *needs: Dependency) -> int:
        """One head of one operation; returns when its result is there."""
        op, design = self.ops[index], self.design
        result = self._results.get(op.name) or self.new_result(op)
        if op.kind is Kind.CACHE_READ:
            ready = self._read_vectors(index, head, *needs)
        elif op.kind in (Kind.SCORES, Kind.VALUES):
            cycles = -(-op.inner * op.columns // design.attention_macs)
            cycles *= op.rows * op.products // op.heads
            _, ready = self.timeline.run(op, Unit.ATTENTION, cycles, *needs, tail=MODELLED_LATENCY)
        else:
            unit, interval, elements, tail = self._row_unit(op)
            cycles = -(-op.elements // op.heads // elements) * interval
            _, ready = self.timeline.run(op, unit, cycles, *needs, tail=tail)
        if op.kind is Kind.VALUES:
            self._vectors.append(ready)
        width = op.columns if op.kind is Kind.VALUES else 1
        result.columns.append(((head + 1) * width, ready))
        return ready

    def _read_vectors(self, index: int, head: int, *needs: Dependency) -> int:
        """A head's keys and values, into the place of those of the last head but one."""
        op = self.ops[index]
        full = len(self._vectors) == self._vectors.maxlen
        room = (self._vectors[0] if full and self.design.coarse else 0, StallReason.ROOM)
        count = _part(op.cache_read_bytes, head, op.heads)
        return self.transfer(index, count, room, *needs)

    # Bookkeeping

    def transfer(self, index: int, count: float, *needs: Dependency) -> int:
        numerator, denominator = self._cycles_per_byte
        cycles = -(-math.ceil(count) * numerator // denominator)
        _, ready = self.timeline.run(self.ops[index], Unit.DMA, cycles, *needs, self.turn)
        result = self._results.get(self.ops[index].name) or self.new_result(self.ops[index])
        result.rows = [(1, ready)]
        return ready

    def _needs(self, op: Op) -> list[Dependency]:
        return [
            (
                self.result(name).whole,
                StallReason.CACHE if self._kind_of[name] is Kind.CACHE_READ else StallReason.INPUT,
            )
            for name in op.after
        ]

    def new_result(self, op: Op) -> Result:
        return self._results.setdefault(op.name, Result())

    def result(self, name: str) -> Result:
        if name not in self._results:
            raise ValueError(f"{name!r} is needed before it is there; put the work in order")
        return self._results[name]


class _WeightStream:
    """The weights of one product on their way, chunk by chunk."""

    def __init__(self, machine: PipelineScheduler, index: int):
        self.machine, self.index = machine, index
        self.chunks = chunks_of(machine.ops[index], machine.design)
        self._waiting = deque(self.chunks)
        self._loaded = self._used = 0

    def load(self, chunk: Chunk) -> int:
        """Since when a chunk, the next one, is there."""
        if self._waiting and self._waiting[0] is chunk:
            self._fetch()
        return self._loaded

    def release(self, chunk: Chunk, time: int) -> None:
        """From when on a chunk is not needed any more."""
        self.machine.buffer.keep(chunk.nbytes, time)
        self._used = time

    def _fetch(self) -> None:
        """The next chunk, or without the fine level as many as are fetched at a time."""
        machine = self.machine
        batch = self._next_batch()
        room = (machine.buffer.room_for(sum(chunk.nbytes for chunk in batch)), StallReason.ROOM)
        needs = [room] if machine.design.fine else [room, (self._stage(), StallReason.STAGE)]
        for chunk in batch:
            if chunk.nbytes:
                self._loaded = machine.transfer(self.index, chunk.nbytes, *needs)

    def _next_batch(self) -> list[Chunk]:
        batch = [self._waiting.popleft()]
        design = self.machine.design
        if design.fine:
            return batch
        limit = design.weight_buffer_bytes // 2 if design.double_buffered else 0
        total = batch[0].nbytes
        while self._waiting and total + self._waiting[0].nbytes <= limit:
            total += self._waiting[0].nbytes
            batch.append(self._waiting.popleft())
        return batch

    def _stage(self) -> int:
        """When the stage before the next fetch is over, where stages do not overlap."""
        if self._used or self.machine.design.coarse:
            return self._used
        return self.machine.input_times(self.index)[-1][1]


class _ColumnQuantizer:
    """Quantizes what comes column by column, as soon as groups are complete."""

    def __init__(self, machine: PipelineScheduler, index: int):
        self.machine, self.index, self._groups = machine, index, 0

    def feed(self, columns: int, time: int) -> None:
        """So many columns are there in all rows, since `time`."""
        machine = self.machine
        op = machine.ops[self.index]
        new = columns // op.group - self._groups
        if not new:
            return
        self._groups += new
        unit, interval, elements, tail = machine.quantizer(op)
        cycles = -(-op.rows * new * op.group // elements) * interval
        needs = ((time, StallReason.INPUT), machine.turn)
        _, ready = machine.timeline.run(op, unit, cycles, *needs, tail=tail)
        machine.new_result(op).columns.append((self._groups * op.group, ready))


class _Slots:
    """Attention's operations for one head after the other, the weighted sums one head behind."""

    def __init__(
        self, machine: PipelineScheduler, indices: range, quantizer: _ColumnQuantizer | None
    ):
        self.machine, self.quantizer = machine, quantizer
        self._index_of = {machine.ops[index].kind: index for index in indices}
        self._held: tuple[int, int] | None = None

    def run(self, head: int, time: int) -> None:
        """All of a head but its weighted sum; and that of the head before."""
        ready = (time, StallReason.INPUT)
        needs = [ready]
        for kind in (Kind.UNIT, Kind.QUANTIZE):
            if kind in self._index_of:
                needs = [(self._run(kind, head, *needs), StallReason.INPUT)]
        if Kind.CACHE_READ in self._index_of:
            needs.append((self._run(Kind.CACHE_READ, head), StallReason.CACHE))
        scores = self._run(Kind.SCORES, head, *needs)
        self.finish()
        self._held = head, self._run(Kind.SOFTMAX, head, (scores, StallReason.INPUT))

    def finish(self) -> None:
        """The weighted sum of the last head."""
        if self._held is None:
            return
        head, softmax = self._held
        self._held = None
        ready = self._run(Kind.VALUES, head, (softmax, StallReason.INPUT))
        if self.quantizer:
            op = self.machine.ops[self._index_of[Kind.VALUES]]
            self.quantizer.feed((head + 1) * op.columns, ready)

    def _run(self, kind: Kind, head: int, *needs: Dependency) -> int:
        return self.machine.run_head(self._index_of[kind], head, *needs)


def _part(total: float, index: int, count: int) -> int:
    whole = int(-(-total // 1))
    return whole * (index + 1) // count - whole * index // count
