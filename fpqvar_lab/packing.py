"""Codes of 1 to 8 bits in whole bytes: two 4-bit codes a byte, four 6-bit codes in three bytes.

The first code takes the lowest bits of the first byte. `pack` fills the last word with zero codes.
"""

import functools
import math

import torch
from torch import Tensor


def codes_per_word(bits: int) -> int:
    """How many codes of `bits` bits fill the smallest whole number of bytes: 2 for 4, 4 for 6."""
    return math.lcm(bits, 8) // bits


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    per_word = codes_per_word(bits)
    return -(-count // per_word) * (per_word * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes into bytes.

    Args:
        codes: uint8, any shape, each below 2^bits.
        bits: 1 to 8.

    Returns:
        uint8, one dimension, `packed_size(codes.numel(), bits)` long.

    Raises:
        TypeError: when `codes` is not uint8.
        ValueError: when `bits` is not in 1 ... 8.
    """
    _require(codes, "codes", bits)
    flat = codes.flatten()
    if bits == 8:
        return flat.clone()
    per_word = codes_per_word(bits)
    missing = -flat.numel() % per_word
    if missing:
        flat = torch.cat([flat, flat.new_zeros(missing)])
    columns = flat.view(-1, per_word)
    packed = torch.stack([_byte(columns, byte, bits) for byte in range(per_word * bits // 8)], -1)
    return packed.flatten()


def _byte(columns: Tensor, byte: int, bits: int) -> Tensor:
    """Byte `byte` of each word; a shift of uint8 drops what belongs to the next byte."""
    offsets = [index * bits - 8 * byte for index in range(columns.shape[1])]
    parts = [
        _shift(columns[:, index], offset)
        for index, offset in enumerate(offsets)
        if -bits < offset < 8
    ]
    return functools.reduce(torch.bitwise_or, parts)


def _shift(column: Tensor, offset: int) -> Tensor:
    if offset == 0:
        return column
    return column << offset if offset > 0 else column >> -offset


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` codes of packed bytes.

    Args:
        packed: uint8, one dimension, from `pack`.
        bits: of each code, 1 to 8.
        count: how many codes were packed.

    Returns:
        uint8 codes, one dimension, `count` long.

    Raises:
        TypeError: when `packed` is not uint8.
        ValueError: when `bits` is not in 1 ... 8, or `packed` does not hold `count` codes.
    """
    _require(packed, "packed", bits)
    if packed.numel() != packed_size(count, bits):
        expected = packed_size(count, bits)
        raise ValueError(f"packed has {packed.numel()} bytes; {count} codes take {expected}")
    if bits == 8:
        return packed.clone()
    per_word = codes_per_word(bits)
    words = packed.view(-1, per_word * bits // 8)
    codes = torch.stack([_code(words, index, bits) for index in range(per_word)], -1)
    return codes.flatten()[:count]


def _code(words: Tensor, index: int, bits: int) -> Tensor:
    byte, offset = divmod(index * bits, 8)
    code = _shift(words[:, byte], -offset)
    if offset + bits > 8:
        code = code | words[:, byte + 1] << (8 - offset)
    # After a shift down from the top of the byte nothing is left above the code.
    return code if offset + bits == 8 else code & (2**bits - 1)


def _require(data: Tensor, name: str, bits: int) -> None:
    if data.dtype != torch.uint8:
        raise TypeError(f"{name} is {data.dtype}; use torch.uint8")
    if not 1 <= bits <= 8:
        raise ValueError(f"bits {bits} is not in 1 ... 8")
