"""A dot product of many lanes: products, an adder tree, and an accumulator for a group."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from fpqvar_lab.hardware.rtl.adder_tree import Term, add_all, add_or_subtract, tree_levels
from fpqvar_lab.hardware.rtl.lanes import DualLane, Lane
from fpqvar_lab.hardware.rtl.unit import Unit


class DotProduct(Unit):
    """The sum of `lanes` products per cycle, added up over a group of `group` products.

    Ports: `a`, `b` (in, an operand for each lane); `clear`, `enable` (in, one cycle before the sum
    of the operands they belong to appears: they come `latency - 1` cycles after these); `total`
    (out, signed). With `enable` the products' sum is added to `total`, or replaces it with `clear`.
    Latency: a cycle for the products, one for each level of the tree and one for the accumulator;
    interval 1. Exact: no sum of a group overflows.

    Args:
        lane: the way in which two operands are multiplied.
        lanes: number of products per cycle.
        group: number of products in a sum.
    """

    def __init__(self, lane: Lane, lanes: int = 16, group: int = 128):
        self.lane, self.lanes, self.group = lane, lanes, group
        self.latency = tree_levels(lanes) + 2
        self.total_bits = (group * lane.largest).bit_length() + 1
        super().__init__(
            {
                "a": In(ArrayLayout(lane.a_shape, lanes)),
                "b": In(ArrayLayout(lane.b_shape, lanes)),
                "clear": In(1),
                "enable": In(1),
                "total": Out(signed(self.total_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms = [
            self.lane.product(m, self.a[lane], self.b[lane], f"lane{lane}")
            for lane in range(self.lanes)
        ]
        total = _accumulate(m, terms, self.clear, self.enable, "tree", self.total_bits)
        m.d.comb += self.total.eq(total)
        return m


class DualDotProduct(Unit):
    """A `DotProduct` with a dual format's codes: a tree, and a total, for each branch.

    Ports: those of `DotProduct`, except that there are two totals, `positive` and `negative` (out),
    each in units of its own branch's scale. Latency, interval and exactness are the same.
    """

    def __init__(self, lane: DualLane, lanes: int = 16, group: int = 128):
        self.lane, self.lanes, self.group = lane, lanes, group
        self.latency = tree_levels(lanes) + 2
        self.total_bits = (group * lane.largest).bit_length() + 1
        super().__init__(
            {
                "a": In(ArrayLayout(lane.a_shape, lanes)),
                "b": In(ArrayLayout(lane.b_shape, lanes)),
                "clear": In(1),
                "enable": In(1),
                "positive": Out(signed(self.total_bits)),
                "negative": Out(signed(self.total_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pairs = [
            self.lane.products(m, self.a[lane], self.b[lane], f"lane{lane}")
            for lane in range(self.lanes)
        ]
        for name, terms in zip(("positive", "negative"), zip(*pairs, strict=True), strict=True):
            total = _accumulate(m, terms, self.clear, self.enable, name, self.total_bits)
            m.d.comb += getattr(self, name).eq(total)
        return m


def _accumulate(
    m: Module, terms: Sequence[Term], clear: Value, enable: Value, name: str, bits: int
) -> Signal:
    """The register to which the sum of the terms is added."""
    term = add_all(m, terms, name)
    # Every sum begins with `clear`, so the register needs no reset.
    total = Signal(signed(bits), name=f"{name}total", reset_less=True)
    before = Signal(signed(bits), name=f"{name}before")
    m.d.comb += before.eq(Mux(clear, 0, total))
    with m.If(enable):
        m.d.sync += total.eq(add_or_subtract(before, term.signed_value, term.sign))
    return total
