"""How finely scales are given: one per tensor, channel, token, or group of consecutive elements.

Every granularity turns a tensor into a matrix whose rows share a scale, and back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

Shape = Sequence[int]


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor; scales have shape ()."""

    def rows(self, x: Tensor) -> Tensor:
        """`x` as a matrix (rows, n); each row shares a scale."""
        return x.reshape(1, -1)

    def restore(self, rows: Tensor, shape: Shape) -> Tensor:
        """The inverse of `rows`: a matrix back in the tensor's shape."""
        return rows.reshape(shape)

    def row_length(self, shape: Shape) -> int:
        """How many elements share a scale."""
        return math.prod(shape)

    def scale_shape(self, shape: Shape) -> Shape:
        """The shape of the scales; raises `ValueError` where `shape` does not fit."""
        _require_elements(shape)
        return ()


@dataclass(frozen=True)
class PerChannel:
    """One scale for each index of the first dimension: the rows of a weight (out_channels, ...)."""

    def rows(self, x: Tensor) -> Tensor:
        """`x` as a matrix (rows, n); each row shares a scale."""
        return x.reshape(x.shape[0], -1)

    def restore(self, rows: Tensor, shape: Shape) -> Tensor:
        """The inverse of `rows`: a matrix back in the tensor's shape."""
        return rows.reshape(shape)

    def row_length(self, shape: Shape) -> int:
        """How many elements share a scale."""
        return math.prod(shape[1:])

    def scale_shape(self, shape: Shape) -> Shape:
        """The shape of the scales; raises `ValueError` where `shape` does not fit."""
        _require_elements(shape)
        if len(shape) < 2:
            raise ValueError(
                f"x has shape {tuple(shape)}; per-channel needs (out_channels, in_channels, ...)"
            )
        return shape[:1]


@dataclass(frozen=True)
class PerToken:
    """One scale for each vector along the last dimension: activations (..., channels)."""

    def rows(self, x: Tensor) -> Tensor:
        """`x` as a matrix (rows, n); each row shares a scale."""
        return x.reshape(-1, x.shape[-1])

    def restore(self, rows: Tensor, shape: Shape) -> Tensor:
        """The inverse of `rows`: a matrix back in the tensor's shape."""
        return rows.reshape(shape)

    def row_length(self, shape: Shape) -> int:
        """How many elements share a scale."""
        return shape[-1]

    def scale_shape(self, shape: Shape) -> Shape:
        """The shape of the scales; raises `ValueError` where `shape` does not fit."""
        _require_elements(shape)
        if not shape:
            raise ValueError("x has shape (); per-token needs (..., channels)")
        return shape[:-1]


@dataclass(frozen=True)
class PerGroup:
    """One scale for each `size` consecutive elements along `dim`.

    Scales have the shape of the tensor with `dim` moved to the end and divided by `size`.

    Raises:
        ValueError: when `size` is not positive; when used, on a tensor that has no such `dim` or
            whose `dim` is not a multiple of `size`.
    """

    size: int
    dim: int = -1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size {self.size} is not positive")

    def rows(self, x: Tensor) -> Tensor:
        """`x` as a matrix (rows, n); each row shares a scale."""
        return x.movedim(self.dim, -1).reshape(-1, self.size)

    def restore(self, rows: Tensor, shape: Shape) -> Tensor:
        """The inverse of `rows`: a matrix back in the tensor's shape."""
        moved = self._moved(shape)
        return rows.reshape(moved).movedim(-1, self.dim).contiguous()

    def row_length(self, shape: Shape) -> int:
        """How many elements share a scale."""
        return self.size

    def scale_shape(self, shape: Shape) -> Shape:
        """The shape of the scales; raises `ValueError` where `shape` does not fit."""
        _require_elements(shape)
        if not -len(shape) <= self.dim < len(shape):
            raise ValueError(
                f"dim {self.dim} is not a dimension of x, whose shape is {tuple(shape)}"
            )
        channels = shape[self.dim]
        if channels % self.size:
            raise ValueError(
                f"group_size {self.size} does not divide {channels} channels; "
                f"use a divisor of {channels}"
            )
        return (*self._moved(shape)[:-1], channels // self.size)

    def _moved(self, shape: Shape) -> tuple[int, ...]:
        dim = self.dim % len(shape)
        return (*shape[:dim], *shape[dim + 1 :], shape[dim])


Granularity = PerTensor | PerChannel | PerToken | PerGroup

PER_TENSOR = PerTensor()
PER_CHANNEL = PerChannel()
PER_TOKEN = PerToken()


def per_group(size: int, dim: int = -1) -> PerGroup:
    """One scale for each `size` consecutive elements along `dim`."""
    return PerGroup(size, dim)


def _require_elements(shape: Shape) -> None:
    if 0 in shape:
        raise ValueError(f"x has shape {tuple(shape)} and so no elements to take a scale from")
