"""A recorded timeline as Chrome trace JSON, which Perfetto and browsers' own viewers open.

Form: "Trace Event Format" of the Chromium project: complete events ("X") with times in
microseconds, and metadata events ("M") that name the threads, one for each unit.
"""

import json
from pathlib import Path
from typing import Any

from fpqvar_lab.files import write_text
from fpqvar_lab.hardware.accelerator.pipeline import Run
from fpqvar_lab.hardware.accelerator.timeline import Unit

_REQUIRED: dict[str, dict[str, Any]] = {
    "X": {"name": str, "cat": str, "pid": int, "tid": int, "ts": (int, float), "dur": (int, float)},
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
}


def chrome_trace(run: Run) -> dict[str, Any]:
    """The timeline of a recorded run, a thread for each unit.

    Raises:
        ValueError: when the run was not recorded.
    """
    if not run.events:
        raise ValueError("the run has no events; pass record=True to simulate")
    microseconds = 1e6 / run.design.clock_hz
    threads = {unit: index for index, unit in enumerate(Unit)}
    named: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": tid, "args": {"name": unit.value}}
        for unit, tid in threads.items()
    ]
    timed = [
        {
            "ph": "X",
            "name": event.op.name,
            "cat": event.op.kind.value,
            "pid": 0,
            "tid": threads[event.unit],
            "ts": event.start * microseconds,
            "dur": (event.end - event.start) * microseconds,
            "args": {"cycle": event.start, "cycles": event.end - event.start},
        }
        for event in run.events
    ]
    return {"traceEvents": named + timed, "displayTimeUnit": "ms"}


def write_trace(run: Run, path: Path | str) -> Path:
    """Write `chrome_trace(run)` to a file.

    Raises:
        ValueError: when the run was not recorded.
    """
    trace = chrome_trace(run)
    check_trace(trace)
    path = Path(path)
    write_text(path, json.dumps(trace))
    return path


def check_trace(trace: dict[str, Any]) -> None:
    """Whether a trace has the form that viewers ask for.

    Raises:
        ValueError: naming the first event that has not, and why.
    """
    if not isinstance(trace.get("traceEvents"), list):
        raise ValueError("a trace needs a list 'traceEvents'")
    for index, event in enumerate(trace["traceEvents"]):
        fields = _REQUIRED.get(event.get("ph"))
        if fields is None:
            raise ValueError(f"event {index} has ph {event.get('ph')!r}; use one of X and M")
        for name, kind in fields.items():
            if not isinstance(event.get(name), kind):
                raise ValueError(f"event {index}: {name} is {event.get(name)!r}")
        if event["ph"] == "X" and (event["ts"] < 0 or event["dur"] < 0):
            raise ValueError(f"event {index} has a negative time")
