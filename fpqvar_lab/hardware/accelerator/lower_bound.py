"""How fast a design can be at most with `PipelineScheduler`'s order of work, in closed form.

Three things bound a step from below: each unit's own work; the weights, of which no more than a
bufferful can come before the step; and the chain of a block's operations, each of which needs the
whole of the one before it or, row by row, a first part.

The first two hold for any schedule. The chain is this scheduler's: a product takes its columns in
chunks, all rows of a chunk before the next one, so that whole rows are there only at its end. A
schedule that finishes some rows first could begin the next operation earlier and beat the bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.operation import Kind, Op

_SPECIAL = (Kind.SOFTMAX, Kind.GELU, Kind.NORM, Kind.UNIT)


@dataclass(frozen=True)
class Block:
    """A block of one step, as far as its chain of operations goes; all blocks of a step are equal.

    Args:
        products: The shape (rows, inner, columns) of each of its layers, in order.
        row_stages: What normalises, transforms and quantizes row by row before the first and the
            third layer.
        attention_macs: Multiply-accumulate operations with keys and values.
        special: How many elements the special-function unit treats for attention.
        heads: How many heads follow each other.
    """

    products: tuple[tuple[int, int, int], ...]
    row_stages: tuple[tuple[Op, ...], tuple[Op, ...]]
    attention_macs: int
    special: int
    heads: int

    @staticmethod
    def of(ops: Sequence[Op]) -> "Block":
        """The block that these operations make up."""
        named = {op.name.rpartition("/")[2]: op for op in ops}
        layers = [named[name] for name in ("mat_qkv", "proj", "fc1", "fc2")]

        def stages(*names: str) -> tuple[Op, ...]:
            return tuple(named[name] for name in names if name in named)

        return Block(
            tuple((op.rows, op.inner, op.columns) for op in layers),
            (
                stages("norm1", "mat_qkv.hadamard", "mat_qkv.quantize"),
                stages("norm2", "fc1.hadamard", "fc1.quantize"),
            ),
            named["scores"].macs + named["values"].macs,
            named["unit"].elements + named["softmax"].elements,
            named["scores"].heads,
        )

    def cycles(self, design: Design) -> int:
        """The chain of a block: rows, first layer and attention, second; rows, third, fourth."""
        rows1, rows2 = (_rows(stage, design) for stage in self.row_stages)
        qkv, proj, fc1, fc2 = (product_cycles(*shape, design) for shape in self.products)
        products = self.attention_macs // design.attention_macs
        special = self.special // design.special_lanes
        # All heads but the last are done while the first layer's columns come.
        last_head = (products + special) // self.heads
        attention = max(qkv - _first(self.products[0], design) + last_head, products, special)
        third = fc1 - _first(self.products[2], design) + self._gelu_of_last(design)
        return rows1 + attention + proj + rows2 + third + fc2

    def _gelu_of_last(self, design: Design) -> int:
        """GELU of the third layer's last columns, which the fourth one waits for."""
        rows, _, columns = self.products[2]
        return rows * ((columns - 1) % design.tile_columns + 1) // design.special_lanes


@dataclass(frozen=True)
class StepLoad:
    """What is done in one step.

    Args:
        blocks: How many blocks there are.
        block: One of the blocks, which are all alike in a step.
        weight_bytes: Bytes of weights read in this step.
        head_macs: Multiply-accumulate operations of the layer that gives the logits, which follows
            all blocks.
    """

    blocks: int
    block: Block
    weight_bytes: float
    head_macs: int

    def products(self, design: Design) -> int:
        """Cycles that the matrix arrays are busy."""
        cycles = (product_cycles(*shape, design) for shape in self.block.products)
        return self.blocks * sum(cycles)

    def chain(self, design: Design) -> int:
        """Cycles of the operations that wait for each other."""
        return self.blocks * self.block.cycles(design) + self.head_macs // design.attention_macs


@dataclass(frozen=True)
class Load:
    """What must be done, counted once for many designs.

    Args:
        ops: The operations, as from `workload`.
    """

    ops: tuple[Op, ...]

    @cached_property
    def steps(self) -> tuple[StepLoad, ...]:
        """The work by step; what runs once per image counts with the first one."""
        by_step: dict[int, list[Op]] = {}
        for op in self.ops:
            by_step.setdefault(op.step or 0, []).append(op)
        return tuple(_step_load(items) for _, items in sorted(by_step.items()))

    @cached_property
    def other_macs(self) -> int:
        """Multiply-accumulate operations outside the matrix arrays."""
        return sum(op.macs for op in self.ops if not op.multiplies_low_bit_weights)

    def elements(self, *kinds: Kind) -> int:
        """How many elements the operations of these kinds treat."""
        return sum(op.elements for op in self.ops if op.kind in kinds)

    @cached_property
    def by_unit(self) -> Mapping[str, int]:
        """How many elements each unit but the arrays treats."""
        return {
            "special": self.elements(*_SPECIAL),
            "hadamard": self.elements(Kind.HADAMARD),
            "quantizer": self.elements(Kind.QUANTIZE),
        }

    @cached_property
    def column_bytes(self) -> float:
        """Bytes of the weights of one output channel, for the layer with the most."""
        return max(op.weight_bytes / op.columns for op in self.ops if op.weight_bytes)

    @cached_property
    def bytes_read(self) -> float:
        """Bytes read from the external memory."""
        return sum(op.weight_bytes + op.cache_read_bytes for op in self.ops)

    @cached_property
    def bytes_written(self) -> float:
        """Bytes written to the external memory."""
        return sum(op.cache_written_bytes for op in self.ops)


@dataclass(frozen=True)
class Least:
    """What a design must do at the least, as an `energy.Activity`.

    Args:
        cycles: A bound on all cycles, for this scheduler's order of work.
        seconds: The bound on all cycles, in seconds.
        busy: A bound on the busy cycles of each unit, for any order.
        bytes_read: Bytes read from the external memory.
        bytes_written: Bytes written to it.
    """

    cycles: int
    seconds: float
    busy: Mapping[str, int]
    bytes_read: float
    bytes_written: float


def least(load: Load, design: Design, rate: float) -> Least:
    """The bound for a design with both levels of the pipeline and `rate` bytes per second.

    It holds without the levels too, and is less near.
    """
    cycles_per_byte = design.clock_hz / rate
    lanes = {
        "special": design.special_lanes,
        "hadamard": design.hadamard_lanes,
        "quantizer": design.quantizer_lanes,
    }
    busy = {unit: load.by_unit[unit] // lanes[unit] for unit in lanes}
    busy["matrix"] = sum(step.products(design) for step in load.steps)
    busy["attention"] = load.other_macs // design.attention_macs
    busy["dma"] = int((load.bytes_read + load.bytes_written) * cycles_per_byte)
    in_turn = sum(
        max(
            step.chain(design),
            int((step.weight_bytes - design.weight_buffer_bytes) * cycles_per_byte),
        )
        for step in load.steps
    )
    cycles = max(in_turn, *busy.values())
    return Least(cycles, cycles / design.clock_hz, busy, load.bytes_read, load.bytes_written)


def product_cycles(rows: int, inner: int, columns: int, design: Design) -> int:
    """Cycles of one product in the matrix arrays, on padding too."""
    tiles = ceil(rows / design.rows) * ceil(columns / design.tile_columns)
    return tiles * ceil(inner / design.lanes)


def _first(shape: tuple[int, int, int], design: Design) -> int:
    """Cycles of the first tile of columns, in all rows."""
    rows, inner, columns = shape
    return product_cycles(rows, inner, min(columns, design.tile_columns), design)


def _rows(stages: Sequence[Op], design: Design) -> int:
    """Stages that follow each other row by row take as long as the slowest of them."""
    return max(_stage(op, design) for op in stages)


def _stage(op: Op, design: Design) -> int:
    if op.kind is Kind.HADAMARD:
        return op.elements // design.hadamard_lanes
    if op.kind is Kind.QUANTIZE:
        group = op.group or op.columns
        assert op.input_format is not None
        interval = design.quantizer_timing(op.input_format, group).interval
        return op.elements * interval // (group * design.quantizers)
    return op.elements // design.special_lanes


def _step_load(ops: Sequence[Op]) -> StepLoad:
    blocks = {op.block for op in ops if op.kind is Kind.LINEAR}
    first = [op for op in ops if op.block == 0]
    return StepLoad(
        len(blocks),
        Block.of(first),
        sum(op.weight_bytes for op in ops),
        sum(op.macs for op in ops if op.kind is Kind.HEAD),
    )
