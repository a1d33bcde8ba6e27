"""What is done with the units: named, simulated, proven equal, exported as Verilog, synthesized,
counted. Yosys, CXXRTL and nextpnr are run from here.
"""

from fpqvar_lab.hardware.toolchain.cost_table import (
    COLUMNS,
    ENTRIES,
    Entry,
    cells,
    load_table,
    measure,
)
from fpqvar_lab.hardware.toolchain.cxxrtl import CompiledUnit, from_words, run_beats, to_words
from fpqvar_lab.hardware.toolchain.equivalence import are_equal, netlist_is_equal
from fpqvar_lab.hardware.toolchain.netlist import Lut, lookup_tables
from fpqvar_lab.hardware.toolchain.rtl_simulation import StreamRun, evaluate, record, run_stream
from fpqvar_lab.hardware.toolchain.synthesis import (
    RESULTS,
    result_key,
    run_synthesis,
    synthesis_command,
    synthesize,
)
from fpqvar_lab.hardware.toolchain.tiles import (
    all_tiles,
    beats_of,
    compiled_product,
    operands,
    payloads,
)
from fpqvar_lab.hardware.toolchain.units import KINDS, build, hadamard_signs
from fpqvar_lab.hardware.toolchain.verilog import constraints, to_verilog
from fpqvar_lab.hardware.toolchain.yosys import ToolError, run_yosys, to_rtlil, versions

__all__ = [
    "COLUMNS",
    "ENTRIES",
    "KINDS",
    "RESULTS",
    "CompiledUnit",
    "Entry",
    "Lut",
    "StreamRun",
    "ToolError",
    "all_tiles",
    "are_equal",
    "beats_of",
    "build",
    "cells",
    "compiled_product",
    "constraints",
    "evaluate",
    "from_words",
    "hadamard_signs",
    "load_table",
    "lookup_tables",
    "measure",
    "netlist_is_equal",
    "operands",
    "payloads",
    "record",
    "result_key",
    "run_beats",
    "run_stream",
    "run_synthesis",
    "run_yosys",
    "synthesis_command",
    "synthesize",
    "to_rtlil",
    "to_verilog",
    "to_words",
    "versions",
]
