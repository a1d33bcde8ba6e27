"""The models that options name, loaded."""

import sys
from pathlib import Path
from typing import Any

import torch

from fpqvar_lab.cli.checks import usable
from fpqvar_lab.cli.options import Computation, Execution, Source
from fpqvar_lab.method import is_quantized, load_quantized
from fpqvar_lab.var import VAR, VQVAE, load_var, load_vqvae


def name_or_file(source: Source) -> str | Path:
    """The model's name or checkpoint, "mini" where none is given.

    Raises:
        ValueError: for options that do not go together.
    """
    if bool(source.weights) != bool(source.vqvae):
        raise ValueError("--weights and --vqvae go together")
    if source.model and source.weights:
        raise ValueError("--model and --weights exclude each other")
    return source.weights or source.model or "mini"


def load_models(
    source: Source, computation: Computation, execution: Execution
) -> tuple[VAR, VQVAE]:
    """The model that was asked for and its VQVAE; a quantized one is known by its file, and what
    computes it is printed.
    """
    found, dtype = name_or_file(source), getattr(torch, computation.dtype)
    device = usable(computation.device)
    if isinstance(found, Path) and is_quantized(found):
        quantized = load_quantized(found, device=device).to(dtype).prepare(execution)
        print(f"quantized layers: {quantized.preparation}", file=sys.stderr)
        return quantized, _vqvae(source, quantized, device)
    model = load_var(found, dtype=dtype, device=device)
    return model, _vqvae(source, model, device)


def load_original(source: Source, computation: Computation) -> tuple[VAR, VQVAE]:
    """The model to quantize, and its VQVAE."""
    found, device = name_or_file(source), usable(computation.device)
    model = load_var(found, dtype=getattr(torch, computation.dtype), device=device)
    return model, _vqvae(source, model, device)


def _vqvae(source: Source, model: VAR, device: str) -> VQVAE:
    options: dict[str, Any] = {"patch_sizes": model.config.patch_sizes, "device": device}
    return load_vqvae(source.vqvae or "mini", **options)
