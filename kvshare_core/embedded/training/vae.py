"""Trains the two halves of the embedded VAE, each against the fixed latent space of `LatentBasis`.

The latents of any clip are known beforehand, so both halves are plain regressions on endless renderings: the encoder
from pixels to latents, the decoder from slightly noisy latents (a generated latent is never perfect) to clean pixels.
The convolutions see little context, so small crops teach as much as whole clips; a few larger and longer ones keep
the borders and long videos right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import nn

from ..latents import LatentBasis
from ..vae import FrameAttention, WanAutoencoder
from .clips import ClipSampler, CropShape

HALVES = ("decoder", "encoder")


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Everything that decides the result of a training run besides the machine's rounding."""

    seed: int = 0
    dim: int = 8
    decoder_steps: int = 6_000
    encoder_steps: int = 2_000
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


def train_half(
    half: str,
    recipe: AutoencoderRecipe,
    basis: LatentBasis,
    checkpoint: Path,
    device: torch.device,
    report: Callable[[int, int, float], None],
) -> nn.Module:
    """Trains one of HALVES, or resumes from `checkpoint`, and returns the averaged weights.

    `report(step, steps, loss)` is called every step. The checkpoint is rewritten every 100 steps and at the end.
    """
    torch.manual_seed(recipe.seed)
    model = channels_last(getattr(WanAutoencoder(recipe.dim), half)).to(device)
    average = channels_last(getattr(WanAutoencoder(recipe.dim), half)).to(device).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    for module in model.modules():
        if isinstance(module, FrameAttention):
            module.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    steps = recipe.steps(half)
    start = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        start = saved["step"]
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])

    sampler = ClipSampler(recipe.seed + start + 1)
    loss_average = 0.0
    for step in range(start, steps):
        video = sampler.draw(recipe.crops[step % len(recipe.crops)])
        loss = half_loss(half, model, video, basis, recipe.latent_noise, device)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * learning_rate_factor(step, steps, recipe)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(recipe.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for averaged, parameter in zip(average.parameters(), model.parameters(), strict=True):
                averaged.lerp_(parameter, 1 - decay)
        loss_average = loss.item() if step == start else 0.98 * loss_average + 0.02 * loss.item()
        report(step + 1, steps, loss_average)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(checkpoint, {"step": step + 1, "loss": loss_average, **state})
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


def learning_rate_factor(step: int, steps: int, recipe: AutoencoderRecipe) -> float:
    """Linear warm-up, constant, then linear to zero over the last `decay_fraction` of the run."""
    left = (steps - step) / (steps * recipe.decay_fraction)
    return min(1.0, (step + 1) / recipe.warmup_steps, left)


def channels_last(module: nn.Module) -> nn.Module:
    """Stores convolution weights with the channels adjacent, which the CPU's convolutions want."""
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module


def to_signed(video: torch.Tensor) -> torch.Tensor:
    """Rendered video [n, t, 3, h, w] in 0..1 to the VAE's [n, 3, t, h, w] in -1..1."""
    return rearrange(video, "n t c h w -> n c t h w") * 2 - 1


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Replaces the checkpoint in one move, so that an interrupted write leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(path)


def checkpoint_loss(checkpoint: Path) -> float:
    """The averaged training loss when `checkpoint` was written."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["loss"]


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
