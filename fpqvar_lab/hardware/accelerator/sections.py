"""Which operations are scheduled together: attention head by head with the layer before it, and the
stages of one matrix operation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fpqvar_lab.hardware.accelerator.operation import PRODUCTS, Kind, Op

_HEAD_KINDS = (Kind.UNIT, Kind.QUANTIZE, Kind.CACHE_READ, Kind.SCORES, Kind.SOFTMAX, Kind.VALUES)


@dataclass(frozen=True)
class Section:
    """Operations that are scheduled together: one, or a layer with the attention that reads it.

    Args:
        op: The operation, or the layer that gives queries, keys and values.
        is_stage: Whether it is a further stage of the matrix operation before it.
        takes_columns: Whether it quantizes groups of what comes column by column.
        by_head: The operations that follow for each head.
        quantizer: What quantizes the columns that the heads give.
    """

    op: Op
    is_stage: bool
    takes_columns: bool
    by_head: tuple[Op, ...] = ()
    quantizer: Op | None = None


def sections(ops: Sequence[Op], coarse: bool) -> Iterator[Section]:
    """The operations in order; attention is a section of its own only where operations overlap."""
    kinds = {op.name: op.kind for op in ops}

    def takes_columns(op: Op) -> bool:
        if op.kind is not Kind.QUANTIZE or not op.group or op.heads > 1 or not op.after:
            return False
        return kinds.get(op.after[0]) in (Kind.GELU, Kind.VALUES)

    index = 0
    while index < len(ops):
        op = ops[index]
        is_stage = index > 0 and _continues(op, ops[index - 1])
        by_head = _following_heads(ops, index) if coarse and op.kind is Kind.LINEAR else ()
        index += 1 + len(by_head)
        quantizer = None
        if by_head and index < len(ops) and takes_columns(ops[index]):
            quantizer = ops[index]
            index += 1
        yield Section(op, is_stage, takes_columns(op), by_head, quantizer)


def _continues(op: Op, before: Op) -> bool:
    is_stage = before.kind in (Kind.HADAMARD, Kind.QUANTIZE) and before.heads == 1
    consumes = op.kind in (Kind.QUANTIZE, *PRODUCTS) and before.name in op.after
    return is_stage and consumes


def _following_heads(ops: Sequence[Op], index: int) -> tuple[Op, ...]:
    """The operations right after one that can be done head by head."""
    end = index + 1
    while end < len(ops) and ops[end].heads > 1 and ops[end].kind in _HEAD_KINDS:
        end += 1
    return tuple(ops[index + 1 : end])
