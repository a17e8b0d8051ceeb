"""The embedded VAE: it computes what the host's class computes, keeps rendered scenes, trains and resumes."""

import comfy.latent_formats
import comfy.sd
import pytest
import torch

from kvshare_core.embedded.files import VAE_FILE, WEIGHTS
from kvshare_core.embedded.latents import LatentBasis, fit_basis
from kvshare_core.embedded.model import load_vae, load_vae_patcher
from kvshare_core.embedded.scenes import COLOUR_VALUES, render, sample_scenes
from kvshare_core.embedded.training import autoencoder as layout
from kvshare_core.embedded.training import vae as training
from kvshare_core.embedded.training.clips import ClipSampler, CropShape
from kvshare_core.embedded.training.evaluation import evaluate, flat_regions
from kvshare_core.embedded.training.loop import checkpoint_loss


@pytest.fixture(scope="module")
def basis() -> LatentBasis:
    return fit_basis()


@pytest.fixture(scope="module")
def vae() -> comfy.sd.VAE:
    return load_vae()


def held_out_clip(seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """One scene that training never showed: video [17, 3, 96, 96] and mask [17, 96, 96]."""
    video, mask = render(sample_scenes(1, torch.Generator().manual_seed(seed), held_out=True))
    return video[0], mask[0]


def decibels(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


@pytest.mark.parametrize("frames", [1, 5, 9, 13])
def test_lean_forward_equals_the_hosts(frames: int) -> None:
    torch.manual_seed(0)
    lean = layout.WanAutoencoder(4).requires_grad_(False)
    for name, parameter in lean.named_parameters():
        if not name.startswith(("conv1", "conv2")):
            parameter.copy_(torch.randn(parameter.shape) * 0.1 + (1 if "gamma" in name else 0))
    host = comfy.sd.VAE(sd=lean.state_dict(), dtype=torch.float32).first_stage_model
    video = torch.rand(1, 3, frames, 32, 48) * 2 - 1
    with torch.inference_mode():
        latents = lean.encode(video)
        assert latents.shape == (1, 16, (frames + 3) // 4, 4, 6)
        torch.testing.assert_close(latents, host.encode(video), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(lean.decode(latents), host.decode(latents), atol=1e-4, rtol=1e-4)


def test_published_normalisation_is_the_hosts() -> None:
    wan = comfy.latent_formats.Wan21()
    torch.testing.assert_close(wan.latents_mean.flatten(), layout.LATENT_MEAN)
    torch.testing.assert_close(wan.latents_std.flatten(), layout.LATENT_STD)


def test_shipped_file_is_small() -> None:
    assert (WEIGHTS / VAE_FILE).stat().st_size < 2.2e6


def test_missing_weights_say_what_to_run(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python3 dev\.py train"):
        load_vae(tmp_path)


@torch.no_grad()
def test_round_trip_on_the_host(vae: comfy.sd.VAE, basis: LatentBasis) -> None:
    video, _ = held_out_clip()
    latents = vae.encode(video.movedim(1, -1))
    assert latents.shape == (1, 16, 5, 12, 12)
    normalised = comfy.latent_formats.Wan21().process_in(latents)
    assert (normalised - basis.encode(video[None])).square().mean().sqrt() < 0.2

    decoded = vae.decode(latents)
    assert decoded.shape == (1, 17, 96, 96, 3)
    assert decibels(decoded[0].movedim(-1, 1), video) > 28


@torch.no_grad()
def test_decoder_draws_clean_scenes_from_exact_latents(vae: comfy.sd.VAE, basis: LatentBasis) -> None:
    video, mask = held_out_clip()
    raw = comfy.latent_formats.Wan21().process_out(basis.encode(video[None]))
    decoded = vae.decode(raw)[0].movedim(-1, 1)
    assert decibels(decoded, video) > 30
    difference = decoded - video
    for region in flat_regions(mask[None]):
        assert difference.movedim(1, -1)[region[0] == 1].mean(0).abs().max() < 0.03


@torch.no_grad()
def test_long_clips_decode_as_well_as_short_ones(vae: comfy.sd.VAE, basis: LatentBasis) -> None:
    """41 frames of one slower scene, then a cut to another: the causal convolutions carry nothing astray."""
    generator = torch.Generator().manual_seed(3)
    first, second = (render(sample_scenes(1, generator, held_out=True), frames=count)[0] for count in (41, 16))
    video = torch.cat([first, second], dim=1)
    raw = comfy.latent_formats.Wan21().process_out(basis.encode(video))
    decoded = vae.decode(raw)[0].movedim(-1, 1)
    assert decoded.shape == video[0].shape
    assert decibels(decoded[:41], first[0]) > 29
    assert decibels(decoded[-8:], second[0, -8:]) > 29


def test_a_second_copy_has_the_same_weights(vae: comfy.sd.VAE) -> None:
    copy = load_vae_patcher(WEIGHTS).model.state_dict()
    for name, tensor in vae.first_stage_model.state_dict().items():
        torch.testing.assert_close(copy[name], tensor)


def test_crops_have_the_asked_shape_and_range() -> None:
    sampler = ClipSampler(0)
    for shape in (CropShape(3, 5, 48), CropShape(1, 33, 32), CropShape(2, 17, 96)):
        video = sampler.draw(shape)
        assert video.shape == (shape.count, shape.frames, 3, shape.side, shape.side)
        assert 0 <= video.min() and video.max() <= 1


@pytest.mark.parametrize("half", training.HALVES)
def test_training_lowers_the_loss_and_resumes(half: str, basis: LatentBasis, tmp_path) -> None:
    device = torch.device("cpu")
    crop = CropShape(2, 5, 16)
    seen: list[int] = []

    def train(steps: int) -> torch.nn.Module:
        recipe = training.AutoencoderRecipe(
            dim=4, decoder_steps=steps, encoder_steps=steps, learning_rate=1e-2, warmup_steps=3, crops=(crop,)
        )
        return training.train_half(
            half, recipe, basis, tmp_path / "half.pt", device, lambda step, _steps, _loss: seen.append(step)
        )

    def loss(module: torch.nn.Module) -> float:
        with torch.no_grad():
            return float(training.half_loss(half, module, ClipSampler(99).draw(crop), basis, 0.0, device))

    torch.manual_seed(0)
    untrained = loss(getattr(layout.WanAutoencoder(4), half))
    train(32)
    resumed = train(60)
    assert seen == list(range(1, 61))
    assert loss(resumed) < 0.95 * untrained
    assert checkpoint_loss(tmp_path / "half.pt") > 0


def test_saved_weights_load_and_are_measured(basis: LatentBasis, tmp_path) -> None:
    autoencoder = training.assemble(training.AutoencoderRecipe(dim=4), {})
    training.save_weights(autoencoder, tmp_path / "vae.safetensors")
    loaded = training.load_weights(tmp_path / "vae.safetensors")
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, autoencoder.state_dict()[name], atol=1e-2, rtol=1e-2)
    quality = evaluate(loaded, basis, scenes=1)
    assert quality.linear > 25 > quality.decoder
    assert 0 < quality.flat_colour_error <= float(COLOUR_VALUES.max())
