"""What a group's scale is rounded from: amax over the largest level, by long division."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import SignedFormat
from fpqvar_lab.hardware.rtl.unit import Unit

SIGNIFICAND_BITS = 8
EXPONENT = signed(8)
QUOTIENT = StructLayout({"digits": SIGNIFICAND_BITS, "round": 1, "sticky": 1, "exponent": EXPONENT})


class ScaleDivider(Unit):
    """`amax / fmt.max` to 8 significant bits, and two more that say what was cut off.

    Streams: `i` (in, amax, unsigned), `o` (out, `QUOTIENT`): the quotient is
    `(digits + (round + s) / 2) * 2^exponent`, with 0 < s < 1 if `sticky` is 1 and s = 0 if it is 0.
    `digits` is 0 where amax is 0; otherwise its highest bit is 1. Each step finds one bit of the
    quotient, the most significant one first. The divisor is `fmt.max` without its powers of two
    (3 for E2M1).

    Latency: `cycles + 1`; interval: `cycles + 2`.

    Args:
        fmt: The format by whose largest level amax is divided.
        width: The width of amax in bits.
        steps: How many bits of the quotient are found per cycle.
    """

    def __init__(self, fmt: SignedFormat, width: int, steps: int = 2):
        self.width, self.steps = width, steps
        numerator, denominator = fmt.max.as_integer_ratio()
        self.divisor = numerator // (numerator & -numerator)
        self.shift = (numerator & -numerator).bit_length() - denominator.bit_length()
        self.bits = width + self.divisor.bit_length() + SIGNIFICAND_BITS
        self.cycles = -(-self.bits // steps)
        self.latency, self.interval = self.cycles + 1, self.cycles + 2
        super().__init__({"i": In(stream.Signature(width)), "o": Out(stream.Signature(QUOTIENT))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        digits = Signal(SIGNIFICAND_BITS + 1)
        remainder = Signal(range(self.divisor))
        left = Signal(self.width)
        taken = Signal(range(self.bits + self.steps))
        cycle = Signal(range(self.cycles + 2))
        m.d.comb += [
            self.i.ready.eq(cycle == 0),
            self.o.payload.digits.eq(digits[1:]),
            self.o.payload.round.eq(digits[0]),
            self.o.payload.sticky.eq((remainder != 0) | (left != 0)),
            self.o.payload.exponent.eq(self.width + 1 - self.shift - taken),
            self.o.valid.eq(cycle == self.cycles + 1),
        ]
        with m.If(cycle == 0):
            m.d.sync += [digits.eq(0), remainder.eq(0), taken.eq(0), left.eq(self.i.payload)]
            with m.If(self.i.valid):
                m.d.sync += cycle.eq(1)
        with m.Elif(~self.o.valid | self.o.ready):
            m.d.sync += cycle.eq(Mux(self.o.valid, 0, cycle + 1))
        with m.If((cycle != 0) & ~self.o.valid):
            state = digits, remainder, left, taken
            for number in range(self.steps):
                state = self._step(m, number, *state)
            registers = digits, remainder, left, taken
            m.d.sync += [old.eq(new) for old, new in zip(registers, state, strict=True)]
        return m

    def _step(
        self, m: Module, number: int, digits: Value, remainder: Value, left: Value, taken: Value
    ) -> tuple[Value, Value, Value, Value]:
        """One digit; nothing once the first digit that is 1 has reached the highest place."""
        partial = Cat(left[-1], remainder)
        fits = partial >= self.divisor
        is_full = digits[-1]
        new = (
            Cat(fits, digits[:-1]),
            Mux(fits, partial - self.divisor, partial)[: len(remainder)],
            (left << 1)[: len(left)],
            taken + 1,
        )
        results = []
        for name, old, value in zip("drlt", (digits, remainder, left, taken), new, strict=True):
            result = Signal(len(old), name=f"{name}{number}")
            m.d.comb += result.eq(Mux(is_full, old, value))
            results.append(result)
        return results[0], results[1], results[2], results[3]
