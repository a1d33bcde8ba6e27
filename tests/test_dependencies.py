"""Which modules count for a row: those that run when it is measured, as seen while they run."""

import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch

from fpqvar_lab import data
from fpqvar_lab.evaluation import (
    CLASSIFIER,
    CodecFile,
    ExecutionConfig,
    ExtractorFile,
    Guidance,
    ImageSet,
    ImagesTask,
    ModelFile,
    Part,
    SampleTask,
    arithmetic,
    dependencies,
    divergence,
)
from fpqvar_lab.evaluation.dependencies import BOOKKEEPING, LEARNING, MODEL
from fpqvar_lab.method import calibrate_and_quantize, load_quantized, save_quantized
from fpqvar_lab.var import VAR, VQVAE, VARConfig, VQVAEConfig, save_model

CONFIG = replace(VARConfig.preset("mini"), depth=1, width=128, heads=2, vocabulary=32)
VQVAE_CONFIG = replace(VQVAEConfig.preset("mini"), channel_multipliers=(1, 1, 1), vocabulary=32)
UNCALIBRATED = ("int4-litevar", "nvfp4", "mxfp4", "fp4-dfq-ght")


class Watch:
    """Collects the names of this package's modules whose functions are called."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._files: set[str] = set()

    def __enter__(self) -> "Watch":
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        for file in self._files:
            path = Path(file)
            if path.is_relative_to(dependencies.PACKAGE):
                inner = path.relative_to(dependencies.PACKAGE).with_suffix("")
                self.names.add(".".join(inner.parts))

    def _called(self, frame, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            self._files.add(frame.f_code.co_filename)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    save_model(VAR(CONFIG), folder / "var.safetensors", {})
    save_model(VQVAE(VQVAE_CONFIG), folder / "vqvae.safetensors", {})
    return folder


def test_a_recipe_without_calibration_runs_no_other_module_than_those_that_count(files):
    torch.manual_seed(0)
    original, vqvae = VAR(CONFIG).eval(), VQVAE(VQVAE_CONFIG).eval()
    images, labels = (x[:2] for x in data.fashion_mnist("test"))
    config = ExecutionConfig(batch=2, threads=1)
    codec, classifier = CodecFile(files / "vqvae.safetensors"), ExtractorFile(CLASSIFIER)
    path = files / "quantized.safetensors"
    with torch.compiler.set_stance("force_eager"), Watch() as watch:
        for name in UNCALIBRATED:
            model, _ = calibrate_and_quantize(original, vqvae, name, progress=False)
            save_quantized(model, path)
            divergence(load_quantized(path), original, vqvae, images, labels)
        file = ModelFile.of(path, quantized=True)
        part = Part(0, 2, 0)
        SampleTask(file, codec, classifier, Guidance(), config, part, 2).run()
    assert "transforms.hadamard" in watch.names
    assert watch.names <= dependencies.code_digests().keys()
    counted = {n for n in watch.names if not any(fnmatchcase(n, p) for p in BOOKKEEPING)}
    assert counted <= arithmetic("model").keys()


def test_images_run_no_other_module_than_those_that_count(files):
    images = ImageSet(None, 28, 1)
    codec, classifier = CodecFile(files / "vqvae.safetensors"), ExtractorFile(CLASSIFIER)
    config = ExecutionConfig(batch=2, threads=1)
    with Watch() as watch:
        ImagesTask(images, 10, codec, True, classifier, config, Part(0, 4, 0), 4).run()
    assert "var.vqvae" in watch.names
    counted = {n for n in watch.names if not any(fnmatchcase(n, p) for p in BOOKKEEPING)}
    assert counted <= arithmetic("images").keys()


@pytest.mark.parametrize("pattern", [*BOOKKEEPING, *LEARNING, *MODEL])
def test_every_exception_is_of_a_module_that_there_is(pattern):
    files = dependencies.PACKAGE.rglob("*.py")
    names = [".".join(f.relative_to(dependencies.PACKAGE).with_suffix("").parts) for f in files]
    assert any(fnmatchcase(name, pattern) for name in names)


def test_a_name_from_a_room_counts_for_the_module_that_defines_it(tmp_path, monkeypatch):
    sources = {
        "__init__.py": "",
        "room/__init__.py": "from lab.room.a import f\nfrom lab.other import g as h\nK = 1",
        "room/a.py": "def f(): ...",
        "room/b.py": "def f(): ...",
        "other/__init__.py": "from lab.other.c import g",
        "other/c.py": "def g(): ...",
        "root.py": "from lab.room import f\nfrom lab import room\nroom.h()",
        "constant.py": "from lab.room import K",
        "part.py": "from lab.room import b",
    }
    for name, source in sources.items():
        (tmp_path / "lab" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lab" / name).write_text(source)
    monkeypatch.setattr(dependencies, "PACKAGE", tmp_path / "lab")

    def reached(root: str) -> list[str]:
        dependencies.code_digests.cache_clear()
        dependencies._tree.cache_clear()
        monkeypatch.setattr(dependencies, "ROOTS", (root,))
        return list(dependencies.code_digests())

    try:
        assert reached("root") == ["other.c", "room.a", "root"]
        assert reached("constant") == ["constant", "other.c", "room.__init__", "room.a"]
        assert reached("part") == ["part", "room.b"]
    finally:
        dependencies.code_digests.cache_clear()
        dependencies._tree.cache_clear()
