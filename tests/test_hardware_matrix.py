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
    DualFormat,
    IntFormat,
)
from fpqvar_lab.hardware.cxxrtl import CompiledUnit, from_words, to_words
from fpqvar_lab.hardware.rtl.dot_product import DotProduct, HalvesDotProduct
from fpqvar_lab.hardware.rtl.integers import code_integers
from fpqvar_lab.hardware.rtl.lanes import CodeLane, HalvesLane, IntegerLane, lane_for
from fpqvar_lab.hardware.rtl.matrix_unit import MatrixUnit
from fpqvar_lab.hardware.rtl.recoder import PLACES, Recoder
from fpqvar_lab.hardware.rtl.scale_unit import ScaleUnit
from fpqvar_lab.hardware.simulate import evaluate, record, run_stream
from fpqvar_lab.quantize import Quantizer, ScaleDtype, per_group

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
    names = ("total",) if isinstance(unit, DotProduct) else ("above", "below")
    ports = {name: getattr(unit, name) for name in names}
    waves = record(unit, inputs, ports)
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
    unit = HalvesDotProduct(HalvesLane(DUAL_FP4, E2M1), 6, 24)
    found = simulate_dot(unit, x, y, 4, 4)
    products = np.array(code_integers(DUAL_FP4))[x] * np.array(code_integers(E2M1))[y]
    for totals, keeps in zip(found, (x < 8, x >= 8), strict=True):
        expected = (products * keeps).sum(1).reshape(-1, 4).sum(1)
        assert totals.tolist() == expected.tolist()


def test_the_recoder_keeps_every_value_for_every_shift():
    """Oracle: the codes' integers, in units of the negative half, or quarters of it."""
    unit = Recoder(DUAL_FP4_POW2)
    assert unit.shifts == range(-4, 4)
    pairs = [(code, shift) for code in range(16) for shift in unit.shifts]
    vectors = [(code, shift % 256) for code, shift in pairs]
    ports = [unit.operand.digits, unit.operand.sign, unit.operand.skips]
    found = evaluate(unit, [unit.code, unit.shift], ports, vectors)
    for (code, shift), (digits, sign, skips) in zip(pairs, found, strict=True):
        (place,) = (p for i, p in enumerate(PLACES) if not skips >> i & 1)
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
        waves = record(unit, inputs, watched)
        exact = [Fraction(int(t), 4) * a * b for t, a, b in zip(totals, *values, strict=True)]
        products = zip(waves["product"][3:43], waves["exponent"][3:43], strict=True)
        assert [Fraction(p) * Fraction(2) ** e for p, e in products] == exact
        rounded = [(2 * value / Fraction(2) ** base + 1) // 2 for value in exact]
        assert waves["valid"][4:] == [0, 1] * 20
        sums = [int(sum(rounded[i : i + 2])) for i in range(0, 40, 2)]
        assert waves["result"][5:44:2] == sums


# The matrix unit


def operands(x: Tensor, w: Tensor, fmt, weight_format, group):
    """Quantized operands as codes and the words of their scales, and their exact product."""
    quantizers = [
        Quantizer(f, per_group(group), scale_dtype=ScaleDtype.BFLOAT16)
        for f in (fmt, weight_format)
    ]
    (a, a_scales), (b, b_scales) = (
        (q.quantize(t), q.scales(t)) for q, t in zip(quantizers, (x, w), strict=True)
    )
    fields = {
        "a": a.codes.long(),
        "b": b.codes.long(),
        "a_scales": words_of(a_scales.main),
        "b_scales": words_of(b_scales.main),
    }
    if isinstance(fmt, DualFormat):
        shifts = a_scales.shifts
        fields["negative"] = words_of(a_scales.negative) if shifts is None else shifts.long()
    # In float64 the products and their sums are exact: 16 significant bits and few exponents.
    return fields, a.dequantize().double() @ b.dequantize().double().T


def words_of(stored):
    return stored.values.view(torch.int16).long() & 0xFFFF


def beats_of(fields, unit, group, rows, columns):
    """The beats of one tile: `rows` and `columns` are slices of the operands."""
    groups = fields["a"].shape[1] // group
    beats = []
    for k in range(groups):
        for start in range(k * group, (k + 1) * group, unit.lanes):
            beat = {
                "a": fields["a"][rows, start : start + unit.lanes].tolist(),
                "b": fields["b"][columns, start : start + unit.lanes].tolist(),
                "a_scales": fields["a_scales"][rows, k].tolist(),
                "b_scales": fields["b_scales"][columns, k].tolist(),
                "first": int(k == 0),
                "last": int(k == groups - 1),
            }
            if "negative" in fields:
                beat["negative"] = fields["negative"][rows, k].tolist()
            beats.append(beat)
    return beats


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
    fields, product = operands(x, w, *formats, 16)
    beats = [
        beat
        for first in (0, 2)
        for beat in beats_of(fields, unit, 16, slice(first, first + 2), slice(3))
    ]
    run = run_stream(unit, beats, 4, constants={"base": BASE})
    assert [list(row.results) for row in run.outputs] == integers(product)
    last_group = 2 * unit.interval
    assert run.emitted[0] - run.accepted[last_group] == unit.latency
    assert run.emitted[2] - run.emitted[0] == 3 * unit.interval


def test_a_slow_receiver_loses_nothing():
    unit = MatrixUnit(E2M1, E2M1, rows=2, columns=2, lanes=4, group=16, result_bits=60)
    fields, product = operands(gelu_like(40, 16), gelu_like(2, 16, 1), E2M1, E2M1, 16)
    tiles = [slice(first, first + 2) for first in range(0, 40, 2)]
    beats = [beat for rows in tiles for beat in beats_of(fields, unit, 16, rows, slice(2))]
    pattern = (np.random.default_rng(0).random(2000) < 0.1).tolist()
    run = run_stream(unit, beats, 40, accepts=pattern, constants={"base": BASE})
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
    fields, product = operands(x, w, fmt, E2M1, 128)
    if fmt == DUAL_FP4_POW2:
        assert set(fields["negative"].flatten().tolist()) <= set(Recoder(fmt).shifts)
    tiles = [(slice(r, r + 2), slice(c, c + 2)) for r in range(0, 64, 2) for c in range(0, 64, 2)]
    beats = [beat for rows, columns in tiles for beat in beats_of(fields, unit, 128, rows, columns)]
    results = compiled_results(unit, beats)
    found = torch.zeros(64, 64, dtype=torch.int64)
    for (rows, columns), tile in zip(tiles, results.reshape(-1, 2, 2), strict=True):
        found[rows, columns] = torch.from_numpy(tile)
    assert found.tolist() == integers(product)


def compiled_results(unit: MatrixUnit, beats: list) -> np.ndarray:
    """Rows of results from the fast simulator, in which the unit is never made to wait."""
    cycles = len(beats) + unit.latency + unit.rows
    shape = unit.i.payload.shape()
    packed = [shape.const(beat).as_bits() for beat in beats] + [0] * (cycles - len(beats))
    width = -(-shape.size // 32)
    payload = np.frombuffer(b"".join(w.to_bytes(4 * width, "little") for w in packed), "<u4")
    valid = to_words((np.arange(cycles) < len(beats)).astype(int), 1)
    base = to_words(np.full(cycles, BASE), 10)
    outputs = CompiledUnit(unit).run(
        cycles,
        {
            "i__payload": payload.reshape(cycles, width),
            "i__valid": valid,
            "o__ready": 1,
            "base": base,
        },
    )
    assert (from_words(outputs["i__ready"], 1) == 1).all()
    is_valid = from_words(outputs["o__valid"], 1)[:, 0] == 1
    bits = unit.o.payload.shape().size // unit.columns
    return from_words(outputs["o__payload"][is_valid], bits, unit.columns, signed=True)


def test_a_tile_that_cannot_drain_in_time_is_refused():
    with pytest.raises(ValueError, match="at least 16 beats"):
        MatrixUnit(DUAL_FP4, E2M1, rows=8, columns=1, lanes=16)
