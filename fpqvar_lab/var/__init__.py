"""The visual autoregressive model: configurations, VQVAE, transformer, sampling, checkpoints."""

from fpqvar_lab.var.checkpoint import load_classifier, load_var, load_vqvae, save_model
from fpqvar_lab.var.config import VARConfig, VQVAEConfig
from fpqvar_lab.var.sampling import sample
from fpqvar_lab.var.transformer import VAR, KVCache
from fpqvar_lab.var.vqvae import VQVAE

__all__ = [
    "VAR",
    "VQVAE",
    "KVCache",
    "VARConfig",
    "VQVAEConfig",
    "load_classifier",
    "load_var",
    "load_vqvae",
    "sample",
    "save_model",
]
