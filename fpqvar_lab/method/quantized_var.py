"""A VAR some of whose layers are quantized."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from fpqvar_lab.execution import EXECUTIONS, Execution, check, choose, processor_of
from fpqvar_lab.method.kv_cache import QuantKVCache, RequantizedKVCache
from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.method.recipe import Recipe
from fpqvar_lab.var import VAR, Cache, Modulation, VARConfig

_log = logging.getLogger(__name__)

KEPT_BYTES = 2 << 30
"""Up to so many bytes in all, unpacked weights are kept beside their codes."""


class QuantizedVAR(VAR):
    """A VAR some of whose layers are quantized; made by `quantize_model` or `load_quantized`.

    Args:
        config: the shape of the model.
        recipe: how the model is quantized.
    """

    def __init__(self, config: VARConfig, recipe: Recipe) -> None:
        super().__init__(config)
        self.recipe = recipe
        self.preparation = "reference, weights packed"

    def new_cache(self, batch: int) -> Sequence[Cache]:
        """An empty cache for each block, quantizing if the recipe says so."""
        if self.recipe.kv is None:
            return super().new_cache(batch)
        kind = QuantKVCache if self.recipe.kv_mode == "on-write" else RequantizedKVCache
        return [kind(self.recipe.kv) for _ in self.blocks]

    def logits(
        self,
        x: Tensor,
        modulation: Modulation,
        mask: Tensor | None = None,
        caches: Sequence[Cache] | None = None,
    ) -> Tensor:
        """As `VAR.logits`; layers that shift by step are told the step of each token first."""
        begin = caches[0].length if caches else 0
        runs = _runs(self.config.tokens_per_step, begin, begin + x.shape[1])
        for layer in self.quantized_layers().values():
            layer.token_steps = runs
        return super().logits(x, modulation, mask, caches)

    def teacher_forcing_cache(self, batch: int) -> Sequence[Cache] | None:
        """A cache, if it is quantized: then teacher forcing reads what sampling would."""
        return None if self.recipe.kv is None else self.new_cache(batch)

    def quantized_layers(self) -> dict[str, QuantLinear]:
        """The quantized layers by name."""
        return {name: m for name, m in self.named_modules() if isinstance(m, QuantLinear)}

    @property
    def linear_nbytes(self) -> int:
        """Bytes that the weights of the quantized layers take in memory, kept values counted.

        A buffer for unpacking, which all layers share, comes on top:
        `fpqvar_lab.execution.BUFFER_BYTES`.
        """
        return sum(layer.nbytes for layer in self.quantized_layers().values())

    def prepare(
        self,
        execution: Execution = "auto",
        *,
        device: str | torch.device | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> "QuantizedVAR":
        """Compute the quantized layers from now on as matrix products of exact operands.

        The operands are those of the reference, up to the order of summation in Hadamard
        transforms; results differ by the order of summation, and in bfloat16 by one rounding. What
        was chosen, and for which processor, is logged and kept in `preparation`.

        Args:
            execution: "auto" for the fastest on this processor, layer by layer, and never slower
                than float32; "reference" for each step by itself, as a model is before; "float32";
                "bfloat16", where all operands are exact in it; "int8", where each token and each
                output channel has one scale.
            device: where the model is to live; where it is, by default.
            kept_bytes: unpacked weights are kept if all of them together take no more; otherwise
                they are unpacked in every call, into memory that all layers share.

        Raises:
            ValueError: for another execution, or one that does not serve a layer; the message says
                why not, and what to do.
        """
        if execution not in EXECUTIONS:
            raise ValueError(f"execution {execution!r}; use one of {', '.join(EXECUTIONS)}")
        if device is not None:
            self.to(device)
        processor = processor_of(self.class_emb.weight.device)
        layers = self.quantized_layers()
        chosen: dict[str, Execution] = {}
        for name, layer in layers.items():
            sides = layer.weight.quantizer, layer.input_quantizer
            chosen[name] = choose(*sides, processor) if execution == "auto" else execution
            try:
                check(chosen[name], *sides, processor)
            except ValueError as error:
                raise ValueError(f"layer {name}: {error}") from error
        size = sum(_value_bytes(layer, chosen[name]) for name, layer in layers.items())
        for name, layer in layers.items():
            layer.execute(chosen[name], keep_values=size <= kept_bytes)
        self.preparation = _describe(chosen, processor.name, size <= kept_bytes)
        _log.info("%s", self.preparation)
        return self

    def materialize(self, *, compile: bool = False) -> "QuantizedVAR":  # noqa: A002
        """Keep the weights' values beside their codes: faster, for as much memory as before.

        Args:
            compile: whether inputs are quantized by compiled kernels too; the results are the same.
        """
        for layer in self.quantized_layers().values():
            layer.materialize()
            layer.input_quantizer = replace(layer.input_quantizer, compile=compile)
        return self


def _value_bytes(layer: QuantLinear, execution: Execution) -> int:
    size = {"int8": 1, "bfloat16": 2}.get(execution, 4)
    return prod(layer.weight.shape) * size


def _describe(chosen: dict[str, Execution], processor: str, kept: bool) -> str:
    counts = Counter(chosen.values())
    layers = ", ".join(f"{count} layers in {name}" for name, count in counts.items())
    state = "unpacked once" if kept else "unpacked in every call"
    return f"{layers or 'no quantized layers'}, weights {state}, on {processor}"


def _runs(tokens_per_step: Sequence[int], begin: int, end: int) -> list[tuple[int, int]]:
    """Which steps the tokens from `begin` to `end` belong to: (step, how many) in their order."""
    found, first = [], 0
    for step, tokens in enumerate(tokens_per_step):
        count = min(end, first + tokens) - max(begin, first)
        if count > 0:
            found.append((step, count))
        first += tokens
    return found
