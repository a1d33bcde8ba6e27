"""What is done with the units: named, simulated, proven equal, exported as Verilog, synthesized,
counted. Yosys, CXXRTL and nextpnr are run from here.
"""

from fpqvar_lab.hardware.toolchain.cxxrtl import CompiledUnit, from_words, run_beats, to_words
from fpqvar_lab.hardware.toolchain.equivalence import netlist_is_equal, units_are_equal
from fpqvar_lab.hardware.toolchain.netlist import Lut, lookup_tables
from fpqvar_lab.hardware.toolchain.rtl_simulation import (
    StreamRun,
    evaluate_combinational,
    record_waves,
    run_stream,
)
from fpqvar_lab.hardware.toolchain.synthesis import (
    result_key,
    run_synthesis,
    synthesis_command,
    synthesize,
)
from fpqvar_lab.hardware.toolchain.tiles import (
    all_tiles,
    beat_payloads,
    compiled_product,
    matrix_operands,
    operand_beats,
)
from fpqvar_lab.hardware.toolchain.unit_costs import TABLE_COLUMNS, synthesize_entry, table_row
from fpqvar_lab.hardware.toolchain.units import UNIT_KINDS, build_unit, hadamard_signs
from fpqvar_lab.hardware.toolchain.verilog import clock_constraint, to_verilog
from fpqvar_lab.hardware.toolchain.yosys import ToolError, run_yosys, to_rtlil, tool_versions

__all__ = [
    "TABLE_COLUMNS",
    "UNIT_KINDS",
    "CompiledUnit",
    "Lut",
    "StreamRun",
    "ToolError",
    "all_tiles",
    "beat_payloads",
    "build_unit",
    "clock_constraint",
    "compiled_product",
    "evaluate_combinational",
    "from_words",
    "hadamard_signs",
    "lookup_tables",
    "matrix_operands",
    "netlist_is_equal",
    "operand_beats",
    "record_waves",
    "result_key",
    "run_beats",
    "run_stream",
    "run_synthesis",
    "run_yosys",
    "synthesis_command",
    "synthesize",
    "synthesize_entry",
    "table_row",
    "to_rtlil",
    "to_verilog",
    "to_words",
    "tool_versions",
    "units_are_equal",
]
