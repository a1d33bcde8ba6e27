"""How far a quantized model is from the original on given images: no sampling, no randomness.

Both models read the codes of real images (teacher forcing), step by step as when sampling but
without guidance, and predict the next ones. What is measured: the cross-entropy with the true
codes, the Kullback-Leibler divergence between the two predictions, and the signal-to-noise ratio
of each layer's output.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fpqvar_lab.calibration import Patterns, layer_names
from fpqvar_lab.evaluation.metrics import GROUP_COUNTS, Estimate, bootstrap_mean, jackknife
from fpqvar_lab.var import VAR, VQVAE

ByImage = NDArray[np.float64]
"""Means over a step's tokens, (images, steps)."""


@dataclass(frozen=True)
class Divergence:
    """Means over the tokens of each step, in nats, for each image.

    Args:
        cross_entropy: (images, steps), that of the true codes under the model.
        kl: (images, steps), KL(original || model).
        tokens_per_step: The number of tokens that each step's mean is over.
    """

    cross_entropy: ByImage
    kl: ByImage
    tokens_per_step: tuple[int, ...]

    def estimate(self, name: str) -> Estimate:
        """The mean over tokens and images of `kl` or `cross_entropy`.

        Its interval comes from a bootstrap over images; `without` serves differences of rows.
        """
        values = self.by_image(name)
        found = bootstrap_mean(values)
        if len(values) % GROUP_COUNTS[0]:
            return found
        groups = np.split(values, GROUP_COUNTS[0])
        return replace(found, without=jackknife(groups, _mean_of_groups).without)

    def by_image(self, name: str) -> NDArray[np.float64]:
        """(images,): means over all tokens, of `kl` or `cross_entropy`."""
        return np.average(getattr(self, name), axis=1, weights=self.tokens_per_step)

    def by_step(self, name: str) -> NDArray[np.float64]:
        """(steps,): means over images and the step's tokens, of `kl` or `cross_entropy`."""
        return getattr(self, name).mean(axis=0)


def _mean_of_groups(groups: Sequence[NDArray[np.float64]]) -> float:
    return float(np.concatenate(groups).mean())


@torch.inference_mode()
def divergence(
    model: VAR, original: VAR, vqvae: VQVAE, images: Tensor, labels: Tensor, *, batch: int = 100
) -> Divergence:
    """Teacher-forced cross-entropy of a model and KL(original || model), token by token.

    Args:
        model: The quantized model.
        original: The model that it was made from; it may be the same object.
        vqvae: The VQVAE that both were trained with.
        images: (n, channels, side, side) in [0, 1].
        labels: (n,) int64.
        batch: The number of images that are processed together.
    """
    device = original.class_emb.weight.device
    found: list[tuple[Tensor, Tensor]] = []
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        codes = vqvae.encode(x.to(device))
        inputs, y = vqvae.teacher_forcing_input(codes), y.to(device)
        ours, theirs = predictions(model, y, inputs), predictions(original, y, inputs)
        found.append(_compare(ours, theirs, codes))
    cross_entropy, kl = (torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))
    return Divergence(cross_entropy, kl, original.config.tokens_per_step)


def predictions(model: VAR, labels: Tensor, inputs: Tensor) -> Iterator[Tensor]:
    """Yield the logits (batch, tokens, vocabulary) of each step, made as when sampling.

    Unlike the single pass of `VAR.forward` this fills the cache step by step, so that a quantized
    cache has its effect; otherwise the two agree.

    Args:
        model: The transformer.
        labels: (batch,) int64.
        inputs: (batch, tokens - 1, code_channels), from `teacher_forcing_input`.
    """
    modulation, caches = model.modulation(labels), model.new_cache(len(labels))
    later = model.word_embed(inputs.to(model.word_embed.weight.dtype))
    x = torch.cat((model.first_tokens(labels), later), dim=1) + model.positions()
    for tokens in x.split(model.config.tokens_per_step, dim=1):
        yield model.logits(tokens, modulation, caches=caches)


def _compare(
    ours: Iterator[Tensor], theirs: Iterator[Tensor], codes: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """(batch, steps) of both measures."""
    rows = []
    for a, b, code in zip(ours, theirs, codes, strict=True):
        log_q = a.log_softmax(-1)
        log_p = b.log_softmax(-1)
        cross_entropy = F.nll_loss(log_q.flatten(0, 1), code.flatten(), reduction="none")
        kl = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
        rows.append((cross_entropy.view_as(code).double().mean(1), kl.double().mean(1)))
    cross_entropies, kls = zip(*rows, strict=True)
    return torch.stack(cross_entropies, 1), torch.stack(kls, 1)


@torch.inference_mode()
def layer_snr(
    model: VAR,
    original: VAR,
    vqvae: VQVAE,
    images: Tensor,
    labels: Tensor,
    layers: Patterns = "blocks.*",
) -> dict[str, tuple[float, ...]]:
    """Signal-to-noise ratio in dB of linear layers' outputs, by layer and step.

    The signal is the original's output and the noise the difference of the two, each summed in
    squares over all images, tokens of the step, and channels. Both models run once over all tokens,
    without a cache. Errors of earlier layers are part of the noise, since each model reads its own
    activations.

    Args:
        model: The quantized model, whose layers have the original's names.
        original: The model that it was made from.
        vqvae: The VQVAE that both were trained with.
        images: (n, channels, side, side) in [0, 1]; all of them run at once.
        labels: (n,) int64.
        layers: Patterns of the original's `layer_names`.

    Returns:
        One ratio per step for each layer; infinite where nothing differs.
    """
    names = layer_names(original, layers)
    inputs = vqvae.teacher_forcing_input(vqvae.encode(images))
    sizes = original.config.tokens_per_step
    with _outputs(original, names) as signal:
        original(labels, inputs)
    with _outputs(model, names) as noisy:
        model(labels, inputs)
    return {
        name: tuple(
            _decibels(a, b)
            for a, b in zip(signal[name].split(sizes, 1), noisy[name].split(sizes, 1), strict=True)
        )
        for name in names
    }


def _decibels(signal: Tensor, noisy: Tensor) -> float:
    power = signal.double().square().sum()
    noise = (noisy.double() - signal.double()).square().sum()
    return float(10 * torch.log10(power / noise))


@contextmanager
def _outputs(model: VAR, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    kept: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            kept[name] = output

        return module.register_forward_hook(hook)

    handles = [keep(name, model.get_submodule(name)) for name in names]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
