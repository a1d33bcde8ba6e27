"""The VAR transformer: all tokens of one scale are predicted at once from the scales before.

Parameter names are those of the public checkpoints `var_d16.pth` ... `var_d36.pth`, which load with
strict=True; buffers that are constants of the shape (`lvl_1L`, `attn_bias_for_masking`,
`zero_k_bias`) are kept for the same reason. Source: arXiv 2404.02905, section 3.3, and its code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpqvar_lab.var.config import VARConfig

MAX_LOG_SCALE = log(100)


class Cache(Protocol):
    """What attention asks of a cache of keys and values.

    `length` is the number of tokens stored so far.
    """

    length: int

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store (batch, heads, new, head_dim) keys and values; returns all stored so far."""
        ...


class KVCache:
    """Keys and values of one block for all steps so far, in memory taken once.

    Args:
        config: the shape of the model.
        batch: number of rows, guidance's second half included.
        like: a tensor whose dtype and device the cache takes.
    """

    def __init__(self, config: VARConfig, batch: int, like: Tensor) -> None:
        shape = (2, batch, config.heads, config.tokens, config.head_dim)
        self._buffer = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store (batch, heads, new, head_dim) keys and values; returns all stored so far."""
        end = self.length + k.shape[2]
        self._buffer[0, :, :, self.length : end] = k
        self._buffer[1, :, :, self.length : end] = v
        self.length = end
        return self._buffer[0, :, :, :end], self._buffer[1, :, :, :end]


class QKVLinear(nn.Linear):
    """The fused layer of queries, keys and values, whose bias the attention puts together."""

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        return F.linear(x, self.weight, bias)


class SelfAttention(nn.Module):
    """Attention with L2-normalised queries and keys and a learned scale for each head."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.scale_mul_1H11 = nn.Parameter(torch.full((1, self.heads, 1, 1), log(4)))
        self.mat_qkv = QKVLinear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = (
            nn.Parameter(torch.zeros(width)),
            nn.Parameter(torch.zeros(width)),
        )
        self.zero_k_bias: Tensor
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        bias = torch.cat((self.q_bias, self.zero_k_bias, self.v_bias))
        # (batch, tokens, 3 width) -> three of (batch, heads, tokens, head_dim)
        qkv = self.mat_qkv(x, bias).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q = F.normalize(q, dim=-1) * self.scale_mul_1H11.clamp_max(MAX_LOG_SCALE).exp()
        k = F.normalize(k, dim=-1)
        if cache is not None:
            k, v = cache.append(k, v)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, mask, scale=1.0)
        return self.proj(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """fc1, GELU by its tanh approximation, fc2."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class HeldLinear(nn.Linear):
    """A linear layer whose weight stays in the dtype in which it is held; each call converts it.

    For layers that run once per image and hold a third of a model, as AdaLN's do.

    Args:
        weight: (out_features, in_features), in the dtype to be kept.
        bias: (out_features,), which follows the model's dtype; or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        out_features, in_features = weight.shape
        with torch.device("meta"):
            super().__init__(in_features, out_features, bias is not None)
        self.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "HeldLinear":
        if self.bias is not None:
            self.bias.data = fn(self.bias.data)
        device = fn(torch.empty(0, device=self.weight.device)).device
        self.weight.data = self.weight.data.to(device)
        return self


class AdaLN(nn.Sequential):
    """SiLU and a linear layer: condition (batch, width) -> `parts` tensors of (batch, 1, width)."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * width))
        self.parts = parts

    @property
    def linear(self) -> nn.Linear:
        return cast(nn.Linear, self[1])

    def forward(self, condition: Tensor) -> Tensor:  # (batch, 1, parts, width)
        return super().forward(condition).unflatten(-1, (1, self.parts, -1))


class Block(nn.Module):
    """Attention and feed-forward, each modulated by the class: shift, scale before, gamma after."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        width = config.width
        self.attn, self.ffn = SelfAttention(config), FeedForward(config)
        self.ln_wo_grad = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.shared_aln = config.shared_aln
        if config.shared_aln:
            self.ada_gss = nn.Parameter(torch.randn(1, 1, 6, width) / sqrt(width))
        else:
            self.ada_lin = AdaLN(width, 6)

    def shrink(self, output_factor: float) -> None:
        """At the start of training: smaller outputs, gates near 0, so near the identity."""
        for out in (self.attn.proj, self.ffn.fc2):
            out.weight *= output_factor
        if self.shared_aln:
            self.ada_gss[:, :, :2] *= 1e-5
        else:
            weight = self.ada_lin.linear.weight
            gates, rest = weight.tensor_split([2 * self.attn.proj.out_features])
            gates *= 1e-5
            rest *= 0.5

    def modulation(self, condition: Tensor, shared: Tensor | None) -> tuple[Tensor, ...]:
        """gamma1, gamma2, scale1, scale2, shift1, shift2, each (batch, 1, width)."""
        parts = self.ada_lin(condition) if shared is None else self.ada_gss + shared
        return parts.unbind(2)

    def forward(
        self,
        x: Tensor,
        modulation: Sequence[Tensor],
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation
        # addcmul(a, b, c) is a + b * c in one pass over the memory
        h = torch.addcmul(shift1, self.ln_wo_grad(x), scale1 + 1)
        x = torch.addcmul(x, gamma1, self.attn(h, mask, cache))
        h = torch.addcmul(shift2, self.ln_wo_grad(x), scale2 + 1)
        return torch.addcmul(x, gamma2, self.ffn(h))


class Head(nn.Module):
    """The modulated LayerNorm before the logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_wo_grad = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ada_lin = AdaLN(width, 2)

    def forward(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        scale, shift = modulation
        return self.ln_wo_grad(x) * (scale + 1) + shift


@dataclass(frozen=True)
class Modulation:
    """Everything AdaLN makes of the labels; it does not depend on the step, so it is made once."""

    blocks: tuple[tuple[Tensor, ...], ...]
    head: tuple[Tensor, ...]


class VAR(nn.Module):
    """A visual autoregressive transformer; it predicts codes and does not own a VQVAE.

    Labels are 0 ... classes - 1, and `classes` itself for "no class" (guidance's second half).

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.word_embed = nn.Linear(config.code_channels, width)
        self.class_emb = nn.Embedding(config.classes + 1, width)
        self.pos_start = nn.Parameter(torch.empty(1, config.tokens_per_step[0], width))
        self.pos_1LC = nn.Parameter(torch.empty(1, config.tokens, width))
        self.lvl_embed = nn.Embedding(config.steps, width)
        self.shared_ada_lin = AdaLN(width, 6) if config.shared_aln else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_nm = Head(width)
        self.head = nn.Linear(width, config.vocabulary)

        step_of = torch.tensor([s for s, n in enumerate(config.tokens_per_step) for _ in range(n)])
        future = step_of[:, None] < step_of[None, :]
        mask = torch.zeros(config.tokens, config.tokens).masked_fill(future, -torch.inf)
        self.lvl_1L: Tensor
        self.attn_bias_for_masking: Tensor
        self.register_buffer("lvl_1L", step_of[None])
        self.register_buffer("attn_bias_for_masking", mask[None, None])
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise for training: small normal weights, gates near zero, depth-scaled outputs."""
        std = sqrt(1 / self.config.width / 3)
        embeddings = (self.class_emb.weight, self.lvl_embed.weight, self.pos_start, self.pos_1LC)
        layers = [m for m in self.modules() if isinstance(m, nn.Linear)]
        for weight in [*embeddings, *(layer.weight for layer in layers)]:
            nn.init.trunc_normal_(weight, std=std)
        for layer in layers:
            if layer.bias is not None:
                layer.bias.zero_()
        self.head.weight *= 0.02
        for block in self.blocks:
            cast(Block, block).shrink(1 / sqrt(2 * self.config.depth))

    def positions(self) -> Tensor:
        """What is added to every token for its position and step: (1, tokens, width)."""
        return self.lvl_embed(self.lvl_1L) + self.pos_1LC

    def modulation(self, labels: Tensor) -> Modulation:
        """AdaLN's outputs for labels (batch,), for all blocks and the head."""
        condition = self.class_emb(labels)
        shared = self.shared_ada_lin(condition) if self.config.shared_aln else None
        blocks = tuple(cast(Block, b).modulation(condition, shared) for b in self.blocks)
        return Modulation(blocks, self.head_nm.ada_lin(condition).unbind(2))

    def first_tokens(self, labels: Tensor) -> Tensor:
        """Step 1's input, the class embedding: (batch, 1, width), positions not yet added."""
        return self.class_emb(labels)[:, None] + self.pos_start

    def new_cache(self, batch: int) -> Sequence[Cache]:
        """An empty cache for each block, for `batch` rows."""
        return [KVCache(self.config, batch, self.class_emb.weight) for _ in self.blocks]

    def logits(
        self,
        x: Tensor,
        modulation: Modulation,
        mask: Tensor | None = None,
        caches: Sequence[Cache] | None = None,
    ) -> Tensor:
        """Tokens (batch, n, width), positions added -> float32 logits (batch, n, vocabulary)."""
        for i, block in enumerate(self.blocks):
            x = block(x, modulation.blocks[i], mask, caches[i] if caches is not None else None)
        return self.head(self.head_nm(x, modulation.head)).float()

    def forward(self, labels: Tensor, teacher_forcing_input: Tensor) -> Tensor:
        """Logits of all tokens at once, each step seeing the steps up to its own.

        Args:
            labels: class labels (batch,), int64.
            teacher_forcing_input: inputs of all steps but the first, (batch, tokens - 1,
                code_channels), from the VQVAE's method of that name.

        Returns:
            float32 logits (batch, tokens, vocabulary).

        Raises:
            ValueError: the input has another shape than the model's steps ask for.
        """
        expected = (len(labels), self.config.tokens - 1, self.config.code_channels)
        if tuple(teacher_forcing_input.shape) != expected:
            found = tuple(teacher_forcing_input.shape)
            raise ValueError(f"teacher_forcing_input of shape {found}; expected {expected}")
        later = self.word_embed(teacher_forcing_input.to(self.word_embed.weight.dtype))
        x = torch.cat((self.first_tokens(labels), later), dim=1) + self.positions()
        caches = self.teacher_forcing_cache(len(labels))
        return self.logits(x, self.modulation(labels), self.attn_bias_for_masking, caches)

    def teacher_forcing_cache(self, batch: int) -> Sequence[Cache] | None:
        """None, for without steps there is nothing to keep; a quantized cache overrides this."""
        return None
