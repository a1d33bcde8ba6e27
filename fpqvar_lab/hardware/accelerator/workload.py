"""A VAR as a list of operations for an accelerator: by step, block and kind, in an order that can
run.

The totals are those of `fpqvar_lab.var.operations`, which the tests ask. Each recipe's own
quantizers say how many bits weights, inputs and cache take, scales included.

What is counted where: weights pass once a step, for both halves of guidance and the whole batch.
AdaLN runs once an image. Of the cache, only what earlier steps wrote is read from memory: a step's
own keys and values are still on the chip, and those of the last step are never written. Layers that
a recipe leaves alone have 16 bits. GALT's factors cost nothing: they join AdaLN's modulation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import accumulate

from fpqvar_lab.formats import DualFormat, IntFormat, format_to_text
from fpqvar_lab.method import LayerRecipe, Recipe, find_recipe
from fpqvar_lab.quantization import PerGroup, Quantizer, ScaleDtype
from fpqvar_lab.var import VARConfig, VQVAEConfig, operations

FULL_BYTES = 2
"""Of an element that is not quantized."""
_SCALE_BITS = {
    ScaleDtype.FLOAT32: 32,
    ScaleDtype.FLOAT16: 16,
    ScaleDtype.BFLOAT16: 16,
    ScaleDtype.E4M3: 8,
    ScaleDtype.UE5M3: 8,
    ScaleDtype.POWER_OF_TWO: 8,
}


class Kind(StrEnum):
    """What an operation does."""

    LINEAR = "linear"
    SCORES = "scores"
    VALUES = "values"
    SOFTMAX = "softmax"
    GELU = "gelu"
    NORM = "norm"
    """LayerNorm and AdaLN's modulation, a row at a time."""
    UNIT = "unit"
    """Queries and keys to unit length, a head at a time."""
    CONDITION = "condition"
    """AdaLN's own product, once an image."""
    HADAMARD = "hadamard"
    QUANTIZE = "quantize"
    CACHE_WRITE = "cache-write"
    CACHE_READ = "cache-read"
    HEAD = "head"
    EMBED = "embed"
    RESIDUAL = "residual"
    SAMPLING = "sampling"
    DECODE = "decode"
    """The VQVAE's convolution after a step, and its decoder."""


PRODUCTS = (Kind.LINEAR, Kind.HEAD, Kind.EMBED, Kind.CONDITION, Kind.DECODE)
"""The kinds that multiply by weights."""


@dataclass(frozen=True)
class Op:
    """One operation of one block in one step.

    Args:
        name: such as `step 3/blocks.7/fc1`; steps and blocks count from 0.
        kind: what it does.
        step: in which it runs; None for what runs once an image.
        block: to which it belongs; None outside the blocks.
        rows: of the product (rows, inner) x (inner, columns), or of the elements (rows, columns).
        inner: see `rows`; 0 where there is no product.
        columns: see `rows`.
        products: of that shape.
        elements: of element-wise work.
        weight_bytes: read from the external memory.
        cache_read_bytes: of keys and values, read from the external memory.
        cache_written_bytes: of keys and values, written to the external memory.
        activation_bytes: that enter and leave on the chip.
        input_format: of a product's input, or of what a quantizer gives.
        weight_format: of a product's weights.
        group: elements that share a scale in a quantizer's result; 0 for a whole row.
        heads: equal parts that can follow each other; 1 where there are none.
        after: names of the operations whose results it needs.
    """

    name: str
    kind: Kind
    step: int | None
    block: int | None
    rows: int = 0
    inner: int = 0
    columns: int = 0
    products: int = 1
    elements: int = 0
    weight_bytes: float = 0
    cache_read_bytes: float = 0
    cache_written_bytes: float = 0
    activation_bytes: float = 0
    input_format: str = "fp16"
    weight_format: str = "fp16"
    group: int = 0
    heads: int = 1
    after: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.rows * self.inner * self.columns * self.products


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
        config: sizes of the model.
        recipe: what is quantized, or its name.
        batch: images sampled together.
        guidance: whether each image also needs an unconditional pass, which doubles the rows.
        vqvae: if given, its convolution after each step and its decoder are part of the work.

    Raises:
        ValueError: for an unknown recipe, a batch below 1, or groups that do not fit the model.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    pictures = batch * (2 if guidance else 1)
    program = _Program(config, find_recipe(recipe), batch, pictures, vqvae)
    program.add_image()
    return tuple(program.ops)


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


def with_bfloat16_scales(recipe: Recipe | str) -> Recipe:
    """The recipe with scales in bfloat16, as the units of Part VI store them."""
    found = find_recipe(recipe)

    def stored(quantizer: Quantizer) -> Quantizer:
        return replace(quantizer, scale_dtype=ScaleDtype.BFLOAT16)

    layers = tuple(
        (pattern, replace(rule, weight=stored(rule.weight), input=stored(rule.input)))
        for pattern, rule in found.layers
    )
    return replace(found, layers=layers, kv=None if found.kv is None else stored(found.kv))


def stored_bytes(quantizer: Quantizer | None, rows: int, length: int) -> float:
    """Bytes of a matrix (rows, length): 16 bits an element, or a quantizer's codes and scales.

    Raises:
        ValueError: when the quantizer's groups do not divide the rows.
    """
    if quantizer is None:
        return FULL_BYTES * rows * length
    count = math.prod(quantizer.granularity.scale_shape((rows, length)))
    bits = rows * length * quantizer.format.bits + count * _bits_of_scale(quantizer)
    return bits / 8


def _bits_of_scale(quantizer: Quantizer) -> int:
    bits, fmt = _SCALE_BITS[quantizer.scale_dtype], quantizer.format
    if isinstance(fmt, DualFormat):
        return 2 * bits if fmt.scale_ratio == "free" else bits + 8
    has_zero_point = isinstance(fmt, IntFormat) and not fmt.symmetric
    return bits + 8 if has_zero_point else bits


def _name_of(quantizer: Quantizer) -> str:
    return format_to_text(quantizer.format).lower().replace("_", "-")


@dataclass
class _Program:
    """Writes `works` one after the other; what adds some returns the last one's name."""

    config: VARConfig
    recipe: Recipe
    batch: int
    pictures: int
    vqvae: VQVAEConfig | None
    ops: list[Op] = field(default_factory=list)

    def add(self, op: Op) -> str:
        self.ops.append(op)
        return op.name

    def add_image(self) -> None:
        last, tokens = "", self.config.tokens_per_step
        for step, (new, seen) in enumerate(zip(tokens, accumulate(tokens), strict=True)):
            if step > 0:
                last = self._add_embedding(step, new, last)
            scope = _Step(self, step, new, seen)
            for block in range(self.config.depth):
                if step == 0 and (block == 0 or not self.config.shared_aln):
                    self.add_condition(self.condition_of(block), block, parts=6)
                last = scope.add_block(block, last)
            last = scope.add_head(last)
            if self.vqvae:
                last = self.add_phi(step, last)
        if self.vqvae:
            self.add_decoder(last)

    def condition_of(self, block: int) -> str:
        return f"blocks.{0 if self.config.shared_aln else block}/ada_lin"

    def add_condition(self, name: str, block: int | None, parts: int) -> str:
        width = self.config.width
        op = Op(name, Kind.CONDITION, None, block)
        return self.add(_product(op, self.pictures, width, parts * width, parts * width))

    def _add_embedding(self, step: int, new: int, after: str) -> str:
        channels, width = self.config.code_channels, self.config.width
        op = Op(f"step {step}/word_embed", Kind.EMBED, step, None, after=(after,))
        return self.add(_product(op, self.batch * new, channels, width, width))

    def add_phi(self, step: int, after: str) -> str:
        assert self.vqvae is not None
        channels, side = self.vqvae.code_channels, self.vqvae.patch_sizes[-1]
        phi = operations.Convolution(channels, channels, side)
        return self._add_convolution(f"step {step}/phi", step, phi, after)

    def add_decoder(self, after: str) -> str:
        assert self.vqvae is not None
        for index, layer in enumerate(operations.decoder_convolutions(self.vqvae)):
            after = self._add_convolution(f"decoder/{index}", None, layer, after)
        rows, channels = self.batch, self.vqvae.channels * self.vqvae.channel_multipliers[-1]
        columns = operations.decoder_attention_macs(self.vqvae) // channels
        if not columns:
            return after
        op = Op("decoder/attention", Kind.DECODE, None, None, after=(after,))
        return self.add(replace(op, rows=rows, inner=channels, columns=columns))

    def _add_convolution(
        self, name: str, step: int | None, layer: operations.Convolution, after: str
    ) -> str:
        counts = layer.operation("decoder", step, self.batch)
        op = Op(
            name,
            Kind.DECODE,
            step,
            None,
            rows=self.batch * layer.side**2,
            inner=layer.inputs * layer.kernel**2,
            columns=layer.outputs,
            weight_bytes=FULL_BYTES * counts.parameters,
            activation_bytes=FULL_BYTES * (counts.inputs + counts.outputs),
            after=(after,),
        )
        return self.add(op)


@dataclass(frozen=True)
class _Step:
    """One step of a program: `new` tokens an image, which see `seen` in all."""

    program: _Program
    step: int
    new: int
    seen: int

    @property
    def _config(self) -> VARConfig:
        return self.program.config

    @property
    def _rows(self) -> int:
        return self.program.pictures * self.new

    def add_block(self, block: int, last: str) -> str:
        add, width, hidden = self._add_elementwise, self._config.width, self._config.hidden
        condition = self.program.condition_of(block)
        found = add("norm1", Kind.NORM, block, width, last, condition)
        found = self._add_linear("attn.mat_qkv", block, width, 3 * width, 2 * width, found)
        found = self._add_attention(block, found)
        found = self._add_linear("attn.proj", block, width, width, width, found)
        middle = add("residual1", Kind.RESIDUAL, block, width, found, last)
        found = add("norm2", Kind.NORM, block, width, middle, condition)
        found = self._add_linear("ffn.fc1", block, width, hidden, hidden, found)
        found = add("gelu", Kind.GELU, block, hidden, found)
        found = self._add_linear("ffn.fc2", block, hidden, width, width, found)
        end = add("residual2", Kind.RESIDUAL, block, width, found, middle)
        if self.step < self._config.steps - 1:
            self._add_cache_write(block)
        return end

    def add_head(self, last: str) -> str:
        width, vocabulary = self._config.width, self._config.vocabulary
        if self.step == 0:
            self.program.add_condition("head_nm", None, parts=2)
        norm = self._add_elementwise("head_norm", Kind.NORM, None, width, last, "head_nm")
        op = self._work("head", Kind.HEAD, None, norm)
        logits = self.program.add(_product(op, self._rows, width, vocabulary, vocabulary))
        return self._add_elementwise("sampling", Kind.SAMPLING, None, vocabulary, logits)

    def _add_linear(
        self, layer: str, block: int, inner: int, columns: int, bias: int, after: str
    ) -> str:
        rule = self.program.recipe.rule_for(f"blocks.{block}.{layer}")
        name = layer.partition(".")[2]
        if rule is not None and rule.hadamard is not None:
            label = f"{name}.hadamard"
            after = self._add_elementwise(label, Kind.HADAMARD, block, inner, after)
        if rule is not None:
            label = f"{name}.quantize"
            after = self._add_quantizer(label, rule.input, block, self._rows, inner, 1, after)
        op = self._work(name, Kind.LINEAR, block, after)
        return self.program.add(_product(op, self._rows, inner, columns, bias, rule))

    def _add_quantizer(
        self,
        name: str,
        quantizer: Quantizer,
        block: int,
        rows: int,
        length: int,
        heads: int,
        after: str,
    ) -> str:
        granularity = quantizer.granularity
        op = replace(
            self._work(name, Kind.QUANTIZE, block, after),
            rows=rows,
            columns=length,
            elements=rows * length,
            activation_bytes=FULL_BYTES * rows * length + stored_bytes(quantizer, rows, length),
            input_format=_name_of(quantizer),
            group=granularity.size if isinstance(granularity, PerGroup) else 0,
            heads=heads,
        )
        return self.program.add(op)

    def _add_attention(self, block: int, qkv: str) -> str:
        heads, head_dim = self._config.heads, self._config.head_dim
        channels, kv = 2 * self._config.width, self.program.recipe.kv
        ready = self._add_elementwise("unit", Kind.UNIT, block, channels, qkv, heads=heads)
        if kv is not None:
            vectors = 2 * self._rows * heads
            ready = self._add_quantizer(
                "cache-quantize", kv, block, vectors, head_dim, heads, ready
            )
        read = self._add_cache_read(block) if self.step else ""
        rows, products = self.new, self.program.pictures * heads
        op = self._work("scores", Kind.SCORES, block, ready, read)
        op = replace(op, rows=rows, products=products, heads=heads)
        scores = self.program.add(replace(op, inner=head_dim, columns=self.seen))
        entries = heads * self.seen
        softmax = self._add_elementwise(
            "softmax", Kind.SOFTMAX, block, entries, scores, heads=heads
        )
        op = self._work("values", Kind.VALUES, block, softmax)
        op = replace(op, rows=rows, products=products, heads=heads)
        return self.program.add(replace(op, inner=self.seen, columns=head_dim))

    def _add_cache_read(self, block: int) -> str:
        op = self._work("cache-read", Kind.CACHE_READ, block)
        count = self._cache_bytes(self.seen - self.new)
        return self.program.add(replace(op, cache_read_bytes=count, heads=self._config.heads))

    def _add_cache_write(self, block: int) -> str:
        source = "unit" if self.program.recipe.kv is None else "cache-quantize"
        op = self._work("cache-write", Kind.CACHE_WRITE, block, self._name(source, block))
        return self.program.add(replace(op, cache_written_bytes=self._cache_bytes(self.new)))

    def _cache_bytes(self, tokens: int) -> float:
        """Of the keys and values of one block for some tokens of each picture."""
        vectors = 2 * self.program.pictures * tokens * self._config.heads
        return stored_bytes(self.program.recipe.kv, vectors, self._config.head_dim)

    def _add_elementwise(
        self, name: str, kind: Kind, block: int | None, channels: int, *after: str, heads: int = 1
    ) -> str:
        elements = self._rows * channels
        op = replace(
            self._work(name, kind, block, *after),
            rows=self._rows,
            columns=channels,
            elements=elements,
            activation_bytes=2 * FULL_BYTES * elements,
            heads=heads,
        )
        return self.program.add(op)

    def _work(self, name: str, kind: Kind, block: int | None, *after: str) -> Op:
        needed = tuple(filter(None, after))
        return Op(self._name(name, block), kind, self.step, block, after=needed)

    def _name(self, name: str, block: int | None) -> str:
        place = "" if block is None else f"blocks.{block}/"
        return f"step {self.step}/{place}{name}"


def _product(
    op: Op, rows: int, inner: int, columns: int, bias: int, rule: LayerRecipe | None = None
) -> Op:
    """The work of a linear layer, as its recipe stores weights and inputs."""
    weight, given = (None, None) if rule is None else (rule.weight, rule.input)
    return replace(
        op,
        rows=rows,
        inner=inner,
        columns=columns,
        weight_bytes=stored_bytes(weight, columns, inner) + FULL_BYTES * bias,
        activation_bytes=stored_bytes(given, rows, inner) + FULL_BYTES * rows * columns,
        input_format="fp16" if given is None else _name_of(given),
        weight_format="fp16" if weight is None else _name_of(weight),
    )
