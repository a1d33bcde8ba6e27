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
    LARGEST_SHIFT,
    LEAST_SHIFT,
    ScaleDtype,
    Scales,
    StoredScale,
    divide,
    shift_up,
    shifted,
    store,
)
from fpqvar_lab.quantization.schemes import Affine, Dual, Scheme, Symmetric, scheme_for
from fpqvar_lab.quantization.ue5m3 import (
    UE5M3_MAX,
    decode_ue5m3,
    encode_ue5m3,
    round_to_ue5m3,
)

__all__ = [
    "ABSMAX",
    "LARGEST_SHIFT",
    "LEAST_SHIFT",
    "MSE",
    "PER_CHANNEL",
    "PER_TENSOR",
    "PER_TOKEN",
    "UE5M3_MAX",
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
    "decode_ue5m3",
    "divide",
    "encode_ue5m3",
    "per_group",
    "percentile",
    "ratio",
    "round_to_ue5m3",
    "scheme_for",
    "shift_up",
    "shifted",
    "store",
]
