"""A VAR as a list of operations for an accelerator: by step, block and kind, in an order that can
run.

The totals are those of `fpqvar_lab.var.operations`, which the tests ask. Each recipe's own
quantizers say how many bits weights, inputs and cache take, scales included.

What is counted where: weights pass once per step, for both halves of guidance and the whole batch.
AdaLN runs once per image. Of the cache, only what earlier steps wrote is read from memory: a step's
own keys and values are still on the chip, and those of the last step are never written. Layers that
a recipe leaves alone have 16 bits. GALT's factors cost nothing: they join AdaLN's modulation.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from fpqvar_lab.hardware.accelerator.decoder_workload import add_decoder, add_phi
from fpqvar_lab.hardware.accelerator.operation import Kind, Op
from fpqvar_lab.hardware.accelerator.step_workload import Setting, StepWriter, product
from fpqvar_lab.method import Recipe, find_recipe
from fpqvar_lab.var import VARConfig, VQVAEConfig


def workload(
    config: VARConfig,
    recipe: Recipe | str,
    *,
    batch: int = 1,
    guidance: bool = True,
    vqvae: VQVAEConfig | None = None,
) -> tuple[Op, ...]:
    """All operations of sampling `batch` images, in the order of a program.

    Args:
        config: The sizes of the model.
        recipe: What is quantized, or the recipe's name.
        batch: How many images are sampled together.
        guidance: Whether each image also needs an unconditional pass, which doubles the rows.
        vqvae: If given, its convolution after each step and its decoder are part of the work.

    Raises:
        ValueError: for an unknown recipe, a batch below 1, or groups that do not fit the model.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    setting = Setting(config, find_recipe(recipe), batch, batch * (2 if guidance else 1))
    ops: list[Op] = []
    last, tokens = "", config.tokens_per_step
    for step, (new, seen) in enumerate(zip(tokens, accumulate(tokens), strict=True)):
        last = _add_step(ops, StepWriter(setting, step, new, seen, ops), last)
        if vqvae:
            last = add_phi(ops, vqvae, step, batch, last)
    if vqvae:
        add_decoder(ops, vqvae, batch, last)
    return tuple(ops)


def _add_step(ops: list[Op], writer: StepWriter, last: str) -> str:
    """Append one step, the conditions that are computed with the first one included."""
    setting, step = writer.setting, writer.step
    if step > 0:
        last = _add_embedding(ops, setting, step, writer.new, last)
    for block in range(setting.config.depth):
        if step == 0 and (block == 0 or not setting.config.shared_aln):
            _add_condition(ops, setting, setting.condition_of(block), block, parts=6)
        last = writer.add_block(block, last)
    if step == 0:
        _add_condition(ops, setting, "head_nm", None, parts=2)
    return writer.add_head(last)


def _add_embedding(ops: list[Op], setting: Setting, step: int, new: int, after: str) -> str:
    channels, width = setting.config.code_channels, setting.config.width
    op = Op(f"step {step}/word_embed", Kind.EMBED, step, None, after=(after,))
    ops.append(product(op, setting.batch * new, channels, width, width))
    return op.name


def _add_condition(
    ops: list[Op], setting: Setting, name: str, block: int | None, parts: int
) -> None:
    width = setting.config.width
    op = Op(name, Kind.CONDITION, None, block)
    ops.append(product(op, setting.passes, width, parts * width, parts * width))


def excerpt(ops: Sequence[Op], step: int | None) -> tuple[Op, ...]:
    """The operations of one step by themselves: what they need of others is there from the start.

    Raises:
        ValueError: when there are none.
    """
    found = [op for op in ops if op.step == step]
    if not found:
        raise ValueError(f"step {step} has no operations")
    names = {op.name for op in found}
    return tuple(
        replace(op, after=tuple(name for name in op.after if name in names)) for op in found
    )
