"""Capture against hooks of our own, reservoirs against uniformity, statistics against scipy."""

import gc
import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from fpqvar_lab.calibration import (
    HISTOGRAM_EDGES,
    Activations,
    CalibrationSet,
    ChannelStatistics,
    capture,
    capture_bytes,
    layer_names,
    observe,
)
from fpqvar_lab.calibration.capture import _Reservoir
from fpqvar_lab.var import VAR, VQVAE, VARConfig, VQVAEConfig, sample

BLOCK_LAYERS = ("attn.mat_qkv", "attn.proj", "ffn.fc1", "ffn.fc2")
LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.fixture(scope="module")
def models() -> tuple[VAR, VQVAE]:
    """Random weights of a small shape, large enough to make every layer's input differ."""
    torch.manual_seed(0)
    config = VARConfig(2, 32, 2, (1, 2, 3), vocabulary=64, code_channels=4, classes=10)
    shape = VQVAEConfig(
        image_size=12,
        image_channels=1,
        channels=32,
        channel_multipliers=(1, 1, 1),
        residual_blocks=1,
        vocabulary=64,
        code_channels=4,
        patch_sizes=(1, 2, 3),
    )
    var = VAR(config)
    for module in var.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.2)
    return var.eval(), VQVAE(shape).eval()


def seen_by_hooks(models: tuple[VAR, VQVAE], batch_size: int) -> dict[str, list[list[Tensor]]]:
    """For each layer of the blocks and step, what it read in each batch: (batch, n, channels)."""
    var, vqvae = models
    calls: dict[str, list[Tensor]] = {}
    for i, layer in itertools.product(range(var.config.depth), BLOCK_LAYERS):
        name = f"blocks.{i}.{layer}"
        calls[name] = []
        module = var.get_submodule(name)
        module.register_forward_pre_hook(lambda _, args, name=name: calls[name].append(args[0]))
    source = generator()
    for batch in LABELS.split(batch_size):
        sample(var, vqvae, batch, generator=source)
    for module in var.modules():
        module._forward_pre_hooks.clear()
    steps = var.config.steps
    return {name: [xs[step::steps] for step in range(steps)] for name, xs in calls.items()}


@pytest.mark.parametrize("batch_size", [50, 3])
def test_captured_inputs_are_those_a_hook_sees(models, batch_size):
    expected = seen_by_hooks(models, batch_size)
    found = capture(*models, LABELS, "blocks.*", generator=generator(), batch_size=batch_size)
    assert list(found) == list(expected)
    for name, steps in found.items():
        for step, x in enumerate(steps):
            tokens = torch.cat([batch.flatten(0, 1) for batch in expected[name][step]])
            assert torch.equal(x, tokens), (name, step)
        assert torch.equal(found.all_steps(name), torch.cat(list(steps)))


def test_both_halves_of_guidance_and_every_step_are_captured(models):
    found = capture(*models, LABELS, generator=generator())
    tokens = [2 * len(LABELS) * count for count in models[0].config.tokens_per_step]
    assert {name: [len(x) for x in steps] for name, steps in found.items()} == {
        "blocks.0.ffn.fc1": tokens,
        "blocks.1.ffn.fc1": tokens,
    }


def test_hooks_are_gone_afterwards_and_after_an_error(models):
    var, vqvae = models
    capture(var, vqvae, LABELS)
    with pytest.raises(ValueError, match="labels"):
        capture(var, vqvae, torch.tensor([99]))
    assert not any(module._forward_pre_hooks for module in var.modules())


def test_captured_tensors_can_enter_a_gradient(models):
    found = capture(*models, LABELS, "*.0.ffn.fc1", tokens=5)
    weight = torch.ones(32, requires_grad=True)
    (found["blocks.0.ffn.fc1"][1] * weight).sum().backward()
    assert weight.grad is not None


def test_several_patterns_and_the_order_of_the_model(models):
    names = layer_names(models[0], ("*.ffn.fc2", "*.attn.mat_qkv"))
    assert names == [f"blocks.{i}.{layer}" for i in (0, 1) for layer in ("attn.mat_qkv", "ffn.fc2")]
    assert layer_names(models[0])[-1] == "head"
    assert len(layer_names(models[0])) == 9


def test_layers_that_do_not_read_each_step_are_not_offered():
    config = VARConfig(2, 32, 2, (1, 2, 3), shared_aln=True)
    names = layer_names(VAR(config))
    assert len(names) == 9
    assert not any("ada_lin" in name or "word_embed" in name for name in names)


@pytest.mark.parametrize("patterns", ["*.fc3", ("*.ffn.fc1", "*.fc3"), ()])
def test_a_pattern_that_matches_nothing_lists_what_there_is(models, patterns):
    with pytest.raises(ValueError, match=r"no layer matches .* blocks\.0\.attn\.mat_qkv, blocks"):
        capture(*models, LABELS, patterns)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": 0}, "tokens 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"labels": LABELS[:0]}, "labels is empty"),
        ({"labels": CalibrationSet(10), "generator": torch.Generator()}, "brings its generator"),
    ],
)
def test_impossible_arguments_are_refused(models, arguments, message):
    with pytest.raises(ValueError, match=message):
        capture(*models, **{"labels": LABELS, **arguments})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_storage_is_the_promised_number_of_bytes_in_the_chosen_dtype(models, dtype):
    found = capture(*models, LABELS, "blocks.*", generator=generator(), tokens=20, dtype=dtype)
    stored = [x for steps in found.values() for x in steps]
    size = sum(x.untyped_storage().nbytes() for x in stored)
    assert size == capture_bytes(models[0], len(LABELS), "blocks.*", tokens=20, dtype=dtype)
    # 2 blocks, 3 steps of 14, 56 (20 kept) and 126 (20 kept) tokens, 3 x 32 + 128 channels.
    assert size == 2 * (14 + 20 + 20) * 224 * dtype.itemsize
    exact = capture(*models, LABELS, "blocks.*", generator=generator(), tokens=20)
    for name in found:
        assert torch.equal(found[name][0], exact[name][0].to(dtype))


def live_bytes() -> int:
    """Memory of all tensors that Python can reach, each storage once."""
    gc.collect()
    tensors = [x for x in gc.get_objects() if type(x) in (Tensor, nn.Parameter)]
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


def test_memory_while_capturing_stays_within_the_bound(models):
    var, vqvae = models
    peaks = []
    for run in (
        lambda: [sample(var, vqvae, x, generator=generator()) for x in LABELS.split(2)] and None,
        lambda: capture(var, vqvae, LABELS, "blocks.*", tokens=9, batch_size=2),
    ):
        sizes = [live_bytes()]
        hook = var.head.register_forward_hook(lambda *_, sizes=sizes: sizes.append(live_bytes()))
        kept = run()
        hook.remove()
        sizes.append(live_bytes())
        peaks.append(max(sizes) - sizes[0])
        del kept
    bound = capture_bytes(var, len(LABELS), "blocks.*", tokens=9)
    assert 0.9 * bound < peaks[1] - peaks[0] <= bound + 4096  # pages of small index tensors


def test_every_token_is_kept_with_the_same_probability():
    # Oracle: the binomial distribution. 400 runs keep each of 60 rows with probability 12 / 60.
    runs, rows, kept = 400, 60, 12
    counts = np.zeros(rows)
    x = torch.arange(rows, dtype=torch.float32)[:, None]
    for seed in range(runs):
        buffer = torch.full((kept, 1), -1.0)
        reservoir = _Reservoir(buffer, (seed, 0))
        for chunk in x.split([7, 1, 30, 0, 22]):
            reservoir.add(chunk)
        numbers = buffer[:, 0].long().tolist()
        assert len(set(numbers)) == kept
        counts[numbers] += 1
    share = kept / rows
    statistic = ((counts - runs * share) ** 2 / (runs * share * (1 - share))).sum()
    low, high = scipy.stats.chi2.ppf([1e-4, 1 - 1e-4], rows - 1)
    assert low < statistic < high


def test_a_reservoir_does_not_depend_on_how_the_stream_is_cut():
    x = torch.randn(100, 3)
    kept = []
    for sizes in ([100], [1] * 100, [40, 60]):
        buffer = torch.empty(10, 3)
        reservoir = _Reservoir(buffer, (1, 2))
        for chunk in x.split(sizes):
            reservoir.add(chunk)
        kept.append(buffer)
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])
    assert not torch.equal(kept[0], x[:10])


def test_the_same_seed_keeps_the_same_tokens_in_all_layers(models):
    settings = {"tokens": 6, "batch_size": 3}
    one = capture(*models, LABELS, "*.ffn.fc1", generator=generator(), **settings)
    both = capture(*models, LABELS, ("*.fc1", "*.fc2"), generator=generator(), **settings)
    everything = capture(*models, LABELS, "blocks.*", generator=generator(), batch_size=3)
    places = []
    for name, steps in both.items():
        if name in one:
            assert all(map(torch.equal, steps, one[name]))
        full = everything[name]
        same = [(x[:, None] == y[None]).all(-1) for x, y in zip(steps, full, strict=True)]
        assert all(match.any(1).all() for match in same)
        places.append([match.int().argmax(1).tolist() for match in same][1:])
    assert all(place == places[0] for place in places)


def test_a_file_holds_what_memory_holds_and_is_read_lazily(models, tmp_path):
    file = tmp_path / "folder" / "fc.safetensors"
    settings = {"tokens": 20, "batch_size": 3, "dtype": torch.float16}
    memory = capture(*models, LABELS, "*.ffn.*", generator=generator(), **settings)
    spilled = capture(*models, LABELS, "*.ffn.*", generator=generator(), spill=file, **settings)
    for found in (spilled, Activations.open(file)):
        assert list(found) == list(memory)
        for name, steps in memory.items():
            assert len(found[name]) == len(steps)
            assert all(map(torch.equal, found[name], steps))
            assert torch.equal(found[name][-1], steps[-1])
            assert len(found[name][1:]) == 2
    assert spilled["blocks.0.ffn.fc1"][0] is not spilled["blocks.0.ffn.fc1"][0]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_failed_capture_leaves_an_earlier_file_alone(models, tmp_path):
    file = tmp_path / "fc.safetensors"
    capture(*models, LABELS, generator=generator(), spill=file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="labels"):
        capture(*models, torch.tensor([99]), spill=file)
    assert file.read_bytes() == before


def test_what_is_not_there_is_named(models, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Activations.open(tmp_path / "none.safetensors")
    found = capture(*models, LABELS)
    with pytest.raises(KeyError, match=r"no layer 'fc1'; there are blocks\.0\.ffn\.fc1"):
        found["fc1"]
    with pytest.raises(ValueError, match="int8"):
        capture(*models, LABELS, spill=tmp_path / "x", dtype=torch.int8)


@pytest.mark.parametrize(("classes", "images"), [(10, 25), (10, 4), (1000, 100), (3, 3)])
def test_a_calibration_set_spreads_its_labels_and_is_reproducible(classes, images):
    chosen = CalibrationSet(classes, images, seed=5)
    counts = chosen.labels.bincount(minlength=classes)
    assert counts.sum() == images
    assert counts.max() - counts.min() <= 1
    assert torch.equal(chosen.labels, CalibrationSet(classes, images, seed=5).labels)
    if classes > 3:
        assert not torch.equal(chosen.labels, CalibrationSet(classes, images, seed=6).labels)
    with pytest.raises(ValueError, match="images 0"):
        CalibrationSet(classes, 0)


def test_a_calibration_set_captures_the_same_each_time(models):
    chosen = CalibrationSet(10, 8, seed=3)
    first, second = (capture(*models, chosen) for _ in range(2))
    by_hand = capture(*models, chosen.labels, generator=chosen.generator())
    for name in first:
        assert torch.equal(first.all_steps(name), second.all_steps(name))
        assert torch.equal(first.all_steps(name), by_hand.all_steps(name))


def skewed(tokens: int, channels: int = 5) -> Tensor:
    source = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, channels, generator=source, dtype=torch.float64).exp()
    return x * torch.arange(1.0, channels + 1) - 2


def test_statistics_equal_scipy():
    x = skewed(1000)
    found, values = ChannelStatistics.of(x), x.numpy()
    whole = found.whole()
    flat = values.ravel()
    pairs = [
        (found.absmax, np.abs(values).max(0)),
        (found.mean, values.mean(0)),
        (found.variance, values.var(0)),
        (found.kurtosis, scipy.stats.kurtosis(values, fisher=False)),
        (found.fraction_negative, (values < 0).mean(0)),
        (found.powers[1] / 1000, scipy.stats.moment(values, 3)),
        (whole.absmax, np.abs(flat).max()),
        (whole.mean, flat.mean()),
        (whole.variance, flat.var()),
        (whole.kurtosis, scipy.stats.kurtosis(flat, fisher=False)),
        (whole.fraction_negative, (flat < 0).mean()),
        (whole.powers[1] / 5000, scipy.stats.moment(flat, 3)),
    ]
    for ours, oracle in pairs:
        assert np.allclose(ours.numpy(), oracle, rtol=1e-12, atol=0)
    edges = [-np.inf, *HISTOGRAM_EDGES.tolist(), np.inf]
    assert found.histogram.tolist() == np.histogram(flat, edges)[0].tolist()


def test_merged_statistics_equal_those_of_the_whole_stream_even_far_from_zero():
    for offset in (0.0, 1e6):
        x = skewed(600) + offset
        parts = [ChannelStatistics.of(part) for part in x.split([1, 299, 300])]
        merged = parts[0].merge(parts[1]).merge(parts[2])
        direct = ChannelStatistics.of(x)
        assert merged.count == direct.count
        assert torch.equal(merged.histogram, direct.histogram)
        assert torch.equal(merged.absmax, direct.absmax)
        assert torch.equal(merged.negatives, direct.negatives)
        precision = 1e-12 if offset == 0 else 1e-9  # the values themselves hold ten digits less
        assert torch.allclose(merged.mean, direct.mean, rtol=1e-14)
        assert torch.allclose(merged.powers, direct.powers, rtol=precision)
        # The sum of squares minus the square of the sum would have no digit left at 1e6.
        assert torch.allclose(merged.kurtosis, direct.kurtosis, rtol=precision)


def test_merging_is_commutative_and_needs_equal_channels():
    a, b = ChannelStatistics.of(skewed(10)), ChannelStatistics.of(skewed(25))
    assert torch.allclose(a.merge(b).powers, b.merge(a).powers, rtol=1e-13)
    with pytest.raises(ValueError, match="5 channels with 4"):
        a.merge(ChannelStatistics.of(skewed(10, 4)))
    with pytest.raises(ValueError, match="no tokens"):
        ChannelStatistics.of(torch.empty(0, 4))


def test_every_value_is_in_one_bin():
    x = torch.tensor([[-1e9, -64.0, -0.0, 0.0, 2.0**-10, 1.0, 64.0, 1e9]])
    histogram = ChannelStatistics.of(x).histogram
    assert histogram.sum() == 8
    assert (histogram[0], histogram[65], histogram[-1]) == (1, 2, 2)


def test_observed_statistics_equal_those_of_captured_tokens(models):
    settings = {"layers": "blocks.*", "batch_size": 3}
    found = observe(*models, LABELS, generator=generator(), **settings)
    kept = capture(*models, LABELS, generator=generator(), **settings)
    assert list(found) == list(kept)
    for name, steps in found.items():
        for ours, x in zip(steps, kept[name], strict=True):
            direct = ChannelStatistics.of(x)
            assert ours.count == len(x)
            assert torch.equal(ours.histogram, direct.histogram)
            assert torch.equal(ours.absmax, direct.absmax)
            assert torch.allclose(ours.mean, direct.mean, rtol=1e-12, atol=1e-15)
            assert torch.allclose(ours.powers, direct.powers, rtol=1e-11, atol=1e-15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_capture_and_observe_on_cuda():
    config = VARConfig(2, 64, 2, (1, 2, 3, 5, 7), vocabulary=512, code_channels=16, classes=10)
    models = VAR(config).cuda().eval(), VQVAE(VQVAEConfig.preset("mini")).cuda().eval()
    kept = capture(*models, CalibrationSet(10, 6), tokens=30)
    found = observe(*models, CalibrationSet(10, 6))
    for name, steps in kept.items():
        assert all(x.device.type == "cpu" for x in steps)
        assert torch.allclose(found[name][0].mean, ChannelStatistics.of(steps[0]).mean, atol=1e-6)
