"""Trains the two halves of the embedded VAE, each against the fixed latent space of `LatentBasis`.

The latents of any clip are known beforehand, so both halves are plain regressions on endless renderings: the encoder
from pixels to latents, the decoder from slightly noisy latents (a generated latent is never perfect) to clean pixels.
The convolutions see little context, so small crops teach as much as whole clips; a few larger and longer ones keep
the borders and long videos right.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import nn

from ..latents import LatentBasis
from .autoencoder import FrameAttention, WanAutoencoder
from .clips import ClipSampler, CropShape
from .loop import Report, Schedule, TrainingRun

HALVES = ("decoder", "encoder")


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Everything that decides the result of a training run besides the machine's rounding."""

    seed: int = 0
    dim: int = 8
    decoder_steps: int = 8_000
    encoder_steps: int = 3_000
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    decay_fraction: float = 0.6
    ema_decay: float = 0.995
    latent_noise: float = 0.15
    crops: tuple[CropShape, ...] = (
        CropShape(4, 9, 48),
        CropShape(8, 5, 48),
        CropShape(4, 9, 48),
        CropShape(2, 5, 96),
        CropShape(4, 9, 48),
        CropShape(8, 5, 48),
        CropShape(4, 9, 48),
        CropShape(3, 33, 32),
    )

    def steps(self, half: str) -> int:
        """Training steps of `half`, one of HALVES."""
        return self.decoder_steps if half == "decoder" else self.encoder_steps

    def schedule(self, half: str) -> Schedule:
        """Schedule of `half`, one of HALVES."""
        return Schedule(self.steps(half), self.learning_rate, self.warmup_steps, self.decay_fraction, self.ema_decay)


def train_half(
    half: str, recipe: AutoencoderRecipe, basis: LatentBasis, checkpoint: Path, device: torch.device, report: Report
) -> nn.Module:
    """Trains one of HALVES, or resumes from `checkpoint`, and returns the averaged weights."""
    torch.manual_seed(recipe.seed)
    model, average = (channels_last(getattr(WanAutoencoder(recipe.dim), half)).to(device) for _ in range(2))
    for module in model.modules():
        if isinstance(module, FrameAttention):
            module.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    run = TrainingRun(model, average, [optimizer], recipe.schedule(half), checkpoint, save_every=100)
    sampler = ClipSampler(recipe.seed + run.start + 1)
    for step in range(run.start, recipe.steps(half)):
        video = sampler.draw(recipe.crops[step % len(recipe.crops)])
        run.update(step, half_loss(half, model, video, basis, recipe.latent_noise, device), report)
    return average


def half_loss(
    half: str, model: nn.Module, video: torch.Tensor, basis: LatentBasis, noise: float, device: torch.device
) -> torch.Tensor:
    """Absolute plus weighted squared error of one batch.

    `video` [n, frames, 3, side, side] is in 0..1; `noise` is the largest standard deviation of the noise on the
    decoder's latents.
    """
    latents = basis.encode(video)
    pixels = to_signed(video).to(device)
    if half == "decoder":
        level = noise * torch.rand(latents.shape[0], 1, 1, 1, 1)
        source, target = (latents + level * torch.randn(latents.shape)).to(device), pixels
    else:
        source, target = pixels, latents.to(device)
    with torch.autocast(device.type, torch.bfloat16):
        output = model(source.contiguous(memory_format=torch.channels_last_3d))
    output = output.float() if half == "decoder" else output.float()[:, : target.shape[1]]
    error = output - target
    return error.abs().mean() + 4 * error.square().mean()


def channels_last(module: nn.Module) -> nn.Module:
    """Stores convolution weights with the channels adjacent, which the CPU's convolutions want."""
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module


def to_signed(video: torch.Tensor) -> torch.Tensor:
    """Rendered video [n, t, 3, h, w] in 0..1 to the VAE's [n, 3, t, h, w] in -1..1."""
    return rearrange(video, "n t c h w -> n c t h w") * 2 - 1


def assemble(recipe: AutoencoderRecipe, halves: dict[str, nn.Module]) -> WanAutoencoder:
    """The whole VAE from trained halves; a half that is missing stays as it starts."""
    torch.manual_seed(recipe.seed)
    autoencoder = WanAutoencoder(recipe.dim).requires_grad_(False)
    for half, module in halves.items():
        getattr(autoencoder, half).load_state_dict(module.state_dict())
    return autoencoder


def save_weights(autoencoder: WanAutoencoder, file: Path) -> None:
    """Writes the VAE as half-precision safetensors."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in autoencoder.state_dict().items()}, file)


def load_weights(file: Path) -> WanAutoencoder:
    """Reads a VAE that `save_weights` wrote, in float32; the sizes come from its tensors."""
    state = {name: tensor.float() for name, tensor in load_file(file).items()}
    autoencoder = WanAutoencoder(state["decoder.head.0.gamma"].shape[0]).requires_grad_(False)
    autoencoder.load_state_dict(state)
    return autoencoder
