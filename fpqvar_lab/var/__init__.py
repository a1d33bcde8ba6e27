"""The visual autoregressive model: configurations, VQVAE, transformer, sampling, checkpoints,
training. Its operations and bytes are counted by `fpqvar_lab.var.operations`, a door of its own.
"""

from fpqvar_lab.var.checkpoint import (
    load_classifier,
    load_var,
    load_vqvae,
    read_config,
    read_metadata,
    read_state,
    save_model,
    stored_dtype,
)
from fpqvar_lab.var.classifier import Classifier, accuracy
from fpqvar_lab.var.config import VARConfig, VQVAEConfig
from fpqvar_lab.var.sampling import filter_top_k_top_p, sample, sample_tokens
from fpqvar_lab.var.schedule import Schedule, warmup_cosine
from fpqvar_lab.var.train import PlantedOutliers, fit, train_classifier, train_var, train_vqvae
from fpqvar_lab.var.transformer import (
    VAR,
    AdaLN,
    Block,
    Cache,
    HeldLinear,
    KVCache,
    Modulation,
)
from fpqvar_lab.var.vqvae import VQVAE

__all__ = [
    "VAR",
    "VQVAE",
    "AdaLN",
    "Block",
    "Cache",
    "Classifier",
    "HeldLinear",
    "KVCache",
    "Modulation",
    "PlantedOutliers",
    "Schedule",
    "VARConfig",
    "VQVAEConfig",
    "accuracy",
    "filter_top_k_top_p",
    "fit",
    "load_classifier",
    "load_var",
    "load_vqvae",
    "read_config",
    "read_metadata",
    "read_state",
    "sample",
    "sample_tokens",
    "save_model",
    "stored_dtype",
    "train_classifier",
    "train_var",
    "train_vqvae",
    "warmup_cosine",
]
