"""Quantized matrix products as tiles for the matrix unit: what it is sent, and what it answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fpqvar_lab.hardware.rtl import MatrixUnit
from fpqvar_lab.hardware.toolchain.cxxrtl import CompiledUnit, Words, from_words, to_words
from fpqvar_lab.quantization import QuantizedTensor, StoredScale

Tile = tuple[slice, slice]
Beats = dict[str, NDArray[np.int64]]
"""A field of `matrix_unit.operand_beat` -> its numbers, (beats, ...)."""


@dataclass(frozen=True, eq=False)
class Operands:
    """Both operands of `a @ b.T` in the bits that the matrix unit takes.

    Args:
        a: codes of the rows' operand, (rows, inner).
        b: codes of the columns' operand, (columns, inner).
        a_scales: bfloat16 scales of `a` as 16-bit words, (rows, groups).
        b_scales: bfloat16 scales of `b` as 16-bit words, (columns, groups).
        negative: the negative branch's scales as words, or its shifts, (rows, groups); for a dual
            format in `a`.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    a_scales: NDArray[np.int64]
    b_scales: NDArray[np.int64]
    negative: NDArray[np.int64] | None = None


def matrix_operands(a: QuantizedTensor, b: QuantizedTensor) -> Operands:
    """The operands as they are stored.

    Args:
        a: quantized (rows, inner), in groups, with bfloat16 scales; any format.
        b: quantized (columns, inner) in the same way, but in no dual format.

    Raises:
        TypeError: when scales are not bfloat16.
    """
    negative = None
    if a.scales.shifts is not None:
        negative = a.scales.shifts.long().numpy()
    elif a.scales.negative is not None:
        negative = _words(a.scales.negative)
    a_codes, b_codes = (tensor.codes.long().numpy() for tensor in (a, b))
    scales = _words(a.scales.main), _words(b.scales.main)
    return Operands(a_codes, b_codes, *scales, negative)


def all_tiles(unit: MatrixUnit, rows: int, columns: int) -> list[Tile]:
    """The tiles of a (rows, columns) product, row after row.

    Raises:
        ValueError: when the unit's tile does not divide the product.
    """
    if rows % unit.rows or columns % unit.columns:
        raise ValueError(
            f"tiles of {unit.rows} x {unit.columns} do not divide a product of {rows} x {columns}"
        )
    return [
        (slice(row, row + unit.rows), slice(column, column + unit.columns))
        for row in range(0, rows, unit.rows)
        for column in range(0, columns, unit.columns)
    ]


def operand_beats(operands: Operands, unit: MatrixUnit, tiles: Iterable[Tile]) -> Beats:
    """What the unit is sent for these tiles, one after the other, each in all its groups."""
    parts = [_tile_beats(operands, unit, *tile) for tile in tiles]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def beat_payloads(beats: Beats) -> list[dict[str, Any]]:
    """The beats as payloads for `run_stream`."""
    columns = [values.tolist() for values in beats.values()]
    return [dict(zip(beats, values, strict=True)) for values in zip(*columns, strict=True)]


def compiled_results(unit: MatrixUnit, beats: Beats, base: int) -> NDArray[np.int64]:
    """The results of a run in the fast simulator, with a receiver that is always ready.

    Args:
        unit: the matrix unit that takes the beats.
        beats: the beats of one or more whole tiles.
        base: exponent of the results' unit, 2^base.

    Returns:
        (tiles * unit.rows, unit.columns), in the order in which they come out.
    """
    sent = len(beats["first"])
    cycles = sent + unit.latency + unit.rows
    payload = np.pad(_packed(unit, beats), ((0, cycles - sent), (0, 0)))
    outputs = CompiledUnit(unit).run(
        cycles,
        {
            "i__payload": payload,
            "i__valid": to_words((np.arange(cycles) < sent).astype(int), 1),
            "o__ready": 1,
            "base": to_words(np.full(cycles, base), len(unit.base)),
        },
    )
    if not (from_words(outputs["i__ready"], 1) == 1).all():
        raise RuntimeError("the unit stopped its input, though its results were always taken")
    is_valid = from_words(outputs["o__valid"], 1)[:, 0] == 1
    bits = unit.o.payload.shape().size // unit.columns
    return from_words(outputs["o__payload"][is_valid], bits, unit.columns, signed=True)


def compiled_product(unit: MatrixUnit, operands: Operands, base: int) -> NDArray[np.int64]:
    """All of `a @ b.T` through the unit, in units of 2^base: (rows, columns).

    Raises:
        ValueError: when the unit's tile does not divide the product.
    """
    shape = len(operands.a), len(operands.b)
    tiles = all_tiles(unit, *shape)
    results = compiled_results(unit, operand_beats(operands, unit, tiles), base)
    product = np.empty(shape, np.int64)
    for tile, values in zip(tiles, np.split(results, len(tiles)), strict=True):
        product[tile] = values
    return product


def _tile_beats(operands: Operands, unit: MatrixUnit, rows: slice, columns: slice) -> Beats:
    a, b = (
        codes.reshape(len(codes), -1, unit.lanes).swapaxes(0, 1)
        for codes in (operands.a[rows], operands.b[columns])
    )
    group = np.arange(len(a)) // unit.interval
    beats = {
        "a": a,
        "b": b,
        "a_scales": operands.a_scales[rows].T[group],
        "b_scales": operands.b_scales[columns].T[group],
        "first": (group == 0).astype(np.int64),
        "last": (group == group[-1]).astype(np.int64),
    }
    if operands.negative is not None:
        beats["negative"] = operands.negative[rows].T[group]
    return beats


def _packed(unit: MatrixUnit, beats: Beats) -> Words:
    layout = unit.i.payload.shape()
    bits = np.zeros((len(beats["first"]), -(-layout.size // 32) * 32), np.uint8)
    for name, field in layout:
        values = beats[name].reshape(len(bits), -1)
        places = np.arange(field.width // values.shape[1])
        found = (values[:, :, None] >> places) & 1
        bits[:, field.offset : field.offset + field.width] = found.reshape(len(bits), -1)
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")


def _words(scales: StoredScale) -> NDArray[np.int64]:
    if scales.values.dtype != torch.bfloat16:
        raise TypeError(f"scales are {scales.values.dtype}; the matrix unit takes bfloat16")
    return scales.values.view(torch.int16).long().numpy() & 0xFFFF
