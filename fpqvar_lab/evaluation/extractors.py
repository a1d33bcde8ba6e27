"""Networks in whose features samples are scored, as torch-fidelity's feature extractors.

For the mini models it is the classifier of Fashion-MNIST, registered under the name
`fashion-mnist-classifier`; for colour images torch-fidelity's InceptionV3, whose weights
torch-fidelity would unpickle whatever they hold: here only one known file is let through.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from fpqvar_lab import data
from fpqvar_lab.files import sha256
from fpqvar_lab.var import load_classifier

CLASSIFIER = "fashion-mnist-classifier"
INCEPTION = "inception-v3-compat"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_LAYERS = {CLASSIFIER: ["128", "logits"], INCEPTION: ["2048", "logits_unbiased"]}


class ClassifierExtractor(FeatureExtractorBase):
    """The Fashion-MNIST classifier: uint8 (batch, 1, 28, 28) -> features and logits."""

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)
        self.classifier = load_classifier()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The names of the features that it gives."""
        return "128", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The features that torch-fidelity takes for a metric."""
        return {"isc": "logits"}.get(metric, "128")

    @staticmethod
    def can_be_compiled() -> bool:
        """Whether torch-fidelity may compile it."""
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Make images that it can be compiled with."""
        return torch.zeros(1, 1, 28, 28, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if images.dtype != torch.uint8 or images.shape[1:] != (1, 28, 28):
            found = f"{images.dtype} {tuple(images.shape)}"
            raise ValueError(f"images are {found}; expected uint8 (batch, 1, 28, 28)")
        features = self.classifier.features(images.float() / 255)
        layers = {"128": features, "logits": self.classifier.head(features)}
        return tuple(layers[name] for name in self.features_list)


if CLASSIFIER not in FEATURE_EXTRACTORS_REGISTRY:
    register_feature_extractor(CLASSIFIER, ClassifierExtractor)


@dataclass(frozen=True)
class ExtractorFile:
    """Which extractor, and where its weights lie.

    Args:
        name: `CLASSIFIER` or `INCEPTION`.
        weights: A file with InceptionV3's weights; by default it is fetched.
    """

    name: str
    weights: Path | None = None

    @property
    def sha256(self) -> str:
        """The digest of the weights; InceptionV3's is known, and its file is not read for it."""
        if self.name == INCEPTION:
            return INCEPTION_SHA256
        return sha256(data.path("models/classifier-mini.safetensors"))

    @property
    def labels_classes(self) -> bool:
        """Whether the logits are of the classes that the model is asked for."""
        return self.name == CLASSIFIER

    @property
    def channels(self) -> int:
        """The number of channels of the images that it takes."""
        return 1 if self.name == CLASSIFIER else 3


@lru_cache(maxsize=1)
def load_extractor(file: ExtractorFile, device: str = "cpu") -> FeatureExtractorBase:
    """Load an extractor, ready to use.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: No file is given, and none can be fetched.
        ValueError: The file's sha256 is not that of torch-fidelity's own weights.
    """
    more: dict[str, Any] = {}
    if file.name == INCEPTION:
        more["feature_extractor_weights_path"] = io.BytesIO(_inception_bytes(file.weights))
    extractor = create_feature_extractor(
        file.name, _LAYERS[file.name], cuda=False, verbose=False, **more
    )
    return extractor.to(device)


def _inception_bytes(file: Path | None) -> bytes:
    """The checked weights themselves, so that nothing can change between check and use."""
    if file is None:
        file = _fetch()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != INCEPTION_SHA256:
        raise ValueError(
            f"{file}: refused, its sha256 is {found}; InceptionV3's weights for FID "
            f"({URL_INCEPTION_V3.rpartition('/')[2]}) have {INCEPTION_SHA256}"
        )
    return content


def _fetch() -> Path:
    import pooch

    try:
        return Path(pooch.retrieve(URL_INCEPTION_V3, known_hash=f"sha256:{INCEPTION_SHA256}"))
    except OSError as error:
        raise OSError(
            f"InceptionV3's weights cannot be fetched ({type(error).__name__}); get them elsewhere "
            f"({URL_INCEPTION_V3}) and give the file with --inception-weights"
        ) from error


@torch.inference_mode()
def features_and_logits(
    extractor: FeatureExtractorBase, images: Tensor, batch: int = 100
) -> tuple[Tensor, Tensor]:
    """Compute float32 features (n, size) and logits (n, classes) of uint8 images, on the CPU."""
    device = next(extractor.parameters()).device
    parts = [extractor(x.to(device)) for x in images.split(batch)]
    features, logits = zip(*parts, strict=True)
    return torch.cat(features).float().cpu(), torch.cat(logits).float().cpu()
