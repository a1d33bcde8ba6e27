"""Result files of `fpqvar-lab evaluate`: JSON with a row per recipe and all that it depends on."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpqvar_lab.evaluation.models import ModelFile
from fpqvar_lab.files import digest, write_text
from fpqvar_lab.method import find_recipe, recipe_digest

Content = dict[str, Any]
FORMAT = "fpqvar-lab evaluation 2"
FIRST_FORMAT = "fpqvar-lab evaluation 1"
_RENAMED = {
    "pictures": "images",
    "pictures_sha256": "images_sha256",
    "agreement": "classifier_accuracy",
}
"""Keys that files of the first format have under another name."""


def read_results(file: Path | str) -> Content:
    """Read the content of a result file, with the present names where it was written earlier.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, FIRST_FORMAT):
        raise ValueError(f"{path}: not a result file of fpqvar-lab evaluate")
    return content if content["format"] == FORMAT else _renamed(content)


def _renamed(content: Content) -> Content:
    """A file of the first format with the keys of this one."""

    def rename(part: Content) -> Content:
        return {_RENAMED.get(key, key): value for key, value in part.items()}

    rows = {name: rename(row) for name, row in content["rows"].items()}
    shared = {part: rename(content[part]) for part in ("subject", "settings")}
    return {**content, "format": FORMAT, **shared, "rows": rows}


@dataclass(frozen=True)
class ResultFile:
    """A result file that rows are added to, all measured on one subject with one set of settings.

    Args:
        path: The file, which need not exist.
        head: What all rows share.
    """

    path: Path
    head: Content

    def rows(self) -> dict[str, Content]:
        """Read the rows so far.

        Raises:
            ValueError: The file's rows were measured on another subject or with other settings.
        """
        if not self.path.exists():
            return {}
        content = read_results(self.path)
        for part, expected in self.head.items():
            for key, value in expected.items():
                found = content.get(part, {}).get(key)
                if found != value:
                    raise ValueError(
                        f"{self.path}: its rows have {part} {key} {found}, not {value}; "
                        "choose another file for --out"
                    )
        return content["rows"]

    def add(self, name: str, row: Content, code: dict[str, str]) -> None:
        """Put a row in place; rows that other processes have added meanwhile stay."""
        known = read_results(self.path) if self.path.exists() else {"rows": {}, "code": {}}
        rows = known["rows"] | {name: row}
        used = {row["provenance"]["code"] for row in rows.values()}
        codes = known["code"] | {digest(code): code}
        content = {
            "format": FORMAT,
            **self.head,
            "rows": rows,
            "code": {key: value for key, value in codes.items() if key in used},
        }
        write_text(self.path, _to_text(content))


def _to_text(content: Content) -> str:
    """JSON with seven significant digits, and each list of numbers in one line."""
    text = json.dumps(_rounded(content), indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda list_: " ".join(list_[0].split()), text) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def stale(file: Path | str, weights: dict[str, Path]) -> list[str]:
    """List what a result file claims to measure and does not any more; empty where all holds.

    Args:
        file: The result file.
        weights: Files by the name that the file's subject has for their digest.
    """
    content = read_results(file)
    found = [
        f"{Path(file).name}: {name} {path.name} has changed"
        for name, path in weights.items()
        if content["subject"][name] != ModelFile.of(path, quantized=False).sha256
    ]
    for name, row in content["rows"].items():
        recorded = row["provenance"].get("recipe_sha256")
        try:
            now = None if recorded is None else recipe_digest(find_recipe(name))
        except ValueError:
            now = "missing"
        if now != recorded:
            found.append(f"{Path(file).name}: recipe {name} has changed")
    return found
