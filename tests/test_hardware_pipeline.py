"""The simulation against closed forms, a queue of single tiles, the hardware itself, and itself."""

import heapq
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpqvar_lab.formats import DUAL_FP4, E2M1
from fpqvar_lab.hardware.accelerator import (
    MODELLED_LATENCY,
    POINTS,
    Design,
    Kind,
    Op,
    OperandFormats,
    StallReason,
    Unit,
    activation_bytes_needed,
    check_trace,
    chrome_trace,
    replay,
    simulate,
    simulated_rows,
    simulated_starts,
    with_bfloat16_scales,
    workload,
    write_trace,
)
from fpqvar_lab.var import VARConfig, VQVAEConfig

MINI = VARConfig.preset("mini")
SMALL = VARConfig(2, 128, 2, (1, 3), vocabulary=64, code_channels=16)
RECIPE = with_bfloat16_scales("fp4-fpqvar-pow2")
TINY = Design(rows=4, columns=12, lanes=32, hadamard_lanes=16, quantizer_lanes=16, special_lanes=8)
FAST = 1e30


def linear(rows=50, inner=256, columns=100, *, name="fc1", after=(), bits=4, step=0):
    return Op(
        name,
        Kind.LINEAR,
        step,
        0,
        rows=rows,
        inner=inner,
        columns=columns,
        weight_bytes=inner * columns * bits / 8,
        input_format=E2M1,
        weight_format=E2M1,
        after=after,
    )


# Closed forms


def test_with_memory_to_spare_the_tiles_alone_take_time():
    """Oracle: tiles times beats, one cycle for the first weights, and the way out."""
    op, timing = linear(), TINY.matrix_timing(E2M1)
    run = simulate([op], TINY, memory_bytes_per_s=FAST)
    tiles = ceil(op.rows / TINY.rows) * ceil(op.columns / TINY.columns)
    way_out = timing.latency - timing.interval + TINY.rows
    assert run.busy[Unit.MATRIX] == tiles * op.inner / TINY.lanes
    assert run.cycles == 1 + run.busy[Unit.MATRIX] + way_out
    assert run.stalls[Unit.MATRIX][StallReason.WEIGHTS] == 1


def test_with_too_little_memory_the_weights_alone_take_time():
    """Oracle: bytes over rate, then the last chunk's tiles, and the way out."""
    op, timing = linear(rows=8, columns=96), TINY.matrix_timing(E2M1)
    rate = 0.25 * TINY.clock_hz
    run = simulate([op], TINY, memory_bytes_per_s=rate)
    tail = 2 * op.inner // TINY.lanes + timing.latency - timing.interval + TINY.rows
    assert run.busy[Unit.DMA] == 4 * op.weight_bytes
    assert run.cycles == 4 * op.weight_bytes + tail


@pytest.mark.parametrize(("rate", "bound"), [(1e6, "memory"), (1e15, "arithmetic")])
def test_an_image_approaches_what_binds_it(rate, bound):
    """Oracle: all bytes over the rate; or all padded tiles. Neither can be beaten."""
    ops = workload(MINI, RECIPE, batch=8)
    design = replace(TINY, attention_macs=2**14, special_lanes=4096, quantizer_lanes=4096)
    design = replace(design, hadamard_lanes=1024)
    run = simulate(ops, design, memory_bytes_per_s=rate)
    moved = run.bytes_read + run.bytes_written
    tiles = sum(
        ceil(w.rows / 4) * ceil(w.columns / 12) * w.inner // 32
        for w in ops
        if w.weight_format is not None
    )
    least = moved * design.clock_hz / rate if bound == "memory" else tiles
    assert least <= run.cycles < 1.08 * least


def test_a_single_row_is_used_when_it_has_been_computed():
    """Oracle: the product's own end. Its weights are there earlier, and are not its result."""
    product, sampling = (
        linear(rows=1, inner=4096, columns=12),
        Op("sampling", Kind.SAMPLING, 0, None, rows=1, columns=12, elements=12, after=("fc1",)),
    )
    run = simulate([product, sampling], TINY, memory_bytes_per_s=FAST, record=True)
    multiplied = next(event for event in run.events if event.unit is Unit.MATRIX)
    sampled = next(event for event in run.events if event.unit is Unit.SPECIAL)
    assert sampled.start == multiplied.ready


# Single tiles in an event queue


@dataclass
class Job:
    """A tile, a chunk of weights or a few rows of one stage, in the oracle below."""

    unit: str
    cycles: int
    needs: list[tuple[str, int]]
    takes: int = 0
    frees: int = 0


def run_queue(jobs: dict[str, Job], capacity: int) -> int:
    """All jobs in time order, each unit in the order given; when the last result is there.

    `needs` holds names of jobs with the cycles from their end until their result is there.
    """
    queues = defaultdict(list)
    for name, job in jobs.items():
        queues[job.unit].append(name)
    ends: dict[str, int] = {}
    free = dict.fromkeys(queues, 0)
    held, now, events, last = 0, 0, [0], 0
    leaving: list[tuple[int, int]] = []
    while events:
        now = heapq.heappop(events)
        while leaving and leaving[0][0] <= now:
            held -= heapq.heappop(leaving)[1]
        for unit, queue in queues.items():
            while queue and free[unit] <= now:
                job = jobs[queue[0]]
                if any(name not in ends for name, _ in job.needs):
                    break
                ready = max((ends[name] + lag for name, lag in job.needs), default=0)
                if ready > now:
                    heapq.heappush(events, ready)
                    break
                if job.takes and held + job.takes > capacity:
                    break
                held += job.takes
                ends[queue.pop(0)] = free[unit] = now + job.cycles
                heapq.heappush(events, now + job.cycles)
                if job.frees:
                    heapq.heappush(leaving, (now + job.cycles, job.frees))
        last = max(last, now)
    assert not any(queues.values())
    return max(ends.values())


def chain(rows: int, widths: list[int]) -> list[Op]:
    """Layers with normalisation, transform and quantizer before each, and a residual after."""
    ops: list[Op] = []

    def add(name: str, kind: Kind, columns: int, **fields: object) -> None:
        after = (ops[-1].name,) if ops else ()
        base = Op(name, kind, 0, 0, rows=rows, columns=columns, elements=rows * columns)
        ops.append(replace(base, after=after, **fields))  # type: ignore[arg-type]

    for layer, (inner, columns) in enumerate(pairwise(widths)):
        add(f"norm{layer}", Kind.NORM, inner)
        add(f"hadamard{layer}", Kind.HADAMARD, inner)
        add(f"quantize{layer}", Kind.QUANTIZE, inner, input_format=E2M1, group=128)
        ops.append(linear(rows, inner, columns, name=f"linear{layer}", after=(f"quantize{layer}",)))
        add(f"residual{layer}", Kind.RESIDUAL, columns)
    return ops


def jobs_of(ops: list[Op], design: Design, rate: Fraction) -> tuple[dict[str, Job], int]:
    """The chain as single jobs with both levels on; and the cycles after the last job's end."""
    jobs: dict[str, Job] = {}
    tiles = [min(design.rows, ops[0].rows - r) for r in range(0, ops[0].rows, design.rows)]
    quantizer = design.quantizer_timing(E2M1, 128)
    matrix, transform = design.matrix_timing(E2M1), design.hadamard_timing
    lags = {
        Kind.NORM: MODELLED_LATENCY,
        Kind.HADAMARD: transform.latency,
        Kind.QUANTIZE: quantizer.latency + 128 // 8 - quantizer.interval,
        Kind.LINEAR: matrix.latency - matrix.interval + design.rows,
        Kind.RESIDUAL: MODELLED_LATENCY,
    }
    sources: dict[int, list[tuple[str, int]]] = {tile: [] for tile in range(len(tiles))}
    for op in ops:
        if op.kind is Kind.LINEAR:
            columns = list(range(0, op.columns, design.columns))
            for c, begin in enumerate(columns):
                width = min(design.columns, op.columns - begin)
                size = op.inner * width // 2
                chunk = f"{op.name}.load{c}"
                jobs[chunk] = Job("dma", ceil(size / rate), [], takes=size)
                for t in range(len(tiles)):
                    beats = op.inner // 128 * matrix.interval
                    needs = [(chunk, 0), *sources[t]]
                    is_last = t == len(tiles) - 1
                    name = f"{op.name}.{c}.{t}"
                    jobs[name] = Job("matrix", beats, needs, frees=size if is_last else 0)
            sources = {0: [(f"{op.name}.{c}", lags[op.kind]) for c in range(len(columns))]}
            continue
        if op.kind is Kind.RESIDUAL:
            before = ops[ops.index(op) - 1].name
            for c, begin in enumerate(range(0, op.columns, design.columns)):
                width = min(design.columns, op.columns - begin)
                needs = [(f"{before}.{c}.{t}", lags[Kind.LINEAR]) for t in range(len(tiles))]
                cycles = ceil(op.rows * width / design.special_lanes)
                jobs[f"{op.name}.{c}"] = Job("special", cycles, needs)
            every = [(f"{op.name}.{c}", MODELLED_LATENCY) for c in range(c + 1)]
            sources = dict.fromkeys(range(len(tiles)), every)
            continue
        for t, rows in enumerate(tiles):
            groups = rows * op.columns // 128
            unit, cycles = {
                Kind.NORM: ("special", ceil(rows * op.columns / design.special_lanes)),
                Kind.HADAMARD: (
                    "hadamard",
                    ceil(groups * 128 / POINTS / design.transforms) * transform.interval,
                ),
                Kind.QUANTIZE: (
                    "quantizer",
                    ceil(groups / design.quantizers) * quantizer.interval,
                ),
            }[op.kind]
            jobs[f"{op.name}.{t}"] = Job(unit, cycles, list(sources[t]))
            sources[t] = [(f"{op.name}.{t}", lags[op.kind])]
    return jobs, MODELLED_LATENCY


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    widths=st.lists(st.sampled_from([128, 256, 384]), min_size=2, max_size=4),
    kilobytes=st.sampled_from([2, 3, 5, 8, 100]),
    rate=st.sampled_from([Fraction(1, 3), Fraction(4), Fraction(37), Fraction(10**6)]),
    special=st.sampled_from([1, 8, 100]),
)
def test_runs_of_equal_tiles_take_what_single_tiles_take(rows, widths, kilobytes, rate, special):
    """Oracle: an event queue in time order, one job for each tile."""
    design = replace(TINY, special_lanes=special, weight_buffer_bytes=1024 * kilobytes + 512)
    ops = chain(rows, widths)
    jobs, tail = jobs_of(ops, design, rate)
    expected = run_queue(jobs, design.weight_buffer_bytes) + tail
    bandwidth = float(rate) if rate.denominator == 1 else rate
    design = replace(design, clock_hz=Fraction(1))
    run = simulate(ops, design, memory_bytes_per_s=bandwidth)
    assert run.cycles == expected


# The hardware itself


@pytest.mark.parametrize("bytes_per_cycle", [1000, 4, 1])
def test_a_layer_takes_the_cycles_of_the_matrix_unit(bytes_per_cycle):
    """Oracle: `MatrixUnit` in Amaranth's simulator, fed as weights arrive, cycle for cycle."""
    design = Design(rows=2, columns=3, lanes=4, group=16, clock_hz=1)
    op = linear(rows=5, inner=48, columns=7)
    run = simulate([op], design, memory_bytes_per_s=bytes_per_cycle, record=True)
    found = replay(run)
    assert list(found.accepted[:: 48 // 4]) == simulated_starts(run)
    assert list(found.emitted) == simulated_rows(run)
    assert len(found.emitted) == 3 * 3 * 2
    assert run.cycles == found.emitted[-1] + 1


# Conservation


DESIGNS = st.builds(
    Design,
    rows=st.sampled_from([2, 4, 8]),
    columns=st.sampled_from([20, 64]),
    lanes=st.sampled_from([1, 2, 4]),
    arrays=st.sampled_from([1, 3]),
    attention_macs=st.sampled_from([10, 60, 1000]),
    hadamard_lanes=st.sampled_from([2, 16, 256]),
    quantizer_lanes=st.sampled_from([8, 40, 800]),
    special_lanes=st.sampled_from([1, 10, 1000]),
    clock_hz=st.just(1e8),
    weight_buffer_bytes=st.sampled_from([2**18, 2**19, 2**24]),
    double_buffered=st.booleans(),
    fine=st.booleans(),
    coarse=st.booleans(),
)
RATES = st.sampled_from([1e6, 1e8, 3.3e9, 1e13])
FREE_RATIO = OperandFormats(E2M1, E2M1, DUAL_FP4)
SMALL_OPS = workload(SMALL, "fp4-fpqvar-pow2")
SMALL_OPS_KV = workload(SMALL, with_bfloat16_scales("fp4-fpqvar-kv6"))


@settings(max_examples=60, deadline=None)
@given(design=DESIGNS, rate=RATES, first=st.sampled_from([0, 3, 20]))
def test_every_cycle_of_every_unit_is_accounted_for(design, rate, first):
    run = simulate(usable(SMALL_OPS[first:]), design, memory_bytes_per_s=rate, record=True)
    for unit in Unit:
        assert run.busy[unit] + sum(run.stalls[unit].values()) == run.cycles
        events = [event for event in run.events if event.unit is unit]
        assert sum(event.end - event.start for event in events) == run.busy[unit]
        assert all(a.end <= b.start for a, b in pairwise(events))
    assert sum(step.cycles for step in run.steps) == run.cycles
    assert max(event.ready for event in run.events) == run.cycles


def usable(ops):
    """A part of a list, whose operations need nothing from outside it."""
    names = {op.name for op in ops}
    return [replace(w, after=tuple(n for n in w.after if n in names)) for w in ops]


@settings(max_examples=30, deadline=None)
@given(design=DESIGNS, rate=RATES)
def test_all_macs_are_done_and_all_bytes_moved(design, rate):
    run = simulate(SMALL_OPS, design, memory_bytes_per_s=rate)
    assert run.macs == sum(op.macs for op in SMALL_OPS)
    assert run.bytes_read == sum(w.weight_bytes + w.cache_read_bytes for w in SMALL_OPS)
    assert run.bytes_written == sum(w.cache_written_bytes for w in SMALL_OPS)
    moved = Fraction(run.bytes_read + run.bytes_written) * Fraction(1e8) / Fraction(rate)
    assert moved <= run.busy[Unit.DMA] <= moved + run.tasks
    assert run.busy[Unit.MATRIX] * design.macs_per_cycle >= run.steps[0].macs[Unit.MATRIX]


def test_no_operation_starts_before_what_it_needs_has_begun():
    run = simulate(SMALL_OPS, TINY, memory_bytes_per_s=1e9, record=True)
    first, last = {}, {}
    for event in run.events:
        name = event.op.name
        if event.unit is not Unit.DMA or event.op.kind is Kind.CACHE_READ:
            first.setdefault(name, event.start)
            last[name] = max(last.get(name, 0), event.ready)
    for op in run.ops:
        for name in op.after:
            assert first[name] <= first.get(op.name, first[name])
            assert last[name] <= last.get(op.name, last[name])


def test_the_decoder_follows_the_last_step():
    """Oracle: its MACs over the array's rate, each row of a convolution rounded up."""
    vqvae = VQVAEConfig.preset("mini")
    ops = workload(MINI, RECIPE, vqvae=vqvae)
    run, without = (
        simulate(w, TINY, memory_bytes_per_s=1e12) for w in (ops, workload(MINI, RECIPE))
    )
    macs = sum(w.macs for w in ops if w.kind is Kind.DECODE)
    least = macs / TINY.attention_macs
    assert sum(step.cycles for step in run.steps) == run.cycles
    assert run.steps[-1].step is None
    assert least < run.cycles - without.cycles < 1.5 * least


# Monotonicity


GROWTHS = {
    "lanes": lambda design: replace(design, lanes=2 * design.lanes),
    "attention_macs": lambda design: replace(design, attention_macs=3 * design.attention_macs),
    "hadamard_lanes": lambda design: replace(design, hadamard_lanes=2 * design.hadamard_lanes),
    "quantizer_lanes": lambda design: replace(design, quantizer_lanes=design.quantizer_lanes + 8),
    "special_lanes": lambda design: replace(design, special_lanes=design.special_lanes + 1),
    "weight_buffer": lambda d: replace(d, weight_buffer_bytes=3 * d.weight_buffer_bytes // 2),
    "double_buffered": lambda design: replace(design, double_buffered=True),
    "fine": lambda design: replace(design, fine=True),
    "coarse": lambda design: replace(design, coarse=True),
}


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("cache_bits", [16, 6])
@settings(max_examples=40, deadline=None)
@given(design=DESIGNS, rate=RATES)
def test_more_of_anything_is_never_slower(growth, cache_bits, design, rate):
    """Units take their tasks in a fixed order, so all times are sums and maxima of durations."""
    ops = SMALL_OPS if cache_bits == 16 else SMALL_OPS_KV
    if growth == "weight_buffer":
        design = replace(design, fine=True)
    less, more = (suited(d, ops) for d in (design, GROWTHS[growth](design)))
    slow, fast = (simulate(ops, d, memory_bytes_per_s=rate) for d in (less, more))
    assert fast.cycles <= slow.cycles


def suited(design, ops):
    """The design with the formats of the work; a free ratio of scales takes two totals."""
    return design if ops is SMALL_OPS else replace(design, formats=FREE_RATIO)


@settings(max_examples=60, deadline=None)
@given(design=DESIGNS, rate=st.integers(10**6, 10**12), factor=st.floats(1, 10))
def test_more_bandwidth_is_never_slower(design, rate, factor):
    slow, fast = (simulate(SMALL_OPS, design, memory_bytes_per_s=r) for r in (rate, rate * factor))
    assert fast.cycles <= slow.cycles


# What the design cannot do


def test_a_recipe_in_other_formats_is_refused():
    with pytest.raises(ValueError, match="the design's arrays take e2m1"):
        simulate(workload(MINI, "fp6-baseline"), TINY, memory_bytes_per_s=1)
    free = workload(MINI, "fp4-fpqvar")
    with pytest.raises(ValueError, match="at least"):
        simulate(free, replace(TINY, rows=16, lanes=8), memory_bytes_per_s=1)


def test_a_weight_buffer_that_holds_no_tile_is_refused():
    with pytest.raises(ValueError, match="weight_buffer_bytes 100 is less than"):
        simulate([linear()], replace(TINY, weight_buffer_bytes=100), memory_bytes_per_s=1)


def test_an_activation_buffer_that_holds_no_layer_is_refused():
    ops = workload(VARConfig.preset("d30"), RECIPE)
    needed = activation_bytes_needed(ops)
    # Oracle: the last step's 512 rows: residual stream, inputs of fc1 and fc2, two heads' cache.
    codes = 512 * (1920 * (4 + 16 / 128) + 7680 * (4 + 24 / 128)) / 8
    cache = 2 * 2 * 424 * 2 * 64 * 2
    assert needed == 2 * 512 * 1920 + codes + cache
    small = Design(activation_buffer_bytes=needed - 1)
    with pytest.raises(ValueError, match=f"less than the {needed} bytes"):
        simulate(ops, small, memory_bytes_per_s=1)


def test_work_out_of_order_is_refused():
    ops = [linear(after=("quantize",))]
    with pytest.raises(ValueError, match="needed before it is there"):
        simulate(ops, TINY, memory_bytes_per_s=1)
    with pytest.raises(ValueError, match="must be positive"):
        simulate(ops, TINY, memory_bytes_per_s=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": 0}, "arrays is 0"),
        ({"quantizer_lanes": 12}, "multiple of 8"),
        ({"hadamard_lanes": 24}, "power of two"),
        ({"rows": 32, "lanes": 8}, "at least 32 beats"),
        ({"formats": OperandFormats(E2M1, DUAL_FP4, E2M1)}, "dual format"),
    ],
)
def test_a_design_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Design(**change)


# The trace


def test_a_trace_has_the_form_that_viewers_read(tmp_path):
    run = simulate([linear()], TINY, memory_bytes_per_s=1e9, record=True)
    trace = json.loads(write_trace(run, tmp_path / "trace.json").read_text())
    timed = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert names == {unit.value for unit in Unit}
    assert len(timed) == run.tasks
    matrix = [event["dur"] for event in timed if event["tid"] == list(Unit).index(Unit.MATRIX)]
    assert sum(matrix) == pytest.approx(run.busy[Unit.MATRIX] / TINY.clock_hz * 1e6)
    assert max(e["ts"] + e["dur"] for e in timed) <= run.seconds * 1e6


def test_a_trace_without_events_or_form_is_refused():
    with pytest.raises(ValueError, match="record=True"):
        chrome_trace(simulate([linear()], TINY, memory_bytes_per_s=1e9))
    with pytest.raises(ValueError, match="traceEvents"):
        check_trace({})
    with pytest.raises(ValueError, match="ph 'B'"):
        check_trace({"traceEvents": [{"ph": "B"}]})
    event = {"ph": "X", "name": "a", "cat": "b", "pid": 0, "tid": 0, "ts": 0.0, "dur": -1.0}
    with pytest.raises(ValueError, match="negative"):
        check_trace({"traceEvents": [event]})
    with pytest.raises(ValueError, match="tid is None"):
        check_trace({"traceEvents": [event | {"tid": None}]})


# Speed and size


def test_an_image_of_d30_is_simulated_in_seconds():
    ops = workload(VARConfig.preset("d30"), RECIPE)
    run = simulate(ops, Design(), memory_bytes_per_s=0.8 * 25.6e9)
    assert run.tasks > 200_000
    assert round(run.macs / 1e9) == 1883
    assert 0.05 < run.padding < 0.06
    assert np.isclose(sum(step.cycles for step in run.steps), run.cycles)
