"""The GHT-aware learnable transformation (GALT) of FPQVAR (arXiv 2505.16335): factors learned by
gradient descent through the very transform that is used later.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from fpqvar_lab.quantization import Quantizer
from fpqvar_lab.transforms.hadamard import GroupHadamard
from fpqvar_lab.transforms.quantized_product import FittedScale, QuantizedProduct, ReferenceLayer


def fit_scale(
    activations_by_step: Sequence[Tensor],
    weight: Tensor,
    transform: GroupHadamard | None,
    quantizer: Quantizer,
    *,
    weight_quantizer: Quantizer | None = None,
    per_step: bool = False,
    start: Tensor | None = None,
    epochs: int = 50,
    learning_rate: float = 0.01,
    patience: int = 10,
    progress: bool = True,
) -> FittedScale:
    """GALT: factors learned by gradient descent on the layer's output error.

    The mean squared difference from ``x W^T`` is minimised by AdamW, one optimiser step for each
    step of the model in turn, with straight-through gradients and none through the quantizers'
    scales. The logarithm of the factors is learned, so they stay positive, and there is no weight
    decay. Nothing is random. Unlike the released script, the iterate with the smallest error over
    all steps is kept, and learning and inference share one transform.

    Args:
        activations_by_step: the layer's inputs (tokens, channels), one tensor per step.
        weight: the layer's weight, (out_channels, channels).
        transform: the transform that is used at inference, or None.
        quantizer: quantizes the activations.
        weight_quantizer: quantizes the weight; by default the same as the activations.
        per_step: whether to learn one vector per step instead of one for all steps. This is for
            study: the weight, too, then differs from step to step.
        start: the factors to begin from, (channels,); ones by default.
        epochs: how many times to pass over the steps, at most.
        learning_rate: AdamW's learning rate, which is constant.
        patience: learning stops after this many epochs without a smaller error.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when there are no activations, shapes do not fit, or the start is not positive.
    """
    product = QuantizedProduct(quantizer, weight_quantizer, transform)
    layer = ReferenceLayer(activations_by_step, weight, product)
    logarithm = _start(start, layer, per_step).requires_grad_()
    optimizer = torch.optim.AdamW([logarithm], lr=learning_rate, weight_decay=0.0)
    best, best_epoch = logarithm.detach().exp(), 0
    history = [layer.error(best)]
    bar = tqdm(range(1, epochs + 1), desc="GALT", disable=not progress, leave=False)
    for epoch in bar:
        _one_epoch(layer, logarithm, optimizer)
        scale = logarithm.detach().exp()
        history.append(layer.error(scale))
        if history[-1] < history[best_epoch]:
            best, best_epoch = scale, epoch
        bar.set_postfix(error=f"{history[best_epoch]:.4f}")
        if epoch - best_epoch >= patience:
            break
    bar.close()
    return FittedScale(best.to(weight.dtype), history[best_epoch], tuple(history))


def _start(start: Tensor | None, layer: ReferenceLayer, per_step: bool) -> Tensor:
    channels = layer.weight.shape[1]
    factors = layer.weight.new_ones(channels) if start is None else start.detach().to(layer.weight)
    if factors.shape != (channels,) or not bool((factors > 0).all()):
        raise ValueError(f"start must be {channels} positive factors")
    return factors.log().repeat(len(layer.activations), 1) if per_step else factors.log()


def _one_epoch(layer: ReferenceLayer, logarithm: Tensor, optimizer: torch.optim.Optimizer) -> None:
    for step in range(len(layer.activations)):
        rows = logarithm[step] if logarithm.ndim == 2 else logarithm
        loss = layer.loss(step, rows.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
