"""Captured inputs of layers: tensors by layer and step, in memory or in a safetensors file.

The size of the storage is fixed before anything is captured, and a file is written through a memory
map, so that neither grows with the number of images once `tokens` bounds it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import overload

import torch
from safetensors import safe_open
from torch import Tensor

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
_ALIGNMENT = 8  # bytes; of the data in the file, so that every dtype can be viewed in the map


class Activations(Mapping[str, Sequence[Tensor]]):
    """For each layer's name a sequence with one tensor (tokens, channels) per step.

    Tensors in a file are read anew at each access and not kept.
    """

    def __init__(self, layers: Mapping[str, Sequence[Tensor]]) -> None:
        self._layers = dict(layers)

    @staticmethod
    def open(file: Path | str) -> "Activations":
        """The activations that `capture` wrote to `file`.

        Raises:
            FileNotFoundError: there is no such file.
        """
        path = Path(file)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        with safe_open(path, "pt") as tensors:
            keys = [key.rsplit("/", 1) for key in tensors.keys()]  # noqa: SIM118 (no iterator)
        counts: dict[str, int] = {}
        for name, _ in keys:
            counts[name] = counts.get(name, 0) + 1
        return Activations({name: _Spilled(path, name, n) for name, n in counts.items()})

    def __getitem__(self, name: str) -> Sequence[Tensor]:
        if name not in self._layers:
            raise KeyError(f"no layer {name!r}; there are {', '.join(self._layers)}")
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def all_steps(self, name: str) -> Tensor:
        """All tokens of one layer, step after step: (tokens, channels)."""
        return torch.cat(list(self[name]))


@dataclass(frozen=True)
class _Spilled(Sequence[Tensor]):
    """The steps of one layer in a safetensors file."""

    file: Path
    name: str
    steps: int

    def __len__(self) -> int:
        return self.steps

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(index, slice):
            return [self[step] for step in range(self.steps)[index]]
        step = range(self.steps)[index]
        with safe_open(self.file, "pt") as tensors:
            return tensors.get_tensor(_key(self.name, step))


Shapes = Mapping[str, Sequence[tuple[int, int]]]
"""For each layer the (tokens, channels) kept of each step."""


def size_in_bytes(shapes: Shapes, dtype: torch.dtype) -> int:
    """What activations of these shapes take, in memory or in a file (without its header)."""
    elements = sum(prod(shape) for steps in shapes.values() for shape in steps)
    return elements * dtype.itemsize


def allocate(shapes: Shapes, dtype: torch.dtype) -> dict[str, tuple[Tensor, ...]]:
    """Uninitialised tensors in memory."""
    return {
        name: tuple(torch.empty(shape, dtype=dtype) for shape in steps)
        for name, steps in shapes.items()
    }


def allocate_in_file(
    shapes: Shapes, dtype: torch.dtype, file: Path
) -> dict[str, tuple[Tensor, ...]]:
    """Tensors of zeros mapped to a new safetensors file: what is assigned to them is in the file.

    Raises:
        ValueError: safetensors cannot hold the dtype.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype}; use one of {', '.join(map(str, _DTYPES))}")
    header, offset = _header(shapes, dtype)
    whole = offset + size_in_bytes(shapes, dtype)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as f:
        f.write(header)
        f.truncate(whole)
    memory = torch.from_file(str(file), shared=True, size=whole, dtype=torch.uint8)
    data = memory[offset:].view(dtype)
    sizes = [prod(shape) for steps in shapes.values() for shape in steps]
    parts = iter(data.split(sizes))
    return {
        name: tuple(next(parts).view(shape) for shape in steps) for name, steps in shapes.items()
    }


def _key(name: str, step: int) -> str:
    return f"{name}/{step}"


def _header(shapes: Shapes, dtype: torch.dtype) -> tuple[bytes, int]:
    """The file's first bytes (length of the description, then the description), and their count."""
    entries, start = {}, 0
    for name, steps in shapes.items():
        for step, shape in enumerate(steps):
            end = start + prod(shape) * dtype.itemsize
            entries[_key(name, step)] = {
                "dtype": _DTYPES[dtype],
                "shape": list(shape),
                "data_offsets": [start, end],
            }
            start = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, 8 + len(text)
