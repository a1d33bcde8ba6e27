"""The Hadamard unit against scipy's matrix, folded and parallel."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from fpqvar_lab.hardware.rtl import HadamardUnit
from fpqvar_lab.hardware.toolchain import CompiledUnit, from_words, run_stream, to_words


def random_signs(points, seed=0):
    return np.random.default_rng(seed).choice([1, -1], points).tolist()


def expected(unit, groups):
    """Oracle: the matrix product, in the unit's order of beats and lanes."""
    signs = np.array(unit.signs or [1] * unit.points)
    results = (np.asarray(groups) * signs) @ scipy.linalg.hadamard(unit.points)
    order = [unit.output_index(b, p) for b in range(unit.beats) for p in range(unit.lanes)]
    return results[:, order].reshape(-1, unit.lanes).tolist()


def run(unit, groups, **options):
    beats = np.asarray(groups).reshape(-1, unit.lanes).tolist()
    done = run_stream(unit, beats, len(beats), **options)
    return [list(beat) for beat in done.outputs], done


CASES = [(4, 2), (8, 2), (8, 4), (8, 8), (16, 2), (16, 4), (64, 8), (128, 2)]


@pytest.mark.parametrize("with_signs", [False, True])
@pytest.mark.parametrize(("points", "lanes"), CASES)
def test_transform_equals_scipy(points, lanes, with_signs):
    signs = random_signs(points) if with_signs else ()
    unit = HadamardUnit(points, lanes, 8, signs)
    groups = np.random.default_rng(1).integers(-128, 128, (4, points))
    assert run(unit, groups)[0] == expected(unit, groups)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_fit(sign):
    """All elements at an extreme, so that one output is points times it."""
    unit = HadamardUnit(16, 4, 6, [sign] * 16)
    groups = [[-32] * 16, [31] * 16, [-32, 31] * 8]
    outputs, _ = run(unit, groups)
    assert outputs == expected(unit, groups)
    assert max(map(max, outputs)) == (512 if sign < 0 else 496)


def test_the_order_of_outputs_names_every_element_once():
    unit = HadamardUnit(128, 8)
    order = {unit.output_index(b, p) for b in range(unit.beats) for p in range(unit.lanes)}
    assert order == set(range(128))


@pytest.mark.parametrize(("points", "lanes"), [(8, 2), (16, 4), (8, 8), (128, 2)])
def test_latency_and_interval_are_as_stated(points, lanes):
    unit = HadamardUnit(points, lanes, 8, random_signs(points))
    groups = np.zeros((4, points), int)
    _, done = run(unit, groups)
    assert done.latency == unit.latency
    assert np.diff(done.emitted[: 2 * unit.beats]).tolist() == [1] * (2 * unit.beats - 1)
    assert done.emitted[unit.beats] - done.emitted[0] == unit.interval


@pytest.mark.parametrize(("points", "lanes"), [(16, 2), (16, 4), (8, 8)])
def test_pauses_on_either_side_change_nothing(points, lanes):
    unit = HadamardUnit(points, lanes, 8, random_signs(points))
    generator = np.random.default_rng(2)
    groups = generator.integers(-128, 128, (6, points))
    for offered, accepted in ((0.2, 0.9), (0.9, 0.3), (0.5, 0.5), (0.05, 1.0)):
        outputs, _ = run(
            HadamardUnit(points, lanes, 8, unit.signs),
            groups,
            offers=(generator.random(1500) < offered).tolist(),
            accepts=(generator.random(1500) < accepted).tolist(),
        )
        assert outputs == expected(unit, groups)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(-2048, 2047), min_size=16, max_size=16))
def test_applied_twice_it_is_the_input_times_the_points(numbers):
    unit = HadamardUnit(16, 4, 12)
    once = np.empty(16, int)
    outputs, _ = run(unit, [numbers])
    for beat, lanes in enumerate(outputs):
        for lane, value in enumerate(lanes):
            once[unit.output_index(beat, lane)] = value
    again = HadamardUnit(16, 4, 16)
    assert run(again, [once])[0] == expected(again, [once])
    order = [unit.output_index(b, p) for b in range(4) for p in range(4)]
    assert np.ravel(run(again, [once])[0]).tolist() == (16 * np.array(numbers))[order].tolist()


def test_the_paper_s_group_in_the_compiled_simulator():
    """128 points, 2 per cycle, 12 bits, 500 groups without a pause."""
    unit = HadamardUnit(128, 2, 12, random_signs(128))
    groups = np.random.default_rng(3).integers(-2048, 2048, (500, 128))
    beats = groups.reshape(-1, 2)
    cycles = len(beats) + unit.latency
    sent = np.concatenate([beats, np.zeros((unit.latency, 2), int)])
    inputs = {"i__payload": to_words(sent, 12), "i__valid": 1, "o__ready": 1}
    words = CompiledUnit(unit).run(cycles, inputs)["o__payload"][unit.latency :]
    outputs = from_words(words, unit.output_width, 2, signed=True)
    assert outputs.tolist() == expected(unit, groups)


def test_what_is_no_power_of_two_is_refused():
    for points, lanes in ((12, 2), (8, 3), (8, 16), (8, 1)):
        with pytest.raises(ValueError, match="powers of two"):
            HadamardUnit(points, lanes)
    with pytest.raises(ValueError, match="signs"):
        HadamardUnit(8, 2, signs=[1, -1])
