"""Cross-entropy, divergence and signal-to-noise ratio against loops in float64."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from fpqvar_lab import data
from fpqvar_lab.evaluation import divergence, layer_snr, predictions
from fpqvar_lab.formats import E2M1
from fpqvar_lab.method import Recipe, quantize_model
from fpqvar_lab.quantization import PER_TOKEN, Quantizer
from fpqvar_lab.var import VAR, VQVAE, VARConfig, VQVAEConfig

CONFIG = replace(VARConfig.preset("mini"), depth=2, width=32, heads=2, vocabulary=32)
VQVAE_CONFIG = replace(VQVAEConfig.preset("mini"), channel_multipliers=(1, 1, 1), vocabulary=32)


@pytest.fixture(scope="module")
def vqvae():
    torch.manual_seed(0)
    return VQVAE(VQVAE_CONFIG).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(1)
    original = VAR(CONFIG).eval().requires_grad_(False)
    original.head.weight.normal_(std=0.2)
    other = copy.deepcopy(original)
    other.blocks[1].ffn.fc2.weight += 0.1 * torch.randn_like(other.blocks[1].ffn.fc2.weight)
    other.head.weight += 0.05 * torch.randn_like(other.head.weight)
    return original, other


@pytest.fixture(scope="module")
def images():
    images, labels = data.fashion_mnist("test")
    return images[:40], labels[:40]


def test_divergence_is_that_of_the_definition(models, vqvae, images):
    """Oracle: sums over codes in float64, token by token, for three images."""
    original, other = models
    images, labels = (x[:3] for x in images)
    found = divergence(other, original, vqvae, images, labels, batch=2)
    codes = vqvae.encode(images)
    inputs = vqvae.teacher_forcing_input(codes)
    p, q = (m(labels, inputs).double().softmax(-1) for m in (original, other))
    truth = torch.cat(codes, 1)
    kl, cross_entropy = np.zeros((3, 88)), np.zeros((3, 88))
    for image in range(3):
        for token in range(88):
            a, b = p[image, token].tolist(), q[image, token].tolist()
            kl[image, token] = sum(x * np.log(x / y) for x, y in zip(a, b, strict=True))
            cross_entropy[image, token] = -np.log(b[truth[image, token]])
    for name, expected in (("kl", kl), ("cross_entropy", cross_entropy)):
        assert found.estimate(name).value == pytest.approx(expected.mean(), rel=1e-4)
        steps = np.split(expected.mean(0), np.cumsum((1, 4, 9, 25)))
        np.testing.assert_allclose(found.by_step(name), [s.mean() for s in steps], rtol=1e-4)


def test_steps_with_a_cache_predict_what_one_pass_does(models, vqvae, images):
    images, labels = (x[:3] for x in images)
    inputs = vqvae.teacher_forcing_input(vqvae.encode(images))
    steps = torch.cat(list(predictions(models[1], labels, inputs)), dim=1)
    torch.testing.assert_close(steps, models[1](labels, inputs), rtol=1e-4, atol=1e-5)


def test_a_quantized_cache_diverges(vqvae, images):
    """Nothing but the cache is quantized: a single pass over all tokens would not show it."""
    torch.manual_seed(1)
    original = VAR(replace(CONFIG, width=64)).eval().requires_grad_(False)
    original.class_emb.weight.normal_()
    for block in original.blocks:
        block.ada_lin.linear.weight.normal_(std=0.2)
    original.head.weight.normal_(std=0.2)
    recipe = Recipe("cache", "only the cache", kv=Quantizer(E2M1, PER_TOKEN))
    model, _ = quantize_model(original, recipe, progress=False)
    assert divergence(model, original, vqvae, *images).estimate("kl").value > 1e-5


def test_a_model_does_not_differ_from_itself(models, vqvae, images):
    original, _ = models
    found = divergence(copy.deepcopy(original), original, vqvae, *images)
    assert found.estimate("kl").value == 0
    assert found.estimate("kl").high == 0
    assert found.estimate("cross_entropy").value > 0


def test_twenty_groups_serve_differences(models, vqvae, images):
    found = divergence(*models, vqvae, *images, batch=7).estimate("kl")
    assert len(found.without) == 20
    assert np.mean(found.without) == pytest.approx(found.value)
    assert found.low < found.value < found.high


def test_signal_to_noise_ratio_by_layer_and_step(models, vqvae, images):
    """Oracle: the outputs of the only layer that differs, from its captured inputs."""
    original, other = models
    images, labels = (x[:5] for x in images)
    found = layer_snr(other, original, vqvae, images, labels)
    assert list(found) == [
        f"blocks.{block}.{layer}"
        for block in range(2)
        for layer in ("attn.mat_qkv", "attn.proj", "ffn.fc1", "ffn.fc2")
    ]
    assert found["blocks.1.ffn.fc1"] == (np.inf,) * 5
    kept = []
    handle = original.blocks[1].ffn.fc2.register_forward_pre_hook(lambda _, x: kept.append(x[0]))
    original(labels, vqvae.teacher_forcing_input(vqvae.encode(images)))
    handle.remove()
    for step, x in enumerate(kept[0].split(CONFIG.tokens_per_step, 1)):
        signal, noisy = (m.blocks[1].ffn.fc2(x).double() for m in models)
        expected = 10 * torch.log10(signal.square().sum() / (noisy - signal).square().sum())
        assert found["blocks.1.ffn.fc2"][step] == pytest.approx(expected.item(), abs=1e-3)


def test_hooks_do_not_stay(models, vqvae, images):
    layer_snr(*models, vqvae, images[0][:2], images[1][:2])
    assert not any(m._forward_hooks for model in models for m in model.modules())
