"""A VAR as a list of operations: totals, bytes, and an order that can run."""

from math import ceil

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fpqvar_lab import var
from fpqvar_lab.formats import DUAL_FP4, E2M1, E2M3, INT4
from fpqvar_lab.hardware.accelerator import (
    Kind,
    excerpt,
    stored_bytes,
    with_bfloat16_scales,
    workload,
)
from fpqvar_lab.method import RECIPES, ptq
from fpqvar_lab.quantization import Quantizer
from fpqvar_lab.var import VARConfig, VQVAEConfig
from fpqvar_lab.var.operations import QUANTIZED_LAYERS, by_layer, total, transformer_operations

PRESETS = ("d16", "d20", "d24", "d30", "d36", "mini")
D30 = VARConfig.preset("d30")
MINI = VARConfig.preset("mini")


def macs_by_kind(ops):
    sums = dict.fromkeys(Kind, 0)
    for op in ops:
        sums[op.kind] += op.macs
    return sums


@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("preset", PRESETS)
def test_macs_are_those_of_the_closed_counts(preset, guidance):
    """Oracle: `var.operations`, layer by layer."""
    config = VARConfig.preset(preset)
    macs = macs_by_kind(workload(config, "fp4-fpqvar", batch=3, guidance=guidance))
    counts = by_layer(transformer_operations(config, 3, guidance))
    assert macs[Kind.LINEAR] == sum(counts[layer] for layer in QUANTIZED_LAYERS)
    assert macs[Kind.SCORES] == macs[Kind.VALUES] == counts["attention"] / 2
    assert macs[Kind.CONDITION] == counts["ada_lin"] + counts["head_nm"]
    assert macs[Kind.HEAD] == counts["head"]
    assert macs[Kind.EMBED] == counts["word_embed"]
    assert sum(macs.values()) == sum(counts.values())


def test_d30_with_guidance_costs_what_the_arithmetic_on_paper_says():
    """Oracle: 12 C^2 weights per block, 680 tokens, two rows per image; attention 2 n m C."""
    macs = macs_by_kind(workload(D30, "fp16"))
    assert macs[Kind.LINEAR] == 12 * 1920**2 * 30 * 680 * 2
    assert round(macs[Kind.LINEAR] / 1e9, 1) == 1804.9
    assert round((macs[Kind.SCORES] + macs[Kind.VALUES]) / 1e9, 1) == 66.0
    assert round(macs[Kind.HEAD] / 1e9, 1) == 10.7
    assert round(30 * 2 * 6 * 1920**2 / 1e9, 2) == 1.33
    assert round(sum(macs.values()) / 1e9) == 1883


def test_macs_are_those_that_torch_counts_on_the_running_model():
    model, vqvae = var.load_var("mini"), var.load_vqvae("mini")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        var.sample(model, vqvae, torch.tensor([3, 7]))
    ops = workload(model.config, "fp4-fpqvar", batch=2, vqvae=vqvae.config)
    assert counter.get_total_flops() == 2 * sum(op.macs for op in ops)


@pytest.mark.parametrize("preset", PRESETS)
def test_unquantized_bytes_are_those_of_the_closed_counts(preset):
    """Oracle: `var.operations`, 2 bytes per element; a step's own keys and values do not move."""
    config = VARConfig.preset(preset)
    ops, counts = workload(config, "fp16"), transformer_operations(config)
    assert sum(op.weight_bytes for op in ops) == 2 * total(counts, "parameters")
    read, written = total(counts, "cache_read"), total(counts, "cache_written")
    last = total([o for o in counts if o.step == config.steps - 1], "cache_written")
    assert sum(op.cache_read_bytes for op in ops) == 2 * (read - written)
    assert sum(op.cache_written_bytes for op in ops) == 2 * (written - last)


TEXTS = (
    "E2M1 per-group-128",
    "E2M1 per-group-128 scale-dtype=bfloat16",
    "E2M3 per-token",
    "DUAL_FP4 per-group-64",
    "DUAL_FP4_POW2 per-group-128 scale-dtype=float16",
    "INT4-ASYMMETRIC per-group-128",
    "E2M1 per-group-32 scale-dtype=power-of-two",
    "INT8 per-channel",
)


@pytest.mark.parametrize("text", TEXTS)
def test_stored_bytes_are_those_of_a_stored_tensor(text):
    """Oracle: the packed tensor itself."""
    quantizer = Quantizer.from_text(text)
    x = torch.randn(24, 256, generator=torch.Generator().manual_seed(0))
    assert stored_bytes(quantizer, 24, 256) == quantizer.quantize(x).nbytes


@pytest.mark.parametrize("name", ["fp4-baseline", "int6-rtn", "fp4-dfq-ght", "mxfp4"])
def test_weight_bytes_agree_with_the_report_of_quantization(name):
    """Oracle: `ptq`'s bytes of the packed weights of the mini model."""
    _, report = ptq.quantize_model(var.load_var("mini"), name, progress=False)
    ops = [w for w in workload(MINI, name) if w.kind is Kind.LINEAR and w.step == 0]
    biases = sum(w.columns * 2 // 3 if "qkv" in w.name else w.columns for w in ops)
    assert sum(w.weight_bytes for w in ops) - 2 * biases == report.nbytes()
    elements = sum(w.inner * w.columns for w in ops)
    assert 8 * report.nbytes() / elements == report.bits_per_value


@pytest.mark.parametrize("name", RECIPES)
def test_every_operation_comes_after_those_that_it_needs(name):
    ops = workload(MINI, name, vqvae=VQVAEConfig.preset("mini"))
    seen: set[str] = set()
    for op in ops:
        assert set(op.after) <= seen
        assert op.name not in seen
        seen.add(op.name)


def test_weights_pass_once_for_all_images_of_a_batch():
    one, eight = (workload(MINI, "fp4-fpqvar", batch=batch) for batch in (1, 8))
    assert [w.weight_bytes for w in one] == [w.weight_bytes for w in eight]
    assert sum(w.macs for w in eight) == 8 * sum(w.macs for w in one)
    assert sum(w.cache_read_bytes for w in eight) == 8 * sum(w.cache_read_bytes for w in one)


def test_recipes_name_the_formats_and_add_the_operations_that_they_need():
    ops = {w.name: w for w in workload(MINI, "fp4-fpqvar-kv6")}
    fc1, fc2 = (ops[f"step 1/blocks.0/{name}"] for name in ("fc1", "fc2"))
    assert (fc1.input_format, fc1.weight_format) == (E2M1, E2M1)
    assert fc2.input_format == DUAL_FP4
    transformed = {w.name.rpartition("/")[2] for w in ops.values() if w.kind is Kind.HADAMARD}
    assert transformed == {"mat_qkv.hadamard", "fc1.hadamard"}
    cached = ops["step 1/blocks.0/cache-quantize"]
    assert (cached.input_format, cached.columns, cached.heads) == (E2M3, 64, 4)
    assert not any(w.kind in (Kind.HADAMARD, Kind.QUANTIZE) for w in workload(MINI, "fp16"))


def test_a_layer_that_a_recipe_leaves_alone_has_16_bits():
    ops = {w.name: w for w in workload(MINI, "int4-litevar")}
    assert ops["step 0/blocks.0/fc2"].weight_format is None
    assert ops["step 0/blocks.0/fc1"].weight_format == INT4
    assert "step 0/blocks.0/fc2.quantize" not in ops


def test_shared_adaln_is_computed_once():
    config = VARConfig(3, 128, 2, (1, 2), shared_aln=True)
    ops = workload(config, "fp16")
    condition = [w.name for w in ops if w.kind is Kind.CONDITION]
    assert condition == ["blocks.0/ada_lin", "head_nm"]
    norms = [w for w in ops if w.name.endswith("norm1")]
    assert all("blocks.0/ada_lin" in w.after for w in norms)


def test_bfloat16_scales_halve_the_scales():
    before, after = (
        sum(w.weight_bytes for w in workload(MINI, recipe) if w.kind is Kind.LINEAR)
        for recipe in ("fp4-baseline", with_bfloat16_scales("fp4-baseline"))
    )
    groups = 5 * 6 * 12 * 256**2 / 128
    assert before - after == 2 * groups


@pytest.mark.parametrize(("rows", "efficiency"), [(16, 0.94), (32, 0.90), (64, 0.79), (128, 0.66)])
def test_rows_that_fill_no_tile_cost_what_the_arithmetic_on_paper_says(rows, efficiency):
    """Oracle: 2 n rows in tiles, averaged over the ten steps of the public models."""
    ops = [w for w in workload(D30, "fp16") if w.name.endswith("blocks.0/fc1")]
    padded = sum(ceil(op.rows / rows) * rows for op in ops)
    assert round(sum(op.rows for op in ops) / padded, 2) == efficiency


def test_a_step_by_itself_needs_nothing_of_others():
    ops = workload(MINI, "fp4-fpqvar")
    found = excerpt(ops, 2)
    names = {op.name for op in found}
    assert len(found) == sum(op.step == 2 for op in ops)
    assert all(set(op.after) <= names for op in found)
    assert any(op.after for op in found)
    with pytest.raises(ValueError, match="step 9 has no operations"):
        excerpt(ops, 9)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        workload(MINI, "fp16", batch=0)


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="does not divide"):
        workload(VARConfig(1, 96, 2, (1, 2)), "fp4-baseline")


def test_no_quantizer_means_two_bytes():
    assert stored_bytes(None, 3, 5) == 30
