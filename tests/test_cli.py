"""The command line as a user meets it."""

import subprocess
import sys

import pytest
from PIL import Image

from fpqvar_lab.cli import cli


def run(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as end:  # argparse's own way out
        return int(end.code or 0)


def test_help_shows_examples(capsys):
    assert run("sample", "--help") == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "fpqvar-lab sample --model mini --labels 0-9 --seed 1 --out grid.png" in text


@pytest.mark.parametrize(
    ("text", "expected"), [("0-3", [0, 1, 2, 3]), ("7", [7]), ("1,3,8-9", [1, 3, 8, 9])]
)
def test_labels(text, expected):
    assert cli._labels(text) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "--labels", "x"), "'x' is no label"),
        (("sample", "--labels", "12"), "allowed are 0 ... 10"),
        (("sample", "--weights", "none.pth", "--vqvae", "none.pth"), "none.pth: no such file"),
        (("sample", "--weights", "none.pth"), "--weights and --vqvae go together"),
        (("sample", "--out", "no-such-folder/a.png"), "there is no folder no-such-folder"),
        (("train", "vqvae", "--fashion-mnist", "no-such-folder"), "Three ways"),
        (("fly",), "invalid choice: 'fly'"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.splitlines()[-1].startswith("fpqvar-lab")
    assert "Traceback" not in error


def test_sample_writes_the_same_picture_for_the_same_seed(tmp_path):
    """Five labels in two rows: 5 x 28 pixels wide with torchvision's two pixels of padding."""
    for name in ("a.png", "b.png"):
        arguments = ["sample", "--model", "mini", "--labels", "0-4", "--rows", "2", "--seed", "1"]
        assert run(*arguments, "--out", str(tmp_path / name)) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (5 * 30 + 2, 2 * 30 + 2)


def test_the_console_command_answers():
    done = subprocess.run(
        [sys.executable, "-m", "fpqvar_lab.cli", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "sample" in done.stdout


def test_steps_and_zoom_enlarge_the_grid(tmp_path):
    """Five steps below each other, each picture twice as large."""
    arguments = ["sample", "--labels", "0-1", "--steps", "--zoom", "2"]
    assert run(*arguments, "--out", str(tmp_path / "a.png")) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * 58 + 2, 5 * 58 + 2)
