"""Files that the first edition wrote. They are in data/first-edition, with the weights and the
logits that the first edition computed from them; `whole` has learned factors that do not fold,
GPTQ, a power-of-two dual format and a quantized cache, `scales` every kind of scale and code.
"""

from pathlib import Path

import pytest
import torch

from fpqvar_lab.method import is_quantized, load_quantized, report, save_quantized
from fpqvar_lab.var import read_metadata, read_state

FILES = Path(__file__).parent / "data" / "first-edition"
NAMES = ("whole", "scales")


@pytest.fixture(scope="module")
def expected():
    return read_state(FILES / "expected.safetensors")


def logits(model, inputs):
    return model(torch.arange(2), inputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_quantized_file_loads_with_the_weights_and_the_logits_that_it_had(name, expected):
    assert is_quantized(FILES / f"{name}.safetensors")
    model = load_quantized(FILES / f"{name}.safetensors")
    layers = model.quantized_layers()
    assert len(layers) == 4
    for layer, module in layers.items():
        assert torch.equal(module.weight.dequantize(), expected[f"{name}.{layer}"])
    found = logits(model, expected[f"{name}.inputs"])
    # Sums in another order, on another processor, differ in the last digits.
    torch.testing.assert_close(found, expected[f"{name}.logits"], rtol=1e-4, atol=1e-5)


def test_recipes_in_quantized_files_are_read_with_todays_names():
    whole, scales = (load_quantized(FILES / f"{name}.safetensors").recipe for name in NAMES)
    assert all(rule.gptq for _, rule in whole.layers)
    assert (whole.kv_mode, scales.kv_mode) == ("on-write", "requantize-all")
    assert (whole.distillation_steps, whole.sign_seed) == (0, 3)


def test_factors_that_did_not_fold_stay_with_their_layers():
    layers = load_quantized(FILES / "whole.safetensors").quantized_layers()
    kept = {name for name, layer in layers.items() if layer.input_scale is not None}
    assert kept == {"blocks.0.attn.mat_qkv", "blocks.0.ffn.fc1"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_written_anew_computes_the_same(name, expected, tmp_path):
    model = load_quantized(FILES / f"{name}.safetensors")
    save_quantized(model, tmp_path / "new.safetensors")
    again = load_quantized(tmp_path / "new.safetensors")
    assert again.recipe == model.recipe
    assert report(again) == report(model)
    inputs = expected[f"{name}.inputs"]
    assert torch.equal(logits(again, inputs), logits(model, inputs))
    assert "tuning_steps" not in read_metadata(tmp_path / "new.safetensors")["recipe"]
