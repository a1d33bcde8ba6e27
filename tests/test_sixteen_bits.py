"""What is not quantized, in files and in memory: 16 bits where that loses nothing."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fpqvar_lab.formats import INT8
from fpqvar_lab.method import (
    QuantizedVAR,
    WeightOnlyLinear,
    load_quantized,
    quantize_model,
    read_recipe,
    report,
    save_quantized,
)
from fpqvar_lab.quantization import PER_CHANNEL, Quantizer, ScaleDtype
from fpqvar_lab.var import (
    VAR,
    HeldLinear,
    VARConfig,
    load_var,
    read_metadata,
    read_state,
    save_model,
    stored_dtype,
)

CONFIG = VARConfig(
    depth=2, width=128, heads=2, patch_sizes=(1, 2, 3), vocabulary=64, code_channels=4, classes=3
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights, of float16, in a file."""
    torch.manual_seed(0)
    model = VAR(CONFIG)
    for parameter in model.parameters():
        parameter.data.normal_(std=1 / math.sqrt(128))
    file = tmp_path_factory.mktemp("checkpoint") / "var.safetensors"
    save_model(model, file, {})
    return file


def logits(model: VAR) -> Tensor:
    inputs = torch.randn(3, CONFIG.tokens - 1, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model(torch.arange(3), inputs)


def quantized(checkpoint, recipe: str = "fp4-dfq-ght", **options) -> QuantizedVAR:
    return quantize_model(load_var(checkpoint), recipe, progress=False, **options)[0]


def factors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    names = [f"blocks.{i}.{name}" for i in range(2) for name in ("attn.mat_qkv", "ffn.fc1")]
    return {name: torch.randn(128, generator=generator).exp() for name in names}


def test_a_file_keeps_the_checkpoints_sixteen_bits_and_loses_nothing(checkpoint, tmp_path):
    model, file = quantized(checkpoint), tmp_path / "model.safetensors"
    save_quantized(model, file)
    original = read_state(checkpoint)
    for name, tensor in read_state(file).items():
        if ".weight_" not in name:
            assert not tensor.is_floating_point() or tensor.dtype == torch.float16, name
            if name in original:
                assert torch.equal(tensor, original[name]), name
    loaded = load_quantized(file)
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.class_emb.weight.dtype == torch.float32


def test_memory_holds_adaln_in_sixteen_bits_and_a_second_file_is_the_first(checkpoint, tmp_path):
    save_quantized(quantized(checkpoint), tmp_path / "a.safetensors")
    loaded = load_quantized(tmp_path / "a.safetensors")
    held = [m for m in loaded.modules() if isinstance(m, HeldLinear)]
    assert [m.weight.dtype for m in held] == [torch.float16] * 3
    save_quantized(loaded, tmp_path / "b.safetensors")
    first, second = (read_state(tmp_path / f"{name}.safetensors") for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    narrow = loaded.to(torch.bfloat16)
    assert [m.weight.dtype for m in held] == [torch.float16] * 3
    assert logits(narrow).isfinite().all()


def test_what_was_folded_stays_exact_unless_rounding_is_asked_for(checkpoint, tmp_path):
    model = quantized(checkpoint, "fp4-fpqvar", factors=factors())
    save_quantized(model, tmp_path / "exact.safetensors")
    save_quantized(model, tmp_path / "rounded.safetensors", dtype=torch.float16)
    name = "blocks.0.ada_lin.1.weight"
    exact, rounded = (read_state(tmp_path / f"{n}.safetensors") for n in ("exact", "rounded"))
    assert exact[name].dtype == torch.float32
    assert torch.equal(rounded[name], exact[name].half())
    assert torch.equal(logits(load_quantized(tmp_path / "exact.safetensors")), logits(model))
    loaded = load_quantized(tmp_path / "rounded.safetensors")
    assert torch.equal(loaded.get_parameter(name).float(), rounded[name].float())
    assert logits(loaded).isfinite().all()


def test_adaln_in_eight_bits_takes_half_and_is_the_quantizers_weight(checkpoint, tmp_path):
    model = quantized(checkpoint, "fp4-dfq-ght-adaln8")
    save_quantized(model, tmp_path / "model.safetensors")
    loaded = load_quantized(tmp_path / "model.safetensors")
    assert torch.equal(logits(loaded), logits(model))
    original = load_var(checkpoint)
    layer = loaded.get_submodule("blocks.0.ada_lin.1")
    assert isinstance(layer, WeightOnlyLinear)
    linear = original.get_submodule("blocks.0.ada_lin.1")
    expected = Quantizer(INT8, PER_CHANNEL, scale_dtype=ScaleDtype.BFLOAT16)(linear.weight)
    assert torch.equal(layer.weight.dequantize(), expected)
    assert layer.weight.nbytes == linear.weight.numel() + 2 * len(linear.weight)
    x = torch.randn(2, 128, generator=torch.Generator().manual_seed(3))
    exact = x.double() @ expected.double().T + linear.bias
    with torch.no_grad():
        torch.testing.assert_close(layer(x), exact.float(), rtol=1e-5, atol=1e-5)
        half = layer.to(torch.bfloat16)(x.bfloat16())
    assert half.dtype == torch.bfloat16


def test_factors_fold_before_adaln_is_packed(checkpoint):
    exact = quantized(checkpoint, "fp4-fpqvar", factors=factors())
    packed = quantized(checkpoint, "fp4-fpqvar-adaln8", factors=factors())
    x = torch.randn(2, 128, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found, expected = (m.get_submodule("blocks.0.ada_lin")(x) for m in (packed, exact))
    assert (found - expected).norm() < 0.02 * expected.norm()
    assert read_recipe(packed.recipe.to_toml()) == packed.recipe
    assert "AdaLN: INT8 per-channel" in packed.recipe.table()
    rows = {layer.name: layer for layer in report(packed).layers}
    assert rows["blocks.0.ada_lin.1"].quantized
    assert "high precision" in report(packed).table()


def test_numbers_beyond_float16_stay_in_float32(checkpoint, tmp_path):
    model = quantized(checkpoint)
    model.head.bias = torch.nn.Parameter(model.head.bias + 1e6, requires_grad=False)
    save_quantized(model, tmp_path / "model.safetensors", dtype=torch.float16)
    assert read_state(tmp_path / "model.safetensors")["head.bias"].dtype == torch.float32


def test_a_model_in_bfloat16_comes_back_in_it(checkpoint, tmp_path):
    model = quantized(checkpoint).to(torch.bfloat16)
    save_quantized(model, tmp_path / "model.safetensors")
    loaded = load_quantized(tmp_path / "model.safetensors")
    assert loaded.class_emb.weight.dtype == torch.bfloat16
    assert torch.equal(logits(loaded), logits(model))


def test_a_file_without_the_models_dtype_is_read_as_it_is_stored(checkpoint, tmp_path):
    """The first edition's files do not state it."""
    model, new, old = (
        quantized(checkpoint),
        tmp_path / "new.safetensors",
        tmp_path / "old.safetensors",
    )
    save_quantized(model, new)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    metadata = read_metadata(new)
    del metadata["dtype"]
    save_file(state, old, metadata)
    assert torch.equal(logits(load_quantized(old)), logits(model))


def test_the_stored_dtype_of_a_checkpoint(checkpoint, tmp_path):
    assert stored_dtype(checkpoint) == stored_dtype("mini") == torch.float16
    save_model(load_var(checkpoint), tmp_path / "wide.safetensors", {}, torch.float32)
    assert stored_dtype(tmp_path / "wide.safetensors") == torch.float32
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a VAR checkpoint"):
        stored_dtype(tmp_path / "other.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_loading_converts_one_tensor_at_a_time(dtype, checkpoint, monkeypatch):
    """Of the tensors that are read, none but the last is alive when the next is read."""
    import weakref

    from fpqvar_lab.var import checkpoint as module

    alive: list[weakref.ref] = []
    read = module._TensorFile.__getitem__

    def watched(self, key):
        tensor = read(self, key)
        if tensor.is_floating_point() and tensor.dtype != dtype:
            alive.append(weakref.ref(tensor))
            assert sum(ref() is not None for ref in alive) <= 2
        return tensor

    monkeypatch.setattr(module._TensorFile, "__getitem__", watched)
    loaded = load_var(checkpoint, dtype=dtype)
    assert loaded.head.weight.dtype == dtype
    original = read_state(checkpoint)
    assert torch.equal(loaded.head.weight, original["head.weight"].to(dtype))
