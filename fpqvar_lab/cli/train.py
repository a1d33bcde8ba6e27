"""`fpqvar-lab train`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from fpqvar_lab.cli.checks import writable
from fpqvar_lab.cli.options import CommandLine, Finite, Positive, Seed, between

if TYPE_CHECKING:
    from torch import nn

    from fpqvar_lab.var import Schedule

What = Literal["vqvae", "classifier", "var"]

SCHEDULES: dict[What, dict[str, Any]] = {
    "vqvae": {"epochs": 5.0, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 1e-4},
    "classifier": {"epochs": 8.0, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.05},
    "var": {"epochs": 5.0, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.05},
}


@Parameter(name="*", group=Group("With var", sort_key=1))
@dataclass(frozen=True)
class Start:
    """What the training of a VAR starts from.

    Args:
        start_from: begin from these weights (mini or a file)
        outliers: amplitude of planted outlier channels
        vqvae: the VQVAE, mini or a file
    """

    start_from: str | None = None
    outliers: Finite | None = None
    vqvae: str = "mini"


def train(
    what: What,
    /,
    *,
    epochs: Positive | None = None,
    batch_size: Annotated[int | None, between(1, 60_000)] = None,
    learning_rate: Positive | None = None,
    seed: Seed = 0,
    float32: bool = False,
    fashion_mnist: Path | None = None,
    start: Start = Start(),
    out: Path | None = None,
    command_line: CommandLine,
) -> None:
    r"""Train the mini models on Fashion-MNIST.

    A run that was interrupted goes on where it stopped when the same command is given again.

    Args:
        what: the model to train
        epochs: passes over the 60,000 training images
        batch_size: images per step
        learning_rate: the highest of the schedule
        seed: of the random numbers
        float32: no bfloat16 in matrix products
        fashion_mnist: folder of the original .gz files
        start: what a VAR starts from
        out: default data/models/<what>-mini.safetensors
        command_line: kept in the file

    Examples:
        fpqvar-lab train vqvae
        fpqvar-lab train classifier
        fpqvar-lab train var
        fpqvar-lab train var --start-from mini --outliers 50 --epochs 1.5 \
            --out data/models/var-mini-outlier.safetensors
    """
    from fpqvar_lab import data, var

    file = writable(out or data.path("models") / f"{what}-mini.safetensors")
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    chosen = {name: value for name, value in given.items() if value is not None}
    schedule = var.Schedule(**SCHEDULES[what] | chosen, seed=seed, bfloat16=not float32)
    progress = file.with_suffix(".progress")
    model, losses = _trained(what, schedule, start, fashion_mnist, progress)
    var.save_model(model, file, _provenance(command_line, schedule, losses))
    progress.unlink(missing_ok=True)
    print(file)


def _trained(
    what: What, schedule: "Schedule", start: Start, folder: Path | None, progress: Path
) -> "tuple[nn.Module, list[float]]":
    """The trained model, and the loss of each step."""
    from fpqvar_lab import data, var

    images, labels = data.fashion_mnist("train", folder)
    if what == "vqvae":
        config = var.VQVAEConfig.preset("mini")
        return var.train_vqvae(images, config, schedule, progress)
    if what == "classifier":
        return var.train_classifier(images, labels, schedule, progress)
    first = var.load_var(start.start_from) if start.start_from else None
    return var.train_var(
        images,
        labels,
        var.load_vqvae(start.vqvae),
        first.config if first else var.VARConfig.preset("mini"),
        schedule,
        progress,
        start_from=first,
        outliers=var.PlantedOutliers(start.outliers) if start.outliers else None,
    )


def _provenance(command_line: str, schedule: "Schedule", losses: list[float]) -> dict[str, str]:
    import torch

    last = losses[-200:]
    return {
        "command": command_line,
        "schedule": json.dumps(asdict(schedule)),
        "steps": str(len(losses)),
        "final_loss": f"{sum(last) / len(last):.5f}",
        "torch": torch.__version__,
        "licence": "MIT; trained on Fashion-MNIST (MIT), see data/README.md",
    }
