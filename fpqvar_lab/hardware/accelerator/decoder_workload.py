"""The VQVAE's part of a workload: its convolution after each step, and its decoder, in 16 bits."""

from dataclasses import replace

from fpqvar_lab.hardware.accelerator.operation import Kind, Op
from fpqvar_lab.hardware.accelerator.storage import FULL_BYTES
from fpqvar_lab.var import VQVAEConfig, operations


def add_phi(ops: list[Op], vqvae: VQVAEConfig, step: int, batch: int, after: str) -> str:
    """Append the convolution that follows a step; returns its name."""
    channels, side = vqvae.code_channels, vqvae.patch_sizes[-1]
    phi = operations.Convolution(channels, channels, side)
    ops.append(_convolution(f"step {step}/phi", step, phi, batch, after))
    return ops[-1].name


def add_decoder(ops: list[Op], vqvae: VQVAEConfig, batch: int, after: str) -> None:
    """Append the decoder's convolutions, and its attention where it has any."""
    for index, layer in enumerate(operations.decoder_convolutions(vqvae)):
        ops.append(_convolution(f"decoder/{index}", None, layer, batch, after))
        after = ops[-1].name
    channels = vqvae.channels * vqvae.channel_multipliers[-1]
    columns = operations.decoder_attention_macs(vqvae) // channels
    if columns:
        op = Op("decoder/attention", Kind.DECODE, None, None, after=(after,))
        ops.append(replace(op, rows=batch, inner=channels, columns=columns))


def _convolution(
    name: str, step: int | None, layer: operations.Convolution, batch: int, after: str
) -> Op:
    counts = layer.operation("decoder", step, batch)
    return Op(
        name,
        Kind.DECODE,
        step,
        None,
        rows=batch * layer.side**2,
        inner=layer.inputs * layer.kernel**2,
        columns=layer.outputs,
        weight_bytes=FULL_BYTES * counts.parameters,
        activation_bytes=FULL_BYTES * (counts.inputs + counts.outputs),
        after=(after,),
    )
