"""Loading and saving of weights: safetensors, or the public `.pth` files, never a pickle's code.

Every failure is one `ValueError` or `FileNotFoundError` that names file, key, found and expected.
"""

import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fpqvar_lab import data
from fpqvar_lab.files import replacing
from fpqvar_lab.var.classifier import Classifier
from fpqvar_lab.var.config import PATCH_SIZES_256, PATCH_SIZES_512, VARConfig, VQVAEConfig
from fpqvar_lab.var.transformer import VAR
from fpqvar_lab.var.vqvae import VQVAE

MINI_VARS = ("mini", "mini-outlier")
Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config", VARConfig, VQVAEConfig)


def read_state(file: Path) -> dict[str, Tensor]:
    """All tensors of a `.safetensors` file or of a `.pth`/`.pt` file that is a plain state dict.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another ending, a damaged file, or one that holds more than tensors.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix in (".pth", ".pt"):
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        else:
            raise ValueError(f"{file}: ending {file.suffix!r}; known are .safetensors, .pth, .pt")
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file}: refused, it holds more than tensors or is damaged") from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{file}: truncated or damaged ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{file}: not a plain state dict of tensors")
    return state


class _TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for and not kept."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with safe_open(file, "pt") as f:
            keys = f.keys()
            self._shapes = {key: torch.Size(f.get_slice(key).get_shape()) for key in keys}

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._shapes:
            raise KeyError(key)
        with safe_open(self._file, "pt") as f:
            return f.get_tensor(key).clone()  # of the file, which is closed, nothing stays mapped

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def shape(self, key: str) -> torch.Size:
        """A tensor's shape, without reading it."""
        return self._shapes[key]


def _open_state(file: Path) -> Mapping[str, Tensor]:
    """As `read_state`, but a safetensors file's tensors are read one by one when asked for."""
    if file.suffix != ".safetensors" or not file.is_file():
        return read_state(file)
    try:
        return _TensorFile(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: truncated or damaged ({error})") from error


def stored_dtype(source: str | Path) -> torch.dtype:
    """The dtype in which a checkpoint, or a model that comes with the data, keeps its weights.

    Raises:
        FileNotFoundError, ValueError: as `load_var`.
    """
    file = _mini_file(f"var-{source}") if source in MINI_VARS else Path(source)
    state = _open_state(file)
    if "head.weight" not in state:
        raise ValueError(f"{file}: key head.weight is missing; not a VAR checkpoint")
    return state["head.weight"].dtype


def read_metadata(file: Path) -> dict[str, str]:
    """The strings stored beside the tensors of a safetensors file."""
    with safe_open(file, "pt") as f:
        return f.metadata() or {}


def _check_fit(model: nn.Module, state: Mapping[str, Tensor], file: Path) -> None:
    expected = model.state_dict()
    for key in expected.keys() - state.keys():
        raise ValueError(f"{file}: key {key} is missing ({tuple(expected[key].shape)} expected)")
    for key in state.keys() - expected.keys():
        raise ValueError(f"{file}: surplus key {key} {tuple(state[key].shape)}")
    for key, value in expected.items():
        shape = state.shape(key) if isinstance(state, _TensorFile) else state[key].shape
        if shape != value.shape:
            found, wanted = tuple(shape), tuple(value.shape)
            raise ValueError(f"{file}: key {key} has shape {found}, expected {wanted}")


def _assign(model: nn.Module, key: str, tensor: Tensor) -> None:
    """Put a tensor in the place of a parameter or buffer."""
    owner, _, name = key.rpartition(".")
    module = model.get_submodule(owner)
    if name in module._parameters:
        module._parameters[name] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[name] = tensor


def _guess_var_config(state: Mapping[str, Tensor], file: Path) -> VARConfig:
    """The shape of a public checkpoint, read off its tensors."""
    try:
        width, code_channels = state["word_embed.weight"].shape
        vocabulary, classes = len(state["head.weight"]), len(state["class_emb.weight"]) - 1
        steps, tokens = len(state["lvl_embed.weight"]), state["pos_1LC"].shape[1]
    except KeyError as error:
        raise ValueError(f"{file}: key {error.args[0]} is missing; not a VAR checkpoint") from None
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    for patch_sizes in (PATCH_SIZES_256, PATCH_SIZES_512):
        if len(patch_sizes) == steps and sum(p * p for p in patch_sizes) == tokens:
            break
    else:
        raise ValueError(f"{file}: {tokens} tokens in {steps} steps match no public model's steps")
    heads = state["blocks.0.attn.scale_mul_1H11"].shape[1]
    shared = "shared_ada_lin.1.weight" in state
    return VARConfig(
        depth,
        width,
        heads,
        patch_sizes,
        vocabulary=vocabulary,
        code_channels=code_channels,
        classes=classes,
        mlp_ratio=state["blocks.0.ffn.fc1.weight"].shape[0] / width,
        shared_aln=shared,
    )


def _public_vqvae_config(patch_sizes: tuple[int, ...] | None) -> VQVAEConfig:
    """The shape of the public VQVAE, for the steps of a VAR; for those of 256 pixels if None."""
    config = VQVAEConfig.preset("ch160v4096z32")
    if patch_sizes is None:
        return config
    size = patch_sizes[-1] * config.downsampling
    return dataclasses.replace(config, image_size=size, patch_sizes=patch_sizes)


def read_config(file: Path, kind: type[Config]) -> Config | None:
    """The configuration stored in one of our own safetensors files; None in a file from elsewhere.

    Args:
        file: the file.
        kind: the dataclass of the configuration, `VARConfig` or `VQVAEConfig`.

    Raises:
        ValueError: the file has a configuration of another kind.
    """
    if file.suffix != ".safetensors" or "config" not in (metadata := read_metadata(file)):
        return None
    fields = json.loads(metadata["config"])
    if fields.keys() != {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"{file}: its configuration is not a {kind.__name__} ({fields})")
    lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return kind(**(fields | lists))


def _mini_file(name: str) -> Path:
    return data.path(f"models/{name}.safetensors")


def load_var(
    source: str | Path,
    config: VARConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> VAR:
    """A VAR ready to sample from.

    Args:
        source: `mini`, `mini-outlier`, or a `.safetensors` or `.pth` file.
        config: the shape to insist on; by default the file's own, or the one its tensors tell.
        dtype: the data type of the weights: float32, bfloat16 or float16.
        device: where the model is to live.

    Raises:
        FileNotFoundError, ValueError: naming file, key, found and expected.
    """
    file = _mini_file(f"var-{source}") if source in MINI_VARS else Path(source)
    state = _open_state(file)
    config = config or read_config(file, VARConfig) or _guess_var_config(state, file)
    return _ready(lambda: VAR(config), state, file, dtype, device)


def load_vqvae(
    source: str | Path,
    config: VQVAEConfig | None = None,
    *,
    patch_sizes: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> VQVAE:
    """A VQVAE ready to use: `mini`, or a `.safetensors` or `.pth` file (see `load_var`).

    A file that states no shape is taken for the public `vae_ch160v4096z32`.

    Args:
        source: `mini`, or a `.safetensors` or `.pth` file.
        config: the shape to insist on.
        patch_sizes: patch sizes of the VAR it serves. The public file serves models of 256 and of
            512 pixels, which its tensors do not tell apart; by default it is read for 256.
        dtype: the data type of the weights: float32, bfloat16 or float16.
        device: where the model is to live.

    Raises:
        FileNotFoundError, ValueError: naming file, key, found and expected.
    """
    file = _mini_file("vqvae-mini") if source == "mini" else Path(source)
    state = _open_state(file)
    config = config or read_config(file, VQVAEConfig) or _public_vqvae_config(patch_sizes)
    if patch_sizes not in (None, config.patch_sizes):
        raise ValueError(f"{file}: its patch sizes are {config.patch_sizes}, not {patch_sizes}")
    return _ready(lambda: VQVAE(config), state, file, dtype, device)


def load_classifier(source: str | Path = "mini") -> Classifier:
    """The Fashion-MNIST classifier, in evaluation mode."""
    file = _mini_file("classifier-mini") if source == "mini" else Path(source)
    return _ready(Classifier, _open_state(file), file, torch.float32, "cpu")


def _ready(
    build: Callable[[], Model],
    state: Mapping[str, Tensor],
    file: Path,
    dtype: torch.dtype,
    device: str | torch.device,
) -> Model:
    with torch.device("meta"):  # a large model must not be filled with random numbers first
        model = build()
    _check_fit(model, state, file)
    # One by one: never are a file's tensors and their converted copies all in memory.
    for key in model.state_dict():
        tensor = state[key]
        target = dtype if tensor.is_floating_point() else tensor.dtype
        _assign(model, key, tensor.to(device=device, dtype=target))
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def save_model(
    model: nn.Module, file: Path, metadata: dict[str, str], dtype: torch.dtype = torch.float16
) -> None:
    """Write all tensors, floating ones as `dtype`, and the configuration, as safetensors."""
    state = {
        key: value.detach().to(dtype if value.is_floating_point() else value.dtype).contiguous()
        for key, value in model.state_dict().items()
    }
    config = getattr(model, "config", None)
    if config is not None:
        metadata = {"config": json.dumps(dataclasses.asdict(config))} | metadata
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial:
        save_file(state, partial, metadata)
