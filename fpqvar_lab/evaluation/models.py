"""NEW."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from fpqvar_lab import var
from fpqvar_lab.files import sha256
from fpqvar_lab.method import load_quantized


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
        return ModelFile(path.resolve(), sha256(path), quantized)


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


@lru_cache(maxsize=2)
def load_model(file: ModelFile, machine: Machine) -> var.VAR:
    """The transformer, ready to sample from; a quantized one keeps its weights' values.

    Raises:
        ValueError: the file is not the one that was meant.
    """
    if sha256(file.path) != file.sha256:
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
