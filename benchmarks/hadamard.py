"""Speed and accuracy of the Hadamard transform, alone and followed by quantization.

Speeds are ratios to the cost of writing the tensor once; as in quantize.py each round runs every
method once, in turn, and the table gives medians. With --least it gives the least times, which on a
machine shared with other work come closer to its speed when it is free. Errors are relative to the
transform in float64, as multiples of that of the 128-wide float32 product. Usage:

    python benchmarks/hadamard.py [--rounds 15] [--rows 4096] [--columns 1920] [--threads 1 2]
                                  [--least]
"""

import argparse
import math
import os
from collections.abc import Callable
from functools import partial

import torch
from quantize import UNIT, Methods, medians, processor
from torch import Tensor

from fpqvar_lab.execution import transform_and_quantize
from fpqvar_lab.formats import E2M1
from fpqvar_lab.quantization import Quantizer, per_group
from fpqvar_lab.transforms import GroupHadamard, hadamard_matrix, random_signs

GROUP = 128
Times = dict[str, float]
Transform = Callable[[Tensor], Tensor]


def butterfly(x: Tensor, signs: Tensor) -> Tensor:
    """Sylvester's transform by log2(n) sums and differences of halves."""
    y, length = x.reshape(-1, GROUP) * (signs / math.sqrt(GROUP)), 1
    while length < GROUP:
        halves = y.view(-1, GROUP // (2 * length), 2, length)
        left, right = halves.unbind(2)
        y = torch.stack([left + right, left - right], 2)
        length *= 2
    return y.view_as(x)


def kronecker(x: Tensor, signs: Tensor) -> Tensor:
    """H_128 = H_8 x H_16: a product with each of the small factors."""
    small, large = hadamard_matrix(8, torch.float32), hadamard_matrix(16, torch.float32)
    groups = x.reshape(-1, GROUP) * signs
    products = groups.view(-1, 16) @ (large / math.sqrt(GROUP))
    return (small @ products.view(-1, 8, 16)).view_as(x)


def dense(group: GroupHadamard, width: int) -> Tensor:
    """The matrix of the whole width, as the released code multiplies with."""
    return torch.block_diag(*[group.matrix(torch.float32)] * (width // GROUP))


def transforms(x: Tensor, ght: GroupHadamard) -> dict[str, Transform]:
    width, signs = x.shape[-1], ght.signs
    whole, fast = dense(ght, width), torch.compile(butterfly, dynamic=False)
    methods: dict[str, Transform] = {
        f"dense {width} x {width} product": lambda x: x @ whole,
        "butterfly, eager": lambda x: butterfly(x, signs),
        "butterfly, compiled": lambda x: fast(x, signs),
        "Kronecker 8 x 16": lambda x: kronecker(x, signs),
        "ours: 128-wide product": ght,
    }
    return methods


def transform_then_quantize(ght: GroupHadamard) -> dict[str, Transform]:
    eager, fast = (Quantizer(E2M1, per_group(GROUP), compile=flag) for flag in (False, True))
    matrix = ght.matrix(torch.float32)

    @torch.compile(dynamic=False)
    def one_graph(x: Tensor) -> Tensor:
        y = x.view(-1, GROUP) @ matrix
        scale = y.abs().amax(-1, keepdim=True) / E2M1.max
        return eager.scheme.quantize(y, scale).view_as(x)

    return {
        "ours, then E2M1, eager": lambda x: eager(ght(x)),
        "ours, then E2M1, compiled": lambda x: fast(ght(x)),
        "128-wide product and E2M1 in one graph": one_graph,
        "ours, fused with E2M1": lambda x: transform_and_quantize(x, ght, fast),
    }


def full_width(width: int, generator: torch.Generator) -> dict[str, Transform]:
    full = GroupHadamard(width, random_signs(width, generator))
    matrix = full.matrix(torch.float32)
    return {
        f"full transform of {width} channels, dense product": lambda x: x @ matrix,
        f"full transform of {width} channels, ours": full,
    }


def relative_error(values: Tensor, exact: Tensor) -> float:
    return float((values.double() - exact).norm() / exact.norm())


def errors(x: Tensor, groups: dict[str, Transform], full: dict[str, Transform]) -> dict[str, float]:
    """Relative error of each transform against its own result in float64."""
    found: dict[str, float] = {}
    for methods in (groups, full):
        *_, module = methods.values()
        exact = module(x.double())
        found |= {name: relative_error(method(x), exact) for name, method in methods.items()}
    return found


def least(methods: Methods, rounds: int) -> dict[str, float]:
    """Least seconds of each method."""
    passes = [medians(methods, 1) for _ in range(rounds)]
    return {name: min(times[name] for times in passes) for name in methods}


def timed(
    x: Tensor, methods: dict[str, Transform], threads: int, statistic: Callable[[Methods], Times]
) -> Times:
    torch.set_num_threads(threads)
    calls: Methods = {UNIT: lambda: torch.full_like(x, 1.0), "copy the tensor": x.clone}
    calls |= {name: lambda method=method: method(x) for name, method in methods.items()}
    return statistic(calls)


def print_table(columns: dict[int, dict[str, float]], error: dict[str, float]) -> None:
    heads = " | ".join(f"{threads} thread{'s' * (threads > 1)}" for threads in columns)
    print(f"| x the cost of one write | {heads} | error |\n|---|{'---|' * len(columns)}---|")
    unit = error["ours: 128-wide product"]
    for name in next(iter(columns.values())):
        ratios = " | ".join(f"{times[name] / times[UNIT]:.2f}" for times in columns.values())
        print(f"| {name} | {ratios} | {f'{error[name] / unit:.2f}' if name in error else ''} |")
    print(f"\nerror 1: {unit:.2e} relative to the transform in float64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=1920)
    counts = sorted({1, os.cpu_count() or 1})
    parser.add_argument("--threads", type=int, nargs="+", default=counts)
    parser.add_argument("--least", action="store_true")
    options = parser.parse_args()
    rounds = options.rounds
    statistic = partial(least if options.least else medians, rounds=rounds)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(options.rows, options.columns, generator=generator)
    ght = GroupHadamard(GROUP, random_signs(GROUP, generator))
    groups, full = transforms(x, ght), full_width(options.columns, generator)
    methods = groups | full | transform_then_quantize(ght)
    with torch.no_grad():
        columns = {count: timed(x, methods, count, statistic) for count in options.threads}
        error = errors(x, groups, full)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    print(
        f"{options.rows} x {options.columns} float32, groups of {GROUP}; {rounds} rounds; "
        f"{processor()}, {os.cpu_count()} cores, {load}; torch {torch.__version__}"
    )
    written = ", ".join(f"{times[UNIT] * 1e3:.2f} ms" for times in columns.values())
    print(f"one write: {written}\n")
    print_table(columns, error)


if __name__ == "__main__":
    main()
