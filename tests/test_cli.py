"""The command line as a user meets it."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from cyclopts import MissingArgumentError
from PIL import Image

from fpqvar_lab import data
from fpqvar_lab.cli import app, checks, main, options
from fpqvar_lab.execution import EXECUTIONS
from fpqvar_lab.method import quantize_model, save_quantized
from fpqvar_lab.var import load_var

ROOT = Path(__file__).parents[1]


def refused(capsys, *arguments: str) -> str:
    """The one line that a command ends in."""
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("fpqvar-lab: ")
    assert len(error.splitlines()) == 1
    return error


def keywords(line: str) -> dict[str, Any]:
    """What a command would be called with."""
    return app.parse(shlex.split(line)).keywords


# Help


@pytest.mark.parametrize("command", app.COMMANDS, ids=lambda command: command.__name__)
def test_help_shows_every_option_and_examples(command, capsys):
    assert main([command.__name__, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: fpqvar-lab {command.__name__}")
    assert f"examples:\n  fpqvar-lab {command.__name__} " in text


OPTIONS = {
    "sample": "model weights vqvae labels rows seed cfg top-k top-p more-smooth steps zoom device "
    "dtype execution out",
    "train": "epochs batch-size learning-rate seed float32 fashion-mnist start-from outliers vqvae "
    "out",
    "quantize": "model weights vqvae recipe show pictures tokens seed batch-size spill fc1-factors "
    "qkv-factors device dtype out",
    "export": "weights to dtype out",
    "evaluate": "model weights vqvae recipes quantized reference test-pictures inception-weights "
    "samples pictures seed cfg top-k top-p batch-size shard keep-samples device dtype threads "
    "execution workers scheduler refresh remeasure confirm out",
    "synth": "unit format lanes family verilog list all",
    "simulate": "model device recipe batch clock efficiency rows columns lanes arrays "
    "attention-macs hadamard-lanes quantizer-lanes special-lanes weight-buffer activation-buffer "
    "single-buffered no-fine no-coarse trace",
    "explore": "model device recipe batch clock efficiency share limit at-once workers scheduler "
    "out all",
}
"""The options of the first edition, which must stay."""


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_the_first_edition_are_there(command, capsys):
    main([command, "--help"])
    text = capsys.readouterr().out
    assert not [name for name in OPTIONS[command].split() if f"--{name}" not in text]


def test_the_console_command_answers_without_torch():
    start = time.perf_counter()
    code = (
        "import sys; from fpqvar_lab.cli import main; main(['--help']); main(['sample', '--help'])"
        "; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Sample images into one PNG" in done.stdout
    assert time.perf_counter() - start < 20  # about 0.5 s on an idle machine


def test_the_package_can_be_run():
    command = [sys.executable, "-m", "fpqvar_lab.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0")


# What is written about the commands


def _pages() -> list[Path]:
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")),
        *sorted((ROOT / "book").rglob("*.md")),
    ]


def _documented() -> list[tuple[str, str]]:
    """(file, command line) for all command lines of README and pages.

    They stand alone on their lines, perhaps continued by a backslash, or between backquotes.
    """
    found = []
    for file in _pages():
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = re.findall(r"^ *(?:\$ )?(fpqvar-lab [a-z].*)$", text, re.MULTILINE)
        lines += re.findall(r"`(fpqvar-lab [^`]+)`", text)
        found += [(str(file.relative_to(ROOT)), " ".join(line.split())) for line in lines]
    return found


def test_command_lines_are_found_in_readme_and_pages():
    files = {file for file, _ in _documented()}
    assert {"README.md", "data/README.md", "book/method/real-checkpoint.md"} <= files
    assert len(_documented()) > 20


@pytest.mark.parametrize(("file", "line"), _documented())
def test_documented_command_lines_are_understood(file, line):
    """Only the arguments are read; nothing is run."""
    words = shlex.split(line.partition(" #")[0])[1:]
    if words in [[name] for name in OPTIONS]:
        return  # a command's name in prose
    try:
        assert app.parse(words).func.__name__ == words[0]
    except MissingArgumentError:
        assert words[-1].startswith("--")  # an option's name in prose


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("sample --labels x", ("--labels", "'x' is no label")),
        ("sample --labels 0-999999999999", ("--labels", "'0-999999999999'", "99999")),
        ("sample --labels 0-99999999", ("--labels", "'0-99999999'", "99999")),
        ("sample --labels -3", ("--labels",)),
        ("sample --labels 12", ("labels", "12", "allowed are 0 ... 10")),
        ("sample --cfg nan", ("--cfg", '"nan"', "finite")),
        ("sample --cfg inf", ("--cfg", '"inf"', "finite")),
        ("sample --top-p nan", ("--top-p", '"nan"', "0 to 1")),
        ("sample --top-p 1.5", ("--top-p", '"1.5"', "0 to 1")),
        ("sample --top-p -0.1", ("--top-p", '"-0.1"', "0 to 1")),
        ("sample --top-k -1", ("--top-k", '"-1"', "0 to")),
        ("sample --rows 0", ("--rows", '"0"', "1 to")),
        ("sample --zoom 1e9", ("--zoom", '"1e9"', "int")),
        ("sample --device cuda:99", ("--device", "'cuda:99'", "there are cpu")),
        ("sample --device abacus", ("--device", "'abacus'", "there are cpu")),
        ("sample --dtype int8", ("--dtype", '"int8"', "bfloat16")),
        ("sample --weights none.pth --vqvae none.pth", ("none.pth: no such file",)),
        ("sample --weights none.pth", ("--weights and --vqvae go together",)),
        ("sample --model mini --weights a.pth --vqvae b.pth", ("exclude each other",)),
        ("sample --out taken/a.png", ("--out taken/a.png", "taken is a file")),
        ("sample --out .", ("--out .: is a folder",)),
        ("sample extra", ("extra",)),
        ("sample --fly 3", ("--fly",)),
        ("sample --rows", ("--rows", "requires an argument")),
        ("train vqvae --fashion-mnist no-such-folder", ("Three ways",)),
        ("train vqvae --epochs -1", ("--epochs", '"-1.0"', "above 0")),
        ("train vqvae --epochs nan", ("--epochs", '"nan"', "above 0")),
        ("train vqvae --batch-size -5", ("--batch-size", '"-5"', "1 to 60,000")),
        ("train vqvae --learning-rate inf", ("--learning-rate", '"inf"', "above 0")),
        ("train vqvae --out taken/a.safetensors", ("taken is a file",)),
        ("train gan", ("gan", "vqvae", "classifier")),
        ("train", ("WHAT", "requires an argument")),
        ("quantize --recipe fp5-none", ("no recipe 'fp5-none'", "fp4-fpqvar")),
        ("quantize --batch-size -5", ("--batch-size", '"-5"')),
        ("quantize --device cuda:99", ("--device", "'cuda:99'", "there are cpu")),
        ("quantize --out taken/a.safetensors", ("taken is a file",)),
        ("quantize --spill taken/a.bin", ("taken is a file",)),
        ("evaluate --samples 0", ("--samples", '"0"', "1 to")),
        ("evaluate --model mini --cfg nan", ("--cfg", '"nan"')),
        ("evaluate --model mini --recipes fp5-none", ("no recipe 'fp5-none'",)),
        ("evaluate --model mini --device cuda:99", ("--device", "'cuda:99'")),
        ("evaluate --model mini --out taken/a.json", ("taken is a file",)),
        ("synth --lanes 1000000000", ("--lanes", '"1000000000"', "1 to 1,024")),
        ("synth --family nonsense", ("--family", '"nonsense"', "xcup")),
        ("synth --verilog taken/out", ("taken is a file",)),
        ("simulate --batch 99999999999999", ("--batch", '"99999999999999"', "1 to 1,024")),
        ("simulate --recipe fp5-none", ("no recipe 'fp5-none'",)),
        ("simulate --efficiency nan", ("--efficiency", '"nan"', "above 0 and at most 1")),
        ("simulate --trace taken/t.json", ("taken is a file",)),
        ("explore --limit 0", ("--limit", '"0"', "1 to")),
        ("explore --workers 99999", ("--workers", '"99999"', "1 to")),
        ("explore --out taken/a.json", ("taken is a file",)),
        ("fly", ('"fly"', "sample")),
        ("", ("no command", "sample")),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    arguments, expected, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    error = refused(capsys, *arguments.split())
    assert not [text for text in expected if text not in error], error


def test_an_interrupted_command_ends_with_130(monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fpqvar_lab.var.sample", interrupted)
    assert main(["sample"]) == 130
    assert capsys.readouterr().err == "fpqvar-lab: interrupted\n"


def test_what_can_be_written_is_not_refused_and_not_made(tmp_path):
    file = tmp_path / "a" / "b" / "c.json"
    assert checks.writable(file) == file
    assert checks.writable_folder(file.parent, "--verilog") == file.parent
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_places_are_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("")
    file.chmod(0o400)
    with pytest.raises(PermissionError, match="is read-only"):
        checks.writable(file)
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="is read-only"):
        checks.writable(tmp_path / "b" / "c.json")
    tmp_path.chmod(0o700)


def test_the_processor_is_a_usable_device():
    assert checks.usable("cpu") == "cpu"


# Values


@pytest.mark.parametrize(
    ("text", "expected"), [("0-3", (0, 1, 2, 3)), ("7", (7,)), ("1,3,8-9", (1, 3, 8, 9))]
)
def test_labels(text, expected):
    assert keywords(f"sample --labels {text}")["labels"] == expected


def test_the_last_of_repeated_values_counts_and_lists_grow():
    asked = keywords("evaluate --quantized a --quantized b --cfg 2 --cfg 3 --out x --out y")
    assert asked["compared"].quantized == (Path("a"), Path("b"))
    assert asked["sampling"].cfg == 3
    assert asked["out"] == Path("y")
    assert keywords("synth --format e2m1 --format int4")["formats"] == ("e2m1", "int4")


def test_values_may_follow_an_equals_sign_and_be_negative():
    asked = keywords("sample --cfg=-1.5 --seed -3")["sampling"]
    assert (asked.cfg, asked.seed) == (-1.5, -3)


@pytest.mark.parametrize("option", ["--images", "--pictures"])
def test_the_first_editions_word_for_images_is_understood(option):
    assert keywords(f"quantize {option} 7")["images"] == 7
    assert keywords(f"evaluate {option} 7")["scoring"].images == 7


def test_result_files_get_the_whole_command_line():
    line = "quantize --out 'with space.safetensors'"
    assert keywords(line)["command_line"] == f"fpqvar-lab {line}"


def test_design_options_change_the_design_that_fits():
    changes = keywords("simulate --rows 4 --weight-buffer 8 --no-fine")["changes"]
    assert (changes.rows, changes.columns, changes.weight_buffer) == (4, None, 8)
    assert (changes.fine, changes.coarse) == (False, True)


# Sampling


def test_sample_writes_the_same_picture_for_the_same_seed(tmp_path):
    """Five labels in two rows: 5 x 28 pixels wide with torchvision's two pixels of padding."""
    for name in ("a.png", "folder/b.png"):
        arguments = ["sample", "--model", "mini", "--labels", "0-4", "--rows", "2", "--seed", "1"]
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "folder" / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (5 * 30 + 2, 2 * 30 + 2)


def test_a_quantized_file_is_executed_and_the_choice_is_said(tmp_path, capsys):
    model, _ = quantize_model(load_var("mini"), "fp4-baseline", progress=False)
    save_quantized(model, tmp_path / "fp4.safetensors")
    vqvae = data.path("models/vqvae-mini.safetensors")
    given = ["sample", "--weights", str(tmp_path / "fp4.safetensors"), "--vqvae", str(vqvae)]
    for execution, said in (("reference", "reference"), ("auto", "on a CPU")):
        out = ["--labels", "0-1", "--out", str(tmp_path / f"{execution}.png")]
        assert main([*given, "--execution", execution, *out]) == 0
        assert said in capsys.readouterr().err
    assert main([*given, "--execution", "bfloat16", "--out", str(tmp_path / "a.png")]) == 2
    assert "a recipe whose name ends in -ue5m3" in capsys.readouterr().err


def test_the_executions_offered_are_the_packages():
    assert get_args(options.Execution) == EXECUTIONS


def test_steps_and_zoom_enlarge_the_grid(tmp_path):
    """Five steps below each other, each picture twice as large."""
    arguments = ["sample", "--labels", "0-1", "--steps", "--zoom", "2"]
    assert main([*arguments, "--out", str(tmp_path / "a.png")]) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * 58 + 2, 5 * 58 + 2)
