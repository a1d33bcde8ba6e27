"""Accelerators in words and tables: what a design gives, and what it costs."""

import sys
from dataclasses import fields

from fpqvar_lab.cli.table import table
from fpqvar_lab.hardware.accelerator import (
    Design,
    Point,
    Problem,
    Resources,
    Run,
    energy,
    resources,
)


def print_run(problem: Problem, point: Point, run: Run) -> None:
    """One simulated design: its speed, what its units wait for, cells and energy."""
    design = point.design
    print(f"{problem.model}, {point.recipe}, batch {problem.batch}, on {problem.board.title}")
    print(_described(design))
    _print_speed(run, problem)
    _print_units(run)
    _print_resources(resources(design), problem)
    _print_energy(design, run, problem)
    if point.divergence is not None:
        print(f"KL of the recipe on mini-outlier: {point.divergence:.4f} (the small model's)")


def print_points(points: list[Point]) -> None:
    """Designs in aligned columns, fastest first."""
    titles = ("image/s", "J/image", "LUT", "DSP", "KL (mini)", "recipe", "design")
    rows = [_cells(point) for point in sorted(points, key=lambda p: -p.images_per_second)]
    print(table(titles, rows, left=("recipe", "design")))


def _cells(point: Point) -> tuple[str, ...]:
    return (
        f"{point.images_per_second:.3f}",
        f"{point.joules_per_image.low:.1f}-{point.joules_per_image.high:.1f}",
        f"{100 * point.fractions['lut']:.0f} %",
        f"{100 * point.fractions['dsp']:.0f} %",
        "" if point.divergence is None else f"{point.divergence:.4f}",
        point.recipe,
        _described(point.design),
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
    print(f"{rate:.3f} image/s: {run.seconds:.3f} s, {run.cycles:,} cycles per batch")
    moved = (run.bytes_read + run.bytes_written) / 1e9
    print(f"{run.macs / 1e9:,.0f} GMAC, {moved:.2f} GB from and to memory")


def _print_units(run: Run) -> None:
    rows = []
    for unit, stalls in run.stalls.items():
        reasons = sorted(stalls.items(), key=lambda item: -item[1])
        shown = [f"{reason} {100 * n / run.cycles:.0f} %" for reason, n in reasons[:3] if n]
        rows.append((str(unit), f"{100 * run.busy[unit] / run.cycles:.1f} %", ", ".join(shown)))
    print(table(("unit", "busy", "idle because it"), rows, left=("unit", "idle because it")))


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
    print(f"energy {joules.interval} J per image, a sum of")
    terms = [(f"  {name}", f"{interval} J") for name, interval in joules.terms().items()]
    print("\n".join(f"{name:26} {value}" for name, value in terms))
