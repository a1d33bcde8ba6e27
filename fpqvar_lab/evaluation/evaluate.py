"""Scoring recipes: samples of each are compared with real pictures, predictions with the model's.

A row of the result is one recipe. Its samples are drawn in shards that a killed run need not draw
again, here or on a cluster; all recipes use the same labels and random numbers, so that rows differ
by quantization more than by luck.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from fpqvar_lab import var
from fpqvar_lab.evaluation import provenance
from fpqvar_lab.evaluation.divergence import Divergence
from fpqvar_lab.evaluation.extractors import ExtractorFile
from fpqvar_lab.evaluation.images import PictureSet
from fpqvar_lab.evaluation.models import CodecFile, Machine, ModelFile, load_codec, load_model
from fpqvar_lab.evaluation.reference import FEATURES_KEPT, Reference, read_reference
from fpqvar_lab.evaluation.results import Content, ResultFile
from fpqvar_lab.evaluation.scoring import scores
from fpqvar_lab.evaluation.tasks import DivergenceTask, Guidance, PicturesTask, SampleTask, cut
from fpqvar_lab.files import digest, sha256
from fpqvar_lab.method import (
    QuantizedVAR,
    Recipe,
    calibrate_and_quantize,
    find_recipe,
    load_quantized,
    quantize_model,
    recipe_digest,
    report,
    save_quantized,
)
from fpqvar_lab.parallel import Store, Task, Tensors, results

PROBE = 100
"""Pictures whose KL a test measures again, to see whether a recipe still does the same."""
QUANTIZED_PARTS = ("mat_qkv", "proj", "fc1", "fc2")
"""Linear layers of a block that count for a row's weight bytes, quantized or not."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated, and against what.

    Args:
        name: for people.
        classes: of the model.
        weights: the original transformer; None where only quantized models are given.
        vqvae: the VQVAE's file.
        extractor: in whose features samples are scored.
        reference: real pictures or their statistics; None for the Fashion-MNIST test set.
        pictures: with labels, for teacher forcing and reconstruction; None for none.
    """

    name: str
    classes: int
    weights: Path | None
    vqvae: CodecFile
    extractor: ExtractorFile
    reference: Path | None = None
    pictures: PictureSet | None = None


@dataclass(frozen=True)
class Settings:
    """How it is evaluated.

    Args:
        samples: of each recipe; at least 20.
        shard: samples drawn in one piece; which pictures come out depends on it.
        pictures: real pictures for teacher forcing.
        guidance: settings of sampling.
        machine: device, dtype, batch, threads.
    """

    samples: int = 10_000
    shard: int = 500
    pictures: int = 2000
    guidance: Guidance = field(default_factory=Guidance)
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        if self.samples < 20:
            raise ValueError(f"samples {self.samples}; use at least 20")


@dataclass(frozen=True)
class Row:
    """One row to be measured: a recipe, a quantized model, or real pictures.

    Args:
        name: of the row; `real` and `reconstruction` stand for pictures.
        recipe: to quantize the original with.
        quantized: file of a quantized model.
    """

    name: str
    recipe: Recipe | None = None
    quantized: Path | None = None

    @property
    def source(self) -> dict[str, str]:
        """Digest of what the row is made from, besides what all rows share."""
        if self.recipe is not None:
            return {"recipe_sha256": recipe_digest(self.recipe)}
        if self.quantized is not None:
            return {"quantized_sha256": ModelFile.of(self.quantized, quantized=True).sha256}
        return {}


REAL, RECONSTRUCTION = Row("real"), Row("reconstruction")


class Evaluation:
    """Measures rows on one subject; what they share is read once.

    Args:
        subject: what is evaluated.
        settings: how.
        shards: folder for the results of tasks while a row is not complete.
        client: a `distributed.Client`; None to run in this process.
        keep_samples: folder for the samples themselves, as seen by whoever draws them.
        bar: shows how many samples are drawn.
    """

    def __init__(
        self,
        subject: Subject,
        settings: Settings,
        shards: Path,
        *,
        client: Any = None,
        keep_samples: Path | None = None,
        bar: tqdm | None = None,
    ) -> None:
        self.subject, self.settings, self.shards = subject, settings, shards
        self.client, self.keep_samples = client, keep_samples
        self.bar = tqdm(disable=True) if bar is None else bar
        settings.machine.prepare()

    @cached_property
    def codec(self) -> var.VQVAE:
        """The VQVAE."""
        return load_codec(self.subject.vqvae, self.settings.machine.device)

    @cached_property
    def original(self) -> ModelFile | None:
        """The original transformer's file."""
        path = self.subject.weights
        return None if path is None else ModelFile.of(path, quantized=False)

    @cached_property
    def reference(self) -> Reference:
        """The real side of FID, precision and recall."""
        machine, side = self.settings.machine, self.codec.config.image_size
        return read_reference(
            self.subject.reference,
            self.subject.extractor,
            side,
            device=machine.device,
            batch=machine.batch,
        )

    @cached_property
    def head(self) -> Content:
        """What all rows of a result file share."""
        subject, settings, pictures = self.subject, self.settings, self.subject.pictures
        return {
            "subject": {
                "name": subject.name,
                "weights": self.original and self.original.sha256,
                "vqvae": sha256(subject.vqvae.path),
                "extractor": subject.extractor.name,
                "extractor_weights": subject.extractor.sha256,
                "reference": self.reference.name,
                "reference_sha256": self.reference.sha256,
                "pictures_sha256": pictures and pictures.sha256,
            },
            "settings": {
                "samples": settings.samples,
                "shard": settings.shard,
                "batch": settings.machine.batch,
                "dtype": settings.machine.dtype,
                "pictures": min(settings.pictures, len(pictures)) if pictures else 0,
                **asdict(settings.guidance),
                "more_smooth": False,
                "uint8": "rounded to nearest",
            },
        }

    def folder(self, row: Row) -> Path:
        """Where results of the row's tasks are kept; another one for other code or settings."""
        key = digest([self.head, row.name, row.source, provenance.code_digests()])
        return self.shards / f"{row.name}-{key[:12]}"

    def measure(self, row: Row) -> Content:
        """A row of the result file."""
        started, store = time.perf_counter(), Store(self.folder(row))
        if row in (REAL, RECONSTRUCTION):
            found = self._of_pictures(row, store)
        else:
            found = self._of_model(row, store)
        seconds = round(time.perf_counter() - started, 1)
        return found | {"provenance": {**row.source, **self._circumstances(), "seconds": seconds}}

    def _circumstances(self) -> Content:
        machine = self.settings.machine
        return {
            "code": digest(provenance.code_digests()),
            "versions": provenance.versions(),
            "machine": provenance.machine(machine.device),
            "threads": machine.threads or torch.get_num_threads(),
            "workers": len(self.client.ncores()) if self.client else 0,
        }

    def _of_model(self, row: Row, store: Store) -> Content:
        file, weights = self._prepare(row, store)
        found = self._divergence(file, store)
        subject, settings = self.subject, self.settings
        tasks = {
            SampleTask(
                file,
                subject.vqvae,
                subject.extractor,
                settings.guidance,
                settings.machine,
                part,
                _kept(part.count, settings.samples),
                self.keep_samples and self.keep_samples / row.name,
            ): part.group
            for part in cut(settings.samples, subject.classes, settings.shard)
        }
        return self._scores(tasks, store) | found | weights

    def _of_pictures(self, row: Row, store: Store) -> Content:
        subject, settings, pictures = self.subject, self.settings, self.subject.pictures
        if pictures is None:
            raise ValueError(f"row {row.name} needs real pictures; give --test-pictures")
        count = min(len(pictures), settings.samples)
        # Folders are in the order of classes: no part of them stands for the whole.
        together = 1 if pictures.path is None else count
        tasks = {
            PicturesTask(
                pictures,
                subject.classes,
                subject.vqvae,
                row == RECONSTRUCTION,
                subject.extractor,
                settings.machine,
                part,
                _kept(part.count, count),
            ): part.group
            for part in cut(count, together, settings.shard)
        }
        found = self._scores(tasks, store)
        if row == REAL and self.reference.sha256 == pictures.sha256:
            return {key: found[key] for key in ("isc", "agreement") if key in found}
        return found

    def _scores(self, tasks: dict[Any, int], store: Store) -> Content:
        groups: dict[int, list[Tensors]] = {}
        for task, result in zip(tasks, self._run(list(tasks), store), strict=True):
            groups.setdefault(tasks[task], []).append(result)
        found = scores(groups, self.reference, agreement=self.subject.extractor.labels_classes)
        return {name: estimate.to_json() for name, estimate in found.items()}

    def _run(
        self, tasks: Sequence[Task[Tensors]], store: Store, *, show: bool = True
    ) -> list[Tensors]:
        """Results of tasks, in order; only those that are not stored are run."""
        found = {task.name: store.read(task.name) for task in tasks}
        missing = [task for task in tasks if found[task.name] is None]
        if show:
            stored = sum(task.count for task in tasks) - sum(task.count for task in missing)
            self.bar.total = (self.bar.total or stored) - stored
        for task, result in results(missing, self.client):
            store.write(task.name, result)
            found[task.name] = result
            self.bar.update(task.count if show else 0)
        return [result for result in found.values() if result is not None]

    def _prepare(self, row: Row, store: Store) -> tuple[ModelFile, Content]:
        """The row's transformer as a file, and the bytes of its weights."""
        if row.quantized is not None:
            weights = _weight_bytes(load_quantized(row.quantized))
            return ModelFile.of(row.quantized, quantized=True), weights
        if self.original is None or row.recipe is None:
            raise ValueError(f"row {row.name} needs the original model; give --weights")
        model = load_model(self.original, self.settings.machine)
        if not row.recipe.layers and row.recipe.kv is None:
            return self.original, _weight_bytes(
                quantize_model(model, row.recipe, progress=False)[0]
            )
        path = store.folder / "model.safetensors"
        if not path.exists():
            self._quantize(model, row.recipe, path)
        return ModelFile.of(path, quantized=True), _weight_bytes(load_quantized(path))

    def _quantize(self, model: var.VAR, recipe: Recipe, path: Path) -> None:
        spill = path.with_name("inputs.safetensors")
        quantized, _ = calibrate_and_quantize(
            model, self.codec, recipe, spill=spill, progress=not self.bar.disable
        )
        save_quantized(quantized, path)
        spill.unlink(missing_ok=True)

    def _divergence(self, file: ModelFile, store: Store) -> Content:
        subject, machine = self.subject, self.settings.machine
        if subject.pictures is None or self.original is None:
            return {}
        count, size = self.head["settings"]["pictures"], machine.batch
        tasks = [
            DivergenceTask(
                file,
                self.original,
                subject.vqvae,
                subject.pictures,
                subject.classes,
                machine,
                start,
                min(size, count - start),
            )
            for start in range(0, count, size)
        ]
        found = self._run(tasks, store, show=False)
        kl, cross_entropy = (
            torch.cat([result[key] for result in found]).numpy() for key in ("kl", "cross_entropy")
        )
        sizes = tuple(p * p for p in self.codec.config.patch_sizes)
        measured = Divergence(cross_entropy, kl, sizes)
        return {
            "kl": measured.estimate("kl").to_json(),
            "cross_entropy": measured.estimate("cross_entropy").to_json(),
            "kl_by_step": measured.by_step("kl").tolist(),
            "cross_entropy_by_step": measured.by_step("cross_entropy").tolist(),
            "probe_kl": float(measured.by_picture("kl")[:PROBE].mean()),
        }


def _kept(count: int, samples: int) -> int:
    """How many features of a part are kept, so that of all there are at most `FEATURES_KEPT`."""
    return count * min(FEATURES_KEPT, samples) // samples


def _weight_bytes(model: QuantizedVAR) -> Content:
    layers = [x for x in report(model).layers if x.name.rpartition(".")[2] in QUANTIZED_PARTS]
    after, before = sum(x.bytes_after for x in layers), sum(x.bytes_before for x in layers)
    return {
        "weight_bytes": after,
        "weight_bytes_in_16_bits": before,
        "bits_per_value": 16 * after / before,
    }


def evaluate(
    evaluation: Evaluation, rows: Sequence[Row], file: ResultFile, *, remeasure: bool = False
) -> Iterator[str]:
    """Measure rows that a result file lacks, and add each as soon as it is there.

    A row that is there is left alone while its recipe is the same; with `remeasure` also the code
    must be the same.

    Yields:
        A line about each row.
    """
    code, started, drawn = provenance.code_digests(), time.perf_counter(), 0
    known = file.rows()
    todo = [row for row in rows if not _up_to_date(known.get(row.name), row, code, remeasure)]
    evaluation.bar.total = evaluation.settings.samples * len(todo)
    for row in rows:
        if row not in todo:
            other = known[row.name]["provenance"]["code"] != digest(code)
            yield f"{row.name}: measured before" + (", with other code" if other else "")
    for number, row in enumerate(todo):
        evaluation.bar.set_description(row.name)
        found = evaluation.measure(row)
        file.add(row.name, found, code)
        shutil.rmtree(evaluation.folder(row))
        drawn = number + 1
        left = (time.perf_counter() - started) / drawn * (len(todo) - drawn)
        yield f"{summary(row.name, found)}; {len(todo) - drawn} rows left, about {_clock(left)}"
    if evaluation.shards.is_dir() and not any(evaluation.shards.iterdir()):
        evaluation.shards.rmdir()


def _up_to_date(known: Content | None, row: Row, code: dict[str, str], remeasure: bool) -> bool:
    if known is None:
        return False
    found = known["provenance"]
    same = all(found.get(key) == value for key, value in row.source.items())
    return same and not (remeasure and found["code"] != digest(code))


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def summary(name: str, row: Content) -> str:
    """A row in one line."""
    labels = {"fid": "FID", "isc": "IS", "precision": "P", "recall": "R", "agreement": "agree"}
    labels |= {"kl": "KL", "cross_entropy": "CE"}
    shown = [f"{text} {row[key]['value']:.4g}" for key, text in labels.items() if key in row]
    return f"{name}: {', '.join(shown)}; {row['provenance']['seconds']:.0f} s"


def choose_rows(recipes: Sequence[str], quantized: Sequence[Path], *, pictures: bool) -> list[Row]:
    """The rows that are asked for by name, file, or `all`.

    Raises:
        ValueError: no such recipe, or two rows of one name.
    """
    rows = [REAL, RECONSTRUCTION] if pictures else []
    found = [find_recipe(name) for name in recipes]
    rows += [Row(recipe.name, recipe=recipe) for recipe in found]
    rows += [Row(path.stem, quantized=path) for path in quantized]
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two rows are named {name!r}")
    return rows
