"""How fast images are simulated: python benchmarks/pipeline.py [--rounds 5]

Tasks (events) per second and seconds per image, for each public model and both levels on and off.
Rounds run every case in turn; the table gives medians of CPU time, on one core. Beside it, the
simulated images per second, which do not depend on the machine.
"""

import argparse
import time
from dataclasses import replace
from statistics import median

from fpqvar_lab.hardware.accelerator import Design, Run, simulate, with_bfloat16_scales, workload
from fpqvar_lab.var import VARConfig

BANDWIDTH = 0.8 * 25.6e9
LEVELS = {"both levels": (True, True), "neither level": (False, False)}


def cases() -> dict[str, tuple[tuple, Design]]:
    recipe, design = with_bfloat16_scales("fp4-fpqvar-pow2"), Design(activation_buffer_bytes=2**26)
    return {
        f"{name}, {label}": (
            workload(VARConfig.preset(name), recipe),
            replace(design, fine=fine, coarse=coarse),
        )
        for name in ("mini", "d16", "d20", "d24", "d30", "d36")
        for label, (fine, coarse) in LEVELS.items()
    }


def timed(ops: tuple, design: Design) -> tuple[float, Run]:
    start = time.process_time()
    run = simulate(ops, design, memory_bytes_per_s=BANDWIDTH)
    return time.process_time() - start, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    chosen = cases()
    times: dict[str, list[float]] = {name: [] for name in chosen}
    runs: dict[str, Run] = {}
    for _ in range(options.rounds):
        for name, (ops, design) in chosen.items():
            seconds, runs[name] = timed(ops, design)
            times[name].append(seconds)
    print(f"{'':22} {'tasks':>8} {'seconds':>8} {'tasks/s':>9} {'simulated image/s':>18}")
    for name, run in runs.items():
        seconds = median(times[name])
        print(
            f"{name:22} {run.tasks:8d} {seconds:8.2f} {run.tasks / seconds:9.0f} "
            f"{1 / run.seconds:18.2f}"
        )


if __name__ == "__main__":
    main()
