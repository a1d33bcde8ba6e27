"""How much arithmetic and memory traffic one image costs, counted from the configuration alone.

Every count is a closed formula in the sizes of the model (arXiv 2404.02905); no tensor is made.
The tests compare the formulas with `torch.utils.flop_counter` on the real modules.

What is counted, for each kind of layer and each step:

- *MACs*: multiply-accumulate operations. One MAC is two FLOPs.
- *parameters*: weights and biases read from memory once per step, whatever the batch.
- *inputs* and *outputs*: activation elements read and written.
- *cache*: elements of keys and values read and written.

Attention is taken as fused: its scores never reach memory. With cached keys it needs no mask,
so step i costs n_i * (n_1 + ... + n_i) score entries and nothing is computed in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from fpqvar_lab.var.config import VARConfig, VQVAEConfig

QUANTIZED_LAYERS = ("mat_qkv", "proj", "fc1", "fc2")
"""The four linear layers of a block that FPQVAR quantizes (arXiv 2505.16335)."""

Field = Literal["macs", "parameters", "inputs", "outputs", "cache_read", "cache_written"]


@dataclass(frozen=True)
class Operation:
    """One kind of layer in one step, all its copies together.

    Args:
        layer: the layer's name in the model, or "attention", "phi", "decoder".
        step: the step it runs in, from 0; None where it runs once per image.
        macs: multiply-accumulate operations.
        parameters: weight and bias elements read.
        inputs: activation elements read.
        outputs: activation elements written.
        cache_read: key and value elements read.
        cache_written: key and value elements written.
        copies: how many equal layers (blocks) the counts add up.
    """

    layer: str
    step: int | None
    macs: int
    parameters: int = 0
    inputs: int = 0
    outputs: int = 0
    cache_read: int = 0
    cache_written: int = 0
    copies: int = 1


@dataclass(frozen=True)
class Precision:
    """Bits that one stored element takes, its fraction of the scales included.

    Args:
        weights: bits of a weight of the block's four linear layers.
        activations: bits of an input of these layers.
        cache: bits of a cached key or value.
        other: bits of everything else.
    """

    weights: float = 16.0
    activations: float = 16.0
    cache: float = 16.0
    other: float = 16.0


FP16 = Precision()
W8A8 = Precision(weights=8.0, activations=8.0)
W6A6 = Precision(weights=6.0, activations=6.0)
W4A4 = Precision(weights=4 + 16 / 128, activations=4 + 16 / 128)
"""4 bits per element and a 16-bit scale for each group of 128."""
W4A4KV6 = Precision(weights=4 + 16 / 128, activations=4 + 16 / 128, cache=6 + 16 / 64)
"""As W4A4, with 6-bit keys and values and a 16-bit scale for each head of 64 channels."""


def transformer_operations(
    config: VARConfig, batch: int = 1, guidance: bool = True
) -> tuple[Operation, ...]:
    """Operations of the transformer while it samples `batch` images with cached keys and values.

    Args:
        config: sizes of the model.
        batch: number of images sampled together.
        guidance: whether each image also needs an unconditional pass, which doubles the rows.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    rows = batch * (2 if guidance else 1)
    found = list(_condition(config, rows))
    seen_by_step = accumulate(config.tokens_per_step)
    for step, (new, seen) in enumerate(zip(config.tokens_per_step, seen_by_step, strict=True)):
        if step > 0:
            found.append(
                _linear("word_embed", step, batch * new, config.code_channels, config.width)
            )
        found += _block(config, step, rows, new, seen)
        found.append(_linear("head", step, rows * new, config.width, config.vocabulary))
    return tuple(found)


def vqvae_operations(config: VQVAEConfig, batch: int = 1) -> tuple[Operation, ...]:
    """Operations that turn codes into `batch` images: phi after each step, then the decoder.

    Guidance doubles nothing here: only the chosen codes reach the VQVAE.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    side, channels = config.patch_sizes[-1], config.code_channels
    phi = Convolution(channels, channels, side)
    steps = [phi.operation("phi", step, batch) for step in range(len(config.patch_sizes))]
    parts = [part.operation("decoder", None, batch) for part in decoder_convolutions(config)]
    decoder = Operation(
        "decoder",
        None,
        macs=total(parts) + batch * decoder_attention_macs(config),
        parameters=total(parts, "parameters"),
        inputs=total(parts, "inputs"),
        outputs=total(parts, "outputs"),
    )
    return (*steps, decoder)


def decoder_convolutions(config: VQVAEConfig) -> tuple[Convolution, ...]:
    """The convolutions of the VQVAE's decoder, attention's projections among them, in order."""
    return tuple(_decoder(config))


def decoder_attention_macs(config: VQVAEConfig) -> int:
    """MACs of one image in the two products of the decoder's attention layers."""
    layers = (1 + config.residual_blocks + 1) * config.attention
    positions = config.patch_sizes[-1] ** 2
    return layers * 2 * positions * positions * config.channels * config.channel_multipliers[-1]


def parameter_counts(config: VARConfig) -> dict[str, int]:
    """Parameters stored in a VAR by layer; the values add up to the model's size."""
    width, hidden, depth = config.width, config.hidden, config.depth
    modulation = 6 * width * (width + 1)
    return {
        "mat_qkv": depth * (3 * width * width + 2 * width),
        "proj": depth * (width * width + width),
        "fc1": depth * (hidden * width + hidden),
        "fc2": depth * (hidden * width + width),
        "ada_lin": modulation + depth * 6 * width if config.shared_aln else depth * modulation,
        "head": config.vocabulary * (width + 1),
        "head_nm": 2 * width * (width + 1),
        "word_embed": width * (config.code_channels + 1),
        "other": width * (config.classes + 1 + config.tokens + config.steps)
        + config.patch_sizes[0] ** 2 * width
        + depth * config.heads,
    }


def select(
    operations: Iterable[Operation], layer: str | None = None, step: int | None = None
) -> tuple[Operation, ...]:
    """The operations of one layer, of one step, or of both at once."""
    return tuple(
        operation
        for operation in operations
        if layer in (None, operation.layer) and step in (None, operation.step)
    )


def total(operations: Iterable[Operation], field: Field = "macs") -> int:
    """Sum of one count over operations."""
    return sum(getattr(operation, field) for operation in operations)


def by_layer(operations: Iterable[Operation], field: Field = "macs") -> dict[str, int]:
    """Sum of one count for each layer, in order of first appearance."""
    sums: dict[str, int] = {}
    for operation in operations:
        sums[operation.layer] = sums.get(operation.layer, 0) + getattr(operation, field)
    return sums


def parameter_bytes(operation: Operation, precision: Precision = FP16) -> float:
    """Bytes of weights that an operation reads."""
    return operation.parameters * _bits(operation, precision.weights, precision) / 8


def activation_bytes(operation: Operation, precision: Precision = FP16) -> float:
    """Bytes of activations that an operation reads and writes.

    Only what enters a quantized layer is narrow; its output leaves at `precision.other`.
    """
    read = operation.inputs * _bits(operation, precision.activations, precision)
    return (read + operation.outputs * precision.other) / 8


def cache_bytes(operation: Operation, precision: Precision = FP16) -> float:
    """Bytes of keys and values that an operation reads and writes."""
    return (operation.cache_read + operation.cache_written) * precision.cache / 8


def memory_bytes(operation: Operation, precision: Precision = FP16) -> float:
    """Bytes of weights and of cache: the traffic left when activations stay on the chip."""
    return parameter_bytes(operation, precision) + cache_bytes(operation, precision)


def _condition(config: VARConfig, rows: int) -> tuple[Operation, ...]:
    """The two layers that see the class only, so that once per image is enough."""
    width = config.width
    copies = 1 if config.shared_aln else config.depth
    return (
        _linear("ada_lin", None, rows, width, 6 * width, copies=copies),
        _linear("head_nm", None, rows, width, 2 * width),
    )


def _block(config: VARConfig, step: int, rows: int, new: int, seen: int) -> tuple[Operation, ...]:
    width, hidden, depth = config.width, config.hidden, config.depth
    attention = Operation(
        layer="attention",
        step=step,
        macs=depth * 2 * rows * new * seen * width,
        inputs=depth * rows * new * width,
        outputs=depth * rows * new * width,
        cache_read=depth * 2 * rows * seen * width,
        cache_written=depth * 2 * rows * new * width,
        copies=depth,
    )
    return (
        _linear("mat_qkv", step, rows * new, width, 3 * width, 2 * width, depth),
        attention,
        _linear("proj", step, rows * new, width, width, copies=depth),
        _linear("fc1", step, rows * new, width, hidden, copies=depth),
        _linear("fc2", step, rows * new, hidden, width, copies=depth),
    )


def _linear(
    layer: str,
    step: int | None,
    rows: int,
    inputs: int,
    outputs: int,
    bias: int | None = None,
    copies: int = 1,
) -> Operation:
    return Operation(
        layer=layer,
        step=step,
        macs=copies * rows * inputs * outputs,
        parameters=copies * (inputs * outputs + (outputs if bias is None else bias)),
        inputs=copies * rows * inputs,
        outputs=copies * rows * outputs,
        copies=copies,
    )


def _bits(operation: Operation, narrow: float, precision: Precision) -> float:
    return narrow if operation.layer in QUANTIZED_LAYERS else precision.other


@dataclass(frozen=True)
class Convolution:
    """A convolution that keeps the side, with the GroupNorm before it where there is one.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        side: side of the square map, in positions.
        kernel: side of the square kernel.
        normalised: whether a GroupNorm comes before it.
    """

    inputs: int
    outputs: int
    side: int
    kernel: int = 3
    normalised: bool = False

    def operation(self, layer: str, step: int | None, batch: int) -> Operation:
        """Its counts for some images."""
        weights = self.inputs * self.outputs * self.kernel**2
        positions = batch * self.side**2
        return Operation(
            layer,
            step,
            macs=weights * positions,
            parameters=weights + self.outputs + 2 * self.inputs * self.normalised,
            inputs=self.inputs * positions,
            outputs=self.outputs * positions,
        )


def _decoder(config: VQVAEConfig) -> Iterator[Convolution]:
    sizes = [config.channels * multiplier for multiplier in config.channel_multipliers]
    side, top, last = config.patch_sizes[-1], sizes[-1], len(sizes) - 1
    yield Convolution(config.code_channels, config.code_channels, side)
    yield Convolution(config.code_channels, top, side)
    yield from _residual(top, top, side)
    if config.attention:
        yield from _attention_projections(top, side)
    yield from _residual(top, top, side)
    for level in reversed(range(len(sizes))):
        inputs, outputs = sizes[min(level + 1, last)], sizes[level]
        for block in range(config.residual_blocks + 1):
            yield from _residual(inputs if block == 0 else outputs, outputs, side)
            if config.attention and level == last:
                yield from _attention_projections(outputs, side)
        if level > 0:
            side *= 2
            yield Convolution(outputs, outputs, side)
    yield Convolution(sizes[0], config.image_channels, side, normalised=True)


def _residual(inputs: int, outputs: int, side: int) -> Iterator[Convolution]:
    yield Convolution(inputs, outputs, side, normalised=True)
    yield Convolution(outputs, outputs, side, normalised=True)
    if inputs != outputs:
        yield Convolution(inputs, outputs, side, kernel=1)


def _attention_projections(channels: int, side: int) -> Iterator[Convolution]:
    yield Convolution(channels, 3 * channels, side, kernel=1, normalised=True)
    yield Convolution(channels, channels, side, kernel=1)
