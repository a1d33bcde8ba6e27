"""Collects the pages of the book for ``pytest --nbmake book``.

A page whose stored result is still good (tools/build_book.py) is not executed again, so that the
tests and the rendered book share one execution.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest
from build_book import get_results, has_result, is_page, open_results, read_page, store_result
from nbmake.nb_result import NotebookResult
from nbmake.nb_run import NotebookRun
from nbmake.pytest_items import NotebookFailedException, NotebookFile, NotebookItem

CELL_TIMEOUT_SECONDS = 600


class Page(NotebookFile):
    def collect(self) -> Iterator[PageItem]:
        yield PageItem.from_parent(self, filename=str(self.path))


class PageItem(NotebookItem):
    """One page of the book; passes if all its cells run, or have run already."""

    def runtest(self) -> None:
        if has_result(get_results(self.config.rootpath), self.path):
            self.user_properties.append(("unchanged", True))
            return
        notebook, started = read_page(self.path), time.perf_counter()
        with TemporaryDirectory() as folder:
            copy = Path(folder, f"{self.path.stem}.ipynb")
            nbformat.write(notebook, copy)
            result = NotebookRun(copy, CELL_TIMEOUT_SECONDS).execute()
        if result.error is not None:
            raise NotebookFailedException(result)
        seconds = time.perf_counter() - started
        notebook.metadata.language_info = result.nb.metadata.language_info
        for cell, executed in zip(notebook.cells, result.nb.cells, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        store_result(self.config.rootpath, self.path, notebook, seconds)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if not isinstance(excinfo.value, NotebookFailedException):
            return pytest.Item.repr_failure(self, excinfo)
        result: NotebookResult = excinfo.value.args[0]
        cell = result.error.failing_cell_index
        line = result.nb.metadata.source_map[cell]
        return f"{self.nodeid.split('::')[0]}, line {line}, cell {cell + 1}\n{result.error.trace}"

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.path.name


def pytest_configure(config: pytest.Config) -> None:
    if config.option.nbmake and not hasattr(config, "workerinput"):
        open_results(config.rootpath)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Page | None:
    if parent.config.option.nbmake and file_path.suffix == ".md" and is_page(file_path):
        return Page.from_parent(parent, path=file_path)
    return None


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    if report.when == "call" and ("unchanged", True) in report.user_properties:
        return "unchanged", "=", "UNCHANGED"
    return None
