"""A truth table as logic: what a synthesizer turns into lookup tables (LUTs)."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, Value


def lookup(
    m: Module, address: Value, entries: Sequence[int], width: int, name: str = "entry"
) -> Signal:
    """A signal of `width` bits that holds `entries[address]`; combinational.

    Negative entries are stored modulo 2^width. It is a switch rather than a memory, because a
    synthesizer then minimizes every bit on its own.

    Raises:
        ValueError: when there is not one entry for each address.
    """
    if len(entries) != 2 ** len(address):
        raise ValueError(f"{len(entries)} entries for an address of {len(address)} bits")
    entry = Signal(width, name=name)
    with m.Switch(address):
        for index, value in enumerate(entries):
            with m.Case(index):
                m.d.comb += entry.eq(value % 2**width)
    return entry
