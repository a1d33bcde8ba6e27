"""The data set: found, complete, and refused when damaged."""

import shutil

import pytest
import torch

from fpqvar_lab import data
from fpqvar_lab.files import sha256


def test_test_split_is_the_published_one():
    images, labels = data.fashion_mnist("test")
    assert images.shape == (10_000, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert images.max() == 1
    assert torch.bincount(labels).tolist() == [1000] * 10  # balanced, as the authors state
    assert len(data.CLASS_NAMES) == 10


@pytest.mark.parametrize("name", ["t10k-images-idx3", "t10k-labels-idx1"])
def test_shipped_files_have_their_checksums(name):
    file = data.path(f"fashion-mnist/{name}-ubyte.gz")
    assert sha256(file) == data.FASHION_MNIST_SHA256[name]


def test_a_truncated_file_is_refused(tmp_path):
    for file in data.path("fashion-mnist").iterdir():
        shutil.copy(file, tmp_path)
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is damaged: its sha256 is"):
        data.fashion_mnist("test", tmp_path)


def test_absence_says_the_three_ways(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"(?s)Three ways.*folder.*apt-get.*downloaded"):
        data.fashion_mnist("train", tmp_path)
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="Three ways"):
        data.fashion_mnist("train", download=False)


def test_download_goes_to_the_published_address_with_its_checksum(tmp_path, monkeypatch):
    """A stand-in for the network records what was asked, and answers with a damaged file."""
    import pooch

    asked = []

    def retrieve(url, known_hash, **_):
        asked.append((url, known_hash))
        file = tmp_path / url.rsplit("/", 1)[1]
        file.write_bytes(b"damaged")
        return str(file)

    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ValueError, match="is damaged"):
        data.fashion_mnist("train")
    assert asked[0][0].endswith("/train-images-idx3-ubyte.gz")
    assert asked[0][1] == "sha256:" + data.FASHION_MNIST_SHA256["train-images-idx3"]


def test_an_unknown_split_or_path_is_refused():
    with pytest.raises(ValueError, match="allowed are 'test' and 'train'"):
        data.fashion_mnist("validation")
    with pytest.raises(FileNotFoundError, match="FPQVAR_DATA"):
        data.path("no-such-file")
