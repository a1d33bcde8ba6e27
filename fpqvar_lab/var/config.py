"""Shapes of the models: frozen configurations, with presets for the public and the mini models.

Source: Tian et al., "Visual Autoregressive Modeling", arXiv 2404.02905, and its released code.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import TypeVar

Config = TypeVar("Config")

PATCH_SIZES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
PATCH_SIZES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
PATCH_SIZES_MINI = (1, 2, 3, 5, 7)


def _check_patch_sizes(patch_sizes: tuple[int, ...]) -> None:
    rising = all(a < b for a, b in pairwise(patch_sizes))
    if len(patch_sizes) < 2 or patch_sizes[0] < 1 or not rising:
        raise ValueError(f"patch_sizes {patch_sizes} must be two or more rising positive integers")


def _preset(presets: dict[str, Config], name: str) -> Config:
    if name not in presets:
        raise ValueError(f"no preset {name!r}; there are {', '.join(presets)}")
    return presets[name]


@dataclass(frozen=True)
class VARConfig:
    """Shape of a VAR transformer.

    Args:
        depth: number of blocks.
        width: channels of the residual stream (C).
        heads: attention heads; must divide `width`.
        patch_sizes: side of the square token map of each step.
        vocabulary: codes in the VQVAE's codebook (V).
        code_channels: channels of one code.
        classes: number of class labels; label `classes` itself stands for "no class".
        mlp_ratio: hidden width of the feed-forward network over `width`.
        shared_aln: whether all blocks share one AdaLN layer, as in VAR-d36.
    """

    depth: int
    width: int
    heads: int
    patch_sizes: tuple[int, ...] = PATCH_SIZES_256
    vocabulary: int = 4096
    code_channels: int = 32
    classes: int = 1000
    mlp_ratio: float = 4.0
    shared_aln: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        _check_patch_sizes(self.patch_sizes)

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Channels between `fc1` and `fc2`."""
        return round(self.width * self.mlp_ratio)

    @property
    def steps(self) -> int:
        return len(self.patch_sizes)

    @property
    def tokens_per_step(self) -> tuple[int, ...]:
        return tuple(p * p for p in self.patch_sizes)

    @property
    def tokens(self) -> int:
        """Tokens of a whole image, over all steps (680 for the public 256 x 256 models)."""
        return sum(self.tokens_per_step)

    @staticmethod
    def preset(name: str) -> "VARConfig":
        """The shape of `d16`, `d20`, `d24`, `d30`, `d36` or `mini`; else ValueError."""
        return _preset(_VAR_PRESETS, name)

    @staticmethod
    def of_depth(depth: int, **changes: object) -> "VARConfig":
        """The family's rule: width 64 x depth, one head of 64 channels per block."""
        return VARConfig(depth=depth, width=64 * depth, heads=depth, **changes)  # type: ignore[arg-type]


_VAR_PRESETS = {
    "d16": VARConfig.of_depth(16),
    "d20": VARConfig.of_depth(20),
    "d24": VARConfig.of_depth(24),
    "d30": VARConfig.of_depth(30),
    "d36": VARConfig.of_depth(36, patch_sizes=PATCH_SIZES_512, shared_aln=True),
    "mini": VARConfig(6, 256, 4, PATCH_SIZES_MINI, vocabulary=512, code_channels=16, classes=10),
}


@dataclass(frozen=True)
class VQVAEConfig:
    """Shape of the multi-scale VQVAE.

    Args:
        image_size: side of the square images, in pixels.
        image_channels: 1 for grey, 3 for colour.
        channels: channels at full resolution; a multiple of 32, the number of GroupNorm groups.
        channel_multipliers: one per resolution; each resolution but the last halves the side.
        residual_blocks: residual blocks per resolution in the encoder (one more in the decoder).
        attention: whether there is self-attention at the lowest resolution and in the middle.
        vocabulary: number of codes.
        code_channels: channels of one code.
        patch_sizes: side of each step's token map; the last is the side of the latent.
        phi_layers: convolutions after upsampling, shared over the steps.
        phi_ratio: weight of that convolution against the identity.
        commitment: weight of the commitment loss.
    """

    image_size: int = 256
    image_channels: int = 3
    channels: int = 160
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    residual_blocks: int = 2
    attention: bool = True
    vocabulary: int = 4096
    code_channels: int = 32
    patch_sizes: tuple[int, ...] = PATCH_SIZES_256
    phi_layers: int = 4
    phi_ratio: float = 0.5
    commitment: float = 0.25

    def __post_init__(self) -> None:
        _check_patch_sizes(self.patch_sizes)
        if self.channels % 32:
            raise ValueError(f"channels {self.channels} is not a multiple of 32")
        if self.image_size != self.patch_sizes[-1] * self.downsampling:
            raise ValueError(
                f"image_size {self.image_size} is not the last patch size {self.patch_sizes[-1]} "
                f"times the downsampling {self.downsampling}"
            )

    @property
    def downsampling(self) -> int:
        """Pixels of the image along one side of a latent position."""
        return 2 ** (len(self.channel_multipliers) - 1)

    @staticmethod
    def preset(name: str) -> "VQVAEConfig":
        """The shape of `ch160v4096z32` (the public one) or `mini`; else ValueError."""
        return _preset(_VQVAE_PRESETS, name)


_VQVAE_PRESETS = {
    "ch160v4096z32": VQVAEConfig(),
    "mini": VQVAEConfig(
        image_size=28,
        image_channels=1,
        channels=32,
        channel_multipliers=(1, 2, 4),
        residual_blocks=1,
        vocabulary=512,
        code_channels=16,
        patch_sizes=PATCH_SIZES_MINI,
    ),
}


def patch_size_of(codes: int) -> int:
    """Side of a square map of `codes` tokens; ValueError where that is no square."""
    side = isqrt(codes)
    if side * side != codes:
        raise ValueError(f"{codes} codes do not fill a square map")
    return side
