"""One row measured: samples drawn and scored, predictions compared with the original's.

Its samples are drawn in shards that a killed run need not draw again, here or on a cluster; all
recipes use the same labels and random numbers, so that rows differ by quantization more than by
luck.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from fpqvar_lab import var
from fpqvar_lab.evaluation import dependencies, provenance
from fpqvar_lab.evaluation.divergence import Divergence
from fpqvar_lab.evaluation.models import ModelFile, load_codec, load_model
from fpqvar_lab.evaluation.parts import cut
from fpqvar_lab.evaluation.reference import FEATURES_KEPT, Reference, read_reference
from fpqvar_lab.evaluation.results import Content
from fpqvar_lab.evaluation.scoring import scores
from fpqvar_lab.evaluation.subject import IMAGE_ROWS, REAL, RECONSTRUCTION, Row, Settings, Subject
from fpqvar_lab.evaluation.tasks import DivergenceTask, ImagesTask, SampleTask
from fpqvar_lab.files import digest, sha256
from fpqvar_lab.method import (
    QuantizedVAR,
    Recipe,
    calibrate_and_quantize,
    load_quantized,
    quantize_model,
    report,
    save_quantized,
)
from fpqvar_lab.parallel import Store, Task, Tensors, results

PROBE = 100
"""The number of images whose divergences show whether a recipe still does the same."""
QUANTIZED_PARTS = ("mat_qkv", "proj", "fc1", "fc2")
"""Linear layers of a block that count for a row's weight bytes, quantized or not."""


class Evaluation:
    """Measures rows on one subject; what they share is read once.

    Args:
        subject: What is evaluated.
        settings: How it is evaluated.
        shards: A folder for the results of tasks while a row is not complete.
        client: A `distributed.Client`; None runs everything in this process.
        keep_samples: A folder for the samples themselves, as seen by whoever draws them.
        bar: A progress bar that counts samples.
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
        settings.execution.prepare()

    @cached_property
    def codec(self) -> var.VQVAE:
        """The VQVAE."""
        return load_codec(self.subject.vqvae, self.settings.execution.device)

    @cached_property
    def original(self) -> ModelFile | None:
        """The original transformer's file."""
        path = self.subject.weights
        return None if path is None else ModelFile.of(path, quantized=False)

    @cached_property
    def reference(self) -> Reference:
        """The real side of FID, precision and recall."""
        execution = self.settings.execution
        return read_reference(
            self.subject.reference,
            self.subject.extractor,
            self.codec.config.image_size,
            device=execution.device,
            batch=execution.batch,
        )

    @cached_property
    def head(self) -> Content:
        """What all rows of a result file share."""
        subject, settings, images = self.subject, self.settings, self.subject.images
        execution = settings.execution.execution
        return {
            "subject": {
                "name": subject.name,
                "weights": self.original and self.original.sha256,
                "vqvae": sha256(subject.vqvae.path),
                "extractor": subject.extractor.name,
                "extractor_weights": subject.extractor.sha256,
                "reference": self.reference.name,
                "reference_sha256": self.reference.sha256,
                "images_sha256": images and images.sha256,
            },
            "settings": {
                "samples": settings.samples,
                "shard": settings.shard,
                "batch": settings.execution.batch,
                "dtype": settings.execution.dtype,
                "images": min(settings.images, len(images)) if images else 0,
                **asdict(settings.guidance),
                "more_smooth": False,
                "uint8": "rounded to nearest",
                # Left out where it is what it always was, so that older files still fit.
                **({} if execution == "reference" else {"execution": execution}),
            },
        }

    def folder(self, row: Row) -> Path:
        """Where results of the row's tasks are kept; another one for other code or settings."""
        key = digest([self.head, row.name, row.source, dependencies.code_digests()])
        return self.shards / f"{row.name}-{key[:12]}"

    def measure(self, row: Row) -> Content:
        """Measure a row of the result file."""
        started, store = time.perf_counter(), Store(self.folder(row))
        found = self._of_images(row, store) if row in IMAGE_ROWS else self._of_model(row, store)
        seconds = round(time.perf_counter() - started, 1)
        source = {**row.source, "code": digest(dependencies.code_digests()), **self.circumstances()}
        return found | {"provenance": {**source, "seconds": seconds}}

    def recompute(self, row: Row, *, probe: bool = False) -> Content:
        """Measure of a row what needs no samples: divergences, or the scores of real images.

        Args:
            row: The row.
            probe: Whether divergences are taken on the first `PROBE` images only.
        """
        store = Store(self.folder(row))
        if row in IMAGE_ROWS:
            return self._of_images(row, store)
        return self._divergence(self._prepare(row, store)[0], store, probe=probe)

    def circumstances(self) -> Content:
        """What a result says of the machine and the versions that it was computed with."""
        execution = self.settings.execution
        return {
            "versions": provenance.versions(),
            "machine": provenance.machine(execution.device),
            "instructions": provenance.instructions(execution.device),
            "threads": execution.threads or torch.get_num_threads(),
            "workers": len(self.client.ncores()) if self.client else 0,
        }

    # Models

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
                settings.execution,
                part,
                _kept(part.count, settings.samples),
                self.keep_samples and self.keep_samples / row.name,
            ): part.group
            for part in cut(settings.samples, subject.classes, settings.shard)
        }
        return self._scores(tasks, store) | found | weights

    def _prepare(self, row: Row, store: Store) -> tuple[ModelFile, Content]:
        """The row's transformer as a file, and the bytes of its weights."""
        if row.quantized is not None:
            weights = _weight_bytes(load_quantized(row.quantized))
            return ModelFile.of(row.quantized, quantized=True), weights
        if self.original is None or row.recipe is None:
            raise ValueError(f"row {row.name} needs the original model; give --weights")
        model = load_model(self.original, self.settings.execution)
        if not row.recipe.layers and row.recipe.kv is None:
            unchanged, _ = quantize_model(model, row.recipe, progress=False)
            return self.original, _weight_bytes(unchanged)
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

    def _divergence(self, file: ModelFile, store: Store, *, probe: bool = False) -> Content:
        subject, execution = self.subject, self.settings.execution
        if subject.images is None or self.original is None:
            return {}
        count, size = self.head["settings"]["images"], execution.batch
        tasks = [
            DivergenceTask(
                file,
                self.original,
                subject.vqvae,
                subject.images,
                subject.classes,
                execution,
                start,
                min(size, count - start),
            )
            for start in range(0, min(count, PROBE) if probe else count, size)
        ]
        return self._summed_up(self._run(tasks, store, show=False))

    def _summed_up(self, found: Sequence[Tensors]) -> Content:
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
            "probe_kl": float(measured.by_image("kl")[:PROBE].mean()),
            "probe_cross_entropy": float(measured.by_image("cross_entropy")[:PROBE].mean()),
        }

    # Images

    def _of_images(self, row: Row, store: Store) -> Content:
        subject, settings, images = self.subject, self.settings, self.subject.images
        if images is None:
            raise ValueError(f"row {row.name} needs real images; give --test-images")
        count = min(len(images), settings.samples)
        # Folders are in the order of classes: no part of them stands for the whole.
        together = 1 if images.path is None else count
        tasks = {
            ImagesTask(
                images,
                subject.classes,
                subject.vqvae,
                row == RECONSTRUCTION,
                subject.extractor,
                settings.execution,
                part,
                _kept(part.count, count),
            ): part.group
            for part in cut(count, together, settings.shard)
        }
        found = self._scores(tasks, store)
        if row == REAL and self.reference.sha256 == images.sha256:
            return {key: found[key] for key in ("isc", "classifier_accuracy") if key in found}
        return found

    # Both

    def _scores(self, tasks: dict[Any, int], store: Store) -> Content:
        groups: dict[int, list[Tensors]] = {}
        for task, result in zip(tasks, self._run(list(tasks), store), strict=True):
            groups.setdefault(tasks[task], []).append(result)
        found = scores(groups, self.reference, accuracy=self.subject.extractor.labels_classes)
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
