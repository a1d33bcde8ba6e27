"""LightMamba's accelerator in the terms of the pipeline simulator, beside its published speed.

LightMamba (arXiv 2502.15260) runs Mamba2-2.7B in 4 bits on the same board as FPQVAR, and its
authors publish clock, size and speed, and the code of its units. Nothing here is fitted to the
published speed: the shapes are the model's, the widths those of the published code, and
`ASSUMPTIONS` states what is not known.
"""

from dataclasses import dataclass, replace

from fpqvar_lab.formats import INT4
from fpqvar_lab.hardware.accelerator import Design, Kind, Op, OperandFormats

PUBLISHED_TOKENS_PER_SECOND = 7.21
"""The speed of Mamba2-2.7B in W4A4 on the VCK190 at 400 MHz (the authors' README)."""

HEADS = 80
PACKET_BITS = 256
"""What the published code reads from memory per cycle: 8 x 8 weights of 4 bits."""

ASSUMPTIONS = (
    "weights: 4 bits and, for each group of 128, two scale exponents of 3 bits (published code)",
    "memory: one packet of 256 bits per cycle at most (published code), 12.8 GB/s at 400 MHz",
    "state: read and written once per token and layer, the convolution's too; 8 bits (published)",
    "state-space unit: 8 elements per cycle (published code), after the whole input projection",
    "output projection: after the state-space unit",
    "other units: 8 elements per cycle (published code), with the latencies of ours",
    "embedding and logits: left out",
    "weights that wait on the chip: 64 KiB (assumed)",
)
"""What the simulation of LightMamba rests on, and where it is from."""

DESIGN = Design(
    rows=1,
    columns=8,
    lanes=8,
    formats=OperandFormats(INT4, INT4, INT4),
    attention_macs=8,
    hadamard_lanes=8,
    quantizer_lanes=8,
    special_lanes=8,
    clock_hz=400e6,
    weight_buffer_bytes=2**16,
    activation_buffer_bytes=2**21,
)
"""8 x 8 multipliers for one token, with units of 8 elements per cycle around them."""


@dataclass(frozen=True)
class Mamba2:
    """Sizes of a Mamba2 model; by default those of Mamba2-2.7B.

    Args:
        layers: The number of layers.
        width: The width of the residual stream.
        inner: The number of channels within a layer.
        projected: The number of outputs of the input projection (z, x, B, C and dt together).
        state: How many numbers of state each inner channel has.
        convolved: How many channels the convolution runs over.
        taps: The length of the convolution.
    """

    layers: int = 64
    width: int = 2560
    inner: int = 5120
    projected: int = 10576
    state: int = 128
    convolved: int = 5376
    taps: int = 4

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of both projections, for one token."""
        return self.layers * self.width * (self.projected + self.inner)


_GROUP = {kind: 128 if kind is Kind.QUANTIZE else 0 for kind in Kind}


def memory_rate(device_rate: float, clock_hz: float = DESIGN.clock_hz) -> float:
    """Bytes per second that reach the accelerator: the memory's, or those of its packets."""
    return min(device_rate, PACKET_BITS / 8 * clock_hz)


def token(model: Mamba2 | None = None, *, overlapped: bool = False) -> tuple[Op, ...]:
    """The operations of one token.

    Args:
        model: The sizes of the model; by default those of Mamba2-2.7B.
        overlapped: Whether the state-space unit costs no time of its own, because it works while
            the next weights are multiplied. This is the best that reordering the projection's
            outputs can reach.
    """
    model = Mamba2() if model is None else model
    ops: list[Op] = []
    last: tuple[str, ...] = ()
    for layer in range(model.layers):
        found = _layer(model, layer, last, overlapped)
        ops += found
        last = (found[-1].name,)
    return tuple(ops)


def _layer(model: Mamba2, layer: int, last: tuple[str, ...], overlapped: bool) -> list[Op]:
    def name(part: str) -> str:
        return f"layers.{layer}/{part}"

    def op(part: str, kind: Kind, columns: int, *after: str) -> Op:
        needed = tuple(map(name, after))
        plain = Op(name(part), kind, 0, layer, rows=1, columns=columns, elements=columns)
        return replace(plain, input_format=INT4, group=_GROUP[kind], after=needed)

    taps = _stored(model.taps * model.convolved)
    state = _stored(model.inner * model.state) + taps
    read = Op(name("state"), Kind.CACHE_READ, 0, layer, cache_read_bytes=state + taps, heads=HEADS)
    kept = Op(name("keep"), Kind.CACHE_WRITE, 0, layer, cache_written_bytes=state)
    scanned = "active" if overlapped else "scan"
    ops = [
        read,
        replace(op("norm", Kind.NORM, model.width), after=last),
        op("quantize", Kind.QUANTIZE, model.width, "norm"),
        _projection(name("in_proj"), layer, model.width, model.projected, name("quantize")),
        # The convolution and SiLU, as the projection's columns come.
        op("active", Kind.GELU, model.projected, "in_proj"),
        # The unit for special functions stands for the state-space unit.
        op("scan", Kind.NORM, model.inner * model.state, "active", "state"),
        op("gate", Kind.NORM, model.inner, scanned),
        op("rotate", Kind.HADAMARD, model.inner, "gate"),
        op("quantize2", Kind.QUANTIZE, model.inner, "rotate"),
        _projection(name("out_proj"), layer, model.inner, model.width, name("quantize2")),
        replace(kept, after=(name(scanned),)),
        op("residual", Kind.RESIDUAL, model.width, "out_proj"),
    ]
    return [one for one in ops if not (overlapped and one.name == name("scan"))]


def _projection(name: str, layer: int, inner: int, columns: int, after: str) -> Op:
    weights = inner * columns
    return Op(
        name,
        Kind.LINEAR,
        0,
        layer,
        rows=1,
        inner=inner,
        columns=columns,
        weight_bytes=(4 * weights + 2 * 3 * weights // 128) / 8,
        input_format=INT4,
        weight_format=INT4,
        after=(after,),
    )


def _stored(elements: int) -> float:
    return elements * (8 + 4 / 8) / 8
