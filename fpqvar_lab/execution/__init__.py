"""How a quantized layer is computed: whether its operands are exact in a dtype of the processor, and
transform and quantization in one compiled pass.
"""

from fpqvar_lab.execution.exactness import is_exact
from fpqvar_lab.execution.fused import transform_and_quantize

__all__ = ["is_exact", "transform_and_quantize"]
