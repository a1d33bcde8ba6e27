"""LightMamba (arXiv 2502.15260): one token of a Mamba-2 on the accelerator's pipeline."""

from fpqvar_lab.neighbours.mamba.accelerator import (
    ASSUMPTIONS,
    DESIGN,
    PUBLISHED_TOKENS_PER_SECOND,
    Mamba2,
    memory_rate,
    token,
)

__all__ = ["ASSUMPTIONS", "DESIGN", "PUBLISHED_TOKENS_PER_SECOND", "Mamba2", "memory_rate", "token"]
