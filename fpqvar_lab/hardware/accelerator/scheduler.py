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

from collections.abc import Iterator, Sequence
from functools import partial

from fpqvar_lab.hardware.accelerator.attention import ColumnQuantizer, HeadPipeline, HeadRunner
from fpqvar_lab.hardware.accelerator.availability import Availability, Results
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.feasibility import require_feasible
from fpqvar_lab.hardware.accelerator.memory import MemoryChannel
from fpqvar_lab.hardware.accelerator.operation import PRODUCTS, Kind, Op
from fpqvar_lab.hardware.accelerator.sections import Section, sections
from fpqvar_lab.hardware.accelerator.service import (
    ProductService,
    element_service,
    product_service,
)
from fpqvar_lab.hardware.accelerator.timeline import Dependency, StallReason, Timeline
from fpqvar_lab.hardware.accelerator.weights import WeightBuffer, WeightStream, chunks_of, pieces

_BY_COLUMNS = (Kind.GELU, Kind.RESIDUAL)


class PipelineScheduler:
    """Turns operations into tasks on a timeline.

    Args:
        ops: The operations, in an order in which they can run.
        design: The design that the work runs on.
        memory_bytes_per_s: Bytes per second that the external memory gives.
        timeline: The timeline that the tasks run on.

    Raises:
        ValueError: when the design cannot do the work: formats differ, or a buffer is too small.
    """

    def __init__(
        self, ops: Sequence[Op], design: Design, memory_bytes_per_s: float, timeline: Timeline
    ):
        self._ops, self._design, self._timeline = ops, design, timeline
        self._memory = MemoryChannel(timeline, design.clock_hz, memory_bytes_per_s)
        self._results = Results()
        self._buffer = WeightBuffer(design.weight_buffer_bytes, design.double_buffered)
        self._heads = HeadRunner(design, timeline, self._memory, self._results)
        self._kinds = {op.name: op.kind for op in ops}
        require_feasible(ops, design)

    def run(self) -> None:
        """Run all operations, in order."""
        for section in sections(self._ops, self._design.coarse):
            if not self._design.coarse and not section.is_stage:
                self._timeline.wait_for_all()
            if section.by_head:
                self._run_attention(section)
            else:
                self._run_one(section)

    def _run_one(self, section: Section) -> None:
        op = section.op
        if op.heads > 1:
            needs = self._needs(op)
            for head in range(op.heads):
                self._heads.run(op, head, *needs)
        elif op.kind in PRODUCTS:
            for _ in self._run_product(section):
                pass
        elif op.kind is Kind.CACHE_WRITE:
            ready = self._memory.transfer(op, op.cache_written_bytes, *self._needs(op))
            self._results.open(op).rows.append((op.rows, ready))
        elif op.kind in _BY_COLUMNS:
            self._run_columns(op)
        elif section.takes_columns:
            quantizer = self._column_quantizer(op)
            for columns, time in self._results.of(op.after[0]).columns:
                quantizer.feed(columns, time)
        else:
            self._run_rows(section)

    def _run_columns(self, op: Op) -> None:
        """Run element-wise work as the columns come."""
        others = [(self._results.of(name).whole, StallReason.INPUT) for name in op.after[1:]]
        service, result, done = element_service(op, self._design), self._results.open(op), 0
        for end, time in self._results.of(op.after[0]).columns:
            cycles = service.cycles(op.rows * (end - done))
            needs = ((time, StallReason.INPUT), *others)
            ready = self._timeline.run(op, service.unit, cycles, *needs, tail=service.tail)
            result.columns.append((end, ready))
            done = end

    def _run_rows(self, section: Section) -> None:
        """Run element-wise work row by row, as many rows at a time as a tile has."""
        op = section.op
        others = [(self._results.of(name).whole, StallReason.INPUT) for name in op.after[1:]]
        service, result, done = element_service(op, self._design), self._results.open(op), 0
        for end, time in self._input_times(section):
            cycles = service.cycles((end - done) * op.columns)
            needs = ((time, StallReason.INPUT), *others)
            ready = self._timeline.run(op, service.unit, cycles, *needs, tail=service.tail)
            result.rows.append((end, ready))
            done = end

    def _run_product(self, section: Section) -> Iterator[tuple[int, int]]:
        """Run a product with weights chunk by chunk.

        Yields:
            How many columns are done, and the cycle from which they are there in all rows.
        """
        op, design = section.op, self._design
        chunks, result = chunks_of(op, design), self._results.open(op)
        inputs = self._input_times(section)
        load = partial(self._memory.transfer, op)
        stream = WeightStream(chunks, design, self._buffer, load, inputs[-1][1])
        for chunk in chunks:
            loaded = (stream.ready(chunk), StallReason.WEIGHTS)
            is_last = chunk is chunks[-1]
            # Only the first chunk waits for its rows, and only the last one's rows are waited for.
            runs = inputs if is_last or chunk is chunks[0] else [(op.rows, inputs[-1][1])]
            service = product_service(op, chunk.width, design)
            parts = self._multiply(op, service, loaded, runs)
            if is_last:
                result.rows.extend(parts)
            ready = parts[-1][1]
            stream.release(chunk, self._timeline.free[service.unit])
            result.columns.append((chunk.end, ready))
            yield chunk.end, ready

    def _multiply(
        self,
        op: Op,
        service: ProductService,
        loaded: Dependency,
        runs: Sequence[tuple[int, int]],
    ) -> list[tuple[int, int]]:
        """Multiply runs of rows by one chunk of weights.

        Args:
            op: The product.
            service: The array that multiplies rows by as many columns as the chunk has.
            loaded: The cycle from which the chunk is in the weight buffer, and what the array waits
                for until then.
            runs: The row after the last of each run of rows, and the cycle from which the run can
                be read.

        Returns:
            The end of each run, and the cycle from which its result is there.
        """
        done, found = 0, []
        for end, time in runs:
            drained = 0 if self._design.fine else -(-(end - done) // self._design.rows)
            ready = self._timeline.run(
                op,
                service.unit,
                service.cycles(end - done),
                loaded,
                (time, StallReason.INPUT),
                tail=service.tail,
                drain=service.tail * drained,
            )
            found.append((end, ready))
            done = end
        return found

    def _run_attention(self, section: Section) -> None:
        """Run a layer that gives queries, keys and values, and all that follows for each head.

        Its columns come head by head (the weights' rows are sorted so, which costs nothing).
        """
        quantizer = None if section.quantizer is None else self._column_quantizer(section.quantizer)
        pipeline = HeadPipeline(section.by_head, self._heads, quantizer)
        heads, columns, done = section.by_head[0].heads, section.op.columns, 0
        for end, time in self._run_product(section):
            while done < heads and columns * (done + 1) // heads <= end:
                pipeline.run(done, time)
                done += 1
        pipeline.finish()

    def _column_quantizer(self, op: Op) -> ColumnQuantizer:
        return ColumnQuantizer(op, self._design, self._timeline, self._results.open(op))

    def _input_times(self, section: Section) -> list[tuple[int, int]]:
        """The last row of each tile of rows, and the cycle from which the tile's input is there."""
        op = section.op
        source = self._results.of(op.after[0]) if op.after else Availability(rows=[(0, 0)])
        overlaps = self._design.fine if section.is_stage else self._design.coarse
        ends = pieces(op.rows, self._design.rows)
        return [(end, source.of_rows(end) if overlaps else source.whole) for end in ends]

    def _needs(self, op: Op) -> list[Dependency]:
        return [(self._results.of(name).whole, self._reason(name)) for name in op.after]

    def _reason(self, name: str) -> StallReason:
        is_cache = self._kinds[name] is Kind.CACHE_READ
        return StallReason.CACHE if is_cache else StallReason.INPUT
