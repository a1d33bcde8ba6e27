"""Counts of operations, checked against torch's own counter and against published figures."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fpqvar_lab.var import VAR, VQVAE, VARConfig, VQVAEConfig, sample
from fpqvar_lab.var.operations import (
    FP16,
    QUANTIZED_LAYERS,
    W4A4,
    W4A4KV6,
    W6A6,
    W8A8,
    by_layer,
    cache_bytes,
    memory_bytes,
    parameter_bytes,
    parameter_counts,
    select,
    total,
    transformer_operations,
    vqvae_operations,
)

PRESETS = ("d16", "d20", "d24", "d30", "d36", "mini")
D30 = VARConfig.preset("d30")


def test_d30_with_guidance_costs_what_the_arithmetic_on_paper_says():
    # Oracle: 12 C^2 weights per block, 680 tokens, two rows per image, written out independently.
    macs = by_layer(transformer_operations(D30))
    width, depth, tokens, rows = 1920, 30, 680, 2
    linear = sum(macs[layer] for layer in QUANTIZED_LAYERS)
    assert linear == 12 * width**2 * depth * tokens * rows
    assert round(linear / 1e9, 1) == 1804.9
    assert round(macs["attention"] / 1e9, 1) == 66.0
    assert round(macs["ada_lin"] / 1e9, 2) == 1.33
    # The released code evaluates the head's AdaLN in each of the ten steps, we once.
    assert round((macs["head"] + 10 * macs["head_nm"]) / 1e9, 1) == 10.8


@pytest.mark.parametrize(
    ("precision", "megabytes"), [(W4A4, 684), (W6A6, 995), (W8A8, 1327), (FP16, 2654)]
)
def test_d30_streams_the_published_weight_bytes_in_a_step(precision, megabytes):
    # Oracle: 30 blocks of 12 * 1920^2 weights at 4.125, 6, 8 and 16 bits; biases add 0.1 %.
    first = select(transformer_operations(D30), step=0)
    weights = sum(parameter_bytes(o, precision) for o in first if o.layer in QUANTIZED_LAYERS)
    assert weights / 1e6 == pytest.approx(megabytes, rel=2e-3)


def test_d30_six_bit_cache_is_full_at_122_megabytes():
    # Oracle: 30 blocks, keys and values, 680 tokens, two rows, 6.25 bits per element.
    last = select(transformer_operations(D30), layer="attention", step=9)[0]
    assert last.cache_read == 30 * 2 * 680 * 2 * 1920
    assert last.cache_read * W4A4KV6.cache / 8 / 1e6 == pytest.approx(122.4, abs=0.05)
    assert cache_bytes(last, FP16) == (last.cache_read + last.cache_written) * 2


def test_bandwidth_alone_caps_d30_where_the_arithmetic_on_paper_says():
    # Oracle: weights and keys read at 25.6 GB/s and 80 %; six-bit cache, and a quantized head.
    operations = transformer_operations(D30)
    head = total(select(operations, "head"), "parameters")
    cache = total(operations, "cache_read") * W4A4KV6.cache / 8
    for precision, ceiling in ((W4A4, 2.40), (W6A6, 1.76), (W8A8, 1.37), (FP16, 0.72)):
        weights = sum(parameter_bytes(operation, precision) for operation in operations)
        weights -= head * (16 - precision.weights) / 8
        assert 25.6e9 * 0.8 / (weights + cache) == pytest.approx(ceiling, rel=0.01)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_key_is_written_once_and_read_in_each_later_step(preset):
    config = VARConfig.preset(preset)
    attention = select(transformer_operations(config, batch=3), layer="attention")
    per_token = config.depth * 2 * 3 * 2 * config.width
    assert total(attention, "cache_written") == per_token * config.tokens
    seen = [sum(p * p for p in config.patch_sizes[: i + 1]) for i in range(config.steps)]
    assert [operation.cache_read for operation in attention] == [per_token * n for n in seen]


def test_without_guidance_the_transformer_does_half_the_work():
    guided, plain = (by_layer(transformer_operations(D30, guidance=g)) for g in (True, False))
    for layer in guided:
        assert guided[layer] == plain[layer] * (1 if layer == "word_embed" else 2)


def test_batch_multiplies_arithmetic_but_not_weight_traffic():
    one, four = transformer_operations(D30), transformer_operations(D30, batch=4)
    assert total(four) == 4 * total(one)
    assert total(four, "parameters") == total(one, "parameters")
    assert total(four, "cache_read") == 4 * total(one, "cache_read")


def test_narrow_precision_shrinks_quantized_layers_only():
    operations = transformer_operations(D30)
    for operation in select(operations, step=3):
        ratio = memory_bytes(operation, FP16) / memory_bytes(operation, W4A4)
        assert math.isclose(ratio, 16 / 4.125 if operation.layer in QUANTIZED_LAYERS else 1)


def test_a_batch_of_zero_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        transformer_operations(D30, batch=0)
    with pytest.raises(ValueError, match="batch is 0"):
        vqvae_operations(VQVAEConfig.preset("mini"), batch=0)


@pytest.mark.parametrize("preset", ["mini", "ch160v4096z32"])
def test_vqvae_counts_agree_with_torch_flop_counter(preset):
    config = VQVAEConfig.preset(preset)
    model = on_meta(lambda: VQVAE(config))
    codes = [torch.zeros(2, p * p, dtype=torch.int64, device="meta") for p in config.patch_sizes]
    operations = vqvae_operations(config, batch=2)
    assert flops(lambda: model.decode(codes)) == 2 * total(operations)
    stored = numel(model.decoder) + numel(model.post_quant_conv)
    assert total(select(operations, "decoder"), "parameters") == stored


@pytest.mark.parametrize("preset", ["mini", "d16", "d30", "d36"])
def test_transformer_counts_agree_with_torch_flop_counter(preset):
    config, rows = VARConfig.preset(preset), 3
    model = on_meta(lambda: VAR(config))
    operations = transformer_operations(config, batch=rows, guidance=False)
    labels = torch.zeros(rows, dtype=torch.int64, device="meta")
    modulation, caches = model.modulation(labels), model.new_cache(rows)
    assert flops(lambda: model.modulation(labels)) == 2 * total(
        o for o in operations if o.step is None
    )
    for step, tokens in enumerate(config.tokens_per_step):
        latents = torch.zeros(rows, tokens, config.code_channels, device="meta")

        def run(latents=latents, step=step):
            x = model.word_embed(latents) if step else model.first_tokens(labels)
            model.logits(x, modulation, caches=caches)

        assert flops(run) == 2 * total(select(operations, step=step))


def test_a_sampled_batch_agrees_with_torch_flop_counter():
    config, vqvae_config = VARConfig.preset("mini"), VQVAEConfig.preset("mini")
    models = VAR(config), VQVAE(vqvae_config)
    counted = total(transformer_operations(config, 2)) + total(vqvae_operations(vqvae_config, 2))
    assert flops(lambda: sample(*models, torch.tensor([3, 7]))) == 2 * counted


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_counts_add_up_to_the_model(preset):
    config = VARConfig.preset(preset)
    assert sum(parameter_counts(config).values()) == numel(on_meta(lambda: VAR(config)))


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("d16", 310), ("d20", 600), ("d24", 1000), ("d30", 2000), ("d36", 2300)],
)
def test_parameter_counts_are_near_the_published_sizes(preset, millions):
    # Oracle: the table of the VAR paper, rounded to one or two digits there.
    found = sum(parameter_counts(VARConfig.preset(preset)).values())
    assert found / 1e6 == pytest.approx(millions, rel=0.05)


def flops(run):
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def numel(module):
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(build):
    """A model without storage: shapes only, so that the largest preset is built in a moment."""
    with torch.device("meta"):
        return build()
