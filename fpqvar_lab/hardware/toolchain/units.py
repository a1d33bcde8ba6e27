"""The units by name and format: what the command line, the table of costs and the pages use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fpqvar_lab.formats import DualFormat, Format, IntFormat, SignedFormat, by_name
from fpqvar_lab.hardware.rtl import (
    ALIGNMENTS,
    AlignedLane,
    ArithmeticMultiplier,
    ComparatorBank,
    DotProduct,
    DualDotProduct,
    DualLane,
    GroupQuantizer,
    HadamardUnit,
    IntegerMultiplier,
    KVQuantizer,
    MatrixUnit,
    OperandAligner,
    Output,
    RoundingTable,
    ScaleUnit,
    ShiftQuantizer,
    TableMultiplier,
    Unit,
    branches,
    lane_for,
    midpoints,
)


@dataclass(frozen=True)
class Kind:
    """A kind of unit.

    Args:
        make: a function that builds a unit from a format and a number of lanes (which some ignore).
        summary: one line for the command line's list.
        lanes: default number of lanes; 0 where lanes mean nothing.
        macs: a function that gives the products per cycle for a number of lanes; 0 where there are
            none.
    """

    make: Callable[[Format, int], Unit]
    summary: str
    lanes: int = 0
    macs: Callable[[int], int] = lambda _: 0


def weight_format(fmt: Format) -> SignedFormat:
    """The format of the weights beside activations in `fmt`: a dual format's positive branch."""
    return fmt.positive if isinstance(fmt, DualFormat) else fmt


def hadamard_signs(points: int = 128, seed: int = 0) -> list[int]:
    """Signs for the cost of a transform; any others cost nearly the same."""
    return np.random.default_rng(seed).choice([1, -1], points).tolist()


def build_unit(kind: str, fmt: str | Format = "e2m1", lanes: int | None = None) -> Unit:
    """A unit by the name of its kind and format.

    Raises:
        ValueError: for a kind or format that does not exist, or that do not go together.
    """
    if kind not in UNIT_KINDS:
        raise ValueError(f"no unit is named {kind!r}; there are {', '.join(UNIT_KINDS)}")
    chosen = by_name(fmt) if isinstance(fmt, str) else fmt
    found = UNIT_KINDS[kind]
    return found.make(chosen, found.lanes if lanes is None else lanes)


def _single(fmt: Format) -> SignedFormat:
    if isinstance(fmt, DualFormat):
        raise ValueError(f"{fmt} is a dual format; this unit takes single ones")
    return fmt


def _table(fmt: Format, lanes: int) -> Unit:
    is_signed = isinstance(fmt, IntFormat) and not fmt.symmetric
    output: Output = "twos-complement" if is_signed else "sign-magnitude"
    return TableMultiplier(fmt, weight_format(fmt), output)


def _dot(fmt: Format, lanes: int) -> Unit:
    if not isinstance(fmt, DualFormat):
        return DotProduct(lane_for(fmt), lanes)
    if fmt.scale_ratio == "free":
        return DualDotProduct(DualLane(fmt, fmt.positive), lanes)
    return DotProduct(AlignedLane(fmt.positive, ALIGNMENTS), lanes)


def _aligner(fmt: Format, lanes: int) -> Unit:
    if not isinstance(fmt, DualFormat):
        raise ValueError(f"{fmt} is no dual format; use dual-fp4-pow2")
    return OperandAligner(fmt)


def _comparators(fmt: Format, lanes: int) -> Unit:
    return ComparatorBank(max(len(midpoints(half)) for half in branches(fmt)), 16)


def _matrix(fmt: Format, lanes: int) -> Unit:
    return MatrixUnit(fmt, weight_format(fmt), rows=4, columns=4, lanes=lanes)


UNIT_KINDS = {
    "fp-multiplier": Kind(_table, "product of two codes by a truth table", macs=lambda _: 1),
    "fp-multiplier-arithmetic": Kind(
        lambda fmt, _: ArithmeticMultiplier(_single(fmt)),
        "product of two codes by significands and exponents",
        macs=lambda _: 1,
    ),
    "int-multiplier": Kind(
        lambda fmt, _: IntegerMultiplier(fmt.bits),
        "product of two's complement integers of the format's width",
        macs=lambda _: 1,
    ),
    "quantizer-core": Kind(lambda fmt, _: RoundingTable(fmt), "quotient to code by a table"),
    "quantizer-comparators": Kind(_comparators, "16-bit number to code by comparators"),
    "quantizer": Kind(
        lambda fmt, lanes: GroupQuantizer(fmt, lanes),
        "groups of 128 to codes and bfloat16 scales",
        lanes=8,
    ),
    "quantizer-shift": Kind(
        lambda fmt, lanes: ShiftQuantizer(fmt, lanes),
        "groups of 32 to codes and power-of-two scales",
        lanes=8,
    ),
    "kv-quantizer": Kind(
        lambda fmt, lanes: KVQuantizer(_single(fmt), lanes),
        "one head's keys or values to words of memory",
        lanes=8,
    ),
    "hadamard": Kind(
        lambda _, lanes: HadamardUnit(128, lanes, 12, hadamard_signs()),
        "128 points of 12 bits, folded to the lanes",
        lanes=2,
    ),
    "dot-product": Kind(_dot, "products, adder tree, accumulator", lanes=64, macs=lambda n: n),
    "operand-aligner": Kind(_aligner, "a dual format's code to digits and a shift"),
    "scale-unit": Kind(lambda *_: ScaleUnit(16, 8), "a total times its scales, added up"),
    "matrix-unit": Kind(
        _matrix, "a tile of 4 x 4 dot products with scales", lanes=16, macs=lambda n: 16 * n
    ),
}
