"""The one channel to the external memory."""

import math
from fractions import Fraction

from fpqvar_lab.hardware.accelerator.operation import Op
from fpqvar_lab.hardware.accelerator.timeline import Dependency, Timeline, Unit


class MemoryChannel:
    """Moves bytes at a fixed rate, one transfer after the other.

    Args:
        timeline: The timeline that the transfers run on.
        clock_hz: Cycles per second.
        bytes_per_s: Bytes per second that the memory gives.

    Raises:
        ValueError: when the rate is not positive.
    """

    def __init__(self, timeline: Timeline, clock_hz: float, bytes_per_s: float):
        if bytes_per_s <= 0:
            raise ValueError(f"memory_bytes_per_s is {bytes_per_s}; it must be positive")
        self._timeline = timeline
        self._cycles_per_byte = (Fraction(clock_hz) / Fraction(bytes_per_s)).as_integer_ratio()

    def transfer(self, op: Op, count: float, *needs: Dependency) -> int:
        """Move so many bytes for an operation; returns the cycle from which they are there."""
        numerator, denominator = self._cycles_per_byte
        cycles = -(-math.ceil(count) * numerator // denominator)
        return self._timeline.run(op, Unit.DMA, cycles, *needs)
