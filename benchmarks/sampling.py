"""How fast sampling is, beside the obvious version: python benchmarks/sampling.py [--d16]

Interleaved rounds in one process; the ratio is obvious / ours, pair by pair, above 1 where ours is
faster. `--d16` adds VAR-d16 with random weights, `--cuda` runs on the GPU.
"""

import argparse
import time
from statistics import median

import obvious_sampling
import torch

from fpqvar_lab.var import VAR, VQVAE, VARConfig, VQVAEConfig, sample


def seconds(run, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(var: VAR, vqvae: VQVAE, batch: int, device: str, rounds: int) -> str:
    labels = torch.arange(batch, device=device) % var.config.classes

    def ours() -> torch.Tensor:
        generator = torch.Generator(device).manual_seed(0)
        return sample(var, vqvae, labels, top_k=0, top_p=0, generator=generator)

    def obvious() -> torch.Tensor:
        generator = torch.Generator(device).manual_seed(0)
        return obvious_sampling.sample(var, vqvae, labels, generator)

    ours(), obvious()
    pairs = [(seconds(ours, device), seconds(obvious, device)) for _ in range(rounds)]
    ratios = sorted(slow / fast for fast, slow in pairs)
    mine = median(fast for fast, _ in pairs)
    return (
        f"{batch:5d} {mine:9.3f} {batch / mine:9.2f} "
        f"{median(ratios):7.2f}  ({ratios[0]:.2f} ... {ratios[-1]:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d16", action="store_true", help="also VAR-d16 (random weights)")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    device = "cuda" if options.cuda else "cpu"
    cases = [("mini", "mini", (1, 8, 32, 128))]
    if options.d16:
        cases.append(("d16", "ch160v4096z32", (1, 8)))
    for name, vqvae_name, batches in cases:
        torch.manual_seed(0)
        var = VAR(VARConfig.preset(name)).eval().to(device)
        vqvae = VQVAE(VQVAEConfig.preset(vqvae_name)).eval().to(device)
        print(f"\n{name}, float32, {device}, {torch.get_num_threads()} threads, random weights")
        print("batch   seconds  images/s  obvious / ours, median (min ... max)")
        for batch in batches:
            print(compare(var, vqvae, batch, device, options.rounds if name == "mini" else 3))


if __name__ == "__main__":
    main()
