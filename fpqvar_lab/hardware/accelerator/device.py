"""The machines that are modelled; each number with its source, or marked as recalled.

A recalled number is believed to be right and has no source at hand. A test lists those, so that
none is added unseen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from fpqvar_lab.hardware.accelerator.interval import Interval

AM004 = "AMD, Versal DSP Engine Architecture Manual (AM004)"
UG1393 = "AMD, Vitis Application Acceleration Development (UG1393)"
UG1702 = "AMD, Vitis Reference Guide (UG1702)"
DS987 = "AMD, Kria K26 SOM Data Sheet (DS987)"
AMPERE = "NVIDIA, A100 Tensor Core GPU Architecture (2020)"
LIGHTMAMBA = "authors' README of LightMamba"
NO_SOURCE = "no source at hand"


@dataclass(frozen=True)
class Figure:
    """One number about a machine.

    Args:
        value: the number, in `unit`.
        unit: unit in which the number counts, such as "byte/s".
        source: the document in which the number stands.
        recalled: whether no source is at hand for the number.
    """

    value: float
    unit: str
    source: str
    recalled: bool = False


@dataclass(frozen=True)
class Range:
    """As `Figure`, for a number known to lie within limits only."""

    value: Interval
    unit: str
    source: str
    recalled: bool = False


def _recalled(value: float, unit: str) -> Figure:
    return Figure(value, unit, NO_SOURCE, recalled=True)


@dataclass(frozen=True)
class FPGA:
    """A board with an FPGA.

    Args:
        name: short name for the command line, such as "vck190".
        title: name for tables and figures.
        lut: number of lookup tables with six inputs.
        ff: number of flip-flops.
        dsp: number of multiplier blocks.
        bram: number of block memories of `BRAM_BITS` bits.
        uram: number of large block memories of `URAM_BITS` bits.
        dsp_int8: number of INT8 products per cycle in one multiplier block.
        memory: peak bandwidth of the external memory.
        dram: kind of the external memory, a key of `energy.DRAM`.
        clock: clock that a published design reached on the device.
        static: power that flows whatever the logic does.
    """

    name: str
    title: str
    lut: Figure
    ff: Figure
    dsp: Figure
    bram: Figure
    uram: Figure
    dsp_int8: Figure
    memory: Figure
    dram: str
    clock: Figure
    static: Range

    def sustained(self, efficiency: float = 0.8) -> float:
        """Bytes per second that long bursts get out of the memory.

        Args:
            efficiency: the fraction of the peak that is reached; 0.8 is an assumption.
        """
        return self.memory.value * efficiency


@dataclass(frozen=True)
class Processor:
    """A GPU or CPU, as far as a roofline describes it.

    Args:
        name: short name for the command line, such as "vck190".
        title: name for tables and figures.
        peak: multiplications with accumulation per second, in `precision`.
        precision: number format in which the peak holds, such as "fp16".
        memory: peak bandwidth of the memory.
        power: power that the whole card or socket draws while it works.
    """

    name: str
    title: str
    peak: Figure
    precision: str
    memory: Figure
    power: Range


BRAM_BITS = 36 * 1024
"""Of one block memory (UG1273)."""
URAM_BITS = 288 * 1024
"""Of one large block memory (UG1273)."""
BRAM_PORT_BITS = 72
"""That one block memory reads a cycle, as simple dual port (UG1273)."""
URAM_PORT_BITS = 72
"""That one port of a large block memory reads a cycle (UG1273)."""

VCK190 = FPGA(
    name="vck190",
    title="AMD VCK190 (Versal VC1902)",
    lut=_recalled(899_840, "LUT"),
    ff=_recalled(1_799_680, "FF"),
    dsp=Figure(1968, "DSP58", UG1702),
    bram=_recalled(967, "BRAM36"),
    uram=_recalled(463, "URAM"),
    dsp_int8=Figure(3, "MAC/cycle", AM004),
    memory=_recalled(25.6e9, "byte/s"),
    dram="ddr4",
    clock=Figure(400e6, "Hz", LIGHTMAMBA),
    static=Range(Interval(5, 20), "W", NO_SOURCE, recalled=True),
)

U280 = FPGA(
    name="u280",
    title="AMD Alveo U280",
    lut=_recalled(1_303_680, "LUT"),
    ff=_recalled(2_607_360, "FF"),
    dsp=_recalled(9024, "DSP48"),
    bram=_recalled(2016, "BRAM36"),
    uram=_recalled(960, "URAM"),
    dsp_int8=_recalled(2, "MAC/cycle"),
    memory=Figure(460e9, "byte/s", UG1393),
    dram="hbm2",
    clock=Figure(200e6, "Hz", "LightMamba (arXiv 2502.15260), as reported"),
    static=Range(Interval(10, 40), "W", NO_SOURCE, recalled=True),
)

K26 = FPGA(
    name="k26",
    title="AMD Kria K26",
    lut=_recalled(117_120, "LUT"),
    ff=_recalled(234_240, "FF"),
    dsp=_recalled(1248, "DSP48"),
    bram=_recalled(144, "BRAM36"),
    uram=_recalled(64, "URAM"),
    dsp_int8=_recalled(2, "MAC/cycle"),
    # 64 bits wide at 2400 Mb/s.
    memory=Figure(19.2e9, "byte/s", DS987),
    dram="ddr4",
    clock=_recalled(300e6, "Hz"),
    static=Range(Interval(1, 5), "W", NO_SOURCE, recalled=True),
)

A100 = Processor(
    name="a100",
    title="NVIDIA A100 40 GB",
    peak=Figure(312e12 / 2, "MAC/s", AMPERE),
    precision="fp16",
    memory=Figure(1555e9, "byte/s", AMPERE),
    # The upper end is the card's rated power.
    power=Range(Interval(150, 400), "W", NO_SOURCE, recalled=True),
)

XEON = Processor(
    name="xeon-8380",
    title="Intel Xeon Platinum 8380, one socket",
    # 40 cores, two units of 64 INT8 products each, 2.3 GHz.
    peak=_recalled(40 * 2 * 64 * 2.3e9, "MAC/s"),
    precision="int8",
    memory=_recalled(8 * 25.6e9, "byte/s"),
    power=Range(Interval(150, 270), "W", NO_SOURCE, recalled=True),
)

DEVICES: dict[str, FPGA | Processor] = {
    machine.name: machine for machine in (VCK190, U280, K26, A100, XEON)
}


def find_device(name: str) -> FPGA | Processor:
    """A machine by its name.

    Raises:
        ValueError: there is no such machine.
    """
    if name not in DEVICES:
        raise ValueError(f"no device {name!r}; there are {', '.join(DEVICES)}")
    return DEVICES[name]


def find_fpga(name: str) -> FPGA:
    """A board with an FPGA by its name.

    Raises:
        ValueError: there is no such machine, or it is no FPGA.
    """
    found = find_device(name)
    if not isinstance(found, FPGA):
        boards = [key for key, machine in DEVICES.items() if isinstance(machine, FPGA)]
        raise ValueError(f"{found.title} is no FPGA; use {', '.join(boards)}")
    return found


def figures(machine: FPGA | Processor) -> Iterator[tuple[str, Figure | Range]]:
    """Names and figures of a machine, in the order of its fields."""
    for entry in fields(machine):
        value = getattr(machine, entry.name)
        if isinstance(value, Figure | Range):
            yield entry.name, value
