"""Quantized layers executed: python benchmarks/execution.py [--models d16] [--rounds 7] [--cuda]

Each ratio is the time of the baseline over ours, above 1 where ours is faster: medians of rounds in
one process, in which all contestants take turns. `--cpu-time` counts the processor's time, for
machines that others use too. What the machine lacks (units for bfloat16, a GPU) is left out, and
said. Set `ONEDNN_MAX_CPU_ISA=AVX2` to measure a CPU without such units.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from fpqvar_lab.execution import InputPass, WeightOperand, processor_of
from fpqvar_lab.formats import DUAL_FP4, E2M1
from fpqvar_lab.method import QuantizedVAR, quantize_model
from fpqvar_lab.quantization import Quantizer, ScaleDtype, per_group
from fpqvar_lab.transforms import GroupHadamard, random_signs
from fpqvar_lab.var import VAR, VARConfig, load_var, load_vqvae, sample

RECIPE = "fp4-dfq-ght-ue5m3"
Contestants = dict[str, Callable[[], object]]


def medians(contestants: Contestants, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of each, medians of rounds in which all take turns; the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append(clock() - start)
    return {name: median(found) for name, found in times.items()}


def show(title: str, contestants: Contestants, options: argparse.Namespace) -> None:
    clock = time.process_time if options.cpu_time else time.perf_counter
    found = medians(contestants, options.rounds, clock)
    baseline, *_ = found.values()
    print(f"\n{title}\n{'':44}{'ms':>10}{'ratio':>8}")
    for name, seconds in found.items():
        print(f"{name:44}{1e3 * seconds:10.2f}{baseline / seconds:8.2f}")


def input_pass(options: argparse.Namespace) -> None:
    """The input pass as multiples of one read and one write of the activations in float32."""
    x = torch.randn(2048, 1920, device=options.device)
    target, signs = torch.empty_like(x), random_signs(128)
    ght = GroupHadamard(128, signs).to(options.device)
    q = Quantizer(E2M1, per_group(128), scale_dtype=ScaleDtype.UE5M3)
    steps, dual = InputPass(q, ght), InputPass(replace(q, format=DUAL_FP4))
    narrow = x.bfloat16()
    show(
        "input pass, 2048 x 1920, groups of 128; ratio: one read and one write over ours",
        {
            "one read and one write, float32": lambda: target.copy_(x),
            "transform and E2M1, to float32": lambda: steps(x, torch.float32, reuse_memory=True),
            "transform and E2M1, to bfloat16": lambda: steps(x, torch.bfloat16, reuse_memory=True),
            "transform and E2M1, bfloat16 to bfloat16": lambda: steps(
                narrow, torch.bfloat16, reuse_memory=True
            ),
            "dual FP4, to bfloat16": lambda: dual(x, torch.bfloat16, reuse_memory=True),
            "reference: transform, then quantizer": lambda: q(ght(x)),
        },
        options,
    )


def unpacking(options: argparse.Namespace) -> None:
    """Weights by table look-up, against reading and writing them unpacked."""
    weight = torch.randn(1920, 1920, device=options.device)
    packed = Quantizer(E2M1, per_group(128), scale_dtype=ScaleDtype.UE5M3).quantize(weight)
    wide, narrow = WeightOperand(packed, torch.float32), WeightOperand(packed, torch.bfloat16)
    target = torch.empty_like(weight)

    def unpack(operand: WeightOperand) -> None:
        for _ in operand.blocks():
            pass

    show(
        "unpacking 1920 x 1920 values of 4 bits; ratio: one read and one write over ours",
        {
            "one read and one write, float32": lambda: target.copy_(weight),
            "to float32": lambda: unpack(wide),
            "to bfloat16": lambda: unpack(narrow),
            "reference: dequantize": packed.dequantize,
        },
        options,
    )


def transformer(var: VAR, batch: int) -> Callable[[], object]:
    """All steps of guided sampling, without the VQVAE and without choosing tokens."""
    config, device = var.config, var.class_emb.weight.device
    labels = torch.zeros(2 * batch, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def run() -> Tensor:
        modulation, caches = var.modulation(labels), var.new_cache(2 * batch)
        logits = torch.empty(0)
        for tokens in config.tokens_per_step:
            x = torch.zeros(2 * batch, tokens, config.width, device=device)
            x = x.to(var.class_emb.weight.dtype)
            logits = var.logits(x + 0.01, modulation, caches=caches)
        return logits

    return run


def prepared(original: VAR, recipe: str, execution: str, kept_bytes: int = 8 << 30) -> QuantizedVAR:
    model, _ = quantize_model(original, recipe, progress=False)
    return model.prepare(execution, kept_bytes=kept_bytes)


def contestants(original: VAR, run: Callable[[VAR], Callable[[], object]]) -> Contestants:
    """Float32, bfloat16 where there are units, and quantized models in several executions."""
    processor = processor_of(original.class_emb.weight.device)
    found = {"float32": run(original)}
    if processor.bfloat16:
        narrow = VAR(original.config)
        narrow.load_state_dict(original.state_dict())
        found["bfloat16"] = run(narrow.to(original.class_emb.weight.device, torch.bfloat16).eval())
    else:
        print("no bfloat16 units: left out")
    auto = prepared(original, RECIPE, "auto")
    found[f"{RECIPE}, {auto.preparation.split(',')[0].split(' in ')[1]}"] = run(auto)
    packed = prepared(original, RECIPE, "auto", kept_bytes=0)
    found["the same, weights packed"] = run(packed)
    found["reference, weights packed"] = run(prepared(original, RECIPE, "reference", kept_bytes=0))
    found["reference, compiled"] = run(
        prepared(original, RECIPE, "reference").materialize(compile=True)
    )
    plain = sum(m.weight.nbytes for m in packed_weights(original)) / 2
    print(f"linear weights packed: {packed.linear_nbytes / plain:.3f} of float16's bytes")
    return found


def packed_weights(original: VAR) -> list[nn.Linear]:
    names = ("mat_qkv", "proj", "fc1", "fc2")
    return [
        module
        for name, module in original.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(names)
    ]


def mini(options: argparse.Namespace) -> None:
    original, vqvae = load_var("mini-outlier"), load_vqvae("mini")
    original, vqvae = original.to(options.device), vqvae.to(options.device)
    labels = torch.arange(32, device=options.device) % 10

    def run(var: VAR) -> Callable[[], object]:
        generator = torch.Generator(options.device).manual_seed(0)
        return lambda: sample(
            var, vqvae.to(var.class_emb.weight.dtype), labels, generator=generator
        )

    show("mini-outlier, batch 32, sample()", contestants(original, run), options)


def public_shape(name: str, batches: tuple[int, ...], options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    original = VAR(VARConfig.preset(name)).eval().requires_grad_(False).to(options.device)
    for batch in batches:
        found = contestants(original, lambda var, batch=batch: transformer(var, batch))
        show(f"{name}'s shape, random weights, batch {batch}, transformer alone", found, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="", help="public shapes with commas: d16,d20,d24,d30")
    parser.add_argument("--batches", default="4,8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args()
    options.device = "cuda" if options.cuda else "cpu"
    if options.cuda and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here")
    processor = processor_of(options.device)
    print(f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    input_pass(options)
    unpacking(options)
    mini(options)
    batches = tuple(int(batch) for batch in options.batches.split(","))
    for name in filter(None, options.models.split(",")):
        public_shape(name, batches, options)


if __name__ == "__main__":
    main()
