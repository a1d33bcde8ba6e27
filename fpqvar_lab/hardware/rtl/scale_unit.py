"""Multiplies a group's integer total by its two scales, and adds the groups up."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from fpqvar_lab.hardware.rtl.register import register
from fpqvar_lab.hardware.rtl.unit import Unit

SIGNIFICAND_BITS = 8
EXPONENT = signed(10)
# What a total brings with it: whether it is the first or the last of its sum, and both scales.
SCALED_TOTAL_FLAGS = {"valid": 1, "first": 1, "last": 1}


class ScaleUnit(Unit):
    """Exact products of a total and two bfloat16 scales, summed in fixed point, row after row.

    Ports, all in but the last three: `valid`; `total` (signed); `a_scale`, `b_scale` (bfloat16
    bits, not negative); `exponent`, the power of two of the totals' unit; `base`, that of the
    result's lowest bit; `first`, `last` (whether the total opens and closes its sum). Out:
    `product` (signed) and `product_exponent`, three cycles after the total and exact;
    `result` (signed, `result_bits`) with `result_valid`, a cycle later.

    Totals come in turns of `rows` sums. A product is shifted to the result's fixed point; what
    falls below its lowest bit is rounded off to nearest, halves up, and nothing is if `base` is at
    most the product's exponent. Sums beyond `result_bits` wrap around.

    Latency 4, interval 1.

    Args:
        total_bits: number of bits of a total, a signed integer.
        rows: number of sums that take turns.
        result_bits: number of bits of a result, a signed integer.
    """

    latency = 4

    def __init__(self, total_bits: int, rows: int, result_bits: int = 32):
        self.rows, self.result_bits = rows, result_bits
        self.product_bits = total_bits + 2 * SIGNIFICAND_BITS
        super().__init__(
            {
                "valid": In(1),
                "total": In(signed(total_bits)),
                "a_scale": In(16),
                "b_scale": In(16),
                "exponent": In(EXPONENT),
                "base": In(EXPONENT),
                "first": In(1),
                "last": In(1),
                "product": Out(signed(self.product_bits)),
                "product_exponent": Out(EXPONENT),
                "result": Out(signed(result_bits)),
                "result_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        (a, a_exponent), (b, b_exponent) = _unpack(self.a_scale), _unpack(self.b_scale)
        flags = Signal(StructLayout(SCALED_TOTAL_FLAGS), name="flags0")
        m.d.comb += [flags.valid.eq(self.valid), flags.first.eq(self.first)]
        m.d.comb += flags.last.eq(self.last)
        exponent = register(m, a_exponent + b_exponent + self.exponent, "exponent1", shape=EXPONENT)
        total = register(m, self.total, "total1")
        total = register(m, total, "total2")
        a, b = register(m, a, "a1"), register(m, b, "b1")
        significand = register(m, a * b, "significand2")
        product = register(m, total * significand, "product3")[: self.product_bits]
        for stage in (2, 3):
            exponent = register(m, exponent, f"exponent{stage}")
        for stage in (1, 2, 3):
            flags = register(m, flags, f"flags{stage}", has_reset=True)
        m.d.comb += [self.product.eq(product), self.product_exponent.eq(exponent)]
        self._add(m, product.as_signed(), exponent - self.base, flags)
        return m

    def _add(self, m: Module, product: Value, shift: Value, flags: Signal) -> None:
        placed = Signal(signed(self.result_bits))
        limit = 2 ** self.result_bits.bit_length() - 1
        down = Mux(-shift > limit, limit, -shift)[: limit.bit_length()]
        up = Mux(shift > limit, limit, shift)[: limit.bit_length()]
        halves = (product << 1) >> down
        with m.If(shift >= 0):
            m.d.comb += placed.eq(product << up)
        with m.Else():
            m.d.comb += placed.eq((halves + 1) >> 1)
        sums = [Signal(signed(self.result_bits), name=f"sum{row}") for row in range(self.rows)]
        total = Signal(signed(self.result_bits))
        m.d.comb += total.eq(Mux(flags.first, 0, sums[-1]) + placed)
        with m.If(flags.valid):
            m.d.sync += [new.eq(old) for new, old in zip(sums, [total, *sums], strict=False)]
        m.d.sync += [self.result.eq(total), self.result_valid.eq(flags.valid & flags.last)]


def _unpack(bits: Value) -> tuple[Value, Value]:
    """Significand (8 bits, an integer) and exponent of a bfloat16 without a sign."""
    field = bits[7:15]
    return Cat(bits[:7], field.any()), field - (127 + SIGNIFICAND_BITS - 1)
