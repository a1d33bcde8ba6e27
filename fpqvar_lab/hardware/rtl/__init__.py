"""Synthesizable units in Amaranth, one idea per file.

A unit states its ports, its latency (cycles from an input to the output that it determines) and
its initiation interval (cycles between two inputs it can take), the latter two as attributes.
"""

from fpqvar_lab.hardware.rtl.adder_tree import Term, add_or_subtract
from fpqvar_lab.hardware.rtl.comparator_bank import ComparatorBank
from fpqvar_lab.hardware.rtl.dot_product import DotProduct, DualDotProduct
from fpqvar_lab.hardware.rtl.group_intake import GroupIntake
from fpqvar_lab.hardware.rtl.group_quantizer import GroupQuantizer
from fpqvar_lab.hardware.rtl.hadamard_unit import HadamardUnit
from fpqvar_lab.hardware.rtl.integers import branches, code_integers, midpoints, tie_goes_up
from fpqvar_lab.hardware.rtl.kv_quantizer import KVQuantizer
from fpqvar_lab.hardware.rtl.lanes import AlignedLane, CodeLane, DualLane, IntegerLane, lane_for
from fpqvar_lab.hardware.rtl.matrix_unit import MatrixUnit
from fpqvar_lab.hardware.rtl.multiplier import (
    ArithmeticMultiplier,
    IntegerMultiplier,
    Output,
    TableMultiplier,
)
from fpqvar_lab.hardware.rtl.operand_aligner import ALIGNMENTS, OperandAligner
from fpqvar_lab.hardware.rtl.rounding_table import RoundingTable
from fpqvar_lab.hardware.rtl.scale_unit import ScaleUnit
from fpqvar_lab.hardware.rtl.shift_quantizer import ShiftQuantizer
from fpqvar_lab.hardware.rtl.unit import Unit

__all__ = [
    "ALIGNMENTS",
    "AlignedLane",
    "ArithmeticMultiplier",
    "CodeLane",
    "ComparatorBank",
    "DotProduct",
    "DualDotProduct",
    "DualLane",
    "GroupIntake",
    "GroupQuantizer",
    "HadamardUnit",
    "IntegerLane",
    "IntegerMultiplier",
    "KVQuantizer",
    "MatrixUnit",
    "OperandAligner",
    "Output",
    "RoundingTable",
    "ScaleUnit",
    "ShiftQuantizer",
    "TableMultiplier",
    "Term",
    "Unit",
    "add_or_subtract",
    "branches",
    "code_integers",
    "lane_for",
    "midpoints",
    "tie_goes_up",
]
