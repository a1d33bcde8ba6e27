"""What a combinational unit becomes on the device: lookup tables, and the contents of each.

The same synthesis as in `toolchain.synthesis`, asked for its cells instead of their number.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Elaboratable

from fpqvar_lab.hardware.toolchain.synthesis import synthesis_command
from fpqvar_lab.hardware.toolchain.yosys import TOP, run_yosys, to_rtlil


@dataclass(frozen=True)
class Lut:
    """One lookup table of a netlist.

    Args:
        inputs: names of the nets at its inputs, I0 first: "a[0]" for a port's bit, any other name
            for a net between tables.
        mask: its contents: bit k is the output for the inputs whose number, I0 lowest, is k.
        output: name of the net that it drives.
    """

    inputs: tuple[str, ...]
    mask: int
    output: str

    def contents(self, order: Sequence[str]) -> tuple[int, ...]:
        """The output for every number that the nets in `order` can hold, the first net lowest.

        Raises:
            ValueError: when an input of the table is not among them.
        """
        if missing := set(self.inputs) - set(order):
            raise ValueError(f"the table also reads {', '.join(sorted(missing))}")
        places = [order.index(name) for name in self.inputs]
        addresses = (
            sum((number >> place & 1) << i for i, place in enumerate(places))
            for number in range(2 ** len(order))
        )
        return tuple(self.mask >> address & 1 for address in addresses)


def lookup_tables(unit: Elaboratable, family: str = "xcup") -> tuple[Lut, ...]:
    """The lookup tables of a unit that needs nothing else; takes seconds, and is not cached.

    Raises:
        ToolError: when Yosys fails.
        ValueError: when the unit has other cells too, such as registers or carry chains.
    """
    script = f"read_rtlil unit.il; {synthesis_command(family)}; write_json netlist.json"
    (text,) = run_yosys(script, {"unit.il": to_rtlil(unit)}, ("netlist.json",))
    module = json.loads(text)["modules"][TOP]
    cells = sorted(module["cells"].values(), key=lambda cell: cell["connections"]["O"])
    if others := {cell["type"] for cell in cells if not re.fullmatch(r"LUT[1-6]", cell["type"])}:
        raise ValueError(f"the unit needs {', '.join(sorted(others))} besides lookup tables")
    names = _bit_names(module["netnames"], set(module["ports"]))
    return tuple(_lut(cell, names) for cell in cells)


def _bit_names(nets: Mapping[str, Any], ports: set[str]) -> dict[int | str, str]:
    """Each bit's name: a port's if it is one's, else any net's; constants are named by value."""
    names: dict[int | str, str] = {"0": "0", "1": "1"}
    for name in sorted(nets, key=lambda name: name in ports):
        bits = nets[name]["bits"]
        for place, bit in enumerate(bits):
            if bit not in ("0", "1"):
                names[bit] = f"{name}[{place}]" if len(bits) > 1 else name
    return names


def _lut(cell: Mapping[str, Any], names: Mapping[int | str, str]) -> Lut:
    count = int(cell["type"][-1])
    pins = cell["connections"]
    inputs = tuple(names[pins[f"I{i}"][0]] for i in range(count))
    return Lut(inputs, int(cell["parameters"]["INIT"], 2), names[pins["O"][0]])
