"""A simulated layer given to the hardware's own matrix unit, to compare the two cycle by cycle.

Amaranth is needed by `replay` alone, and imported there.
"""

from typing import TYPE_CHECKING

from fpqvar_lab.formats import DualFormat
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.operation import Op
from fpqvar_lab.hardware.accelerator.pipeline import Run
from fpqvar_lab.hardware.accelerator.timeline import Unit

if TYPE_CHECKING:
    from fpqvar_lab.hardware.rtl import MatrixUnit
    from fpqvar_lab.hardware.toolchain import StreamRun


def simulated_starts(run: Run) -> list[int]:
    """The cycle of the first beat of every tile; runs of equal tiles are taken apart.

    Args:
        run: A recorded run of a single layer.
    """
    beats = _beats(run.ops[0], run.design)
    events = [event for event in run.events if event.unit is Unit.MATRIX]
    return [start for event in events for start in range(event.start, event.end, beats)]


def simulated_rows(run: Run) -> list[int]:
    """The cycle in which every row of every tile leaves the unit, by its latency."""
    design, op = run.design, run.ops[0]
    timing = design.matrix_timing(op.input_format)
    last_group = _beats(op, design) - timing.interval + timing.latency
    return [s + last_group + row for s in simulated_starts(run) for row in range(design.rows)]


def replay(run: Run) -> "StreamRun":
    """The same layer in `MatrixUnit`, in Amaranth's simulator.

    Beats are offered from the cycle in which the simulated memory has brought their weights. All
    codes are zeros: they have no influence on time.

    Args:
        run: A recorded run of a single layer, on a design with one array.

    Raises:
        ValueError: when the layer stays in 16 bits.
    """
    from fpqvar_lab.hardware.toolchain import run_stream

    design, op = run.design, run.ops[0]
    unit = _matrix_unit(op, design)
    tiles = -(-op.rows // design.rows)
    chunk = _tile(unit, _beats(op, design)) * tiles
    offers: list[bool] = []
    for event in run.events:
        if event.unit is Unit.DMA:
            offers += [False] * max(0, event.end - len(offers)) + [True] * len(chunk)
    chunks = -(-op.columns // design.columns)
    return run_stream(
        unit, chunk * chunks, design.rows * tiles * chunks, offers=offers, constants={"base": 0}
    )


def _matrix_unit(op: Op, design: Design) -> "MatrixUnit":
    from fpqvar_lab.hardware.rtl import MatrixUnit

    inputs, weights = op.input_format, op.weight_format
    if inputs is None or weights is None or isinstance(weights, DualFormat):
        raise ValueError(f"{op.name} is no product of the matrix arrays")
    return MatrixUnit(inputs, weights, design.rows, design.columns, design.lanes, design.group)


def _beats(op: Op, design: Design) -> int:
    return op.inner // design.lanes


def _tile(unit: "MatrixUnit", beats: int) -> list[dict[str, object]]:
    codes = {"a": [[0] * unit.lanes] * unit.rows, "b": [[0] * unit.lanes] * unit.columns}
    scales = {"a_scales": [0] * unit.rows, "b_scales": [0] * unit.columns}
    return [
        {
            **codes,
            **scales,
            "first": int(beat < unit.interval),
            "last": int(beat >= beats - unit.interval),
        }
        for beat in range(beats)
    ]
