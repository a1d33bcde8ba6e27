"""The multi-scale VQVAE: images to codes, step by step from coarse to fine, and back.

Parameter names are those of the public checkpoint `vae_ch160v4096z32.pth`, which loads strictly.
Source: arXiv 2404.02905, section 3.2 and algorithms 1 and 2.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpqvar_lab.var.config import VQVAEConfig, patch_size_of


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ResidualBlock(nn.Module):
    """norm, SiLU, convolution, twice, beside a shortcut: (batch, channels, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inputs), _conv3(inputs, outputs)
        self.norm2, self.conv2 = _norm(outputs), _conv3(outputs, outputs)
        self.nin_shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class SpatialAttention(nn.Module):
    """Single-head self-attention over the positions of a feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Halve the side; the one row and column of padding stand at the far edge only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the side by repetition, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention where the level has it."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool) -> None:
        super().__init__()
        sizes = [inputs] + [outputs] * blocks
        self.block = nn.ModuleList(map(ResidualBlock, sizes[:-1], sizes[1:]))
        self.attn = nn.ModuleList(SpatialAttention(outputs) for _ in range(blocks * attention))

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        return x


class DownLevel(Level):
    """A level of the encoder: blocks, then half the side."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool) -> None:
        super().__init__(inputs, outputs, blocks, attention)
        self.downsample: nn.Module = Downsample(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(super().forward(x))


class UpLevel(Level):
    """A level of the decoder: blocks, then twice the side."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool) -> None:
        super().__init__(inputs, outputs, blocks, attention)
        self.upsample: nn.Module = Upsample(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(super().forward(x))


class Middle(nn.Module):
    """Two residual blocks around attention, at the lowest resolution."""

    def __init__(self, channels: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = SpatialAttention(channels) if attention else nn.Identity()
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Images in [-1, 1] (batch, channels, side, side) -> latents (batch, code_channels, p, p)."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        sizes = [config.channels * m for m in (1, *config.channel_multipliers)]
        last = len(config.channel_multipliers) - 1
        self.conv_in = _conv3(config.image_channels, config.channels)
        self.down = nn.ModuleList()
        for i in range(last + 1):
            attention = config.attention and i == last
            level = DownLevel(sizes[i], sizes[i + 1], config.residual_blocks, attention)
            if i == last:
                level.downsample = nn.Identity()
            self.down.append(level)
        self.mid = Middle(sizes[-1], config.attention)
        self.norm_out = _norm(sizes[-1])
        self.conv_out = _conv3(sizes[-1], config.code_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents (batch, code_channels, p, p) -> images in about [-1, 1]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        sizes = [config.channels * m for m in config.channel_multipliers]
        last = len(sizes) - 1
        self.conv_in = _conv3(config.code_channels, sizes[-1])
        self.mid = Middle(sizes[-1], config.attention)
        self.up = nn.ModuleList()
        for i, size in enumerate(sizes):
            attention = config.attention and i == last
            inputs = sizes[min(i + 1, last)]
            level = UpLevel(inputs, size, config.residual_blocks + 1, attention)
            if i == 0:
                level.upsample = nn.Identity()
            self.up.append(level)
        self.norm_out = _norm(sizes[0])
        self.conv_out = _conv3(sizes[0], config.image_channels)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Phi(nn.Conv2d):
    """The correction after upsampling: (1 - ratio) x + ratio conv3x3(x)."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 - self.ratio) + super().forward(x) * self.ratio


class SharedPhi(nn.Module):
    """A few `Phi` layers shared over the steps: each step uses the one whose tick is nearest."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        layers, steps = config.phi_layers, len(config.patch_sizes)
        self.qresi_ls = nn.ModuleList(
            Phi(config.code_channels, config.phi_ratio) for _ in range(layers)
        )
        # The released code places four ticks at 1/12 ... 11/12 and any other number at bin centres.
        edge = 1 / 3 / layers if layers == 4 else 1 / 2 / layers
        ticks = np.linspace(edge, 1 - edge, layers)
        fractions = np.arange(steps) / (steps - 1)
        self.layer_of_step = [int(np.abs(ticks - fraction).argmin()) for fraction in fractions]

    def forward(self, step: int, x: Tensor) -> Tensor:
        return self.qresi_ls[self.layer_of_step[step]](x)


class ResidualQuantizer(nn.Module):
    """Multi-scale residual quantization with one codebook for all steps.

    Each step quantizes the area-downsampled rest of the latent, and its upsampled, corrected codes
    are added to the running sum `f_hat` (batch, code_channels, P, P), P the last patch size.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.patch_sizes = config.patch_sizes
        self.commitment = config.commitment
        self.embedding = nn.Embedding(config.vocabulary, config.code_channels)
        self.quant_resi = SharedPhi(config)
        self.ema_vocab_hit_SV: Tensor
        self.register_buffer(
            "ema_vocab_hit_SV", torch.zeros(len(config.patch_sizes), config.vocabulary)
        )

    def nearest(self, x: Tensor) -> Tensor:
        """Nearest code by Euclidean distance: (batch, channels, p, p) -> (batch, p*p)."""
        rows = x.flatten(2).transpose(1, 2)
        codes = self.embedding.weight
        distance = rows.square().sum(-1, keepdim=True) + codes.square().sum(-1)
        return torch.argmin(distance - 2 * rows @ codes.T, dim=-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (batch, p*p) -> their vectors as a map (batch, channels, p, p)."""
        side = patch_size_of(codes.shape[1])
        return self.embedding(codes).transpose(1, 2).unflatten(2, (side, side))

    def contribution(self, step: int, h: Tensor) -> Tensor:
        """What a step adds to f_hat: its map (batch, channels, p, p) upsampled and corrected."""
        side = self.patch_sizes[-1]
        if h.shape[-1] != side:
            h = F.interpolate(h, size=(side, side), mode="bicubic")
        return self.quant_resi(step, h)

    def shrink(self, step: int, f: Tensor) -> Tensor:
        """A latent averaged down to the token map of `step`: (batch, channels, p, p)."""
        side = self.patch_sizes[step]
        return f if f.shape[-1] == side else F.interpolate(f, size=(side, side), mode="area")

    def encode(self, f: Tensor) -> list[Tensor]:
        """Latents (batch, channels, P, P) -> one tensor of codes (batch, p*p) for each step."""
        rest, codes = f, []
        for step in range(len(self.patch_sizes)):
            codes.append(self.nearest(self.shrink(step, rest)))
            rest = rest - self.contribution(step, self.lookup(codes[-1]))
        return codes

    def partial_sums(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """f_hat after each of the given steps; the last one is what the decoder sees."""
        sums: list[Tensor] = []
        for step, code in enumerate(codes):
            added = self.contribution(step, self.lookup(code))
            sums.append(added if step == 0 else sums[-1] + added)
        return sums

    def teacher_forcing_input(self, codes: Sequence[Tensor]) -> Tensor:
        """What the transformer reads to predict steps 2, 3, ...: (batch, tokens - 1, channels)."""
        sums = self.partial_sums(codes[: len(self.patch_sizes) - 1])
        maps = [self.shrink(step + 1, f_hat) for step, f_hat in enumerate(sums)]
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)

    def forward(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """While training: (f_hat with a straight-through gradient, codebook + commitment loss)."""
        target = f.detach()
        rest, f_hat = target, torch.zeros_like(target)
        loss = f.new_zeros(())
        for step in range(len(self.patch_sizes)):
            with torch.no_grad():
                codes = self.nearest(self.shrink(step, rest))
                self._count(step, codes)
            added = self.contribution(step, self.lookup(codes))
            f_hat, rest = f_hat + added, rest - added.detach()
            loss = loss + F.mse_loss(f_hat, target)
            loss = loss + self.commitment * F.mse_loss(f_hat.detach(), f)
        return f + (f_hat - f).detach(), loss / len(self.patch_sizes)

    def _count(self, step: int, codes: Tensor) -> None:
        if self.training:
            hits = torch.bincount(codes.flatten(), minlength=self.embedding.num_embeddings)
            self.ema_vocab_hit_SV[step].lerp_(hits.to(self.ema_vocab_hit_SV), 0.01)

    @torch.no_grad()
    def reseed_dead_codes(self, f: Tensor, generator: torch.Generator) -> int:
        """Move codes that hardly any position chooses onto randomly drawn rests; returns how many.

        A code that starts far from the data is never the nearest, gets no gradient and stays
        unused: codebook collapse. Restarting such codes on the data is the remedy of Dhariwal et
        al., "Jukebox", arXiv 2005.00341, section 3.
        """
        hits = self.ema_vocab_hit_SV.sum(0)
        dead = (hits < 0.05 * hits.mean()).nonzero().flatten()
        rows = torch.cat([r.flatten(2).transpose(1, 2).flatten(0, 1) for r in self._rests(f)])
        pick = torch.randint(len(rows), dead.shape, generator=generator)
        self.embedding.weight[dead] = rows[pick.to(rows.device)]
        self.ema_vocab_hit_SV[:, dead] = self.ema_vocab_hit_SV.mean(1, keepdim=True)
        return len(dead)

    def _rests(self, f: Tensor) -> list[Tensor]:
        codes = self.encode(f)
        sums = [torch.zeros_like(f), *self.partial_sums(codes[:-1])]
        return [self.shrink(step, f - f_hat) for step, f_hat in enumerate(sums)]


class VQVAE(nn.Module):
    """The VQVAE of VAR; images are (batch, channels, side, side) in [0, 1] at every method."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = ResidualQuantizer(config)
        self.quant_conv = _conv3(config.code_channels, config.code_channels)
        self.post_quant_conv = _conv3(config.code_channels, config.code_channels)

    def latents(self, images: Tensor) -> Tensor:
        """What the quantizer sees: (batch, code_channels, P, P)."""
        return self.quant_conv(self.encoder(images * 2 - 1))

    def decode_latents(self, f_hat: Tensor) -> Tensor:
        """Images in [0, 1] from a (partial) sum of codes (batch, code_channels, P, P)."""
        return self.decoder(self.post_quant_conv(f_hat)).clamp(-1, 1) * 0.5 + 0.5

    def encode(self, images: Tensor) -> list[Tensor]:
        """One tensor of codes (batch, p*p), int64, for each step, coarse to fine.

        Raises:
            ValueError: the images have another size or number of channels than the model.
        """
        self._check_images(images)
        return self.quantize.encode(self.latents(images))

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Images from the codes of all steps, or of the first few (a coarser image)."""
        return self.decode_latents(self.quantize.partial_sums(codes)[-1])

    def reconstruct(self, images: Tensor) -> Tensor:
        """`decode(encode(images))`: what quantization leaves of the images."""
        return self.decode(self.encode(images))

    def teacher_forcing_input(self, codes: Sequence[Tensor]) -> Tensor:
        """The transformer's input for steps 2, 3, ...: (batch, tokens - 1, code_channels)."""
        return self.quantize.teacher_forcing_input(codes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The training pass: (reconstruction, unclamped, around [0, 1]; quantizer's loss)."""
        f_hat, loss = self.quantize(self.latents(images).float())
        return self.decoder(self.post_quant_conv(f_hat)) * 0.5 + 0.5, loss

    def _check_images(self, images: Tensor) -> None:
        c = self.config
        expected = (c.image_channels, c.image_size, c.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images of shape {tuple(images.shape)}; expected (batch, {expected})")
