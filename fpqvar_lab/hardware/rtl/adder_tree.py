"""Adds signed terms without ever negating one: each adder takes a sign as its carry-in."""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Value

from fpqvar_lab.hardware.rtl.register import register


@dataclass(frozen=True)
class Term:
    """`value`, or `-value` where `sign` is 1. The value itself may be negative too."""

    value: Value
    sign: Value

    @property
    def signed_value(self) -> Value:
        """`value` as a two's complement number, one bit longer where it was unsigned."""
        is_signed = self.value.shape().signed
        return self.value if is_signed else Cat(self.value, Const(0, 1)).as_signed()


def add_or_subtract(x: Value, y: Value, subtracts: Value) -> Value:
    """`x + y` or `x - y` in one carry chain: y's inverted bits and a carry-in.

    The carry enters through a place below the lowest, 1 + `subtracts`, because a synthesizer gives
    an adder's own carry input to none but constants.
    """
    ones = Cat(Const(1, 1), x).as_signed()
    flipped = (y ^ subtracts.replicate(len(y)))[: len(y)]
    inverted = Cat(subtracts, flipped).as_signed()
    return (ones + inverted)[1:].as_signed()


def add_terms(m: Module, x: Term, y: Term, name: str) -> Term:
    """The sum of two terms, in a register: x + y or x - y, under the sign of x."""
    total = add_or_subtract(x.signed_value, y.signed_value, x.sign ^ y.sign)
    return register_term(m, Term(total, x.sign), name)


def register_term(m: Module, term: Term, name: str) -> Term:
    """The term one cycle later."""
    return Term(register(m, term.value, name), register(m, term.sign, f"{name}_sign", shape=1))


def add_all(m: Module, terms: Sequence[Term], name: str) -> Term:
    """The sum of terms by a tree with a register after every adder; `tree_levels` cycles."""
    level = 0
    while len(terms) > 1:
        pairs = list(zip(terms[::2], terms[1::2], strict=False))
        sums = [add_terms(m, x, y, f"{name}{level}_{i}") for i, (x, y) in enumerate(pairs)]
        odd = terms[2 * len(pairs) :]
        terms = sums + [register_term(m, term, f"{name}{level}_odd") for term in odd]
        level += 1
    return terms[0]


def tree_levels(count: int) -> int:
    """How many adders a term passes in a tree of `count` terms."""
    return (count - 1).bit_length()
