"""What the commands do, behind the command line."""

import argparse
import importlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fpqvar_lab import data, var

SCHEDULES: dict[str, dict[str, Any]] = {
    "vqvae": {"epochs": 5.0, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 1e-4},
    "classifier": {"epochs": 8.0, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.05},
    "var": {"epochs": 5.0, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.05},
}


def _writable(file: Path) -> Path:
    """`file`, if it can be written; OSError before any long work where it cannot."""
    if not file.parent.is_dir():
        raise FileNotFoundError(f"{file}: there is no folder {file.parent}")
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise PermissionError(f"{file}: cannot be written")
    return file


def sample(options: argparse.Namespace) -> None:
    """Sample a grid of pictures and write it as PNG."""
    out = _writable(options.out)
    if bool(options.weights) != bool(options.vqvae):
        raise ValueError("--weights and --vqvae go together")
    if options.model and options.weights:
        raise ValueError("--model and --weights exclude each other")
    from torchvision.utils import save_image  # works only beside its own release of torch

    model = _model(options)
    _, steps = var.sample(
        model,
        _vqvae(options, model),
        torch.tensor(options.labels * options.rows, device=options.device),
        cfg=options.cfg,
        top_k=options.top_k,
        top_p=options.top_p,
        more_smooth=options.more_smooth,
        generator=torch.Generator(options.device).manual_seed(options.seed),
        return_steps=True,
    )
    images = torch.cat(steps if options.steps else steps[-1:])
    for side in (2, 3):
        images = images.repeat_interleave(options.zoom, dim=side)
    save_image(images.float(), out, nrow=len(options.labels), format="png")
    print(out)


def _model(options: argparse.Namespace) -> var.VAR:
    """The model asked for; a quantized one is known by its file."""
    from fpqvar_lab.method import is_quantized, load_quantized

    dtype = getattr(torch, options.dtype)
    if options.weights and is_quantized(options.weights):
        return load_quantized(options.weights, device=options.device).materialize().to(dtype)
    source = options.weights or options.model or "mini"
    return var.load_var(source, dtype=dtype, device=options.device)


def _vqvae(options: argparse.Namespace, model: var.VAR) -> var.VQVAE:
    return var.load_vqvae(
        options.vqvae or "mini", patch_sizes=model.config.patch_sizes, device=options.device
    )


def quantize(options: argparse.Namespace) -> None:
    """Quantize a model by a recipe, print what became of each layer, and write the model."""
    from fpqvar_lab.method import calibrate_and_quantize, find_recipe, save_quantized

    recipe = find_recipe(options.recipe)
    print(recipe.table())
    if options.show:
        return
    out = _writable(options.out)
    if bool(options.weights) != bool(options.vqvae):
        raise ValueError("--weights and --vqvae go together")
    if options.model and options.weights:
        raise ValueError("--model and --weights exclude each other")
    source = options.weights or options.model or "mini"
    model = var.load_var(source, dtype=getattr(torch, options.dtype), device=options.device)
    quantized, done = calibrate_and_quantize(
        model,
        _vqvae(options, model),
        recipe,
        images=options.pictures,
        tokens=options.tokens,
        seed=options.seed,
        factors=_factors(options),
        batch_size=options.batch_size,
        spill=options.spill,
    )
    save_quantized(quantized, out, {"command": options.command_line})
    print(done.table())
    print(out)


def _factors(options: argparse.Namespace) -> dict[str, Tensor]:
    from fpqvar_lab.method import load_factors

    given = {"ffn.fc1": options.fc1_factors, "attn.mat_qkv": options.qkv_factors}
    found: dict[str, Tensor] = {}
    for layer, file in given.items():
        found |= load_factors(file, layer) if file else {}
    return found


def evaluate(options: argparse.Namespace) -> None:
    """Score recipes and write the scores as JSON."""
    from fpqvar_lab.cli import evaluate as evaluate_command

    _writable(options.out)
    evaluate_command.run(options)


def train(options: argparse.Namespace) -> None:
    """Train one of the mini models and write its weights with their provenance."""
    out = _writable(options.out or data.path("models") / f"{options.what}-mini.safetensors")
    schedule = _schedule(options)
    progress = out.with_suffix(".progress")
    images, labels = data.fashion_mnist("train", options.fashion_mnist)
    model: nn.Module
    if options.what == "vqvae":
        config = var.VQVAEConfig.preset("mini")
        model, losses = var.train_vqvae(images, config, schedule, progress)
    elif options.what == "classifier":
        model, losses = var.train_classifier(images, labels, schedule, progress)
    else:
        start = var.load_var(options.start_from) if options.start_from else None
        model, losses = var.train_var(
            images,
            labels,
            var.load_vqvae(options.vqvae),
            start.config if start else var.VARConfig.preset("mini"),
            schedule,
            progress,
            start_from=start,
            outliers=var.PlantedOutliers(options.outliers) if options.outliers else None,
        )
    var.save_model(model, out, _provenance(options, schedule, losses))
    progress.unlink(missing_ok=True)
    print(out)


def _schedule(options: argparse.Namespace) -> var.Schedule:
    given = {key: getattr(options, key) for key in ("epochs", "batch_size", "learning_rate")}
    fields = SCHEDULES[options.what] | {k: v for k, v in given.items() if v is not None}
    return var.Schedule(**fields, seed=options.seed, bfloat16=not options.float32)


def _provenance(
    options: argparse.Namespace, schedule: var.Schedule, losses: list[float]
) -> dict[str, str]:
    last = losses[-200:]
    return {
        "command": options.command_line,
        "schedule": json.dumps(asdict(schedule)),
        "steps": str(len(losses)),
        "final_loss": f"{sum(last) / len(last):.5f}",
        "torch": torch.__version__,
        "licence": "MIT; trained on Fashion-MNIST (MIT), see data/README.md",
    }


def synth(options: argparse.Namespace) -> None:
    """Print what hardware units take of an FPGA."""
    _hardware("synth").synth(options)


def simulate(options: argparse.Namespace) -> None:
    """Simulate an accelerator."""
    _hardware("accelerator").simulate(options)


def explore(options: argparse.Namespace) -> None:
    """Look for the best accelerators for a device."""
    _hardware("accelerator").run_explore(options)


def _hardware(name: str) -> Any:
    """A module that needs the packages of an extra."""
    try:
        return importlib.import_module(f"fpqvar_lab.cli.{name}")
    except ModuleNotFoundError as missing:
        message = f"no module {missing.name}; install the extra with pip install '.[hardware]'"
        raise ValueError(message) from missing
