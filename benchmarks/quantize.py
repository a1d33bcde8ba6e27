"""Speed of quantization as ratios to the cost of writing the tensor once, beside other libraries.

Each round runs every method once, in turn, so that a disturbance of the machine touches all; the
table gives medians. The unit allocates and fills, for all methods return new tensors. Libraries
that are not installed are left out. Usage:

    python benchmarks/quantize.py [--rounds 15] [--rows 4096] [--columns 1920]
"""

import argparse
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fpqvar_lab.formats import DUAL_FP4, DUAL_FP4_POW2, E2M1, E2M3, pack, unpack
from fpqvar_lab.quantization import PER_TOKEN, Quantizer, per_group

GROUP = 128
UNIT = "write a new tensor once"
Methods = dict[str, Callable[[], object]]


def ours(x: Tensor) -> Methods:
    groups = per_group(GROUP)
    four_bit = torch.randint(0, 16, x.shape, dtype=torch.uint8)
    six_bit = torch.randint(0, 64, x.shape, dtype=torch.uint8)
    packed_four, packed_six = pack(four_bit, 4), pack(six_bit, 6)
    stored = Quantizer(E2M1, groups).quantize(x)
    methods: Methods = {}
    for name, q in {
        "E2M1": Quantizer(E2M1, groups),
        "E2M3 per token": Quantizer(E2M3, PER_TOKEN),
        "dual FP4": Quantizer(DUAL_FP4, groups),
        "dual FP4, power-of-two ratio": Quantizer(DUAL_FP4_POW2, groups),
    }.items():
        fast = Quantizer(q.format, q.granularity, compile=True)
        methods[f"ours, {name}, eager"] = lambda q=q: q(x)
        methods[f"ours, {name}, compiled"] = lambda fast=fast: fast(x)
    return methods | {
        "ours, pack 4-bit codes": lambda: pack(four_bit, 4),
        "ours, unpack 4-bit codes": lambda: unpack(packed_four, 4, x.numel()),
        "ours, pack 6-bit codes": lambda: pack(six_bit, 6),
        "ours, unpack 6-bit codes": lambda: unpack(packed_six, 6, x.numel()),
        "ours, E2M1, quantize() to bytes": lambda: Quantizer(E2M1, groups).quantize(x),
        "ours, E2M1, dequantize() from bytes": stored.dequantize,
    }


def scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    groups = x.view(-1, GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / E2M1.max
    return groups / scale, scale


def by_argmin(x: Tensor) -> Tensor:
    """As in the released training path: the distance to every level, then the nearest."""
    quotients, scale = scaled(x)
    levels = torch.tensor(E2M1.levels)
    nearest = (quotients.unsqueeze(-1) - levels).abs().argmin(-1)
    return (levels[nearest] * scale).view_as(x)


def by_ml_dtypes(x: Tensor) -> Tensor:
    import ml_dtypes

    quotients, scale = scaled(x)
    rounded = quotients.numpy().astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    return (torch.from_numpy(rounded) * scale).view_as(x)


def by_gfloat(x: Tensor) -> Tensor:
    import gfloat
    from gfloat.formats import format_info_ocp_e2m1

    quotients, scale = scaled(x)
    rounded = gfloat.round_ndarray(format_info_ocp_e2m1, quotients.numpy(), sat=True)
    rounded = rounded.astype(np.float32)
    return (torch.from_numpy(rounded) * scale).view_as(x)


def by_brevitas(x: Tensor) -> Tensor:
    """What `brevitas.core.quant.float.FloatQuant` computes, with the scale given."""
    from brevitas.core.quant.float import min_internal_scale
    from brevitas.utils.torch_utils import float_internal_scale

    quotients, scale = scaled(x)
    smallest = torch.finfo(torch.float32).tiny
    step = float_internal_scale(
        quotients, torch.tensor(1.0), min_internal_scale(1.0, torch.tensor(1.0)), smallest
    )
    rounded = (step * torch.round(quotients / step)).clamp(-E2M1.max, E2M1.max)
    return (rounded * scale).view_as(x)


def by_torchao(x: Tensor) -> Tensor:
    from torchao.prototype.mx_formats.kernels import f4_unpacked_to_f32, f32_to_f4_unpacked

    quotients, scale = scaled(x)
    return (f4_unpacked_to_f32(f32_to_f4_unpacked(quotients)) * scale).view_as(x)


PEERS: dict[str, Callable[[Tensor], Tensor]] = {
    "ml_dtypes": by_ml_dtypes,
    "gfloat": by_gfloat,
    "brevitas": by_brevitas,
    "torchao": by_torchao,
}


def peers(x: Tensor) -> Methods:
    expected = Quantizer(E2M1, per_group(GROUP))(x)
    methods: Methods = {"argmin, as released": lambda: by_argmin(x)}
    for name, method in PEERS.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed")
            continue
        differing = int((method(x) != expected).sum())
        label = f"{name}, E2M1" + (f" ({differing} values differ)" if differing else "")
        methods[label] = lambda method=method: method(x)
    return methods


def medians(methods: Methods, rounds: int) -> dict[str, float]:
    """Median seconds of each method; the first, uncounted round compiles and warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(rounds + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            elapsed = time.perf_counter() - start
            if turn:
                seconds[name].append(elapsed)
    return {name: statistics.median(times) for name, times in seconds.items()}


def measure(x: Tensor, rounds: int, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    target = torch.empty_like(x)
    unit: Methods = {
        UNIT: lambda: torch.full_like(x, 1.0),
        "overwrite an old tensor": lambda: target.fill_(1.0),
        "copy the tensor": x.clone,
    }
    return medians({**unit, **ours(x), **peers(x)}, rounds)


def print_table(columns: dict[int, dict[str, float]]) -> None:
    heads = " | ".join(f"{threads} thread{'s' * (threads > 1)}" for threads in columns)
    print(f"| x the cost of one write | {heads} |\n|---|{'---|' * len(columns)}")
    for name in next(iter(columns.values())):
        ratios = " | ".join(f"{times[name] / times[UNIT]:.2f}" for times in columns.values())
        print(f"| {name} | {ratios} |")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=1920)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(options.rows, options.columns, generator=generator)
    counts = sorted({1, os.cpu_count() or 1})
    columns = {threads: measure(x, options.rounds, threads) for threads in counts}
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    print(
        f"{options.rows} x {options.columns} float32, groups of {GROUP}; {options.rounds} rounds; "
        f"{processor()}, {os.cpu_count()} cores, {load}; torch {torch.__version__}"
    )
    written = ", ".join(f"{times[UNIT] * 1e3:.2f} ms" for times in columns.values())
    print(f"one write: {written}\n")
    print_table(columns)


if __name__ == "__main__":
    main()
