"""The tasks of an evaluation: frozen, able to run anywhere, with small tensors as their results.

A task names files and numbers only, so that it can be sent to another machine which sees the same
files. Its result holds statistics of features, not images, and is stored as one file as soon as
it is there: a run that is killed loses the tasks that were under way.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fpqvar_lab import var
from fpqvar_lab.evaluation.divergence import divergence
from fpqvar_lab.evaluation.extractors import ExtractorFile, features_and_logits, load_extractor
from fpqvar_lab.evaluation.images import ImageSet, to_uint8
from fpqvar_lab.evaluation.metrics import Moments
from fpqvar_lab.evaluation.models import (
    CodecFile,
    ExecutionConfig,
    ModelFile,
    load_codec,
    load_model,
)
from fpqvar_lab.evaluation.parts import Part
from fpqvar_lab.files import replacing
from fpqvar_lab.parallel import Tensors


@dataclass(frozen=True)
class Guidance:
    """The settings of `sample`.

    Args:
        cfg: The strength of classifier-free guidance.
        top_k: The number of most likely codes that are kept; 0 keeps all.
        top_p: The probability that the codes kept have together; 0 keeps all.
        seed: The seed that the seeds of all shards come from.
    """

    cfg: float = 1.5
    top_k: int = 900
    top_p: float = 0.96
    seed: int = 0

    def generator(self, start: int, device: str) -> torch.Generator:
        """The source of randomness of the shard that begins with sample `start`."""
        seed = hash((self.seed, start)) & (2**63 - 1)  # ints hash alike in every process
        return torch.Generator(device).manual_seed(seed)


@dataclass(frozen=True)
class SampleTask:
    """Draw the samples of one part and reduce them to statistics.

    Sample j is of class j modulo the number of classes. All recipes draw a part from the same
    random numbers.

    Args:
        model: The transformer that draws.
        vqvae: The VQVAE's file.
        extractor: The network in whose features the samples are scored.
        guidance: The settings of sampling.
        execution: How the task runs.
        part: Which samples are drawn.
        keep_features: The number of samples whose features are kept, for precision and recall.
        images_to: A folder for the samples themselves, in OpenAI's layout; None drops them.
    """

    model: ModelFile
    vqvae: CodecFile
    extractor: ExtractorFile
    guidance: Guidance
    execution: ExecutionConfig
    part: Part
    keep_features: int
    images_to: Path | None = None

    @property
    def name(self) -> str:
        return f"samples-{self.part.start:06d}"

    @property
    def count(self) -> int:
        return self.part.count

    def run(self) -> Tensors:
        self.execution.prepare()
        model = load_model(self.model, self.execution)
        start, device = self.part.start, self.execution.device
        labels = torch.arange(start, start + self.count) % model.config.classes
        images = self._draw(model, labels)
        if self.images_to is not None:
            _write_images(self.images_to / f"{self.name}.npz", images, labels)
        extractor = load_extractor(self.extractor, device)
        features, logits = features_and_logits(extractor, images, self.execution.batch)
        return _statistics(features, logits, labels, self.keep_features, start)

    def _draw(self, model: var.VAR, labels: Tensor) -> Tensor:
        g, device = self.guidance, self.execution.device
        codec = load_codec(self.vqvae, device)
        generator = g.generator(self.part.start, device)
        drawn = [
            var.sample(
                model,
                codec,
                y.to(device),
                cfg=g.cfg,
                top_k=g.top_k,
                top_p=g.top_p,
                generator=generator,
            )
            for y in labels.split(self.execution.batch)
        ]
        return torch.cat([to_uint8(x).cpu() for x in drawn])


@dataclass(frozen=True)
class ImagesTask:
    """Score real images, as they are or after the VQVAE, as if they were samples.

    Args:
        images: The set that they are taken from.
        classes: The number of classes that the model knows.
        vqvae: The VQVAE's file.
        reconstruct: Whether the images pass through the VQVAE first.
        extractor: The network in whose features they are scored.
        execution: How the task runs.
        part: Which of the images are scored.
        keep_features: The number of images whose features are kept.
    """

    images: ImageSet
    classes: int
    vqvae: CodecFile
    reconstruct: bool
    extractor: ExtractorFile
    execution: ExecutionConfig
    part: Part
    keep_features: int

    @property
    def name(self) -> str:
        return f"images-{self.part.start:06d}"

    @property
    def count(self) -> int:
        return self.part.count

    @torch.inference_mode()
    def run(self) -> Tensors:
        self.execution.prepare()
        device, part, batch = self.execution.device, self.part, self.execution.batch
        codec = load_codec(self.vqvae, device)
        parts = []
        for x in self.images.batches(batch, part.start, part.count):
            rebuilt = codec.reconstruct(x.to(device).float() / 255) if self.reconstruct else None
            parts.append(x if rebuilt is None else to_uint8(rebuilt).cpu())
        extractor = load_extractor(self.extractor, device)
        features, logits = features_and_logits(extractor, torch.cat(parts), batch)
        labels = self.images.labels(self.classes)[part.start : part.start + part.count]
        return _statistics(features, logits, labels, self.keep_features, part.start)


@dataclass(frozen=True)
class DivergenceTask:
    """Measure teacher-forced cross-entropy and divergence from the original on some images.

    Args:
        model: The quantized model.
        original: The model that it was made from.
        vqvae: The VQVAE's file.
        images: Labelled images.
        classes: The number of classes that the model knows.
        execution: How the task runs.
        start: The number of the first image.
        count: The number of images.
    """

    model: ModelFile
    original: ModelFile
    vqvae: CodecFile
    images: ImageSet
    classes: int
    execution: ExecutionConfig
    start: int
    count: int

    @property
    def name(self) -> str:
        return f"divergence-{self.start:06d}"

    def run(self) -> Tensors:
        self.execution.prepare()
        x = torch.cat(list(self.images.batches(self.count, self.start, self.count)))
        labels = self.images.labels(self.classes)
        found = divergence(
            load_model(self.model, self.execution),
            load_model(self.original, self.execution),
            load_codec(self.vqvae, self.execution.device),
            x.float() / 255,
            labels[self.start : self.start + self.count],
            batch=self.execution.batch,
        )
        arrays = {"cross_entropy": found.cross_entropy, "kl": found.kl}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _statistics(features: Tensor, logits: Tensor, labels: Tensor, keep: int, seed: int) -> Tensors:
    moments = Moments.of(features)
    # At random: a regular choice could fall on the same few classes in every part.
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:keep]
    return {
        "count": torch.tensor(moments.count),
        "mean": torch.from_numpy(moments.mean),
        "scatter": torch.from_numpy(moments.scatter),
        "logits": logits,
        "hits": logits.argmax(1) == labels,
        "features": features[chosen.sort().values],
    }


def read_moments(result: Tensors) -> Moments:
    """Read the moments of the features from the result of a task."""
    return Moments(int(result["count"]), result["mean"].numpy(), result["scatter"].numpy())


def _write_images(file: Path, images: Tensor, labels: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial, partial.open("wb") as f:
        np.savez_compressed(f, images.permute(0, 2, 3, 1).numpy(), labels.numpy())
