"""Packing against Python's integers: the codes are the digits of one little-endian number."""

import pytest
import torch

from fpqvar_lab.formats import pack, packed_size, unpack


def as_one_integer(codes: list[int], bits: int) -> int:
    return sum(code << (bits * position) for position, code in enumerate(codes))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 63])
def test_packed_bytes_are_the_codes_as_one_integer(bits, count):
    codes = torch.randint(0, 2**bits, (count,), dtype=torch.uint8)
    packed = pack(codes, bits)
    expected = as_one_integer(codes.tolist(), bits)
    assert int.from_bytes(bytes(packed.tolist()), "little") == expected
    assert packed.numel() == packed_size(count, bits)


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_code_in_every_place_survives(bits):
    codes = torch.arange(2**bits, dtype=torch.uint8).repeat_interleave(8)
    for shift in range(8):
        rolled = codes.roll(shift)[: codes.numel() - shift]
        assert torch.equal(unpack(pack(rolled, bits), bits, rolled.numel()), rolled)


def test_two_four_bit_codes_take_a_byte_and_four_six_bit_codes_three():
    assert pack(torch.tensor([0x3, 0xA], dtype=torch.uint8), 4).tolist() == [0xA3]
    assert (packed_size(128, 4), packed_size(128, 6), packed_size(128, 8)) == (64, 96, 128)


def test_non_contiguous_codes_are_packed_in_order():
    codes = torch.arange(12, dtype=torch.uint8).view(3, 4).T
    assert torch.equal(unpack(pack(codes, 6), 6, 12), codes.flatten())


def test_codes_at_an_odd_address_and_in_several_blocks_survive():
    codes = torch.randint(0, 64, (2**18 * 2 + 9,), dtype=torch.uint8)[1:]
    assert torch.equal(unpack(pack(codes, 6), 6, codes.numel()), codes)
    expected = sum(int(code) << (6 * place) for place, code in enumerate(codes[-8:]))
    assert int.from_bytes(bytes(pack(codes, 6)[-6:].tolist()), "little") == expected


def test_packing_does_not_share_memory():
    codes = torch.zeros(4, dtype=torch.uint8)
    pack(codes, 8).fill_(1)
    assert codes.sum() == 0


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="int64"):
        pack(torch.zeros(2, dtype=torch.int64), 4)
    with pytest.raises(ValueError, match="bits 9"):
        pack(torch.zeros(2, dtype=torch.uint8), 9)
    with pytest.raises(ValueError, match="5 bytes; 8 codes take 4"):
        unpack(torch.zeros(5, dtype=torch.uint8), 4, 8)
