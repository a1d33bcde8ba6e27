"""Builds the book from pages that were executed once, and only when they had to be.

``pytest --nbmake book`` (conftest.py) executes the stale pages and stores their outputs with
``store_result``; ``python tools/build_book.py`` then renders every page from the stored outputs
and executes nothing. A stored result is good for one page, code cell by code cell, and for one
state of what every page may use: the package, the data and the pinned versions.

The same file is the book's Sphinx extension (``setup``).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from nbformat import NotebookNode
from nbformat.reader import NotJSONError

SHARED_INPUTS = ("fpqvar_lab", "data", "constraints.txt")
BOOK_INPUTS = ("book", "_config.yml", "tools")
MADE_WITH = "made_with.sha256"
STRICT = ("-n", "-W", "--keep-going", "--all")


# Pages


def find_pages(root: Path) -> list[Path]:
    """The executable pages of the book under ``root``, in the order of their names; what JupyterLab
    keeps in hidden folders is none.
    """
    book = root / "book"
    paths = [path.relative_to(book) for path in sorted(book.rglob("*.md"))]
    seen = [book / path for path in paths if not any(part.startswith(".") for part in path.parts)]
    return [path for path in seen if is_page(path)]


def is_page(path: Path) -> bool:
    return is_myst_markdown_notebook(path.read_text(encoding="utf-8"))


def read_page(path: Path) -> NotebookNode:
    """The notebook that the book makes of a page; its ``source_map`` has each cell's line."""
    text = path.read_text(encoding="utf-8")
    return read_myst_markdown_notebook(text, add_source_map=True, path=path)


# Stored results


def digest(root: Path, names: tuple[str, ...]) -> str:
    """One hash of the names and the contents of all files in these folders and files."""
    total = hashlib.sha256(f"Python {sys.version_info[:2]}".encode())
    for path in _files(root, names):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _files(root: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        for path in sorted([root / name, *(root / name).rglob("*")]):
            parts = path.relative_to(root).parts
            if path.is_file() and not any(p.startswith(".") or p == "__pycache__" for p in parts):
                yield path


def open_results(root: Path) -> JupyterCacheAbstract:
    """The stored results, emptied first if the package, the data or the pins have changed."""
    folder = _results_folder(root)
    made_with, now = folder / MADE_WITH, digest(root, SHARED_INPUTS)
    if not made_with.exists() or made_with.read_text() != now:
        shutil.rmtree(folder, ignore_errors=True)
        get_cache(folder).list_cache_records()  # creates the database, before workers share it
        made_with.write_text(now)
    return get_results(root)


def get_results(root: Path) -> JupyterCacheAbstract:
    return get_cache(_results_folder(root))


def _results_folder(root: Path) -> Path:
    return root / "_build" / ".jupyter_cache"


def has_result(results: JupyterCacheAbstract, page: Path) -> bool:
    try:
        results.merge_match_into_notebook(read_page(page))
    except (KeyError, NotJSONError):  # never executed, or killed while it was being stored
        return False
    return True


def store_result(root: Path, page: Path, notebook: NotebookNode, seconds: float) -> None:
    """Store the executed notebook of ``page``; the book that was built before is then out of date.

    Raises:
        RuntimeError: the package, the data or the pins changed since ``open_results``.
    """
    if (_results_folder(root) / MADE_WITH).read_text() != digest(root, SHARED_INPUTS):
        raise RuntimeError(f"{' or '.join(SHARED_INPUTS)} changed while pages ran; run them again")
    bundle = CacheBundleIn(notebook, str(page), data={"execution_seconds": seconds})
    _built_from(root).unlink(missing_ok=True)
    get_results(root).cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def stale_pages(root: Path) -> list[str]:
    """The pages that must be executed before the book can be built."""
    results = open_results(root)
    pages = [page for page in find_pages(root) if not has_result(results, page)]
    return [page.relative_to(root).as_posix() for page in pages]


# Building


def build(root: Path, *, always: bool) -> int:
    """Render the book with every warning an error, and return the exit status."""
    if stale := stale_pages(root):
        print(f"Not executed yet, or failing: {', '.join(stale)}.", file=sys.stderr)
        print("Execute them first: python -m pytest --nbmake book", file=sys.stderr)
        return 1
    now = digest(root, SHARED_INPUTS + BOOK_INPUTS)
    if always or not _is_built_from(root, now):
        status = _render(root)
        if status:
            return status
        _built_from(root).write_text(now)
    print(f"The book: {root / '_build' / 'html' / 'index.html'}")
    return 0


def _built_from(root: Path) -> Path:
    return root / "_build" / "built_from.sha256"


def _is_built_from(root: Path, now: str) -> bool:
    built_from, index = _built_from(root), root / "_build" / "html" / "index.html"
    return built_from.exists() and index.exists() and built_from.read_text() == now


def _render(root: Path) -> int:
    _built_from(root).unlink(missing_ok=True)
    for folder in ("html", ".doctrees", "jupyter_execute"):  # leave no trace of deleted pages
        shutil.rmtree(root / "_build" / folder, ignore_errors=True)
    results = _record_ids(root)
    jupyter_book = (sys.executable, "-c", "from jupyter_book.cli.main import main; main()")
    status = subprocess.run([*jupyter_book, "build", "book", *STRICT], cwd=root).returncode
    if not status and _record_ids(root) != results:
        print("A page changed and was executed during the build; build again.", file=sys.stderr)
        return 1
    return status


def _record_ids(root: Path) -> list[int]:
    records = get_results(root).list_cache_records()
    return sorted(record.pk for record in records)


# Sphinx extension


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", _leave_one_search_field)
    app.connect("config-inited", _follow_colour_mode_of_reader)
    app.connect("builder-inited", _add_mathjax)
    app.connect("html-page-context", _offer_notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _leave_one_search_field(app: Any, config: Any) -> None:
    """Keep the one in the sidebar; ``html_theme_options`` in _config.yml would replace them all."""
    config.html_theme_options["navbar_persistent"] = []


def _follow_colour_mode_of_reader(app: Any, config: Any) -> None:
    """Until a reader chooses; the theme reports an error where no mode is set."""
    config.html_context.setdefault("default_mode", "auto")


def _add_mathjax(app: Any) -> None:
    """Serve MathJax from the book itself: one file, which includes its fonts."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise FileNotFoundError("sphinx-mathjax-offline is not installed; run make book")
    script = Path(package.origin).parent / "static" / "mathjax" / "tex-svg-full.js"
    app.config.html_static_path.append(str(script))
    app.config.mathjax_path = script.name


def _offer_notebook(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Let the download button of an executed page offer its notebook, outputs included."""
    if tree is None or not is_page(source := Path(app.env.doc2path(page))):
        return
    results = get_results(Path(app.srcdir).parent)
    _, notebook = results.merge_match_into_notebook(read_page(source))
    del notebook.metadata["source_map"]
    download = Path(app.outdir, "_sources", f"{page}.ipynb")
    download.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, download)
    context["ipynb_source"] = f"{page}.ipynb"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the book from the executed pages.")
    parser.add_argument("--always", action="store_true", help="build even if nothing changed")
    sys.exit(build(Path.cwd(), always=parser.parse_args().always))
