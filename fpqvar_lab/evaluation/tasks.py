"""The parts an evaluation is cut into: frozen tasks that run anywhere and give small arrays.

A task names files and numbers only, so that it can be sent to another machine which sees the same
files. Its result holds statistics of features, not pictures, and is stored as one file as soon as
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
from fpqvar_lab.evaluation.images import PictureSet, to_uint8
from fpqvar_lab.evaluation.metrics import GROUP_COUNTS, Moments
from fpqvar_lab.evaluation.models import CodecFile, Machine, ModelFile, load_codec, load_model
from fpqvar_lab.files import replacing
from fpqvar_lab.parallel import Tensors


@dataclass(frozen=True)
class Guidance:
    """The settings of `sample`, with the seed that all shards' seeds come from."""

    cfg: float = 1.5
    top_k: int = 900
    top_p: float = 0.96
    seed: int = 0

    def generator(self, start: int, device: str) -> torch.Generator:
        """The source of randomness of the shard that begins with sample `start`."""
        seed = hash((self.seed, start)) & (2**63 - 1)  # ints hash alike in every process
        return torch.Generator(device).manual_seed(seed)


@dataclass(frozen=True)
class Part:
    """Consecutive pictures of one group.

    Args:
        start: number of the first.
        count: how many.
        group: which group of the jackknife they belong to.
    """

    start: int
    count: int
    group: int


def cut(pictures: int, together: int, size: int) -> list[Part]:
    """Parts of at most `size` pictures, none of which crosses the border of a group.

    There are 20, 10 or 5 equal groups; one, which gives no interval, where no number fits.

    Args:
        pictures: of all.
        together: consecutive pictures that all go to one group, such as one of each class.
        size: of the longest part.
    """
    groups = next((g for g in GROUP_COUNTS if pictures % (g * together) == 0), 1)
    length = pictures // groups
    return [
        Part(group * length + first, min(size, length - first), group)
        for group in range(groups)
        for first in range(0, length, size)
    ]


@dataclass(frozen=True)
class SampleTask:
    """Draw the samples of one part and reduce them to statistics.

    Sample j is of class j modulo the number of classes. All recipes draw a part from the same
    random numbers.

    Args:
        model: draws.
        vqvae: its file.
        extractor: in whose features they are scored.
        guidance: settings of sampling.
        machine: how to run.
        part: which samples.
        keep_features: how many samples' features to give, for precision and recall.
        pictures_to: folder for the pictures themselves, in OpenAI's layout; None to drop them.
    """

    model: ModelFile
    vqvae: CodecFile
    extractor: ExtractorFile
    guidance: Guidance
    machine: Machine
    part: Part
    keep_features: int
    pictures_to: Path | None = None

    @property
    def name(self) -> str:
        return f"samples-{self.part.start:06d}"

    @property
    def count(self) -> int:
        return self.part.count

    def run(self) -> Tensors:
        self.machine.prepare()
        model = load_model(self.model, self.machine)
        start, device = self.part.start, self.machine.device
        labels = torch.arange(start, start + self.count) % model.config.classes
        pictures = self._draw(model, labels)
        if self.pictures_to is not None:
            _write_pictures(self.pictures_to / f"{self.name}.npz", pictures, labels)
        extractor = load_extractor(self.extractor, device)
        features, logits = features_and_logits(extractor, pictures, self.machine.batch)
        return _statistics(features, logits, labels, self.keep_features, start)

    def _draw(self, model: var.VAR, labels: Tensor) -> Tensor:
        g, device = self.guidance, self.machine.device
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
            for y in labels.split(self.machine.batch)
        ]
        return torch.cat([to_uint8(x).cpu() for x in drawn])


@dataclass(frozen=True)
class PicturesTask:
    """Score real pictures, as they are or after the VQVAE, as if they were samples.

    Args:
        pictures: where they are.
        classes: of the model.
        vqvae: its file.
        reconstruct: whether they go through it.
        extractor: in whose features they are scored.
        machine: how to run.
        part: which of the pictures.
        keep_features: how many pictures' features to give.
    """

    pictures: PictureSet
    classes: int
    vqvae: CodecFile
    reconstruct: bool
    extractor: ExtractorFile
    machine: Machine
    part: Part
    keep_features: int

    @property
    def name(self) -> str:
        return f"pictures-{self.part.start:06d}"

    @property
    def count(self) -> int:
        return self.part.count

    @torch.inference_mode()
    def run(self) -> Tensors:
        self.machine.prepare()
        device, part = self.machine.device, self.part
        codec = load_codec(self.vqvae, device)
        parts = []
        for x in self.pictures.batches(self.machine.batch, part.start, part.count):
            rebuilt = codec.reconstruct(x.to(device).float() / 255) if self.reconstruct else None
            parts.append(x if rebuilt is None else to_uint8(rebuilt).cpu())
        extractor = load_extractor(self.extractor, device)
        features, logits = features_and_logits(extractor, torch.cat(parts), self.machine.batch)
        labels = self.pictures.labels(self.classes)[part.start : part.start + part.count]
        return _statistics(features, logits, labels, self.keep_features, part.start)


@dataclass(frozen=True)
class DivergenceTask:
    """Teacher-forced cross-entropy and divergence from the original on some pictures.

    Args:
        model: the quantized model.
        original: the one it was made from.
        vqvae: its file.
        pictures: with labels.
        classes: of the model.
        machine: how to run.
        start: number of the first picture.
        count: how many.
    """

    model: ModelFile
    original: ModelFile
    vqvae: CodecFile
    pictures: PictureSet
    classes: int
    machine: Machine
    start: int
    count: int

    @property
    def name(self) -> str:
        return f"divergence-{self.start:06d}"

    def run(self) -> Tensors:
        self.machine.prepare()
        x = torch.cat(list(self.pictures.batches(self.count, self.start, self.count)))
        labels = self.pictures.labels(self.classes)
        found = divergence(
            load_model(self.model, self.machine),
            load_model(self.original, self.machine),
            load_codec(self.vqvae, self.machine.device),
            x.float() / 255,
            labels[self.start : self.start + self.count],
            batch=self.machine.batch,
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
    """The moments of the features in the result of a task."""
    return Moments(int(result["count"]), result["mean"].numpy(), result["scatter"].numpy())


def _write_pictures(file: Path, pictures: Tensor, labels: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial, partial.open("wb") as f:
        np.savez_compressed(f, pictures.permute(0, 2, 3, 1).numpy(), labels.numpy())
