"""The core of a quantizer whose thresholds are constants: a truth table from quotient to code."""

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import TIES_TO_EVEN, DualFormat, Format, Rounding
from fpqvar_lab.hardware.rtl.integers import branches, midpoints, tie_goes_up
from fpqvar_lab.hardware.rtl.truth_table import lookup
from fpqvar_lab.hardware.rtl.unit import Unit


class RoundingTable(Unit):
    """Nearest code of a quotient that is cut to the bits which matter, by one truth table.

    Ports: `magnitude` (in), the quotient's magnitude in units of half the format's least step,
    rounded down, and all ones for what is larger; `sticky` (in), whether anything was cut off;
    `sign` (in); `code` (out). Latency 0, interval 1. Exact: the code is that of `round_to`.

    For E2M1 the magnitude has 5 bits (three before the point and two behind), so each bit of the
    code is one 6-input LUT. Ties to one side make the sign a seventh input, and so does a dual
    format, whose sign selects the branch.

    Args:
        fmt: format of the codes; it must be sign-magnitude.
        rounding: which way exact ties go.
    """

    latency = 0

    def __init__(self, fmt: Format, rounding: Rounding = TIES_TO_EVEN):
        self.format, self.rounding = fmt, rounding
        self.magnitude_bits = max(midpoints(half)[-1].bit_length() for half in branches(fmt))
        super().__init__(
            {
                "magnitude": In(self.magnitude_bits),
                "sticky": In(1),
                "sign": In(1),
                "code": Out(fmt.bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        quotient = Cat(self.magnitude, self.sticky)
        signs = (0, 1) if self._needs_sign else (0,)
        address = Cat(quotient, self.sign) if self._needs_sign else quotient
        entries = [self._entry(q, bool(sign)) for sign in signs for q in range(2 ** len(quotient))]
        index = lookup(m, address, entries, self.format.bits - 1)
        m.d.comb += self.code.eq(Cat(index, self.sign))
        return m

    @property
    def _needs_sign(self) -> bool:
        return isinstance(self.format, DualFormat) or self.rounding is not TIES_TO_EVEN

    def _entry(self, quotient: int, negative: bool) -> int:
        sticky, magnitude = divmod(quotient, 2**self.magnitude_bits)
        half = branches(self.format)[-1 if negative else 0]
        return sum(
            magnitude > middle
            or (magnitude == middle and (sticky or tie_goes_up(i, negative, self.rounding)))
            for i, middle in enumerate(midpoints(half))
        )
