"""Synthesizable units in Amaranth, one idea per file.

A unit states its ports, its latency (cycles from an input to the output that it determines) and
its initiation interval (cycles between two inputs it can take), the latter two as attributes.
"""

from fpqvar_lab.hardware.rtl.adder_tree import Term, add_or_subtract
from fpqvar_lab.hardware.rtl.comparator_bank import ComparatorBank
from fpqvar_lab.hardware.rtl.dot_product import DotProduct, HalvesDotProduct
from fpqvar_lab.hardware.rtl.group_intake import GroupIntake
from fpqvar_lab.hardware.rtl.group_quantizer import GroupQuantizer
from fpqvar_lab.hardware.rtl.hadamard_unit import HadamardUnit
from fpqvar_lab.hardware.rtl.integers import code_integers, halves, midpoints, tie_goes_up
from fpqvar_lab.hardware.rtl.kv_quantizer import KVQuantizer
from fpqvar_lab.hardware.rtl.lanes import CodeLane, HalvesLane, IntegerLane, PlacedLane, lane_for
from fpqvar_lab.hardware.rtl.matrix_unit import MatrixUnit
from fpqvar_lab.hardware.rtl.multiplier import (
    ArithmeticMultiplier,
    IntegerMultiplier,
    Output,
    TableMultiplier,
)
from fpqvar_lab.hardware.rtl.recoder import PLACES, Recoder
from fpqvar_lab.hardware.rtl.rounding_table import RoundingTable
from fpqvar_lab.hardware.rtl.scale_unit import ScaleUnit
from fpqvar_lab.hardware.rtl.shift_quantizer import ShiftQuantizer
from fpqvar_lab.hardware.rtl.unit import Unit

__all__ = [
    "PLACES",
    "ArithmeticMultiplier",
    "CodeLane",
    "ComparatorBank",
    "DotProduct",
    "GroupIntake",
    "GroupQuantizer",
    "HadamardUnit",
    "HalvesDotProduct",
    "HalvesLane",
    "IntegerLane",
    "IntegerMultiplier",
    "KVQuantizer",
    "MatrixUnit",
    "Output",
    "PlacedLane",
    "Recoder",
    "RoundingTable",
    "ScaleUnit",
    "ShiftQuantizer",
    "TableMultiplier",
    "Term",
    "Unit",
    "add_or_subtract",
    "code_integers",
    "halves",
    "lane_for",
    "midpoints",
    "tie_goes_up",
]
