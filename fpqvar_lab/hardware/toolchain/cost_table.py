"""The table of what the units cost: which are in it, and its columns."""

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from fpqvar_lab import data
from fpqvar_lab.hardware.toolchain.synthesis import RESULTS, Report, synthesize
from fpqvar_lab.hardware.toolchain.units import KINDS, build


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Args:
        kind: of unit, a name in `units.KINDS`.
        format: its name.
        lanes: where the kind has any; its default if None.
        dsp: whether multiplier blocks may be used.
        quick: whether it is synthesized again in the quick tests.
    """

    kind: str
    format: str = "e2m1"
    lanes: int | None = None
    dsp: bool = False
    quick: bool = field(default=False, compare=False)


COLUMNS = (
    ("unit", 24),
    ("format", 14),
    ("lanes", 5),
    ("LUT", 6),
    ("LUT/MAC", 7),
    ("mem LUT", 7),
    ("FF", 6),
    ("carry", 5),
    ("DSP", 4),
    ("depth", 5),
)

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
    Entry("recoder", "dual-fp4-pow2", quick=True),
    Entry("scale-unit"),
    Entry("scale-unit", dsp=True),
    *(Entry("matrix-unit", name, dsp=True) for name in ("e2m1", "dual-fp4-pow2", "dual-fp4")),
    Entry("hadamard", lanes=128),
)


@cache
def load_table() -> dict[Entry, Report]:
    """The committed costs of all `ENTRIES`, without building or synthesizing anything.

    A test holds them to the present units.

    Raises:
        FileNotFoundError: when there is no table; `fpqvar-lab synth --all` makes it.
    """
    table = json.loads(data.path(RESULTS).read_text(encoding="utf-8"))
    return {Entry(**row["entry"]): Report(**row["result"]) for row in table["units"]}


def measure(entry: Entry, family: str = "xcup") -> dict[str, Any]:
    """The cost of a row's unit, from the cache if it is there; fields as in `Report`."""
    unit = build(entry.kind, entry.format, entry.lanes)
    return asdict(synthesize(unit, family, dsp=entry.dsp))


def cells(entry: Entry, result: dict[str, Any]) -> tuple[str, ...]:
    """A row's texts, one for each of `COLUMNS`."""
    kind = KINDS[entry.kind]
    lanes = kind.lanes if entry.lanes is None else entry.lanes
    macs = kind.macs(lanes)
    return (
        entry.kind,
        entry.format,
        str(lanes or ""),
        str(result["lut"]),
        f"{result['lut'] / macs:.1f}" if macs else "",
        str(result["memory_lut"]),
        str(result["ff"]),
        str(result["carry"]),
        str(result["dsp"]),
        str(result["depth"]),
    )
