"""Hadamard matrices against scipy and their definition; the transform against float64 products."""

import copy
import math

import pytest
import torch
from scipy.linalg import hadamard
from torch import Tensor

from fpqvar_lab.transforms import GroupHadamard, hadamard_matrix, random_signs
from fpqvar_lab.var import VARConfig

WIDTHS = sorted({VARConfig.preset(name).width for name in ("d16", "d20", "d24", "d30", "d36")})
MINI = VARConfig.preset("mini")
PALEY_ORDERS = [12, 20, 28, 24, 40, 56, 96, 240, 336, 560, 576, 768, 896]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def signed(group: int, seed: int = 1) -> GroupHadamard:
    return GroupHadamard(group, random_signs(group, generator(seed)))


@pytest.mark.parametrize("exponent", range(12))
def test_powers_of_two_equal_scipy(exponent):
    expected = torch.from_numpy(hadamard(2**exponent))
    assert torch.equal(hadamard_matrix(2**exponent, torch.int64), expected)


@pytest.mark.parametrize("n", [*PALEY_ORDERS, *WIDTHS])
def test_rows_are_orthogonal_signs(n):
    matrix = hadamard_matrix(n)
    assert matrix.shape == (n, n)
    assert matrix.abs().eq(1).all()
    assert torch.equal(matrix @ matrix.T, n * torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize("n", [-4, 0, 3, 6, 10, 36, 60, 100, 1000, 1280 + 4])
def test_unreachable_orders_raise_and_name_neighbours(n):
    with pytest.raises(ValueError, match=f"order {n} here.*12, 20 or 28.*such as"):
        hadamard_matrix(n)
    with pytest.raises(ValueError, match="no Hadamard matrix"):
        GroupHadamard(n)


def test_neighbours_named_exist():
    with pytest.raises(ValueError, match="such as 32 or 40"):
        hadamard_matrix(36)
    hadamard_matrix(32)
    hadamard_matrix(40)


def test_the_family_has_the_widths_the_tests_use():
    assert WIDTHS == [1024, 1280, 1536, 1920, 2304]


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.float32, torch.float64])
def test_matrix_has_the_dtype_asked_for(dtype):
    assert hadamard_matrix(48, dtype).dtype == dtype
    assert torch.equal(hadamard_matrix(48, dtype).double(), hadamard_matrix(48))


def test_random_signs_are_signs_fair_and_reproducible():
    signs = random_signs(10000, generator(3))
    assert signs.dtype == torch.float32
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.05
    assert torch.equal(signs, random_signs(10000, generator(3)))
    assert not torch.equal(signs, random_signs(10000, generator(4)))


@pytest.mark.parametrize("width", [MINI.width, *WIDTHS, MINI.hidden, *(4 * w for w in WIDTHS)])
def test_groups_of_128_for_every_width_and_hidden_width(width):
    transform, x = signed(128), normal(5, width)
    block = torch.diag(transform.signs.double()) @ torch.from_numpy(hadamard(128)).double()
    expected = torch.cat([part.double() @ block for part in x.split(128, -1)], -1) / math.sqrt(128)
    torch.testing.assert_close(transform(x).double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("group", [1, 2, 12, 64, 128, 240, 256, *WIDTHS])
def test_full_and_partial_transforms_equal_the_dense_product(group):
    transform, x = signed(group), normal(3, 2 * group, dtype=torch.float64)
    dense = torch.diag(transform.signs.double()) @ hadamard_matrix(group) / math.sqrt(group)
    expected = (x.view(-1, group) @ dense).view_as(x)
    torch.testing.assert_close(transform(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(transform.matrix(), dense, atol=1e-15, rtol=0)


@pytest.mark.parametrize("group", [16, 128, 240, 1920])
def test_inverse_undoes_the_transform_and_lengths_stay(group):
    transform, x = signed(group), normal(4, 3, 2 * group, dtype=torch.float64)
    y = transform(x)
    torch.testing.assert_close(transform.inverse(y), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(transform(transform.inverse(x)), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1), atol=0, rtol=1e-12)


@pytest.mark.parametrize("group", [128, 256, 1920])
def test_folding_into_the_weight_leaves_the_product(group):
    transform, width = signed(group), 3840
    x, weight = normal(6, width, dtype=torch.float64), normal(9, width, seed=1, dtype=torch.float64)
    folded = transform.fold_into_weight(weight)
    torch.testing.assert_close(transform(x) @ folded.T, x @ weight.T, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_weight_is_folded_in_float64_and_rounded_once(dtype):
    transform, weight = signed(128), normal(9, 256, dtype=dtype)
    folded = transform.fold_into_weight(weight)
    dense = torch.block_diag(transform.matrix(), transform.matrix())
    assert folded.dtype == dtype
    assert torch.equal(folded, (weight.double() @ dense).to(dtype))


def test_float32_activations_and_folded_weights_have_the_same_scale():
    transform, x = signed(128), normal(4096, 128)
    ratio = (transform(x).double().norm() / transform(x.double()).norm()).item()
    assert abs(ratio - 1) < 2.0**-24
    # The factor rounded to half precision is what the released code folds.
    assert abs(torch.tensor(1 / math.sqrt(128)).half().item() * math.sqrt(128) - 1) > 1e-4


@pytest.mark.parametrize("group", [128, 256, 1920])
def test_error_is_at_most_twice_that_of_a_float32_product(group):
    transform, x = signed(group), normal(512, group)
    exact = x.double() @ transform.matrix()
    product = (x @ transform.matrix(torch.float32)).double()
    error = (transform(x).double() - exact).norm()
    assert error <= 2 * (product - exact).norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_from_float32(dtype):
    transform, x = signed(128), normal(33, 256, dtype=dtype)
    assert torch.equal(transform(x), transform(x.float()).to(dtype))
    halved = copy.deepcopy(transform).to(dtype)
    assert torch.equal(halved(x), transform(x))


def test_autocast_does_not_lower_the_precision():
    transform, x = signed(128), normal(33, 256)
    expected = transform(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transform(x), expected)


@pytest.mark.parametrize("shape", [(256,), (1, 256), (2, 3, 256), (2, 1, 3, 4, 256), (0, 256)])
@pytest.mark.parametrize("group", [128, 256])
def test_any_leading_shape(shape, group):
    transform, x = signed(group), normal(*shape)
    y = transform(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y.view(-1, 256), transform(x.view(-1, 256)), atol=1e-6, rtol=0)


def test_strided_tensors_are_read_in_their_order():
    transform, x = signed(128), normal(256, 7)
    torch.testing.assert_close(transform(x.T), transform(x.T.contiguous()))


@pytest.mark.parametrize("group", [4, 12, 240])
def test_gradients(group):
    transform = signed(group)
    x = normal(2, group, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(transform, (x,))
    assert torch.autograd.gradcheck(transform.inverse, (x,))


def test_the_gradient_of_an_orthogonal_map_is_its_inverse():
    transform, x = signed(128), normal(5, 256).requires_grad_()
    gradient = normal(5, 256, seed=1)
    transform(x).backward(gradient)
    torch.testing.assert_close(x.grad, transform.inverse(gradient))


def test_one_outlier_becomes_flat():
    spike = torch.zeros(128)
    spike[17] = 128.0
    magnitudes = signed(128)(spike).abs()
    torch.testing.assert_close(magnitudes, torch.full((128,), math.sqrt(128)))


def test_state_dict_holds_the_signs_and_nothing_else():
    transform, other, x = signed(128), GroupHadamard(128), normal(3, 256)
    assert list(transform.state_dict()) == ["signs"]
    assert not torch.equal(other(x), transform(x))
    other.load_state_dict(transform.state_dict())
    assert torch.equal(other(x), transform(x))


def test_the_signs_given_are_copied():
    signs, x = random_signs(128, generator()), normal(3, 128)
    transform = GroupHadamard(128, signs)
    expected = transform(x)
    signs.fill_(1)
    assert torch.equal(transform(x), expected)


def test_no_signs_are_all_plus_one():
    assert torch.equal(
        GroupHadamard(64)(normal(3, 64)), GroupHadamard(64, torch.ones(64))(normal(3, 64))
    )


def test_repr_says_group_and_signs():
    assert repr(GroupHadamard(64)) == "GroupHadamard(group=64, signs=(0 of 64 negative))"


def test_errors_name_what_came():
    with pytest.raises(ValueError, match="group 128 does not divide 200 channels"):
        GroupHadamard(128)(torch.ones(3, 200))
    with pytest.raises(ValueError, match="group 128 does not divide 200 channels"):
        GroupHadamard(128).fold_into_weight(torch.ones(3, 200))
    with pytest.raises(ValueError, match="group 128 does not divide 0 channels"):
        GroupHadamard(128)(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"shape \(64,\); group 128 needs \(128,\)"):
        GroupHadamard(128, torch.ones(64))
    with pytest.raises(ValueError, match=r"other than \+1 and -1"):
        GroupHadamard(128, torch.zeros(128))
    with pytest.raises(TypeError, match="int64"):
        GroupHadamard(4)(torch.ones(4, dtype=torch.long))
    with pytest.raises(TypeError, match="int64"):
        GroupHadamard(4).fold_into_weight(torch.ones(4, 4, dtype=torch.long))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_gpu_agrees_with_float64(dtype):
    for group in (128, 1920):
        transform, x = signed(group), normal(7, 3, 1920, dtype=dtype)
        on_gpu = copy.deepcopy(transform).cuda()
        expected = transform(x.double())
        tolerance = {torch.float64: 1e-12, torch.float32: 4e-6}.get(
            dtype, 5 * torch.finfo(dtype).eps
        )
        y = on_gpu(x.cuda())
        assert y.dtype == dtype
        torch.testing.assert_close(y.double().cpu(), expected, atol=tolerance, rtol=tolerance)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert torch.equal(on_gpu(x.cuda()), y)
