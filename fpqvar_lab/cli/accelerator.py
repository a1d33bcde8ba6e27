"""The options that `simulate` and `explore` share: which accelerator, for which model."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from fpqvar_lab.cli.options import Fraction, Size, between

if TYPE_CHECKING:
    from fpqvar_lab.hardware.accelerator import Design, Problem

Lanes = Annotated[Size | None, Parameter(metavar="N")]
Kibibytes = Annotated[int | None, between(1, 1 << 20), Parameter(metavar="KIB")]


@Parameter(name="*", group=Group("Problem", sort_key=1))
@dataclass(frozen=True)
class Task:
    """What the accelerator computes, on which device.

    Args:
        model: d16, d20, d24, d30, d36 or mini
        device: vck190, u280 or k26
        recipe: a name or a .toml file
        batch: images at a time
        clock: assumed clock
        efficiency: of the memory's bandwidth
    """

    model: str = "d30"
    device: str = "vck190"
    recipe: str = "fp4-fpqvar-pow2"
    batch: Annotated[int, between(1, 1024)] = 1
    clock: Annotated[int, between(1, 10_000), Parameter(metavar="MHZ")] = 300
    efficiency: Fraction = 0.8

    def problem(self, recipe: str, fraction: float = 1.0) -> "Problem":
        """The problem for one recipe, of which at most `fraction` of the device is used."""
        from fpqvar_lab.hardware.accelerator import problem_of

        found = problem_of(self.model, recipe, self.device, self.batch)
        clock = 1e6 * self.clock
        return replace(found, clock_hz=clock, efficiency=self.efficiency, max_fraction=fraction)


@Parameter(
    name="*", group=Group("Design, where it differs from one that fits the device", sort_key=2)
)
@dataclass(frozen=True)
class Changes:
    """What differs from the design that the simulation starts from.

    Args:
        rows: tokens of a matrix array's tile
        columns: output channels of a tile
        lanes: products per cycle in each dot product
        arrays: equal matrix arrays
        attention_macs: products per cycle of the attention array
        hadamard_lanes: elements per cycle
        quantizer_lanes: elements per cycle
        special_lanes: elements per cycle (softmax, GELU, normalisation)
        weight_buffer: weights on the chip
        activation_buffer: activations on the chip
        single_buffered: no weights ahead of their use
        fine: stages of an operation overlap, or do not
        coarse: operations overlap, or do not
    """

    rows: Lanes = None
    columns: Lanes = None
    lanes: Lanes = None
    arrays: Lanes = None
    attention_macs: Lanes = None
    hadamard_lanes: Lanes = None
    quantizer_lanes: Lanes = None
    special_lanes: Lanes = None
    weight_buffer: Kibibytes = None
    activation_buffer: Kibibytes = None
    single_buffered: bool = False
    fine: Annotated[bool, Parameter(negative="--no-fine")] = True
    coarse: Annotated[bool, Parameter(negative="--no-coarse")] = True

    def applied(self, base: "Design") -> "Design":
        """The design that differs from `base` in what was given."""
        numbers = {
            **{name: getattr(self, name) for name in ("rows", "columns", "lanes", "arrays")},
            "attention_macs": self.attention_macs,
            "hadamard_lanes": self.hadamard_lanes,
            "quantizer_lanes": self.quantizer_lanes,
            "special_lanes": self.special_lanes,
            "weight_buffer_bytes": self.weight_buffer and 1024 * self.weight_buffer,
            "activation_buffer_bytes": self.activation_buffer and 1024 * self.activation_buffer,
        }
        return replace(
            base,
            double_buffered=not self.single_buffered,
            fine=self.fine,
            coarse=self.coarse,
            **{name: value for name, value in numbers.items() if value is not None},
        )
