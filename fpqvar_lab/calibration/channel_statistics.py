"""Statistics of activations that need no storage of the activations: moments that can be merged.

Moments are kept as sums of powers of the distance from the mean, which add up without
cancellation once they are taken about a common mean (Chan, Golub and LeVeque, 1983; for higher
powers Pébay, SAND2008-6212).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_MAGNITUDES = 2.0 ** (torch.arange(-40, 25, dtype=torch.float64) / 4)
HISTOGRAM_EDGES = torch.cat((-_MAGNITUDES.flip(0), _MAGNITUDES))
"""Edges of the histogram's bins, (130,), four per binade for magnitudes from 2^-10 to 2^6, both
signs. Bin i holds values from edge i - 1 up to, but not, edge i; the first and the last are open.
"""


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of a stream of tokens (tokens, channels); float64, but for counts.

    Args:
        count: how many tokens were seen.
        minimum: the smallest value of each channel, (channels,).
        maximum: the largest value of each channel, (channels,).
        mean: the mean of each channel, (channels,).
        powers: sums over the tokens of the second, third and fourth power of the distance from
            `mean`, (3, channels).
        negatives: how many values of each channel are below zero, (channels,) int64.
        histogram: how many values of all channels lie in each bin of `HISTOGRAM_EDGES`, (131,)
            int64.
    """

    count: int
    minimum: Tensor
    maximum: Tensor
    mean: Tensor
    powers: Tensor
    negatives: Tensor
    histogram: Tensor

    @staticmethod
    def of(x: Tensor) -> "ChannelStatistics":
        """The statistics of tokens (..., channels).

        Raises:
            ValueError: there are none.
        """
        if x.numel() == 0:
            raise ValueError(f"x has shape {tuple(x.shape)} and so no tokens")
        rows = x.reshape(-1, x.shape[-1]).double()
        mean = rows.mean(0)
        distance = rows - mean
        square = distance.square()
        powers = torch.stack((square.sum(0), (square * distance).sum(0), square.square().sum(0)))
        edges = HISTOGRAM_EDGES.to(rows.device)
        bins = torch.bucketize(rows.flatten(), edges, right=True)
        return ChannelStatistics(
            count=len(rows),
            minimum=rows.amin(0).cpu(),
            maximum=rows.amax(0).cpu(),
            mean=mean.cpu(),
            powers=powers.cpu(),
            negatives=(rows < 0).sum(0).cpu(),
            histogram=bins.bincount(minlength=len(edges) + 1).cpu(),
        )

    def merge(self, other: "ChannelStatistics") -> "ChannelStatistics":
        """The statistics of both streams together.

        Raises:
            ValueError: the numbers of channels differ.
        """
        if self.channels != other.channels:
            raise ValueError(f"cannot merge {self.channels} channels with {other.channels}")
        count = self.count + other.count
        mean = self.mean + (other.mean - self.mean) * (other.count / count)
        return ChannelStatistics(
            count=count,
            minimum=torch.minimum(self.minimum, other.minimum),
            maximum=torch.maximum(self.maximum, other.maximum),
            mean=mean,
            powers=self._powers_about(mean) + other._powers_about(mean),
            negatives=self.negatives + other.negatives,
            histogram=self.histogram + other.histogram,
        )

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def absmax(self) -> Tensor:
        """Largest magnitude of each channel, (channels,)."""
        return torch.maximum(self.maximum, -self.minimum)

    @property
    def variance(self) -> Tensor:
        """Mean squared distance from the mean, of each channel, (channels,)."""
        return self.powers[0] / self.count

    @property
    def kurtosis(self) -> Tensor:
        """Kurtosis of each channel, (channels,), 3 for a Gaussian and NaN for a constant one."""
        return self.count * self.powers[2] / self.powers[0].square()

    @property
    def fraction_negative(self) -> Tensor:
        """Fraction of each channel's values below zero, (channels,)."""
        return self.negatives.double() / self.count

    def whole(self) -> "ChannelStatistics":
        """The same of all channels' values as one stream: statistics with a single channel."""
        mean = self.mean.mean()
        return ChannelStatistics(
            count=self.count * self.channels,
            minimum=self.minimum.amin()[None],
            maximum=self.maximum.amax()[None],
            mean=mean[None],
            powers=self._powers_about(mean).sum(1, keepdim=True),
            negatives=self.negatives.sum()[None],
            histogram=self.histogram,
        )

    def _powers_about(self, centre: Tensor) -> Tensor:
        """Sums of powers of the distance from `centre` instead of from the mean."""
        d, n = self.mean - centre, self.count
        second, third, fourth = self.powers
        return torch.stack(
            (
                second + n * d**2,
                third + 3 * d * second + n * d**3,
                fourth + 4 * d * third + 6 * d**2 * second + n * d**4,
            )
        )
