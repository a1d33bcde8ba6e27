"""What forks and visitors run, held to the project: the GitHub workflow, the development container,
Binder and the commands of the Makefile. None of them can run here; their form can be checked.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from build_book import SHARED_INPUTS

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "book.yml"
BINDER = ROOT / ".binder"
CONTAINER = ROOT / ".devcontainer"
TARGETS = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def job() -> dict[str, Any]:
    return yaml.safe_load(WORKFLOW.read_text())["jobs"]["test"]


def is_supported(version: str) -> bool:
    low, high = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    return int(low) <= int(version.removeprefix("3.")) < int(high)


def test_workflow_has_the_form_that_github_wants():
    command = ["check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    run = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_workflow_tests_every_supported_python(job):
    versions = job["strategy"]["matrix"]["python"]
    assert versions == [f"3.{minor}" for minor in range(99) if is_supported(f"3.{minor}")]


def test_workflow_runs_what_the_makefile_has(job):
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["make test"]
    assert "test" in TARGETS


def test_workflow_keeps_results_for_one_state_of_what_all_pages_use(job):
    cache = next(step["with"] for step in job["steps"] if "cache@" in step.get("uses", ""))
    assert cache["path"] == "_build/.jupyter_cache"
    for name in SHARED_INPUTS:
        pattern = f"'{name}/**'" if (ROOT / name).is_dir() else f"'{name}'"
        assert pattern in cache["restore-keys"], name
    assert cache["key"].startswith(cache["restore-keys"].strip())


def test_container_runs_the_two_commands():
    container = json.loads((CONTAINER / "devcontainer.json").read_text())
    build = (CONTAINER / container["build"]["dockerfile"]).read_text()
    assert container["postCreateCommand"] == "make book"
    assert is_supported(re.findall(r"python:(3\.\d+)", build)[0])
    assert all(re.search(rf"\b{package}\b", build) for package in ("chromium", "make"))


def test_binder_installs_this_package_with_its_pins():
    lines = (BINDER / "requirements.txt").read_text().split("\n")
    options = dict(line.split(maxsplit=1) for line in lines if line)
    assert (BINDER / options["--constraint"]).resolve() == ROOT / "constraints.txt"
    extras = re.fullmatch(r"\.\[(.*)\]", options["--editable"])
    assert extras is not None
    assert set(extras[1].split(",")) <= PROJECT["optional-dependencies"].keys()
    assert is_supported((BINDER / "runtime.txt").read_text().strip().removeprefix("python-"))


def test_binder_opens_pages_as_the_makefile_does():
    script = BINDER / "postBuild"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    setting = "set-default-viewer markdown myst"
    assert setting in script.read_text()
    assert setting in (ROOT / "Makefile").read_text()


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_make_lab_opens_the_page_asked_for():
    assert "/lab/tree/book/glossary.md" in make("lab", "PAGE=book/glossary.md").stdout


def test_every_command_is_explained():
    named = "book test lint types pages pdf lab serve bench clean"
    assert set(named.split()) <= set(TARGETS)


def test_every_file_that_the_instructions_name_is_there():
    named = re.findall(
        r"`([\w./-]+/[\w./-]+|LICENSE[\w-]*)`", (ROOT / "CONTRIBUTING.md").read_text()
    )
    missing = {name for name in named if "NAME" not in name and not (ROOT / name).exists()}
    assert len(named) > 20
    assert missing == set()
