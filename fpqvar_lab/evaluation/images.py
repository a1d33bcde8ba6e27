"""Sets of images on disk: image folders, OpenAI's `.npz` batches, and the shipped test set."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fpqvar_lab import data
from fpqvar_lab.files import sha256

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] -> uint8, to the nearest level (the released sampler truncates instead)."""
    return images.float().mul(255).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, in a fixed order.

    Args:
        path: A folder of images, or of one folder of images for each class; or an `.npz` file with
            `arr_0`, uint8 (n, side, side, channels), and for labels `arr_1`; or None for the
            10,000 test images of Fashion-MNIST.
        side: The side of every image, in pixels.
        channels: 1 or 3; image files are converted, arrays must have as many.
    """

    path: Path | None
    side: int
    channels: Literal[1, 3]

    def __len__(self) -> int:
        if self.path is None:
            return 10_000
        return len(self._files()) if self.path.is_dir() else len(self._array())

    @property
    def sha256(self) -> str:
        """The digest of the file; for a folder, that of its files' names and sizes."""
        if self.path is None:
            return data.FASHION_MNIST_SHA256["t10k-images-idx3"]
        if not self.path.is_dir():
            return sha256(self.path)
        listing = [f"{f.relative_to(self.path)} {f.stat().st_size}\n" for f in self._files()]
        return hashlib.sha256("".join(listing).encode()).hexdigest()

    def batches(self, size: int, start: int = 0, count: int | None = None) -> Iterator[Tensor]:
        """Yield the images as uint8 (up to `size`, channels, side, side) in their order.

        Args:
            size: The number of images in one batch; the last batch may have fewer.
            start: The number of the first image.
            count: The number of images; None for all that follow.

        Raises:
            FileNotFoundError: There is no such file or folder, or no image in it.
            ValueError: An image has another size, or a file holds something else.
        """
        end = len(self) if count is None else min(start + count, len(self))
        for first in range(start, end, size):
            yield self._read(first, min(first + size, end))

    def labels(self, classes: int) -> Tensor:
        """The labels (n,) int64: the rank of each image's class folder, or `arr_1`.

        Raises:
            ValueError: There are no labels, or others than 0 ... classes - 1.
        """
        if self.path is None:
            return _test_set()[1]
        if self.path.is_dir():
            return self._folder_labels(classes)
        arrays = _arrays(self.path)
        if "arr_1" not in arrays:
            raise ValueError(f"{self.path}: no labels (arr_1) beside the images")
        labels = torch.from_numpy(arrays["arr_1"].astype(np.int64))
        if labels.shape != (len(self),) or labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"{self.path}: arr_1 is not one label below {classes} per image")
        return labels

    def _folder_labels(self, classes: int) -> Tensor:
        folders = sorted({file.parent.name for file in self._files()})
        if len(folders) != classes:
            raise ValueError(
                f"{self.path}: {len(folders)} folders with images; the model has {classes} "
                "classes, and labels need a folder for each, in the order of their names"
            )
        rank = {name: label for label, name in enumerate(folders)}
        return torch.tensor([rank[file.parent.name] for file in self._files()])

    def _files(self) -> tuple[Path, ...]:
        assert self.path is not None
        return _image_files(self.path)

    def _array(self) -> np.ndarray:
        assert self.path is not None
        array = _arrays(self.path).get("arr_0")
        expected = (self.side, self.side, self.channels)
        if array is None or array.dtype != np.uint8 or array.shape[1:] != expected:
            found = "missing" if array is None else f"{array.dtype} {array.shape}"
            raise ValueError(f"{self.path}: arr_0 is {found}; expected uint8 (n, {expected})")
        return array

    def _read(self, first: int, end: int) -> Tensor:
        if self.path is None:
            return _test_set()[0][first:end]
        if not self.path.is_dir():
            array = self._array()[first:end]
        else:
            array = np.stack([self._image(file) for file in self._files()[first:end]])
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()

    def _image(self, file: Path) -> np.ndarray:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if self.channels == 1 else "RGB"))
        if pixels.shape[:2] != (self.side, self.side):
            found = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise ValueError(f"{file}: {found} pixels; expected {self.side} x {self.side}")
        return pixels.reshape(self.side, self.side, self.channels)


@cache
def _test_set() -> tuple[Tensor, Tensor]:
    images, labels = data.fashion_mnist("test")
    return to_uint8(images), labels


@lru_cache(maxsize=2)
def _image_files(folder: Path) -> tuple[Path, ...]:
    files = tuple(sorted(f for f in folder.rglob("*") if f.suffix.lower() in ENDINGS))
    if not files:
        raise FileNotFoundError(f"{folder}: no image ({', '.join(ENDINGS)}) in this folder")
    return files


@lru_cache(maxsize=1)
def _arrays(file: Path) -> dict[str, np.ndarray]:
    return read_npz(file)


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` file; pickled objects are refused.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is another kind of file, or it is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, TypeError, BadZipFile) as error:
        raise ValueError(f"{file}: not an .npz file of arrays ({error})") from error
