"""The networks behind the scores, and that no unknown file is unpickled."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as inception
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from fpqvar_lab.evaluation import (
    CLASSIFIER,
    INCEPTION,
    ExtractorFile,
    extractors,
    features_and_logits,
    load_extractor,
)
from fpqvar_lab.var import load_classifier


@pytest.fixture(autouse=True)
def _no_extractor_is_remembered():
    load_extractor.cache_clear()


def test_the_classifier_is_an_extractor_of_torch_fidelity():
    """Oracle: the classifier itself."""
    images = torch.randint(256, (7, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    features, logits = features_and_logits(load_extractor(ExtractorFile(CLASSIFIER)), images, 3)
    classifier = load_classifier()
    with torch.inference_mode():
        torch.testing.assert_close(features, classifier.features(images / 255))
        torch.testing.assert_close(logits, classifier(images / 255))
    assert CLASSIFIER in FEATURE_EXTRACTORS_REGISTRY


def test_the_classifier_refuses_other_images():
    extractor = load_extractor(ExtractorFile(CLASSIFIER))
    with pytest.raises(ValueError, match=r"torch.float32 \(1, 1, 28, 28\); expected uint8"):
        extractor(torch.zeros(1, 1, 28, 28))


def test_without_a_network_the_error_says_what_to_give(monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("name resolution")

    monkeypatch.setattr("pooch.retrieve", offline)
    with pytest.raises(
        OSError, match=r"cannot be fetched \(ConnectionError\).*--inception-weights"
    ):
        load_extractor(ExtractorFile(INCEPTION))


class _Trap:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_file_of_another_digest_is_refused_before_it_is_unpickled(tmp_path):
    trap, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    trap.write_bytes(pickle.dumps(_Trap(sprung)))
    with pytest.raises(ValueError, match="refused, its sha256 is"):
        load_extractor(ExtractorFile(INCEPTION, trap))
    assert not sprung.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such file"):
        load_extractor(ExtractorFile(INCEPTION, tmp_path / "none.pth"))


def test_the_expected_digest_begins_as_torch_hubs_file_name_says():
    assert extractors.INCEPTION_SHA256.startswith("6726825d")
    assert "6726825d" in inception.URL_INCEPTION_V3


def test_inception_loads_from_a_file_of_the_expected_digest(tmp_path, monkeypatch):
    """With random weights, whose digest is put in place of the real one's."""
    with monkeypatch.context() as patch:
        kind = inception.FeatureExtractorInceptionV3
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(kind, "load_state_dict", lambda *_: None)
        untrained = kind(INCEPTION, ["2048"], feature_extractor_weights_path=None)
    file = tmp_path / "weights.pth"
    torch.save(untrained.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", digest)
    extractor = load_extractor(ExtractorFile(INCEPTION, file))
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    features, logits = features_and_logits(extractor, images)
    assert features.shape == (2, 2048)
    assert logits.shape == (2, 1008)
    assert torch.equal(extractor.fc.weight, untrained.fc.weight)
