"""The search against a direct computation in float64, and its bounded memory."""

import itertools

import pytest
import torch

from fpqvar_lab.formats import DUAL_FP4, E1M2, E2M1, INT4, INT8, DualFormat
from fpqvar_lab.method import FP4_FORMATS, POST_GELU_FORMATS, activation_errors, choose_formats
from fpqvar_lab.method import format_search as format_choice
from fpqvar_lab.quantization import PER_TOKEN, Quantizer, per_group

GROUPS = per_group(32)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct_error(x, weight, weight_format, activation_format):
    exact = x.double() @ weight.double().T
    rounded = Quantizer(activation_format, GROUPS)(x).double()
    output = rounded @ Quantizer(weight_format, GROUPS)(weight).double().T
    return ((exact - output).square().sum() / exact.square().sum()).item()


def test_errors_equal_a_direct_computation():
    x, weight = normal(50, 64), normal(24, 64, seed=1)
    choice = choose_formats([x], weight, granularity=GROUPS)
    assert set(choice.errors) == set(itertools.product(FP4_FORMATS, FP4_FORMATS))
    for pair, error in choice.errors.items():
        assert error == pytest.approx(direct_error(x, weight, *pair), rel=1e-5)
    best = min(choice.errors, key=choice.errors.__getitem__)
    assert (choice.weight_format, choice.activation_format) == best
    assert list(choice.errors.values()) == sorted(choice.errors.values())


def test_a_stream_of_batches_equals_one_batch():
    x, weight = normal(2500, 64), normal(8, 64, seed=1)
    whole = choose_formats([x], weight, granularity=GROUPS)
    stream = choose_formats(
        (part.view(-1, 10, 64) for part in x.split(500)), weight, granularity=GROUPS
    )
    assert stream[:2] == whole[:2]
    for pair, error in whole.errors.items():
        assert stream.errors[pair] == pytest.approx(error, rel=1e-6)


def test_the_stream_is_read_once_and_one_chunk_at_a_time(monkeypatch):
    monkeypatch.setattr(format_choice, "_ROWS", 16)
    seen = []
    original = Quantizer.__call__

    def recording(self, x, scales=None):
        seen.append(x.shape[0])
        return original(self, x, scales)

    monkeypatch.setattr(Quantizer, "__call__", recording)
    batches = iter([normal(40, 32)])
    activation_errors(batches, [E2M1], GROUPS)
    assert seen == [16, 16, 8]
    assert next(batches, None) is None


def test_eight_bits_are_chosen_over_four():
    choice = choose_formats(
        [normal(20, 32)], normal(4, 32), [(INT4, INT4), (INT4, INT8), (INT8, INT8)], PER_TOKEN
    )
    assert choice[:2] == (INT8, INT8)


def test_dual_formats_win_on_values_after_gelu():
    x = torch.nn.functional.gelu(normal(400, 128), approximate="tanh")
    errors = activation_errors([x], granularity=per_group(128))
    single = min(errors[name] for name in ("E1M2", "E2M1", "E3M0"))
    assert set(errors) == set(POST_GELU_FORMATS)
    assert errors["E1M2 | E2M1"] < errors["E2M1, two scales"] < single


def test_activation_errors_equal_a_direct_computation():
    x = normal(30, 64)
    errors = activation_errors([x[:7], x[7:]], [E2M1, DUAL_FP4, DualFormat(E1M2, E1M2)], GROUPS)
    for fmt in (E2M1, DUAL_FP4):
        rounded = Quantizer(fmt, GROUPS)(x)
        direct = (x - rounded).double().square().sum() / x.double().square().sum()
        assert errors[str(fmt)] == pytest.approx(direct.item(), rel=1e-6)


def test_all_zero_activations_have_no_error():
    assert activation_errors([torch.zeros(3, 32)], [E2M1], GROUPS) == {"E2M1": 0.0}


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="no activations"):
        choose_formats([], normal(4, 32), granularity=GROUPS)
    with pytest.raises(ValueError, match="64 channels; weight has 32"):
        choose_formats([normal(2, 64)], normal(4, 32), granularity=GROUPS)
