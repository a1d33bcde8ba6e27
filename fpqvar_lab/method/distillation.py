"""Distilling the original into a quantized model: rounding, biases and AdaLN are learned on
images that the original samples, until the predictions of the two are close.

This is data-free quantization-aware distillation (as LLM-QAT, arXiv 2305.17888, does for language
models): no training picture is needed, the formats, the scales and the bits stay as they are, and
only the choice of codes and what stays in high precision in the blocks changes. It holds the
weights, their gradients and two moments in float32, so it is for models that fit into memory four
times.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from fpqvar_lab.calibration import CalibrationSet
from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.var import VAR, VQVAE, sample, warmup_cosine

CLASS_DROPOUT = 0.1  # the model is also asked without a class, for guidance
WARMUP = 20  # steps until the learning rate is at its largest


@dataclass(frozen=True)
class DistillationSet:
    """Images that the original sampled, as inputs for teacher forcing.

    Args:
        labels: the class of each image, (images,) int64.
        inputs: the model's inputs for all steps but the first, (images, tokens - 1, code_channels).
    """

    labels: Tensor
    inputs: Tensor


def sample_distillation_set(
    var: VAR, vqvae: VQVAE, images: int = 6000, *, seed: int = 1, batch_size: int = 100
) -> DistillationSet:
    """Let the model sample images, and read them back as codes.

    They are sampled without guidance and from all codes: guided images are more typical than real
    ones, and what is learned on them serves real ones less.

    Args:
        var: the original model.
        vqvae: the VQVAE that the model was trained with.
        images: how many images are sampled.
        seed: seed of labels and sampling; other than the calibration's, so that these are new.
        batch_size: how many images are sampled at a time.
    """
    device = var.class_emb.weight.device
    chosen = CalibrationSet(var.config.classes, images, seed)
    labels, generator = chosen.labels.to(device), chosen.generator(device)
    inputs = []
    for batch in tqdm(labels.split(batch_size), desc="images", leave=False, disable=None):
        sampled = sample(var, vqvae, batch, cfg=0.0, top_k=0, top_p=0.0, generator=generator)
        with torch.no_grad():
            inputs.append(vqvae.teacher_forcing_input(vqvae.encode(sampled.clone())))
    return DistillationSet(labels, torch.cat(inputs))


def kl_divergence(predicted: Tensor, original: Tensor) -> Tensor:
    """The mean Kullback-Leibler divergence from the original's predictions to others.

    Args:
        predicted: logits (..., vocabulary) of the model that is compared.
        original: logits of the original, of the same shape.
    """
    log_p, log_q = original.log_softmax(-1), predicted.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def distill(
    model: VAR,
    original: VAR,
    examples: DistillationSet,
    *,
    steps: int = 800,
    batch_size: int = 32,
    learning_rate: float = 5e-4,
    seed: int = 0,
    bfloat16: bool = True,
    progress: bool = True,
) -> list[float]:
    """Learn a quantized model's rounding, biases and AdaLN in place from the original.

    The quantized weights are packed again at the end.

    Args:
        model: the quantized model, from `quantize_model`.
        original: the model that it was made from.
        examples: images from `sample_distillation_set`.
        steps: number of steps of AdamW, with a short warm-up and cosine decay to zero.
        batch_size: number of images per step.
        learning_rate: the largest learning rate.
        seed: seed of the order of the images.
        bfloat16: whether matrix products run in bfloat16 while learning (autocast).
        progress: whether to show a progress bar.

    Returns:
        The divergence at every step.
    """
    layers = [m for m in model.modules() if isinstance(m, QuantLinear)]
    parameters = [layer.unfreeze() for layer in layers] + _kept_parameters(model)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    rates = warmup_cosine(optimizer, learning_rate, warmup=WARMUP, total=steps)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    bar = tqdm(range(steps), desc="distillation", disable=not progress, leave=False)
    for _ in bar:
        labels, inputs = _batch(examples, batch_size, original.config.classes, generator)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bfloat16):
            with torch.no_grad():
                expected = original(labels, inputs)
            loss = kl_divergence(model(labels, inputs), expected)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rates.step()
        losses.append(loss.item())
        bar.set_postfix(divergence=f"{sum(losses[-20:]) / len(losses[-20:]):.4f}")
    for layer in layers:
        layer.requantize()
    model.requires_grad_(False)
    return losses


def _batch(
    examples: DistillationSet, size: int, no_class: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    picked = torch.randint(len(examples.labels), (size,), generator=generator)
    dropped = torch.rand(size, generator=generator) < CLASS_DROPOUT
    picked, dropped = picked.to(examples.labels.device), dropped.to(examples.labels.device)
    return examples.labels[picked].masked_fill(dropped, no_class), examples.inputs[picked]


def _kept_parameters(model: VAR) -> list[nn.Parameter]:
    """Copies, to learn from, of what the blocks keep in high precision (the original shares it)."""
    found = []
    for module in model.blocks.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if name == "master_weight":
                continue
            copy = nn.Parameter(parameter.detach().clone())
            setattr(module, name, copy)
            found.append(copy)
    return found
