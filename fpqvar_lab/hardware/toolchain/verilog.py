"""Units as plain Verilog, for other tools, with a first constraint for Vivado."""

import re

from amaranth.hdl import Elaboratable

from fpqvar_lab.hardware.toolchain.yosys import run_yosys, to_rtlil


def to_verilog(unit: Elaboratable, name: str) -> str:
    """The unit as one Verilog file, whose top module is `name`.

    Raises:
        ValueError: when `name` is no Verilog identifier.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"name {name!r} is no Verilog identifier")
    script = (
        f"read_rtlil unit.il; hierarchy -top {name}; proc -nomux -norom; memory_collect; "
        "clean -purge; write_verilog -norename -noattr unit.v"
    )
    (text,) = run_yosys(script, {"unit.il": to_rtlil(unit, name)}, ("unit.v",))
    # The tool's own first line names a folder of whoever built the tool.
    return f"// {name}: made from fpqvar_lab by Amaranth and Yosys\n" + text[text.index("*/") + 2 :]


def clock_constraint(megahertz: float = 300.0) -> str:
    """A constraints file (XDC) that asks for a clock; pins and other limits are the board's."""
    return (
        f"# The clock to aim for: {megahertz:g} MHz. A unit without a clock needs no such line.\n"
        f"create_clock -name clk -period {1000 / megahertz:.3f} [get_ports clk]\n"
    )
