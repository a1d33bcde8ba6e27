"""Takes a group in beat by beat, keeps it, and finds how far it reaches."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from fpqvar_lab.hardware.rtl.register import register
from fpqvar_lab.hardware.rtl.unit import Unit


def intake_latency(lanes: int, group: int) -> int:
    """Cycles from a group's first beat in to its amax."""
    return group // lanes + (lanes - 1).bit_length() + 1


class GroupIntake(Unit):
    """The largest magnitude of each group of signed integers, and the group itself, delayed.

    Streams: `i` (in, `lanes` signed numbers per beat), `beats` (out, the same beats), `amax` (out,
    once per group: the largest magnitude; or, split by sign, the largest of the positive and of the
    negative elements). The maximum is a tree with a register at each level. Latency from a group's
    first beat to its amax: `group / lanes + levels + 1` cycles; interval (of beats) 1. Exact. The
    receiver takes a group's amax before its beats.

    Args:
        lanes: number of elements that enter per beat.
        width: number of bits of an element, sign included.
        group: number of elements that belong together; a multiple of `lanes`.
        split: whether each sign has an amax of its own, as a dual format needs.
        wait: number of cycles from a group's first beat in until the receiver takes its first beat.
        interval: cycles between the groups that the receiver takes; with `wait` it says how much
            has to be kept.

    Raises:
        ValueError: when `lanes` does not divide `group`.
    """

    def __init__(
        self,
        lanes: int,
        width: int,
        group: int,
        *,
        split: bool = False,
        wait: int = 0,
        interval: int = 1,
    ):
        if group % lanes:
            raise ValueError(f"lanes {lanes} does not divide the group of {group}")
        self.lanes, self.width, self.split = lanes, width, split
        self.beats_per_group = group // lanes
        self.levels = (lanes - 1).bit_length()
        self.latency = intake_latency(lanes, group)
        self.groups_kept = -(-wait // max(interval, self.beats_per_group)) + 1
        beat = ArrayLayout(signed(width), lanes)
        super().__init__(
            {
                "i": In(stream.Signature(beat)),
                "beats": Out(stream.Signature(beat)),
                "amax": Out(stream.Signature(ArrayLayout(width, 2 if split else 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = SyncFIFOBuffered(
            width=self.lanes * self.width, depth=self.groups_kept * self.beats_per_group
        )
        beat = Signal(range(self.beats_per_group))
        is_last = beat == self.beats_per_group - 1
        taken = self.i.valid & self.i.ready
        m.d.comb += [
            self.i.ready.eq(store.w_rdy),
            store.w_data.eq(self.i.payload),
            store.w_en.eq(taken),
            self.beats.payload.eq(store.r_data),
            self.beats.valid.eq(store.r_rdy),
            store.r_en.eq(self.beats.ready),
        ]
        with m.If(taken):
            m.d.sync += beat.eq(Mux(is_last, 0, beat + 1))
        steps = [(taken, beat == 0, is_last)]
        keys = self._keys()
        for level in range(self.levels):
            keys = [_pairwise(m, row, f"level{level}_{i}") for i, row in enumerate(keys)]
            steps.append(_delayed(m, steps[-1], level))
        largest = [self._track(m, i, key, steps[-1]) for i, (key,) in enumerate(keys)]
        # As many as groups in the store, of which none leaves before its amax: never full.
        m.submodules.found = found = SyncFIFO(
            width=len(largest) * self.width, depth=self.groups_kept
        )
        m.d.comb += [
            found.w_data.eq(Cat(((key + 1) >> 1)[: self.width] for key in largest)),
            self.amax.payload.eq(found.r_data),
            self.amax.valid.eq(found.r_rdy),
            found.r_en.eq(self.amax.ready),
        ]
        m.d.sync += found.w_en.eq(steps[-1][0] & steps[-1][2])
        return m

    def _keys(self) -> list[list[Value]]:
        """For each amax the numbers whose largest it is: twice the magnitude, less 1 below zero.

        That is the number's bits, inverted below zero, over its sign: no carry chain is needed.
        """
        numbers = [self.i.payload[lane] for lane in range(self.lanes)]
        signs = [number[-1] for number in numbers]
        keys = [
            Cat(sign, number[:-1] ^ sign.replicate(self.width - 1))
            for number, sign in zip(numbers, signs, strict=True)
        ]
        if not self.split:
            return [keys]
        above = [Mux(sign, 0, key) for key, sign in zip(keys, signs, strict=True)]
        below = [Mux(sign, key, 0) for key, sign in zip(keys, signs, strict=True)]
        return [above, below]

    def _track(
        self, m: Module, index: int, key: Value, flags: tuple[Value, Value, Value]
    ) -> Signal:
        """The running maximum of a group's keys."""
        is_valid, is_first, _ = flags
        running = Signal(self.width, name=f"running{index}")
        with m.If(is_valid & (is_first | (key > running))):
            m.d.sync += running.eq(key)
        return running


def _pairwise(m: Module, keys: list[Value], name: str) -> list[Value]:
    """The larger of each two, in registers; an odd one is only delayed."""
    results: list[Value] = []
    for index in range(0, len(keys), 2):
        pair = keys[index : index + 2]
        larger = Mux(pair[0] > pair[-1], pair[0], pair[-1])
        results.append(register(m, larger, f"{name}_{index}", shape=len(keys[0]), has_reset=True))
    return results


def _delayed(
    m: Module, flags: tuple[Value, Value, Value], level: int
) -> tuple[Value, Value, Value]:
    names = ("valid", "first", "last")
    valid, first, last = (
        register(m, flag, f"{name}{level}", shape=1, has_reset=True)
        for name, flag in zip(names, flags, strict=True)
    )
    return valid, first, last
