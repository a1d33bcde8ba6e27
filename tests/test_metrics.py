"""Scores against formulas written out here, numpy, scipy, and torch-fidelity's own path."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from fpqvar_lab.evaluation import (
    Moments,
    bootstrap_mean,
    difference,
    frechet_distance,
    inception_scores,
    jackknife,
    merged,
    precision_and_recall,
    proportion,
)


def features(n: int, size: int = 5, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator)
    return torch.randn(n, size, generator=generator) @ mixing + shift


def fid(a: Moments, b: Moments) -> float:
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=4))
def test_moments_of_parts_are_those_of_the_whole(cuts):
    """Oracle: numpy's mean and covariance."""
    x = features(40)
    edges = sorted({0, 40, *cuts})
    parts = [Moments.of(x[a:b]) for a, b in pairwise(edges)]
    whole = merged(parts)
    assert whole.count == 40
    np.testing.assert_allclose(whole.mean, x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(x.double().numpy().T), rtol=1e-11)


def test_one_vector_has_no_covariance():
    with pytest.raises(ValueError, match="two vectors or more, not 1"):
        Moments.of(features(1)).covariance  # noqa: B018


def test_frechet_distance_is_that_of_the_definition():
    """Oracle: the definition, with scipy's matrix square root."""
    a, b = Moments.of(features(300)), Moments.of(features(200, seed=1, shift=0.5))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum()
    expected += np.trace(a.covariance + b.covariance - 2 * root)
    assert fid(a, b) == pytest.approx(expected, rel=1e-9)
    assert fid(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_torch_fidelitys_of_the_same_features():
    a, b = features(300), features(200, seed=1, shift=0.5)
    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(a.double()), fid_features_to_statistics(b.double()), False
    )["frechet_inception_distance"]
    assert fid(Moments.of(a), Moments.of(b)) == pytest.approx(theirs, rel=1e-9)


def test_inception_score_is_that_of_the_definition():
    """Oracle: Salimans et al., equation 1, in numpy, split by split."""
    logits = features(200, 4) * 3
    p = scipy.special.softmax(logits.double().numpy(), axis=1).reshape(10, 20, 4)
    marginal = p.mean(1, keepdims=True)
    expected = np.exp((p * np.log(p / marginal)).sum(2).mean(1))
    np.testing.assert_allclose(inception_scores(logits), expected, rtol=1e-9)


def test_inception_score_of_certain_and_even_predictions_is_the_number_of_classes():
    certain = 100 * torch.eye(5)[torch.arange(100) % 5]
    assert np.mean(inception_scores(certain)) == pytest.approx(5)


def test_inception_score_needs_ten_samples():
    with pytest.raises(ValueError, match="9 samples; an Inception score needs 10"):
        inception_scores(torch.zeros(9, 3))


def _among(points: np.ndarray, others: np.ndarray) -> float:
    """The fraction of points within the third-neighbour ball of any of the others, by loops."""
    hits = 0
    for x in points:
        for y in others:
            radius = sorted(np.linalg.norm(others - y, axis=1))[3]
            if np.linalg.norm(x - y) <= radius:
                hits += 1
                break
    return hits / len(points)


def test_precision_and_recall_are_those_of_the_definition():
    """Oracle: Kynkaanniemi et al., equation 2, by loops over all pairs."""
    a, b = features(40, 3), features(30, 3, seed=1, shift=1.0)
    precision, recall = precision_and_recall(a, b, batch=7)
    assert precision == pytest.approx(_among(a.numpy(), b.numpy()))
    assert recall == pytest.approx(_among(b.numpy(), a.numpy()))
    assert 0 < precision < 1
    assert precision != recall


def test_precision_and_recall_need_four_points():
    with pytest.raises(ValueError, match="3 real images"):
        precision_and_recall(features(10), features(3))


def test_jackknife_of_a_mean_has_the_textbook_standard_error():
    """Oracle: the mean's standard error from group means, and the quantile of printed tables."""
    groups = [features(50, 1, seed=i).double().numpy() for i in range(20)]
    found = jackknife(groups, lambda some: float(np.concatenate(some).mean()))
    means = np.array([g.mean() for g in groups])
    reach = 2.093024 * means.std(ddof=1) / np.sqrt(20)
    low, high = means.mean() - reach, means.mean() + reach
    assert found.value == pytest.approx(means.mean())
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-5)
    assert len(found.without) == 20


def test_jackknife_of_fid_is_as_wide_as_repetition_says():
    """Oracle: the spread of FID over 100 independent samples."""
    real = Moments.of(features(2000, seed=5))

    def one(seed: int) -> list[Moments]:
        x = features(100_000, seed=6)[seed * 400 : seed * 400 + 400]
        return [Moments.of(part) for part in x.chunk(20)]

    def measure(some: list[Moments]) -> float:
        return fid(merged(some), real)

    spread = np.std([measure(one(seed)) for seed in range(100)])
    errors = [found.high - found.value for found in (jackknife(one(s), measure) for s in range(20))]
    assert 0.7 < np.mean(errors) / 2.093 / spread < 1.4


def test_other_numbers_of_groups_give_no_interval():
    found = jackknife([1.0, 2.0, 3.0], lambda some: sum(some))
    assert found.to_json() == {"value": 6.0}


def test_the_difference_of_paired_rows_is_sharper_than_its_terms():
    noise = np.random.default_rng(0).normal(size=20)

    def mean(some: list[float]) -> float:
        return float(np.mean(some))

    a = jackknife(list(3 + noise), mean)
    b = jackknife(list(2 + noise), mean)
    found = difference(a.to_json(), b.to_json())
    assert found.value == pytest.approx(1)
    assert found.high - found.low == pytest.approx(0, abs=1e-12)
    assert a.high - a.low > 0.5


def test_differences_need_groups():
    with pytest.raises(ValueError, match="entries with 0 and 0 groups"):
        difference({"value": 1.0}, {"value": 2.0})


@pytest.mark.parametrize(("hits", "count"), [(0.0, 30), (0.9, 50), (1.0, 2000)])
def test_a_proportion_has_wilsons_interval(hits, count):
    """Oracle: Wilson's condition, that each end lies 1.96 of its own standard errors away."""
    found = proportion(hits, count)
    for end in (found.low, found.high):
        error = np.sqrt(end * (1 - end) / count)
        assert abs(hits - end) == pytest.approx(1.959964 * error, rel=1e-6, abs=1e-12)


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).exponential(size=2000)
    found = bootstrap_mean(values)
    assert found.value == values.mean()
    assert found.high - found.low == pytest.approx(2 * 1.96 * scipy.stats.sem(values), rel=0.1)
    assert bootstrap_mean(values) == found
