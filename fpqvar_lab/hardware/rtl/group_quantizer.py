"""The quantizer: signed integers in, codes and a bfloat16 scale for each group out."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from fpqvar_lab.formats import TIES_TO_EVEN, DualFormat, Format, Rounding
from fpqvar_lab.hardware.rtl.comparator_bank import ComparatorBank
from fpqvar_lab.hardware.rtl.group_intake import GroupIntake, intake_latency
from fpqvar_lab.hardware.rtl.group_scales import group_scales
from fpqvar_lab.hardware.rtl.integers import branches
from fpqvar_lab.hardware.rtl.scale_divider import ScaleDivider
from fpqvar_lab.hardware.rtl.threshold_generator import ThresholdGenerator
from fpqvar_lab.hardware.rtl.unit import Unit


def quantized_beat(fmt: Format, lanes: int) -> StructLayout:
    """What the quantizers send: codes, the group's scale, and whether the group ends here.

    `scale` holds bfloat16 bits. A dual format has `negative` too: bfloat16 bits of the negative
    branch's scale, or for `scale_ratio="power-of-two"` the shift, an 8-bit integer.
    """
    layout: dict[str, object] = {"codes": ArrayLayout(fmt.bits, lanes), "scale": 16}
    if isinstance(fmt, DualFormat):
        layout["negative"] = 16 if fmt.scale_ratio == "free" else 8
    return StructLayout({**layout, "last": 1})


class GroupQuantizer(Unit):
    """Absolute-maximum scales in bfloat16, codes by comparison with the scaled midpoints.

    Streams: `i` (in, `lanes` signed integers per beat), `o` (out, `quantized_beat`). Equal, bit for
    bit, to `Quantizer(fmt, per_group(group), rounding=rounding, scale_dtype=BFLOAT16)` on the
    integers (up to 16 bits; float32's quotients then decide every tie as exact arithmetic does).

    A group passes four stages, each busy with another group: intake and amax, division, thresholds,
    output. `interval` (cycles between groups) is that of the slowest, `latency` that from a group's
    first beat in to its first beat out.

    Args:
        fmt: format of the codes; it must be sign-magnitude.
        lanes: number of elements that enter per beat, that is per cycle.
        width: number of bits of an element, sign included; at most 16.
        group: number of consecutive elements that share a scale.
        rounding: which way exact ties go.
        steps: number of bits of the quotient that the division finds per cycle.

    Raises:
        ValueError: when `lanes` does not divide `group`, or `width` exceeds 16.
    """

    def __init__(
        self,
        fmt: Format,
        lanes: int = 8,
        width: int = 16,
        group: int = 128,
        rounding: Rounding = TIES_TO_EVEN,
        steps: int = 2,
    ):
        if width > 16:
            raise ValueError(f"width {width} exceeds 16")
        self.format, self.lanes, self.width, self.rounding = fmt, lanes, width, rounding
        self.group = group
        is_dual = isinstance(fmt, DualFormat)
        self.dividers = [ScaleDivider(half, width, steps) for half in branches(fmt)]
        self.generators = [
            ThresholdGenerator(half, width, rounding, largest_shift=1 + is_dual)
            for half in branches(fmt)
        ]
        stages = [*self.dividers, *self.generators]
        self.interval = max(group // lanes, *(stage.interval for stage in stages))
        self.latency = intake_latency(lanes, group) + 2
        self.latency += max(divider.latency for divider in self.dividers)
        self.latency += max(generator.latency for generator in self.generators)
        self.intake = GroupIntake(
            lanes, width, group, split=is_dual, wait=self.latency, interval=self.interval
        )
        super().__init__(
            {
                "i": In(stream.Signature(self.intake.i.payload.shape())),
                "o": Out(stream.Signature(quantized_beat(fmt, lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.intake = self.intake
        connect(m, flipped(self.i), self.intake.i)
        done, frees, scales = self._generate(m, self._divide(m))
        active = Signal()
        beat = Signal(range(self.intake.beats_per_group))
        is_last = beat == self.intake.beats_per_group - 1
        fires = active & self.intake.beats.valid & (~self.o.valid | self.o.ready)
        banks = [
            Signal(g.o.payload.shape(), name=f"bank{i}") for i, g in enumerate(self.generators)
        ]
        sent = Signal.like(scales, name="sent")
        m.d.comb += [
            self.intake.beats.ready.eq(fires),
            frees.eq(done & (~active | (fires & is_last))),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(fires):
            m.d.sync += [beat.eq(Mux(is_last, 0, beat + 1)), self.o.valid.eq(1)]
            m.d.sync += [self.o.payload.last.eq(is_last), active.eq(~is_last)]
            m.d.sync += [self.o.payload[name].eq(sent[name]) for name in scales.shape().members]
            for lane in range(self.lanes):
                m.d.sync += self.o.payload.codes[lane].eq(self._code(m, lane, banks))
        with m.If(frees):
            m.d.sync += [active.eq(1), sent.eq(scales)]
            for bank, generator in zip(banks, self.generators, strict=True):
                m.d.sync += bank.eq(generator.o.payload)
        return m

    def _code(self, m: Module, lane: int, banks: list[Signal]) -> Value:
        number = self.intake.beats.payload[lane]
        negative = number[-1]
        count = max(generator.count for generator in self.generators)
        m.submodules[f"comparators{lane}"] = core = ComparatorBank(count, self.width + 1)
        m.d.comb += core.x.eq(self._doubled(number))
        for index in range(count):
            above, below = (_threshold(bank, index) for bank in (banks[0], banks[-1]))
            m.d.comb += core.thresholds[index].eq(Mux(negative, below, above))
        return Cat(core.index, negative)

    def _doubled(self, number: Value) -> Value:
        """Twice the magnitude, less 1 on the side where ties go down (see the generator)."""
        negative = number[-1]
        if self.rounding is Rounding.TIES_TO_NEGATIVE:
            return Mux(negative, -number << 1, Mux(number == 0, 0, (number << 1) - 1))
        return Cat(negative, number[:-1] ^ negative.replicate(self.width - 1))

    def _divide(self, m: Module) -> Value:
        """Send amax to the dividers; returns whether all quotients are there."""
        amax = self.intake.amax
        for index, divider in enumerate(self.dividers):
            m.submodules[f"divider{index}"] = divider
            m.d.comb += [
                divider.i.payload.eq(amax.payload[index]),
                divider.i.valid.eq(amax.valid & amax.ready),
            ]
        m.d.comb += amax.ready.eq(_all(divider.i.ready for divider in self.dividers))
        return _all(divider.o.valid for divider in self.dividers)

    def _generate(self, m: Module, quotients_ready: Value) -> tuple[Value, Value, Signal]:
        """Scales and thresholds; returns whether both are there, when to free them, the scales."""
        quotients = [divider.o.payload for divider in self.dividers]
        scales, fields = group_scales(m, self.format, quotients)
        kept = Signal(StructLayout({name: len(value) for name, value in fields.items()}))
        are_free = _all(generator.i.ready for generator in self.generators)
        starts = quotients_ready & are_free
        for index, (generator, scale) in enumerate(zip(self.generators, scales, strict=True)):
            m.submodules[f"generator{index}"] = generator
            m.d.comb += [generator.i.payload.eq(scale), generator.i.valid.eq(starts)]
        m.d.comb += [divider.o.ready.eq(starts) for divider in self.dividers]
        with m.If(starts):
            m.d.sync += [kept[name].eq(value) for name, value in fields.items()]
        done = _all(generator.o.valid for generator in self.generators)
        frees = Signal()
        m.d.comb += [generator.o.ready.eq(frees) for generator in self.generators]
        return done, frees, kept


def _all(values: Iterable[Value]) -> Value:
    return Cat(*values).all()


def _threshold(bank: Signal, index: int) -> Value:
    """One of a branch's thresholds; what the branch does not have is never reached."""
    width, count = bank.shape().elem_shape, bank.shape().length
    return bank[index] if index < count else Const(2**width - 1, width)
