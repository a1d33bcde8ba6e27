"""The visual autoregressive model: configurations, VQVAE, transformer, sampling, checkpoints,
training. The counts of its operations and bytes are here too.
"""

from fpqvar_lab.var.checkpoint import (
    load_classifier,
    load_var,
    load_vqvae,
    read_metadata,
    read_state,
    save_model,
)
from fpqvar_lab.var.classifier import Classifier, accuracy
from fpqvar_lab.var.config import VARConfig, VQVAEConfig
from fpqvar_lab.var.operations import (
    FP16,
    QUANTIZED_LAYERS,
    W4A4,
    W4A4KV6,
    W6A6,
    W8A8,
    by_layer,
    cache_bytes,
    memory_bytes,
    parameter_bytes,
    parameter_counts,
    select,
    total,
    transformer_operations,
    vqvae_operations,
)
from fpqvar_lab.var.sampling import draw, keep_likely, sample
from fpqvar_lab.var.train import PlantedOutliers, Schedule, fit, train_var, train_vqvae
from fpqvar_lab.var.transformer import VAR, AdaLN, Block, Cache, KVCache
from fpqvar_lab.var.vqvae import VQVAE

__all__ = [
    "FP16",
    "QUANTIZED_LAYERS",
    "VAR",
    "VQVAE",
    "W4A4",
    "W4A4KV6",
    "W6A6",
    "W8A8",
    "AdaLN",
    "Block",
    "Cache",
    "Classifier",
    "KVCache",
    "PlantedOutliers",
    "Schedule",
    "VARConfig",
    "VQVAEConfig",
    "accuracy",
    "by_layer",
    "cache_bytes",
    "draw",
    "fit",
    "keep_likely",
    "load_classifier",
    "load_var",
    "load_vqvae",
    "memory_bytes",
    "parameter_bytes",
    "parameter_counts",
    "read_metadata",
    "read_state",
    "sample",
    "save_model",
    "select",
    "total",
    "train_var",
    "train_vqvae",
    "transformer_operations",
    "vqvae_operations",
]
