"""What every unit has beside its ports: a latency and an initiation interval."""

from amaranth.lib.wiring import Component


class Unit(Component):
    """A component that can be asked what it takes in time, without being built into hardware.

    Attributes:
        latency: Cycles from the input that determines an output to that output, without stalls.
        interval: Cycles between two inputs that the unit can take.
    """

    latency: int
    interval: int = 1

    # Amaranth warns of components that never become hardware; asking one for its cost is no error.
    _MustUse__silence = True
