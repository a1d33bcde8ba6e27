"""One step of a VAR as operations: its blocks one after the other, and the head."""

from dataclasses import dataclass, replace

from fpqvar_lab.hardware.accelerator.operation import Kind, Op
from fpqvar_lab.hardware.accelerator.storage import FULL_BYTES, stored_bytes
from fpqvar_lab.method import LayerRecipe, Recipe
from fpqvar_lab.quantization import PerGroup, Quantizer
from fpqvar_lab.var import VARConfig


@dataclass(frozen=True)
class Setting:
    """What all steps of a workload share.

    Args:
        config: The sizes of the model.
        recipe: The recipe that says what is quantized, and how.
        batch: How many images are sampled together.
        passes: How many sequences pass through the blocks: twice the batch with guidance.
    """

    config: VARConfig
    recipe: Recipe
    batch: int
    passes: int

    def condition_of(self, block: int) -> str:
        """The name of the operation that computes a block's modulation."""
        return f"blocks.{0 if self.config.shared_aln else block}/ada_lin"


@dataclass(frozen=True)
class StepWriter:
    """Appends the operations of one step to a list.

    What adds operations returns the name of the last one, which the next ones wait for.

    Args:
        setting: The model, recipe and batch that all steps share.
        step: Which step it is, from 0.
        new: How many tokens per image the step computes.
        seen: How many tokens per image they attend to, themselves included.
        ops: The list that operations are appended to.
    """

    setting: Setting
    step: int
    new: int
    seen: int
    ops: list[Op]

    @property
    def _config(self) -> VARConfig:
        return self.setting.config

    @property
    def _rows(self) -> int:
        return self.setting.passes * self.new

    def add_block(self, block: int, last: str) -> str:
        """Append one block, which reads the result of `last`."""
        add, width, hidden = self._add_elementwise, self._config.width, self._config.hidden
        condition = self.setting.condition_of(block)
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
        """Append the layers that give logits, and sampling from these."""
        width, vocabulary = self._config.width, self._config.vocabulary
        norm = self._add_elementwise("head_norm", Kind.NORM, None, width, last, "head_nm")
        op = self._op("head", Kind.HEAD, None, norm)
        logits = self._add(product(op, self._rows, width, vocabulary, vocabulary))
        return self._add_elementwise("sampling", Kind.SAMPLING, None, vocabulary, logits)

    def _add(self, op: Op) -> str:
        self.ops.append(op)
        return op.name

    def _add_linear(
        self, layer: str, block: int, inner: int, columns: int, bias: int, after: str
    ) -> str:
        rule = self.setting.recipe.rule_for(f"blocks.{block}.{layer}")
        name = layer.partition(".")[2]
        if rule is not None and rule.hadamard is not None:
            label = f"{name}.hadamard"
            after = self._add_elementwise(label, Kind.HADAMARD, block, inner, after)
        if rule is not None:
            op = self._op(f"{name}.quantize", Kind.QUANTIZE, block, after)
            after = self._add(_quantized(op, rule.input, self._rows, inner))
        op = self._op(name, Kind.LINEAR, block, after)
        return self._add(product(op, self._rows, inner, columns, bias, rule))

    def _add_attention(self, block: int, qkv: str) -> str:
        heads, head_dim = self._config.heads, self._config.head_dim
        ready = self._add_elementwise(
            "unit", Kind.UNIT, block, 2 * self._config.width, qkv, heads=heads
        )
        if self.setting.recipe.kv is not None:
            op = self._op("cache-quantize", Kind.QUANTIZE, block, ready)
            op = _quantized(op, self.setting.recipe.kv, 2 * self._rows * heads, head_dim)
            ready = self._add(replace(op, heads=heads))
        read = self._add_cache_read(block) if self.step else ""
        scores = self._add_product("scores", Kind.SCORES, block, head_dim, self.seen, ready, read)
        entries = heads * self.seen
        softmax = self._add_elementwise(
            "softmax", Kind.SOFTMAX, block, entries, scores, heads=heads
        )
        return self._add_product("values", Kind.VALUES, block, self.seen, head_dim, softmax)

    def _add_product(
        self, name: str, kind: Kind, block: int, inner: int, columns: int, *after: str
    ) -> str:
        """One of the two products with keys and values, for all heads."""
        heads = self._config.heads
        op = replace(
            self._op(name, kind, block, *after),
            rows=self.new,
            inner=inner,
            columns=columns,
            products=self.setting.passes * heads,
            heads=heads,
        )
        return self._add(op)

    def _add_cache_read(self, block: int) -> str:
        op = self._op("cache-read", Kind.CACHE_READ, block)
        count = self._cache_bytes(self.seen - self.new)
        return self._add(replace(op, cache_read_bytes=count, heads=self._config.heads))

    def _add_cache_write(self, block: int) -> str:
        source = "unit" if self.setting.recipe.kv is None else "cache-quantize"
        op = self._op("cache-write", Kind.CACHE_WRITE, block, self._name(source, block))
        return self._add(replace(op, cache_written_bytes=self._cache_bytes(self.new)))

    def _cache_bytes(self, tokens: int) -> float:
        """Bytes of one block's keys and values for so many tokens of each sequence."""
        vectors = 2 * self.setting.passes * tokens * self._config.heads
        return stored_bytes(self.setting.recipe.kv, vectors, self._config.head_dim)

    def _add_elementwise(
        self, name: str, kind: Kind, block: int | None, channels: int, *after: str, heads: int = 1
    ) -> str:
        elements = self._rows * channels
        op = replace(
            self._op(name, kind, block, *after),
            rows=self._rows,
            columns=channels,
            elements=elements,
            activation_bytes=2 * FULL_BYTES * elements,
            heads=heads,
        )
        return self._add(op)

    def _op(self, name: str, kind: Kind, block: int | None, *after: str) -> Op:
        needed = tuple(filter(None, after))
        return Op(self._name(name, block), kind, self.step, block, after=needed)

    def _name(self, name: str, block: int | None) -> str:
        part = "" if block is None else f"blocks.{block}/"
        return f"step {self.step}/{part}{name}"


def product(
    op: Op, rows: int, inner: int, columns: int, bias: int, rule: LayerRecipe | None = None
) -> Op:
    """The operation as a linear layer, with weights and inputs as its recipe stores them."""
    weight, given = (None, None) if rule is None else (rule.weight, rule.input)
    return replace(
        op,
        rows=rows,
        inner=inner,
        columns=columns,
        weight_bytes=stored_bytes(weight, columns, inner) + FULL_BYTES * bias,
        activation_bytes=stored_bytes(given, rows, inner) + FULL_BYTES * rows * columns,
        input_format=None if given is None else given.format,
        weight_format=None if weight is None else weight.format,
    )


def _quantized(op: Op, quantizer: Quantizer, rows: int, length: int) -> Op:
    """The operation as the quantization of a matrix (rows, length)."""
    granularity = quantizer.granularity
    return replace(
        op,
        rows=rows,
        columns=length,
        elements=rows * length,
        activation_bytes=FULL_BYTES * rows * length + stored_bytes(quantizer, rows, length),
        input_format=quantizer.format,
        group=granularity.size if isinstance(granularity, PerGroup) else 0,
    )
