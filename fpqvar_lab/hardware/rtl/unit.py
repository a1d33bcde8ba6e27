"""What every unit has beside its ports: a latency and an initiation interval."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import Component


class Unit(Component):
    """A component that can be asked what it takes in time, without being built into hardware.

    Attributes:
        latency: cycles from the input that determines an output to that output, without stalls.
        interval: cycles between two inputs that the unit can take.
    """

    latency: int
    interval: int = 1

    # Amaranth warns of components that never become hardware; asking one for its cost is no error.
    _MustUse__silence = True


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
