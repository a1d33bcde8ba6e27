"""Designing grids: the optimum by enumeration, and Max's table of optimum quantizers."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fpqvar_lab.formats import MR4, MT4, GridFormat
from fpqvar_lab.method import design_grid, exact_integers, group_magnitudes
from fpqvar_lab.quantization import PER_TENSOR, PER_TOKEN, Quantizer, per_group, ratio


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def snr_db(x: torch.Tensor, rounded: torch.Tensor) -> float:
    return 10 * math.log10(x.square().sum() / (x - rounded).square().sum())


@pytest.mark.parametrize("mid_rise", [True, False])
def test_no_other_grid_of_the_allowed_integers_is_better(mid_rise):
    x, allowed, clip = normal(40, 32), [1, 2, 3, 4, 6, 8, 9], 0.94
    data = group_magnitudes(x, per_group(32))
    found = design_grid(data, allowed, count=4, mid_rise=mid_rise, clips=[clip])
    chosen = itertools.combinations(allowed, 4 if mid_rise else 3)
    grids = [GridFormat(c if mid_rise else (0, *c)) for c in chosen]
    scores = [snr_db(x, Quantizer(g, per_group(32), scale=ratio(clip))(x)) for g in grids]
    assert found.format == grids[int(np.argmax(scores))]
    assert found.snr_db == pytest.approx(max(scores), abs=1e-4)


@pytest.mark.parametrize(
    ("allowed", "mid_rise", "expected"),
    [(exact_integers(32, 4), True, MR4), (exact_integers(15, 4), False, MT4)],
)
def test_the_named_grids_are_the_best_for_normal_groups(allowed, mid_rise, expected):
    data = group_magnitudes(normal(1000, 1280), per_group(128))
    found = design_grid(data, allowed, mid_rise=mid_rise)
    assert found.format == expected
    assert found.snr_db < found.unrestricted_db < 6.0206 * 4  # the rate-distortion bound


def test_lloyd_reaches_the_optimum_of_max():
    """J. Max, "Quantizing for minimum distortion", 1960: 16 levels, mean squared error 0.009497."""
    x = torch.from_numpy(norm.ppf((np.arange(200_000) + 0.5) / 200_000))[None]
    found = design_grid(group_magnitudes(x, PER_TOKEN), exact_integers(32, 4), clips=[0.6])
    assert found.unrestricted_db == pytest.approx(-10 * math.log10(0.009497), abs=0.01)


def test_a_half_of_a_dual_format_sees_its_sign_only():
    x = torch.tensor([[3.0, -1.0, 1.5, -0.5]])
    assert group_magnitudes(x, PER_TENSOR, sign=1).values.tolist() == [0.5, 1.0]
    assert group_magnitudes(x, PER_TENSOR, sign=-1).values.tolist() == [0.5, 1.0]


def test_exact_integers_are_those_that_fp8_e4m3_holds():
    numbers = torch.arange(1, 449, dtype=torch.float32)
    held = numbers[numbers.to(torch.float8_e4m3fn).float() == numbers]
    assert exact_integers(448, 4) == held.int().tolist()


def test_too_few_integers_are_refused():
    data = group_magnitudes(normal(4, 32), per_group(32))
    with pytest.raises(ValueError, match="allowed has 3 integers; the grid needs 8"):
        design_grid(data, [1, 2, 3])
