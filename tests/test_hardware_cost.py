"""What designs take: scaling rules against rows of the table that they do not use; energy."""

from dataclasses import dataclass, field, replace

import pytest

from fpqvar_lab.formats import E1M2, E2M1, E3M0, INT8, by_name
from fpqvar_lab.hardware.accelerator import (
    ASSUMED,
    HG_PIPE_VCK190,
    K26,
    LUT_BUSY,
    PARTS_OF,
    VCK190,
    Design,
    DSPMultipliers,
    OperandFormats,
    Resources,
    Uncertain,
    dot_product,
    energy,
    hadamard,
    matrix,
    matrix_unit,
    parts,
    quantizer,
    ratio,
    resources,
    static_power,
)
from fpqvar_lab.hardware.cost_table import Entry, load_table

UNITS = tuple(PARTS_OF)


def of_row(entry: Entry) -> Resources:
    report = load_table()[entry]
    return Resources(report.lut + report.memory_lut, report.ff, report.dsp)


@pytest.mark.parametrize("name", ["dual-fp4-pow2", "dual-fp4"])
def test_a_matrix_unit_is_scaled_from_its_cells(name):
    """Oracle: whole units as synthesized; the rule has seen that of E2M1 only."""
    rule = matrix_unit(by_name(name), 4, 4, 16)
    found = of_row(Entry("matrix-unit", name, dsp=True))
    assert rule.lut == pytest.approx(found.lut, rel=0.03)
    assert rule.ff == pytest.approx(found.ff, rel=0.05)
    assert rule.dsp == found.dsp


@pytest.mark.parametrize("lanes", [4, 8])
def test_a_transform_is_scaled_by_its_lanes(lanes):
    """Oracle: the rows of 4 and 8 lanes; the rule has seen 2 and 16."""
    rule, found = hadamard(lanes), of_row(Entry("hadamard", lanes=lanes))
    assert rule.lut == pytest.approx(found.lut, rel=0.1)


def test_many_transforms_are_no_cheaper_than_one_parallel_one():
    found = of_row(Entry("hadamard", lanes=128))
    assert found.lut <= hadamard(128).lut <= 1.7 * found.lut


def test_dot_products_pass_through_the_rows_of_the_table():
    for lanes in (16, 64):
        assert dot_product(E2M1, lanes).lut == pytest.approx(
            of_row(Entry("dot-product", "e2m1", lanes)).lut
        )


def test_a_row_of_the_table_is_taken_as_it_is_at_4_x_4():
    found = of_row(Entry("matrix-unit", dsp=True))
    rule = matrix_unit(E2M1, 4, 4, 16)
    assert (rule.lut, rule.ff, rule.dsp) == pytest.approx((found.lut, found.ff, found.dsp))


def test_twice_the_arrays_take_twice_the_cells():
    one, two = (matrix(Design(arrays=arrays)) for arrays in (1, 2))
    assert two == one * 2


def test_parts_add_up():
    design = Design()
    total = resources(design)
    assert total.lut == pytest.approx(sum(part.lut for part in parts(design).values()))
    assert total.dsp == pytest.approx(sum(part.dsp for part in parts(design).values()))


def test_multipliers_in_dsps_take_no_luts_for_products():
    design = Design(formats=OperandFormats(INT8, INT8, INT8), columns=40)
    products = design.macs_per_cycle
    in_luts, in_dsps = matrix(design), matrix(design, DSPMultipliers(3))
    assert in_dsps.dsp - in_luts.dsp == pytest.approx(16 * 40 * 3)
    assert in_luts.lut - in_dsps.lut > 80 * products


def test_the_special_function_unit_is_an_assumption_and_says_why():
    assert all(assumption.reason for assumption in ASSUMED.values())
    wide, narrow = (parts(Design(special_lanes=lanes))["special"] for lanes in (64, 32))
    assert wide == narrow * 2


def test_control_is_counted_once_per_design():
    """Oracle: the cells that the pages state, half of those of LightMamba's design."""
    for design in (Design(), Design(arrays=2, special_lanes=8)):
        others = Resources()
        for name, part in parts(design).items():
            others += Resources() if name == "control" else part
        found = resources(design)
        assert found.lut - others.lut == pytest.approx(50_000)
        assert found.ff - others.ff == pytest.approx(60_000)
        assert found.bram - others.bram == 64


def test_buffers_are_wide_enough_for_the_arrays():
    """A narrow buffer of much weight has few ports; a wide one of little has many."""
    design = Design(weight_buffer_bytes=1024, columns=160)
    assert parts(design)["buffers"].bram == -(-160 * 8 * 4 // 72)


def test_shares_and_fit():
    some = Resources(lut=VCK190.lut.value / 2, dsp=VCK190.dsp.value / 4)
    assert some.fractions(VCK190)["lut"] == 0.5
    assert some.fit(VCK190, 0.5)
    assert not some.fit(VCK190, 0.49)
    assert not some.fit(K26)


def test_what_was_not_synthesized_is_refused():
    with pytest.raises(ValueError, match="no dot product of 'e3m0' was synthesized; there are"):
        dot_product(E3M0, 16)
    with pytest.raises(ValueError, match="no quantizer of 'e1m2' was synthesized"):
        quantizer(E1M2)


def test_a_design_on_a_small_board_does_not_fit():
    assert not resources(Design()).fit(K26)
    assert resources(replace(Design(), attention_macs=1024)).lut < VCK190.lut.value


# Energy


@dataclass(frozen=True)
class Done:
    """An activity by hand."""

    cycles: int = 1_000_000
    seconds: float = 1 / 300
    busy: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNITS, 500_000))
    bytes_read: float = 1e9
    bytes_written: float = 0.0


def test_energy_is_a_sum_of_sourced_prices():
    joules = energy(Design(), Done(), VCK190)
    for unknown in joules.factors:
        assert unknown.source
        assert unknown.unit
    static = joules.terms()["static power of vck190"]
    assert (static.low, static.high) == pytest.approx((5 / 300, 20 / 300))
    dram = joules.terms()["DRAM"]
    assert (dram.low, dram.high) == pytest.approx((0.112, 0.325))


ADDITION = 0.03 * 14 / 8
"""pJ per LUT and cycle of an 8-bit addition: 0.03 pJ as an ASIC, 14 times that here, 8 LUTs."""
ALL_OF_HG_PIPE = 1e12 * 46.7 / (669e3 * 425e6)
"""pJ per LUT and cycle, if HG-PIPE's 46.7 W at 425 MHz are those of its 669 k LUTs."""


def test_control_works_while_bytes_move():
    """Oracle: its 50,000 LUTs, for 400 cycles, at the two prices of logic at work."""
    busy = dict.fromkeys(UNITS, 0) | {"dma": 400}
    found = energy(Design(), Done(1000, 1e-3, busy), VCK190).terms()["logic at work"]
    picojoules = (1e12 * found.low, 1e12 * found.high)
    expected = (50_000 * 400 * ADDITION, 50_000 * 400 * ALL_OF_HG_PIPE)
    assert picojoules == pytest.approx(expected, rel=0.01)


def test_logic_that_waits_costs_at_most_what_an_addition_costs():
    """Oracle: every LUT of the design in every cycle in which its unit does not work."""
    design, cycles = Design(), 1000
    waiting = Done(cycles, 1e-3, dict.fromkeys(UNITS, 0))
    found = energy(design, waiting, VCK190).terms()["logic that waits"]
    assert found.low == 0
    assert 1e12 * found.high == pytest.approx(resources(design).lut * cycles * ADDITION, rel=0.01)
    working = Done(cycles, 1e-3, dict.fromkeys(UNITS, cycles))
    assert energy(design, working, VCK190).terms()["logic that waits"].high == 0


def test_the_published_accelerator_lies_within_the_prices():
    """Oracle: HG-PIPE's watts on this board, all its LUTs at work at its clock."""
    toggled = HG_PIPE_VCK190.lut * HG_PIPE_VCK190.clock_hz * 1e-12
    watts = Uncertain({LUT_BUSY: toggled, static_power(VCK190): 1.0}).interval
    assert HG_PIPE_VCK190.watts in watts


def test_more_work_takes_more_energy_and_idling_is_not_free():
    little = energy(Design(), Done(busy=dict.fromkeys(UNITS, 0)), VCK190).interval
    much = energy(Design(), Done(), VCK190).interval
    assert little.low < much.low
    assert little.high < much.high


def test_a_design_compared_with_itself_is_exactly_equal():
    joules = energy(Design(), Done(), VCK190)
    same = ratio(joules, joules)
    assert (same.low, same.high) == pytest.approx((1, 1))


def test_a_slower_design_of_the_same_cells_is_never_better():
    fast = energy(Design(), Done(), VCK190)
    slow = energy(Design(), Done(cycles=2_000_000, seconds=2 / 300), VCK190)
    assert ratio(slow, fast).low > 1
