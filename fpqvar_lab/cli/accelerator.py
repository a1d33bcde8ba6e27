"""What `fpqvar-lab simulate` and `fpqvar-lab explore` do."""

import argparse
import json
import sys
from dataclasses import fields, replace
from pathlib import Path

from tqdm import tqdm

from fpqvar_lab import data
from fpqvar_lab.files import write_text
from fpqvar_lab.hardware.accelerator import (
    Design,
    Exploration,
    Point,
    Problem,
    Resources,
    Run,
    Space,
    energy,
    evaluate_design,
    explore,
    pareto_front,
    problem_of,
    resources,
    space_for,
    write_trace,
)
from fpqvar_lab.hardware.accelerator import results as accelerator_results
from fpqvar_lab.parallel import connect

_NUMBERS = (
    *("rows", "columns", "lanes", "arrays"),
    *("attention_macs", "hadamard_lanes", "quantizer_lanes", "special_lanes"),
)


def simulate(options: argparse.Namespace) -> None:
    """Simulate one design, and print what it gives and costs."""
    if options.trace is not None:
        _writable(options.trace)
    problem = _problem(options, options.recipe)
    design = _design(options, problem)
    point, run = evaluate_design(design, problem, record=options.trace is not None)
    print(f"{problem.model}, {point.recipe}, batch {problem.batch}, on {problem.board.title}")
    print(_described(design))
    _print_speed(run, problem)
    _print_units(run)
    _print_resources(resources(design), problem)
    _print_energy(design, run, problem)
    if point.divergence is not None:
        print(f"KL of the recipe on mini-outlier: {point.divergence:.4f} (the small model's)")
    if options.trace is not None:
        print(f"{write_trace(run, options.trace)} (open it in ui.perfetto.dev or chrome://tracing)")


def run_explore(options: argparse.Namespace) -> None:
    """Look for the best designs of each recipe, and write what was found."""
    if options.all:
        _renew()
        return
    problems = [_problem(options, name) for name in options.recipe.split(",") if name]
    if not problems:
        raise ValueError("--recipe names none")
    for problem in problems:
        _ = problem.base  # what cannot be built is refused before any work
    space, found = space_for(problems[0].board), []
    with connect(options.scheduler, options.workers) as client:
        for problem in problems:
            file = _writable(_file_of(options.out, problem, len(problems)))
            found += _explored(problem, space, file, options, client).points
    print_points(pareto_front(found))


def _renew() -> None:
    file = data.path("results") / Path(accelerator_results.RESULTS).name
    content = accelerator_results.make(say=lambda text: print(text, flush=True))
    write_text(file, json.dumps(content, indent=1) + "\n")
    print(file)


def _explored(
    problem: Problem, space: Space, file: Path, options: argparse.Namespace, client: object
) -> Exploration:
    exploration = Exploration(problem)
    if file.exists():
        exploration.read(file)
    with tqdm(unit="design", disable=None, dynamic_ncols=True) as bar:
        bar.set_description(problem.recipe.name)

        def progress(found: Exploration, waiting: int) -> None:
            bar.total = min(bar.n + options.at_once + waiting, options.limit)
            bar.update(options.at_once)
            found.write(file)

        at_once, limit = options.at_once, options.limit
        explore(space, exploration, client=client, limit=limit, at_once=at_once, progress=progress)
    exploration.write(file)
    print(
        f"{problem.recipe.name}: {exploration.fitting} designs fit, {len(exploration.points)} "
        f"simulated, {exploration.pruned} beaten by their bounds, {exploration.left} left; {file}"
    )
    return exploration


def print_points(points: list[Point]) -> None:
    """Designs in aligned columns, fastest first."""
    titles = ("image/s", "J/image", "LUT", "DSP", "KL (mini)", "recipe", "design")
    print("  ".join(f"{title:>9}" for title in titles))
    for point in sorted(points, key=lambda p: -p.images_per_second):
        joules = f"{point.joules_per_image.low:.1f}-{point.joules_per_image.high:.1f}"
        kl = "" if point.divergence is None else f"{point.divergence:.4f}"
        cells = (
            f"{point.images_per_second:.3f}",
            joules,
            f"{100 * point.fractions['lut']:.0f} %",
            f"{100 * point.fractions['dsp']:.0f} %",
            kl,
            point.recipe,
            _described(point.design),
        )
        print("  ".join(f"{cell:>9}" for cell in cells))


def _problem(options: argparse.Namespace, recipe: str) -> Problem:
    found = problem_of(options.model, recipe, options.device, options.batch)
    fraction = getattr(options, "share", 1.0)
    clock = 1e6 * options.clock
    return replace(found, clock_hz=clock, efficiency=options.efficiency, max_fraction=fraction)


def _design(options: argparse.Namespace, problem: Problem) -> Design:
    given = {name: getattr(options, name) for name in _NUMBERS}
    chosen = {name: value for name, value in given.items() if value is not None}
    buffers = {
        "weight_buffer_bytes": options.weight_buffer,
        "activation_buffer_bytes": options.activation_buffer,
    }
    chosen |= {name: 1024 * value for name, value in buffers.items() if value is not None}
    return replace(
        problem.base,
        double_buffered=not options.single_buffered,
        fine=not options.no_fine,
        coarse=not options.no_coarse,
        **chosen,
    )


def _described(design: Design) -> str:
    """A design in one line."""
    tile = f"{design.arrays} x {design.rows}x{design.columns}x{design.lanes}"
    off = [name for name in ("fine", "coarse", "double_buffered") if not getattr(design, name)]
    return (
        f"{tile} MAC at {design.clock_hz / 1e6:.0f} MHz, attention {design.attention_macs}, "
        f"Hadamard {design.hadamard_lanes}, quantizer {design.quantizer_lanes}, "
        f"special {design.special_lanes}" + "".join(f", no {name}" for name in off)
    )


def _print_speed(run: Run, problem: Problem) -> None:
    rate = problem.batch / run.seconds
    print(f"{rate:.3f} image/s: {run.seconds:.3f} s, {run.cycles:,} cycles a batch")
    moved = (run.bytes_read + run.bytes_written) / 1e9
    print(f"{run.macs / 1e9:,.0f} GMAC, {moved:.2f} GB from and to memory")


def _print_units(run: Run) -> None:
    print(f"{'unit':10} {'busy':>6}  idle because it")
    for unit, stalls in run.stalls.items():
        cycles = run.busy[unit]
        reasons = sorted(stalls.items(), key=lambda item: -item[1])
        shown = [f"{reason} {100 * n / run.cycles:.0f} %" for reason, n in reasons[:3] if n]
        print(f"{unit:10} {100 * cycles / run.cycles:5.1f} %  {', '.join(shown)}")


def _print_resources(taken: Resources, problem: Problem) -> None:
    fractions = taken.fractions(problem.board)
    cells = [
        f"{getattr(taken, f.name):,.0f} {f.name.upper()} ({100 * fractions[f.name]:.0f} %)"
        for f in fields(taken)
    ]
    print(", ".join(cells))
    beyond = [name.upper() for name, fraction in fractions.items() if fraction > 1]
    if beyond:
        message = f"does not fit {problem.board.title}: too many {', '.join(beyond)}"
        print(f"fpqvar-lab: {message}", file=sys.stderr)


def _print_energy(design: Design, run: Run, problem: Problem) -> None:
    joules = energy(design, run, problem.board) * (1 / problem.batch)
    print(f"energy {joules.interval} J an image, a sum of")
    for name, interval in joules.terms().items():
        print(f"  {name:24} {interval} J")


def _file_of(out: Path, problem: Problem, problems: int) -> Path:
    return out if problems == 1 else out.with_name(f"{out.stem}-{problem.recipe.name}{out.suffix}")


def _writable(file: Path) -> Path:
    if not file.parent.is_dir():
        raise FileNotFoundError(f"{file}: there is no folder {file.parent}")
    if file.is_dir():
        raise IsADirectoryError(f"{file}: is a folder")
    return file
