"""A quantized model as the public VAR code reads it: a state dict with plain weights.

Weights are the quantized ones, decoded; activations are not quantized there. So what other code
measures with such a file is what the weights alone cost.
"""

from pathlib import Path

import torch
from torch import Tensor

from fpqvar_lab.files import replacing
from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.method.quantized_var import QuantizedVAR
from fpqvar_lab.method.weight_only import WeightOnlyLinear


def public_state(model: QuantizedVAR, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The state dict of a `VAR`, and of the public code's model, that computes the same but for the
    quantization of activations and of the cache.

    Transforms and factors that a quantized layer applies to its input are undone in its weight:
    both are invertible. Factors that were folded into AdaLN stay there, and a rotation of values
    stays in `mat_qkv` and `proj`, for the weights belong to them.

    Args:
        model: a quantized model.
        dtype: type of the floating-point tensors, which are on the CPU.

    Raises:
        ValueError: when a weight is being learned (`QuantLinear.unfreeze`), or a layer shifts its
            input by step.
    """
    layers = model.quantized_layers()
    held = {n: m for n, m in model.named_modules() if isinstance(m, WeightOnlyLinear)}
    inside = tuple(f"{name}." for name in (*layers, *held))
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(inside)}
    for name, layer in layers.items():
        if layer.master_weight is not None:
            raise ValueError(f"layer {name}: its weight is being learned; call requantize() first")
        if layer.input_shift is not None:
            raise ValueError(
                f"layer {name}: its input is shifted by step, and the public model has no bias by "
                "step that makes up for it; use a recipe without a shift"
            )
        state[f"{name}.weight"] = plain_weight(layer)
        if layer.bias is not None:
            state[f"{name}.bias"] = layer.bias.detach()
    for name, linear in held.items():
        state[f"{name}.weight"] = linear.weight.dequantize()
        if linear.bias is not None:
            state[f"{name}.bias"] = linear.bias.detach()
    return {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in state.items()
    }


def plain_weight(layer: QuantLinear) -> Tensor:
    """The weight (out_channels, in_channels) that takes the layer's input as it comes; float64."""
    weight = layer.weight.dequantize().double()
    if layer.transform is not None:
        weight = layer.transform.inverse(weight)
    return weight if layer.input_scale is None else weight * layer.input_scale.double()


def export_public(model: QuantizedVAR, file: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write `public_state` as a `.pth` file, atomically.

    Args:
        model: a quantized model.
        file: the file to write.
        dtype: type of the floating-point tensors; the public checkpoints have float16.

    Raises:
        ValueError: as `public_state`; or a number is beyond the range of `dtype`.
    """
    state = public_state(model)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        state[name] = tensor.to(dtype).contiguous()
        if not torch.equal(state[name].isinf(), tensor.isinf()):
            raise ValueError(f"{name} is beyond the range of {dtype}; use torch.float32")
    with replacing(file) as partial:
        torch.save(state, partial)
