"""Result files of `fpqvar-lab evaluate`: JSON with a row per recipe and all that it depends on."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpqvar_lab.files import digest, write_text

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
    """A file of the first format with the keys of this one.

    Its digests of code were made in another way and are kept apart from those of today.
    """

    def rename(part: Content) -> Content:
        return {_RENAMED.get(key, key): value for key, value in part.items()}

    return {
        "format": FORMAT,
        **{part: rename(content[part]) for part in ("subject", "settings")},
        "rows": {name: rename(row) for name, row in content["rows"].items()},
        "code": {},
        "code_of_first_edition": content["code"],
    }


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
        """Put a row in place; rows that other processes have added meanwhile stay.

        Args:
            name: The name of the row.
            row: What was measured; its provenance has the digest of `code`.
            code: The digests of the modules that measured it.
        """
        known = read_results(self.path) if self.path.exists() else {"rows": {}}
        rows = known["rows"] | {name: row}
        used = {key for row in rows.values() for key in _codes(row["provenance"])}
        tables = {"code": known.get("code", {}) | {digest(code): code}}
        if old := known.get("code_of_first_edition"):
            tables["code_of_first_edition"] = old
        content = {"format": FORMAT, **self.head, "rows": rows}
        for part, table in tables.items():
            content[part] = {key: value for key, value in table.items() if key in used}
        write_text(self.path, _to_text(content))

    def confirm(self, name: str, record: Content, code: dict[str, str]) -> None:
        """Record that the present code gives the numbers of a row."""
        row = read_results(self.path)["rows"][name]
        provenance = row["provenance"] | {"confirmed": record}
        self.add(name, row | {"provenance": provenance}, code)


def _codes(provenance: Content) -> list[str]:
    """The keys of the digests of code that measured a row, and that confirmed it."""
    confirmed = provenance.get("confirmed")
    return [provenance["code"], *([confirmed["code"]] if confirmed else [])]


def _to_text(content: Content) -> str:
    """JSON with seven significant digits, and each list of numbers in one line."""
    text = json.dumps(rounded(content), indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda list_: " ".join(list_[0].split()), text) + "\n"


def rounded(value: Any) -> Any:
    """Round every float in a JSON value to the seven digits that a result file keeps."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value
