"""Netlists of lookup tables: their contents are the units' truth tables."""

import pytest

from fpqvar_lab.formats import E2M1, TIES_TO_POSITIVE
from fpqvar_lab.hardware.rtl import IntegerMultiplier, RoundingTable, TableMultiplier, code_integers
from fpqvar_lab.hardware.toolchain import Lut, lookup_tables


def test_contents_are_in_the_order_asked_for():
    lut = Lut(("b", "a"), 0b0010, "o")  # 1 where b is 1 and a is 0
    assert lut.contents(["a", "b"]) == (0, 0, 1, 0)
    assert lut.contents(["b", "a"]) == (0, 1, 0, 0)
    assert lut.contents(["b", "c", "a"]) == (0, 1, 0, 1, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="also reads b"):
        lut.contents(["a"])


def test_tables_of_a_multiplier_hold_the_bits_of_the_products():
    """Oracle: integer products of the decoded codes."""
    tables = {lut.output: lut for lut in lookup_tables(TableMultiplier(E2M1))}
    order = [f"{port}[{bit}]" for port in "ab" for bit in range(3)]
    integers = code_integers(E2M1)[:8]
    products = [a * b for b in integers for a in integers]
    assert len(tables) == 9
    for bit in range(8):
        expected = tuple(product >> bit & 1 for product in products)
        assert tables[f"o[{bit}]"].contents(order) == expected
    assert tables["o[8]"].contents(["a[3]", "b[3]"]) == (0, 1, 1, 0)


def test_a_table_between_tables_has_a_name_of_its_own():
    inner = {lut.output for lut in lookup_tables(RoundingTable(E2M1, TIES_TO_POSITIVE))}
    assert {"code[0]", "code[1]", "code[2]"} < inner
    assert len(inner) == 4


def test_a_unit_with_a_carry_chain_is_refused():
    with pytest.raises(ValueError, match=r"needs CARRY\d.* besides lookup tables"):
        lookup_tables(IntegerMultiplier(4))
