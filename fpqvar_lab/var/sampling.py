"""Sampling of images: ten (or five) steps of next-scale prediction with classifier-free guidance.

Source: arXiv 2404.02905, section 3.3, and its released code, whose images a seed reproduces.
"""

from typing import Literal, overload

import torch
from torch import Tensor

from fpqvar_lab.var.transformer import VAR
from fpqvar_lab.var.vqvae import VQVAE


def filter_top_k_top_p(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits of which all but the likely ones are -infinity, by top-k and then top-p filtering.

    Top-p filtering is also known as nucleus sampling: Holtzman et al., arXiv 1904.09751.

    Args:
        logits: logits (..., vocabulary).
        top_k: number of the largest logits that stay; 0 for all.
        top_p: of these, the smallest set whose probability is at least this stays; 0 for all.
    """
    if top_k > 0:
        smallest = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p > 0:
        ascending, order = logits.sort(dim=-1)
        drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        drop[..., -1] = False
        logits = logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)
    return logits


def sample_tokens(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """One code for each token, sampled with the logits' probabilities.

    Args:
        logits: logits (batch, tokens, vocabulary).
        generator: the source of randomness, on the device of the logits.

    Returns:
        Codes (batch, tokens), int64.
    """
    probabilities = logits.softmax(dim=-1).flatten(0, 1)
    codes = torch.multinomial(probabilities, 1, replacement=True, generator=generator)
    return codes.view(logits.shape[:-1])


def _gumbel_softmax(
    logits: Tensor, temperature: float, generator: torch.Generator | None
) -> Tensor:
    noise = torch.empty_like(logits).exponential_(generator=generator).log().neg()
    return ((logits + noise) / temperature).softmax(dim=-1)


def _smooth_embedding(
    vqvae: VQVAE, logits: Tensor, progress: float, generator: torch.Generator | None
) -> Tensor:
    """A mixture of codes in place of one (`more_smooth`): prettier, not used for scores."""
    temperature = max(0.27 * (1 - progress * 0.95), 0.005)
    mixture = _gumbel_softmax(logits * (1 + progress), temperature, generator)
    rows = mixture @ vqvae.quantize.embedding.weight.to(mixture.dtype)
    side = round(rows.shape[1] ** 0.5)
    return rows.transpose(1, 2).unflatten(2, (side, side))


def _check(var: VAR, vqvae: VQVAE, labels: Tensor) -> None:
    a, b = var.config, vqvae.config
    for name in ("patch_sizes", "vocabulary", "code_channels"):
        if getattr(a, name) != getattr(b, name):
            raise ValueError(
                f"var and vqvae differ in {name}: {getattr(a, name)} and {getattr(b, name)}"
            )
    if labels.ndim != 1 or labels.dtype != torch.int64 or not len(labels):
        raise ValueError(
            f"labels must be int64 of shape (batch,), not {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() > a.classes:
        found = f"{labels.min().item()} ... {labels.max().item()}"
        raise ValueError(f"labels {found}; allowed are 0 ... {a.classes} ({a.classes}: no class)")


@overload
def sample(
    var: VAR,
    vqvae: VQVAE,
    labels: Tensor,
    *,
    cfg: float = ...,
    top_k: int = ...,
    top_p: float = ...,
    more_smooth: bool = ...,
    generator: torch.Generator | None = ...,
    return_steps: Literal[False] = ...,
) -> Tensor: ...
@overload
def sample(
    var: VAR,
    vqvae: VQVAE,
    labels: Tensor,
    *,
    cfg: float = ...,
    top_k: int = ...,
    top_p: float = ...,
    more_smooth: bool = ...,
    generator: torch.Generator | None = ...,
    return_steps: Literal[True],
) -> tuple[Tensor, list[Tensor]]: ...
@torch.inference_mode()
def sample(
    var: VAR,
    vqvae: VQVAE,
    labels: Tensor,
    *,
    cfg: float = 1.5,
    top_k: int = 900,
    top_p: float = 0.96,
    more_smooth: bool = False,
    generator: torch.Generator | None = None,
    return_steps: bool = False,
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """Sample one image for each label.

    Args:
        var: the transformer, which predicts the codes.
        vqvae: the VQVAE that the transformer was trained with, which turns codes into images.
        labels: class labels (batch,), int64, on the models' device; `classes` stands for "no
            class".
        cfg: guidance strength; it rises linearly from 0 at the first step to `cfg` at the last.
        top_k: number of codes kept at each token; 0 for all.
        top_p: probability kept at each token; 0 for all.
        more_smooth: whether codes are mixed by Gumbel-softmax; for images to look at, not for
            scores.
        generator: the source of randomness, on the models' device. One call per step samples for
            the whole batch, so an image depends on its index in the batch as well as on the seed.
        return_steps: whether to return also the image decoded after each step.

    Returns:
        Images (batch, channels, side, side) float in [0, 1]; with `return_steps` a pair of these
        and a list of such tensors, one for each step.

    Raises:
        ValueError: a label out of range, or a VQVAE whose codes are not the transformer's.
    """
    _check(var, vqvae, labels)
    config, count = var.config, len(labels)
    both = torch.cat((labels, torch.full_like(labels, config.classes)))
    modulation, caches = var.modulation(both), var.new_cache(len(both))
    positions = var.positions().split(config.tokens_per_step, dim=1)
    side = config.patch_sizes[-1]
    f_hat = vqvae.quantize.embedding.weight.new_zeros(count, config.code_channels, side, side)
    x = var.first_tokens(both)
    images = []
    for step in range(config.steps):
        progress = step / (config.steps - 1)
        logits = var.logits(x + positions[step], modulation, caches=caches)
        t = cfg * progress
        logits = filter_top_k_top_p((1 + t) * logits[:count] - t * logits[count:], top_k, top_p)
        codes = sample_tokens(logits, generator)
        if more_smooth:
            h = _smooth_embedding(vqvae, logits, progress, generator).to(f_hat.dtype)
        else:
            h = vqvae.quantize.lookup(codes)
        f_hat = f_hat + vqvae.quantize.contribution(step, h)
        if return_steps:
            images.append(vqvae.decode_latents(f_hat))
        if step + 1 < config.steps:
            rows = vqvae.quantize.shrink(step + 1, f_hat).flatten(2).transpose(1, 2)
            x = var.word_embed(rows.to(x.dtype)).repeat(2, 1, 1)
    return (images[-1], images) if return_steps else vqvae.decode_latents(f_hat)
