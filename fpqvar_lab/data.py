"""Data sets and trained weights: where they lie, and that they are what they should be."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fpqvar_lab.files import sha256

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_URL = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
)
FASHION_MNIST_SHA256 = {
    "t10k-images-idx3": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "train-images-idx3": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}
CLASS_NAMES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def path(name: str = "") -> Path:
    """Find `name` below the data folder, which is `$FPQVAR_DATA` or `data/` of this checkout.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    folder = Path(os.environ.get("FPQVAR_DATA") or Path(__file__).resolve().parent.parent / "data")
    found = folder / name
    if not found.exists():
        raise FileNotFoundError(
            f"{found} does not exist; the data folder comes with a clone of the repository "
            "(installed elsewhere, set FPQVAR_DATA to it)"
        )
    return found


def _sha256_of(name: str) -> str:
    return FASHION_MNIST_SHA256[name.removesuffix("-ubyte.gz")]


def _check(file: Path) -> None:
    expected, found = _sha256_of(file.name), sha256(file)
    if found != expected:
        raise ValueError(f"{file} is damaged: its sha256 is {found}, expected {expected}")


def _download(name: str) -> Path | None:
    import pooch

    try:
        url, digest = FASHION_MNIST_URL + name, _sha256_of(name)
        return Path(pooch.retrieve(url, known_hash=f"sha256:{digest}", progressbar=True))
    except OSError:  # no network
        return None


def _find(name: str, folder: Path | None, download: bool) -> Path:
    folders = [folder] if folder else [_shipped_folder(), DEBIAN_FOLDER]
    for candidate in folders:
        if (candidate / name).exists():
            return candidate / name
    fetched = _download(name) if download and not folder else None
    if fetched:
        return fetched
    raise FileNotFoundError(
        f"{name} is in none of {', '.join(map(str, folders))}. Three ways to get Fashion-MNIST: "
        "give the folder that holds its four .gz files; on Debian or Ubuntu, "
        "'apt-get install dataset-fashion-mnist'; or, with a network, let it be downloaded."
    )


def _shipped_folder() -> Path:
    return path("fashion-mnist")


def _read_idx(file: Path) -> Tensor:
    """One array in LeCun's IDX format, unsigned bytes."""
    raw = gzip.decompress(file.read_bytes())
    dims = raw[3]
    shape = np.frombuffer(raw, ">u4", dims, offset=4)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * dims)
    return torch.from_numpy(values.reshape(shape.tolist()).copy())


def fashion_mnist(
    split: str = "test", folder: Path | None = None, *, download: bool = True
) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST (Xiao et al., arXiv 1708.07747; MIT licence).

    Args:
        split: Either `test` (10,000 images, shipped in `data/`) or `train` (60,000).
        folder: The folder of the four original `.gz` files; by default the data folder, then
            Debian's package `dataset-fashion-mnist`, then a download checked by sha256.
        download: Whether the network may be used.

    Returns:
        Images (n, 1, 28, 28) float32 in [0, 1] and labels (n,) int64.

    Raises:
        FileNotFoundError: The files are nowhere; the message says the three ways to get them.
        ValueError: It is another split, or a file's sha256 is wrong.
    """
    if split not in ("test", "train"):
        raise ValueError(f"split {split!r}; allowed are 'test' and 'train'")
    prefix = "t10k" if split == "test" else "train"
    files = [
        _find(f"{prefix}-{part}-ubyte.gz", folder, download)
        for part in ("images-idx3", "labels-idx1")
    ]
    for file in files:
        _check(file)
    images, labels = map(_read_idx, files)
    return images[:, None].float() / 255, labels.long()
