"""Quantized models as safetensors files, and published factors.

A file holds packed codes, scales, signs and what was not quantized, with the recipe as metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fpqvar_lab.files import replacing
from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.method.quantized_var import QuantizedVAR
from fpqvar_lab.method.recipe import read_recipe
from fpqvar_lab.method.weight_only import WeightOnlyLinear, adaln_layers
from fpqvar_lab.quantization import Quantizer
from fpqvar_lab.var import HeldLinear, VARConfig, read_config, read_metadata, read_state

_FORMAT = "fpqvar-lab quantized VAR 2"
_ADALN_WEIGHT = "ada_lin.1.weight"
# Whatever the dtype of the model.
_ALWAYS_FLOAT32 = ("input_scale", "input_shift", "step_bias", "transform.signs")
_READABLE = (_FORMAT, "fpqvar-lab quantized VAR 1")  # 1 is the first edition's


def save_quantized(
    model: QuantizedVAR,
    file: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a quantized model as safetensors: packed codes, scales, signs, and the recipe.

    What is not quantized takes 16 bits where that loses nothing, as for all that a checkpoint of
    16 bits held and that nothing was folded into; float32 elsewhere.

    Args:
        model: a model from `quantize_model` or `load_quantized`.
        file: the file to write, atomically.
        metadata: further strings to keep in the file.
        dtype: float16 or bfloat16, to which all that is not quantized is rounded, where it fits.
    """
    inputs = {name: m.input_quantizer.to_text() for name, m in model.quantized_layers().items()}
    description = {
        "format": _FORMAT,
        "config": json.dumps(asdict(model.config)),
        "recipe": model.recipe.to_toml(),
        "inputs": json.dumps(inputs),
        "dtype": str(model.class_emb.weight.dtype).removeprefix("torch."),
    }
    state = {
        name: _to_store(name, tensor, dtype).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    with replacing(file) as partial:
        save_file(state, partial, {**(metadata or {}), **description})


def _is_packed(name: str) -> bool:
    """Whether a tensor is part of a packed weight, whose scales' dtype has a meaning."""
    return name.rpartition(".")[2].startswith("weight_")


def _to_store(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor in 16 bits, unless it is packed, loses something, or leaves their range."""
    if tensor.dtype != torch.float32 or _is_packed(name):
        return tensor
    for narrow in (torch.float16, torch.bfloat16):
        if torch.equal(tensor.to(narrow).float(), tensor):
            return tensor.to(narrow)
    if dtype is None or name.endswith(_ALWAYS_FLOAT32):
        return tensor
    rounded = tensor.to(dtype)
    return rounded if torch.equal(rounded.isinf(), tensor.isinf()) else tensor


def is_quantized(file: Path | str) -> bool:
    """Whether a file is one that `save_quantized` wrote, by its metadata."""
    path = Path(file)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        return read_metadata(path).get("format") in _READABLE
    except SafetensorError:
        return False


def load_quantized(file: Path | str, *, device: str | torch.device = "cpu") -> QuantizedVAR:
    """The model that `save_quantized` wrote; its outputs are the saved one's, bit for bit.

    Args:
        file: a file of this version or of the first edition.
        device: where the model is to live.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something else.
    """
    path = Path(file)
    state = read_state(path)
    config = read_config(path, VARConfig) if is_quantized(path) else None
    if config is None:
        raise ValueError(f"{path}: not a quantized model; make one with quantize_model")
    metadata = read_metadata(path)
    with torch.device("meta"):
        model = QuantizedVAR(config, read_recipe(metadata["recipe"]))
    try:
        dtype = getattr(torch, metadata["dtype"]) if "dtype" in metadata else None
        _fill(model, state, json.loads(metadata["inputs"]), dtype)
    except KeyError as error:
        raise ValueError(f"{path}: key {error.args[0]} is missing") from error
    except RuntimeError as error:
        raise ValueError(f"{path}: {str(error).splitlines()[-1].strip()}") from error
    return model.to(device).eval().requires_grad_(False)


def _fill(
    model: QuantizedVAR,
    state: Mapping[str, Tensor],
    inputs: Mapping[str, str],
    dtype: torch.dtype | None,
) -> None:
    """Give a model without memory its quantized layers and the tensors of a file.

    Args:
        model: the model.
        state: the file's tensors.
        inputs: the text of each quantized layer's input quantizer, by the layer's name.
        dtype: type of the model that was saved; None if its tensors are stored in it.
    """
    state = {name: _as_saved(name, tensor, dtype) for name, tensor in state.items()}
    for name, text in inputs.items():
        layer = QuantLinear.from_state(state, Quantizer.from_text(text), f"{name}.")
        model.set_submodule(name, layer)
        # Text inside the state may have been written otherwise, and then differs in length.
        state |= layer.state_dict(prefix=f"{name}.")
    for name, module in adaln_layers(model).items():
        weight = state.get(f"{name}.1.weight")
        if weight is None and model.recipe.adaln is not None:
            module[1] = WeightOnlyLinear.from_state(state, f"{name}.1.")
        elif weight is not None and dtype not in (None, weight.dtype):
            module[1] = HeldLinear(weight, state.get(f"{name}.1.bias"))
    model.load_state_dict(state, strict=True, assign=True)


def _as_saved(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor in the dtype that it had in the model, but for packed weights and AdaLN's, which
    stay as they are stored.
    """
    if dtype is None or not tensor.is_floating_point() or _is_packed(name):
        return tensor
    if name.endswith(_ADALN_WEIGHT):
        return tensor
    return tensor.to(torch.float32 if name.endswith(_ALWAYS_FLOAT32) else dtype)


def load_factors(file: Path | str, layer: str = "ffn.fc1") -> dict[str, Tensor]:
    """Published factors: a `.pth` file that is a list of one (channels,) tensor per block.

    No pickled code is executed.

    Args:
        file: the `.pth` file.
        layer: the layer of each block that the factors belong to, `ffn.fc1` or `attn.mat_qkv`.

    Returns:
        Factors by layer name, for `quantize_model`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something else, or a factor is not positive.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{file}: refused, it holds more than tensors or is damaged") from error
    if not isinstance(content, list) or not all(isinstance(x, Tensor) for x in content):
        raise ValueError(f"{file}: expected a list of tensors, one for each block")
    for block, tensor in enumerate(content):
        if tensor.ndim != 1 or not bool((tensor > 0).all()):
            raise ValueError(f"{file}: entry {block} is not a vector of positive factors")
    return {f"blocks.{i}.{layer}": tensor.float() for i, tensor in enumerate(content)}
