"""The files that hold models, and how tasks run them.

A task travels to other machines with a file's path and digest instead of weights; whoever runs it
loads the file, once for all tasks.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from fpqvar_lab import var
from fpqvar_lab.execution import Execution
from fpqvar_lab.files import sha256
from fpqvar_lab.method import load_quantized


@dataclass(frozen=True)
class ModelFile:
    """A transformer on disk.

    Args:
        path: The file of a checkpoint or of a quantized model.
        sha256: The digest that the file must have, so that all machines use the same weights.
        quantized: Whether it holds a quantized model.
    """

    path: Path
    sha256: str
    quantized: bool

    @staticmethod
    def of(path: Path, *, quantized: bool) -> "ModelFile":
        """Take the file as it is now; FileNotFoundError if it does not exist."""
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        return ModelFile(path.resolve(), sha256(path), quantized)


@dataclass(frozen=True)
class CodecFile:
    """A VQVAE on disk, with the steps of the VAR that it serves, which public files do not state.

    Args:
        path: The file.
        patch_sizes: The side of each step's token map; None for what the file states.
    """

    path: Path
    patch_sizes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ExecutionConfig:
    """How a task runs on whatever machine it is sent to.

    Args:
        device: The device as torch names it: `cpu`, `cuda`, ...
        dtype: The type of a checkpoint's weights and activations; a quantized model has its own.
        batch: The number of images that are processed together.
        threads: The number of threads of one process; None leaves torch's own choice.
        execution: How quantized layers are computed, as for `QuantizedVAR.prepare`. What "auto"
            chooses depends on the machine.
    """

    device: str = "cpu"
    dtype: str = "float32"
    batch: int = 100
    threads: int | None = None
    execution: Execution = "reference"

    def prepare(self) -> None:
        """Set the number of threads of this process."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)


@lru_cache(maxsize=2)
def load_model(file: ModelFile, execution: ExecutionConfig) -> var.VAR:
    """Load a transformer, ready to sample from; a quantized one keeps its weights' values.

    Raises:
        ValueError: The file is not the one that the evaluation began with.
    """
    if sha256(file.path) != file.sha256:
        raise ValueError(f"{file.path}: another file than the evaluation began with")
    if file.quantized:
        model = load_quantized(file.path, device=execution.device)
        if execution.execution == "reference":
            return model.materialize(compile=True)
        return model.prepare(execution.execution)
    dtype = getattr(torch, execution.dtype)
    return var.load_var(file.path, device=execution.device, dtype=dtype)


@lru_cache(maxsize=1)
def load_codec(file: CodecFile, device: str) -> var.VQVAE:
    """Load a VQVAE, ready to use."""
    return var.load_vqvae(file.path, patch_sizes=file.patch_sizes, device=device)
