"""Packed weights and the products against dequantization and float64 products."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fpqvar_lab.execution import (
    FloatProduct,
    InputPass,
    IntegerProduct,
    Processor,
    WeightOperand,
    check,
    choose,
    native,
    processor_of,
    weights,
)
from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6,
    DUAL_MR4,
    E1M2,
    E2M1,
    E2M3,
    E3M0,
    INT4,
    INT6,
    INT8,
    MR4,
    IntFormat,
)
from fpqvar_lab.quantization import (
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    Quantizer,
    ScaleDtype,
    per_group,
)
from fpqvar_lab.transforms import GroupHadamard

GROUPS = per_group(128)
WITHOUT_UNITS = Processor("a processor", bfloat16=False, int8=False)
WITH_UNITS = Processor("a processor", bfloat16=True, int8=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unpacked(weight: WeightOperand) -> Tensor:
    return torch.cat([values.clone() for _, values in weight.blocks()])


@pytest.mark.parametrize("scale_dtype", ScaleDtype)
@pytest.mark.parametrize(
    "fmt",
    [E2M1, E1M2, E3M0, INT4, DUAL_FP4, DUAL_FP4_POW2, E2M3, INT6, DUAL_FP6, INT8, MR4, DUAL_MR4],
    ids=str,
)
def test_unpacked_values_are_those_of_dequantize(fmt, scale_dtype):
    for granularity in (per_group(32), GROUPS, PER_CHANNEL, PER_TENSOR, per_group(8, 0)):
        packed = Quantizer(fmt, granularity, scale_dtype=scale_dtype).quantize(normal(72, 256))
        wide = WeightOperand(packed, torch.float32)
        factor = 1.0 if wide.factor is None else wide.factor
        torch.testing.assert_close(
            unpacked(wide) * factor, packed.dequantize(), rtol=0 if factor == 1.0 else 3e-7, atol=0
        )
        narrow = unpacked(WeightOperand(packed, torch.bfloat16))
        assert torch.equal(narrow, unpacked(wide).bfloat16())


def test_kept_and_unpacked_weights_give_identical_results(monkeypatch):
    monkeypatch.setattr(weights, "BUFFER_BYTES", 8 * 256 * 4)
    packed = Quantizer(E2M1, GROUPS).quantize(normal(100, 256))
    weight = WeightOperand(packed, torch.float32)
    assert [rows.stop - rows.start for rows, _ in weight.blocks()] == [8] * 12 + [4]
    each_time = unpacked(weight)
    weight.keep()
    assert torch.equal(unpacked(weight), each_time)
    assert weight.nbytes == packed.nbytes + 100 * 256 * 4
    weight.release()
    assert weight.nbytes == packed.nbytes


@pytest.mark.parametrize("scale_dtype", [ScaleDtype.FLOAT32, ScaleDtype.UE5M3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_without_a_compiler_the_values_are_the_same(dtype, scale_dtype, monkeypatch):
    packed = Quantizer(DUAL_FP4, GROUPS, scale_dtype=scale_dtype).quantize(normal(16, 256))
    compiled = unpacked(WeightOperand(packed, dtype))
    monkeypatch.setattr(native, "library", lambda: None)
    assert torch.equal(unpacked(WeightOperand(packed, dtype)), compiled)


def layer(weight: Quantizer, inputs: Quantizer, hadamard: int | None = None, width: int = 512):
    transform = None if hadamard is None else GroupHadamard(hadamard)
    return weight.quantize(normal(48, width)), InputPass(inputs, transform)


def exact_product(packed, steps: InputPass, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The float64 product of the operands, and the sum of the magnitudes of its terms."""
    values, factor = steps(x, dtype)
    weight = WeightOperand(packed, dtype)
    w = unpacked(weight).double()
    scale = (1.0 if factor is None else factor.double()) * (
        1.0 if weight.factor is None else weight.factor.double()
    )
    return values.double() @ w.T * scale, values.double().abs() @ w.abs().T * scale


@pytest.mark.parametrize("scale_dtype", [ScaleDtype.E4M3, ScaleDtype.UE5M3, ScaleDtype.FLOAT32])
@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, INT4], ids=str)
def test_float32_products_lie_within_the_bound_of_float32_sums(fmt, scale_dtype):
    packed, steps = layer(
        Quantizer(E2M1, GROUPS, scale_dtype=scale_dtype),
        Quantizer(fmt, GROUPS, scale_dtype=scale_dtype),
        128,
    )
    x, bias = normal(20, 512), normal(48, seed=3)
    result = FloatProduct(packed, steps, torch.float32)(x, bias)
    exact, magnitudes = exact_product(packed, steps, x, torch.float32)
    # n additions, each within half a unit in the last place; and the factors and the bias.
    bound = (512 + 3) * 2.0**-24 * (magnitudes + bias.abs())
    assert ((result - (exact + bias)).abs() <= bound).all()


@pytest.mark.parametrize("scale_dtype", [ScaleDtype.E4M3, ScaleDtype.UE5M3])
@pytest.mark.parametrize("fmt", [E2M1, DUAL_FP4, INT4], ids=str)
def test_bfloat16_products_have_float32_sums_and_one_rounding(fmt, scale_dtype):
    packed, steps = layer(
        Quantizer(E2M1, GROUPS, scale_dtype=scale_dtype),
        Quantizer(fmt, GROUPS, scale_dtype=scale_dtype),
        128,
    )
    x = normal(20, 512)
    result = FloatProduct(packed, steps, torch.bfloat16)(x, None)
    exact, magnitudes = exact_product(packed, steps, x, torch.bfloat16)
    bound = 515 * 2.0**-24 * magnitudes + 2.0**-8 * exact.abs()
    assert result.dtype == torch.float32
    assert ((result - exact).abs() <= bound).all()


@pytest.mark.parametrize(
    ("weight", "inputs"),
    [(INT6, INT6), (E2M3, E2M3), (INT6, IntFormat(6, symmetric=False)), (INT4, E2M1)],
    ids=str,
)
def test_integer_products_have_exact_sums(weight, inputs):
    packed, steps = layer(Quantizer(weight, PER_CHANNEL), Quantizer(inputs, PER_TOKEN))
    x, bias = normal(2, 20, 512), normal(48, seed=3)
    result = IntegerProduct(packed, steps)(x, bias)
    exact = steps.quantizer(x.double()) @ packed.dequantize().double().T
    # Values are rounded once each; sums are not; then two factors and a bias.
    magnitudes = steps.quantizer(x).abs() @ packed.dequantize().abs().T
    assert ((result - (exact + bias)).abs() <= 8 * 2.0**-24 * (magnitudes + bias.abs())).all()


def test_models_in_several_threads_do_not_share_memory():
    """Oracle: the same layers one after the other, outside of any pool."""
    layers = [layer(Quantizer(E2M1, GROUPS), Quantizer(E2M1, GROUPS), 128) for _ in range(4)]
    products = [FloatProduct(packed, steps, torch.float32) for packed, steps in layers]
    inputs = [normal(64, 512, seed=index) for index in range(4)]
    expected = [run(x, None) for run, x in zip(products, inputs, strict=True)]

    def repeat(index: int) -> bool:
        results = [products[index](inputs[index], None) for _ in range(50)]
        return all(torch.equal(result, expected[index]) for result in results)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeat, range(4)))


def test_memory_that_is_used_again_is_overwritten_by_the_next_call_only():
    steps, x = InputPass(Quantizer(E2M1, GROUPS)), normal(4, 256)
    own = steps(x, torch.float32).values
    first = steps(x, torch.float32, reuse_memory=True).values
    assert torch.equal(first, own)
    second = steps(2 * x, torch.float32, reuse_memory=True).values
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(own, steps(x, torch.float32).values)


def test_integers_and_scales_are_the_quantizers():
    q = Quantizer(E2M3, PER_TOKEN)
    x = normal(5, 64)
    integers, scales = InputPass(q).integers(x)
    assert integers.dtype == torch.int8
    assert torch.equal(integers * scales, q(x))


def test_the_fastest_exact_execution_is_chosen():
    e2m1 = Quantizer(E2M1, GROUPS, scale_dtype=ScaleDtype.UE5M3)
    fp6 = Quantizer(E2M3, PER_CHANNEL)
    assert choose(e2m1, e2m1, WITH_UNITS) == "bfloat16"
    assert choose(e2m1, e2m1, WITHOUT_UNITS) == "float32"
    assert choose(fp6, Quantizer(E2M3, PER_TOKEN), WITH_UNITS) == "int8"
    assert choose(fp6, Quantizer(E2M3, PER_TOKEN), WITHOUT_UNITS) == "float32"
    assert choose(fp6, Quantizer(DUAL_FP6, PER_TOKEN), WITH_UNITS) == "float32"
    assert choose(Quantizer(E2M1, GROUPS), e2m1, WITH_UNITS) == "float32"


def test_what_is_not_exact_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"more than bfloat16's eight significant bits; .*ue5m3"):
        check("bfloat16", Quantizer(E2M1, GROUPS), Quantizer(E2M1, GROUPS), WITH_UNITS)
    with pytest.raises(ValueError, match="one scale for each output channel and each token"):
        check("int8", Quantizer(E2M1, GROUPS), Quantizer(E2M1, GROUPS), WITH_UNITS)
    with pytest.raises(ValueError, match="saturate at 16 bits"):
        check("int8", Quantizer(INT8, PER_CHANNEL), Quantizer(INT8, PER_TOKEN), WITHOUT_UNITS)
    with pytest.raises(ValueError, match="execution 'fast'; use one of"):
        check("fast", Quantizer(E2M1, GROUPS), Quantizer(E2M1, GROUPS), WITH_UNITS)
    with pytest.raises(ValueError, match="no product of 8-bit integers"):
        IntegerProduct(*layer(Quantizer(E2M1, GROUPS), Quantizer(E2M1, GROUPS)))


def test_onednns_limit_on_instructions_is_heeded(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    processor = processor_of("cpu")
    assert replace(processor, name="") == Processor("", bfloat16=False, int8=False)
    assert "limited to AVX2" in processor.name
