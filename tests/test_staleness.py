"""When a row counts as measured, confirmed or changed, and what a confirmation compares."""

import json

import pytest

from fpqvar_lab.evaluation import ResultFile, dependencies, read_results, row_states
from fpqvar_lab.evaluation.confirmation import compare
from fpqvar_lab.files import digest
from fpqvar_lab.method import RECIPES, recipe_digest

THEN = {"var.transformer": "1", "calibration.capture": "1", "files": "1", "data": "1"}
NAMES = ("real", "nvfp4", "fp4-best")


def content(**provenance) -> dict:
    """Three rows that were all measured by `THEN`."""
    rows = {}
    for name in NAMES:
        own = {"recipe_sha256": recipe_digest(RECIPES[name])} if name in RECIPES else {}
        rows[name] = {"provenance": {"code": digest(THEN), **own, **provenance}}
    return {"rows": rows, "code": {digest(THEN): THEN}}


def states(monkeypatch, now: dict, recorded: dict | None = None) -> dict[str, str]:
    monkeypatch.setattr(dependencies, "code_digests", lambda: now)
    return {n: str(state) for n, state in row_states(recorded or content()).items()}


def test_rows_of_the_present_code_are_measured(monkeypatch):
    assert set(states(monkeypatch, THEN).values()) == {"measured"}


def test_bookkeeping_may_change(monkeypatch):
    assert set(states(monkeypatch, THEN | {"files": "2"}).values()) == {"measured"}


def test_calibration_counts_for_rows_that_learn(monkeypatch):
    assert states(monkeypatch, THEN | {"calibration.capture": "2"}) == {
        "real": "measured",
        "nvfp4": "measured",
        "fp4-best": "code has changed since: calibration.capture; not confirmed",
    }


def test_the_transformer_counts_for_every_row_but_images(monkeypatch):
    text = "code has changed since: var.transformer; not confirmed"
    found = states(monkeypatch, THEN | {"var.transformer": "2"})
    assert found == {"real": "measured", "nvfp4": text, "fp4-best": text}


def test_a_new_module_counts(monkeypatch):
    assert states(monkeypatch, THEN | {"formats.new": "1"})["nvfp4"].endswith(
        "since: formats.new; not confirmed"
    )


def test_a_confirmation_counts_until_the_code_changes_again(monkeypatch):
    now = THEN | {"data": "2"}
    recorded = content(confirmed={"code": digest(now)})
    recorded["code"][digest(now)] = now
    assert set(states(monkeypatch, now, recorded).values()) == {"confirmed"}
    later = now | {"data": "3"}
    assert states(monkeypatch, later, recorded)["nvfp4"].endswith("since: data; not confirmed")


def test_a_row_of_another_recipe_is_named(monkeypatch):
    recorded = content()
    recorded["rows"]["nvfp4"]["provenance"]["recipe_sha256"] = "0" * 64
    assert states(monkeypatch, THEN, recorded)["nvfp4"] == "recipe has changed"


def test_a_difference_is_measured_by_half_the_interval():
    recorded = {
        "kl": {"value": 0.5, "interval": [0.4, 0.6]},
        "isc": {"value": 3.0},
        "fid": {"value": 1.0},
        "kl_by_step": [1.0],
    }
    found = {
        "kl": {"value": 0.525, "interval": [0.1, 0.9]},
        "isc": {"value": 3.00000001},
        "kl_by_step": [2.0],
    }
    assert compare(recorded, found) == {"kl": pytest.approx(0.25), "isc": 0.0}
    found["isc"]["value"] = 3.00001
    assert compare(recorded, found)["isc"] == float("inf")


FIRST = {
    "format": "fpqvar-lab evaluation 1",
    "subject": {"name": "mini", "pictures_sha256": "5"},
    "settings": {"pictures": 1000, "seed": 0},
    "rows": {"real": {"agreement": {"value": 0.9}, "provenance": {"code": "old"}}},
    "code": {"old": {"var.transformer": "1"}},
}


def test_a_file_of_the_first_edition_is_read_with_the_present_names(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(FIRST))
    found = read_results(file)
    assert found["subject"] == {"name": "mini", "images_sha256": "5"}
    assert found["settings"] == {"images": 1000, "seed": 0}
    assert found["rows"]["real"]["classifier_accuracy"] == {"value": 0.9}
    assert str(row_states(found)["real"]) == "code has changed since: all modules; not confirmed"


def test_a_row_added_to_a_file_of_the_first_edition_keeps_the_others(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(FIRST))
    head = {"subject": {"name": "mini", "images_sha256": "5"}, "settings": {"images": 1000}}
    results = ResultFile(file, head)
    results.add("new", {"provenance": {"code": digest(THEN)}}, THEN)
    results.confirm("real", {"code": digest(THEN)}, THEN)
    found = json.loads(file.read_text())
    assert found["format"] == "fpqvar-lab evaluation 2"
    assert list(found["rows"]) == ["real", "new"]
    assert found["code"] == {digest(THEN): THEN}
    assert found["code_of_first_edition"] == FIRST["code"]
    assert found["rows"]["real"]["provenance"]["confirmed"] == {"code": digest(THEN)}
