"""GPTQ: rounding in which each column's error is made up for by the columns after it.

The method is that of Frantar et al., arXiv 2210.17323: columns are rounded from left to right, and
what a column's rounding adds to the layer's output is subtracted, as well as the inputs allow, by
changing the columns that are still to be rounded. Scales of a group are taken when the group is
reached.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from fpqvar_lab.quantization import (
    PER_CHANNEL,
    PerChannel,
    PerGroup,
    QuantizedTensor,
    Quantizer,
    Scales,
    StoredScale,
)

DAMPING = 0.01
"""Fraction of the mean squared input that is added to every channel's, so that factors exist."""


def input_moments(activations_by_step: Iterable[Tensor]) -> Tensor:
    """Second moments of a layer's inputs, each step with the same weight.

    Args:
        activations_by_step: a tensor (tokens, channels) for each step, as the layer multiplies
            them: scaled, transformed, quantized.

    Returns:
        The mean over steps of ``x^T x / tokens``, float64 (channels, channels).

    Raises:
        ValueError: there is no step.
    """
    moments = [x.double().T @ x.double() / len(x) for x in activations_by_step]
    if not moments:
        raise ValueError("activations_by_step is empty; give a tensor for each step")
    return torch.stack(moments).mean(0)


def quantize_gptq(
    weight: Tensor, quantizer: Quantizer, moments: Tensor, *, damping: float = DAMPING
) -> QuantizedTensor:
    """A weight quantized column by column, the error of each passed on to those after it.

    Args:
        weight: the weight, (out_channels, channels).
        quantizer: a quantizer per output channel, or per group of input channels.
        moments: second moments of the inputs, from `input_moments`.
        damping: the fraction described at `DAMPING`.

    Raises:
        ValueError: the granularity is another, the format has two scales, shifts or zero points, or
            the shapes do not fit.
    """
    channels = weight.shape[1]
    if moments.shape != (channels, channels):
        raise ValueError(f"moments have shape {tuple(moments.shape)}; {channels} channels")
    size = _group_size(quantizer, weight)
    factor = _inverse_factor(moments, damping).to(weight.device, torch.float32)
    rest, done = weight.float().clone(), torch.empty_like(weight, dtype=torch.float32)
    scales = []
    by_row = replace(quantizer, granularity=PER_CHANNEL, check=False)
    for start in range(0, channels, size):
        group = slice(start, start + size)
        scales.append(by_row.scales(rest[:, group]))
        columns = by_row.scheme.columns(scales[-1])
        done[:, group], errors = _round_group(rest[:, group], by_row, columns, factor[group, group])
        rest[:, start + size :] -= errors @ factor[group, start + size :]
    joined = _join(scales, quantizer, weight)
    return quantizer.quantize(done.to(weight.dtype), joined)


def _round_group(
    rest: Tensor, by_row: Quantizer, columns: tuple[Tensor, ...], factor: Tensor
) -> tuple[Tensor, Tensor]:
    """The rounded columns of one group, and their errors over the factor's diagonal."""
    rest, done, errors = rest.clone(), torch.empty_like(rest), torch.empty_like(rest)
    for column in range(rest.shape[1]):
        value = rest[:, column : column + 1]
        rounded = by_row.scheme.quantize(value, *columns)
        error = (value - rounded) / factor[column, column]
        rest[:, column:] -= error * factor[column, column:]
        done[:, column : column + 1], errors[:, column : column + 1] = rounded, error
    return done, errors


def _inverse_factor(moments: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped moments."""
    mean = moments.diagonal().mean()
    damped = moments + damping * (mean if mean > 0 else 1.0) * torch.eye(
        len(moments), dtype=moments.dtype, device=moments.device
    )
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def _group_size(quantizer: Quantizer, weight: Tensor) -> int:
    granularity = quantizer.granularity
    if isinstance(granularity, PerGroup) and granularity.dim == -1:
        granularity.scale_shape(weight.shape)
        return granularity.size
    if isinstance(granularity, PerChannel):
        return weight.shape[1]
    raise ValueError(f"granularity {granularity}; use PER_CHANNEL or per_group(size)")


def _join(scales: list[Scales], quantizer: Quantizer, weight: Tensor) -> Scales:
    """Scales of groups, each (out_channels,), in the granularity's shape."""
    shape = quantizer.granularity.scale_shape(weight.shape)
    if any(part.negative is not None or part.main.tensor_scale is not None for part in scales):
        raise ValueError("dual formats and tensor scales are not for weights here")
    if any(part.shifts is not None or part.zero_points is not None for part in scales):
        raise ValueError("formats with shifts or zero points are not for weights here")
    values = torch.stack([part.main.values for part in scales], dim=-1)
    return Scales(StoredScale(values.reshape(shape)))
