"""How one lane of a dot product multiplies: the product as a term for the adder tree.

A lane ends in registers. Where a product is to be shifted, it is written into one of several
registers, each wired to its own place, while the others are reset: a shifter made of flip-flops,
whose places an adder's LUTs then combine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Protocol

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib.data import StructLayout

from fpqvar_lab.formats import DualFormat, FloatFormat, SignedFormat
from fpqvar_lab.hardware.rtl.adder_tree import Term
from fpqvar_lab.hardware.rtl.integers import code_integers, is_sign_magnitude
from fpqvar_lab.hardware.rtl.multiplier import ArithmeticMultiplier, Multiplier, TableMultiplier
from fpqvar_lab.hardware.rtl.register import register
from fpqvar_lab.hardware.rtl.truth_table import lookup


class Lane(Protocol):
    """A way to multiply two operands; `largest` bounds the product's magnitude."""

    @property
    def a_shape(self) -> Shape: ...

    @property
    def b_shape(self) -> Shape: ...

    @property
    def largest(self) -> int: ...

    def product(self, m: Module, a: Value, b: Value, name: str) -> Term:
        """The product of the operands, one cycle later."""
        ...


@dataclass(frozen=True)
class CodeLane:
    """Sign-magnitude codes of any two formats, by a truth table or by arithmetic."""

    a: SignedFormat
    b: SignedFormat
    multiplier: type[Multiplier] = TableMultiplier

    @property
    def a_shape(self) -> Shape:
        return unsigned(self.a.bits)

    @property
    def b_shape(self) -> Shape:
        return unsigned(self.b.bits)

    @property
    def largest(self) -> int:
        return max(code_integers(self.a)) * max(code_integers(self.b))

    def product(self, m: Module, a: Value, b: Value, name: str) -> Term:
        unit = self.multiplier(self.a, self.b)
        m.submodules[f"{name}_multiplier"] = unit
        m.d.comb += [unit.a.eq(a), unit.b.eq(b)]
        magnitude = register(m, unit.o[:-1], f"{name}_magnitude")
        return Term(magnitude, register(m, unit.o[-1], f"{name}_sign"))


@dataclass(frozen=True)
class IntegerLane:
    """Two's complement integers, multiplied as the synthesizer sees fit."""

    bits: int

    @property
    def a_shape(self) -> Shape:
        return signed(self.bits)

    b_shape = a_shape

    @property
    def largest(self) -> int:
        return 4 ** (self.bits - 1)

    def product(self, m: Module, a: Value, b: Value, name: str) -> Term:
        return Term(register(m, a.as_signed() * b.as_signed(), name), Const(0, 1))


@dataclass(frozen=True)
class SignificandLane:
    """Floats by their significands, in two partial products, placed by the sum of the exponents.

    For E2M3 the significands have 4 bits; a significand times two bits of the other is six 6-input
    LUTs, and one adder joins the two halves.
    """

    format: FloatFormat

    @property
    def a_shape(self) -> Shape:
        return unsigned(self.format.bits)

    b_shape = a_shape

    @property
    def largest(self) -> int:
        return int(max(code_integers(self.format))) ** 2

    def product(self, m: Module, a: Value, b: Value, name: str) -> Term:
        (a_digits, a_place), (b_digits, b_place) = self._fields(a), self._fields(b)
        high = _partial(m, a_digits[2:], b_digits, f"{name}_high")
        low = _partial(m, a_digits[:2], b_digits, f"{name}_low")
        digits = ((high << 2) + low)[: 2 * len(b_digits)]
        count = 2 * (2**self.format.exponent_bits - 2) + 1
        skips = [(a_place + b_place) != place for place in range(count)]
        value = _placed(m, digits, skips, range(count), f"{name}_at")
        return Term(value, register(m, a[-1] ^ b[-1], f"{name}_sign"))

    def _fields(self, code: Value) -> tuple[Value, Value]:
        mantissa_bits = self.format.mantissa_bits
        exponent = code[mantissa_bits:-1]
        is_normal = exponent.any()
        return Cat(code[:mantissa_bits], is_normal), (exponent - is_normal)[: len(exponent)]


def aligned_operand(places: int, digit_bits: int = 3) -> StructLayout:
    """An operand `digits * 2^place`: one of the `skips` is 0, that of its place."""
    return StructLayout({"digits": digit_bits, "sign": 1, "skips": places})


@dataclass(frozen=True)
class AlignedLane:
    """An operand given by three digits and a place, times a code: a table, and a place for it.

    Args:
        b: format of the codes that the aligned operand is multiplied by.
        places: number of bits by which each place shifts, ascending.
    """

    b: SignedFormat
    places: Sequence[int]

    @property
    def a_shape(self) -> Shape:
        return unsigned(aligned_operand(len(self.places)).size)

    @property
    def b_shape(self) -> Shape:
        return unsigned(self.b.bits)

    @property
    def largest(self) -> int:
        return 7 * max(code_integers(self.b)) << self.places[-1]

    def product(self, m: Module, a: Value, b: Value, name: str) -> Term:
        digits, sign, skips = a[:3], a[3], a[4:]
        integers = code_integers(self.b)[: 2 ** (self.b.bits - 1)]
        entries = [digit * integer for integer in integers for digit in range(8)]
        table = lookup(m, Cat(digits, b[:-1]), entries, max(entries).bit_length(), f"{name}_table")
        value = _placed(m, table, list(skips), self.places, f"{name}_at")
        return Term(value, register(m, sign ^ b[-1], f"{name}_sign"))


@dataclass(frozen=True)
class DualLane:
    """A dual format's code times another code, as one term for each branch; one of the two is 0."""

    a: DualFormat
    b: SignedFormat

    @property
    def a_shape(self) -> Shape:
        return unsigned(self.a.bits)

    @property
    def b_shape(self) -> Shape:
        return unsigned(self.b.bits)

    @property
    def largest(self) -> int:
        return max(map(abs, code_integers(self.a))) * max(code_integers(self.b))

    def products(self, m: Module, a: Value, b: Value, name: str) -> tuple[Term, Term]:
        """The products of the positive and of the negative branch, one cycle later."""
        above, below = (
            self._half(m, a, b, half, skips, f"{name}_{half}")
            for half, skips in ((self.a.positive, a[-1]), (self.a.negative, ~a[-1]))
        )
        sign = register(m, b[-1], f"{name}_sign")
        opposite = register(m, ~b[-1], f"{name}_opposite")
        return Term(above, sign), Term(below, opposite)

    def _half(
        self, m: Module, a: Value, b: Value, half: SignedFormat, skips: Value, name: str
    ) -> Signal:
        unit = TableMultiplier(half, self.b)
        m.submodules[name] = unit
        m.d.comb += [unit.a.eq(a[: half.bits - 1]), unit.b.eq(b)]
        return register(m, Mux(skips, 0, unit.o[:-1]), f"{name}_magnitude")


def lane_for(fmt: SignedFormat) -> Lane:
    """How codes of a format are multiplied by codes of the same one at the least cost."""
    if not is_sign_magnitude(fmt):
        return IntegerLane(fmt.bits)
    if isinstance(fmt, FloatFormat) and fmt.mantissa_bits == 3:
        return SignificandLane(fmt)
    # From about five bits on a table costs more than it saves.
    return CodeLane(fmt, fmt, TableMultiplier if fmt.bits <= 4 else ArithmeticMultiplier)


def _partial(m: Module, two_bits: Value, digits: Value, name: str) -> Value:
    entries = [x * y for y in range(2 ** len(digits)) for x in range(2 ** len(two_bits))]
    return lookup(m, Cat(two_bits, digits), entries, max(entries).bit_length(), name)


def _placed(
    m: Module, value: Value, skips: Sequence[Value], places: Sequence[int], name: str
) -> Value:
    """`value` shifted to the place that is not skipped, one cycle later."""
    kept = [
        register(m, Mux(skip, 0, value), f"{name}{place}") << place
        for skip, place in zip(skips, places, strict=True)
    ]
    width = max(map(len, kept))
    return reduce(or_, kept)[:width]
