"""Weights on their way: in chunks, the columns of one tile, through a buffer."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from fpqvar_lab.formats import format_from_text
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.workload import FULL_BYTES, PRODUCTS, Kind, Op


@dataclass
class WeightBuffer:
    """A ring of chunks that leave in the order in which they came."""

    capacity: int
    double: bool
    kept: deque[tuple[int, int]] = field(default_factory=deque)
    held: int = 0

    def room_for(self, count: int) -> int:
        """Since when there is room for so many more bytes."""
        since = 0
        while self.kept and (not self.double or self.held + count > self.capacity):
            size, released = self.kept.popleft()
            self.held -= size
            since = max(since, released)
        return since

    def keep(self, count: int, released: int) -> None:
        self.kept.append((count, released))
        self.held += count


@dataclass(frozen=True)
class Chunk:
    """The columns of one tile of a product: up to `end`, with their weights."""

    end: int
    width: int
    nbytes: int


def chunks_of(op: Op, design: Design) -> list[Chunk]:
    """A product's columns in tiles, with the bytes of their weights."""
    ends = pieces(op.columns, design.tile_columns)
    total = -(-op.weight_bytes // 1)
    found = []
    for begin, end in pairwise([0, *ends]):
        nbytes = total * end // op.columns - total * begin // op.columns
        found.append(Chunk(end, end - begin, int(nbytes)))
    return found


def pieces(total: int, size: int) -> list[int]:
    """Ends of pieces of `size`, the last one shorter."""
    return [min(begin + size, total) for begin in range(0, total, size)]


_Sizes = dict[tuple[int | None, int | None], float]


def activation_bytes_needed(ops: Sequence[Op]) -> int:
    """The least activation buffer: the residual stream, a layer's input, the next one's being
    written, and two heads' keys and values from the cache.
    """
    largest: _Sizes = {}
    inputs: _Sizes = {}
    stream: _Sizes = {}
    cached: _Sizes = {}
    for op in ops:
        key = (op.step, op.block)
        if op.kind is Kind.LINEAR:
            read = op.activation_bytes - FULL_BYTES * op.rows * op.columns
            largest[key] = max(largest.get(key, 0), inputs.get(key, 0) + read)
            inputs[key] = read
        if op.kind is Kind.RESIDUAL:
            stream[key] = FULL_BYTES * op.elements
        if op.kind is Kind.CACHE_READ:
            cached[key] = 2 * op.cache_read_bytes / op.heads
    sums = [size + stream.get(key, 0) + cached.get(key, 0) for key, size in largest.items()]
    return int(-(-max(sums, default=0) // 1))


def check(ops: Sequence[Op], design: Design) -> None:
    """Raises `ValueError` where a design cannot do the work."""
    for op in ops:
        if op.kind in PRODUCTS:
            _check_formats(op, design)
            chunk = max(chunk.nbytes for chunk in chunks_of(op, design))
            if chunk > design.weight_buffer_bytes:
                raise ValueError(
                    f"weight_buffer_bytes {design.weight_buffer_bytes} is less than the {chunk} "
                    f"bytes of {design.tile_columns} columns of {op.name}"
                )
    needed = activation_bytes_needed(ops)
    if needed > design.activation_buffer_bytes:
        raise ValueError(
            f"activation_buffer_bytes {design.activation_buffer_bytes} is less than the {needed} "
            "bytes that the largest step needs"
        )


def _check_formats(op: Op, design: Design) -> None:
    if op.weight_format == "fp16":
        return
    built = [format_from_text(name).bits for name in design.formats]
    given = format_from_text(op.input_format).bits, format_from_text(op.weight_format).bits
    if given[1] != built[1] or given[0] not in (built[0], built[2]):
        raise ValueError(
            f"{op.name} multiplies {op.input_format} by {op.weight_format}; the design's "
            f"arrays take {design.formats[0]} or {design.formats[2]} by {design.formats[1]}"
        )
    design.matrix_timing(op.input_format)
