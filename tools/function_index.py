"""Sphinx extension: which pages use which functions and classes of the package, linked both ways.

A page ends with a folded list of what its code cells use, and on the API pages each function and
class names the pages that use it. Both are read off the cells, so there is nothing to maintain.
Names are those under which users import: `fpqvar_lab.formats.by_name`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api_pages import PACKAGE, modules, page_of, public_names
from build_book import find_pages, read_page


def used_names(code: str) -> set[str]:
    """The full names of the package's documented functions and classes that a page's code uses.

    Raises:
        SyntaxError: `code` is not Python.
    """
    tree = ast.parse(code)
    imported = dict(_imports(tree))
    chains = (_chain(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute))
    objects = (_resolve(imported[chain[0]], chain[1:]) for chain in chains if chain[0] in imported)
    return {name for found in objects if (name := _documented_name(found))}


def _imports(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """What each name that the code imports from the package stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                yield alias.asname or alias.name, _member(module, alias.name)
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name):
                    whole = importlib.import_module(alias.name if alias.asname else PACKAGE)
                    yield alias.asname or PACKAGE, whole


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _member(module: Any, name: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    return importlib.import_module(f"{module.__name__}.{name}")


def _chain(node: ast.Name | ast.Attribute) -> list[str]:
    """`a.b.c` as its names; a chain that does not start with a name starts with an empty one."""
    if isinstance(node, ast.Name):
        return [node.id]
    first = _chain(node.value) if isinstance(node.value, ast.Name | ast.Attribute) else [""]
    return [*first, node.attr]


def _resolve(found: Any, attributes: list[str]) -> Any:
    for name in attributes:
        if not inspect.ismodule(found):
            break
        found = getattr(found, name, None)
    return found


def _documented_name(found: Any) -> str | None:
    """Under which name the API pages have this; None if they do not."""
    found = inspect.unwrap(found) if callable(found) else found
    if not (inspect.isfunction(found) or inspect.isclass(found)) or not found.__doc__:
        return None
    name = f"{found.__module__}.{found.__qualname__}"
    private = any(part.startswith(("_", "<")) for part in name.split("."))
    return None if private or not _is_ours(name) else public_names().get(name, name)


def index_pages(root: Path) -> dict[str, list[str]]:
    """For each executable page of the book under `root`, by its name in Sphinx, what it uses."""
    return {
        page.relative_to(root / "book").with_suffix("").as_posix(): sorted(
            used_names("\n".join(c.source for c in read_page(page).cells if c.cell_type == "code"))
        )
        for page in find_pages(root)
    }


def pages_by_name(index: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same index from the other side."""
    names = sorted({name for used in index.values() for name in used})
    return {name: [page for page, used in index.items() if name in used] for name in names}


def _list_of_functions(names: list[str]) -> str:
    holders = sorted({_holder(name) for name in names})
    lines = [
        f"- {{doc}}`{holder} </{page_of(holder)}>`: "
        + ", ".join(f"{{py:obj}}`~{name}`" for name in names if _holder(name) == holder)
        for holder in holders
    ]
    head = "\n\n:::{dropdown} Functions and classes used on this page\n"
    return head + "\n".join(lines) + "\n:::\n"


def _holder(name: str) -> str:
    """The door or the module that a name is imported from."""
    return max((m for m in modules() if name.startswith(f"{m}.")), key=len)


def setup(app: Any) -> dict[str, Any]:
    index: dict[str, list[str]] = {}
    pages: dict[str, list[str]] = {}

    def read(app: Any) -> None:
        index.update(index_pages(Path(app.srcdir).parent))
        pages.update(pages_by_name(index))

    def list_functions(app: Any, page: str, source: list[str]) -> None:
        if names := index.get(page):
            source[0] += _list_of_functions(names)

    def list_pages(
        app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]
    ) -> None:
        if name in pages:
            links = ", ".join(f":doc:`/{page}`" for page in pages[name])
            lines += ["", f"*Used in* {links}.", ""]

    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", read)
    app.connect("source-read", list_functions)
    app.connect("autodoc-process-docstring", list_pages, priority=900)  # after Google's sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
