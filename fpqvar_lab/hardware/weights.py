"""Weights on their way: in chunks, the columns of one tile, through a buffer."""

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

from fpqvar_lab.hardware.design import Design
from fpqvar_lab.hardware.workload import Work


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


def chunks_of(work: Work, design: Design) -> list[Chunk]:
    """A product's columns in tiles, with the bytes of their weights."""
    ends = pieces(work.columns, design.tile_columns)
    total = -(-work.weight_bytes // 1)
    found = []
    for begin, end in pairwise([0, *ends]):
        nbytes = total * end // work.columns - total * begin // work.columns
        found.append(Chunk(end, end - begin, int(nbytes)))
    return found


def pieces(total: int, size: int) -> list[int]:
    """Ends of pieces of `size`, the last one shorter."""
    return [min(begin + size, total) for begin in range(0, total, size)]
