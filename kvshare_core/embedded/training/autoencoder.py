"""A lean forward of the Wan 2.1 VAE layout, for training without a host.

Parameter names and arithmetic are those of the native layout (`decoder.upsamples.0.residual.2.weight`, ...), so a
state dict trained here is an ordinary ComfyUI VAE. The host walks through a clip in chunks and caches what the causal
convolutions need; here a whole clip goes through at once, padded with zeros in front, which gives the same values (a
test holds them against each other) and trains several times faster. Videos are [n, 3, 4 * t - 3, h, w] in -1..1,
latents [n, 16, t, h / 8, w / 8].
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from ..vae import CHANNELS, LATENT_MEAN, LATENT_STD

STAGE_WIDTHS = (1, 2, 4, 4)
RESIDUAL_BLOCKS = 2
STAGES_THAT_HALVE_TIME = (False, True, True)


class CausalConv(nn.Conv3d):
    """3D convolution that keeps the size and sees no later frame."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__(inputs, outputs, kernel, padding=(0, kernel // 2, kernel // 2))
        self.front = kernel - 1

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(input, (0, 0, 0, 0, self.front, 0)) if self.front else input)


class ChannelNorm(nn.Module):
    """Scales each position's channel vector to unit root mean square; `axes` is the number of dimensions after it."""

    def __init__(self, channels: int, axes: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *([1] * axes)))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        # A product with equal weights is the mean over channels, already spread over them: on a CPU, where the channels
        # of this network are few and adjacent in memory, it is several times faster than a reduction.
        channels = input.shape[1]
        weights = input.new_full((channels, channels), 1 / channels)
        mean_square = (input.square().movedim(1, -1) @ weights).movedim(-1, 1)
        return input * mean_square.clamp_min(1e-24).rsqrt() * self.gamma.to(input.dtype)


class ResidualBlock(nn.Module):
    """Two normalised convolutions next to a shortcut. The second starts at zero: a fresh network is almost linear."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.residual = nn.Sequential(
            ChannelNorm(inputs, 3),
            nn.SiLU(),
            CausalConv(inputs, outputs, 3),
            ChannelNorm(outputs, 3),
            nn.SiLU(),
            nn.Identity(),
            start_at_zero(CausalConv(outputs, outputs, 3)),
        )
        self.shortcut = CausalConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.shortcut(input) + self.residual(input)


class FrameAttention(nn.Module):
    """The layout's attention inside each frame.

    Its output projection starts at zero and training leaves it there, so that weights trained on small crops act
    alike on frames of any size.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, channels * 3, 1)
        self.proj = start_at_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        count, _, frames, height, width = input.shape
        normed = self.norm(rearrange(input, "n c t h w -> (n t) c h w"))
        query, key, value = (rearrange(part, "n c h w -> n (h w) c") for part in self.to_qkv(normed).chunk(3, dim=1))
        attended = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        projected = self.proj(rearrange(attended, "n (h w) c -> n c h w", h=height, w=width))
        return input + rearrange(projected, "(n t) c h w -> n c t h w", n=count, t=frames)


class Downsample(nn.Module):
    """Halves height and width, and the frames after the first when `halve_time`."""

    def __init__(self, channels: int, halve_time: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1)) if halve_time else None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        smaller = each_frame(self.resample, input)
        if self.time_conv is None or smaller.shape[2] == 1:
            return smaller
        return torch.cat([smaller[:, :, :1], self.time_conv(smaller)], dim=2)


class Upsample(nn.Module):
    """Doubles height and width and halves the channels; doubles the frames after the first when `double_time`."""

    def __init__(self, channels: int, double_time: bool):
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=(2.0, 2.0), mode="nearest-exact"), nn.Conv2d(channels, channels // 2, 3, padding=1)
        )
        self.time_conv = nn.Conv3d(channels, channels * 2, (3, 1, 1)) if double_time else None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.time_conv is not None and input.shape[2] > 1:
            # The layout gives the first frame no part in this convolution: it is neither doubled nor seen by later
            # ones.
            doubled = self.time_conv(F.pad(input[:, :, 1:], (0, 0, 0, 0, 2, 0)))
            doubled = rearrange(doubled, "n (two c) t h w -> n c (t two) h w", two=2)
            input = torch.cat([input[:, :, :1], doubled], dim=2)
        return each_frame(self.resample, input)


def start_at_zero(module: nn.Module) -> nn.Module:
    """Sets every parameter of `module` to zero and returns it."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def each_frame(module: nn.Module, video: torch.Tensor) -> torch.Tensor:
    """Applies a module for images to every frame of `video` [n, c, t, h, w]."""
    frames = module(rearrange(video, "n c t h w -> (n t) c h w"))
    return rearrange(frames, "(n t) c h w -> n c t h w", n=video.shape[0])


def middle_blocks(channels: int) -> nn.Sequential:
    """The blocks at latent resolution, equal in both halves."""
    return nn.Sequential(ResidualBlock(channels, channels), FrameAttention(channels), ResidualBlock(channels, channels))


def output_head(inputs: int, outputs: int) -> nn.Sequential:
    """The last normalised convolution of either half."""
    return nn.Sequential(ChannelNorm(inputs, 3), nn.SiLU(), CausalConv(inputs, outputs, 3))


class Encoder(nn.Module):
    """Video to the 16 means and 16 log-variances of its latents."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = CausalConv(3, dim, 3)
        layers: list[nn.Module] = []
        inputs = dim
        for stage, width in enumerate(dim * factor for factor in STAGE_WIDTHS):
            layers += [ResidualBlock(width if i else inputs, width) for i in range(RESIDUAL_BLOCKS)]
            if stage < len(STAGES_THAT_HALVE_TIME):
                layers.append(Downsample(width, STAGES_THAT_HALVE_TIME[stage]))
            inputs = width
        self.downsamples = nn.Sequential(*layers)
        self.middle = middle_blocks(inputs)
        self.head = output_head(inputs, 2 * CHANNELS)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.head(self.middle(self.downsamples(self.conv1(video))))


class Decoder(nn.Module):
    """Latents to video."""

    def __init__(self, dim: int):
        super().__init__()
        inputs = dim * STAGE_WIDTHS[-1]
        self.conv1 = CausalConv(CHANNELS, inputs, 3)
        self.middle = middle_blocks(inputs)
        double_time = tuple(reversed(STAGES_THAT_HALVE_TIME))
        layers: list[nn.Module] = []
        for stage, width in enumerate(dim * factor for factor in reversed(STAGE_WIDTHS)):
            layers += [ResidualBlock(width if i else inputs, width) for i in range(RESIDUAL_BLOCKS + 1)]
            if stage < len(double_time):
                layers.append(Upsample(width, double_time[stage]))
            inputs = width // 2
        self.upsamples = nn.Sequential(*layers)
        self.head = output_head(dim, 3)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.head(self.upsamples(self.middle(self.conv1(latents))))


def set_diagonal(convolution: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> None:
    """Makes a 1x1x1 convolution multiply each channel by `scale` [c] and add `shift` [c]."""
    convolution.load_state_dict({"weight": torch.diag(scale)[..., None, None, None], "bias": shift})


class WanAutoencoder(nn.Module):
    """Both halves with the 1x1x1 convolutions between them, which here only hold the published latent normalisation."""

    def __init__(self, dim: int):
        super().__init__()
        self.encoder = Encoder(dim)
        self.conv1 = CausalConv(2 * CHANNELS, 2 * CHANNELS, 1)
        self.conv2 = CausalConv(CHANNELS, CHANNELS, 1)
        self.decoder = Decoder(dim)
        scale = torch.cat([LATENT_STD, torch.ones(CHANNELS)])
        shift = torch.cat([LATENT_MEAN, torch.zeros(CHANNELS)])
        set_diagonal(self.conv1, scale, shift)
        set_diagonal(self.conv2, 1 / LATENT_STD, -LATENT_MEAN / LATENT_STD)

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """Video [n, 3, 4 * t - 3, h, w] in -1..1 to raw latents (the means)."""
        return self.conv1(self.encoder(video))[:, :CHANNELS]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Raw latents to video in -1..1, not clamped."""
        return self.decoder(self.conv2(latents))
