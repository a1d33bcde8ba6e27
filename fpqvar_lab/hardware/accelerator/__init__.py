"""Whole accelerators: a VAR as a list of operations, designs and devices, a cycle-level simulation
of the two-level pipeline, cost and energy, and the search for the best design. Amaranth is imported
when a design first asks a unit for its timing.
"""

from fpqvar_lab.hardware.accelerator.baselines import BASELINES, baseline_design, symmetric
from fpqvar_lab.hardware.accelerator.cost import (
    ASSUMED,
    DSPMultipliers,
    Resources,
    dot_product,
    hadamard,
    matrix,
    matrix_unit,
    parts,
    quantizer,
    resources,
)
from fpqvar_lab.hardware.accelerator.design import Design, OperandFormats
from fpqvar_lab.hardware.accelerator.device import (
    A100,
    DEVICES,
    FPGA,
    K26,
    NO_SOURCE,
    VCK190,
    figures,
    find_device,
    find_fpga,
)
from fpqvar_lab.hardware.accelerator.energy import (
    HG_PIPE_VCK190,
    LUT_BUSY,
    PARTS_OF,
    energy,
    static_power,
)
from fpqvar_lab.hardware.accelerator.explore import Expectation, Exploration, explore
from fpqvar_lab.hardware.accelerator.feasibility import activation_bytes_needed
from fpqvar_lab.hardware.accelerator.interval import Interval, Uncertain, Unknown, ratio
from fpqvar_lab.hardware.accelerator.lower_bound import Load, least, product_cycles
from fpqvar_lab.hardware.accelerator.operation import Kind, Op
from fpqvar_lab.hardware.accelerator.pareto import pareto_front
from fpqvar_lab.hardware.accelerator.pipeline import Run, StepRun, simulate
from fpqvar_lab.hardware.accelerator.point import Point, evaluate_design
from fpqvar_lab.hardware.accelerator.problem import Problem, formats_of, problem_of
from fpqvar_lab.hardware.accelerator.replay import replay, simulated_rows, simulated_starts
from fpqvar_lab.hardware.accelerator.service import MODELLED_LATENCY
from fpqvar_lab.hardware.accelerator.space import Candidate, Space, candidates, space_for
from fpqvar_lab.hardware.accelerator.storage import stored_bytes, with_bfloat16_scales
from fpqvar_lab.hardware.accelerator.timeline import StallReason, Unit
from fpqvar_lab.hardware.accelerator.trace import check_trace, chrome_trace, write_trace
from fpqvar_lab.hardware.accelerator.unit_timing import POINTS
from fpqvar_lab.hardware.accelerator.workload import excerpt, workload

__all__ = [
    "A100",
    "ASSUMED",
    "BASELINES",
    "DEVICES",
    "FPGA",
    "HG_PIPE_VCK190",
    "K26",
    "LUT_BUSY",
    "MODELLED_LATENCY",
    "NO_SOURCE",
    "PARTS_OF",
    "POINTS",
    "VCK190",
    "Candidate",
    "DSPMultipliers",
    "Design",
    "Expectation",
    "Exploration",
    "Interval",
    "Kind",
    "Load",
    "Op",
    "OperandFormats",
    "Point",
    "Problem",
    "Resources",
    "Run",
    "Space",
    "StallReason",
    "StepRun",
    "Uncertain",
    "Unit",
    "Unknown",
    "activation_bytes_needed",
    "baseline_design",
    "candidates",
    "check_trace",
    "chrome_trace",
    "dot_product",
    "energy",
    "evaluate_design",
    "excerpt",
    "explore",
    "figures",
    "find_device",
    "find_fpga",
    "formats_of",
    "hadamard",
    "least",
    "matrix",
    "matrix_unit",
    "pareto_front",
    "parts",
    "problem_of",
    "product_cycles",
    "quantizer",
    "ratio",
    "replay",
    "resources",
    "simulate",
    "simulated_rows",
    "simulated_starts",
    "space_for",
    "static_power",
    "stored_bytes",
    "symmetric",
    "with_bfloat16_scales",
    "workload",
    "write_trace",
]
