"""Quantization with scales: what shares a scale, how it is chosen and stored, and tensors of packed
codes. A `Quantizer` is a frozen value that is called as a function, and has a form as text.
"""

from fpqvar_lab.quantization.compiled import Kernel, can_compile
from fpqvar_lab.quantization.granularity import (
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    per_group,
)
from fpqvar_lab.quantization.integer_planes import IntegerPlane
from fpqvar_lab.quantization.quantizer import QuantizedTensor, Quantizer
from fpqvar_lab.quantization.scale_methods import (
    ABSMAX,
    MSE,
    AbsMax,
    MseSearch,
    Percentile,
    ScaleMethod,
    percentile,
    ratio,
)
from fpqvar_lab.quantization.scales import (
    ScaleDtype,
    Scales,
    StoredScale,
    divide,
    shift_up,
    shifted,
    store,
)
from fpqvar_lab.quantization.schemes import Affine, Dual, Scheme, Symmetric, scheme_for

__all__ = [
    "ABSMAX",
    "MSE",
    "PER_CHANNEL",
    "PER_TENSOR",
    "PER_TOKEN",
    "AbsMax",
    "Affine",
    "Dual",
    "Granularity",
    "IntegerPlane",
    "Kernel",
    "MseSearch",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "PerToken",
    "Percentile",
    "QuantizedTensor",
    "Quantizer",
    "ScaleDtype",
    "ScaleMethod",
    "Scales",
    "Scheme",
    "StoredScale",
    "Symmetric",
    "can_compile",
    "divide",
    "per_group",
    "percentile",
    "ratio",
    "scheme_for",
    "shift_up",
    "shifted",
    "store",
]
