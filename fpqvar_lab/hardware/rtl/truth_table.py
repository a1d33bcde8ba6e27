"""A function of a few bits as a table of its values, which a synthesizer turns into logic."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, Value


def lookup(
    m: Module, address: Value, entries: Sequence[int], width: int, name: str = "entry"
) -> Signal:
    """A signal of `width` bits that holds `entries[address]`, without a register.

    Negative entries are stored modulo 2^width. The table is a switch rather than a memory, because
    a synthesizer then minimizes every bit on its own.

    Raises:
        ValueError: There is not one entry for each address.
    """
    if len(entries) != 2 ** len(address):
        raise ValueError(f"{len(entries)} entries for an address of {len(address)} bits")
    entry = Signal(width, name=name)
    with m.Switch(address):
        for index, value in enumerate(entries):
            with m.Case(index):
                m.d.comb += entry.eq(value % 2**width)
    return entry
