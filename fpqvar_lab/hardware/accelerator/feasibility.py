"""Whether a design can do some work at all: formats and buffers."""

from collections.abc import Sequence

from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.format_key import format_key
from fpqvar_lab.hardware.accelerator.operation import PRODUCTS, Kind, Op
from fpqvar_lab.hardware.accelerator.storage import FULL_BYTES
from fpqvar_lab.hardware.accelerator.weights import chunks_of

_Sizes = dict[tuple[int | None, int | None], float]


def activation_bytes_needed(ops: Sequence[Op]) -> int:
    """The smallest activation buffer that is enough: it holds the residual stream, a layer's input,
    the next layer's input while that is written, and two heads' keys and values from the cache.
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


def require_feasible(ops: Sequence[Op], design: Design) -> None:
    """Refuse work that a design cannot do.

    Raises:
        ValueError: when formats differ from the design's, or a buffer is too small.
    """
    for op in ops:
        if op.kind in PRODUCTS:
            _require_formats(op, design)
            _require_weight_buffer(op, design)
    needed = activation_bytes_needed(ops)
    if needed > design.activation_buffer_bytes:
        raise ValueError(
            f"activation_buffer_bytes {design.activation_buffer_bytes} is less than the {needed} "
            "bytes that the largest step needs"
        )


def _require_weight_buffer(op: Op, design: Design) -> None:
    chunk = max(chunk.nbytes for chunk in chunks_of(op, design))
    if chunk > design.weight_buffer_bytes:
        raise ValueError(
            f"weight_buffer_bytes {design.weight_buffer_bytes} is less than the {chunk} "
            f"bytes of {design.tile_columns} columns of {op.name}"
        )


def _require_formats(op: Op, design: Design) -> None:
    if op.weight_format is None:
        return
    if op.input_format is None:
        raise ValueError(f"{op.name} has inputs in 16 bits; the design's arrays take none")
    activations, weights, fc2_input = design.formats
    fits = op.input_format.bits in (activations.bits, fc2_input.bits)
    if op.weight_format.bits != weights.bits or not fits:
        raise ValueError(
            f"{op.name} multiplies {format_key(op.input_format)} by {format_key(op.weight_format)};"
            f" the design's arrays take {format_key(activations)} or {format_key(fc2_input)} "
            f"by {format_key(weights)}"
        )
    design.matrix_timing(op.input_format)
