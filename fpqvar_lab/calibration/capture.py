"""What a model's linear layers read while it samples: captured tokens, or statistics of them.

Layers are watched while the model samples images with guidance, as in use, and not on
teacher-forced data: quantizers meet the inputs that the model's own samples lead to. Both halves
of the guided batch are in everything here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fpqvar_lab.calibration.activations import (
    Activations,
    Shapes,
    allocate,
    allocate_in_file,
    size_in_bytes,
)
from fpqvar_lab.calibration.channel_statistics import ChannelStatistics
from fpqvar_lab.files import replacing
from fpqvar_lab.var import VAR, VQVAE, sample

Patterns = str | Sequence[str]
Use = Callable[[str, int, Tensor], None]
"""Takes a layer's name, a step and the tokens (n, channels) that the layer reads there."""


@dataclass(frozen=True)
class CalibrationSet:
    """Which images are sampled for calibration: labels spread over the classes, and a seed.

    Args:
        classes: how many classes the model has.
        images: how many images are sampled; no class gets two more than another. The default, 100
            labels at all steps, is meant for the large models.
        seed: the seed that chooses the labels and their order, and samples the images.
    """

    classes: int
    images: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("classes", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not positive")

    @property
    def labels(self) -> Tensor:
        """The class of each image, (images,) int64."""
        generator = torch.Generator().manual_seed(self.seed)
        rounds = -(-self.images // self.classes)
        orders = [torch.randperm(self.classes, generator=generator) for _ in range(rounds)]
        return torch.cat(orders)[: self.images]

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A new source of randomness for `sample`, always in the same state."""
        return torch.Generator(device).manual_seed(self.seed)


def layer_names(var: VAR, layers: Patterns = "*") -> list[str]:
    """Names of the linear layers that read all tokens of each step, and match a pattern.

    These are the blocks' four, and the head. AdaLN's layers run once per image, and `word_embed`
    does not run at the first step: neither is among them.

    Args:
        var: the model.
        layers: one pattern or several, as for file names: ``*.ffn.fc1``.

    Raises:
        ValueError: a pattern matches nothing.
    """
    names = [
        name
        for name, module in var.named_modules()
        if isinstance(module, nn.Linear) and "ada_lin" not in name and name != "word_embed"
    ]
    patterns = [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns or [""]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"no layer matches {pattern!r}; there are {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def capture(
    var: VAR,
    vqvae: VQVAE,
    labels: Tensor | CalibrationSet,
    layers: Patterns = "*.ffn.fc1",
    *,
    generator: torch.Generator | None = None,
    cfg: float = 1.5,
    top_k: int = 900,
    top_p: float = 0.96,
    batch_size: int = 50,
    tokens: int | None = None,
    dtype: torch.dtype = torch.float32,
    spill: Path | str | None = None,
) -> Activations:
    """The inputs of linear layers, by layer and step, while the model samples.

    Storage is allocated before the first image and is exactly `capture_bytes`: the sum over
    layers and steps of tokens x channels x bytes of the dtype, where a step keeps at most `tokens`
    tokens. Beyond that memory holds what sampling one batch needs.

    Args:
        var: the transformer.
        vqvae: the VQVAE it was trained with.
        labels: the classes of the images, (images,) int64; or a calibration set, which brings its
            generator.
        layers: which layers to watch, as patterns of `layer_names`.
        generator: the source of randomness for sampling, on the models' device.
        cfg: the strength of the guidance; this and the next two are as for `sample`.
        top_k: how many codes are kept at each token.
        top_p: how much probability is kept at each token.
        batch_size: how many images are sampled at a time. An image depends on its index in the
            batch.
        tokens: how many tokens are kept of each step, all with the same probability (reservoir
            sampling, seeded by the generator's initial seed). They are the same tokens in all
            layers, whichever layers are captured. None keeps all.
        dtype: the dtype in which the inputs are stored.
        spill: a safetensors file to write to instead of memory, replacing what is there;
            `Activations.open` finds it again. The tensors are then read from it when asked for.

    Returns:
        A mapping from each layer's name, as in ``var.named_modules()``, to one tensor (tokens,
        channels) per step, on the CPU.

    Raises:
        ValueError: a pattern matches nothing, there are no labels, a count is not positive, or
            `sample` refuses the labels.
    """
    sampling = _sampling(var, labels, generator, cfg, top_k, top_p, batch_size)
    names = layer_names(var, layers)
    shapes = _shapes(var, names, len(sampling.labels), tokens)

    def fill(kept: Mapping[str, Sequence[Tensor]]) -> None:
        reservoirs = {
            (name, step): _Reservoir(rows, (sampling.seed, step))
            for name, steps in kept.items()
            for step, rows in enumerate(steps)
        }
        sampling.watch(var, vqvae, names, lambda name, step, x: reservoirs[name, step].add(x))

    if spill is None:
        kept = allocate(shapes, dtype)
        fill(kept)
        return Activations(kept)
    with replacing(Path(spill)) as partial:
        fill(allocate_in_file(shapes, dtype, partial))
    return Activations.open(spill)


def capture_bytes(
    var: VAR,
    images: int,
    layers: Patterns = "*.ffn.fc1",
    *,
    tokens: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> int:
    """The bytes that `capture` would store, without capturing."""
    return size_in_bytes(_shapes(var, layer_names(var, layers), images, tokens), dtype)


def observe(
    var: VAR,
    vqvae: VQVAE,
    labels: Tensor | CalibrationSet,
    layers: Patterns = "*.ffn.fc1",
    *,
    generator: torch.Generator | None = None,
    cfg: float = 1.5,
    top_k: int = 900,
    top_p: float = 0.96,
    batch_size: int = 50,
) -> Mapping[str, Sequence[ChannelStatistics]]:
    """Statistics of the inputs of linear layers, by layer and step, while the model samples.

    Arguments and errors are those of `capture`. No activation outlives its batch; what is kept is
    a few float64 vectors of channels for each layer and step.
    """
    sampling = _sampling(var, labels, generator, cfg, top_k, top_p, batch_size)
    names = layer_names(var, layers)
    found: dict[str, list[ChannelStatistics]] = {name: [] for name in names}

    def add(name: str, step: int, x: Tensor) -> None:
        statistics = ChannelStatistics.of(x)
        if step == len(found[name]):
            found[name].append(statistics)
        else:
            found[name][step] = found[name][step].merge(statistics)

    sampling.watch(var, vqvae, names, add)
    return {name: tuple(steps) for name, steps in found.items()}


@dataclass(frozen=True)
class _Sampling:
    """How images are sampled while layers are watched."""

    labels: Tensor
    generator: torch.Generator | None
    cfg: float
    top_k: int
    top_p: float
    batch_size: int

    @property
    def seed(self) -> int:
        return torch.initial_seed() if self.generator is None else self.generator.initial_seed()

    def watch(self, var: VAR, vqvae: VQVAE, names: Sequence[str], use: Use) -> None:
        with _hooks(var, names, use):
            for batch in tqdm(
                self.labels.split(self.batch_size), desc="calibration", unit="batch", disable=None
            ):
                sample(
                    var,
                    vqvae,
                    batch,
                    cfg=self.cfg,
                    top_k=self.top_k,
                    top_p=self.top_p,
                    generator=self.generator,
                )


def _sampling(
    var: VAR,
    labels: Tensor | CalibrationSet,
    generator: torch.Generator | None,
    cfg: float,
    top_k: int,
    top_p: float,
    batch_size: int,
) -> _Sampling:
    device = var.class_emb.weight.device
    if isinstance(labels, CalibrationSet):
        if generator is not None:
            raise ValueError("a CalibrationSet brings its generator; pass its labels instead")
        generator = labels.generator(device)
    labels = labels.labels if isinstance(labels, CalibrationSet) else labels
    if len(labels) == 0:
        raise ValueError("labels is empty; give one for each image to sample")
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is not positive")
    return _Sampling(labels.to(device), generator, cfg, top_k, top_p, batch_size)


@contextmanager
def _hooks(var: VAR, names: Sequence[str], use: Use) -> Iterator[None]:
    calls = dict.fromkeys(names, 0)

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            step = calls[name] % var.config.steps
            calls[name] += 1
            # What is made of inference tensors outside inference mode can enter a gradient later.
            with torch.inference_mode(False), torch.no_grad():
                use(name, step, inputs[0].flatten(0, -2))

        return see

    handles = [var.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Reservoir:
    """Algorithm R (Vitter, 1985): the first rows fill it, row i then replaces a random earlier one
    with probability capacity / i.
    """

    def __init__(self, rows: Tensor, seed: tuple[int, int]) -> None:
        self.rows, self.seen = rows, 0
        self.random = np.random.default_rng(seed)

    def add(self, x: Tensor) -> None:
        room = min(max(len(self.rows) - self.seen, 0), len(x))
        self.rows[self.seen : self.seen + room] = x[:room].to("cpu", self.rows.dtype)
        numbers = np.arange(self.seen + room, self.seen + len(x))
        slots = self.random.integers(0, numbers + 1)
        self.seen += len(x)
        # Of two rows that fall on one slot the later stays: np.unique gives the first, so reverse.
        unique, first = np.unique(slots[::-1], return_index=True)
        kept = unique < len(self.rows)
        chosen = room + len(numbers) - 1 - first[kept]
        if len(chosen):
            picked = x[torch.from_numpy(chosen).to(x.device)]
            self.rows[torch.from_numpy(unique[kept])] = picked.to("cpu", self.rows.dtype)


def _shapes(var: VAR, names: Sequence[str], images: int, tokens: int | None) -> Shapes:
    if tokens is not None and tokens < 1:
        raise ValueError(f"tokens {tokens} is not positive; use None to keep all")
    seen = [2 * images * count for count in var.config.tokens_per_step]
    kept = seen if tokens is None else [min(tokens, count) for count in seen]
    channels = {name: var.get_submodule(name).get_parameter("weight").shape[1] for name in names}
    return {name: [(count, channels[name]) for count in kept] for name in names}
