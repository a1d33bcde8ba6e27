"""The lower bound on cycles: one block by hand, and below all simulations of this order of work."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpqvar_lab.hardware.accelerator import (
    Design,
    Load,
    Unit,
    least,
    simulate,
    with_bfloat16_scales,
    workload,
)
from fpqvar_lab.var import VARConfig

RECIPE = with_bfloat16_scales("fp4-fpqvar-pow2")
BLOCK = VARConfig(1, 128, 2, (1, 2), vocabulary=64, code_channels=16)
BLOCK_OPS = workload(BLOCK, RECIPE)
BY_HAND = Design(
    rows=4,
    columns=64,
    lanes=32,
    attention_macs=4096,
    hadamard_lanes=16,
    quantizer_lanes=64,
    special_lanes=64,
    clock_hz=1e6,
    weight_buffer_bytes=8192,
)


def chain_by_hand(rows: int, seen: int) -> int:
    """One block and the head on `BY_HAND`: width 128, two heads of 64, two sequences."""
    tiles = -(-rows // 4)
    transform = rows * 128 // 16  # slower than 64 elements per cycle of normalisation
    qkv, proj, fc1, fc2 = tiles * 6 * 4, tiles * 2 * 4, tiles * 8 * 4, tiles * 2 * 16
    products = 2 * (rows // 2) * 64 * seen * 4 // 4096
    special = (rows * 256 + rows * 2 * seen) // 64
    attention = max(qkv - tiles * 4 + (products + special) // 2, products, special)
    fc1_and_gelu = fc1 - tiles * 4 + rows * 64 // 64
    head = rows * 128 * 64 // 4096
    return transform + attention + proj + transform + fc1_and_gelu + fc2 + head


def test_the_chain_of_operations_bounds_a_design_with_memory_to_spare():
    """Oracle: tiles, elements and lanes by hand, for both steps of one block."""
    assert (chain_by_hand(2, 1), chain_by_hand(8, 5)) == (130, 345)
    found = least(Load(BLOCK_OPS), BY_HAND, 1e30)
    assert found.cycles == 130 + 345
    assert found.busy["matrix"] == (24 + 8 + 32 + 32) + (48 + 16 + 64 + 64)


def test_a_step_s_weights_bound_it_where_they_exceed_the_buffer():
    """Oracle: bytes by hand. The first step waits for weights, the second one for its chain."""
    blocks = 12 * 128**2 * (4 + 16 / 128) / 8 + 2 * (256 + 128 + 512 + 128)
    head = 2 * (128 * 64 + 64)
    conditions = 2 * (128 * 768 + 768 + 128 * 256 + 256)
    first = int((blocks + head + conditions - 8192) / 512)
    assert first == 734
    assert least(Load(BLOCK_OPS), BY_HAND, 512e6).cycles == 734 + 345


def test_all_bytes_bound_a_design_with_little_memory():
    """Oracle: the sum of the operations' bytes over the rate."""
    moved = sum(o.weight_bytes + o.cache_read_bytes + o.cache_written_bytes for o in BLOCK_OPS)
    assert least(Load(BLOCK_OPS), BY_HAND, 1e6).cycles == int(moved)


DESIGNS = st.builds(
    Design,
    rows=st.sampled_from([1, 2, 4, 8]),
    columns=st.sampled_from([1, 7, 20, 64, 600]),
    lanes=st.sampled_from([1, 2, 4, 16]),
    arrays=st.sampled_from([1, 3]),
    attention_macs=st.sampled_from([1, 10, 60, 1000, 10**6]),
    hadamard_lanes=st.sampled_from([2, 16, 256]),
    quantizer_lanes=st.sampled_from([8, 40, 800]),
    special_lanes=st.sampled_from([1, 10, 1000]),
    clock_hz=st.just(1e8),
    weight_buffer_bytes=st.sampled_from([2**19, 2**24]),
    double_buffered=st.booleans(),
    fine=st.booleans(),
    coarse=st.booleans(),
)
SMALL_OPS = workload(VARConfig(2, 128, 2, (1, 3), vocabulary=64, code_channels=16), RECIPE)
SMALL_LOAD = Load(SMALL_OPS)


@settings(max_examples=150, deadline=None)
@given(design=DESIGNS, rate=st.sampled_from([1e6, 1e8, 3.3e9, 1e13]))
def test_no_design_is_simulated_faster_than_its_bound(design, rate):
    """Oracle: the simulator, whose cycles are counted one task after the other."""
    run = simulate(SMALL_OPS, design, memory_bytes_per_s=rate)
    bound = least(SMALL_LOAD, design, rate)
    assert bound.cycles <= run.cycles
    assert all(bound.busy[unit] <= run.busy[unit] for unit in Unit)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rate", [1e9, 1e12])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rows": 1, "columns": 8, "lanes": 1, "attention_macs": 16},
        {"rows": 16, "columns": 250, "special_lanes": 512, "attention_macs": 8192},
    ],
    ids=["as it is", "tiny", "large"],
)
def test_bounds_hold_for_the_small_model(change, rate, batch):
    ops = workload(VARConfig.preset("mini"), RECIPE, batch=batch)
    design = replace(Design(rows=8, activation_buffer_bytes=2**26), **change)
    run = simulate(ops, design, memory_bytes_per_s=rate)
    assert least(Load(ops), design, rate).cycles <= run.cycles


@pytest.mark.parametrize("change", [{"columns": 32}, {"lanes": 16, "columns": 200}])
def test_bounds_hold_and_are_near_for_another_public_model(change):
    """Oracle: the simulator. The bound is of use only if it is near."""
    ops = workload(VARConfig.preset("d16"), RECIPE)
    design = replace(Design(rows=8), **change)
    run = simulate(ops, design, memory_bytes_per_s=0.8 * 25.6e9)
    assert 0.85 * run.cycles < least(Load(ops), design, 0.8 * 25.6e9).cycles <= run.cycles
