"""Brings the halves of a dual format on one scale: each code as three digits and a place."""

from amaranth.hdl import Cat, Module, Mux, Value, signed
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import DualFormat
from fpqvar_lab.hardware.rtl.integers import code_integers
from fpqvar_lab.hardware.rtl.lanes import placed_operand
from fpqvar_lab.hardware.rtl.unit import Unit, lookup

PLACES = (0, 2, 4, 6)
DIGITS = 3
_UNIT_SHIFT = 2


class Recoder(Unit):
    """A code of `DUAL_FP4_POW2` as `digits * 2^place`, in the same units for both halves.

    Ports: `code` (in), `shift` (signed, in: the negative half's scale is the positive one's times
    2^shift), `operand` (out, see `placed_operand`). Combinational and exact.

    A unit of the positive half is 2^c units of the negative one, `c = ratio - shift`. All levels
    have at most two significant bits or are below 8, so three digits and every second place hold
    both halves for c from -2 to 5: shifts from -4 to 3 for `DUAL_FP4_POW2`. Operands are in units
    of the negative half, and for c < 0 in quarters of it (`unit_shift`). A group whose shift lies
    outside is sent twice, once with either half zeroed, and a shift that fits.

    A recoder serves a whole row of a matrix unit; within it, one adder tree then serves both
    halves.

    Raises:
        ValueError: when the format's levels do not fit three digits and `PLACES`.
    """

    latency = 0

    def __init__(self, fmt: DualFormat):
        self.format = fmt
        ratio = fmt.positive.quantum / fmt.negative.quantum
        self.ratio = ratio.as_integer_ratio()[0].bit_length() - 1
        self.shifts = range(self.ratio - 5, self.ratio + 3)
        # The lowest three bits of c, of which -2 and -1 are 6 and 7.
        self.table = [self._entries(c if c < 6 else c - 8) for c in range(8)]
        super().__init__(
            {
                "code": In(fmt.bits),
                "shift": In(signed(8)),
                "operand": Out(placed_operand(len(PLACES))),
            }
        )

    def unit_shift(self, shift: Value) -> Value:
        """How far the operands' unit lies below the negative half's, as a power of two."""
        return Mux(shift > self.ratio, _UNIT_SHIFT, 0)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = (self.ratio - self.shift)[:3]
        entries = [entry for row in self.table for entry in row]
        width = DIGITS + len(PLACES)
        placed = lookup(m, Cat(self.code, c), entries, width)
        m.d.comb += [
            self.operand.digits.eq(placed[:DIGITS]),
            self.operand.skips.eq(placed[DIGITS:]),
            self.operand.sign.eq(self.code[-1]),
        ]
        return m

    def _entries(self, c: int) -> list[int]:
        integers = code_integers(self.format)
        half = len(integers) // 2
        lift = 0 if c >= 0 else _UNIT_SHIFT
        above = [value << (c + lift) for value in integers[:half]]
        return [_place(value) for value in above + [-v << lift for v in integers[half:]]]


def _place(value: int) -> int:
    """Digits, and above them a 1 for every place but the value's own."""
    for index, place in enumerate(PLACES):
        if value % 2**place == 0 and value >> place < 2**DIGITS:
            skips = (2 ** len(PLACES) - 1) ^ (1 << index)
            return value >> place | skips << DIGITS
    raise ValueError(f"{value} does not fit {DIGITS} digits and the places {PLACES}")
