"""The parts an evaluation is cut into: frozen tasks that run anywhere and give small arrays.

A task names files and numbers only, so that it can be sent to another machine which sees the same
files. Its result holds statistics of features, not pictures, and is stored as one file as soon as
it is there: a run that is killed loses the tasks that were under way.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fpqvar_lab import var
from fpqvar_lab.divergence import divergence
from fpqvar_lab.extractors import ExtractorFile, features_and_logits, load_extractor
from fpqvar_lab.metrics import GROUP_COUNTS, Moments
from fpqvar_lab.pictures import PictureSet, to_uint8
from fpqvar_lab.ptq import load_quantized

Result = dict[str, Tensor]


class Task(Protocol):
    """A part of an evaluation."""

    @property
    def name(self) -> str:
        """Of the file that keeps the result; no two tasks of a row share one."""
        ...

    @property
    def count(self) -> int:
        """Pictures in it."""
        ...

    def run(self) -> Result:
        """Do it; the result is on the CPU."""
        ...


@dataclass(frozen=True)
class ModelFile:
    """A transformer on disk.

    Args:
        path: a checkpoint or a quantized model.
        sha256: what it must hold, so that all machines use the same.
        quantized: which of the two it is.
    """

    path: Path
    sha256: str
    quantized: bool

    @staticmethod
    def of(path: Path, *, quantized: bool) -> "ModelFile":
        """The file as it is now."""
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        return ModelFile(path.resolve(), _sha256(path), quantized)


def _sha256(file: Path) -> str:
    """Of the file as it is now; `data.sha256` remembers what it was."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@dataclass(frozen=True)
class Machine:
    """How tasks run where they run.

    Args:
        device: `cpu`, `cuda`, ...
        dtype: of a checkpoint's weights and activations; a quantized model has its own.
        batch: pictures at a time.
        threads: of one process; None leaves torch's own choice.
    """

    device: str = "cpu"
    dtype: str = "float32"
    batch: int = 100
    threads: int | None = None

    def prepare(self) -> None:
        """Set the number of threads."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)


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


@lru_cache(maxsize=2)
def load_model(file: ModelFile, machine: Machine) -> var.VAR:
    """The transformer, ready to sample from; a quantized one keeps its weights' values.

    Raises:
        ValueError: the file is not the one that was meant.
    """
    if _sha256(file.path) != file.sha256:
        raise ValueError(f"{file.path}: another file than the evaluation began with")
    if file.quantized:
        return load_quantized(file.path, device=machine.device).materialize(compile=True)
    return var.load_var(file.path, device=machine.device, dtype=getattr(torch, machine.dtype))


@dataclass(frozen=True)
class CodecFile:
    """A VQVAE's file, and the steps of the VAR it serves, which a public file does not state.

    Args:
        path: of the file.
        patch_sizes: side of each step's token map; None for what the file states.
    """

    path: Path
    patch_sizes: tuple[int, ...] | None = None


@lru_cache(maxsize=1)
def load_codec(file: CodecFile, device: str) -> var.VQVAE:
    """The VQVAE, ready to use."""
    return var.load_vqvae(file.path, patch_sizes=file.patch_sizes, device=device)


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

    def run(self) -> Result:
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
    def run(self) -> Result:
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

    def run(self) -> Result:
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


def _statistics(features: Tensor, logits: Tensor, labels: Tensor, keep: int, seed: int) -> Result:
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


def read_moments(result: Result) -> Moments:
    """The moments of the features in the result of a task."""
    return Moments(int(result["count"]), result["mean"].numpy(), result["scatter"].numpy())


def _write_pictures(file: Path, pictures: Tensor, labels: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("wb") as f:
        np.savez_compressed(f, pictures.permute(0, 2, 3, 1).numpy(), labels.numpy())
    partial.replace(file)


class Store:
    """Results of tasks in a folder, one file each.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Result | None:
        """A task's result; None if it is not there. A file that was damaged is deleted."""
        file = self._file(name)
        if not file.is_file():
            return None
        try:
            return load_file(file)
        except (SafetensorError, OSError):
            file.unlink()
            return None

    def write(self, name: str, result: Result) -> None:
        """Keep a result; it is there wholly or not at all."""
        partial = self._file(name).with_suffix(".partial")
        save_file(result, partial)
        partial.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
