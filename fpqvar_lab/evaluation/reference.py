"""What samples are compared with: statistics and features of real images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fpqvar_lab.evaluation.extractors import ExtractorFile, features_and_logits, load_extractor
from fpqvar_lab.evaluation.images import ImageSet, read_npz
from fpqvar_lab.evaluation.metrics import Moments, Vector, merged
from fpqvar_lab.files import sha256

FEATURES_KEPT = 10_000
"""So many images and samples at most count for precision and recall, as in OpenAI's evaluator."""


@dataclass(frozen=True)
class Reference:
    """The real side of FID, precision and recall.

    Args:
        name: The reference's name, for people.
        sha256: The digest of what it was made from.
        mean: (features,) float64.
        covariance: (features, features) float64.
        features: (up to `FEATURES_KEPT`, features) float32; None where only statistics are given,
            and then there is neither precision nor recall.
    """

    name: str
    sha256: str
    mean: Vector
    covariance: Vector
    features: Tensor | None


def read_reference(
    path: Path | None, extractor: ExtractorFile, side: int, *, device: str = "cpu", batch: int = 100
) -> Reference:
    """Compute the statistics of real images, or read them.

    Args:
        path: A path as for `ImageSet`; an `.npz` file may hold `mu` and `sigma`, which then count
            for FID, beside or instead of images, as OpenAI's reference batches do. Those were made
            with TensorFlow's InceptionV3, which torch-fidelity's follows to about three digits.
        extractor: The network in whose features the statistics are taken.
        side: The side of every image, in pixels.
        device: The device that the extractor runs on.
        batch: The number of images that are processed together.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
        ValueError: The file holds something else, or statistics of other features.
    """
    if path is not None and not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    arrays = read_npz(path) if path is not None and path.is_file() else {}
    statistics = _given_statistics(path, arrays, extractor) if path is not None else None
    if path is not None and statistics is not None and "arr_0" not in arrays:
        return Reference(path.name, sha256(path), *statistics, None)
    images = ImageSet(path, side, 1 if extractor.channels == 1 else 3)
    moments, features = _extract(images, extractor, device, batch)
    name = "Fashion-MNIST, test set" if path is None else path.name
    if statistics is None:
        statistics = moments.mean, moments.covariance
    return Reference(name, images.sha256, *statistics, features)


def _given_statistics(
    path: Path, arrays: dict[str, np.ndarray], extractor: ExtractorFile
) -> tuple[Vector, Vector] | None:
    if not {"mu", "sigma"} <= arrays.keys():
        return None
    mean, covariance = (arrays[key].astype(np.float64) for key in ("mu", "sigma"))
    size = 128 if extractor.channels == 1 else 2048
    if mean.shape != (size,) or covariance.shape != (size, size):
        found = f"{mean.shape} and {covariance.shape}"
        raise ValueError(
            f"{path}: mu and sigma are {found}; {extractor.name} gives {size} features"
        )
    return mean, covariance


def _extract(
    images: ImageSet, file: ExtractorFile, device: str, batch: int
) -> tuple[Moments, Tensor]:
    extractor = load_extractor(file, device)
    stride = -(-len(images) // FEATURES_KEPT)  # so that those kept are spread over the classes
    moments, kept, seen = [], [], 0
    for x in images.batches(batch):
        features, _ = features_and_logits(extractor, x, batch)
        moments.append(Moments.of(features))
        kept.append(features[-seen % stride :: stride])
        seen += len(x)
    return merged(moments), torch.cat(kept)
