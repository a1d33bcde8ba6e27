"""Prepared models: each layer against the float64 product of its operands, the whole against the
reference by teacher forcing.
"""

import math

import pytest
import torch
from torch import Tensor

from fpqvar_lab import data
from fpqvar_lab.evaluation import divergence
from fpqvar_lab.execution import EXECUTIONS, Processor, choose
from fpqvar_lab.method import (
    RECIPES,
    LayerRecipe,
    QuantizedVAR,
    QuantLinear,
    find_recipe,
    load_quantized,
    quantize_model,
    save_quantized,
)
from fpqvar_lab.quantization import ScaleDtype
from fpqvar_lab.transforms import GroupHadamard, random_signs
from fpqvar_lab.var import VAR, load_var, load_vqvae

WIDTH = 512
PROCESSORS = {
    "no units": Processor("a processor", bfloat16=False, int8=False),
    "bfloat16": Processor("a processor", bfloat16=True, int8=False),
    "int8": Processor("a processor", bfloat16=False, int8=True),
}
NAMES = [name for name in RECIPES if name != "fp16"]
RULES = {
    f"{name}-{pattern.rpartition('.')[2]}": rule
    for name in [*NAMES, "fp4-dfq-ght-ue5m3", "fp4-fpqvar-pow2-ue5m3", "fp4-dfq-ght-e4m3"]
    for pattern, rule in find_recipe(name).layers
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer_of(rule: LayerRecipe) -> QuantLinear:
    group = WIDTH if rule.hadamard == "full" else rule.hadamard
    signs = random_signs(group or 1, torch.Generator().manual_seed(1))
    transform = None if group is None else GroupHadamard(group, signs)
    factors = None if rule.scaling == "none" else normal(WIDTH, seed=2).exp()
    weight = rule.weight.quantize(normal(24, WIDTH))
    return QuantLinear(weight, normal(24, seed=3), rule.input, transform, factors)


@pytest.mark.parametrize("units", PROCESSORS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_layer_is_the_product_of_its_operands_within_the_bound_of_its_sums(rule, units):
    layer, x = layer_of(rule), normal(2, 10, WIDTH, seed=4)
    execution = choose(rule.weight, rule.input, PROCESSORS[units])
    layer.execute(execution)
    result = layer(x)
    assert layer.bias is not None
    # The operands step by step in float64, and what their roundings to float32 may move.
    inputs = x.double() if layer.input_scale is None else x.double() * layer.input_scale
    values = layer.input_quantizer(inputs if layer.transform is None else layer.transform(inputs))
    weight = layer.weight.dequantize().double()
    exact = values @ weight.T + layer.bias
    magnitudes = values.abs() @ weight.abs().T + layer.bias.abs()
    bound = (WIDTH + 32) * 2.0**-24 * magnitudes
    if execution == "bfloat16":
        bound += 2.0**-8 * exact.abs() + 2.0**-8 * layer.bias.abs()
    outside = (result - exact).abs() > bound
    # The order of summation in the transform moves a value to the next level once in a million.
    tokens_moved = outside.any(-1).sum()
    assert tokens_moved == 0 if layer.transform is None else tokens_moved <= 1


@pytest.fixture(scope="module")
def original() -> VAR:
    return load_var("mini-outlier")


@pytest.fixture(scope="module")
def quantized(original) -> dict[str, QuantizedVAR]:
    names = ("fp4-dfq-ght", "fp4-dfq-ght-ue5m3", "fp6-baseline", "fp16")
    return {name: quantize_model(original, name, progress=False)[0] for name in names}


@pytest.fixture(scope="module")
def measure(original):
    images, labels = data.fashion_mnist("test")
    vqvae = load_vqvae("mini")

    def kl(model: VAR, count: int) -> float:
        found = divergence(model, original, vqvae, images[:count], labels[:count], batch=50)
        return float(found.by_image("kl").mean())

    return kl


@pytest.mark.parametrize(
    ("count", "tolerance"), [(16, 0.03), pytest.param(200, 0.01, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("name", "execution"),
    [
        ("fp4-dfq-ght", "float32"),
        ("fp4-dfq-ght-ue5m3", "bfloat16"),
        ("fp6-baseline", "int8"),
    ],
)
def test_executed_models_are_as_far_from_the_original_as_the_reference(
    name, execution, count, tolerance, quantized, original, measure
):
    # Not compared with each other: a quantized network amplifies what it rounds. Adding 1e-7 to a
    # bias of the reference moves some values to another level, and its predictions by 3 % of their
    # own divergence; but the divergence itself stays, up to the noise of so many images.
    reference = measure(quantized[name].prepare("reference"), count)
    executed, _ = quantize_model(original, name, progress=False)
    found = measure(executed.prepare(execution), count)
    assert found == pytest.approx(reference, rel=tolerance)


def logits(model: VAR) -> Tensor:
    config = model.config
    x = normal(2, config.tokens - 1, config.code_channels)
    with torch.inference_mode():
        return model(torch.arange(2), x)


@pytest.mark.parametrize("execution", ["float32", "bfloat16"])
def test_packed_and_kept_weights_give_the_same_bits(execution, quantized):
    model = quantized["fp4-dfq-ght-ue5m3"]
    packed = logits(model.prepare(execution, kept_bytes=0))
    assert "unpacked in every call" in model.preparation
    kept = logits(model.prepare(execution))
    assert "unpacked once" in model.preparation
    assert torch.equal(packed, kept)


def test_packed_weights_take_at_most_three_tenths_of_float16s(quantized):
    model = quantized["fp4-dfq-ght"].prepare("float32", kept_bytes=0)
    in_float16 = sum(2 * math.prod(m.weight.shape) for m in model.quantized_layers().values())
    assert model.linear_nbytes <= 0.30 * in_float16
    assert model.prepare("float32").linear_nbytes >= 2 * in_float16


def test_the_reference_is_what_it_was(quantized):
    model = quantized["fp4-dfq-ght"]
    before = logits(model.prepare("reference", kept_bytes=0))
    assert not torch.equal(logits(model.prepare("float32")), before)
    assert torch.equal(logits(model.prepare("reference")), before)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_model_without_quantized_layers_is_untouched(execution, quantized, original):
    model = quantized["fp16"].prepare(execution)
    assert "no quantized layers" in model.preparation
    assert torch.equal(logits(model), logits(original))


def test_what_was_chosen_is_said_with_the_processor(quantized, caplog):
    with caplog.at_level("INFO"):
        preparation = quantized["fp6-baseline"].prepare("auto").preparation
    assert caplog.messages == [preparation]
    assert "24 layers in" in preparation
    assert "CPU" in preparation


def test_refusals_name_the_layer_and_a_way_out(quantized):
    with pytest.raises(ValueError, match=r"layer blocks.0.attn.mat_qkv: .*ends in -ue5m3"):
        quantized["fp4-dfq-ght"].prepare("bfloat16")
    with pytest.raises(ValueError, match="one scale for each output channel and each token"):
        quantized["fp4-dfq-ght"].prepare("int8")
    with pytest.raises(ValueError, match="execution 'fast'; use one of auto, reference"):
        quantized["fp4-dfq-ght"].prepare("fast")


def test_a_refusal_leaves_the_model_as_it_was(quantized):
    model = quantized["fp4-dfq-ght"].prepare("float32")
    with pytest.raises(ValueError, match="bfloat16"):
        model.prepare("bfloat16")
    assert {layer.execution for layer in model.quantized_layers().values()} == {"float32"}


def test_gradients_and_distillation_take_the_reference(quantized):
    layer = layer_of(find_recipe("fp4-dfq-ght").layers[0][1])
    x = normal(3, WIDTH)
    reference = layer(x)
    layer.execute("float32")
    watched = x.clone().requires_grad_()
    assert torch.equal(layer(watched), reference)
    layer.unfreeze()
    assert layer.execution == "reference"
    layer.requantize()
    assert torch.equal(layer(x), reference)


def test_a_prepared_model_can_change_its_dtype(original):
    model, _ = quantize_model(original, "fp4-dfq-ght-ue5m3", progress=False)
    wide = logits(model.prepare("bfloat16"))
    narrow = logits(model.to(torch.bfloat16))
    assert next(iter(model.quantized_layers().values())).execution == "bfloat16"
    difference = (narrow.softmax(-1) - wide.softmax(-1)).abs().amax()
    assert 0 < difference < 0.1


@pytest.mark.parametrize("storage", [ScaleDtype.UE5M3, ScaleDtype.E4M3])
def test_files_hold_scales_in_bytes(storage, original, tmp_path):
    model, _ = quantize_model(original, f"fp4-dfq-ght-{storage.value}", progress=False)
    save_quantized(model, tmp_path / "model.safetensors")
    loaded = load_quantized(tmp_path / "model.safetensors")
    assert torch.equal(logits(loaded), logits(model))
    layer = next(iter(loaded.quantized_layers().values()))
    assert layer.weight.quantizer.scale_dtype is storage
    assert layer.weight.bits_per_value == pytest.approx(4 + 8 / 128, abs=0.001)
