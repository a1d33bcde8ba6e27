"""Registers: a value one cycle later, or several."""

from amaranth.hdl import Module, ShapeLike, Signal, Value


def register(
    m: Module,
    value: Value,
    name: str | None = None,
    *,
    shape: ShapeLike | None = None,
    enable: Value | None = None,
    has_reset: bool = False,
) -> Signal:
    """The value one cycle later.

    Args:
        m: The module in whose clock domain `sync` the register lies.
        value: What is kept.
        name: The register's name.
        shape: The register's shape; by default that of the value.
        enable: When the value is taken; by default in every cycle.
        has_reset: Whether a reset sets it to 0. Data that a flag declares valid needs none, and a
            chain of registers without one can become a shift register in lookup tables.
    """
    later = Signal(value.shape() if shape is None else shape, name=name, reset_less=not has_reset)
    if enable is None:
        m.d.sync += later.eq(value)
        return later
    with m.If(enable):
        m.d.sync += later.eq(value)
    return later


def delay(m: Module, value: Value, cycles: int) -> Value:
    """The value's bits after some cycles, through registers that a reset sets to 0."""
    for _ in range(cycles):
        value = register(m, value, shape=len(value), has_reset=True)
    return value
