"""Quantizes keys and values as they are written to the cache: per head and token, packed."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from fpqvar_lab.formats import E2M3, TIES_TO_EVEN, Rounding, SignedFormat
from fpqvar_lab.hardware.rtl.group_quantizer import GroupQuantizer
from fpqvar_lab.hardware.rtl.unit import Unit


class KVQuantizer(Unit):
    """A `GroupQuantizer` over one head's vector, whose codes leave as words of memory.

    Streams: `i` (in, `lanes` signed integers per beat: the vectors of one head after the other);
    `o` (out: `data`, codes from the lowest bits up, those of `gather` beats; `scale`, bfloat16 bits
    of the vector's scale; `last`, set with the vector's last word). Each entry is quantized once,
    when it is written; the code released with the paper quantizes the whole cache at each step.

    `latency`: from a vector's first beat in to its first word out; `interval`: between vectors.

    Args:
        fmt: format of the codes: E2M3 at 6 bits in the paper's recipes, or E2M1.
        lanes: number of elements that enter per beat, that is per cycle.
        width: number of bits of an element, sign included; at most 16.
        group: number of channels of a head, which share a scale.
        rounding: which way exact ties go.
        gather: number of beats whose codes form a word of memory; it divides the beats of a vector.

    Raises:
        ValueError: when `lanes * gather` does not divide `group`.
    """

    def __init__(
        self,
        fmt: SignedFormat = E2M3,
        lanes: int = 8,
        width: int = 16,
        group: int = 64,
        rounding: Rounding = TIES_TO_EVEN,
        gather: int = 2,
    ):
        if group % (lanes * gather):
            raise ValueError(f"{lanes} lanes of {gather} beats do not divide the group of {group}")
        self.quantizer = GroupQuantizer(fmt, lanes, width, group, rounding)
        self.format, self.lanes, self.group, self.gather = fmt, lanes, group, gather
        self.word = lanes * gather * fmt.bits
        self.latency = self.quantizer.latency + gather
        self.interval = self.quantizer.interval
        word = StructLayout({"data": self.word, "scale": 16, "last": 1})
        numbers = self.quantizer.i.payload.shape()
        super().__init__({"i": In(stream.Signature(numbers)), "o": Out(stream.Signature(word))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.quantizer = quantizer = self.quantizer
        connect(m, flipped(self.i), quantizer.i)
        beat, place = quantizer.o, Signal(range(self.gather))
        is_full = place == self.gather - 1
        m.d.comb += beat.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(beat.valid & beat.ready):
            bits = len(beat.payload.codes.as_value())
            shifted = Cat(self.o.payload.data[bits:], beat.payload.codes)
            m.d.sync += [
                self.o.payload.data.eq(shifted),
                self.o.payload.scale.eq(beat.payload.scale),
                self.o.payload.last.eq(beat.payload.last),
                self.o.valid.eq(is_full),
                place.eq(Mux(is_full, 0, place + 1)),
            ]
        return m
