"""A group's thresholds: the format's midpoints times the group's scale, in whole input units."""

import math

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import Rounding, SignedFormat
from fpqvar_lab.hardware.rtl.group_scales import SCALE
from fpqvar_lab.hardware.rtl.integers import midpoint_exponent, midpoints, tie_goes_up
from fpqvar_lab.hardware.rtl.scale_divider import SIGNIFICAND_BITS
from fpqvar_lab.hardware.rtl.truth_table import lookup
from fpqvar_lab.hardware.rtl.unit import Unit


class ThresholdGenerator(Unit):
    """The numbers that an element's doubled magnitude is compared with, one per cycle.

    Streams: `i` (in, a `SCALE`), `o` (out, the array of thresholds, ascending). With t the exact
    product of midpoint and scale, an element belongs above when its magnitude a is more than t, or
    equal to t and the tie goes up. The elements are compared as 2a, or as 2a - 1 on the side of
    zero (below it, but above it for ties to negative) where a tie to one side goes down. So the
    threshold is 2t for those tie rules, 2t - 1 or 2t + 1 for a tie to even that goes up or down,
    and 2 floor(t) + 1 where t is no integer. All are exact. What no element can reach, a midpoint
    beyond the elements' range or any midpoint times a scale of 0, is all ones.

    Latency: one cycle for each threshold, and one more; interval: two more.

    Args:
        fmt: the format whose midpoints are multiplied by the scale.
        width: number of bits of an element, sign included; thresholds have one bit more.
        rounding: which way exact ties go.
        largest_shift: how far the scale may lie above `fmt`'s own range of scales; more than 0
            where the scale is a dual format's other branch's times a power of two.
    """

    def __init__(
        self, fmt: SignedFormat, width: int, rounding: Rounding, *, largest_shift: int = 1
    ):
        self.format, self.rounding, self.width = fmt, rounding, width + 1
        self.midpoints = midpoints(fmt)
        self.count = len(self.midpoints)
        self.latency, self.interval = self.count + 1, self.count + 2
        normal = SIGNIFICAND_BITS - 1
        lowest = math.floor(math.log2(1 / fmt.max)) - normal + midpoint_exponent(fmt)
        highest = math.floor(math.log2(2 ** (width - 1) / fmt.max)) - normal + largest_shift
        self.fraction_bits = max(0, -lowest)
        self.largest_shift = highest + midpoint_exponent(fmt) + self.fraction_bits
        super().__init__(
            {
                "i": In(stream.Signature(SCALE)),
                "o": Out(stream.Signature(ArrayLayout(self.width, self.count))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scale = Signal(SCALE)
        index = Signal(range(self.count + 1))
        busy = Signal()
        bank = Signal(self.width * self.count)
        m.d.comb += [
            self.i.ready.eq(~busy),
            self.o.valid.eq(busy & (index == self.count)),
            self.o.payload.eq(bank),
        ]
        with m.If(~busy):
            m.d.sync += [scale.eq(self.i.payload), busy.eq(self.i.valid), index.eq(0)]
        with m.Elif(~self.o.valid):
            m.d.sync += [bank.eq(Cat(bank[self.width :], self._threshold(m, scale, index)))]
            m.d.sync += index.eq(index + 1)
        with m.Elif(self.o.ready):
            m.d.sync += busy.eq(0)
        return m

    def _threshold(self, m: Module, scale: Signal, index: Signal) -> Signal:
        address = index[: (self.count - 1).bit_length()]
        padding = [0] * (2 ** len(address) - self.count)
        bits = self.midpoints[-1].bit_length()
        middle = lookup(m, address, [*self.midpoints, *padding], bits, "middle")
        ups = [tie_goes_up(i, False, self.rounding) for i in range(self.count)]
        goes_up = lookup(m, address, [*map(int, ups), *padding], 1, "goes_up")
        shift = Signal(range(self.largest_shift + 1))
        product = Signal(bits + SIGNIFICAND_BITS)
        t = Signal(len(product) + self.largest_shift)
        whole = Signal(self.width)
        m.d.comb += [
            shift.eq(scale.exponent + (midpoint_exponent(self.format) + self.fraction_bits)),
            product.eq(middle * scale.significand),
            t.eq(product << shift),
            whole.eq(t[self.fraction_bits :]),
        ]
        is_integer = t[: self.fraction_bits] == 0
        threshold = Signal(self.width)
        doubled = (whole << 1)[: self.width]
        m.d.comb += threshold.eq(doubled + 1)
        is_beyond = t[self.fraction_bits + self.width - 1 :].any()
        with m.If((scale.significand == 0) | is_beyond):
            m.d.comb += threshold.eq(2**self.width - 1)
        with m.Elif(is_integer):
            if self.rounding is Rounding.TIES_TO_EVEN:
                m.d.comb += threshold.eq(Mux(goes_up, doubled - 1, doubled + 1))
            else:
                m.d.comb += threshold.eq(doubled)
        return threshold
