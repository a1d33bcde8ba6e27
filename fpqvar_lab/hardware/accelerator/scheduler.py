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
from fpqvar_lab.hardware.accelerator.timeline import NOTHING, Cause, Need, Timeline, Unit
from fpqvar_lab.hardware.accelerator.workload import PRODUCTS, Kind, Work

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
    place = bisect_left(parts, (count, 0))
    return parts[min(place, len(parts) - 1)][1]


class Machine:
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
        self, works: Sequence[Work], design: Design, memory_bytes_per_s: float, timeline: Timeline
    ):
        if memory_bytes_per_s <= 0:
            raise ValueError(f"memory_bytes_per_s is {memory_bytes_per_s}; it must be positive")
        self.works, self.design, self.timeline = works, design, timeline
        ratio = Fraction(design.clock_hz) / Fraction(memory_bytes_per_s)
        self._cycles_per_byte = ratio.as_integer_ratio()
        self._kind_of = {work.name: work.kind for work in works}
        self._results: dict[str, Result] = {}
        self.turn = NOTHING
        self.buffer = WeightBuffer(design.weight_buffer_bytes, design.double_buffered)
        self._vectors: deque[int] = deque(maxlen=2 if design.double_buffered else 1)
        check(works, design)

    def run(self) -> None:
        """All operations, in order."""
        place = 0
        while place < len(self.works):
            section = self._attention_section(place)
            if section:
                self._run_attention(place, section)
                place += section
                continue
            self._take_turn(place)
            self._run_one(place)
            place += 1

    # Which operations belong together

    def _attention_section(self, place: int) -> int:
        """How many operations from here are one layer with the attention that reads it by head."""
        end = place + 1
        if not self.design.coarse or self.works[place].kind is not Kind.LINEAR:
            return 0
        while end < len(self.works) and self._is_by_head(end):
            end += 1
        if end == place + 1:
            return 0
        quantize = end < len(self.works) and self._quantizes_columns(end)
        return end - place + quantize

    def _is_by_head(self, place: int) -> bool:
        work = self.works[place]
        return work.heads > 1 and work.kind in _HEAD_KINDS

    def _quantizes_columns(self, place: int) -> bool:
        """Whether an operation quantizes groups of what comes column by column."""
        work = self.works[place]
        if work.kind is not Kind.QUANTIZE or not work.group or work.heads > 1 or not work.after:
            return False
        return self._kind_of.get(work.after[0]) in (Kind.GELU, Kind.VALUES)

    def _take_turn(self, place: int) -> None:
        """Without the coarse level: wait for all before, unless this is a stage of the same."""
        if self.design.coarse or (place and self._continues(place)):
            return
        self.turn = (self.timeline.latest, Cause.TURN)

    def _continues(self, place: int) -> bool:
        """Whether an operation is a further stage of the matrix operation before it."""
        work, before = self.works[place], self.works[place - 1]
        is_stage = before.kind in (Kind.HADAMARD, Kind.QUANTIZE) and before.heads == 1
        consumes = work.kind in (Kind.QUANTIZE, *PRODUCTS) and before.name in work.after
        return is_stage and consumes

    # One operation after the other

    def _run_one(self, place: int) -> None:
        work = self.works[place]
        if work.heads > 1:
            self._run_heads(place)
        elif work.kind in PRODUCTS:
            for _ in self._run_product(place):
                pass
        elif work.kind is Kind.CACHE_WRITE:
            self.transfer(place, work.cache_written_bytes, *self._needs(work))
        elif work.kind in _BY_COLUMNS:
            self._run_columns(place)
        elif self._quantizes_columns(place):
            quantizer = _ColumnQuantizer(self, place)
            for part in self.result(work.after[0]).columns:
                quantizer.feed(*part)
        else:
            self._run_rows(place)

    def _run_columns(self, place: int) -> None:
        """Element by element, as the columns come."""
        work = self.works[place]
        others = [(self.result(name).whole, Cause.INPUT) for name in work.after[1:]]
        done, result = 0, self.new_result(work)
        for end, time in self.result(work.after[0]).columns:
            cycles = -(-work.rows * (end - done) // self.design.special_lanes)
            needs = ((time, Cause.INPUT), *others, self.turn)
            _, ready = self.timeline.run(place, Unit.SPECIAL, cycles, *needs, tail=MODELLED_LATENCY)
            result.columns.append((end, ready))
            done = end

    def _run_rows(self, place: int) -> None:
        """Row by row, in as many rows at a time as a tile has."""
        work = self.works[place]
        source = self.result(work.after[0]) if work.after else Result(rows=[(0, 0)])
        others = [(self.result(name).whole, Cause.INPUT) for name in work.after[1:]]
        inner = self._continues(place) if place else False
        overlaps = self.design.fine if inner else self.design.coarse
        rows, columns = work.rows, work.columns
        unit, interval, elements, tail = self._row_unit(work)
        result = self.new_result(work)
        for end in pieces(rows, self.design.rows):
            begin = result.rows[-1][0] if result.rows else 0
            cycles = -(-(end - begin) * columns // elements) * interval
            time = source.of_rows(end) if overlaps else source.whole
            needs = ((time, Cause.INPUT), *others, self.turn)
            _, ready = self.timeline.run(place, unit, cycles, *needs, tail=tail)
            result.rows.append((end, ready))

    def _row_unit(self, work: Work) -> tuple[Unit, int, int, int]:
        """Which unit does it, its interval and for how many elements, and its tail."""
        if work.kind is Kind.HADAMARD:
            timing = self.design.hadamard_timing
            return Unit.HADAMARD, timing.interval, POINTS * self.design.transforms, timing.latency
        if work.kind is Kind.QUANTIZE:
            return self.quantizer(work)
        return Unit.SPECIAL, 1, self.design.special_lanes, MODELLED_LATENCY

    def quantizer(self, work: Work) -> tuple[Unit, int, int, int]:
        group = work.group or work.columns
        timing = self.design.quantizer_timing(work.input_format, group)
        tail = timing.latency + -(-group // QUANTIZER_LANES) - timing.interval
        return Unit.QUANTIZER, timing.interval, group * self.design.quantizers, tail

    # Products with weights

    def _run_product(self, place: int) -> Iterator[tuple[int, int]]:
        """Yields (columns done, since when) chunk by chunk."""
        work, design, timeline = self.works[place], self.design, self.timeline
        result, stream = self.new_result(work), _WeightStream(self, place)
        inputs = self.input_times(place)
        for chunk in stream.chunks:
            loaded = (stream.load(chunk), Cause.WEIGHTS)
            unit, cycles, tail = self._tile(work, chunk)
            drain = 0 if design.fine else tail
            edges = not result.columns or chunk.end == work.columns
            runs = inputs if edges else [(work.rows, inputs[-1][1])]
            done = 0
            for end, time in runs:
                tiles = -(-(end - done) // design.rows)
                needs = (loaded, (time, Cause.INPUT), self.turn)
                busy = self._busy(work, end - done, tiles, cycles)
                _, ready = timeline.run(place, unit, busy, *needs, tail=tail, drain=drain * tiles)
                if chunk.end == work.columns:
                    result.rows.append((end, ready))
                done = end
            stream.release(chunk, timeline.free[unit])
            result.columns.append((chunk.end, ready))
            yield chunk.end, ready

    def _busy(self, work: Work, rows: int, tiles: int, cycles: int) -> int:
        """A tile of the matrix array takes its time even if some rows are empty."""
        return tiles * cycles if self._is_matrix(work) else rows * cycles

    def _tile(self, work: Work, chunk: Chunk) -> tuple[Unit, int, int]:
        """The unit, the cycles of a tile (or of a row, outside the matrix array), and the tail."""
        if not self._is_matrix(work):
            cycles = -(-work.inner * chunk.width // self.design.attention_macs)
            return Unit.ATTENTION, cycles, MODELLED_LATENCY
        timing = self.design.matrix_timing(work.input_format)
        cycles = -(-work.inner // self.design.group) * timing.interval
        return Unit.MATRIX, cycles, timing.latency - timing.interval + self.design.rows

    def input_times(self, place: int) -> list[tuple[int, int]]:
        """For each tile of rows, its last row and since when it is there."""
        work = self.works[place]
        ends = pieces(work.rows, self.design.rows)
        if not work.after:
            return [(end, 0) for end in ends]
        source = self.result(work.after[0])
        overlaps = self.design.fine if place and self._continues(place) else self.design.coarse
        return [(end, source.of_rows(end) if overlaps else source.whole) for end in ends]

    def _is_matrix(self, work: Work) -> bool:
        return work.weight_format != "fp16"

    # Attention, head by head

    def _run_attention(self, place: int, count: int) -> None:
        """A layer that gives queries, keys and values, and all that follows for each head.

        Its columns come head by head (the weights' rows are sorted so, which costs nothing). The
        values of one head are computed after the scores of the next, while softmax works.
        """
        last = place + count - 1
        quantizer = None if self._is_by_head(last) else _ColumnQuantizer(self, last)
        parts = range(place + 1, last + (quantizer is None))
        heads = self.works[place + 1].heads
        slots = _Slots(self, parts, quantizer)
        columns, done = self.works[place].columns, 0
        for end, time in self._run_product(place):
            while done < heads and columns * (done + 1) // heads <= end:
                slots.run(done, time)
                done += 1
        slots.finish()

    def _run_heads(self, place: int) -> None:
        """All heads of one operation, one after the other."""
        work = self.works[place]
        needs = self._needs(work)
        for head in range(work.heads):
            self.run_head(place, head, *needs, self.turn)

    def run_head(self, place: int, head: int, *needs: Need) -> int:
        """One head of one operation; returns when its result is there."""
        work, design = self.works[place], self.design
        result = self._results.get(work.name) or self.new_result(work)
        if work.kind is Kind.CACHE_READ:
            ready = self._read_vectors(place, head, *needs)
        elif work.kind in (Kind.SCORES, Kind.VALUES):
            cycles = -(-work.inner * work.columns // design.attention_macs)
            cycles *= work.rows * work.products // work.heads
            _, ready = self.timeline.run(
                place, Unit.ATTENTION, cycles, *needs, tail=MODELLED_LATENCY
            )
        else:
            unit, interval, elements, tail = self._row_unit(work)
            cycles = -(-work.elements // work.heads // elements) * interval
            _, ready = self.timeline.run(place, unit, cycles, *needs, tail=tail)
        if work.kind is Kind.VALUES:
            self._vectors.append(ready)
        width = work.columns if work.kind is Kind.VALUES else 1
        result.columns.append(((head + 1) * width, ready))
        return ready

    def _read_vectors(self, place: int, head: int, *needs: Need) -> int:
        """A head's keys and values, into the place of those of the last head but one."""
        work = self.works[place]
        full = len(self._vectors) == self._vectors.maxlen
        room = (self._vectors[0] if full and self.design.coarse else 0, Cause.ROOM)
        count = _share(work.cache_read_bytes, head, work.heads)
        return self.transfer(place, count, room, *needs)

    # Bookkeeping

    def transfer(self, place: int, count: float, *needs: Need) -> int:
        numerator, denominator = self._cycles_per_byte
        cycles = -(-math.ceil(count) * numerator // denominator)
        _, ready = self.timeline.run(place, Unit.DMA, cycles, *needs, self.turn)
        result = self._results.get(self.works[place].name) or self.new_result(self.works[place])
        result.rows = [(1, ready)]
        return ready

    def _needs(self, work: Work) -> list[Need]:
        return [
            (
                self.result(name).whole,
                Cause.CACHE if self._kind_of[name] is Kind.CACHE_READ else Cause.INPUT,
            )
            for name in work.after
        ]

    def new_result(self, work: Work) -> Result:
        return self._results.setdefault(work.name, Result())

    def result(self, name: str) -> Result:
        if name not in self._results:
            raise ValueError(f"{name!r} is needed before it is there; put the work in order")
        return self._results[name]


class _WeightStream:
    """The weights of one product on their way, chunk by chunk."""

    def __init__(self, machine: Machine, place: int):
        self.machine, self.place = machine, place
        self.chunks = chunks_of(machine.works[place], machine.design)
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
        room = (machine.buffer.room_for(sum(chunk.nbytes for chunk in batch)), Cause.ROOM)
        needs = [room] if machine.design.fine else [room, (self._stage(), Cause.STAGE)]
        for chunk in batch:
            if chunk.nbytes:
                self._loaded = machine.transfer(self.place, chunk.nbytes, *needs)

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
        return self.machine.input_times(self.place)[-1][1]


class _ColumnQuantizer:
    """Quantizes what comes column by column, as soon as groups are complete."""

    def __init__(self, machine: Machine, place: int):
        self.machine, self.place, self._groups = machine, place, 0

    def feed(self, columns: int, time: int) -> None:
        """So many columns are there in all rows, since `time`."""
        machine = self.machine
        work = machine.works[self.place]
        new = columns // work.group - self._groups
        if not new:
            return
        self._groups += new
        unit, interval, elements, tail = machine.quantizer(work)
        cycles = -(-work.rows * new * work.group // elements) * interval
        needs = ((time, Cause.INPUT), machine.turn)
        _, ready = machine.timeline.run(self.place, unit, cycles, *needs, tail=tail)
        machine.new_result(work).columns.append((self._groups * work.group, ready))


class _Slots:
    """Attention's operations for one head after the other, the weighted sums one head behind."""

    def __init__(self, machine: Machine, places: range, quantizer: _ColumnQuantizer | None):
        self.machine, self.quantizer = machine, quantizer
        self._places = {machine.works[place].kind: place for place in places}
        self._held: tuple[int, int] | None = None

    def run(self, head: int, time: int) -> None:
        """All of a head but its weighted sum; and that of the head before."""
        ready = (time, Cause.INPUT)
        needs = [ready]
        for kind in (Kind.UNIT, Kind.QUANTIZE):
            if kind in self._places:
                needs = [(self._run(kind, head, *needs), Cause.INPUT)]
        if Kind.CACHE_READ in self._places:
            needs.append((self._run(Kind.CACHE_READ, head), Cause.CACHE))
        scores = self._run(Kind.SCORES, head, *needs)
        self.finish()
        self._held = head, self._run(Kind.SOFTMAX, head, (scores, Cause.INPUT))

    def finish(self) -> None:
        """The weighted sum of the last head."""
        if self._held is None:
            return
        head, softmax = self._held
        self._held = None
        ready = self._run(Kind.VALUES, head, (softmax, Cause.INPUT))
        if self.quantizer:
            work = self.machine.works[self._places[Kind.VALUES]]
            self.quantizer.feed((head + 1) * work.columns, ready)

    def _run(self, kind: Kind, head: int, *needs: Need) -> int:
        return self.machine.run_head(self._places[kind], head, *needs)


def _share(total: float, place: int, count: int) -> int:
    whole = int(-(-total // 1))
    return whole * (place + 1) // count - whole * place // count
