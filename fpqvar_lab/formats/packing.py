"""Codes of 1 to 8 bits in whole bytes: two 4-bit codes per byte, four 6-bit codes in three bytes.

The first code takes the lowest bits of the first byte. `pack` fills the last word with zero codes.
"""

import math

import torch
from torch import Tensor

# An integer with a byte for each code of a word, in little-endian order, that of all machines torch
# runs on. The top bit of a word is never set, for codes here have fewer than 8 bits.
_WORD = {2: torch.int16, 4: torch.int32, 8: torch.int64}

# Codes at a time: some hundred kilobytes, which stay in the processor's cache.
_BLOCK = 1 << 18


def codes_per_word(bits: int) -> int:
    """How many codes of `bits` bits fill the smallest whole number of bytes: 2 for 4, 4 for 6."""
    return math.lcm(bits, 8) // bits


def _bytes(bits: int) -> int:
    return codes_per_word(bits) * bits // 8


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    per_word = codes_per_word(bits)
    return -(-count // per_word) * (per_word * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes into bytes.

    Args:
        codes: uint8, any shape, each below 2^bits.
        bits: the width of a code, 1 to 8.

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
    if flat.storage_offset() % per_word:
        flat = flat.clone()
    packed = torch.empty(packed_size(flat.numel(), bits), dtype=torch.uint8, device=codes.device)
    blocks = zip(flat.split(_BLOCK), packed.split(_BLOCK // 8 * bits), strict=True)
    for block, target in blocks:
        words = _squeeze(block.view(_WORD[per_word]), bits)
        target.copy_(words.view(torch.uint8).view(-1, per_word)[:, : _bytes(bits)].flatten())
    return packed


def _squeeze(words: Tensor, bits: int) -> Tensor:
    """Words with a code in each byte to words with the codes side by side at the bottom."""
    result = words & (2**bits - 1)
    for index in range(1, codes_per_word(bits)):
        result |= (words >> (index * (8 - bits))) & ((2**bits - 1) << (index * bits))
    return result


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` codes of packed bytes.

    Args:
        packed: uint8, one dimension, from `pack`.
        bits: the width of a code, 1 to 8.
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
    per_word, size = codes_per_word(bits), _bytes(bits)
    codes = torch.empty(packed.numel() // size * per_word, dtype=torch.uint8, device=packed.device)
    blocks = zip(packed.split(_BLOCK // 8 * bits), codes.split(_BLOCK), strict=True)
    for block, target in blocks:
        padded = torch.nn.functional.pad(block.view(-1, size), (0, per_word - size))
        words = _spread(padded.view(_WORD[per_word]).flatten(), bits)
        target.copy_(words.view(torch.uint8))
    return codes[:count]


def _spread(words: Tensor, bits: int) -> Tensor:
    """The inverse of `_squeeze`."""
    result = words & (2**bits - 1)
    for index in range(1, codes_per_word(bits)):
        result |= (words & ((2**bits - 1) << (index * bits))) << (index * (8 - bits))
    return result


def _require(data: Tensor, name: str, bits: int) -> None:
    if data.dtype != torch.uint8:
        raise TypeError(f"{name} is {data.dtype}; use torch.uint8")
    if not 1 <= bits <= 8:
        raise ValueError(f"bits {bits} is not in 1 ... 8")
