"""The quantizer with power-of-two scales: a shift in place of a division, and a table."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from fpqvar_lab.formats import TIES_TO_EVEN, DualFormat, Format, Rounding, SignedFormat
from fpqvar_lab.hardware.rtl.group_intake import GroupIntake, intake_latency
from fpqvar_lab.hardware.rtl.integers import branches, midpoint_exponent
from fpqvar_lab.hardware.rtl.rounding_table import RoundingTable
from fpqvar_lab.hardware.rtl.unit import Unit

BIAS = 127


class ShiftQuantizer(Unit):
    """Power-of-two scales (MX's E8M0) from the position of amax's leading bit.

    Streams: `i` (in, `lanes` signed integers per beat); `o` (out: `codes`; `scales`, the exponent
    with bias 127 for each branch, positive first; `last`). Equal, bit for bit, to `Quantizer(fmt,
    per_group(group), rounding=rounding, scale_dtype=POWER_OF_TWO)` on the integers: every element
    is shifted so that amax's leading bit meets that of the largest level, and a `RoundingTable`
    does the rest, saturation included.

    `latency`: from a group's first beat in to its first beat out; `interval`: between groups.

    Args:
        fmt: format of the codes; it must be sign-magnitude. Each branch of a dual format has a
            scale of its own.
        lanes: number of elements that enter per beat, that is per cycle.
        width: number of bits of an element, sign included; at most 16.
        group: number of consecutive elements that share a scale.
        rounding: which way exact ties go.

    Raises:
        ValueError: when `lanes` does not divide `group`, `width` exceeds 16, or the format ties its
            branches' scales to each other.
    """

    def __init__(
        self,
        fmt: Format,
        lanes: int = 8,
        width: int = 16,
        group: int = 32,
        rounding: Rounding = TIES_TO_EVEN,
    ):
        if width > 16:
            raise ValueError(f"width {width} exceeds 16")
        if isinstance(fmt, DualFormat) and fmt.scale_ratio != "free":
            raise ValueError(f"{fmt}: any two powers of two have such a ratio; use 'free'")
        self.format, self.lanes, self.width, self.rounding = fmt, lanes, width, rounding
        self.group = group
        self.interval = max(group // lanes, 2)
        self.latency = intake_latency(lanes, group) + 2
        self.intake = GroupIntake(
            lanes, width, group, split=isinstance(fmt, DualFormat), wait=self.latency
        )
        scales = ArrayLayout(8, len(branches(fmt)))
        beat = StructLayout({"codes": ArrayLayout(fmt.bits, lanes), "scales": scales, "last": 1})
        super().__init__(
            {
                "i": In(stream.Signature(ArrayLayout(signed(width), lanes))),
                "o": Out(stream.Signature(beat)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.intake = intake = self.intake
        connect(m, flipped(self.i), intake.i)
        active = Signal()
        beat = Signal(range(intake.beats_per_group))
        is_last = beat == intake.beats_per_group - 1
        fires = active & intake.beats.valid & (~self.o.valid | self.o.ready)
        positions = [_leading(m, amax, i) for i, amax in enumerate(self._amax())]
        kept = [Signal.like(position, name=f"kept{i}") for i, position in enumerate(positions)]
        empty = Signal(len(kept))
        m.d.comb += [
            intake.beats.ready.eq(fires),
            intake.amax.ready.eq(~active | (fires & is_last)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(fires):
            m.d.sync += [beat.eq(Mux(is_last, 0, beat + 1)), active.eq(~is_last)]
            m.d.sync += [self.o.valid.eq(1), self.o.payload.last.eq(is_last)]
            self._send(m, kept, empty)
        with m.If(intake.amax.ready & intake.amax.valid):
            m.d.sync += [active.eq(1), empty.eq(Cat(amax == 0 for amax in self._amax()))]
            m.d.sync += [new.eq(old) for new, old in zip(kept, positions, strict=True)]
        return m

    def _amax(self) -> list[Value]:
        return [self.intake.amax.payload[i] for i in range(len(branches(self.format)))]

    def _send(self, m: Module, kept: list[Signal], empty: Signal) -> None:
        for index, (half, position) in enumerate(zip(branches(self.format), kept, strict=True)):
            exponent = position + (BIAS - _exponent(half.max))
            m.d.sync += self.o.payload.scales[index].eq(Mux(empty[index], 0, exponent))
        for lane in range(self.lanes):
            m.d.sync += self.o.payload.codes[lane].eq(self._code(m, lane, kept))

    def _code(self, m: Module, lane: int, kept: list[Signal]) -> Value:
        number = self.intake.beats.payload[lane]
        negative = number[-1]
        magnitude = Mux(negative, -number, number)[: self.width]
        position = Mux(negative, kept[-1], kept[0])
        aligned = Signal(self.width, name=f"aligned{lane}")
        m.d.comb += aligned.eq(magnitude << (self.width - 1 - position)[: len(position)])
        m.submodules[f"table{lane}"] = table = RoundingTable(self.format, self.rounding)
        cuts = [self._cut(aligned, half) for half in branches(self.format)]
        m.d.comb += [
            table.magnitude.eq(Mux(negative, cuts[-1][0], cuts[0][0])),
            table.sticky.eq(Mux(negative, cuts[-1][1], cuts[0][1])),
            table.sign.eq(negative),
        ]
        return table.code

    def _cut(self, aligned: Value, half: SignedFormat) -> tuple[Value, Value]:
        """The bits from the largest level's leading one down to half a step, and the rest."""
        bits = _exponent(half.max) - midpoint_exponent(half) + 1
        padded = Cat(Const(0, max(0, bits - self.width)), aligned)
        return padded[len(padded) - bits :], padded[: len(padded) - bits].any()


def _exponent(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator.bit_length() - denominator.bit_length()


def _leading(m: Module, value: Value, index: int) -> Signal:
    """The position of the highest bit that is 1; 0 if there is none."""
    position = Signal(range(len(value)), name=f"leading{index}")
    for bit in range(len(value)):
        with m.If(value[bit]):
            m.d.comb += position.eq(bit)
    return position
