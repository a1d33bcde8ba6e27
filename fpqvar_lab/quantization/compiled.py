"""Quantization compiled by `torch.compile`: lazily, once for each scheme, with eager mode to fall
back on.

Compiled results equal eager ones bit for bit, which the tests prove on CPUs; on other devices,
where that could not be shown, callers stay with eager mode.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fpqvar_lab.quantization.schemes import Columns, Scheme, extremes

_log = logging.getLogger(__name__)

# Its type stubs do not know every argument.
_compile: Any = torch.compile

# Rows up to this length have a kernel for each length, whose loops then need no remainders.
LONGEST_FIXED_ROW = 8192


class Kernel:
    """A function that is compiled at its first call, and runs as it is where that fails."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    @torch.no_grad()  # so that calls with and without gradients share one compilation
    def __call__(self, *tensors: Tensor) -> Any:
        if self._compiled is None:
            return self._first_call(*tensors)
        return self._compiled(*tensors)

    def _first_call(self, *tensors: Tensor) -> Any:
        try:
            # Isolated: all schemes share one code object, whose compilations are limited to eight.
            compiled = _compile(self._function, isolate_recompiles=True)
            result = compiled(*tensors)
        except Exception as error:  # whatever keeps a compiler from working
            _log_once(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
            self._compiled = self._function
            return self._function(*tensors)
        self._compiled = compiled
        return result


@functools.cache
def _log_once(reason: str) -> None:
    _log.warning("torch.compile does not work here, quantizing in eager mode: %s", reason)


def can_compile(scheme: Scheme, rows: Tensor) -> bool:
    """Whether compiled kernels serve these rows: float32, on a CPU, no table look-ups."""
    return scheme.compilable and rows.device.type == "cpu" and rows.dtype == torch.float32


def find_extremes(rows: Tensor) -> Columns:
    """`schemes.extremes` of rows (r, n) in one pass."""
    if rows.shape[1] > LONGEST_FIXED_ROW:
        return extremes(rows)
    torch._dynamo.maybe_mark_dynamic(rows, 0)
    return _extremes_kernel(rows.shape[1])(rows)


def quantize_with(scheme: Scheme, rows: Tensor, columns: Columns) -> Tensor:
    """The values of rows (r, n) quantized with scales that are given as columns (r, 1).

    How scales follow from each row's amax is not compiled: scales are few.
    """
    length = rows.shape[1]
    for tensor in (rows, *columns):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    if length > LONGEST_FIXED_ROW:
        torch._dynamo.maybe_mark_dynamic(rows, 1)
    return _value_kernel(scheme, length if length <= LONGEST_FIXED_ROW else None)(rows, *columns)


@functools.lru_cache(maxsize=64)
def _extremes_kernel(length: int) -> Kernel:
    return Kernel(lambda rows: extremes(rows))


@functools.lru_cache(maxsize=64)
def _value_kernel(scheme: Scheme, length: int | None) -> Kernel:
    return Kernel(lambda rows, *columns: scheme.quantize(rows, *columns))
