"""How many bytes a matrix takes in memory, as a recipe stores it, scales included."""

import math
from dataclasses import replace

from fpqvar_lab.formats import DualFormat, IntFormat
from fpqvar_lab.method import Recipe, find_recipe
from fpqvar_lab.quantization import Quantizer, ScaleDtype

FULL_BYTES = 2
"""Bytes of an element that is not quantized."""
_SCALE_BITS = {
    ScaleDtype.FLOAT32: 32,
    ScaleDtype.FLOAT16: 16,
    ScaleDtype.BFLOAT16: 16,
    ScaleDtype.E4M3: 8,
    ScaleDtype.UE5M3: 8,
    ScaleDtype.POWER_OF_TWO: 8,
}


def stored_bytes(quantizer: Quantizer | None, rows: int, length: int) -> float:
    """Bytes of a matrix (rows, length): 16 bits per element, or a quantizer's codes and scales.

    Raises:
        ValueError: when the quantizer's groups do not divide the rows.
    """
    if quantizer is None:
        return FULL_BYTES * rows * length
    count = math.prod(quantizer.granularity.scale_shape((rows, length)))
    bits = rows * length * quantizer.format.bits + count * _bits_of_scale(quantizer)
    return bits / 8


def _bits_of_scale(quantizer: Quantizer) -> int:
    bits, fmt = _SCALE_BITS[quantizer.scale_dtype], quantizer.format
    if isinstance(fmt, DualFormat):
        return 2 * bits if fmt.scale_ratio == "free" else bits + 8
    has_zero_point = isinstance(fmt, IntFormat) and not fmt.symmetric
    return bits + 8 if has_zero_point else bits


def with_bfloat16_scales(recipe: Recipe | str) -> Recipe:
    """The recipe with scales in bfloat16, as the units of Part VI store them."""
    found = find_recipe(recipe)

    def stored(quantizer: Quantizer) -> Quantizer:
        return replace(quantizer, scale_dtype=ScaleDtype.BFLOAT16)

    layers = tuple(
        (pattern, replace(rule, weight=stored(rule.weight), input=stored(rule.input)))
        for pattern, rule in found.layers
    )
    return replace(found, layers=layers, kv=None if found.kv is None else stored(found.kv))
