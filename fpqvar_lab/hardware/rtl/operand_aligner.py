"""Brings both branches of a dual format to one scale: a code is three digits and a shift."""

from amaranth.hdl import Cat, Module, Mux, Value, signed
from amaranth.lib.wiring import In, Out

from fpqvar_lab.formats import DualFormat
from fpqvar_lab.hardware.rtl.integers import code_integers
from fpqvar_lab.hardware.rtl.lanes import aligned_operand
from fpqvar_lab.hardware.rtl.truth_table import lookup
from fpqvar_lab.hardware.rtl.unit import Unit

ALIGNMENTS = (0, 2, 4, 6)
DIGITS = 3
_QUANTUM_SHIFT = 2


class OperandAligner(Unit):
    """A code of `DUAL_FP4_POW2` as `digits * 2^alignment`, in the same quantum for both branches.

    Ports: `code` (in), `shift` (signed, in: the negative branch's scale is the positive one's times
    2^shift), `operand` (out, see `aligned_operand`). The unit is combinational and exact.

    The positive branch's quantum is 2^c quanta of the negative one, with `c = ratio - shift`. Every
    level has at most two significant bits or is below 8, so three digits and every second alignment
    hold both branches for c from -2 to 5, which is shifts from -4 to 3 for `DUAL_FP4_POW2`.
    Operands count quanta of the negative branch, and for c < 0 quarters of them (`quantum_shift`).
    A group whose shift lies outside is sent twice, once with either branch zeroed, and with a shift
    that fits.

    A row of a matrix unit shares one aligner per lane; after it, one adder tree serves both
    branches.

    Raises:
        ValueError: The format's levels do not fit three digits and `ALIGNMENTS`.
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
                "operand": Out(aligned_operand(len(ALIGNMENTS))),
            }
        )

    def quantum_shift(self, shift: Value) -> Value:
        """How far the operands' quantum lies below the negative branch's, as a power of two."""
        return Mux(shift > self.ratio, _QUANTUM_SHIFT, 0)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = (self.ratio - self.shift)[:3]
        entries = [entry for row in self.table for entry in row]
        width = DIGITS + len(ALIGNMENTS)
        aligned = lookup(m, Cat(self.code, c), entries, width)
        m.d.comb += [
            self.operand.digits.eq(aligned[:DIGITS]),
            self.operand.skips.eq(aligned[DIGITS:]),
            self.operand.sign.eq(self.code[-1]),
        ]
        return m

    def _entries(self, c: int) -> list[int]:
        integers = code_integers(self.format)
        half = len(integers) // 2
        lift = 0 if c >= 0 else _QUANTUM_SHIFT
        above = [value << (c + lift) for value in integers[:half]]
        return [_align(value) for value in above + [-v << lift for v in integers[half:]]]


def _align(value: int) -> int:
    """The digits, and above them a 1 for every alignment but the value's own."""
    for index, alignment in enumerate(ALIGNMENTS):
        if value % 2**alignment == 0 and value >> alignment < 2**DIGITS:
            skips = (2 ** len(ALIGNMENTS) - 1) ^ (1 << index)
            return value >> alignment | skips << DIGITS
    raise ValueError(f"{value} does not fit {DIGITS} digits and the alignments {ALIGNMENTS}")
