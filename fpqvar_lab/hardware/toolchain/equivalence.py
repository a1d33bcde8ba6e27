"""Proof that two combinational units, or a unit and its netlist, are the same function: by SAT.

Yosys joins the two into one circuit whose output says whether they differ, and its solver shows
that it never does, for all inputs at once.
"""

from typing import Literal

from amaranth.hdl import Elaboratable

from fpqvar_lab.hardware.toolchain.synthesis import synthesis_command
from fpqvar_lab.hardware.toolchain.yosys import TOP, ToolError, run_yosys, to_rtlil

# Yosys ends like this when the solver finds inputs for which the two differ.
_DIFFERS = "proof did fail"


def units_are_equal(gold: Elaboratable, gate: Elaboratable) -> bool:
    """Whether two combinational units with the same ports give the same outputs for all inputs.

    Raises:
        ToolError: when Yosys fails for another reason, such as different ports.
    """
    inputs = {"gold.il": to_rtlil(gold), "gate.il": to_rtlil(gate)}
    return _prove(inputs, _read("gold") + _read("gate"))


def netlist_is_equal(
    unit: Elaboratable, family: Literal["xcup", "xc7"] = "xcup", cycles: int = 1
) -> bool:
    """Whether a unit's netlist of lookup tables does what the unit does.

    Args:
        unit: a unit that is combinational or has one clock.
        family: the device family whose cells the netlist is made of, such as "xcup".
        cycles: for how many cycles from the reset state, whatever the inputs are; 1 proves all
            there is of a combinational unit.

    Raises:
        ToolError: when Yosys fails for another reason.
    """
    text = to_rtlil(unit)
    script = (
        f"read_rtlil unit.il; {synthesis_command(family)}; select {TOP}; "
        "write_rtlil -selected netlist.il; select -clear; design -reset; "
        "read_rtlil netlist.il; read_verilog -nowb +/xilinx/cells_sim.v; "
        f"hierarchy -top {TOP}; proc; "
        "flatten; opt_clean; delete A:whitebox A:blackbox; write_rtlil gate.il"
    )
    (gate,) = run_yosys(script, {"unit.il": text}, ("gate.il",))
    return _prove({"gold.il": text, "gate.il": gate}, _read("gold") + _read("gate"), cycles)


def _read(name: str) -> str:
    # `proc` makes memories of large switches, which the solver does not read.
    return (
        f"design -reset; read_rtlil {name}.il; hierarchy -top {TOP}; proc; flatten; memory; "
        f"opt_clean; rename {TOP} {name}; design -stash {name}; "
    )


def _prove(inputs: dict[str, str], script: str, cycles: int = 1) -> bool:
    steps = f"-set-init-zero -seq {cycles} " if cycles > 1 else ""
    script += (
        "design -reset; design -copy-from gold -as gold gold; design -copy-from gate -as gate gate;"
        " miter -equiv -flatten -make_outputs gold gate miter; hierarchy -top miter; opt_clean; "
        f"sat -verify {steps}-prove trigger 0 miter"
    )
    try:
        run_yosys(script, inputs)
    except ToolError as error:
        if _DIFFERS in str(error):
            return False
        raise
    return True
