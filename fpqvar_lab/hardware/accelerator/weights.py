"""Weights on their way from the external memory: in chunks, each the columns of one tile, through
a buffer.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.operation import Op
from fpqvar_lab.hardware.accelerator.timeline import Dependency, StallReason


def pieces(total: int, size: int) -> list[int]:
    """The ends of pieces of `size`, the last one shorter."""
    return [min(begin + size, total) for begin in range(0, total, size)]


@dataclass(frozen=True)
class Chunk:
    """The weights of one tile's columns.

    Args:
        end: The column after the last one, counted in the whole product.
        width: How many columns the chunk has.
        nbytes: How many bytes their weights take.
    """

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


@dataclass
class WeightBuffer:
    """A ring of chunks, which leave in the order in which they came.

    Args:
        capacity: How many bytes it holds.
        double: Whether chunks may arrive while others are in use.
        kept: The bytes of each chunk in the buffer, and the cycle from which it is not needed.
        held: The bytes of all of them.
    """

    capacity: int
    double: bool
    kept: deque[tuple[int, int]] = field(default_factory=deque)
    held: int = 0

    def room_for(self, count: int) -> int:
        """Let chunks leave; returns the cycle from which there is room for so many more bytes."""
        since = 0
        while self.kept and (not self.double or self.held + count > self.capacity):
            size, released = self.kept.popleft()
            self.held -= size
            since = max(since, released)
        return since

    def keep(self, count: int, released: int) -> None:
        """Let so many bytes stay in the buffer until the cycle `released`."""
        self.kept.append((count, released))
        self.held += count


class WeightStream:
    """Fetches the chunks of one product as they are needed.

    With the fine level, each chunk is fetched as soon as there is room for it. Without, as many as
    fit into half of the buffer are fetched together, when the stage before is over: the last
    chunk's use or, for the first chunks where operations do not overlap, the inputs.

    Args:
        chunks: All chunks of the product, in order.
        design: The design that the work runs on.
        buffer: The buffer that all products share.
        load: Reads so many bytes once its dependencies are met; returns the cycle in which they are
            there.
        inputs_ready: The cycle from which all inputs of the product are there.
    """

    def __init__(
        self,
        chunks: list[Chunk],
        design: Design,
        buffer: WeightBuffer,
        load: Callable[..., int],
        inputs_ready: int,
    ):
        self._waiting = deque(chunks)
        self._fine, self._buffer, self._load = design.fine, buffer, load
        self._batch_bytes = design.weight_buffer_bytes // 2 if design.double_buffered else 0
        self._stage_over = 0 if design.coarse else inputs_ready
        self._loaded = 0

    def ready(self, chunk: Chunk) -> int:
        """The cycle from which a chunk is in the buffer; chunks are asked for in order."""
        if self._waiting and self._waiting[0] is chunk:
            self._fetch()
        return self._loaded

    def release(self, chunk: Chunk, time: int) -> None:
        """Say that a chunk is not needed from the cycle `time` on."""
        self._buffer.keep(chunk.nbytes, time)
        self._stage_over = time

    def _fetch(self) -> None:
        batch = self._next_batch()
        room = self._buffer.room_for(sum(chunk.nbytes for chunk in batch))
        needs: list[Dependency] = [(room, StallReason.ROOM)]
        if not self._fine:
            needs.append((self._stage_over, StallReason.STAGE))
        for chunk in batch:
            if chunk.nbytes:
                self._loaded = self._load(chunk.nbytes, *needs)

    def _next_batch(self) -> list[Chunk]:
        batch = [self._waiting.popleft()]
        total = batch[0].nbytes
        while not self._fine and self._waiting:
            total += self._waiting[0].nbytes
            if total > self._batch_bytes:
                break
            batch.append(self._waiting.popleft())
        return batch
