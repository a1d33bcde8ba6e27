"""Sets of images in all the forms they come in, and references made of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from fpqvar_lab import data
from fpqvar_lab.evaluation import (
    CLASSIFIER,
    INCEPTION,
    ExtractorFile,
    ImageSet,
    read_reference,
    to_uint8,
)

COUNT = 30


@pytest.fixture(scope="module")
def some():
    images, labels = data.fashion_mnist("test")
    return to_uint8(images[:COUNT]), labels[:COUNT]


@pytest.fixture(scope="module")
def folder(some, tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for i, (image, label) in enumerate(zip(*some, strict=True)):
        (root / f"class{label}").mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(root / f"class{label}" / f"{i:03d}.png")
    return root


@pytest.fixture(scope="module")
def batch_file(some, tmp_path_factory):
    file = tmp_path_factory.mktemp("batch") / "images.npz"
    np.savez(file, some[0].permute(0, 2, 3, 1).numpy(), some[1].numpy())
    return file


def everything(images: ImageSet) -> torch.Tensor:
    return torch.cat(list(images.batches(7)))


def test_uint8_is_to_the_nearest_level():
    """Oracle: every level and the middle of every step, by hand."""
    levels = torch.arange(256)
    assert torch.equal(to_uint8(levels / 255), levels.to(torch.uint8))
    assert torch.equal(to_uint8((levels[:255] + 0.49) / 255), levels[:255].to(torch.uint8))
    assert torch.equal(to_uint8((levels[:255] + 0.51) / 255), levels[1:].to(torch.uint8))
    assert to_uint8(torch.tensor([-0.1, 1.1])).tolist() == [0, 255]


def test_the_shipped_test_set_is_the_default():
    images = ImageSet(None, 28, 1)
    raw = torch.cat(list(images.batches(50, 9_970, 100)))
    assert len(images) == 10_000
    assert torch.equal(raw.float() / 255, data.fashion_mnist("test")[0][9_970:])
    assert torch.equal(images.labels(10), data.fashion_mnist("test")[1])


def test_an_npz_batch_gives_its_images_and_labels(batch_file, some):
    images = ImageSet(batch_file, 28, 1)
    assert torch.equal(everything(images), some[0])
    assert torch.equal(images.labels(10), some[1])


def test_a_folder_gives_its_images_in_the_order_of_classes(folder, some):
    images = ImageSet(folder, 28, 1)
    order = some[1].argsort(stable=True)
    assert torch.equal(everything(images), some[0][order])
    assert torch.equal(images.labels(10), some[1][order])
    assert torch.equal(torch.cat(list(images.batches(4, 5, 10))), some[0][order][5:15])


def test_a_grey_folder_reads_as_colour(folder, some):
    colour = everything(ImageSet(folder, 28, 3))
    assert colour.shape == (COUNT, 3, 28, 28)
    assert torch.equal(colour[:, 2:], everything(ImageSet(folder, 28, 1)))


def test_what_does_not_fit_is_named(folder, batch_file, tmp_path):
    with pytest.raises(ValueError, match="28 x 28 pixels; expected 32 x 32"):
        everything(ImageSet(folder, 32, 1))
    with pytest.raises(ValueError, match=r"arr_0 is uint8 \(30, 28, 28, 1\)"):
        everything(ImageSet(batch_file, 28, 3))
    with pytest.raises(ValueError, match="the model has 1000 classes"):
        ImageSet(folder, 28, 1).labels(1000)
    with pytest.raises(ValueError, match="not one label below 3"):
        ImageSet(batch_file, 28, 1).labels(3)
    with pytest.raises(FileNotFoundError, match="no image"):
        everything(ImageSet(tmp_path, 28, 1))
    unlabelled, damaged = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(unlabelled, np.zeros((2, 28, 28, 1), np.uint8))
    with pytest.raises(ValueError, match="no labels"):
        ImageSet(unlabelled, 28, 1).labels(10)
    damaged.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"not an \.npz file of arrays"):
        everything(ImageSet(damaged, 28, 1))
    np.save(damaged.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ValueError, match=r"not an \.npz file of arrays"):
        everything(ImageSet(damaged.with_suffix(".npy"), 28, 1))


def test_an_npz_with_a_pickled_object_is_refused(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"not an \.npz file of arrays"):
        everything(ImageSet(file, 28, 1))


def test_folder_batch_and_statistics_are_one_reference(folder, batch_file, tmp_path):
    classifier = ExtractorFile(CLASSIFIER)
    of_batch = read_reference(batch_file, classifier, 28)
    of_folder = read_reference(folder, classifier, 28)
    np.testing.assert_allclose(of_folder.mean, of_batch.mean, rtol=1e-6)
    np.testing.assert_allclose(of_folder.covariance, of_batch.covariance, rtol=1e-4, atol=1e-6)
    assert of_batch.features.shape == (COUNT, 128)
    statistics = tmp_path / "statistics.npz"
    np.savez(statistics, mu=of_batch.mean, sigma=of_batch.covariance)
    of_statistics = read_reference(statistics, classifier, 28)
    assert np.array_equal(of_statistics.covariance, of_batch.covariance)
    assert of_statistics.features is None
    assert len({of_batch.sha256, of_folder.sha256, of_statistics.sha256}) == 3


def test_statistics_in_a_batch_count_and_its_images_give_the_features(some, tmp_path):
    """OpenAI's reference batches: `mu` and `sigma` are of more images than `arr_0`."""
    file = tmp_path / "reference.npz"
    images = some[0].permute(0, 2, 3, 1).numpy()
    np.savez(file, arr_0=images, mu=np.ones(128), sigma=np.eye(128))
    found = read_reference(file, ExtractorFile(CLASSIFIER), 28)
    assert np.array_equal(found.mean, np.ones(128))
    assert found.features.shape == (COUNT, 128)


def test_statistics_of_other_features_are_refused(tmp_path):
    file = tmp_path / "reference.npz"
    np.savez(file, mu=np.ones(128), sigma=np.eye(128))
    with pytest.raises(ValueError, match="inception-v3-compat gives 2048 features"):
        read_reference(file, ExtractorFile(INCEPTION), 256)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_reference(tmp_path / "none", ExtractorFile(INCEPTION), 256)
