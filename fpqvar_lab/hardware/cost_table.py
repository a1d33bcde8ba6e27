"""The committed table of what each unit costs, as Yosys counted it.

It is what the accelerator knows of the units: reading it needs neither Amaranth nor any tool.
`fpqvar-lab synth --all` makes it again.
"""

import json
from dataclasses import dataclass, field
from functools import cache

from fpqvar_lab import data

SYNTHESIS_RESULTS = "results/synthesis.json"
"""Where the table is, below the data's folder."""


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Args:
        kind: The unit's kind, a key of `UNIT_KINDS` in the toolchain.
        format: The name of the format that the unit works on.
        lanes: The number of lanes, for kinds that have any; None means the kind's default.
        dsp: Whether multiplier blocks may be used.
        quick: Whether the quick tests synthesize this row again.
    """

    kind: str
    format: str = "e2m1"
    lanes: int | None = None
    dsp: bool = False
    quick: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Report:
    """What one unit takes.

    Args:
        lut: Lookup tables used as logic, LUT1 to LUT6.
        ff: Flip-flops.
        carry: Carry cells, of 4 or 8 bits depending on the family.
        dsp: Multiplier blocks.
        depth: Cells on the longest path between registers or ports.
        seconds: How long the synthesis took.
        command: The command that Yosys was given.
        memory_lut: Lookup tables used as shift registers or small memories.
        block_ram: Block memories.
    """

    lut: int
    ff: int
    carry: int
    dsp: int
    depth: int
    seconds: float
    command: str
    memory_lut: int = 0
    block_ram: int = 0


_FORMATS = ("e2m1", "e1m2", "e2m3", "int4", "int6", "int8")
ENTRIES = (
    Entry("fp-multiplier", "e2m1", quick=True),
    *(Entry("fp-multiplier", name) for name in ("e1m2", "e3m0", "int4", "dual-fp4", "e2m3")),
    *(Entry("fp-multiplier-arithmetic", name) for name in _FORMATS),
    *(Entry("int-multiplier", name) for name in ("int4", "int6", "int8")),
    Entry("quantizer-core", "e2m1", quick=True),
    *(
        Entry("quantizer-core", name)
        for name in ("e1m2", "e2m3", "int4", "dual-fp4", "dual-fp6-hw")
    ),
    *(Entry("quantizer-comparators", name) for name in ("e2m1", "e2m3")),
    *(Entry("quantizer", name) for name in ("e2m1", "dual-fp4", "dual-fp4-pow2", "e2m3")),
    *(Entry("quantizer-shift", name) for name in ("e2m1", "e2m3")),
    Entry("kv-quantizer", "e2m3"),
    Entry("hadamard", quick=True),
    *(Entry("hadamard", lanes=lanes) for lanes in (4, 8, 16)),
    *(Entry("dot-product", name, 16) for name in ("e2m1", "int4", "dual-fp4-pow2", "dual-fp4")),
    *(Entry("dot-product", name, 16) for name in ("e2m3", "int6", "int8")),
    *(Entry("dot-product", name, 64) for name in ("e2m1", "int4", "dual-fp4-pow2", "dual-fp4")),
    Entry("dot-product", "e2m3", 64),
    Entry("operand-aligner", "dual-fp4-pow2", quick=True),
    Entry("scale-unit"),
    Entry("scale-unit", dsp=True),
    *(Entry("matrix-unit", name, dsp=True) for name in ("e2m1", "dual-fp4-pow2", "dual-fp4")),
    Entry("hadamard", lanes=128),
)


@cache
def load_table() -> dict[Entry, Report]:
    """The committed costs of all `ENTRIES`, without building or synthesizing anything.

    A test compares them with the present units.

    Raises:
        FileNotFoundError: when there is no table; `fpqvar-lab synth --all` makes it.
    """
    table = json.loads(data.path(SYNTHESIS_RESULTS).read_text(encoding="utf-8"))
    return {Entry(**row["entry"]): Report(**row["result"]) for row in table["units"]}
