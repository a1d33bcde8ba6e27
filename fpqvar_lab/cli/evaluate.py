"""`fpqvar-lab evaluate`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from fpqvar_lab.cli.checks import usable, writable
from fpqvar_lab.cli.options import Cluster, Computation, Count, Execution, Sampling, between

if TYPE_CHECKING:
    from fpqvar_lab.evaluation import CodecFile, Settings, Subject
    from fpqvar_lab.var import VARConfig


@Parameter(name="*", group=Group("Models and references", sort_key=1))
@dataclass(frozen=True)
class Compared:
    """Which models are scored, and against what.

    Args:
        model: a model that comes with the data
        weights: a VAR checkpoint (.pth or .safetensors) instead
        vqvae: the VQVAE's checkpoint, with --weights
        recipes: all (default), or names or .toml files with commas
        quantized: a quantized model as a row; may be repeated
        reference: real side of FID: image folder, .npz batch, or .npz with mu and sigma
        test_images: labelled images for KL: a folder per class, or .npz with arr_0 and arr_1
        inception_weights: instead of fetching them
    """

    model: Literal["mini", "mini-outlier"] | None = None
    weights: Path | None = None
    vqvae: Path | None = None
    recipes: Annotated[str | None, Parameter(metavar="NAMES")] = None
    quantized: Annotated[tuple[Path, ...], Parameter(metavar="FILE")] = ()
    reference: Path | None = None
    test_images: Annotated[Path | None, Parameter(name=("--test-images", "--test-pictures"))] = None
    inception_weights: Annotated[Path | None, Parameter(metavar="FILE")] = None


@Parameter(name="*", group=Group("Scores", sort_key=2))
@dataclass(frozen=True)
class Scoring:
    """How much is sampled and scored.

    Args:
        samples: per row
        images: for cross-entropy and KL
        batch_size: images at a time
        shard: samples stored at a time
        threads: of each process (default: torch's choice)
        execution: of quantized layers: reference, or auto (what is fastest here)
        keep_samples: write the samples to this folder (.npz)
        refresh: measure again the rows whose arithmetic has changed since
        confirm: compute KL again (no samples) and record which rows still hold
    """

    samples: Count = 10_000
    images: Annotated[Count, Parameter(name=("--images", "--pictures"))] = 2000
    batch_size: Count = 100
    shard: Count = 500
    threads: Annotated[int | None, between(1, 4096)] = None
    execution: Execution = "reference"
    keep_samples: Annotated[Path | None, Parameter(metavar="FOLDER")] = None
    refresh: Annotated[bool, Parameter(name=("--refresh", "--remeasure"))] = False
    confirm: bool = False


def evaluate(
    *,
    compared: Compared = Compared(),
    scoring: Scoring = Scoring(),
    sampling: Sampling = Sampling(),
    computation: Computation = Computation(),
    cluster: Cluster = Cluster(),
    out: Path = Path("scores.json"),
) -> None:
    r"""Score recipes: FID, IS, precision, recall, divergence.

    A run that was interrupted goes on where it stopped if the same command is given again.
    Rows that the file has already are kept; more recipes add rows.

    Args:
        compared: which models
        scoring: how much
        sampling: how
        computation: where
        cluster: on how many processes
        out: the scores, as JSON

    Examples:
        fpqvar-lab evaluate --model mini-outlier --recipes fp16,fp4-fpqvar \
            --out scores.json
        fpqvar-lab evaluate --model mini --samples 2000 --workers 2 --out scores.json
        fpqvar-lab evaluate --weights var_d16.pth --vqvae vae_ch160v4096z32.pth \
            --reference VIRTUAL_imagenet256_labeled.npz --recipes fp16,fp4-fpqvar \
            --samples 50000 --device cuda --scheduler tcp://node1:8786 \
            --out d16.json
    """
    writable(out)
    from tqdm import tqdm

    from fpqvar_lab import evaluation as ev
    from fpqvar_lab.parallel import connect

    subject = _subject(compared, usable(computation.device))
    quantized = list(compared.quantized)
    rows = ev.choose_rows(
        _recipes(compared, scoring, out), quantized, images=subject.images is not None
    )
    settings = _settings(scoring, sampling, computation)
    shards = out.with_name(out.name + ".shards")
    with (
        connect(cluster.scheduler, cluster.workers) as client,
        tqdm(unit="sample", disable=None, dynamic_ncols=True, smoothing=0.1) as bar,
    ):
        evaluation = ev.Evaluation(
            subject, settings, shards, client=client, keep_samples=scoring.keep_samples, bar=bar
        )
        file = ev.ResultFile(out, evaluation.head)
        lines = (
            ev.confirm(evaluation, rows, file)
            if scoring.confirm
            else ev.evaluate(evaluation, rows, file, refresh=scoring.refresh)
        )
        for line in lines:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
    print(out)


def _recipes(compared: Compared, scoring: Scoring, out: Path) -> list[str]:
    from fpqvar_lab.evaluation import read_results
    from fpqvar_lab.method import RECIPES

    given = compared.recipes
    if given is None and (scoring.refresh or scoring.confirm) and out.is_file():
        return [name for name in read_results(out)["rows"] if name in RECIPES]
    if given is None:
        given = "" if compared.quantized else "all"
    return list(RECIPES) if given == "all" else [name for name in given.split(",") if name]


def _subject(compared: Compared, device: str) -> "Subject":
    from fpqvar_lab.evaluation import (
        CLASSIFIER,
        INCEPTION,
        ExtractorFile,
        ImageSet,
        Subject,
        load_codec,
    )

    weights, shape, file = _model_files(compared)
    codec = load_codec(file, device).config
    grey = codec.image_channels == 1
    if not grey and compared.reference is None:
        raise ValueError("--reference is needed: real images or their statistics to compare with")
    images = ImageSet(compared.test_images, codec.image_size, 1 if grey else 3)
    inception = ExtractorFile(INCEPTION, compared.inception_weights)
    return Subject(
        name=compared.model or (weights or compared.quantized[0]).stem,
        classes=shape.classes,
        weights=weights,
        vqvae=file,
        extractor=ExtractorFile(CLASSIFIER) if grey else inception,
        reference=compared.reference,
        images=images if grey or compared.test_images else None,
    )


def _model_files(compared: Compared) -> "tuple[Path | None, VARConfig, CodecFile]":
    """The original's weights if there are any, the shape of the model, and its VQVAE."""
    from fpqvar_lab import data
    from fpqvar_lab.evaluation import CodecFile
    from fpqvar_lab.method import load_quantized
    from fpqvar_lab.var import load_var

    weights, vqvae = compared.weights, compared.vqvae
    if compared.model and (weights or vqvae):
        raise ValueError("--model excludes --weights and --vqvae")
    if compared.model:
        weights = data.path(f"models/var-{compared.model}.safetensors")
        vqvae = data.path("models/vqvae-mini.safetensors")
    if vqvae is None:
        raise ValueError("give --model, or --vqvae with --weights or --quantized")
    if weights is None and not compared.quantized:
        raise ValueError("--vqvae needs --weights or --quantized")
    shape = (load_var(weights) if weights else load_quantized(compared.quantized[0])).config
    return weights, shape, CodecFile(vqvae.resolve(), shape.patch_sizes)


def _settings(scoring: Scoring, sampling: Sampling, computation: Computation) -> "Settings":
    from fpqvar_lab.evaluation import ExecutionConfig, Guidance, Settings

    return Settings(
        scoring.samples,
        scoring.shard,
        scoring.images,
        Guidance(sampling.cfg, sampling.top_k, sampling.top_p, sampling.seed),
        ExecutionConfig(
            computation.device,
            computation.dtype,
            scoring.batch_size,
            scoring.threads,
            scoring.execution,
        ),
    )
