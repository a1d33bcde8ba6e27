"""Exported models against the quantized ones with their input quantizers taken away."""

import math

import pytest
import torch
from torch import Tensor, nn

from fpqvar_lab.cli import main
from fpqvar_lab.method import (
    QuantizedVAR,
    QuantLinear,
    StepShift,
    export_public,
    public_state,
    quantize_model,
    save_quantized,
)
from fpqvar_lab.var import VAR, VARConfig, load_var

CONFIG = VARConfig(
    depth=2, width=128, heads=2, vocabulary=64, patch_sizes=(1, 2, 3), code_channels=4, classes=3
)
SHARED = VARConfig(
    depth=2,
    width=128,
    heads=2,
    vocabulary=64,
    patch_sizes=(1, 2, 3),
    code_channels=4,
    classes=3,
    shared_aln=True,
)


def quantized(recipe: str, config: VARConfig = CONFIG) -> QuantizedVAR:
    torch.manual_seed(0)
    model = VAR(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data.normal_(std=1 / math.sqrt(128))
    generator = torch.Generator().manual_seed(2)
    names = [f"blocks.{i}.{name}" for i in range(2) for name in ("attn.mat_qkv", "ffn.fc1")]
    factors = {name: torch.randn(128, generator=generator).exp() for name in names}
    given = factors if recipe == "fp4-fpqvar" else {}
    return quantize_model(model, recipe, factors=given, progress=False)[0]


def logits(model: nn.Module) -> Tensor:
    inputs = torch.randn(3, CONFIG.tokens - 1, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model(torch.arange(3), inputs)


class Unquantized(nn.Module):
    """A quantized layer whose input is transformed, but not quantized."""

    def __init__(self, layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        layer = self.layer
        x = x if layer.input_scale is None else x * layer.input_scale
        x = x if layer.transform is None else layer.transform(x)
        return nn.functional.linear(
            x, layer.weight.dequantize(), layer.bias if bias is None else bias
        )


@pytest.mark.parametrize("config", [CONFIG, SHARED], ids=["own AdaLN", "shared AdaLN"])
@pytest.mark.parametrize("recipe", ["mxfp4", "fp4-dfq-ght", "fp4-fpqvar", "int4-quarot"])
def test_the_state_computes_what_the_quantized_weights_do(recipe, config):
    model = quantized(recipe, config)
    plain = VAR(config).eval()
    plain.load_state_dict(public_state(model), strict=True)
    for name, layer in model.quantized_layers().items():
        model.set_submodule(name, Unquantized(layer))
    torch.testing.assert_close(logits(plain), logits(model), rtol=1e-3, atol=1e-3)


def test_the_command_writes_a_checkpoint_that_loads_as_a_public_one(tmp_path, capsys):
    model = quantized("fp4-dfq-ght")
    save_quantized(model, tmp_path / "fp4.safetensors")
    out = tmp_path / "var_fp4.pth"
    given = ["export", "--weights", str(tmp_path / "fp4.safetensors"), "--to", "public"]
    assert main([*given, "--out", str(out)]) == 0
    loaded = load_var(out, CONFIG)
    expected = public_state(model)["blocks.0.ffn.fc2.weight"]
    assert torch.equal(loaded.get_parameter("blocks.0.ffn.fc2.weight"), expected.half().float())
    assert main([*given, "--out", str(tmp_path / "a.bin")]) == 2
    assert "the public code reads .pth files" in capsys.readouterr().err


def test_numbers_beyond_the_dtype_are_refused(tmp_path):
    model = quantized("mxfp4")
    model.head.bias = nn.Parameter(model.head.bias + 1e6, requires_grad=False)
    with pytest.raises(ValueError, match=r"head.bias is beyond the range of torch.float16"):
        export_public(model, tmp_path / "a.pth")


def test_a_weight_that_is_being_learned_is_refused():
    model = quantized("mxfp4")
    next(iter(model.quantized_layers().values())).unfreeze()
    with pytest.raises(ValueError, match=r"blocks.0.attn.mat_qkv: its weight is being learned"):
        public_state(model)


def test_a_shift_by_step_is_refused_with_the_reason():
    model = quantized("mxfp4")
    layer = model.quantized_layers()["blocks.0.attn.proj"]
    shift = StepShift(torch.zeros(3, 128), torch.zeros(3, 128))
    shifted = QuantLinear(layer.weight, layer.bias, layer.input_quantizer, shift=shift)
    model.set_submodule("blocks.0.attn.proj", shifted)
    with pytest.raises(ValueError, match=r"attn.proj: its input is shifted by step"):
        public_state(model)


def test_packed_adaln_is_decoded():
    model = quantized("fp4-dfq-ght-adaln8")
    plain = VAR(CONFIG).eval()
    plain.load_state_dict(public_state(model), strict=True)
    condition = torch.randn(3, 128, generator=torch.Generator().manual_seed(5))
    for name in ("blocks.1.ada_lin", "head_nm.ada_lin"):
        expected = model.get_submodule(name)(condition)
        torch.testing.assert_close(plain.get_submodule(name)(condition), expected)
