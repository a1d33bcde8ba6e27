"""Which execution a layer gets on a processor, and why.

`reference` computes what the quantizers say step by step. The others are one matrix product each,
whose operands are the reference's: `float32` everywhere, `bfloat16` where they are exact in it
and the processor multiplies it, `int8` where each token and channel has one scale.
"""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from fpqvar_lab.execution.exactness import is_exact
from fpqvar_lab.execution.products import are_integers, largest_integer
from fpqvar_lab.quantization import Quantizer

Execution = Literal["auto", "reference", "float32", "bfloat16", "int8"]
EXECUTIONS: tuple[Execution, ...] = ("auto", "reference", "float32", "bfloat16", "int8")

# oneDNN's names of instruction sets without units for bfloat16, and without those for int8.
_WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
_WITHOUT_INT8 = ("SSE41", "AVX", "AVX2", "AVX512_CORE")

# Without units for int8, oneDNN adds two products of an unsigned and a signed byte in 16 bits, and
# that saturates: 255 * 64 * 2 still fits.
_LARGEST_WITHOUT_UNITS = 64


@dataclass(frozen=True)
class Processor:
    """What a processor multiplies at more than float32's speed.

    Args:
        name: name of the processor for messages.
        bfloat16: whether it has units for bfloat16 products with float32 sums.
        int8: whether it has units for int8 products with 32-bit sums.
    """

    name: str
    bfloat16: bool
    int8: bool


def processor_of(device: torch.device | str = "cpu") -> Processor:
    """What a device has; oneDNN's environment variable `ONEDNN_MAX_CPU_ISA` is heeded."""
    device = torch.device(device)
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return Processor(torch.cuda.get_device_name(device), bfloat16=major >= 8, int8=major >= 8)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    has_amx = torch.cpu._is_amx_tile_supported()
    has_bfloat16 = has_amx or torch.cpu._is_avx512_bf16_supported()
    has_int8 = has_amx or torch.cpu._is_vnni_supported()
    name = f"a CPU with {'AMX' if has_amx else torch.backends.cpu.get_cpu_capability()}"
    return Processor(
        name if not limit else f"{name}, limited to {limit}",
        bfloat16=has_bfloat16 and limit not in _WITHOUT_BFLOAT16,
        int8=has_int8 and limit not in _WITHOUT_INT8,
    )


def choose(weight: Quantizer, inputs: Quantizer, processor: Processor) -> Execution:
    """The fastest execution of a layer whose operands are the reference's; at worst `float32`."""
    if processor.bfloat16 and _exact_in_bfloat16(weight, inputs):
        return "bfloat16"
    if processor.int8 and are_integers(weight, inputs):
        return "int8"
    return "float32"


def check(execution: Execution, weight: Quantizer, inputs: Quantizer, processor: Processor) -> None:
    """Raise `ValueError` unless a layer can be executed so without another rounding.

    The message says why not, and what to do.
    """
    if execution not in EXECUTIONS:
        raise ValueError(f"execution {execution!r}; use one of {', '.join(EXECUTIONS)}")
    if execution == "bfloat16" and not _exact_in_bfloat16(weight, inputs):
        raise ValueError(
            f"a level of {weight.format} or {inputs.format} times a {weight.scale_dtype.value} or "
            f"{inputs.scale_dtype.value} scale has more than bfloat16's eight significant bits; "
            "quantize with scales in 8 bits (a recipe whose name ends in -ue5m3), or use float32"
        )
    if execution == "int8":
        _check_integers(weight, inputs, processor)


def _check_integers(weight: Quantizer, inputs: Quantizer, processor: Processor) -> None:
    if not are_integers(weight, inputs):
        raise ValueError(
            f"int8 needs one scale for each output channel and each token, and levels that are "
            f"integers of 8 bits; here are {weight.to_text()} and {inputs.to_text()}; use float32"
        )
    largest = largest_integer(weight.format)
    if not processor.int8 and largest is not None and largest > _LARGEST_WITHOUT_UNITS:
        raise ValueError(
            f"{processor.name} has no int8 units: its sums of {weight.format} saturate at 16 bits; "
            "use float32"
        )


def _exact_in_bfloat16(weight: Quantizer, inputs: Quantizer) -> bool:
    return all(is_exact(side.format, side.scale_dtype, torch.bfloat16) for side in (weight, inputs))
