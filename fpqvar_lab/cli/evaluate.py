"""What `fpqvar-lab evaluate` does with its options."""

import argparse
import sys

from tqdm import tqdm

from fpqvar_lab import data, var
from fpqvar_lab.evaluation import (
    CLASSIFIER,
    INCEPTION,
    CodecFile,
    Evaluation,
    ExecutionConfig,
    ExtractorFile,
    Guidance,
    ImageSet,
    ResultFile,
    Settings,
    Subject,
    choose_rows,
    confirm,
    evaluate,
    load_codec,
    read_results,
)
from fpqvar_lab.method import RECIPES, load_quantized
from fpqvar_lab.parallel import connect


def run(options: argparse.Namespace) -> None:
    """Measure the rows that the result file lacks."""
    subject = _subject(options)
    rows = choose_rows(
        _recipes(options), options.quantized or [], images=subject.images is not None
    )
    settings = _settings(options)
    shards = options.out.with_name(options.out.name + ".shards")
    with (
        connect(options.scheduler, options.workers) as client,
        tqdm(unit="sample", disable=None, dynamic_ncols=True, smoothing=0.1) as bar,
    ):
        evaluation = Evaluation(
            subject, settings, shards, client=client, keep_samples=options.keep_samples, bar=bar
        )
        file = ResultFile(options.out, evaluation.head)
        lines = (
            confirm(evaluation, rows, file)
            if options.confirm
            else evaluate(evaluation, rows, file, refresh=options.refresh)
        )
        for line in lines:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
    print(options.out)


def _recipes(options: argparse.Namespace) -> list[str]:
    given = options.recipes
    if given is None and (options.refresh or options.confirm) and options.out.is_file():
        return [name for name in read_results(options.out)["rows"] if name in RECIPES]
    if given is None:
        given = "" if options.quantized else "all"
    return list(RECIPES) if given == "all" else [name for name in given.split(",") if name]


def _subject(options: argparse.Namespace) -> Subject:
    if options.model and (options.weights or options.vqvae):
        raise ValueError("--model excludes --weights and --vqvae")
    if not options.model and not options.vqvae:
        raise ValueError("give --model, or --vqvae with --weights or --quantized")
    weights, vqvae = options.weights, options.vqvae
    if options.model:
        weights = data.path(f"models/var-{options.model}.safetensors")
        vqvae = data.path("models/vqvae-mini.safetensors")
    if weights is None and not options.quantized:
        raise ValueError("--vqvae needs --weights or --quantized")
    shape = (var.load_var(weights) if weights else load_quantized(options.quantized[0])).config
    file = CodecFile(vqvae.resolve(), shape.patch_sizes)
    codec = load_codec(file, options.device).config
    grey = codec.image_channels == 1
    if not grey and options.reference is None:
        raise ValueError("--reference is needed: real images or their statistics to compare with")
    images = ImageSet(options.test_images, codec.image_size, 1 if grey else 3)
    return Subject(
        name=options.model or (weights or options.quantized[0]).stem,
        classes=shape.classes,
        weights=weights,
        vqvae=file,
        extractor=ExtractorFile(CLASSIFIER)
        if grey
        else ExtractorFile(INCEPTION, options.inception_weights),
        reference=options.reference,
        images=images if grey or options.test_images else None,
    )


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        options.samples,
        options.shard,
        options.images,
        Guidance(options.cfg, options.top_k, options.top_p, options.seed),
        ExecutionConfig(options.device, options.dtype, options.batch_size, options.threads),
    )
