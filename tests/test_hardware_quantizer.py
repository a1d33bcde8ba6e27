"""Quantizers in hardware: their cores exhaustively, whole groups against `Quantizer`."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fpqvar_lab.formats import (
    DUAL_FP4,
    DUAL_FP4_POW2,
    DUAL_FP6_HW,
    E1M2,
    E2M1,
    E2M3,
    E3M0,
    E3M2,
    INT4,
    TIES_TO_EVEN,
    TIES_TO_POSITIVE,
    DualFormat,
    Rounding,
    encode,
    round_to,
)
from fpqvar_lab.hardware.rtl import (
    ComparatorBank,
    GroupIntake,
    GroupQuantizer,
    KVQuantizer,
    RoundingTable,
    ShiftQuantizer,
    branches,
)
from fpqvar_lab.hardware.toolchain import evaluate_combinational, from_words, run_beats, run_stream
from fpqvar_lab.quantization import Quantizer, ScaleDtype, per_group

FORMATS = [E2M1, E2M3, E1M2, INT4, DUAL_FP4, DUAL_FP4_POW2, DUAL_FP6_HW]
GROUP = 32


def awkward_groups(count: int = 12, group: int = GROUP, seed: int = 0) -> Tensor:
    """Whole numbers of 16 bits: zeros, one-signed groups, both extremes, ties, every magnitude."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.exp2(torch.randint(0, 13, (count, 1), generator=generator).float())
    x = (torch.randn(count, group, generator=generator) * sizes).round()
    x = x.clamp(-(2**15), 2**15 - 1) + 0.0  # no negative zero: integers have none
    x[0], x[1], x[2] = 0, x[1].abs(), -x[2].abs() + 0.0
    x[3, 0], x[4], x[5] = -(2**15), 1, torch.arange(group) - group // 2
    return x


def run_groups(unit, x: Tensor, **options):
    beats = x.reshape(-1, unit.lanes).int().tolist()
    return run_stream(unit, beats, len(beats), **options)


def codes_of(run, shape) -> Tensor:
    return torch.tensor([list(beat.codes) for beat in run.outputs]).reshape(shape)


# Cores


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(
    "fmt", [E2M1, E2M3, E1M2, E3M0, E3M2, INT4, DUAL_FP4, DUAL_FP6_HW], ids=str
)
def test_rounding_table_at_every_input_word(fmt, rounding):
    """Oracle: `round_to` of the quotient the word stands for, a sticky bit being a quarter step."""
    unit = RoundingTable(fmt, rounding)
    words = list(itertools.product(range(2**unit.magnitude_bits), (0, 1), (0, 1)))
    found = evaluate_combinational(
        unit, [unit.magnitude, unit.sticky, unit.sign], [unit.code], words
    )
    units = [half.quantum / 2 for half in branches(fmt)]
    quotients = [
        (magnitude + sticky / 4) * units[-1 if sign else 0] * (-1) ** sign
        for magnitude, sticky, sign in words
    ]
    x = torch.tensor(quotients, dtype=torch.float64)
    x = torch.where(torch.tensor([sign for *_, sign in words]).bool(), -x.abs(), x)
    expected = encode(round_to(x, fmt, rounding), fmt)
    assert [code for (code,) in found] == expected.tolist()


@pytest.mark.parametrize("count", [1, 6, 7, 31])
def test_comparators_count_the_thresholds_reached(count):
    thresholds = sorted(np.random.default_rng(count).integers(0, 256, count).tolist())
    unit = ComparatorBank(count, 8)
    packed = sum(t << (8 * i) for i, t in enumerate(thresholds))
    ports = [unit.x, unit.thresholds.as_value()]
    found = evaluate_combinational(unit, ports, [unit.index], [(x, packed) for x in range(256)])
    assert [i for (i,) in found] == [sum(x >= t for t in thresholds) for x in range(256)]


@pytest.mark.parametrize("lanes", [1, 4, 5])
def test_intake_finds_amax_and_keeps_the_beats(lanes):
    """Oracle: numpy."""
    x = np.random.default_rng(lanes).integers(-128, 128, (6, 20))
    x[2], x[3], x[4, 1] = 0, -abs(x[3]), -128
    unit = GroupIntake(lanes, 8, 20, split=True)
    peaks = []

    async def watch(ctx):
        ctx.set(unit.amax.ready, 1)
        async for _, _, valid, payload in ctx.tick().sample(unit.amax.valid, unit.amax.payload):
            if valid:
                peaks.append(list(payload))

    beats = run_with_process(unit, x.reshape(-1, lanes).tolist(), watch)
    expected = [[max(row.max(), 0), max(-row.min(), 0)] for row in x]
    assert beats == x.reshape(-1, lanes).tolist()
    assert peaks == expected


def run_with_process(unit, beats, process):
    """The beats that leave `unit.beats`, while `process` does the rest."""
    from amaranth.sim import Simulator

    outputs = []

    async def bench(ctx):
        ctx.set(unit.beats.ready, 1)
        sent = 0
        for _ in range(10 * len(beats)):
            ctx.set(unit.i.valid, sent < len(beats))
            ctx.set(unit.i.payload, beats[min(sent, len(beats) - 1)])
            taken = sent < len(beats) and ctx.get(unit.i.ready)
            if ctx.get(unit.beats.valid):
                outputs.append(list(ctx.get(unit.beats.payload)))
            await ctx.tick()
            sent += bool(taken)

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_process(process)
    simulator.add_testbench(bench)
    simulator.run_until(1e-8 * 12 * len(beats))
    return outputs


# Whole groups


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_groups_equal_the_quantizer(fmt, rounding):
    x = awkward_groups()
    q = Quantizer(fmt, per_group(GROUP), rounding=rounding, scale_dtype=ScaleDtype.BFLOAT16)
    run = run_groups(GroupQuantizer(fmt, group=GROUP, rounding=rounding), x)
    assert torch.equal(codes_of(run, x.shape), q.quantize(x).codes.long())
    ends = [beat for beat in run.outputs if beat.last]
    scales = q.scales(x)
    assert torch.equal(from_bfloat16([end.scale for end in ends]), effective(scales.main))
    if scales.shifts is not None:
        assert [to_signed(end.negative) for end in ends] == scales.shifts.flatten().tolist()
    elif isinstance(fmt, DualFormat):
        assert torch.equal(
            from_bfloat16([end.negative for end in ends]), effective(scales.negative)
        )


def from_bfloat16(words):
    return torch.tensor(words).to(torch.int16).view(torch.bfloat16).float()


def effective(stored):
    return stored.effective().flatten()


def to_signed(byte):
    return byte - 256 if byte >= 128 else byte


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", [E2M1, E2M3, E1M2, INT4, DUAL_FP4, DUAL_FP6_HW], ids=str)
def test_groups_with_power_of_two_scales_equal_the_quantizer(fmt, rounding):
    x = awkward_groups()
    q = Quantizer(fmt, per_group(GROUP), rounding=rounding, scale_dtype=ScaleDtype.POWER_OF_TWO)
    run = run_groups(ShiftQuantizer(fmt, group=GROUP, rounding=rounding), x)
    assert torch.equal(codes_of(run, x.shape), q.quantize(x).codes.long())
    scales = q.scales(x)
    stored = [scales.main] if scales.negative is None else [scales.main, scales.negative]
    ends = torch.tensor([list(beat.scales) for beat in run.outputs if beat.last])
    assert torch.equal(ends, torch.cat([part.values for part in stored], -1).long())


@pytest.mark.parametrize(
    "fmt", [pytest.param(E2M1, marks=pytest.mark.slow), DUAL_FP4_POW2], ids=str
)
def test_every_element_with_every_peak_at_eight_bits(fmt):
    """All 256 values beside each of the peaks 1 ... 128 of either sign, in the fast simulator."""
    group, lanes = 256, 8
    values = torch.arange(-128.0, 128)
    peaks = torch.arange(1, 129.0)
    x = values.clamp(-peaks[:, None], peaks[:, None].clamp_max(127)).flip(-1).contiguous()
    unit = GroupQuantizer(fmt, lanes, 8, group)
    q = Quantizer(fmt, per_group(group), scale_dtype=ScaleDtype.BFLOAT16)
    assert np.array_equal(compiled_codes(unit, x), q.quantize(x).codes.numpy())


@pytest.mark.parametrize(
    "rounding", [TIES_TO_EVEN, pytest.param(TIES_TO_POSITIVE, marks=pytest.mark.slow)]
)
def test_every_word_of_sixteen_bits(rounding):
    """Groups of 127 consecutive words and one that sets the peak; a few peaks."""
    words = torch.arange(-(2**15), 2**15).float()
    rows = torch.nn.functional.pad(words, (0, -len(words) % 127)).reshape(-1, 127)
    x = torch.cat(
        [
            torch.cat([rows.clamp(-peak, peak), torch.full((len(rows), 1), -peak)], 1)
            for peak in (32768.0, 24576.0, 12289.0)
        ]
    ).clamp_max(2**15 - 1)
    q = Quantizer(E2M1, per_group(128), rounding=rounding, scale_dtype=ScaleDtype.BFLOAT16)
    unit = GroupQuantizer(E2M1, rounding=rounding)
    assert np.array_equal(compiled_codes(unit, x), q.quantize(x).codes.numpy())


def compiled_codes(unit: GroupQuantizer, x: Tensor) -> np.ndarray:
    """The codes of groups sent without a pause to a receiver that is always ready."""
    assert unit.interval == x.shape[1] // unit.lanes  # or the unit would make the sender wait
    beats = x.reshape(-1, unit.lanes).numpy().astype(np.int64)
    payloads = run_beats(unit, beats, unit.width)
    return from_words(payloads, unit.format.bits, unit.lanes).reshape(x.shape)


@settings(max_examples=6, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-(2**15), 2**15 - 1), min_size=16, max_size=16), min_size=3, max_size=3
    )
)
def test_any_groups_equal_the_quantizer(rows):
    x = torch.tensor(rows).float()
    for fmt in (E2M1, DUAL_FP4_POW2):
        q = Quantizer(fmt, per_group(16), scale_dtype=ScaleDtype.BFLOAT16)
        run = run_groups(GroupQuantizer(fmt, 4, group=16), x)
        assert torch.equal(codes_of(run, x.shape), q.quantize(x).codes.long())


# Time


@pytest.mark.parametrize(
    "unit",
    [
        GroupQuantizer(E2M1, group=GROUP),
        GroupQuantizer(DUAL_FP4, group=128),
        GroupQuantizer(E2M3, lanes=4, group=64),
        ShiftQuantizer(E2M1, group=GROUP),
        KVQuantizer(E2M1, lanes=4),
    ],
    ids=lambda unit: f"{type(unit).__name__}({unit.format})",
)
def test_latency_and_interval_are_as_stated(unit):
    x = awkward_groups(group=unit.group)
    beats = x.reshape(-1, unit.lanes).int().tolist()
    sent = len(beats) // getattr(unit, "gather", 1)
    run = run_stream(unit, beats, sent)
    first = run.emitted[:: sent // len(x)]
    assert run.latency == unit.latency
    assert np.diff(first[2:]).tolist() == [unit.interval] * (len(first) - 3)


def test_watched_signals_are_those_of_the_cycles_in_which_beats_pass():
    unit = GroupQuantizer(E2M1, group=GROUP)
    stages = {"peak": unit.intake.amax, "quotient": unit.dividers[0].o, "out": unit.o}
    watched = {name: port.valid & port.ready for name, port in stages.items()}
    run = run_groups(unit, awkward_groups(), watched=watched)
    passed = {name: np.flatnonzero(wave) for name, wave in run.waves.items()}
    assert tuple(passed["out"]) == run.emitted
    assert passed["peak"][0] == unit.intake.latency
    assert passed["quotient"][0] - passed["peak"][0] == unit.dividers[0].latency


@pytest.mark.parametrize("kind", [GroupQuantizer, ShiftQuantizer])
def test_pauses_on_either_side_change_nothing(kind):
    x, generator = awkward_groups(), np.random.default_rng(0)
    smooth = run_groups(kind(E2M1, group=GROUP), x)
    for offered, accepted in ((0.3, 0.9), (0.9, 0.3), (0.5, 0.5)):
        pattern = {
            "offers": (generator.random(400) < offered).tolist(),
            "accepts": (generator.random(400) < accepted).tolist(),
        }
        paused = run_groups(kind(E2M1, group=GROUP), x, **pattern)
        assert [b.codes.as_bits() for b in paused.outputs] == [
            b.codes.as_bits() for b in smooth.outputs
        ]


def test_a_unit_that_does_not_keep_up_is_told_of():
    unit = GroupQuantizer(E2M1, group=GROUP)
    with pytest.raises(ValueError, match="beats left the unit, and 64 were sent"):
        run_beats(unit, np.zeros((64, unit.lanes), np.int64), unit.width)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="lanes 5 does not divide the group of 32"):
        GroupQuantizer(E2M1, lanes=5, group=32)
    with pytest.raises(ValueError, match="width 17 exceeds 16"):
        GroupQuantizer(E2M1, width=17)
    with pytest.raises(ValueError, match="use 'free'"):
        ShiftQuantizer(DUAL_FP4_POW2)


# The KV cache


@pytest.mark.parametrize("fmt", [E2M3, E2M1], ids=str)
def test_kv_vectors_equal_the_quantizer_per_head_and_token(fmt):
    """Words of memory hold the codes of one head's vector in order; oracle: `Quantizer`."""
    x = awkward_groups(10, 64)
    unit = KVQuantizer(fmt, group=64)
    words_a_vector = -(-64 * fmt.bits // unit.word)
    beats = x.reshape(-1, unit.lanes).int().tolist()
    run = run_stream(unit, beats, 10 * words_a_vector)
    q = Quantizer(fmt, per_group(64), scale_dtype=ScaleDtype.BFLOAT16)
    for row, codes in enumerate(q.quantize(x).codes.tolist()):
        words = run.outputs[row * words_a_vector : (row + 1) * words_a_vector]
        stored = sum(word.data << (unit.word * i) for i, word in enumerate(words))
        assert stored == sum(code << (fmt.bits * i) for i, code in enumerate(codes))
        assert [word.last for word in words] == [0] * (words_a_vector - 1) + [1]
    scales = from_bfloat16([word.scale for word in run.outputs if word.last])
    assert torch.equal(scales, effective(q.scales(x).main))
