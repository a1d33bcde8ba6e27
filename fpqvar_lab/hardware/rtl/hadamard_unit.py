"""The Hadamard transform of a group, folded in time: a few butterflies instead of hundreds."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from fpqvar_lab.hardware.rtl.register import register
from fpqvar_lab.hardware.rtl.unit import Unit


class HadamardUnit(Unit):
    """Sylvester's Hadamard matrix times signed integers, after a flip of their signs.

    Streams: `i` (in, `lanes` consecutive numbers per beat), `o` (out, the same count per beat). The
    result is exact and not divided by sqrt(points), a factor that belongs into the scale: each
    stage makes the word one bit longer, and flipping the most negative number adds another bit.

    The stage for bit b of the index adds and subtracts numbers whose indices differ in that bit.
    The first log2(lanes) stages work within a beat. Each later one first exchanges, through delays
    of 1, 2, 4, ... beats, the last bit of the lane with a bit of the beat's number (a commutator).
    With all `points` as lanes there are no commutators, and the unit is the parallel one.

    Output order: lane p of beat t holds the element whose index is p's bits, except that the top
    one is the index's top bit, with t between them (`output_index`).

    Latency: `points / lanes - 1` beats of delays and a cycle for each of the log2(points) + 1
    stages; interval: 1 cycle per beat. Between two groups the input may pause for any time, which
    pushes the last one out; a beat that comes while it does waits for up to a group's time.

    Args:
        points: number of elements that are transformed together, a power of two.
        lanes: number of elements that enter per beat, a power of two from 2 to `points`.
        width: number of bits of an input element, sign included.
        signs: +1 or -1 for each element; all +1 by default.

    Raises:
        ValueError: when `points` or `lanes` is no such power of two, or `signs` does not fit.
    """

    def __init__(
        self, points: int = 128, lanes: int = 2, width: int = 12, signs: Sequence[int] = ()
    ):
        if points.bit_count() != 1 or lanes.bit_count() != 1 or not 2 <= lanes <= points:
            raise ValueError(f"points {points} and lanes {lanes}: use powers of two, 2 <= lanes")
        if len(signs) not in (0, points) or not {*signs} <= {1, -1}:
            raise ValueError(f"signs: {len(signs)} of them; use {points} of +1 and -1")
        self.points, self.lanes, self.width, self.signs = points, lanes, width, tuple(signs)
        self.stages = points.bit_length() - 1
        self.inner = lanes.bit_length() - 1
        self.beats = points // lanes
        self.latency = self.beats - 1 + self.stages + bool(signs)
        self.interval = self.beats
        self.output_width = width + self.stages + bool(signs)
        numbers, results = (ArrayLayout(signed(bits), lanes) for bits in (width, self.output_width))
        super().__init__({"i": In(stream.Signature(numbers)), "o": Out(stream.Signature(results))})

    def output_index(self, beat: int, lane: int) -> int:
        """Which element of the transform is in a lane of a beat of the output."""
        half = self.lanes // 2
        return lane % half + beat * half + lane // half * (self.points // 2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = Signal(range(self.beats))
        step = self._control(m, beat)
        numbers: list[Value] = [self.i.payload[lane] for lane in range(self.lanes)]
        if self.signs:
            numbers = self._flip(m, step, beat, numbers)
        delay = int(bool(self.signs))
        for bit in range(self.stages):
            if bit >= self.inner:
                time_bit = bit - self.inner
                arrived = (beat - delay % self.beats)[time_bit]
                numbers = _exchange(m, step, numbers, 2**time_bit, arrived, f"bit{bit}")
                delay += 2**time_bit
            distance = 2 ** min(bit, self.inner - 1)
            numbers = _butterflies(m, step, numbers, distance, f"bit{bit}")
            delay += 1
        m.d.comb += [self.o.payload[lane].eq(number) for lane, number in enumerate(numbers)]
        return m

    def _control(self, m: Module, beat: Signal) -> Signal:
        """Moves everything by one beat (`step`) when a beat comes or a last group is pushed out."""
        step = Signal()
        pushing = Signal()
        underway = Signal(range(self.latency + 2))
        flags = Signal(self.latency)
        can_move = ~self.o.valid | self.o.ready
        taken = self.i.valid & self.i.ready
        is_first, is_last = beat == 0, beat == self.beats - 1
        starts_pushing = is_first & (underway != 0) & ~self.i.valid & can_move & ~pushing
        m.d.comb += [
            self.i.ready.eq(can_move & ~pushing),
            self.o.valid.eq(flags[-1]),
            step.eq(taken | starts_pushing | (pushing & can_move)),
        ]
        m.d.sync += underway.eq(underway + taken - (self.o.valid & self.o.ready))
        with m.If(step):
            m.d.sync += [flags.eq(Cat(taken, flags)), beat.eq(Mux(is_last, 0, beat + 1))]
            m.d.sync += pushing.eq((starts_pushing | pushing) & ~is_last)
        with m.Elif(self.o.ready):
            m.d.sync += flags[-1].eq(0)
        return step

    def _flip(self, m: Module, step: Signal, beat: Signal, numbers: list[Value]) -> list[Value]:
        results = []
        for lane, number in enumerate(numbers):
            flips = sum((s < 0) << i for i, s in enumerate(self.signs[lane :: self.lanes]))
            flip = Const(flips, self.beats).bit_select(beat, 1)
            results.append(register(m, Mux(flip, -number, number), f"flipped{lane}", enable=step))
        return results


def _butterflies(
    m: Module, step: Signal, numbers: list[Value], distance: int, name: str
) -> list[Value]:
    """Sum and difference of the lanes that are `distance` apart, in registers."""
    results = list(numbers)
    for lane in range(len(numbers)):
        if not lane & distance:
            low, high = numbers[lane], numbers[lane + distance]
            results[lane] = register(m, low + high, f"{name}_sum{lane}", enable=step)
            results[lane + distance] = register(
                m, low - high, f"{name}_difference{lane}", enable=step
            )
    return results


def _exchange(
    m: Module, step: Signal, numbers: list[Value], beats: int, swaps: Value, name: str
) -> list[Value]:
    """The upper half of the lanes, `beats` beats back, changes places with the lower half."""
    half = len(numbers) // 2
    results = list(numbers)
    for lane in range(half):
        upper = _delay(m, step, numbers[lane + half], beats, f"{name}_in{lane}")
        crossed = Mux(swaps, upper, numbers[lane])
        results[lane] = _delay(m, step, crossed, beats, f"{name}_out{lane}")
        results[lane + half] = Mux(swaps, numbers[lane], upper)
    return results


def _delay(m: Module, step: Signal, value: Value, beats: int, name: str) -> Value:
    for beat in range(beats):
        value = register(m, value, f"{name}_{beat}", enable=step)
    return value
