"""How the rows of a matrix, each with its own scale, are quantized: one format, two halves, or with
an offset.

A scheme goes from rows to the magnitudes that their scales are made for, the amax of each row
(`absmax` from the rows' extremes, `search_amax` by a search); from these to stored `Scales`; from
these to "columns" (float32 tensors of shape (rows, 1)); and with the columns from values to levels
and back. All steps are pure, and all but `store` and `columns` are elementwise or row by row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fpqvar_lab.formats import (
    DualFormat,
    Format,
    IntFormat,
    Rounding,
    SignedFormat,
    Table,
    negative_mask,
    round_halves,
    round_to_integer,
    select,
)
from fpqvar_lab.quantization.blocks import map_rows
from fpqvar_lab.quantization.scale_methods import AmaxSearch
from fpqvar_lab.quantization.scales import (
    LARGEST,
    LARGEST_SHIFT,
    LEAST_SHIFT,
    ScaleDtype,
    Scales,
    divide,
    least_normal,
    scale_of_tensor,
    shift_up,
    shifted,
    store,
)

Columns = tuple[Tensor, ...]

LONGEST_COMPARED = 16
"""Magnitudes of a table that a compiled kernel goes through by comparison, one for each."""


@dataclass(frozen=True)
class Symmetric:
    """One sign-magnitude format, one scale per row: value = level * scale."""

    format: SignedFormat
    rounding: Rounding

    @property
    def compilable(self) -> bool:
        """Whether the levels are computed or few; long tables gain nothing from compilation."""
        magnitudes = self.format.magnitudes
        return not isinstance(magnitudes, Table) or len(magnitudes.levels) <= LONGEST_COMPARED

    def absmax(self, below: Tensor, above: Tensor) -> Columns:
        return (torch.maximum(below, above),)

    def search_amax(self, rows: Tensor, method: AmaxSearch, dtype: ScaleDtype) -> Columns:
        return (map_rows(lambda block: self.search_block(block.abs(), method, dtype), rows),)

    def search_block(self, magnitudes: Tensor, method: AmaxSearch, dtype: ScaleDtype) -> Tensor:
        # A tensor scale is not known before every row's amax is: the search then assumes float32.
        searched = ScaleDtype.FLOAT32 if dtype is ScaleDtype.E4M3 else dtype

        def error(amax: Tensor) -> Tensor:
            columns = self.columns(self.store((amax,), searched))
            difference = self.quantize(magnitudes, *columns) - magnitudes
            return difference.square().sum(-1, dtype=torch.float64)

        return method.amax(magnitudes, error)

    def store(self, amax: Columns, dtype: ScaleDtype) -> Scales:
        return Scales(store(amax[0], self.format.max, dtype))

    def columns(self, scales: Scales) -> Columns:
        return (scales.main.effective().reshape(-1, 1),)

    def levels(self, rows: Tensor, scale: Tensor) -> Tensor:
        return self.format.magnitudes.round(rows / _divisor(scale), self.rounding)

    def values(self, levels: Tensor, scale: Tensor) -> Tensor:
        return levels * scale

    def quantize(self, rows: Tensor, scale: Tensor) -> Tensor:
        return self.values(self.levels(rows, scale), scale)

    def clip_mask(self, rows: Tensor, scale: Tensor) -> Tensor:
        return (rows / _divisor(scale)).abs() <= _limit(self.format)


@dataclass(frozen=True)
class Dual:
    """Two formats, selected by the sign, and a scale for each: value = level * the scale of its
    half.
    """

    format: DualFormat
    rounding: Rounding

    @property
    def compilable(self) -> bool:
        return self._below.compilable and self._above.compilable

    @property
    def _below(self) -> Symmetric:
        return Symmetric(self.format.negative, self.rounding)

    @property
    def _above(self) -> Symmetric:
        return Symmetric(self.format.positive, self.rounding)

    def absmax(self, below: Tensor, above: Tensor) -> Columns:
        return below, above

    def search_amax(self, rows: Tensor, method: AmaxSearch, dtype: ScaleDtype) -> Columns:
        def below(block: Tensor) -> Tensor:
            return self._below.search_block(_negative(block), method, dtype)

        def above(block: Tensor) -> Tensor:
            return self._above.search_block(_positive(block), method, dtype)

        return map_rows(below, rows), map_rows(above, rows)

    def store(self, amax: Columns, dtype: ScaleDtype) -> Scales:
        below, above = amax
        if self.format.scale_ratio == "power-of-two":
            return self._store_with_ratio(below, above, dtype)
        lowest, highest = self.format.negative.max, self.format.positive.max
        if dtype is not ScaleDtype.E4M3:
            return Scales(store(above, highest, dtype), store(below, lowest, dtype))
        shared = scale_of_tensor(divide(below, lowest).float(), divide(above, highest).float())
        # Two tensors, for safetensors keeps none that share memory.
        negative = store(below, lowest, dtype, shared.clone())
        return Scales(store(above, highest, dtype, shared), negative)

    def _store_with_ratio(self, below: Tensor, above: Tensor, dtype: ScaleDtype) -> Scales:
        scale = divide(below, self.format.negative.max).float()
        largest = self.format.positive.max
        # Without positive values the positive scale is free to be the negative one. If it is too
        # small beside that one for any shift, it grows until a shift reaches.
        above = torch.where(above > 0, above, scale * largest)
        in_byte = dtype in (ScaleDtype.E4M3, ScaleDtype.UE5M3)
        above = torch.maximum(above, scale * (2.0**-60 if in_byte else 2.0**-120) * largest)
        if in_byte:
            # Nor may it vanish in its storage, for the negative one would vanish with it.
            least = least_normal(above / largest, dtype)
            above = torch.maximum(above, scale.clamp_max(least) * largest)
        main = store(above, largest, dtype)
        shifts = shift_up(scale, main.effective())
        overflows = shifted(main.effective(), shifts) > LARGEST / max(self.format.negative.max, 1)
        shifts = shifts - overflows.to(torch.int8)
        return Scales(main, shifts=shifts.clamp(LEAST_SHIFT, LARGEST_SHIFT) if in_byte else shifts)

    def columns(self, scales: Scales) -> Columns:
        above = scales.main.effective().reshape(-1, 1)
        if scales.shifts is not None:
            return shifted(above, scales.shifts.reshape(-1, 1)), above
        assert scales.negative is not None
        return scales.negative.effective().reshape(-1, 1), above

    def levels(self, rows: Tensor, below: Tensor, above: Tensor) -> Tensor:
        negative_half = negative_mask(rows)
        quotients = rows / select(negative_half, _divisor(below), _divisor(above)).to(rows.dtype)
        below_zero, above_zero = self.format.negative.magnitudes, self.format.positive.magnitudes
        return round_halves(quotients, negative_half, below_zero, above_zero, self.rounding)

    def values(self, levels: Tensor, below: Tensor, above: Tensor) -> Tensor:
        return levels * select(negative_mask(levels), below, above)

    def quantize(self, rows: Tensor, below: Tensor, above: Tensor) -> Tensor:
        return self.values(self.levels(rows, below, above), below, above)

    def clip_mask(self, rows: Tensor, below: Tensor, above: Tensor) -> Tensor:
        return torch.where(
            rows < 0, self._below.clip_mask(rows, below), self._above.clip_mask(rows, above)
        )


@dataclass(frozen=True)
class Affine:
    """Two's complement integers with a zero point: value = (level - zero point) * scale.

    The range runs from the row's minimum to its maximum and always includes 0.
    """

    format: IntFormat
    rounding: Rounding

    compilable = True

    def absmax(self, below: Tensor, above: Tensor) -> Columns:
        return below, above

    def search_amax(self, rows: Tensor, method: AmaxSearch, dtype: ScaleDtype) -> Columns:
        raise ValueError(f"scale {method}: min-max quantization has only ABSMAX")

    def store(self, amax: Columns, dtype: ScaleDtype) -> Scales:
        below, above = amax
        width = (below + above).clamp_max(torch.finfo(torch.float32).max)
        scale = store(width, self.format.max - self.format.min, dtype)
        lowest = torch.round(below / _divisor(scale.effective()))
        zero = (lowest + self.format.min).clamp(self.format.min, self.format.max)
        return Scales(scale, zero_points=zero.to(torch.int8))

    def columns(self, scales: Scales) -> Columns:
        assert scales.zero_points is not None
        return scales.main.effective().reshape(-1, 1), scales.zero_points.reshape(-1, 1).float()

    def levels(self, rows: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        integers = round_to_integer(rows / _divisor(scale), self.rounding)
        return (integers + zero).clamp(self.format.min, self.format.max)

    def values(self, levels: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return (levels - zero) * scale

    def quantize(self, rows: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return self.values(self.levels(rows, scale, zero), scale, zero)

    def clip_mask(self, rows: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        levels = rows / _divisor(scale) + zero
        return (levels >= self.format.min - 0.5) & (levels <= self.format.max + 0.5)


Scheme = Symmetric | Dual | Affine


def scheme_for(fmt: Format, rounding: Rounding) -> Scheme:
    """The scheme in which a format quantizes."""
    if isinstance(fmt, DualFormat):
        return Dual(fmt, rounding)
    if isinstance(fmt, IntFormat) and not fmt.symmetric:
        return Affine(fmt, rounding)
    return Symmetric(fmt, rounding)


def extremes(rows: Tensor) -> Columns:
    """How far each row (rows, n) reaches below and above zero: (rows,) each, not negative."""
    lowest = map_rows(lambda block: block.amin(-1), rows)
    return _negative(lowest), _positive(map_rows(lambda block: block.amax(-1), rows))


def _divisor(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1.0)


def _negative(rows: Tensor) -> Tensor:
    return (-rows).clamp_min(0)


def _positive(rows: Tensor) -> Tensor:
    return rows.clamp_min(0)


def _limit(fmt: SignedFormat) -> float:
    """Half a step beyond the largest level: what lies further out is clipped, not rounded."""
    levels = fmt.magnitudes.levels
    return levels[-1] + (levels[-1] - levels[-2]) / 2
