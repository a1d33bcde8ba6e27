"""Quantization with scales: what shares a scale, how it is chosen and stored, and tensors of
packed codes. A `Quantizer` is a frozen value that is called as a function, and has a form as
text.
"""

from fpqvar_lab.quantization.granularity import (
    PER_CHANNEL,
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    PerChannel,
    PerGroup,
    per_group,
)
from fpqvar_lab.quantization.quantizer import QuantizedTensor, Quantizer
from fpqvar_lab.quantization.scales import (
    ABSMAX,
    MSE,
    MseSearch,
    ScaleDtype,
    ScaleMethod,
    StoredScale,
    divide,
    percentile,
    ratio,
    shift_up,
    shifted,
    store,
)
from fpqvar_lab.quantization.schemes import Scales, Symmetric

__all__ = [
    "ABSMAX",
    "MSE",
    "PER_CHANNEL",
    "PER_TENSOR",
    "PER_TOKEN",
    "Granularity",
    "MseSearch",
    "PerChannel",
    "PerGroup",
    "QuantizedTensor",
    "Quantizer",
    "ScaleDtype",
    "ScaleMethod",
    "Scales",
    "StoredScale",
    "Symmetric",
    "divide",
    "per_group",
    "percentile",
    "ratio",
    "shift_up",
    "shifted",
    "store",
]
