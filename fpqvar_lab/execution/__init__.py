"""How a quantized layer is computed: transform and quantization in one compiled pass."""

from fpqvar_lab.execution.fused import transform_and_quantize

__all__ = ["transform_and_quantize"]
