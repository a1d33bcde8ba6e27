"""What is stored: sizes, and the way to disk and back."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6,
    E2M1,
    E3M2,
    E4M3FN,
    FORMATS,
    TIES_TO_POSITIVE,
    FloatFormat,
    GridFormat,
    IntFormat,
    encode,
)
from fpqvar_lab.quantization import (
    MSE,
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    MseSearch,
    QuantizedTensor,
    Quantizer,
    ScaleDtype,
    per_group,
    percentile,
    ratio,
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


# Written by the first edition (commit 2afaf3e), which described quantizers as JSON: each of these
# quantized `torch.randn(8, 8)` of seed 0; `state_dict` and, as `values`, what it dequantized to.
FIRST_EDITION = Path(__file__).parent / "data" / "quantized_tensors_first_edition.safetensors"
WRITTEN = {
    "plain": Quantizer(E2M1, per_group(8)),
    "reserved": Quantizer(E4M3FN, PER_CHANNEL, scale_dtype=ScaleDtype.BFLOAT16),
    "bias": Quantizer(FloatFormat(3, 4, bias=5), PER_TENSOR, rounding=TIES_TO_POSITIVE),
    "asymmetric": Quantizer(IntFormat(5, symmetric=False), per_group(4, dim=0)),
    "grid": Quantizer(GRID, PER_TOKEN, percentile(99.5)),
    "dual": Quantizer(DUAL_FP6, per_group(8), ratio(0.9), gradient="everywhere"),
    "shifted": Quantizer(
        DUAL_FP4_POW2, per_group(8), MseSearch((1, 0.9)), scale_dtype=ScaleDtype.FLOAT16
    ),
    "nvfp4": Quantizer(E2M1, per_group(4), MSE, scale_dtype=ScaleDtype.E4M3, check=False),
    "mx": Quantizer(E3M2, per_group(8, dim=1), scale_dtype=ScaleDtype.POWER_OF_TWO),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_tensor_of_the_first_edition_is_read(name):
    """Oracle: the values that the first edition itself gave for its codes."""
    state = safetensors.torch.load_file(FIRST_EDITION)
    read = QuantizedTensor.from_state_dict(state, f"{name}.")
    assert read.quantizer == WRITTEN[name]
    assert torch.equal(bits(read.dequantize()), bits(state[f"{name}.values"]))
    assert_same(QuantizedTensor.from_state_dict(read.state_dict()), read)


def test_the_metadata_hold_the_quantizer_s_text():
    state = Quantizer(DUAL_FP4, per_group(4, dim=0), MSE).quantize(tensor(4, 8)).state_dict()
    assert json.loads(bytes(state["metadata"].tolist())) == {
        "shape": [4, 8],
        "dtype": "float32",
        "quantizer": "DUAL_FP4 per-group-4 dim=0 scale=mse",
    }
