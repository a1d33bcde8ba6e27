"""The matrix unit: dot products in rows and columns that keep their outputs as operands pass."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import DualFormat, Format, SignedFormat
from fpqvar_lab.hardware.rtl.dot_product import DotProduct, DualDotProduct
from fpqvar_lab.hardware.rtl.integers import quantum_exponent
from fpqvar_lab.hardware.rtl.lanes import AlignedLane, CodeLane, DualLane, lane_for
from fpqvar_lab.hardware.rtl.operand_aligner import ALIGNMENTS, OperandAligner
from fpqvar_lab.hardware.rtl.register import delay
from fpqvar_lab.hardware.rtl.scale_unit import EXPONENT, ScaleUnit
from fpqvar_lab.hardware.rtl.unit import Unit


def operand_beat(a: Format, b: SignedFormat, rows: int, columns: int, lanes: int) -> StructLayout:
    """What the matrix unit takes: codes each beat, scales with the last beat of a group.

    `negative` is the negative branch's scale, or for `scale_ratio="power-of-two"` its shift, and
    must be there with every beat. `first` and `last` mark the first and the last group of a sum.
    """
    layout: dict[str, object] = {
        "a": ArrayLayout(ArrayLayout(a.bits, lanes), rows),
        "b": ArrayLayout(ArrayLayout(b.bits, lanes), columns),
        "a_scales": ArrayLayout(16, rows),
        "b_scales": ArrayLayout(16, columns),
    }
    if isinstance(a, DualFormat):
        word = 16 if a.scale_ratio == "free" else signed(8)
        layout["negative"] = ArrayLayout(word, rows)
    return StructLayout({**layout, "first": 1, "last": 1})


class MatrixUnit(Unit):
    """`rows` x `columns` dot products of `lanes` products each: a @ b.T of quantized operands.

    Streams: `i` (in, `operand_beat`); `o` (out, one beat for each row of a finished tile:
    `results`, one signed number for each column, in units of 2^`base`). `base` (in) stays as it is.

    A group takes `group / lanes` beats, after which every dot product's total is kept aside; while
    the next group passes, one `ScaleUnit` for each column multiplies the rows' totals by their
    scales and adds them up over the groups (see there for what is exact). A dual format with free
    scales has two totals for each output, and takes two turns; with a power-of-two ratio each row
    has an `OperandAligner` for each lane, and a single total.

    `interval`: `group / lanes` cycles between groups. `latency`: from the first beat of a sum's
    last group to its first row. The unit takes the last group of a sum only when there is room for
    its results.

    Args:
        a: format of the rows' operand (activations).
        b: format of the columns' operand (weights); it must be sign-magnitude.
        rows: number of rows of the tile.
        columns: number of columns of the tile.
        lanes: number of products per cycle in each dot product.
        group: number of elements that share a scale, in both operands.
        result_bits: number of bits of a result, a signed integer.

    Raises:
        ValueError: when `lanes` does not divide `group`, or a group is over before all rows of the
            one before have been scaled.
    """

    def __init__(
        self,
        a: Format,
        b: SignedFormat,
        rows: int = 8,
        columns: int = 8,
        lanes: int = 16,
        group: int = 128,
        result_bits: int = 32,
    ):
        self.a, self.b = a, b
        self.rows, self.columns, self.lanes = rows, columns, lanes
        self.passes = 2 if isinstance(a, DualFormat) and a.scale_ratio == "free" else 1
        if group % lanes or rows * self.passes > group // lanes:
            raise ValueError(
                f"lanes {lanes} must divide the group of {group} into at least "
                f"{rows * self.passes} beats, one for each total of a column"
            )
        self.interval = group // lanes
        self._dots = [[self._dot(group) for _ in range(columns)] for _ in range(rows)]
        dot = self._dots[0][0]
        self._scalers = [ScaleUnit(dot.total_bits, rows, result_bits) for _ in range(columns)]
        self._wait = dot.latency + self._is_aligned
        self.latency = self.interval + self._wait + ScaleUnit.latency + 2
        self.latency += (self.passes - 1) * rows
        results = StructLayout({"results": ArrayLayout(signed(result_bits), columns)})
        super().__init__(
            {
                "i": In(stream.Signature(operand_beat(a, b, rows, columns, lanes))),
                "o": Out(stream.Signature(results)),
                "base": In(EXPONENT),
            }
        )

    @property
    def _is_aligned(self) -> bool:
        return isinstance(self.a, DualFormat) and self.a.scale_ratio == "power-of-two"

    def _dot(self, group: int) -> DotProduct | DualDotProduct:
        if not isinstance(self.a, DualFormat):
            lane = lane_for(self.a) if self.a == self.b else CodeLane(self.a, self.b)
            return DotProduct(lane, self.lanes, group)
        if self._is_aligned:
            return DotProduct(AlignedLane(self.b, ALIGNMENTS), self.lanes, group)
        return DualDotProduct(DualLane(self.a, self.b), self.lanes, group)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = Signal(range(self.interval))
        room = Signal()
        is_first, is_last = beat == 0, beat == self.interval - 1
        taken = self.i.valid & self.i.ready
        m.d.comb += self.i.ready.eq(~is_first | ~self.i.payload.last | room)
        with m.If(taken):
            m.d.sync += beat.eq(Mux(is_last, 0, beat + 1))
        self._multiply(m, delay(m, taken, self._wait - 1), delay(m, is_first, self._wait - 1))
        ends = delay(m, taken & is_last, self._wait)
        self._drain(m, ends, self._kept_scales(m, taken & is_last, ends))
        self._send(m, taken & is_first & self.i.payload.last, room)
        return m

    def _multiply(self, m: Module, enable: Value, clear: Value) -> None:
        rows = [self._row_operand(m, row) for row in range(self.rows)]
        wait = int(self._is_aligned)
        columns = [delay(m, self.i.payload.b[c].as_value(), wait) for c in range(self.columns)]
        for r, dots in enumerate(self._dots):
            for c, dot in enumerate(dots):
                m.submodules[f"dot{r}_{c}"] = dot
                m.d.comb += [dot.a.eq(rows[r]), dot.b.eq(columns[c])]
                m.d.comb += [dot.enable.eq(enable), dot.clear.eq(clear)]

    def _row_operand(self, m: Module, row: int) -> Value:
        codes = self.i.payload.a[row]
        if not (self._is_aligned and isinstance(self.a, DualFormat)):
            return codes.as_value()
        aligners = [OperandAligner(self.a) for _ in range(self.lanes)]
        for lane, aligner in enumerate(aligners):
            m.submodules[f"aligner{row}_{lane}"] = aligner
            m.d.comb += aligner.code.eq(codes[lane])
            m.d.comb += aligner.shift.eq(self.i.payload.negative[row])
        return delay(m, Cat(aligner.operand for aligner in aligners), 1)

    def _kept_scales(self, m: Module, arrive: Value, leave: Value) -> Signal:
        """The scales of a group, held back until its totals are there, and while they drain."""
        fields = [f for f in self.i.payload.shape().members if f not in ("a", "b")]
        payload = self.i.payload
        words = Cat(payload[field] for field in fields)
        # Those under way, and one that arrives as one leaves.
        depth = -(-self._wait // self.interval) + 2
        m.submodules.scales = store = SyncFIFO(width=len(words), depth=depth)
        m.d.comb += [store.w_data.eq(words), store.w_en.eq(arrive), store.r_en.eq(leave)]
        layout = StructLayout({field: payload.shape()[field].shape for field in fields})
        kept = Signal(layout, name="kept_scales")
        with m.If(leave):
            m.d.sync += kept.eq(store.r_data)
        return kept

    def _drain(self, m: Module, ends: Value, scales: Signal) -> None:
        """Give each column's totals to its scale unit, one after the other."""
        turns = self.rows * self.passes
        turn = Signal(range(turns))
        active = Signal()
        with m.If(active):
            m.d.sync += turn.eq(Mux(turn == turns - 1, 0, turn + 1))
        with m.If(ends):
            m.d.sync += active.eq(1)
        with m.Elif(turn == turns - 1):
            m.d.sync += active.eq(0)
        second = turn >= self.rows
        a_scale, exponent = self._scale_of(turn, scales)
        for c, scaler in enumerate(self._scalers):
            m.submodules[f"scaler{c}"] = scaler
            totals = Array(self._keep(m, ends, c))
            m.d.comb += [
                scaler.valid.eq(active),
                scaler.total.eq(totals[turn]),
                scaler.a_scale.eq(a_scale),
                scaler.b_scale.eq(scales.b_scales[c]),
                scaler.exponent.eq(exponent),
                scaler.base.eq(self.base),
                scaler.first.eq(scales.first & ~second),
                scaler.last.eq(scales.last & (second if self.passes == 2 else 1)),
            ]

    def _keep(self, m: Module, ends: Value, column: int) -> list[Value]:
        """A column's totals at the end of a group: row after row, branch after branch."""
        dots = [dots[column] for dots in self._dots]
        if self.passes == 1:
            totals: list[Value] = [dot.total for dot in dots]
        else:
            totals = [dot.positive for dot in dots] + [dot.negative for dot in dots]
        kept = [Signal(total.shape(), name=f"kept{column}_{i}") for i, total in enumerate(totals)]
        with m.If(ends):
            m.d.sync += [new.eq(old) for new, old in zip(kept, totals, strict=True)]
        return list(kept)

    def _scale_of(self, turn: Signal, scales: Signal) -> tuple[Value, Value]:
        """The row's scale in this turn, and the exponent of its integers' unit."""
        a_scales = [scales.a_scales[row] for row in range(self.rows)]
        if not isinstance(self.a, DualFormat):
            return Array(a_scales)[turn], Const(
                quantum_exponent(self.a) + quantum_exponent(self.b), EXPONENT
            )
        above, below = (
            quantum_exponent(half) + quantum_exponent(self.b)
            for half in (self.a.positive, self.a.negative)
        )
        others = [scales.negative[row] for row in range(self.rows)]
        if self._is_aligned:
            shift = Array(others)[turn]
            return Array(a_scales)[turn], shift + below - OperandAligner(self.a).quantum_shift(
                shift
            )
        is_above = turn < self.rows
        return Array(a_scales + others)[turn], Mux(is_above, above, below)

    def _send(self, m: Module, reserves: Value, room: Signal) -> None:
        """Collect the columns' results, with room reserved before the last group is taken."""
        depth = 4 * self.rows
        width = len(self.o.payload.as_value())
        m.submodules.results = store = SyncFIFOBuffered(width=width, depth=depth)
        free = Signal(range(depth + 1), init=depth)
        leaves = self.o.valid & self.o.ready
        m.d.sync += free.eq(free - Mux(reserves, self.rows, 0) + leaves)
        m.d.comb += [
            room.eq(free >= self.rows),
            store.w_data.eq(Cat(scaler.result for scaler in self._scalers)),
            store.w_en.eq(self._scalers[0].result_valid),
            store.r_en.eq(self.o.ready),
            self.o.valid.eq(store.r_rdy),
            self.o.payload.eq(store.r_data),
        ]
