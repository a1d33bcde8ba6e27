"""What an image costs in energy: a sum of unknown prices, each with a source and a range.

No power is measured here, and none of the paper's is known. A price is an interval between figures
from the literature; the number of times it is paid comes from the simulation and from the table of
synthesized units. Designs that pay the same price are compared at the same price: see
`interval.ratio`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fpqvar_lab.hardware.accelerator.cost import DSPMultipliers, Resources, parts
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.device import FPGA
from fpqvar_lab.hardware.accelerator.interval import Interval, Uncertain, Unknown

HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014, 45 nm"
KUON = "Kuon and Rose, Measuring the gap between FPGAs and ASICs, TCAD 2007"
OCONNOR = "O'Connor et al., Fine-grained DRAM, MICRO 2017"
HG_PIPE = "HG-PIPE (arXiv 2407.17879), its LUTs and watts as reported by third parties"


@dataclass(frozen=True)
class Published:
    """An accelerator that was measured on the VCK190, to hold the prices to.

    Args:
        lut: number of lookup tables that the design takes.
        clock_hz: cycles per second.
        watts: power that the design draws.
        operations: number of additions and multiplications per second.
        images: number of images per second.
    """

    lut: float
    clock_hz: float
    watts: float
    operations: float
    images: float


HG_PIPE_VCK190 = Published(669e3, 425e6, 46.7, 17.8e12, 7118)

# An 8-bit addition takes 0.03 pJ as an ASIC and 8 LUTs here; an FPGA's logic takes 14 times the
# energy of an ASIC's.
_ADDITION_A_LUT = 0.03 * 14 / 8
_ALL_OF_HG_PIPE = 1e12 * HG_PIPE_VCK190.watts / (HG_PIPE_VCK190.lut * HG_PIPE_VCK190.clock_hz)

LUT_BUSY = Unknown(
    "logic at work",
    Interval(round(_ADDITION_A_LUT, 3), round(_ALL_OF_HG_PIPE, 3)),
    "pJ for a LUT and cycle, with its flip-flops and wires",
    f"low: an 8-bit addition ({HOROWITZ}) times 14 ({KUON}) over 8 LUTs; "
    f"high: all the power of {HG_PIPE} over its LUTs and clock",
)
LUT_IDLE = Unknown(
    "logic that waits",
    Interval(0.0, round(_ADDITION_A_LUT, 3)),
    "pJ for a LUT and cycle",
    "low: its clock is stopped; high: as the low end of logic at work; assumed",
    recalled=True,
)
DSP_BUSY = Unknown(
    "multiplier blocks",
    Interval(0.3, 3.2),
    "pJ for a DSP and busy cycle",
    f"{HOROWITZ}: a multiplication of 8 bits, and of 32 bits, with a 32-bit addition",
)
ON_CHIP = Unknown(
    "memory on the chip",
    Interval(1.25, 12.5),
    "pJ for a byte",
    f"{HOROWITZ}: 64 bits from 8 KB (10 pJ), and from 1 MB (100 pJ)",
)
DRAM = {
    "ddr4": Unknown(
        "DRAM",
        Interval(8 * 14.0, 2600 / 8),
        "pJ for a byte",
        f"low: GDDR5, 14.0 pJ a bit ({OCONNOR}); high: 64 bits, 2.6 nJ ({HOROWITZ})",
    ),
    "hbm2": Unknown(
        "HBM2",
        Interval(8 * 3.92, 8 * 7.0),
        "pJ for a byte",
        f"low: 3.92 pJ a bit ({OCONNOR}); high: 7 pJ a bit, recalled",
        recalled=True,
    ),
}
"""By the kind of an FPGA's external memory."""


def static_power(device: FPGA) -> Unknown:
    """Power that flows whatever the logic does; one unknown for each device."""
    figure = device.static
    name = f"static power of {device.name}"
    return Unknown(name, figure.value, "W", figure.source, figure.recalled)


PARTS_OF: Mapping[str, tuple[str, ...]] = {
    "matrix": ("matrix",),
    "attention": ("attention",),
    "hadamard": ("hadamard",),
    "quantizer": ("quantizer",),
    "special": ("special",),
    "dma": ("control",),
}
"""The parts of a design that work while a unit of the simulation does."""


class Activity(Protocol):
    """What a design has done: `pipeline.Run`, or an estimate of one."""

    @property
    def cycles(self) -> int:
        """Number of cycles from the first task to the last."""
        ...

    @property
    def seconds(self) -> float:
        """The same time in seconds."""
        ...

    @property
    def busy(self) -> Mapping[str, int]:
        """Cycles in which each unit works."""
        ...

    @property
    def bytes_read(self) -> float:
        """Number of bytes read from the external memory."""
        ...

    @property
    def bytes_written(self) -> float:
        """Number of bytes written to the external memory."""
        ...


def energy(
    design: Design, run: Activity, device: FPGA, multipliers: DSPMultipliers | None = None
) -> Uncertain:
    """Joules of a run.

    Args:
        design: the design that ran.
        run: the cycles, products and bytes of the run.
        device: the FPGA on which the design is built.
        multipliers: how the matrix unit multiplies, as for `cost.resources`.
    """
    total = Uncertain({static_power(device): run.seconds})
    total += Uncertain({DRAM[device.dram]: 1e-12 * (run.bytes_read + run.bytes_written)})
    total += Uncertain({ON_CHIP: 1e-12 * on_chip_bytes(design, run)})
    built = parts(design, multipliers)
    for unit, names in PARTS_OF.items():
        for name in names:
            total += _switching(built[name], run.busy[unit], run.cycles)
    return total


def on_chip_bytes(design: Design, run: Activity) -> float:
    """Bytes that buffers give to the matrix units, and that pass between them and the DRAM."""
    activations, weights, _ = design.formats
    bits = design.rows * activations.bits + design.tile_columns * weights.bits
    beat = design.lanes * bits / 8
    return beat * run.busy["matrix"] + 2 * (run.bytes_read + run.bytes_written)


def _switching(part: Resources, busy: int, cycles: int) -> Uncertain:
    factors = {
        LUT_BUSY: 1e-12 * part.lut * busy,
        LUT_IDLE: 1e-12 * part.lut * (cycles - busy),
        DSP_BUSY: 1e-12 * part.dsp * busy,
    }
    return Uncertain(factors)
