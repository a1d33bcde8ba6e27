"""`fpqvar-lab simulate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fpqvar_lab.cli.accelerator import Changes, Task
from fpqvar_lab.cli.checks import hardware_extra, writable


def simulate(
    *,
    task: Task = Task(),
    changes: Changes = Changes(),
    trace: Annotated[Path | None, Parameter(metavar="FILE")] = None,
) -> None:
    """Simulate an accelerator for VAR, cycle by cycle.

    Args:
        task: what is computed
        changes: of the design
        trace: write the timeline for Perfetto (JSON)

    Examples:
        fpqvar-lab simulate --model d30 --device vck190 --recipe fp4-fpqvar-pow2
        fpqvar-lab simulate --model d30 --columns 96 --clock 400 --trace trace.json
        fpqvar-lab simulate --model d16 --device u280 --clock 200 --no-coarse
    """
    if trace is not None:
        writable(trace, "--trace")
    with hardware_extra():
        from fpqvar_lab.cli.accelerator_report import print_run
        from fpqvar_lab.hardware.accelerator import evaluate_design, write_trace
    problem = task.problem(task.recipe)
    design = changes.applied(problem.base)
    point, run = evaluate_design(design, problem, record=trace is not None)
    print_run(problem, point, run)
    if trace is not None:
        print(f"{write_trace(run, trace)} (open it in ui.perfetto.dev or chrome://tracing)")
