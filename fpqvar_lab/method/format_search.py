"""Choosing formats by the error they cause, from a stream of activations in bounded memory.

`choose_formats` is the search of the MixedFormat baseline of FPQVAR (arXiv 2505.16335): for a
linear layer, the pair of weight and activation formats with the smallest output error on
calibration data. `activation_errors` compares formats for one tensor's values; `POST_GELU_FORMATS`
are those studied for the input of the second MLP layer, whose values are mostly small and negative.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from fpqvar_lab.formats import DUAL_FP4, E1M2, E2M1, E2M3, E3M0, E3M2, DualFormat, Format
from fpqvar_lab.quantization import Granularity, Quantizer, per_group

FP4_FORMATS: tuple[Format, ...] = (E1M2, E2M1, E3M0)
FP6_FORMATS: tuple[Format, ...] = (E2M3, E3M2)
POST_GELU_FORMATS: dict[str, Format] = {
    "E1M2": E1M2,
    "E2M1": E2M1,
    "E3M0": E3M0,
    "E2M1, two scales": DualFormat(E2M1, E2M1),
    "E1M2 | E3M0": DualFormat(E1M2, E3M0),
    "E1M2 | E2M1": DUAL_FP4,
}

# Rows that are quantized and multiplied at a time, whatever the size of the batches.
_ROWS = 1024

Key = TypeVar("Key")
Pair = tuple[Format, Format]


class FormatChoice(NamedTuple):
    """The best pair, and the relative squared output error of every pair, smallest first."""

    weight_format: Format
    activation_format: Format
    errors: dict[Pair, float]


def choose_formats(
    activations: Iterable[Tensor],
    weight: Tensor,
    candidates: Iterable[Pair] | None = None,
    granularity: Granularity | None = None,
    *,
    weight_granularity: Granularity | None = None,
) -> FormatChoice:
    """The formats of a linear layer's weight and input with the smallest output error.

    One pass over the activations; memory holds the weight in each of its formats, and a fixed
    number of tokens.

    Args:
        activations: batches (..., in_channels), from a generator if need be.
        weight: the layer's weight, (out_channels, in_channels).
        candidates: pairs (weight format, activation format); all of `FP4_FORMATS` twice by default.
        granularity: the granularity of both; groups of 128 input channels by default.
        weight_granularity: the granularity of the weight, where it differs.

    Returns:
        The choice; an error is ``sum |x W^T - q(x) q(W)^T|^2 / sum |x W^T|^2``, or the absolute
        sum if all outputs are 0. Of equal errors the earlier candidate wins.

    Raises:
        ValueError: when there are no activations or no candidates, or shapes do not fit.
    """
    pairs = list(candidates or itertools.product(FP4_FORMATS, FP4_FORMATS))
    granularity = granularity or per_group(128)
    of_weight = weight_granularity or granularity
    weights = {fmt: Quantizer(fmt, of_weight)(weight) for fmt, _ in pairs}
    quantizers = {fmt: Quantizer(fmt, granularity) for _, fmt in pairs}
    totals, power = dict.fromkeys(pairs, 0.0), 0.0
    for x in _chunks(activations, weight.shape[1]):
        output = x @ weight.T
        power += _squares(output)
        inputs = {fmt: quantizer(x) for fmt, quantizer in quantizers.items()}
        for pair in totals:
            totals[pair] += _squares(output - inputs[pair[1]] @ weights[pair[0]].T)
    errors = _ranked(totals, power)
    return FormatChoice(*next(iter(errors)), errors)


def activation_errors(
    batches: Iterable[Tensor],
    formats: Mapping[str, Format] | Sequence[Format] = POST_GELU_FORMATS,
    granularity: Granularity | None = None,
) -> dict[str, float]:
    """The relative squared error of each format on a stream of tensors, smallest first.

    Args:
        batches: tensors (..., channels), from a generator if need be; one pass in bounded memory.
        formats: formats by name, or a sequence of formats whose own names are taken.
        granularity: the granularity of scales; groups of 128 channels by default.

    Returns:
        ``sum |x - q(x)|^2 / sum |x|^2`` for each name, or the absolute sum if all values are 0.

    Raises:
        ValueError: when there are no batches, or shapes do not fit.
    """
    named = formats if isinstance(formats, Mapping) else {str(fmt): fmt for fmt in formats}
    granularity = granularity or per_group(128)
    quantizers = {name: Quantizer(fmt, granularity) for name, fmt in named.items()}
    totals, power = dict.fromkeys(named, 0.0), 0.0
    for x in _chunks(batches, None):
        power += _squares(x)
        for name, quantizer in quantizers.items():
            totals[name] += _squares(x - quantizer(x))
    return _ranked(totals, power)


def _chunks(batches: Iterable[Tensor], channels: int | None) -> Iterator[Tensor]:
    """The batches' tokens (rows, channels) in float32, a bounded number at a time."""
    count = 0
    for batch in batches:
        if channels is not None and batch.shape[-1] != channels:
            raise ValueError(f"activations have {batch.shape[-1]} channels; weight has {channels}")
        for chunk in batch.reshape(-1, batch.shape[-1]).split(_ROWS):
            count += 1
            yield chunk.float()
    if count == 0:
        raise ValueError("there are no activations to measure errors on")


def _squares(x: Tensor) -> float:
    return x.square().sum(dtype=torch.float64).item()


def _ranked(totals: dict[Key, float], power: float) -> dict[Key, float]:
    errors = {key: total / (power or 1.0) for key, total in totals.items()}
    return dict(sorted(errors.items(), key=lambda entry: entry[1]))
