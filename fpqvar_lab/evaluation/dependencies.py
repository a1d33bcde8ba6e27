"""Which modules of this package a number depends on, found by following imports.

A name that is imported from a room counts as coming from the module that defines it, not from the
whole room. Some of what is reached does arithmetic and some does not; the rule is
`BOOKKEEPING` and the exceptions after it.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from fpqvar_lab.evaluation.syntax import source_digest

PACKAGE = Path(__file__).resolve().parent.parent
ROOTS = (
    "method.ptq",
    "evaluation.tasks",
    "evaluation.metrics",
    "evaluation.scoring",
    "evaluation.reference",
    "evaluation.evaluate",
)
"""Modules that quantize, sample and score; what they import from this package counts too."""

BOOKKEEPING = (
    "files",
    "parallel",
    "method.recipes",  # a row records the digest of its recipe
    "method.report",
    "evaluation.confirmation",
    "evaluation.dependencies",
    "evaluation.evaluate",
    "evaluation.measurement",
    "evaluation.provenance",
    "evaluation.results",
    "evaluation.staleness",
    "evaluation.subject",
    "evaluation.syntax",
    "*__init__",
)
"""Modules that name, move, keep and describe numbers; all others that are reached compute them."""

LEARNING = (
    "calibration.*",
    "method.distillation",
    "method.format_search",
    "method.gptq",
    "transforms.galt",
    "transforms.smoothing",
    "var.schedule",
)
"""Modules without a part in a recipe that needs no calibration."""

MODEL = (
    "formats.*",
    "quantization.*",
    "transforms.*",
    "execution.*",
    "method.*",
    "var.transformer",
    "var.sampling",
    "evaluation.divergence",
    *LEARNING,
)
"""Modules without a part in the rows of real images and of their reconstructions."""

Kind = Literal["images", "model", "learned"]
"""What a row is of: images, a model that is only quantized, or one that is calibrated too."""
_NO_PART: dict[Kind, tuple[str, ...]] = {"images": MODEL, "model": LEARNING, "learned": ()}


@cache
def code_digests() -> dict[str, str]:
    """Compute the digest of every module that results depend on, by its name in the package."""
    found: dict[str, str] = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = source_digest(_source(name))
            waiting += _imported(name)
    return dict(sorted(found.items()))


def arithmetic(kind: Kind) -> dict[str, str]:
    """The digests of those modules that compute the numbers of a row of some kind."""
    without = (*BOOKKEEPING, *_NO_PART[kind])
    return {
        name: digest
        for name, digest in code_digests().items()
        if not any(fnmatchcase(name, pattern) for pattern in without)
    }


def _path(name: str) -> Path:
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py")


def _source(name: str) -> str:
    return _path(name).read_text(encoding="utf-8")


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_source(name))


def _is_room(name: str) -> bool:
    return _path(f"{name}.__init__" if name else "__init__").is_file()


def _inside(node: ast.ImportFrom) -> str | None:
    """The module that a statement imports from, without the package's name; None for others."""
    package, _, inner = (node.module or "").partition(".")
    return inner if package == PACKAGE.name and node.level == 0 else None


def _from_imports(name: str) -> Iterator[tuple[str, ast.alias]]:
    """Every name that a module imports from this package, with where from."""
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.ImportFrom) and (source := _inside(node)) is not None:
            for alias in node.names:
                yield source, alias


def _imported(name: str) -> set[str]:
    """The modules that define what a module imports."""
    found: set[str] = set()
    for source, alias in _from_imports(name):
        inner = f"{source}.{alias.name}" if source else alias.name
        if not _is_room(inner):
            found.add(_definer(source, alias.name))
        else:  # a whole room, of which the module names what it uses
            used = _attributes(_tree(name), alias.asname or alias.name)
            found |= {_definer(inner, attribute) for attribute in used}
    return found


def _definer(source: str, name: str) -> str:
    """The module that defines a name, which `source` may only pass on."""
    inner = f"{source}.{name}" if source else name
    if _path(inner).is_file():
        return inner
    if not _is_room(source):
        return source
    door = f"{source}.__init__" if source else "__init__"
    for origin, alias in _from_imports(door):
        if name == (alias.asname or alias.name):
            return _definer(origin, alias.name)
    return door


def _attributes(tree: ast.Module, room: str) -> set[str]:
    """The names that a module takes from a room as `room.name`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == room
    }
