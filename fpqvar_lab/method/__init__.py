"""The whole method: recipes, and a model quantized by one, with GPTQ, distillation and a low-bit
KV cache. A quantized model is stored in a file that needs no calibration to be loaded.
"""

from fpqvar_lab.method.distillation import kl_divergence, sample_distillation_set
from fpqvar_lab.method.export import export_public, public_state
from fpqvar_lab.method.format_search import (
    FP4_FORMATS,
    FP6_FORMATS,
    POST_GELU_FORMATS,
    activation_errors,
    choose_formats,
)
from fpqvar_lab.method.gptq import DAMPING, input_moments, quantize_gptq
from fpqvar_lab.method.grid_design import GridDesign, design_grid, exact_integers, group_magnitudes
from fpqvar_lab.method.kv_cache import QuantKVCache, RequantizedKVCache
from fpqvar_lab.method.linear import QuantLinear, StepShift
from fpqvar_lab.method.plan import LayerPlan, Plan, make_plan
from fpqvar_lab.method.ptq import calibrate, calibrate_and_quantize, quantize_model
from fpqvar_lab.method.quantized_var import QuantizedVAR
from fpqvar_lab.method.recipe import LayerRecipe, Recipe, read_recipe, recipe_digest
from fpqvar_lab.method.recipes import (
    ABLATION,
    RECIPES,
    find_recipe,
    mid_rise_recipe,
    uniform_recipe,
    with_byte_scales,
    with_packed_adaln,
)
from fpqvar_lab.method.report import report
from fpqvar_lab.method.storage import is_quantized, load_factors, load_quantized, save_quantized
from fpqvar_lab.method.weight_only import WeightOnlyLinear

__all__ = [
    "ABLATION",
    "DAMPING",
    "FP4_FORMATS",
    "FP6_FORMATS",
    "POST_GELU_FORMATS",
    "RECIPES",
    "GridDesign",
    "LayerPlan",
    "LayerRecipe",
    "Plan",
    "QuantKVCache",
    "QuantLinear",
    "QuantizedVAR",
    "Recipe",
    "RequantizedKVCache",
    "StepShift",
    "WeightOnlyLinear",
    "activation_errors",
    "calibrate",
    "calibrate_and_quantize",
    "choose_formats",
    "design_grid",
    "exact_integers",
    "export_public",
    "find_recipe",
    "group_magnitudes",
    "input_moments",
    "is_quantized",
    "kl_divergence",
    "load_factors",
    "load_quantized",
    "make_plan",
    "mid_rise_recipe",
    "public_state",
    "quantize_gptq",
    "quantize_model",
    "read_recipe",
    "recipe_digest",
    "report",
    "sample_distillation_set",
    "save_quantized",
    "uniform_recipe",
    "with_byte_scales",
    "with_packed_adaln",
]
