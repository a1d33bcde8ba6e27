"""What an evaluation is about: the model and the images, the settings, and the rows to measure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fpqvar_lab.evaluation.extractors import ExtractorFile
from fpqvar_lab.evaluation.images import ImageSet
from fpqvar_lab.evaluation.models import CodecFile, ExecutionConfig, ModelFile
from fpqvar_lab.evaluation.tasks import Guidance
from fpqvar_lab.method import Recipe, find_recipe, recipe_digest


@dataclass(frozen=True)
class Subject:
    """What is evaluated, and against what.

    Args:
        name: The model's name, for people.
        classes: The number of classes that the model knows.
        weights: The original transformer's file; None where only quantized models are given.
        vqvae: The VQVAE's file.
        extractor: The network in whose features samples are scored.
        reference: Real images or their statistics; None for the test set of Fashion-MNIST.
        images: Labelled images for teacher forcing and reconstruction; None for none.
    """

    name: str
    classes: int
    weights: Path | None
    vqvae: CodecFile
    extractor: ExtractorFile
    reference: Path | None = None
    images: ImageSet | None = None


@dataclass(frozen=True)
class Settings:
    """How it is evaluated.

    Args:
        samples: The number of samples of each recipe, at least 20.
        shard: The number of samples drawn in one piece; the samples themselves depend on it.
        images: The number of real images for teacher forcing.
        guidance: The settings of sampling.
        execution: Device, dtype, batch and threads of every task.
    """

    samples: int = 10_000
    shard: int = 500
    images: int = 2000
    guidance: Guidance = field(default_factory=Guidance)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        if self.samples < 20:
            raise ValueError(f"samples {self.samples}; use at least 20")


@dataclass(frozen=True)
class Row:
    """One row to be measured: a recipe, a quantized model, or real images.

    Args:
        name: The row's name in the result file; `real` and `reconstruction` stand for images.
        recipe: The recipe that the original is quantized with, if any.
        quantized: The file of a quantized model, if any.
    """

    name: str
    recipe: Recipe | None = None
    quantized: Path | None = None

    @property
    def source(self) -> dict[str, str]:
        """The digest of what the row is made from, besides what all rows share."""
        if self.recipe is not None:
            return {"recipe_sha256": recipe_digest(self.recipe)}
        if self.quantized is not None:
            return {"quantized_sha256": ModelFile.of(self.quantized, quantized=True).sha256}
        return {}


REAL, RECONSTRUCTION = Row("real"), Row("reconstruction")
IMAGE_ROWS = (REAL, RECONSTRUCTION)


def choose_rows(recipes: Sequence[str], quantized: Sequence[Path], *, images: bool) -> list[Row]:
    """Make the rows that are asked for.

    Args:
        recipes: Names of recipes, or TOML files with one.
        quantized: Files of quantized models.
        images: Whether the rows of real images and of their reconstructions come first.

    Raises:
        ValueError: There is no such recipe, or two rows have one name.
    """
    rows = list(IMAGE_ROWS) if images else []
    found = [find_recipe(name) for name in recipes]
    rows += [Row(recipe.name, recipe=recipe) for recipe in found]
    rows += [Row(path.stem, quantized=path) for path in quantized]
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two rows are named {name!r}")
    return rows
