"""How good samples are: FID, Inception score, precision and recall, through torch-fidelity.

FID: Heusel et al., arXiv 1706.08500. Inception score: Salimans et al., arXiv 1606.03498. Precision
and recall: Kynkaanniemi et al., arXiv 1904.06991. FID needs only moments, which add up over parts
of a sample, so that parts can be drawn on different machines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import sqrt
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

Part = TypeVar("Part")
Vector = NDArray[np.float64]

NEIGHBOURS = 3
"""Precision and recall look at the third nearest neighbour, as OpenAI's evaluator does."""
SPLITS = 10
"""The Inception score is the mean over ten splits of the samples."""

_QUANTILES = (0.025, 0.975)
"""The ends of a 95 % interval."""
GROUP_COUNTS = (20, 10, 5)
"""Numbers of groups that an interval can be taken from."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of vectors, in float64; they add up over parts.

    Args:
        count: The number of vectors.
        mean: (features,), their mean.
        scatter: (features, features), the sum of the outer products of deviations from the mean.
    """

    count: int
    mean: Vector
    scatter: NDArray[np.float64]

    @staticmethod
    def of(features: Tensor) -> "Moments":
        """Compute the moments of the rows of (n, features)."""
        x = features.double().cpu().numpy()
        mean = x.mean(axis=0)
        return Moments(len(x), mean, (x - mean).T @ (x - mean))

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(features, features), the scatter divided by count - 1.

        Raises:
            ValueError: There are fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs two vectors or more, not {self.count}")
        return self.scatter / (self.count - 1)

    def merge(self, other: "Moments") -> "Moments":
        """Compute the moments of both parts together (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        between = np.outer(shift, shift) * (self.count * other.count / count)
        mean = self.mean + shift * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)


def merged(parts: Sequence[Moments]) -> Moments:
    """Compute the moments of all parts together, merged in the order given."""
    return reduce(Moments.merge, parts)


def frechet_distance(
    mean: Vector, covariance: Vector, mean_2: Vector, covariance_2: Vector
) -> float:
    """Squared Frechet distance of two normal distributions; FID where these are of features."""
    pair = {"mu": mean, "sigma": covariance}, {"mu": mean_2, "sigma": covariance_2}
    return fid_statistics_to_metric(*pair, verbose=False)["frechet_inception_distance"]


def inception_scores(logits: Tensor) -> list[float]:
    """Compute exp(mean KL(p(y given x) || p(y))) of each of ten equal splits, in the order given.

    Their mean is the Inception score, as OpenAI's evaluator computes it for 50,000 samples.

    Args:
        logits: (n, classes) with n at least `SPLITS`; every split should hold all classes alike.

    Raises:
        ValueError: There are fewer samples than splits.
    """
    if len(logits) < SPLITS:
        raise ValueError(f"{len(logits)} samples; an Inception score needs {SPLITS} or more")
    return [
        isc_features_to_metric(split, splits=1, shuffle=False)["inception_score_mean"]
        for split in logits.tensor_split(SPLITS)
    ]


def precision_and_recall(features: Tensor, real: Tensor, batch: int = 2000) -> tuple[float, float]:
    """The fraction of samples among the real images, and of real images among the samples.

    A point is among a set if it is no further from one of its points than that point's third
    nearest neighbour in the set.

    Args:
        features: (n, features), the samples'.
        real: (m, features), the real images'.
        batch: The number of rows whose distances are in memory at a time.

    Raises:
        ValueError: There are fewer than four samples or real images.
    """
    for name, rows in (("samples", features), ("real images", real)):
        if len(rows) <= NEIGHBOURS:
            raise ValueError(f"{len(rows)} {name}; precision and recall need {NEIGHBOURS + 1}")
    found = prc_features_to_metric(
        features,
        real,
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=batch,
        save_cpu_ram=True,
        verbose=False,
    )
    return found["precision"], found["recall"]


@dataclass(frozen=True)
class Estimate:
    """A measured value and its 95 % interval.

    Args:
        value: The value, measured on everything.
        low: The lower end of the interval; None where no interval can be given.
        high: The upper end of the interval.
        without: The values measured without each group in turn, where the interval is from these.
    """

    value: float
    low: float | None = None
    high: float | None = None
    without: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Make the entry of a result file."""
        found: dict[str, Any] = {"value": self.value}
        if self.low is not None:
            found["interval"] = [self.low, self.high]
        if self.without:
            found["without"] = list(self.without)
        return found


def jackknife(parts: Sequence[Part], measure: Callable[[Sequence[Part]], float]) -> Estimate:
    """Measure all groups of samples together, with the interval of the delete-one-group jackknife.

    The value is measured without each of G groups of equal size; the standard error is
    sqrt((G-1)/G sum (value_g - mean)^2), the interval that of Student's distribution with G - 1
    degrees of freedom (Efron and Stein, 1981; Shao and Tu, "The Jackknife and Bootstrap", 1995,
    section 2.3). A bootstrap would draw samples twice, which biases FID upwards by as much as its
    own finite-sample bias, and would need all features in one place.

    Args:
        parts: The groups; there is an interval only for 5, 10 or 20 of them.
        measure: A function of some of the groups together.
    """
    value, count = measure(parts), len(parts)
    if count not in GROUP_COUNTS:
        return Estimate(value)
    without = [measure([*parts[:i], *parts[i + 1 :]]) for i in range(count)]
    return _from_groups(value, without)


def _from_groups(value: float, without: Sequence[float]) -> Estimate:
    count = len(without)
    spread = np.square(np.asarray(without) - np.mean(without)).sum()
    quantile = stats.t.ppf(_QUANTILES[1], count - 1)
    reach = float(quantile * sqrt((count - 1) / count * spread))
    return Estimate(value, value - reach, value + reach, tuple(without))


def difference(a: dict[str, Any], b: dict[str, Any]) -> Estimate:
    """The difference a - b of two entries of a result file, by the paired jackknife.

    Rows of a file share labels and random numbers, so that much of the noise cancels and the
    interval of a difference is shorter than those of its terms suggest.

    Args:
        a: An entry with `without`, as `Estimate.to_json` makes it.
        b: Another entry of the same measure.

    Raises:
        ValueError: One of them lacks the groups, or they have different numbers of them.
    """
    groups = a.get("without", []), b.get("without", [])
    if len(groups[0]) != len(groups[1]) or len(groups[0]) not in GROUP_COUNTS:
        raise ValueError(f"entries with {len(groups[0])} and {len(groups[1])} groups; need as many")
    without = [x - y for x, y in zip(*groups, strict=True)]
    return _from_groups(a["value"] - b["value"], without)


def proportion(fraction: float, count: int) -> Estimate:
    """A fraction of `count` independent cases, with Wilson's 95 % interval (1927)."""
    test = stats.binomtest(round(fraction * count), count)
    found = test.proportion_ci(0.95, method="wilson")
    return Estimate(fraction, float(found.low), float(found.high))


def bootstrap_mean(values: Vector, *, replicates: int = 1000, seed: int = 0) -> Estimate:
    """The mean of values (n,) with the 95 % percentile interval of a bootstrap over them."""
    random = np.random.default_rng(seed)
    weights = random.multinomial(len(values), np.full(len(values), 1 / len(values)), replicates)
    low, high = np.quantile(weights @ values / len(values), _QUANTILES)
    return Estimate(float(values.mean()), float(low), float(high))
