"""What is stored: sizes, and the way to disk and back."""

import pytest
import safetensors.torch
import torch

from fpqvar_lab.formats import DUAL_FP4, DUAL_FP4_POW2, E2M1, FORMATS, GridFormat, IntFormat, encode
from fpqvar_lab.quantization import (
    MSE,
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    QuantizedTensor,
    Quantizer,
    ScaleDtype,
    per_group,
    percentile,
)

MIN_MAX = IntFormat(6, symmetric=False)
GRID = GridFormat((0, 0.1, 0.7, 1))


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def tensor(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "scale_dtype", "expected"),
    [
        ("E2M1", ScaleDtype.FLOAT32, 4 + 32 / 128),
        ("E2M1", ScaleDtype.FLOAT16, 4 + 16 / 128),
        ("E2M1", ScaleDtype.POWER_OF_TWO, 4 + 8 / 128),
        ("E2M1", ScaleDtype.E4M3, 4 + 8 / 128 + 32 / 1024),
        ("E2M3", ScaleDtype.FLOAT32, 6 + 32 / 128),
        ("INT8", ScaleDtype.BFLOAT16, 8 + 16 / 128),
        ("DUAL_FP4", ScaleDtype.FLOAT32, 4 + 64 / 128),
        ("DUAL_FP4_POW2", ScaleDtype.FLOAT32, 4 + 40 / 128),
        ("DUAL_FP6", ScaleDtype.FLOAT32, 7 + 64 / 128),
        ("DUAL_FP6_HW", ScaleDtype.FLOAT32, 6 + 64 / 128),
    ],
)
def test_bits_per_value_count_codes_and_scales(name, scale_dtype, expected):
    q = Quantizer(FORMATS[name], per_group(128), scale_dtype=scale_dtype)
    stored = q.quantize(tensor(4, 256))
    assert stored.bits_per_value == expected
    assert stored.nbytes == expected * 1024 / 8


def test_codes_have_the_tensor_s_shape_and_order():
    x = tensor(8, 3, 5)
    scales = x.abs().amax(0, keepdim=True) / 6
    stored = Quantizer(E2M1, per_group(8, dim=0)).quantize(x)
    assert torch.equal(stored.codes, encode(x / scales, E2M1))


def assert_same(restored: QuantizedTensor, original: QuantizedTensor) -> None:
    assert restored.quantizer == original.quantizer
    assert (restored.shape, restored.dtype) == (original.shape, original.dtype)
    assert restored.nbytes == original.nbytes
    assert torch.equal(bits(restored.dequantize()), bits(original.dequantize()))


@pytest.mark.parametrize("fmt", [*FORMATS.values(), MIN_MAX, GRID], ids=str)
@pytest.mark.parametrize("scale_dtype", ScaleDtype)
def test_safetensors_round_trip(fmt, scale_dtype, tmp_path):
    q = Quantizer(fmt, per_group(8, dim=0), scale_dtype=scale_dtype)
    original = q.quantize(tensor(16, 6))
    safetensors.torch.save_file(original.state_dict("layer.weight."), tmp_path / "x.safetensors")
    state = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert_same(QuantizedTensor.from_state_dict(state, "layer.weight."), original)


@pytest.mark.parametrize("granularity", [PER_TENSOR, PER_CHANNEL, PER_TOKEN, per_group(4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_state_dict_round_trip(granularity, dtype, tmp_path):
    for fmt, scale in ((DUAL_FP4, MSE), (DUAL_FP4_POW2, percentile(99)), (E2M1, MSE)):
        original = Quantizer(fmt, granularity, scale).quantize(tensor(4, 8).to(dtype))
        torch.save(original.state_dict(), tmp_path / "x.pt")
        state = torch.load(tmp_path / "x.pt", weights_only=True)
        assert_same(QuantizedTensor.from_state_dict(state), original)


def test_an_odd_number_of_values_is_stored():
    x = tensor(3, 7)
    q = Quantizer(E2M1, PER_TOKEN)
    stored = q.quantize(x)
    assert stored.packed.numel() == 11
    assert torch.equal(stored.dequantize(), q(x))


def test_damaged_states_are_refused():
    state = Quantizer(E2M1, PER_TOKEN).quantize(tensor(4, 8)).state_dict()
    with pytest.raises(ValueError, match="codes has 3 bytes"):
        QuantizedTensor.from_state_dict({**state, "codes": state["codes"][:3]})
    with pytest.raises(KeyError, match="scales"):
        QuantizedTensor.from_state_dict({k: v for k, v in state.items() if k != "scales"})


def test_to_moves_everything():
    stored = Quantizer(DUAL_FP4, PER_TOKEN).quantize(tensor(4, 8))
    assert_same(stored.to("cpu"), stored)
