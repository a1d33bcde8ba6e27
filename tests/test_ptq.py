"""Oracles: the model itself, a block by hand in float64, the formula of the divergence."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from fpqvar_lab.formats import E2M1, E2M3
from fpqvar_lab.method import (
    RECIPES,
    QuantizedVAR,
    QuantKVCache,
    RequantizedKVCache,
    calibrate,
    calibrate_and_quantize,
    kl_divergence,
    load_factors,
    load_quantized,
    quantize_model,
    report,
    sample_distillation_set,
    save_quantized,
    uniform_recipe,
)
from fpqvar_lab.quantization import PER_TOKEN, Quantizer, per_group
from fpqvar_lab.transforms import hadamard_matrix, random_signs
from fpqvar_lab.var import (
    VAR,
    VQVAE,
    VARConfig,
    VQVAEConfig,
    read_metadata,
    read_state,
    sample,
)

CONFIG = VARConfig(
    depth=2, width=128, heads=2, patch_sizes=(1, 2, 3), vocabulary=64, code_channels=4, classes=3
)
LABELS = torch.arange(3)


def randomized(model, seed=0):
    """Random weights large enough to make every part of the network matter."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def var():
    return randomized(VAR(CONFIG))


@pytest.fixture(scope="module")
def vqvae():
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
    return randomized(VQVAE(shape))


def draw(model, vqvae, seed=0):
    return sample(model, vqvae, LABELS, generator=torch.Generator().manual_seed(seed))


def teacher_forced(model, seed=3):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3, CONFIG.tokens - 1, CONFIG.code_channels, generator=generator)
    return model(LABELS, inputs)


def short(recipe):
    return replace(recipe, distillation_steps=min(recipe.distillation_steps, 2))


@pytest.fixture(scope="module")
def quantized(var, vqvae):
    """Every named recipe, applied once."""
    models = {}

    def get(name):
        if name not in models:
            models[name] = calibrate_and_quantize(
                var,
                vqvae,
                short(RECIPES[name]),
                images=3,
                distillation_images=6,
                progress=False,
            )
        return models[name]

    return get


def test_fp16_is_the_model_bit_for_bit(var, vqvae, quantized):
    model, _ = quantized("fp16")
    assert torch.equal(teacher_forced(model), teacher_forced(var))
    assert torch.equal(draw(model, vqvae), draw(var, vqvae))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_samples_and_lists_all_layers(name, var, vqvae, quantized):
    model, done = quantized(name)
    pictures = draw(model, vqvae)
    assert pictures.shape == (3, 1, 12, 12)
    assert torch.isfinite(pictures).all()
    linear = {name for name, module in var.named_modules() if isinstance(module, nn.Linear)}
    assert {layer.name for layer in done.layers} == linear
    expected = {layer for layer in linear if RECIPES[name].rule_for(layer)}
    assert {layer.name for layer in done.layers if layer.quantized} == expected


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_from_its_file_bit_for_bit(name, vqvae, quantized, tmp_path):
    model, done = quantized(name)
    save_quantized(model, tmp_path / "model.safetensors", {"note": "kept"})
    again = load_quantized(tmp_path / "model.safetensors")
    assert again.recipe == model.recipe
    assert report(again) == done
    assert torch.equal(teacher_forced(again), teacher_forced(model))
    assert torch.equal(draw(again, vqvae), draw(model, vqvae))


def test_the_original_is_left_as_it_is(var, vqvae):
    before = {key: value.clone() for key, value in var.state_dict().items()}
    recipe = replace(short(RECIPES["fp4-best"]), rotate_values=True)
    calibrate_and_quantize(var, vqvae, recipe, images=3, distillation_images=6, progress=False)
    after = var.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(parameter.requires_grad for parameter in var.parameters())


def test_materialized_weights_and_compiled_inputs_change_no_bit(vqvae, quantized):
    model, _ = quantized("fp4-dfq-ght")
    before = teacher_forced(model)
    assert torch.equal(teacher_forced(model.materialize()), before)
    assert torch.equal(teacher_forced(model.materialize(compile=True)), before)


def test_one_block_by_hand(var, quantized):
    """A block of dual format and GHT, in float64 and in our own words."""
    model, _ = quantized("fp4-dfq-ght")
    block, ours = var.blocks[0], model.blocks[0]
    signs = random_signs(128, torch.Generator().manual_seed(0)).double()
    rotation = signs[:, None] * hadamard_matrix(128) / math.sqrt(128)

    def e2m1(x, levels=(0, 0.5, 1, 1.5, 2, 3, 4, 6)):
        groups = x.double().unflatten(-1, (-1, 128))
        scale = groups.abs().amax(-1, keepdim=True) / levels[-1]
        grid = torch.tensor(levels, dtype=torch.float64)
        nearest = ((groups.abs() / scale)[..., None] - grid).abs().argmin(-1)
        return (grid[nearest] * scale * groups.sign()).flatten(-2)

    def dual(x):
        negative = e2m1(x.clamp_max(0), tuple(i / 4 for i in range(8)))
        return negative + e2m1(x.clamp_min(0))

    def linear(x, layer, bias, rotate, quantize=e2m1):
        weight = layer.weight.double()
        x, weight = (x @ rotation, weight @ rotation) if rotate else (x, weight)
        return quantize(x) @ e2m1(weight).T + bias.double()

    x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(1)).double()
    modulation = [part.double() for part in block.modulation(var.class_emb(LABELS[:2]), None)]
    gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation
    attention, ffn = block.attn, block.ffn

    h = F.layer_norm(x, (128,), eps=1e-6) * (1 + scale1) + shift1
    bias = torch.cat((attention.q_bias, attention.zero_k_bias, attention.v_bias))
    q, k, v = (
        linear(h, attention.mat_qkv, bias, True).unflatten(2, (3, 2, 64)).permute(2, 0, 3, 1, 4)
    )
    q = F.normalize(q, dim=-1) * attention.scale_mul_1H11.double().exp()
    weights = (q @ F.normalize(k, dim=-1).transpose(-1, -2)).softmax(-1)
    out = (weights @ v).transpose(1, 2).flatten(2)
    expected = x + gamma1 * linear(out, attention.proj, attention.proj.bias, False)
    h = F.layer_norm(expected, (128,), eps=1e-6) * (1 + scale2) + shift2
    hidden = F.gelu(linear(h, ffn.fc1, ffn.fc1.bias, True), approximate="tanh")
    expected = expected + gamma2 * linear(hidden, ffn.fc2, ffn.fc2.bias, False, dual)

    found = ours(x.float(), [part.float() for part in modulation]).double()
    # Float32 moves a few values over a rounding boundary; everything else agrees closely.
    assert (found - expected).norm() < 0.02 * expected.norm()
    assert ((found - expected).abs() < 1e-3).double().mean() > 0.5


def test_learned_factors_are_folded_into_adaln(quantized):
    model, _ = quantized("fp4-fpqvar")
    assert all(layer.input_scale is None for layer in model.quantized_layers().values())


def test_with_a_shared_adaln_factors_stay_with_the_layer(vqvae):
    var = randomized(VAR(replace(CONFIG, shared_aln=True)))
    model, _ = calibrate_and_quantize(var, vqvae, "fp4-fpqvar", images=3, progress=False)
    kept = {name for name, m in model.quantized_layers().items() if m.input_scale is not None}
    assert kept == {
        f"blocks.{i}.{layer}" for i in range(2) for layer in ("attn.mat_qkv", "ffn.fc1")
    }
    assert not torch.equal(teacher_forced(model), teacher_forced(var))


def test_rotated_values_leave_the_function_as_it_was(var):
    recipe = replace(RECIPES["fp16"], name="rotated", rotate_values=True)
    model, _ = quantize_model(var, recipe, progress=False)
    torch.testing.assert_close(teacher_forced(model), teacher_forced(var), atol=1e-4, rtol=1e-4)
    rotated = model.blocks[0].attn.proj.weight
    assert not torch.allclose(rotated, var.blocks[0].attn.proj.weight)


def test_factors_can_be_given_instead_of_learned(var, tmp_path):
    factors = [torch.linspace(0.5, 2, 128)] * 2
    torch.save(factors, tmp_path / "factors.pth")
    given = load_factors(tmp_path / "factors.pth") | load_factors(
        tmp_path / "factors.pth", "attn.mat_qkv"
    )
    model, _ = quantize_model(var, "fp4-fpqvar", factors=given, progress=False)
    folded = model.blocks[0].ada_lin.linear.bias[5 * 128 :]
    expected = var.blocks[0].ada_lin.linear.bias[5 * 128 :] * factors[0]
    torch.testing.assert_close(folded, expected)


def test_factors_of_another_kind_are_refused(tmp_path):
    file = tmp_path / "factors.pth"
    torch.save({"a": torch.ones(3)}, file)
    with pytest.raises(ValueError, match="expected a list of tensors"):
        load_factors(file)
    torch.save([torch.tensor([1.0, -1.0])], file)
    with pytest.raises(ValueError, match="entry 0 is not a vector of positive factors"):
        load_factors(file)
    torch.save([print], file)
    with pytest.raises(ValueError, match="refused, it holds more than tensors"):
        load_factors(file)


def test_sizes_are_counted(var):
    _, done = quantize_model(var, "fp4-baseline", progress=False)
    assert done.bits_per_value == 4 + 32 / 128
    fc1 = next(layer for layer in done.layers if layer.name == "blocks.0.ffn.fc1")
    assert (fc1.bytes_before, fc1.bytes_after) == (2 * 512 * 128, 512 * 128 // 2 + 4 * 512)
    assert "skipped" in done.table()
    assert "4.25 bits per weight" in done.table()


def test_a_quantized_d30_block_takes_less_than_30_percent():
    config = replace(VARConfig.preset("d30"), depth=1, classes=1)
    _, done = quantize_model(VAR(config).eval(), "fp4-dfq-ght", progress=False)
    assert done.nbytes() < 0.3 * done.nbytes(before=True)


def test_calibration_is_captured_only_where_it_is_needed(var, vqvae):
    assert calibrate(var, vqvae, "fp4-dfq-ght", images=3) is None
    captured = calibrate(var, vqvae, "fp4-fpqvar", images=3)
    assert {name.rpartition(".")[2] for name in captured} == {"mat_qkv", "fc1"}


def test_what_does_not_fit_is_said(var, vqvae):
    with pytest.raises(ValueError, match=r"fp4-fpqvar needs the inputs of blocks.0.attn.mat_qkv"):
        quantize_model(var, "fp4-fpqvar")
    seen = calibrate(var, vqvae, "fp4-best", images=3)
    with pytest.raises(ValueError, match="fp4-best distills; pass distillation_set"):
        quantize_model(var, "fp4-best", seen)
    other = replace(RECIPES["fp4-baseline"], layers=(("*.mlp", RECIPES["mxfp4"].layers[0][1]),))
    with pytest.raises(ValueError, match=r"pattern '\*.mlp' matches no linear layer; there are"):
        quantize_model(var, other)
    wide = uniform_recipe("wide", "", E2M1, granularity=per_group(96))
    with pytest.raises(ValueError, match=r"wide, layer .*: group_size 96 does not divide 128"):
        quantize_model(var, wide, progress=False)
    with pytest.raises(ValueError, match=r"factors for head"):
        quantize_model(var, "fp4-fpqvar", seen, factors={"head": torch.ones(128)})


def test_a_file_of_another_kind_or_damaged_is_refused(quantized, tmp_path):
    file = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError):
        load_quantized(file)
    model, _ = quantized("fp4-baseline")
    save_quantized(model, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_quantized(file)
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(2)}, other)
    with pytest.raises(ValueError, match="not a quantized model"):
        load_quantized(other)


@pytest.mark.parametrize("key", ["blocks.1.ffn.fc1.weight_codes", "head.weight"])
def test_a_file_that_lacks_a_tensor_is_refused(key, quantized, tmp_path):
    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    save_quantized(quantized("fp4-baseline")[0], whole)
    state = read_state(whole)
    del state[key]
    save_file(state, part, read_metadata(whole))
    with pytest.raises(ValueError, match=rf"part.safetensors: .*{key}"):
        load_quantized(part)


def test_a_cached_entry_never_changes_and_is_kept_packed():
    quantizer = Quantizer(E2M1, PER_TOKEN)
    cache, generator = QuantKVCache(quantizer), torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 2, n, 64, generator=generator) for n in (1, 4, 9)]
    for part in parts:
        keys, values = cache.append(part, -part)
    expected = torch.cat([quantizer(part) for part in parts], dim=2)
    assert torch.equal(keys, expected)
    assert torch.equal(values, -expected)
    entries = 2 * 2 * 2 * 14
    assert cache.nbytes == entries * (64 // 2 + 4)


def test_the_released_cache_drifts_when_groups_pair_rows():
    generator = torch.Generator().manual_seed(0)
    sizes = [side * side for side in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)]
    parts = [torch.randn(1, 4, n, 64, generator=generator) for n in sizes]
    true = torch.cat(parts, dim=2)

    def error(quantizer):
        cache = RequantizedKVCache(quantizer)
        for part in parts:
            keys, _ = cache.append(part, part)
        once = quantizer(true.reshape(-1, quantizer.granularity.row_length(true.shape)))
        old = slice(0, 30)  # tokens of the first four steps, quantized seven times or more
        errors = (keys - true)[:, :, old], (once.view_as(true) - true)[:, :, old]
        return tuple(error.norm().item() for error in errors)

    again, once = error(Quantizer(E2M1, per_group(128)))
    assert again > 1.1 * once
    again, once = error(Quantizer(E2M3, PER_TOKEN))
    assert again == pytest.approx(once, rel=1e-3)


def test_teacher_forcing_reads_the_quantized_cache(var, quantized):
    plain, cached = quantized("fp4-fpqvar")[0], quantized("fp4-fpqvar-kv4")[0]
    assert isinstance(cached, QuantizedVAR)
    assert not torch.equal(teacher_forced(plain), teacher_forced(cached))


def test_distillation_lowers_the_divergence_and_keeps_formats_and_scales(var, vqvae):
    recipe = replace(RECIPES["fp4-dfq-ght"], distillation_steps=30)
    examples = sample_distillation_set(var, vqvae, 30)
    plain, before = quantize_model(var, replace(recipe, distillation_steps=0), progress=False)
    distilled, after = quantize_model(var, recipe, distillation_set=examples, progress=False)

    def distance(model):
        expected = var(examples.labels, examples.inputs)
        return kl_divergence(model(examples.labels, examples.inputs), expected).item()

    assert distance(distilled) < 0.9 * distance(plain)
    assert after == before
    scales = (m.quantized_layers()["blocks.0.ffn.fc1"].weight.scales for m in (plain, distilled))
    assert torch.equal(*(scale.main.values for scale in scales))


def test_divergence_is_what_torch_computes():
    a, b = torch.randn(4, 7, 9), torch.randn(4, 7, 9)
    expected = F.kl_div(
        a.log_softmax(-1), b.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    torch.testing.assert_close(kl_divergence(a, b), expected.mean())
