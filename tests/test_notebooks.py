"""A page as a notebook, in the two ways in which a reader gets one: the download button and
`make lab`.

The first reads the book of the last build; `make test` builds it first.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browser import NOT_FOUND, find_chromium, open_chromium
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
DOWNLOADS = ROOT / "_build" / "html" / "_sources"
PAGE = "formats/minifloats-from-bits"

pytestmark = pytest.mark.book


@pytest.mark.skipif(not DOWNLOADS.is_dir(), reason="there is no book in _build/html: make book")
def test_a_downloaded_notebook_runs_as_it_is_in_any_folder(tmp_path):
    shutil.copy(DOWNLOADS / f"{PAGE}.ipynb", tmp_path / "page.ipynb")
    notebook = nbformat.read(tmp_path / "page.ipynb", as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    assert os.listdir(tmp_path) == ["page.ipynb"]  # noqa: PTH208


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address at which `make lab PAGE=...` serves; its settings and state lie in `tmp_path`."""
    recipe = subprocess.run(
        ["make", "-n", "lab", f"PAGE=book/{PAGE}.md"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    viewer, server = (
        [sys.executable, *shlex.split(line)[1:]]
        for line in recipe.splitlines()
        if "jupytext_config" in line or "jupyterlab" in line
    )
    folders = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    settings = tmp_path / "JUPYTER_CONFIG_DIR" / "labconfig" / "default_setting_overrides.json"
    viewer[viewer.index("--settings-file") + 1] = str(settings)
    subprocess.run(viewer, cwd=ROOT, check=True)
    options = ["--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token="]
    options += [f"--FileCheckpoints.checkpoint_dir={tmp_path / 'checkpoints'}"]
    with subprocess.Popen(
        [*server, *options], cwd=ROOT, env=os.environ | folders, stderr=subprocess.DEVNULL
    ) as process:
        yield wait_for_address(tmp_path / "JUPYTER_RUNTIME_DIR")
        process.terminate()


def wait_for_address(runtime: Path) -> str:
    for _ in range(600):
        for file in runtime.glob("jpserver-*.json"):
            return json.loads(file.read_text())["url"]
        time.sleep(0.1)
    raise TimeoutError("JupyterLab did not start within a minute")


@pytest.mark.skipif(find_chromium() is None, reason=NOT_FOUND)
def test_make_lab_opens_the_page_as_a_notebook(lab):
    with open_chromium() as browser:
        page = browser.new_page()
        page.goto(lab)
        notebook = page.locator(".jp-Notebook")
        notebook.wait_for(timeout=60_000)
        assert "Minifloats from bits" in notebook.locator("h1").first.inner_text(timeout=60_000)
        assert notebook.locator(".jp-CodeCell").count() > 0
