"""A group's scale: its peak over the format's largest level, by long division."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import DualFormat, Format, SignedFormat
from fpqvar_lab.hardware.rtl.unit import Unit

SIGNIFICAND_BITS = 8
EXPONENT = signed(8)
QUOTIENT = StructLayout({"digits": SIGNIFICAND_BITS, "round": 1, "sticky": 1, "exponent": EXPONENT})
SCALE = StructLayout({"significand": SIGNIFICAND_BITS, "exponent": EXPONENT})


class ScaleDivider(Unit):
    """`peak / fmt.max` to 8 significant bits and two that say what was cut off.

    Streams: `i` (in, the peak, unsigned), `o` (out, `QUOTIENT`): the quotient is
    `(digits + (round + s) / 2) * 2^exponent`, 0 < s < 1 if `sticky` is 1 and s = 0 if it is 0;
    `digits` is 0 for a peak of 0, else its highest bit is 1. One bit of the quotient a step, most
    significant first; the divisor is `fmt.max` without its powers of two (3 for E2M1).

    `rounded` makes bfloat16's significand of it.

    Latency: `cycles + 1`; interval: `cycles + 2`.

    Args:
        fmt: whose largest level divides.
        width: of the peak, in bits.
        steps: bits of the quotient a cycle.
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


def rounded(m: Module, quotient: Value, name: str) -> Signal:
    """The quotient rounded to 8 significant bits, ties to even, as a `SCALE`."""
    scale = Signal(SCALE, name=name)
    up = quotient.round & (quotient.sticky | quotient.digits[0])
    total = Signal(SIGNIFICAND_BITS + 1, name=f"{name}_total")
    overflows = total[-1]
    m.d.comb += [
        total.eq(quotient.digits + up),
        scale.significand.eq(Mux(overflows, 2 ** (SIGNIFICAND_BITS - 1), total)),
        scale.exponent.eq(quotient.exponent + overflows),
    ]
    return scale


def bfloat16(scale: Value) -> Value:
    """The 16 bits of bfloat16 for a `SCALE`: 0 for a significand of 0."""
    field = (scale.exponent + (127 + SIGNIFICAND_BITS - 1))[:8]
    return Mux(scale.significand == 0, 0, Cat(scale.significand[:-1], field))


def group_scales(
    m: Module, fmt: Format, quotients: list[Value]
) -> tuple[list[Value], dict[str, Value]]:
    """The scale of each half's thresholds, and the fields that `quantized_beat` sends.

    Args:
        m: where the logic goes.
        fmt: of the codes.
        quotients: one `QUOTIENT`, or (positive, negative) for a dual format.
    """
    scales = [rounded(m, quotient, f"scale{i}") for i, quotient in enumerate(quotients)]
    if not isinstance(fmt, DualFormat):
        return list(scales), {"scale": bfloat16(scales[0])}
    if fmt.scale_ratio == "free":
        return list(scales), {"scale": bfloat16(scales[0]), "negative": bfloat16(scales[1])}
    return _with_ratio(m, quotients[1], *scales)


def _with_ratio(
    m: Module, quotient: Value, above: Signal, below: Signal
) -> tuple[list[Value], dict[str, Value]]:
    """The negative half's scale as the least `main * 2^shift` that is not below its quotient.

    A group without positive elements takes the negative half's scale as its main one.
    """
    has_above, has_below = above.significand != 0, quotient.digits != 0
    main, shifted = Signal(SCALE, name="main"), Signal(SCALE, name="shifted")
    exceeds = Cat(quotient.round | quotient.sticky, quotient.digits) > (main.significand << 1)
    shift = Signal(SCALE["exponent"].shape, name="shift")
    m.d.comb += main.eq(Mux(has_above, above.as_value(), below.as_value()))
    with m.If(has_below):
        m.d.comb += [
            shift.eq(quotient.exponent - main.exponent + exceeds),
            shifted.significand.eq(main.significand),
            shifted.exponent.eq(main.exponent + shift),
        ]
    return [above, shifted], {"scale": bfloat16(main), "negative": shift}
