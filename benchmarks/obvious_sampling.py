"""VAR sampling as one would first write it, for comparison of results and of speed.

Keys and values are concatenated at each step, AdaLN is evaluated at each step, attention is written
out. It shares the layers' weights with `fpqvar_lab.var`, and none of its control flow.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fpqvar_lab.var import VAR, VQVAE


def _attention(block, x: Tensor, past: dict) -> Tensor:
    attn = block.attn
    batch, tokens, width = x.shape
    bias = torch.cat((attn.q_bias, attn.zero_k_bias, attn.v_bias))
    qkv = F.linear(x, attn.mat_qkv.weight, bias).reshape(batch, tokens, 3, attn.heads, -1)
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    scale = attn.scale_mul_1H11.clamp(max=torch.tensor(100.0).log().item()).exp()
    q = q / q.norm(dim=-1, keepdim=True).clamp(min=1e-12) * scale
    k = k / k.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    if block in past:
        k = torch.cat((past[block][0], k), dim=2)
        v = torch.cat((past[block][1], v), dim=2)
    past[block] = (k, v)
    weights = (q @ k.transpose(2, 3)).softmax(dim=-1)
    return attn.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


def _block(block, x: Tensor, condition: Tensor, past: dict) -> Tensor:
    width = x.shape[-1]
    parts = block.ada_lin[1](F.silu(condition)).reshape(-1, 1, 6, width)
    gamma1, gamma2, scale1, scale2, shift1, shift2 = (parts[:, :, i] for i in range(6))
    h = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale1) + shift1
    x = x + gamma1 * _attention(block, h, past)
    h = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale2) + shift2
    h = F.gelu(block.ffn.fc1(h), approximate="tanh")
    return x + gamma2 * block.ffn.fc2(h)


def _logits(var: VAR, x: Tensor, condition: Tensor, past: dict) -> Tensor:
    for block in var.blocks:
        x = _block(block, x, condition, past)
    scale, shift = var.head_nm.ada_lin[1](F.silu(condition)).chunk(2, dim=-1)
    x = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]
    return var.head(x).float()


@torch.inference_mode()
def sample(
    var: VAR, vqvae: VQVAE, labels: Tensor, generator: torch.Generator, cfg: float = 1.5
) -> Tensor:
    """Images (batch, channels, side, side) in [0, 1], all codes allowed; AdaLN per block only."""
    batch, sizes = len(labels), var.config.patch_sizes
    labels = torch.cat((labels, torch.full_like(labels, var.config.classes)))
    condition = var.class_emb(labels)
    x = condition[:, None] + var.pos_start
    f_hat: Tensor | float = 0.0
    past: dict = {}
    done = 0
    for step, size in enumerate(sizes):
        place = var.pos_1LC[:, done : done + size * size] + var.lvl_embed.weight[step]
        done += size * size
        logits = _logits(var, x + place, condition, past)
        t = cfg * step / (len(sizes) - 1)
        logits = (1 + t) * logits[:batch] - t * logits[batch:]
        probability = logits.softmax(-1).reshape(-1, var.config.vocabulary)
        codes = torch.multinomial(probability, 1, replacement=True, generator=generator)
        h = vqvae.quantize.embedding.weight[codes.reshape(batch, size, size)].permute(0, 3, 1, 2)
        if size != sizes[-1]:
            h = F.interpolate(h, size=(sizes[-1], sizes[-1]), mode="bicubic")
        phi = vqvae.quantize.quant_resi.qresi_ls[vqvae.quantize.quant_resi.layer_of_step[step]]
        f_hat = f_hat + 0.5 * h + 0.5 * F.conv2d(h, phi.weight, phi.bias, padding=1)
        if step + 1 < len(sizes):
            rows = F.adaptive_avg_pool2d(f_hat, sizes[step + 1]).flatten(2).transpose(1, 2)
            x = var.word_embed(rows.to(x.dtype)).repeat(2, 1, 1)
    images = vqvae.decoder(vqvae.post_quant_conv(f_hat))
    return images.clamp(-1, 1).add(1).div(2)
