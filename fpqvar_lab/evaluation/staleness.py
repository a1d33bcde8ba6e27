"""What a result file claims to measure and does not any more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fpqvar_lab.evaluation.dependencies import Kind, arithmetic
from fpqvar_lab.evaluation.models import ModelFile
from fpqvar_lab.evaluation.results import Content, ResultFile, read_results
from fpqvar_lab.evaluation.subject import IMAGE_ROWS, Row
from fpqvar_lab.method import RECIPES, Recipe, recipe_digest

Status = Literal["measured", "confirmed", "code has changed", "recipe has changed"]


@dataclass(frozen=True)
class RowState:
    """Whether the numbers of a row are still those of the present code.

    Args:
        status: `measured` by the present code; `confirmed`, which is to say that the present code
            was seen to give the row's numbers again; or what has changed since.
        modules: The modules that compute the row's numbers.
        changed: Those of them that have changed since; all of them where the row is older than
            digests that can be compared.
    """

    status: Status
    modules: tuple[str, ...]
    changed: tuple[str, ...] = ()

    @property
    def is_stale(self) -> bool:
        """Whether the row must be measured or confirmed again."""
        return self.status not in ("measured", "confirmed")

    def __str__(self) -> str:
        if self.status != "code has changed":
            return self.status
        if self.changed == self.modules:
            return "code has changed since: all modules; not confirmed"
        return f"code has changed since: {', '.join(self.changed)}; not confirmed"


def row_states(content: Content, recipes: Mapping[str, Recipe] = RECIPES) -> dict[str, RowState]:
    """Find the state of every row of a result file.

    Args:
        content: The file as `read_results` gives it.
        recipes: The recipes by name that rows can be of.
    """
    return {
        name: _state(
            row["provenance"], _kind(name, row, recipes), recipes.get(name), content["code"]
        )
        for name, row in content["rows"].items()
    }


def _state(
    provenance: Content, kind: Kind, recipe: Recipe | None, codes: dict[str, dict[str, str]]
) -> RowState:
    now = arithmetic(kind)
    modules = tuple(now)
    recorded = provenance.get("recipe_sha256")
    if recorded is not None and (recipe is None or recipe_digest(recipe) != recorded):
        return RowState("recipe has changed", modules)
    known: list[tuple[Status, Content]] = [("measured", provenance)]
    if "confirmed" in provenance:
        known.append(("confirmed", provenance["confirmed"]))
    changed = modules
    for status, record in known:
        then = codes.get(record["code"], {})
        changed = tuple(module for module in modules if then.get(module) != now[module])
        if not changed:
            return RowState(status, modules)
    return RowState("code has changed", modules, changed)


def _kind(name: str, row: Content, recipes: Mapping[str, Recipe]) -> Kind:
    if name in [row.name for row in IMAGE_ROWS]:
        return "images"
    if "quantized_sha256" in row["provenance"]:
        return "model"
    return "model" if name in recipes and not recipes[name].needs_calibration else "learned"


def file_states(file: ResultFile, rows: Sequence[Row]) -> dict[str, RowState]:
    """Find the state of every row of a result file, if there is one.

    Args:
        file: The result file.
        rows: Rows whose recipes may be others than the named ones.
    """
    if not file.path.exists():
        return {}
    own = {row.name: row.recipe for row in rows if row.recipe is not None}
    return row_states(read_results(file.path), {**RECIPES, **own})


def stale(file: Path | str, weights: dict[str, Path]) -> list[str]:
    """List what a result file claims to measure and does not any more; empty where all holds.

    Args:
        file: The result file.
        weights: Files by the name that the file's subject has for their digest.
    """
    content, name = read_results(file), Path(file).name
    found = [
        f"{name}: {part} {path.name} has changed"
        for part, path in weights.items()
        if content["subject"][part] != ModelFile.of(path, quantized=False).sha256
    ]
    for row, state in row_states(content).items():
        if state.status == "recipe has changed":
            found.append(f"{name}: recipe {row} has changed")
        elif state.is_stale:
            found.append(f"{name}: {row}: {state}")
    return found
