"""The book's machinery, driven on a small book: what is executed, when, and what a failure does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from build_book import SHARED_INPUTS, digest, find_pages, read_page, stale_pages

ROOT = Path(__file__).parent.parent

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---
"""
PAGE = HEADER + "# Page\n\nProse.\n\n```{code-cell} ipython3\n%s\n```\n"

CONFIG = """
execute: {execute_notebooks: cache}
sphinx: {local_extensions: {build_book: tools}}
"""


class SmallBook:
    """Two pages, a one-line package, a data file and pins, beside this project's own machinery."""

    def __init__(self, root: Path):
        self.root = root

    def create(self) -> None:
        for name in ("conftest.py", "pyproject.toml", "tools/build_book.py"):
            self.write(name, (ROOT / name).read_text())
        self.write("_config.yml", CONFIG)
        self.write("constraints.txt", "torch==1\n")
        self.write("data/numbers.txt", "1\n")
        self.write("fpqvar_lab/__init__.py", "VALUE = 1\n")
        self.write("book/_toc.yml", "{format: jb-book, root: one, chapters: [{file: two}]}")
        self.write("book/one.md", PAGE % "import fpqvar_lab\nprint('value', fpqvar_lab.VALUE)")
        self.write("book/two.md", PAGE % "2 + 2")

    def copy(self, root: Path) -> "SmallBook":
        shutil.copytree(self.root, root)
        return SmallBook(root)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def append(self, name: str, text: str) -> None:
        self.write(name, (self.root / name).read_text() + text)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.root, env=environment, text=True, capture_output=True
        )

    def execute(self, *options: str) -> dict[str, str]:
        """What became of each page: PASSED, UNCHANGED or FAILED."""
        lines = self.run("-m", "pytest", "--nbmake", "book", "-v", *options).stdout.splitlines()
        words = [line.split() for line in lines if line.startswith("book/")]
        return {word[0].split("::")[0]: word[1] for word in words}

    def build(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("tools/build_book.py", *options)

    def html(self, page: str) -> str:
        return (self.root / "_build" / "html" / f"{page}.html").read_text()


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    book = SmallBook(tmp_path_factory.mktemp("small book"))
    book.create()
    assert book.execute() == {"book/one.md": "PASSED", "book/two.md": "PASSED"}
    return book


@pytest.fixture
def book(executed: SmallBook, tmp_path: Path) -> SmallBook:
    return executed.copy(tmp_path / "a copy")


@pytest.fixture(scope="module")
def built(executed: SmallBook, tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    book = executed.copy(tmp_path_factory.mktemp("built") / "small book")
    assert book.build().returncode == 0
    return book


@pytest.mark.parametrize(
    "changed", ["fpqvar_lab/__init__.py", "data/numbers.txt", "constraints.txt"]
)
def test_every_page_is_stale_when_an_input_of_all_pages_changes(book, changed):
    assert stale_pages(book.root) == []
    book.append(changed, "# changed\n")
    assert stale_pages(book.root) == ["book/one.md", "book/two.md"]


def test_every_page_is_stale_when_the_package_gains_loses_or_renames_a_file(book):
    package = book.root / "fpqvar_lab"
    digests = [digest(book.root, SHARED_INPUTS)]
    for change in (
        lambda: (package / "new.py").touch(),
        lambda: (package / "new.py").rename(package / "newer.py"),
        lambda: (package / "newer.py").unlink(),
    ):
        change()
        digests.append(digest(book.root, SHARED_INPUTS))
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def test_what_jupyterlab_keeps_in_a_hidden_folder_is_no_page(tmp_path):
    for name in ("book/page.md", "book/part/.ipynb_checkpoints/page-checkpoint.md"):
        SmallBook(tmp_path).write(name, PAGE % "1")
    assert find_pages(tmp_path) == [tmp_path / "book" / "page.md"]


def test_only_the_page_whose_code_changes_is_executed_again(book):
    book.write("book/two.md", PAGE % "2 + 3")
    assert book.execute() == {"book/one.md": "UNCHANGED", "book/two.md": "PASSED"}


def test_changed_prose_is_rendered_but_not_executed(book):
    book.append("book/two.md", "\nAn afterthought.\n")
    assert stale_pages(book.root) == []
    assert book.build().returncode == 0
    assert "An afterthought." in book.html("two")


def test_the_book_shows_what_the_package_now_computes(built, tmp_path):
    book = built.copy(tmp_path / "a copy")
    assert "value 1" in book.html("one")
    book.write("fpqvar_lab/__init__.py", "VALUE = 2\n")
    stale = book.build()
    assert stale.returncode == 1
    assert "book/one.md" in stale.stderr
    book.execute()
    assert book.build().returncode == 0
    assert "value 2" in book.html("one")


def test_the_book_is_not_rendered_again_when_nothing_changed(built):
    build = built.build()
    assert build.stdout == f"The book: {built.root / '_build' / 'html' / 'index.html'}\n"


def test_a_rendered_page_offers_its_notebook_with_outputs(built):
    assert "_sources/one.ipynb" in built.html("one")
    notebook = jupytext.read(built.root / "_build" / "html" / "_sources" / "one.ipynb")
    assert notebook.cells[1].outputs[0].text == "value 1\n"


def test_a_failing_page_fails_every_time_and_the_failure_names_page_and_line(book):
    book.write("book/two.md", PAGE % "1 / 0")
    for _ in range(2):
        run = book.run("-m", "pytest", "--nbmake", "book")
        assert run.returncode == 1
        assert "book/two.md, line 14, cell 2" in run.stdout
        assert "ZeroDivisionError" in run.stdout
        assert book.build().returncode == 1


def test_a_warning_fails_the_build_every_time(book):
    book.append("book/two.md", "\n{ref}`nowhere`\n")
    for _ in range(2):
        build = book.build()
        assert build.returncode == 1
        assert "nowhere" in build.stderr


def test_a_kill_loses_only_the_page_that_was_running(book):
    book.append("fpqvar_lab/__init__.py", "# changed\n")
    book.write("book/two.md", PAGE % "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    assert book.run("-m", "pytest", "--nbmake", "book").returncode < 0
    assert stale_pages(book.root) == ["book/two.md"]


def test_a_result_that_was_cut_short_while_stored_is_made_again(book):
    stored = next(path for path in book.root.rglob("base.ipynb") if "value" in path.read_text())
    stored.write_text(stored.read_text()[:100])
    assert stale_pages(book.root) == ["book/one.md"]
    assert book.execute() == {"book/one.md": "PASSED", "book/two.md": "UNCHANGED"}


def test_pages_can_be_executed_in_parallel(book):
    book.append("constraints.txt", "# changed\n")
    assert "2 passed" in book.run("-m", "pytest", "--nbmake", "book", "-n", "2").stdout
    assert stale_pages(book.root) == []


def test_an_edit_of_the_package_during_the_run_leaves_no_result(book):
    edit = "from pathlib import Path\nimport fpqvar_lab\nPath(fpqvar_lab.__file__).write_text('')"
    book.write("book/two.md", PAGE % edit)
    run = book.run("-m", "pytest", "--nbmake", "book")
    assert run.returncode == 1
    assert "changed while pages ran" in run.stdout


@pytest.mark.parametrize(
    "page", find_pages(ROOT), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_page_opens_in_jupyterlab_as_the_notebook_that_the_book_shows(page):
    def code(notebook):
        return [cell.source for cell in notebook.cells if cell.cell_type == "code"]

    assert code(jupytext.read(page)) == code(read_page(page))
