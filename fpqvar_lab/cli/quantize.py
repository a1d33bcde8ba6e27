"""`fpqvar-lab quantize`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fpqvar_lab.cli.checks import writable
from fpqvar_lab.cli.options import CommandLine, Computation, Count, Seed, Source

if TYPE_CHECKING:
    from torch import Tensor


def quantize(
    *,
    source: Source = Source(),
    recipe: str = "fp4-fpqvar",
    show: bool = False,
    images: Annotated[Count, Parameter(name=("--images", "--pictures"))] = 100,
    tokens: Count = 1024,
    seed: Seed = 0,
    batch_size: Count = 10,
    spill: Path | None = None,
    fc1_factors: Path | None = None,
    qkv_factors: Path | None = None,
    computation: Computation = Computation(),
    out: Path = Path("quantized.safetensors"),
    command_line: CommandLine,
) -> None:
    r"""Quantize a model by a recipe.

    The result is a model for sample --weights and evaluate --quantized.

    Args:
        source: which model
        recipe: a name or a .toml file
        show: print the recipe and stop
        images: drawn for calibration
        tokens: kept per layer and step
        seed: of the calibration
        batch_size: images drawn at a time
        spill: keep calibration in this file, not in memory
        fc1_factors: published factors, a .pth list of vectors
        qkv_factors: the same for mat_qkv
        computation: where
        out: the quantized model to write
        command_line: kept in the file

    Examples:
        fpqvar-lab quantize --model mini-outlier --recipe fp4-fpqvar \
            --out fp4.safetensors
        fpqvar-lab quantize --weights var_d30.pth --vqvae vae_ch160v4096z32.pth \
            --recipe fp4-fpqvar --device cuda --dtype float16 \
            --out d30-fp4.safetensors
        fpqvar-lab quantize --recipe fp4-fpqvar --show
    """
    import torch

    from fpqvar_lab.cli.models import load_original, name_or_file
    from fpqvar_lab.method import calibrate_and_quantize, find_recipe, save_quantized
    from fpqvar_lab.var import stored_dtype

    found = find_recipe(recipe)
    print(found.table())
    if show:
        return
    writable(out)
    if spill:
        writable(spill, "--spill")
    model, vqvae = load_original(source, computation)
    quantized, done = calibrate_and_quantize(
        model,
        vqvae,
        found,
        images=images,
        tokens=tokens,
        seed=seed,
        factors=_factors({"ffn.fc1": fc1_factors, "attn.mat_qkv": qkv_factors}),
        batch_size=batch_size,
        spill=spill,
    )
    stored = stored_dtype(name_or_file(source))
    narrow = stored if stored in (torch.float16, torch.bfloat16) else None
    save_quantized(quantized, out, {"command": command_line}, dtype=narrow)
    print(done.table())
    print(out)


def _factors(files: dict[str, Path | None]) -> "dict[str, Tensor]":
    from fpqvar_lab.method import load_factors

    found: dict[str, Tensor] = {}
    for layer, file in files.items():
        found |= load_factors(file, layer) if file else {}
    return found
