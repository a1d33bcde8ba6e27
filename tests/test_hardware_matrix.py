"""Dot products and the matrix unit: exact sums, and tiles of real layers bit for bit."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from fpqvar_lab import var
from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    E1M2,
    E2M1,
    E2M3,
    INT4,
    INT6,
    INT8,
    IntFormat,
)
from fpqvar_lab.hardware.rtl import (
    ALIGNMENTS,
    CodeLane,
    DotProduct,
    DualDotProduct,
    DualLane,
    IntegerLane,
    MatrixUnit,
    OperandAligner,
    ScaleUnit,
    code_integers,
    lane_for,
)
from fpqvar_lab.hardware.toolchain import (
    all_tiles,
    beat_payloads,
    compiled_product,
    evaluate_combinational,
    matrix_operands,
    operand_beats,
    record_waves,
    run_stream,
)
from fpqvar_lab.quantization import Quantizer, ScaleDtype, per_group

BASE = -50


# Dot products


def simulate_dot(unit, a, b, bits_a, bits_b):
    """The totals of consecutive groups of four beats, sampled after each of them."""
    cycles = len(a) + unit.latency
    clear = [int((cycle - unit.latency + 1) % 4 == 0) for cycle in range(cycles)]
    pad = ((0, unit.latency), (0, 0))
    inputs = {
        "a": [pack(row, bits_a) for row in np.pad(a, pad)],
        "b": [pack(row, bits_b) for row in np.pad(b, pad)],
        "clear": clear,
        "enable": [1] * cycles,
    }
    names = ("total",) if isinstance(unit, DotProduct) else ("positive", "negative")
    ports = {name: getattr(unit, name) for name in names}
    waves = record_waves(unit, inputs, ports)
    return [np.array(wave[unit.latency + 3 :: 4]) for wave in waves.values()]


def pack(codes, bits):
    return sum(int(code) << (bits * lane) for lane, code in enumerate(codes))


LANES = [
    (lane_for(E2M1), E2M1, E2M1),
    (lane_for(INT4), INT4, INT4),
    (lane_for(E2M3), E2M3, E2M3),
    (lane_for(INT6), INT6, INT6),
    (lane_for(INT8), INT8, INT8),
    (CodeLane(E1M2, E2M1), E1M2, E2M1),
    (IntegerLane(4), IntFormat(4, symmetric=False), IntFormat(4, symmetric=False)),
]


@pytest.mark.parametrize(("lane", "a", "b"), LANES, ids=str)
@pytest.mark.parametrize("lanes", [2, 5, 16])
def test_dot_products_are_exact(lane, a, b, lanes):
    """Oracle: numpy on the decoded integers."""
    generator = np.random.default_rng(lanes)
    x, y = (generator.integers(0, 2**fmt.bits, (40, lanes)) for fmt in (a, b))
    (totals,) = simulate_dot(DotProduct(lane, lanes, 4 * lanes), x, y, a.bits, b.bits)
    products = np.array(code_integers(a))[x] * np.array(code_integers(b))[y]
    assert totals.tolist() == products.sum(1).reshape(-1, 4).sum(1).tolist()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_totals_fit(sign):
    """Every product at an extreme: 128 * 12 * 12."""
    codes = np.full((8, 32), 7)
    others = codes if sign > 0 else codes | 8
    (totals,) = simulate_dot(DotProduct(lane_for(E2M1), 32, 128), codes, others, 4, 4)
    assert totals.tolist() == [sign * 128 * 144] * 2


def test_the_halves_of_a_dual_format_have_totals_of_their_own():
    generator = np.random.default_rng(0)
    x, y = (generator.integers(0, 16, (40, 6)) for _ in range(2))
    unit = DualDotProduct(DualLane(DUAL_FP4, E2M1), 6, 24)
    found = simulate_dot(unit, x, y, 4, 4)
    products = np.array(code_integers(DUAL_FP4))[x] * np.array(code_integers(E2M1))[y]
    for totals, keeps in zip(found, (x < 8, x >= 8), strict=True):
        expected = (products * keeps).sum(1).reshape(-1, 4).sum(1)
        assert totals.tolist() == expected.tolist()


def test_the_aligner_keeps_every_value_for_every_shift():
    """Oracle: the codes' integers, in units of the negative half, or quarters of it."""
    unit = OperandAligner(DUAL_FP4_POW2)
    assert unit.shifts == range(-4, 4)
    pairs = [(code, shift) for code in range(16) for shift in unit.shifts]
    vectors = [(code, shift % 256) for code, shift in pairs]
    ports = [unit.operand.digits, unit.operand.sign, unit.operand.skips]
    found = evaluate_combinational(unit, [unit.code, unit.shift], ports, vectors)
    for (code, shift), (digits, sign, skips) in zip(pairs, found, strict=True):
        (place,) = (p for i, p in enumerate(ALIGNMENTS) if not skips >> i & 1)
        value = code_integers(DUAL_FP4_POW2)[code] * (2.0 ** (1 - shift) if code < 8 else 1)
        unit_in_negative_ones = 2.0 ** -(2 if shift > 1 else 0)
        assert (-1) ** sign * digits * 2**place * unit_in_negative_ones == value


# Scales


def test_scale_products_are_exact_and_results_rounded_to_nearest():
    """Oracle: fractions. One row; sums of two; halves go up."""
    generator = np.random.default_rng(0)
    totals = generator.integers(-(2**15), 2**15, 40)
    scales = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    words = (scales.view(torch.int16).int() & 0xFFFF).tolist()
    values = [[Fraction(v) for v in row] for row in scales.double().tolist()]
    for base in (-40, -4):
        unit = ScaleUnit(17, rows=1, result_bits=64)
        inputs = {
            "valid": [1] * 40 + [0] * 4,
            "total": [*totals.tolist(), 0, 0, 0, 0],
            "a_scale": words[0] + [0] * 4,
            "b_scale": words[1] + [0] * 4,
            "exponent": [-2] * 44,
            "base": [base] * 44,
            "first": [1, 0] * 22,
            "last": [0, 1] * 22,
        }
        watched = {"product": unit.product, "exponent": unit.product_exponent}
        watched |= {"result": unit.result, "valid": unit.result_valid}
        waves = record_waves(unit, inputs, watched)
        exact = [Fraction(int(t), 4) * a * b for t, a, b in zip(totals, *values, strict=True)]
        products = zip(waves["product"][3:43], waves["exponent"][3:43], strict=True)
        assert [Fraction(p) * Fraction(2) ** e for p, e in products] == exact
        rounded = [(2 * value / Fraction(2) ** base + 1) // 2 for value in exact]
        assert waves["valid"][4:] == [0, 1] * 20
        sums = [int(sum(rounded[i : i + 2])) for i in range(0, 40, 2)]
        assert waves["result"][5:44:2] == sums


# The matrix unit


def quantized(x: Tensor, w: Tensor, fmt, weight_format, group):
    """Both operands for the unit, and the exact product of their quantized values."""
    a, b = (
        Quantizer(f, per_group(group), scale_dtype=ScaleDtype.BFLOAT16).quantize(t)
        for f, t in ((fmt, x), (weight_format, w))
    )
    # In float64 the products and their sums are exact: 16 significant bits and few exponents.
    return matrix_operands(a, b), a.dequantize().double() @ b.dequantize().double().T


def integers(product: Tensor):
    """Exact results in units of 2^BASE."""
    values = [[Fraction(v) / Fraction(2) ** BASE for v in row] for row in product.tolist()]
    assert all(v.denominator == 1 for row in values for v in row)
    return [[int(v) for v in row] for row in values]


def gelu_like(rows, columns, seed=0):
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return torch.where(x < 0, 0.3 * x, x)


PAIRS = [(E2M1, E2M1), (E2M3, E2M3), (INT4, INT4), (DUAL_FP4, E2M1), (DUAL_FP4_POW2, E2M1)]


@pytest.mark.parametrize("formats", PAIRS, ids=str)
def test_tiles_of_several_groups_are_exact(formats):
    """Two tiles of 2 x 3 over three groups of 16; latency and interval are those stated."""
    x, w = gelu_like(4, 48), torch.randn(3, 48, generator=torch.Generator().manual_seed(1))
    unit = MatrixUnit(*formats, rows=2, columns=3, lanes=4, group=16, result_bits=60)
    sent, product = quantized(x, w, *formats, 16)
    beats = operand_beats(sent, unit, all_tiles(unit, 4, 3))
    run = run_stream(unit, beat_payloads(beats), 4, constants={"base": BASE})
    assert [list(row.results) for row in run.outputs] == integers(product)
    last_group = 2 * unit.interval
    assert run.emitted[0] - run.accepted[last_group] == unit.latency
    assert run.emitted[2] - run.emitted[0] == 3 * unit.interval


def test_a_slow_receiver_loses_nothing():
    unit = MatrixUnit(E2M1, E2M1, rows=2, columns=2, lanes=4, group=16, result_bits=60)
    sent, product = quantized(gelu_like(40, 16), gelu_like(2, 16, 1), E2M1, E2M1, 16)
    beats = operand_beats(sent, unit, all_tiles(unit, 40, 2))
    pattern = (np.random.default_rng(0).random(2000) < 0.1).tolist()
    run = run_stream(unit, beat_payloads(beats), 40, accepts=pattern, constants={"base": BASE})
    assert [list(row.results) for row in run.outputs] == integers(product)


def layer_input(name: str) -> tuple[Tensor, Tensor]:
    """64 tokens of a linear layer's input while the mini model samples, and its weight."""
    model, seen = var.load_var("mini"), []
    layer = model.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    generator = torch.Generator().manual_seed(0)
    var.sample(model, var.load_vqvae("mini"), torch.tensor([3, 7]), generator=generator)
    handle.remove()
    tokens = torch.cat([x.reshape(-1, x.shape[-1]) for x in seen])
    assert isinstance(layer, torch.nn.Linear)
    return tokens[-64:, :128].float(), layer.weight[:64, :128].detach().float()


@pytest.mark.parametrize(
    ("layer", "fmt"),
    [("fc1", E2M1), ("fc2", DUAL_FP4_POW2), pytest.param("fc2", DUAL_FP4, marks=pytest.mark.slow)],
)
def test_a_tile_of_a_real_layer_equals_the_fake_quantized_product(layer, fmt):
    """64 tokens x 128 channels x 64 outputs, in tiles of 2 x 2, before the final rounding."""
    x, w = layer_input(f"blocks.2.ffn.{layer}")
    unit = MatrixUnit(fmt, E2M1, rows=2, columns=2, lanes=4, result_bits=60)
    sent, product = quantized(x, w, fmt, E2M1, 128)
    if fmt == DUAL_FP4_POW2:
        assert set(sent.negative.flatten().tolist()) <= set(OperandAligner(fmt).shifts)
    assert compiled_product(unit, sent, BASE).tolist() == integers(product)


def test_tiles_that_do_not_divide_the_product_are_refused():
    unit = MatrixUnit(E2M1, E2M1, rows=2, columns=2, lanes=4)
    with pytest.raises(ValueError, match="2 x 2 do not divide a product of 4 x 3"):
        all_tiles(unit, 4, 3)


def test_scales_that_are_not_bfloat16_are_refused():
    x = Quantizer(E2M1, per_group(16)).quantize(torch.ones(2, 16))
    with pytest.raises(TypeError, match="takes bfloat16"):
        matrix_operands(x, x)


def test_a_tile_that_cannot_drain_in_time_is_refused():
    with pytest.raises(ValueError, match="at least 16 beats"):
        MatrixUnit(DUAL_FP4, E2M1, rows=8, columns=1, lanes=16)
