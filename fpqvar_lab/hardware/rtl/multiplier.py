"""Multipliers of two low-bit codes: a truth table, arithmetic on fields, and plain integers.

All are combinational (latency 0, a new pair every cycle) and exact: the product is the product of
the two codes' integers (`code_integers`), never rounded. FPQVAR (arXiv 2505.16335) builds its
multiplier from lookup tables but does not publish it; these are ours.
"""

from typing import Literal

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import DualFormat, FloatFormat, Format, SignedFormat
from fpqvar_lab.hardware.rtl.integers import code_integers, is_sign_magnitude
from fpqvar_lab.hardware.rtl.truth_table import lookup
from fpqvar_lab.hardware.rtl.unit import Unit

Output = Literal["sign-magnitude", "twos-complement"]


class Multiplier(Unit):
    """What all multipliers share: the ports and the width of the product.

    Ports: `a`, `b` (codes, in), `o` (product, out). With "sign-magnitude" the top bit of `o` is the
    sign and the rest the magnitude (zero may be negative); with "twos-complement" `o` is signed.

    Args:
        a: format of the first operand.
        b: format of the second operand; the same as `a` by default.
        output: code of the product, "sign-magnitude" or "twos-complement".

    Raises:
        ValueError: for a sign-magnitude product of two's complement operands.
    """

    latency = 0

    def __init__(self, a: Format, b: Format | None = None, output: Output = "sign-magnitude"):
        self.formats = a, a if b is None else b
        self.output = output
        if output == "sign-magnitude" and not all(map(is_sign_magnitude, self.formats)):
            raise ValueError(f"{self.formats} has no sign bit; use output='twos-complement'")
        a_integers, b_integers = map(code_integers, self.formats)
        products = [x * y for x in (min(a_integers), max(a_integers)) for y in b_integers]
        self.magnitude_bits = max(map(abs, products)).bit_length()
        if output == "sign-magnitude":
            shape = unsigned(self.magnitude_bits + 1)
        else:
            bits = [(p if p >= 0 else -p - 1).bit_length() for p in products]
            shape = signed(max(bits) + 1)
        a_bits, b_bits = (fmt.bits for fmt in self.formats)
        super().__init__({"a": In(a_bits), "b": In(b_bits), "o": Out(shape)})


class TableMultiplier(Multiplier):
    """The product as a truth table over the bits of both codes.

    With a sign-magnitude product the signs are one XOR, and the table is over the magnitudes: for
    two E2M1 codes 6 inputs, so each product bit is one 6-input LUT. The sign of a dual format's
    code also selects the branch, and enters the table.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.output == "twos-complement":
            m.d.comb += self.o.eq(self._table(m, self.a, self.b).as_signed())
            return m
        a, b = (
            code if isinstance(fmt, DualFormat) else code[:-1]
            for fmt, code in zip(self.formats, (self.a, self.b), strict=True)
        )
        sign = self.a[-1] ^ self.b[-1]
        m.d.comb += self.o.eq(Cat(self._table(m, a, b), sign))
        return m

    def _table(self, m: Module, a: Value, b: Value) -> Signal:
        a_integers, b_integers = map(code_integers, self.formats)
        entries = [x * y for y in b_integers[: 2 ** len(b)] for x in a_integers[: 2 ** len(a)]]
        if self.output == "sign-magnitude":
            entries = [abs(product) for product in entries]
            return lookup(m, Cat(a, b), entries, self.magnitude_bits)
        return lookup(m, Cat(a, b), entries, len(self.o))


class ArithmeticMultiplier(Multiplier):
    """The product of the significands, shifted by the sum of the exponents.

    A float's significand is its fraction under an implicit bit, which is 0 in the lowest binade
    (exponent field 0) and 1 above; an integer is all significand.

    Raises:
        ValueError: for dual formats and two's complement, and grids that are not 0, 1, 2, ...
    """

    def __init__(
        self,
        a: SignedFormat,
        b: SignedFormat | None = None,
        output: Output = "sign-magnitude",
    ):
        super().__init__(a, b, output)
        for fmt in self.formats:
            integers = code_integers(fmt)[: 2 ** (fmt.bits - 1)]
            is_plain = isinstance(fmt, FloatFormat) or integers == tuple(range(len(integers)))
            if isinstance(fmt, DualFormat) or not is_sign_magnitude(fmt) or not is_plain:
                raise ValueError(f"{fmt} has no significand and exponent; use TableMultiplier")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        (a, a_shift), (b, b_shift) = (
            _fields(fmt, code) for fmt, code in zip(self.formats, (self.a, self.b), strict=True)
        )
        magnitude = Signal(self.magnitude_bits)
        sign = self.a[-1] ^ self.b[-1]
        m.d.comb += magnitude.eq((a * b) << (a_shift + b_shift))
        if self.output == "sign-magnitude":
            m.d.comb += self.o.eq(Cat(magnitude, sign))
        else:
            m.d.comb += self.o.eq(Mux(sign, -magnitude, magnitude))
        return m


class IntegerMultiplier(Unit):
    """Two's complement integers multiplied as the synthesizer sees fit.

    Ports: `a`, `b` (signed, in), `o` (signed, `2 * bits`, out).
    """

    latency = 0

    def __init__(self, bits: int):
        shape = signed(bits)
        super().__init__({"a": In(shape), "b": In(shape), "o": Out(signed(2 * bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.a * self.b)
        return m


def _fields(fmt: Format, code: Value) -> tuple[Value, Value]:
    """Significand and shift, whose `significand << shift` is the code's integer magnitude."""
    magnitude = code[:-1]
    if not isinstance(fmt, FloatFormat) or fmt.exponent_bits == 1:
        return magnitude, magnitude[:0]
    fraction, exponent = magnitude[: fmt.mantissa_bits], magnitude[fmt.mantissa_bits :]
    is_normal = exponent.any()
    return Cat(fraction, is_normal), (exponent - is_normal)[: fmt.exponent_bits]
