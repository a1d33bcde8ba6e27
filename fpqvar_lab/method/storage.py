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
from fpqvar_lab.quantization import Quantizer
from fpqvar_lab.var import VARConfig, read_config, read_metadata, read_state

_FORMAT = "fpqvar-lab quantized VAR 2"
_READABLE = (_FORMAT, "fpqvar-lab quantized VAR 1")  # 1 is the first edition's


def save_quantized(
    model: QuantizedVAR, file: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a quantized model as safetensors: packed codes, scales, signs, and the recipe.

    Args:
        model: a model from `quantize_model` or `load_quantized`.
        file: the file to write, atomically.
        metadata: further strings to keep in the file.
    """
    inputs = {name: m.input_quantizer.to_text() for name, m in model.quantized_layers().items()}
    description = {
        "format": _FORMAT,
        "config": json.dumps(asdict(model.config)),
        "recipe": model.recipe.to_toml(),
        "inputs": json.dumps(inputs),
    }
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    with replacing(file) as partial:
        save_file(state, partial, {**(metadata or {}), **description})


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
        _fill(model, state, json.loads(metadata["inputs"]))
    except KeyError as error:
        raise ValueError(f"{path}: key {error.args[0]} is missing") from error
    except RuntimeError as error:
        raise ValueError(f"{path}: {str(error).splitlines()[-1].strip()}") from error
    return model.to(device).eval().requires_grad_(False)


def _fill(model: QuantizedVAR, state: Mapping[str, Tensor], inputs: Mapping[str, str]) -> None:
    """Give a model without memory its quantized layers and the tensors of a file."""
    state = dict(state)
    for name, text in inputs.items():
        layer = QuantLinear.from_state(state, Quantizer.from_text(text), f"{name}.")
        model.set_submodule(name, layer)
        # Text inside the state may have been written otherwise, and then differs in length.
        state |= layer.state_dict(prefix=f"{name}.")
    model.load_state_dict(state, strict=True, assign=True)


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
