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

from fpqvar_lab.schemes import Columns, Scheme, by_absmax

_log = logging.getLogger(__name__)

# Its type stubs do not know every argument.
_compile: Any = torch.compile

# Longer rows gain nothing from one kernel for peaks and values, and each length is compiled for
# itself.
LONGEST_FUSED_ROW = 8192


class _Kernel:
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


def quantize_by_absmax(scheme: Scheme, rows: Tensor) -> tuple[Tensor, ...]:
    """``(values, *peaks)`` of rows (r, n), n short, by absolute maximum and float32 scales, in one
    pass.
    """
    # Only the number of rows may vary: with a fixed length the loop over a row needs no remainder.
    torch._dynamo.maybe_mark_dynamic(rows, 0)
    return _by_absmax(scheme, rows.shape[1])(rows)


def quantize_with(scheme: Scheme, rows: Tensor, columns: Columns) -> Tensor:
    """The values of rows (r, n) quantized with scales that are given as columns (r, 1)."""
    for tensor in (rows, *columns):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    torch._dynamo.maybe_mark_dynamic(rows, 1)
    return _with_columns(scheme)(rows, *columns)


@functools.lru_cache(maxsize=64)
def _by_absmax(scheme: Scheme, length: int) -> _Kernel:
    return _Kernel(by_absmax(scheme))


@functools.lru_cache(maxsize=64)
def _with_columns(scheme: Scheme) -> _Kernel:
    return _Kernel(lambda rows, *columns: scheme.quantize(rows, *columns))
