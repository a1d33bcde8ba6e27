"""Units run cycle by cycle in Amaranth's own simulator: streams in and out, and waveforms.

For small runs: a few thousand cycles per second. `toolchain.cxxrtl` is the fast, second
simulator.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from amaranth.hdl import Elaboratable, Value
from amaranth.lib.wiring import Component
from amaranth.sim import Simulator

PERIOD_SECONDS = 1e-8


@dataclass(frozen=True)
class StreamRun:
    """What went through a unit, and in which cycle (counted from the first) each beat passed.

    `waves` are the watched signals' values in every cycle, just before the clock edge.
    """

    outputs: tuple[Any, ...]
    accepted: tuple[int, ...]
    emitted: tuple[int, ...]
    waves: dict[str, list[int]] = field(default_factory=dict)

    @property
    def latency(self) -> int:
        """Cycles from the first beat taken to the first beat given."""
        return self.emitted[0] - self.accepted[0]


def evaluate_combinational(
    unit: Elaboratable, inputs: Sequence[Value], outputs: Sequence[Value], vectors: Iterable[Any]
) -> list[tuple[int, ...]]:
    """The outputs of a combinational unit for each vector of inputs."""
    results: list[tuple[int, ...]] = []

    async def bench(ctx: Any) -> None:
        for vector in vectors:
            for port, value in zip(inputs, vector, strict=True):
                ctx.set(port, value)
            results.append(tuple(ctx.get(port) for port in outputs))

    simulator = Simulator(unit)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def run_stream(
    unit: Component,
    beats: Sequence[Any],
    count: int,
    *,
    offers: Iterable[bool] = (),
    accepts: Iterable[bool] = (),
    constants: Mapping[str, int] | None = None,
    watched: Mapping[str, Value] | None = None,
    limit: int = 100_000,
) -> StreamRun:
    """Send `beats` through the streams `unit.i` and `unit.o` until `count` beats came out.

    Args:
        unit: a unit with a stream `i` in and a stream `o` out.
        beats: the payloads to send.
        count: number of beats to wait for.
        offers: whether a beat is offered, cycle by cycle; True after the last.
        accepts: whether the receiver is ready, cycle by cycle; True after the last.
        constants: other inputs by name, and their values.
        watched: label to signal, of the unit or of one inside it: a waveform to draw.
        limit: number of cycles after which the run is given up.

    Raises:
        TimeoutError: when fewer than `count` beats came out within `limit` cycles.
    """
    outputs: list[Any] = []
    accepted: list[int] = []
    emitted: list[int] = []
    waves: dict[str, list[int]] = {label: [] for label in watched or {}}
    offer, accept = (chain(pattern, repeat(True)) for pattern in (offers, accepts))

    async def bench(ctx: Any) -> None:
        for name, value in (constants or {}).items():
            ctx.set(getattr(unit, name), value)
        pending = False
        for cycle in range(limit):
            more = len(accepted) < len(beats)
            # A beat once offered stays until it is taken, as the rules of streams ask.
            pending = pending or (more and next(offer))
            ctx.set(unit.i.valid, pending)
            if pending:
                ctx.set(unit.i.payload, beats[len(accepted)])
            ctx.set(unit.o.ready, next(accept))
            taken = pending and ctx.get(unit.i.ready)
            if ctx.get(unit.o.valid) and ctx.get(unit.o.ready):
                outputs.append(ctx.get(unit.o.payload))
                emitted.append(cycle)
            if taken:
                accepted.append(cycle)
                pending = False
            for label, signal in (watched or {}).items():
                waves[label].append(ctx.get(signal))
            await ctx.tick()
            if len(outputs) == count:
                return
        raise TimeoutError(f"{len(outputs)} of {count} beats came out in {limit} cycles")

    simulator = Simulator(unit)
    simulator.add_clock(PERIOD_SECONDS)
    simulator.add_testbench(bench)
    simulator.run()
    return StreamRun(tuple(outputs), tuple(accepted), tuple(emitted), waves)


def record_waves(
    unit: Elaboratable, inputs: dict[str, Sequence[int]], watched: dict[str, Value]
) -> dict[str, list[int]]:
    """The values of signals in each cycle, just before the clock edge: a waveform to draw.

    Args:
        unit: a unit with a clock.
        inputs: port name to its value in each cycle; all of the same length.
        watched: the signals to record, by their labels.
    """
    waves: dict[str, list[int]] = {label: [] for label in watched}
    cycles = len(next(iter(inputs.values())))

    async def bench(ctx: Any) -> None:
        for cycle in range(cycles):
            for name, values in inputs.items():
                ctx.set(Value.cast(getattr(unit, name)), values[cycle])
            for label, signal in watched.items():
                waves[label].append(ctx.get(signal))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(PERIOD_SECONDS)
    simulator.add_testbench(bench)
    simulator.run()
    return waves
