"""The core of a quantizer whose thresholds are inputs: a comparator for each, and a count."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from fpqvar_lab.hardware.rtl.unit import Unit


class ComparatorBank(Unit):
    """How many of ascending thresholds a number reaches.

    Ports: `x` (unsigned, in), `thresholds` (array of unsigned, ascending, in), `index` (out): the
    number of thresholds t with `x >= t`. Latency 0, interval 1.

    The thresholds carry the scale, so that nothing has to be divided; the price is a comparator for
    every level, seven for E2M1 and 31 for E2M3.

    Args:
        count: number of thresholds; an index then ranges from 0 to `count`.
        width: number of bits of `x` and of each threshold.
    """

    latency = 0

    def __init__(self, count: int, width: int):
        self.count, self.width = count, width
        super().__init__(
            {
                "x": In(width),
                "thresholds": In(ArrayLayout(width, count)),
                "index": Out(count.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reached: list[Value] = [self.x >= self.thresholds[i] for i in range(self.count)]
        # Ascending thresholds make a row of ones and then zeros. The middle one is the index's
        # highest bit, and says in which half of the row the other bits are found.
        size = 2 ** len(self.index) - 1
        m.d.comb += self.index.eq(_count(reached + [Const(0, 1)] * (size - self.count)))
        return m


def _count(row: Sequence[Value]) -> Value:
    middle = len(row) // 2
    if middle == 0:
        return row[0]
    upper = row[middle]
    halves = zip(row[middle + 1 :], row[:middle], strict=True)
    return Cat(_count([Mux(upper, high, low) for high, low in halves]), upper)
