"""`fpqvar-lab explore`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from fpqvar_lab.cli.accelerator import Task
from fpqvar_lab.cli.checks import hardware_extra, writable
from fpqvar_lab.cli.options import Cluster, Count, Fraction, Size

if TYPE_CHECKING:
    from fpqvar_lab.hardware.accelerator import Exploration, Problem, Space


@Parameter(name="*", group=Group("Search", sort_key=2))
@dataclass(frozen=True)
class Search:
    """How far the search goes.

    Args:
        share: of the device that may be used
        limit: designs to simulate
        at_once: designs given away at a time
    """

    share: Fraction = 0.9
    limit: Count = 200
    at_once: Size = 4


def explore(
    *,
    task: Task = Task(),
    search: Search = Search(),
    cluster: Cluster = Cluster(),
    out: Path = Path("designs.json"),
    renew: Annotated[bool, Parameter(name="--all")] = False,
) -> None:
    r"""Look for the best accelerators for a device.

    A run that was interrupted goes on where it stopped if the same command is given again.
    Several recipes are separated by commas.

    Args:
        task: what is computed
        search: how far
        cluster: on how many processes
        out: the designs, as JSON
        renew: renew data/results/accelerator.json

    Examples:
        fpqvar-lab explore --device vck190 --recipe fp4-fpqvar-pow2 --out vck190.json
        fpqvar-lab explore --model d30 --batch 2 --recipe fp4-fpqvar-pow2,int4-quarot \
            --limit 500 --workers 4 --out designs.json
    """
    with hardware_extra():
        from fpqvar_lab.cli.accelerator_report import print_points
        from fpqvar_lab.hardware.accelerator import pareto_front, space_for
        from fpqvar_lab.parallel import connect
    if renew:
        _renew()
        return
    problems = [task.problem(name, search.share) for name in task.recipe.split(",") if name]
    if not problems:
        raise ValueError("--recipe names none")
    for problem in problems:
        _ = problem.base  # what cannot be built is refused before any work
    files = [writable(_file_of(out, problem, len(problems))) for problem in problems]
    space, found = space_for(problems[0].board), []
    with connect(cluster.scheduler, cluster.workers) as client:
        for problem, file in zip(problems, files, strict=True):
            found += _explored(problem, space, file, search, client).points
    print_points(pareto_front(found))


def _renew() -> None:
    from fpqvar_lab import data
    from fpqvar_lab.files import write_text
    from fpqvar_lab.hardware.accelerator import results

    file = data.path("results") / Path(results.RESULTS).name
    content = results.make(say=lambda text: print(text, flush=True))
    write_text(file, json.dumps(content, indent=1) + "\n")
    print(file)


def _explored(
    problem: "Problem", space: "Space", file: Path, search: Search, client: object
) -> "Exploration":
    from tqdm import tqdm

    from fpqvar_lab.hardware.accelerator import Exploration, explore

    exploration = Exploration(problem)
    if file.exists():
        exploration.read(file)
    at_once, limit = search.at_once, search.limit
    with tqdm(unit="design", disable=None, dynamic_ncols=True) as bar:
        bar.set_description(problem.recipe.name)

        def progress(found: Exploration, waiting: int) -> None:
            bar.total = min(bar.n + at_once + waiting, limit)
            bar.update(at_once)
            found.write(file)

        explore(space, exploration, client=client, limit=limit, at_once=at_once, progress=progress)
    exploration.write(file)
    print(
        f"{problem.recipe.name}: {exploration.fitting} designs fit, {len(exploration.points)} "
        f"simulated, {exploration.pruned} beaten by their bounds, {exploration.left} left; {file}"
    )
    return exploration


def _file_of(out: Path, problem: "Problem", problems: int) -> Path:
    return out if problems == 1 else out.with_name(f"{out.stem}-{problem.recipe.name}{out.suffix}")
