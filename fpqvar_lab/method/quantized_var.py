"""A VAR some of whose layers are quantized."""

from collections.abc import Sequence
from dataclasses import replace

from fpqvar_lab.method.kv_cache import QuantKVCache, RequantizedKVCache
from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.method.recipe import Recipe
from fpqvar_lab.var import VAR, Cache, VARConfig


class QuantizedVAR(VAR):
    """A VAR some of whose layers are quantized; made by `quantize_model` or `load_quantized`.

    Args:
        config: the shape of the model.
        recipe: how the model is quantized.
    """

    def __init__(self, config: VARConfig, recipe: Recipe) -> None:
        super().__init__(config)
        self.recipe = recipe

    def new_cache(self, batch: int) -> Sequence[Cache]:
        """An empty cache for each block, quantizing if the recipe says so."""
        if self.recipe.kv is None:
            return super().new_cache(batch)
        kind = QuantKVCache if self.recipe.kv_mode == "on-write" else RequantizedKVCache
        return [kind(self.recipe.kv) for _ in self.blocks]

    def teacher_forcing_cache(self, batch: int) -> Sequence[Cache] | None:
        """A cache, if it is quantized: then teacher forcing reads what sampling would."""
        return None if self.recipe.kv is None else self.new_cache(batch)

    def quantized_layers(self) -> dict[str, QuantLinear]:
        """The quantized layers by name."""
        return {name: m for name, m in self.named_modules() if isinstance(m, QuantLinear)}

    def materialize(self, *, compile: bool = False) -> "QuantizedVAR":  # noqa: A002
        """Keep the weights' values beside their codes: faster, for as much memory as before.

        Args:
            compile: whether inputs are quantized by compiled kernels too; the results are the same.
        """
        for layer in self.quantized_layers().values():
            layer.materialize()
            layer.input_quantizer = replace(layer.input_quantizer, compile=compile)
        return self
