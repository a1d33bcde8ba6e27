"""Multipliers: every pair of codes against the product of what `decode` gives."""

import itertools

import numpy as np
import pytest
import torch

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP6,
    DUAL_FP6_HW,
    E1M2,
    E2M1,
    E2M3,
    E3M0,
    INT4,
    INT6,
    INT8,
    DualFormat,
    IntFormat,
    decode,
)
from fpqvar_lab.hardware.rtl import (
    ArithmeticMultiplier,
    IntegerMultiplier,
    TableMultiplier,
    code_integers,
)
from fpqvar_lab.hardware.toolchain import CompiledUnit, evaluate_combinational, from_words, to_words

SINGLE = [(E2M1, E2M1), (E2M1, INT4), (E1M2, E2M1), (E3M0, E2M1), (E2M3, E2M3), (INT6, E2M1)]
DUAL = [(DUAL_FP4, E2M1), (DUAL_FP6_HW, E2M3)]
TWOS_COMPLEMENT = IntFormat(4, symmetric=False)


def every_product(unit):
    """(codes, codes, products as integers) of all pairs, through the simulator."""
    pairs = list(itertools.product(range(2 ** len(unit.a)), range(2 ** len(unit.b))))
    products = [o for (o,) in evaluate_combinational(unit, [unit.a, unit.b], [unit.o], pairs)]
    if getattr(unit, "output", "") == "sign-magnitude":
        mask = 2**unit.magnitude_bits - 1
        signs = [(a >> len(unit.a) - 1) ^ (b >> len(unit.b) - 1) for a, b in pairs]
        assert [o >> unit.magnitude_bits for o in products] == signs
        products = [-(o & mask) if s else o & mask for o, s in zip(products, signs, strict=True)]
    return pairs, products


def expected_products(formats, pairs):
    """Oracle: float products of decoded values, divided by the formats' units."""

    def values(fmt, codes):
        codes = torch.tensor(codes)
        levels = decode(codes, fmt).double()
        if isinstance(fmt, DualFormat):
            below = codes >= 2 ** (fmt.bits - 1)
            return levels / torch.where(below, fmt.negative.quantum, fmt.positive.quantum)
        return levels if isinstance(fmt, IntFormat) else levels / fmt.quantum

    a, b = (
        values(fmt, list(codes))
        for fmt, codes in zip(formats, zip(*pairs, strict=True), strict=True)
    )
    return (a * b).tolist()


@pytest.mark.parametrize("formats", SINGLE, ids=str)
@pytest.mark.parametrize("kind", [TableMultiplier, ArithmeticMultiplier])
@pytest.mark.parametrize("output", ["sign-magnitude", "twos-complement"])
def test_every_product_of_single_formats(kind, formats, output):
    unit = kind(*formats, output)
    pairs, products = every_product(unit)
    assert products == expected_products(formats, pairs)


@pytest.mark.parametrize("formats", DUAL, ids=str)
@pytest.mark.parametrize("output", ["sign-magnitude", "twos-complement"])
def test_every_product_of_dual_formats(formats, output):
    pairs, products = every_product(TableMultiplier(*formats, output))
    assert products == expected_products(formats, pairs)


def test_every_product_of_twos_complement_tables():
    formats = TWOS_COMPLEMENT, TWOS_COMPLEMENT
    pairs, products = every_product(TableMultiplier(*formats, "twos-complement"))
    assert products == expected_products(formats, pairs)


@pytest.mark.parametrize("bits", [4, 6])
def test_every_product_of_integers(bits):
    pairs, products = every_product(IntegerMultiplier(bits))
    half, full = 2 ** (bits - 1), 2**bits
    signed = [((a + half) % full - half) * ((b + half) % full - half) for a, b in pairs]
    assert products == signed


@pytest.mark.parametrize("unit", [IntegerMultiplier(8), ArithmeticMultiplier(INT8)])
def test_every_product_of_eight_bits_in_the_compiled_simulator(unit):
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(256), np.arange(256)))
    inputs = {"a": to_words(a, 8), "b": to_words(b, 8)}
    words = CompiledUnit(unit).run(len(a), inputs)["o"]
    if isinstance(unit, IntegerMultiplier):
        expected = a.astype(np.int8).astype(int) * b.astype(np.int8)
        assert np.array_equal(from_words(words, 16, signed=True)[:, 0], expected)
        return
    expected = (a & 127) * (b & 127) | ((a >> 7) ^ (b >> 7)) << 14
    assert np.array_equal(from_words(words, 15)[:, 0], expected)


def test_the_widths_are_the_least_that_hold_every_product():
    """144 = 12 * 12 needs 8 bits; 60 * 60 needs 12; (-8) * (-8) = 64 needs 8 signed."""
    assert TableMultiplier(E2M1).magnitude_bits == 8
    assert ArithmeticMultiplier(E2M3).magnitude_bits == 12
    assert len(TableMultiplier(TWOS_COMPLEMENT, output="twos-complement").o) == 8
    assert len(TableMultiplier(DUAL_FP6, E2M3, "twos-complement").o) == 13


def test_integers_are_decoded_values_in_the_least_unit():
    assert code_integers(E2M1) == (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
    assert code_integers(DUAL_FP4)[8:] == (0, -1, -2, -3, -4, -5, -6, -7)


def test_what_cannot_be_multiplied_is_refused():
    with pytest.raises(ValueError, match="no sign bit"):
        TableMultiplier(TWOS_COMPLEMENT)
    with pytest.raises(ValueError, match="use TableMultiplier"):
        ArithmeticMultiplier(DUAL_FP4, E2M1)
