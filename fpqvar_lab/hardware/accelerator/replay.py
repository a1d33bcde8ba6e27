"""A simulated layer given to the hardware's own matrix unit, to compare the two cycle by cycle."""

from fpqvar_lab.formats import format_from_text
from fpqvar_lab.hardware.accelerator.design import Design
from fpqvar_lab.hardware.accelerator.pipeline import Run
from fpqvar_lab.hardware.accelerator.timeline import Unit
from fpqvar_lab.hardware.accelerator.workload import Op
from fpqvar_lab.hardware.rtl import MatrixUnit
from fpqvar_lab.hardware.toolchain import StreamRun, run_stream


def simulated_starts(run: Run) -> list[int]:
    """The cycle of the first beat of every tile; runs of equal tiles are taken apart.

    Args:
        run: of a single layer, recorded.
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


def replay(run: Run) -> StreamRun:
    """The same layer in `MatrixUnit`, in Amaranth's simulator.

    Beats are offered from the cycle in which the simulated memory has brought their weights. All
    codes are zeros: they have no influence on time.

    Args:
        run: of a single layer, recorded, on a design with one array.
    """
    design, op = run.design, run.ops[0]
    formats = format_from_text(op.input_format), format_from_text(op.weight_format)
    unit = MatrixUnit(*formats, design.rows, design.columns, design.lanes, design.group)  # type: ignore[arg-type]
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


def _beats(op: Op, design: Design) -> int:
    return op.inner // design.lanes


def _tile(unit: MatrixUnit, beats: int) -> list[dict[str, object]]:
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
