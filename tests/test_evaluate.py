"""The evaluation: what a row holds, that nothing is lost or measured twice, and where it runs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fpqvar_lab import data
from fpqvar_lab.cli import main
from fpqvar_lab.evaluation import (
    CLASSIFIER,
    CodecFile,
    ExecutionConfig,
    ExtractorFile,
    Guidance,
    ModelFile,
    Part,
    SampleTask,
    cut,
    dependencies,
    merged,
    read_moments,
    read_results,
    row_states,
    stale,
    to_uint8,
)
from fpqvar_lab.files import sha256
from fpqvar_lab.method import quantize_model, save_quantized
from fpqvar_lab.parallel import connect, results
from fpqvar_lab.var import (
    VAR,
    VQVAE,
    VARConfig,
    VQVAEConfig,
    load_classifier,
    load_var,
    load_vqvae,
    sample,
    save_model,
)

CONFIG = replace(VARConfig.preset("mini"), depth=1, width=128, heads=2, vocabulary=32)
VQVAE_CONFIG = replace(VQVAEConfig.preset("mini"), channel_multipliers=(1, 1, 1), vocabulary=32)
SETTINGS = ("--samples", "50", "--shard", "5", "--images", "20", "--batch-size", "5")
ONE_THREAD = ExecutionConfig(batch=5, threads=1)


@pytest.fixture(autouse=True)
def _threads_stay():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny model with random weights, and sixty real images to compare with."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    model = VAR(CONFIG)
    with torch.no_grad():
        for weight in (model.head.weight, model.blocks[0].ada_lin.linear.weight):
            weight.normal_(std=0.2)  # as initialised for training, a block does next to nothing
    save_model(model, folder / "var.safetensors", {})
    save_model(VQVAE(VQVAE_CONFIG), folder / "vqvae.safetensors", {})
    images, labels = data.fashion_mnist("test")
    images = to_uint8(images[:60]).permute(0, 2, 3, 1).numpy()
    np.savez(folder / "images.npz", images, labels[:60].numpy())
    return folder


def arguments(files, out, *more: str) -> list[str]:
    weights = ["--weights", files / "var.safetensors", "--vqvae", files / "vqvae.safetensors"]
    real = ["--reference", files / "images.npz", "--test-images", files / "images.npz"]
    return [str(x) for x in ("evaluate", *weights, *real, "--threads", 1, "--out", out, *more)]


def run(files, out, *more: str) -> int:
    return main(arguments(files, out, *SETTINGS, *more))


def measured(content: dict) -> dict:
    """Rows without what differs from run to run."""
    return {
        name: {key: value for key, value in row.items() if key != "provenance"}
        for name, row in content["rows"].items()
    }


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """The result of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "tiny.json"
    assert run(files, out, "--recipes", "fp16,fp4-baseline") == 0
    return out


def test_a_row_holds_scores_intervals_and_provenance(whole, files):
    content = read_results(whole)
    assert list(content["rows"]) == ["real", "reconstruction", "fp16", "fp4-baseline"]
    row = content["rows"]["fp4-baseline"]
    for name in ("fid", "isc", "precision", "recall", "classifier_accuracy", "kl", "cross_entropy"):
        low, high = row[name]["interval"]
        assert low <= row[name]["value"] <= high, name
    assert len(row["fid"]["without"]) == 5
    assert row["kl"]["value"] > 0
    assert content["rows"]["fp16"]["kl"]["value"] == 0
    assert row["bits_per_value"] == 4.25  # a float32 scale for 128 codes of 4 bits
    assert row["weight_bytes"] == row["weight_bytes_in_16_bits"] * 4.25 / 16
    assert content["subject"]["weights"] == sha256(files / "var.safetensors")
    assert content["settings"]["seed"] == 0
    assert row["provenance"]["code"] in content["code"]
    assert not whole.with_name("tiny.json.shards").exists()
    assert str(files) not in whole.read_text()


def test_the_scores_are_those_of_the_samples(whole, files):
    """Oracle: the samples drawn here, shard by shard, and torch-fidelity on their features."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    model = load_var(files / "var.safetensors")
    vqvae, classifier = load_vqvae(files / "vqvae.safetensors"), load_classifier()

    def features(images: Tensor) -> dict:
        return fid_features_to_statistics(classifier.features(images.float() / 255).double())

    drawn = []
    for start in range(0, 50, 5):
        labels = torch.arange(start, start + 5) % 10
        seed = hash((0, start)) & (2**63 - 1)
        generator = torch.Generator().manual_seed(seed)
        drawn.append(to_uint8(sample(model, vqvae, labels, generator=generator)))
    with np.load(files / "images.npz") as arrays:
        real = torch.from_numpy(arrays["arr_0"]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        images = torch.cat(drawn)
        expected = fid_statistics_to_metric(features(images), features(real), False)
        hits = classifier(images.float() / 255).argmax(1) == torch.arange(50) % 10
    row = read_results(whole)["rows"]["fp16"]
    assert row["fid"]["value"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert row["classifier_accuracy"]["value"] == pytest.approx(hits.float().mean().item())


def test_a_second_run_measures_nothing(whole, files, capsys):
    before = whole.read_bytes()
    assert run(files, whole, "--recipes", "fp16,fp4-baseline") == 0
    assert capsys.readouterr().out.count("measured before") == 4
    assert whole.read_bytes() == before


def test_more_recipes_add_rows(whole, files, tmp_path):
    out = tmp_path / "copy.json"
    out.write_bytes(whole.read_bytes())
    assert run(files, out, "--recipes", "fp16,int4-rtn") == 0
    before, after = measured(read_results(whole)), measured(read_results(out))
    assert list(after) == [*before, "int4-rtn"]
    assert all(after[name] == row for name, row in before.items())


@pytest.fixture
def changed(whole, tmp_path, monkeypatch):
    """The result, and later code that computes a model's numbers."""
    out = tmp_path / "copy.json"
    out.write_bytes(whole.read_bytes())
    now = dependencies.code_digests() | {"var.transformer": "other"}
    monkeypatch.setattr(dependencies, "code_digests", lambda: now)
    return out


def test_rows_of_other_code_are_kept_unless_asked(changed, whole, files, capsys):
    assert run(files, changed, "--recipes", "fp16") == 0
    message = "fp16: measured before (code has changed since: var.transformer; not confirmed)"
    assert message in capsys.readouterr().out
    assert changed.read_bytes() == whole.read_bytes()


def test_a_refresh_measures_just_the_rows_whose_code_has_changed(changed, whole, files, capsys):
    assert run(files, changed, "--refresh") == 0
    shown = capsys.readouterr().out
    assert shown.count("measured before (measured)") == 2
    assert "reconstruction: measured before" in shown
    content = read_results(changed)
    assert "other" in [code["var.transformer"] for code in content["code"].values()]
    assert measured(content) == measured(read_results(whole))
    assert {str(state) for state in row_states(content).values()} == {"measured"}


def test_a_confirmation_draws_no_samples(changed, whole, files, capsys, monkeypatch):
    monkeypatch.setattr(SampleTask, "run", lambda _: pytest.fail("a sample was drawn"))
    assert run(files, changed, "--confirm") == 0
    assert capsys.readouterr().out.count(": confirmed; ") == 2
    content = read_results(changed)
    states = {name: str(state) for name, state in row_states(content).items()}
    assert states == dict.fromkeys(("real", "reconstruction"), "measured") | dict.fromkeys(
        ("fp16", "fp4-baseline"), "confirmed"
    )
    assert measured(content) == measured(read_results(whole))
    assert stale(changed, {}) == []


def test_on_one_processor_the_last_digit_counts(changed, files, capsys):
    content = json.loads(changed.read_text())
    content["rows"]["fp4-baseline"]["probe_kl"] *= 1 + 2e-6
    changed.write_text(json.dumps(content))
    assert run(files, changed, "--confirm") == 0
    assert "fp4-baseline: not confirmed; probe_kl is" in capsys.readouterr().out
    assert stale(changed, {}) == [
        "copy.json: fp4-baseline: code has changed since: var.transformer; not confirmed"
    ]


@pytest.mark.parametrize(("part", "confirmed"), [(0.24, True), (0.26, False)])
def test_on_another_processor_a_small_part_of_the_interval_counts(
    part, confirmed, changed, files, capsys
):
    """As for files of the first edition, which have no probe of the cross-entropy."""
    content = json.loads(changed.read_text())
    for row in content["rows"].values():
        row["provenance"]["machine"] = "another"
    kl = content["rows"]["fp4-baseline"]["kl"]
    low, high = kl["interval"]
    kl["value"] += part * (high - low) / 2
    changed.write_text(json.dumps(content))
    assert run(files, changed, "--confirm") == 0
    assert ("fp4-baseline: confirmed" in capsys.readouterr().out) == confirmed
    record = read_results(changed)["rows"]["fp4-baseline"]["provenance"].get("confirmed")
    assert (record is not None) == confirmed
    if record is not None:
        assert record["half_widths"]["kl"] == pytest.approx(part, rel=1e-3)


def test_a_quantized_model_is_a_row_like_its_recipe(whole, files, tmp_path):
    model, _ = quantize_model(load_var(files / "var.safetensors"), "fp4-baseline", progress=False)
    save_quantized(model, tmp_path / "tiny-fp4.safetensors")
    out = tmp_path / "tiny.json"
    assert run(files, out, "--quantized", str(tmp_path / "tiny-fp4.safetensors")) == 0
    found = measured(read_results(out))
    assert found["tiny-fp4"] == measured(read_results(whole))["fp4-baseline"]


def test_quantized_layers_can_be_executed_otherwise_and_the_file_says_so(whole, files, tmp_path):
    out = tmp_path / "tiny.json"
    assert run(files, out, "--recipes", "fp4-baseline", "--execution", "float32") == 0
    content, reference = read_results(out), read_results(whole)
    assert content["settings"] == reference["settings"] | {"execution": "float32"}
    found, expected = (x["rows"]["fp4-baseline"]["kl"]["value"] for x in (content, reference))
    assert found == pytest.approx(expected, rel=0.05)


def test_samples_can_be_kept(whole, files, tmp_path):
    kept = tmp_path / "kept"
    out = tmp_path / "tiny.json"
    assert run(files, out, "--recipes", "fp16", "--keep-samples", str(kept)) == 0
    names = sorted(file.name for file in (kept / "fp16").iterdir())
    assert names == [f"samples-{start:06d}.npz" for start in range(0, 50, 5)]
    with np.load(kept / "fp16" / names[1]) as arrays:
        assert arrays["arr_0"].shape == (5, 28, 28, 1)
        assert arrays["arr_0"].dtype == np.uint8
        assert arrays["arr_1"].tolist() == [5, 6, 7, 8, 9]


def test_a_killed_run_loses_at_most_one_shard(whole, files, tmp_path, monkeypatch):
    dependencies.code_digests.cache_clear()
    dependencies._tree.cache_clear()  # what was edited since counts for the other process
    out = tmp_path / "tiny.json"
    options = [*arguments(files, out, *SETTINGS), "--recipes", "fp4-baseline"]
    process = subprocess.Popen([sys.executable, "-m", "fpqvar_lab.cli", *options])
    folder = out.with_name("tiny.json.shards")
    deadline = time.monotonic() + 120
    while len(list(folder.glob("fp4-baseline-*/samples-*.safetensors"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = len(list(folder.glob("fp4-baseline-*/samples-*.safetensors")))
    assert 2 <= stored < 10
    assert "fp4-baseline" not in read_results(out)["rows"]

    drawn = []
    draw = SampleTask.run
    monkeypatch.setattr(SampleTask, "run", lambda task: (drawn.append(task.name), draw(task))[1])
    assert run(files, out, "--recipes", "fp4-baseline") == 0
    assert len(drawn) == 10 - stored
    expected = measured(read_results(whole))
    del expected["fp16"]
    assert measured(read_results(out)) == expected


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--recipes", "fp5"), "no recipe 'fp5'"),
        (("--recipes", "fp16,fp16"), "two rows are named 'fp16'"),
        (("--recipes", "fp16", "--samples", "19"), "samples 19; use at least 20"),
        (("--recipes", "fp16", "--reference", "none"), "none: no such file or folder"),
        (("--recipes", "fp16", "--test-images", "none.npz"), "none.npz: no such file"),
        (("--recipes", "fp16", "--model", "mini"), "--model excludes --weights"),
        (("--recipes", "fp16", "--workers", "2", "--scheduler", "x"), "exclude each other"),
        (("--quantized", "none.safetensors", "--recipes", ""), "none.safetensors: no such file"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    more, message, files, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(files, tmp_path / "a.json", *more) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.splitlines()[-1].startswith("fpqvar-lab: ")
    assert "Traceback" not in error


def test_a_file_of_other_settings_is_refused(whole, files, capsys):
    before = whole.read_bytes()
    assert run(files, whole, "--recipes", "fp16", "--seed", "1") == 2
    assert "its rows have settings seed 0, not 1" in capsys.readouterr().err
    assert whole.read_bytes() == before


def test_a_file_that_is_no_result_is_refused(files, tmp_path, capsys):
    (tmp_path / "a.json").write_text("{}")
    assert run(files, tmp_path / "a.json", "--recipes", "fp16") == 2
    assert "not a result file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "together", "groups"),
    [(10_000, 10, 20), (50_000, 1000, 10), (50, 10, 5), (200, 200, 1), (123, 1, 1)],
)
def test_parts_cover_everything_once_and_keep_to_groups(images, together, groups):
    parts = cut(images, together, 500)
    assert sorted(n for p in parts for n in range(p.start, p.start + p.count)) == list(
        range(images)
    )
    assert {p.group for p in parts} == set(range(groups))
    assert max(p.count for p in parts) <= 500
    for group in range(groups):
        assert sum(p.count for p in parts if p.group == group) == images // groups


def test_results_of_other_weights_or_recipes_are_noticed(whole, files, tmp_path):
    content = read_results(whole)
    content["rows"]["fp16"]["provenance"]["recipe_sha256"] = "0" * 64
    content["rows"]["fp3"] = content["rows"]["fp4-baseline"]
    content["subject"]["vqvae"] = "0" * 64
    (tmp_path / "a.json").write_text(json.dumps(content))
    weights = {"weights": files / "var.safetensors", "vqvae": files / "vqvae.safetensors"}
    assert stale(whole, weights) == []
    assert stale(tmp_path / "a.json", weights) == [
        "a.json: vqvae vqvae.safetensors has changed",
        "a.json: recipe fp16 has changed",
        "a.json: recipe fp3 has changed",
    ]


# On a cluster


@pytest.fixture(scope="module")
def client():
    with connect(None, 2) as client:
        yield client


def tasks(files, count: int, size: int) -> list[SampleTask]:
    return [
        SampleTask(
            ModelFile.of(files / "var.safetensors", quantized=False),
            CodecFile(files / "vqvae.safetensors"),
            ExtractorFile(CLASSIFIER),
            Guidance(),
            ONE_THREAD,
            Part(start, size, 0),
            size,
        )
        for start in range(0, count * size, size)
    ]


def test_a_cluster_of_two_gives_the_same_statistics(client, files):
    here = {task.name: result for task, result in results(tasks(files, 6, 5))}
    there = {task.name: result for task, result in results(tasks(files, 6, 5), client)}
    assert here.keys() == there.keys()
    local, remote = (
        merged([read_moments(found[name]) for name in sorted(found)]) for found in (here, there)
    )
    assert remote.count == local.count == 30
    np.testing.assert_allclose(remote.mean, local.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(remote.scatter, local.scatter, rtol=1e-12, atol=1e-9)
    for name, result in here.items():
        assert torch.equal(there[name]["logits"], result["logits"])


def test_a_worker_that_dies_loses_nothing(client, files):
    todo = tasks(files, 12, 10)
    expected = {task.name: result for task, result in results(todo)}
    coming = results(todo, client)
    task, result = next(coming)
    found = {task.name: result}
    os.kill(client.run(os.getpid).popitem()[1], signal.SIGKILL)
    found |= {task.name: result for task, result in coming}
    assert found.keys() == expected.keys()
    for name, result in expected.items():
        torch.testing.assert_close(found[name]["mean"], result["mean"], rtol=1e-12, atol=1e-12)


def test_a_mistake_on_a_worker_is_raised_here(client, files):
    model = replace(ModelFile.of(files / "var.safetensors", quantized=False), sha256="0" * 64)
    with pytest.raises(ValueError, match="another file than the evaluation began with"):
        list(results([replace(tasks(files, 1, 5)[0], model=model)], client))


def test_the_command_runs_on_a_cluster(client, whole, files, tmp_path):
    out, address = tmp_path / "tiny.json", client.scheduler.address
    assert run(files, out, "--recipes", "fp4-baseline", "--scheduler", address) == 0
    found, expected = (measured(read_results(file))["fp4-baseline"] for file in (out, whole))
    assert found["fid"]["value"] == pytest.approx(expected["fid"]["value"], rel=1e-6)
    assert found["kl"]["value"] == pytest.approx(expected["kl"]["value"], rel=1e-6)
    assert read_results(out)["rows"]["fp4-baseline"]["provenance"]["workers"] == 2
