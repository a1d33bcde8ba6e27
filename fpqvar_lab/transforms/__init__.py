"""Transforms of a layer's input channels that leave its output as it is and make it easier to
quantize: Hadamard transforms (GHT), SmoothQuant, the learned factors of GALT, and shift by step.
"""

from fpqvar_lab.transforms.folding import fold_into_adaln
from fpqvar_lab.transforms.galt import fit_scale
from fpqvar_lab.transforms.hadamard import GroupHadamard, hadamard_matrix, random_signs
from fpqvar_lab.transforms.quantized_product import FittedScale, QuantizedProduct, output_error
from fpqvar_lab.transforms.shift import Shift, mean_power, step_means
from fpqvar_lab.transforms.smoothing import ALPHAS, fit_smoothquant, smoothquant_scale

__all__ = [
    "ALPHAS",
    "FittedScale",
    "GroupHadamard",
    "QuantizedProduct",
    "Shift",
    "fit_scale",
    "fit_smoothquant",
    "fold_into_adaln",
    "hadamard_matrix",
    "mean_power",
    "output_error",
    "random_signs",
    "smoothquant_scale",
    "step_means",
]
