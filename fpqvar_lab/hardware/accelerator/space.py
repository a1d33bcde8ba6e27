"""The designs to choose from, and bounds on what those that fit a device can give."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import product

from fpqvar_lab.formats import DualFormat
from fpqvar_lab.hardware.accelerator.cost import resources
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.device import FPGA
from fpqvar_lab.hardware.accelerator.energy import energy
from fpqvar_lab.hardware.accelerator.lower_bound import Load, least
from fpqvar_lab.hardware.accelerator.problem import Problem


@dataclass(frozen=True)
class Space:
    """The designs to choose from: all combinations.

    How many arrays divide the columns is no choice here: neither time nor cells depend on it.

    Args:
        tiles: Pairs (rows, lanes) of a matrix array, whose product is 128: with that, a column's
            scale unit just keeps up. Where each dot product has two totals (a dual format with free
            scales), half of the rows are taken.
        columns: How many columns all matrix arrays have together.
        attention_macs: See `Design`.
        hadamard_lanes: See `Design`.
        quantizer_lanes: See `Design`.
        special_lanes: See `Design`.
        weight_buffers: Sizes of the weight buffer in bytes; designs whose buffer does not hold two
            tiles' weights are left out.
    """

    tiles: tuple[tuple[int, int], ...] = ((8, 16), (16, 8), (32, 4))
    columns: tuple[int, ...] = (*range(8, 128, 16), *range(128, 288, 8))
    attention_macs: tuple[int, ...] = (128, 256, 512, 768, 1024, 1280, 1536)
    hadamard_lanes: tuple[int, ...] = (16, 32)
    quantizer_lanes: tuple[int, ...] = (8, 16, 32, 64)
    special_lanes: tuple[int, ...] = (8, 16, 32, 64)
    weight_buffers: tuple[int, ...] = (2**19, 2**20, 2**21, 3 * 2**20)

    def designs(self, base: Design) -> Iterator[Design]:
        """All designs that differ from `base` in these respects only, and can be built."""
        fc2_input = base.formats.fc2_input
        is_free = isinstance(fc2_input, DualFormat) and fc2_input.scale_ratio == "free"
        for values in product(*(getattr(self, f.name) for f in fields(self))):
            (rows, lanes), columns, attention, hadamard, quantizer, special, weights = values
            try:
                yield replace(
                    base,
                    rows=rows // 2 if is_free else rows,
                    lanes=lanes,
                    columns=columns,
                    attention_macs=attention,
                    hadamard_lanes=hadamard,
                    quantizer_lanes=quantizer,
                    special_lanes=special,
                    weight_buffer_bytes=weights,
                )
            except ValueError:
                continue


SMALL_BOARD = Space(
    columns=tuple(range(2, 34, 2)),
    attention_macs=(32, 64, 128, 256, 512),
    weight_buffers=(2**16, 2**17, 2**18),
)
"""The designs to choose from for a board with a tenth of the VCK190's cells."""


def space_for(device: FPGA) -> Space:
    """The designs to choose from for a device."""
    return SMALL_BOARD if device.lut.value < 300_000 else Space()


@dataclass(frozen=True)
class Candidate:
    """A design that fits, and what it can give at best.

    Args:
        design: A design whose parts fit the device together.
        images_per_second: A bound on its speed.
        images_per_joule: A bound on its efficiency, with every price in the middle of its range.
    """

    design: Design
    images_per_second: float
    images_per_joule: float


def candidates(space: Space, problem: Problem) -> list[Candidate]:
    """The designs of a space that fit the device, best bound first."""
    load = Load(problem.ops)
    found = []
    for design in space.designs(problem.base):
        # One tile's columns are in use while those of the next arrive.
        holds = design.weight_buffer_bytes > 2 * load.column_bytes * design.tile_columns
        if not holds or not resources(design).fit(problem.board, problem.max_fraction):
            continue
        bound = least(load, design, problem.rate)
        joules = energy(design, bound, problem.board).middle
        found.append(Candidate(design, problem.batch / bound.seconds, problem.batch / joules))
    return sorted(found, key=lambda c: (-c.images_per_second, -c.images_per_joule))
