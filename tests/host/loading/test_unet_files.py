"""Checkpoints of Stable Diffusion through ComfyUI's loader and the pack's: a file with the smallest UNet that the host
takes for SD 1.5, of random weights."""

from pathlib import Path
from typing import Any

import comfy.ops
import folder_paths
import pytest
import safetensors.torch
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from nodes import CheckpointLoaderSimple, VAEDecode

from kvshare_core.families.text_encoders import CLIP_L
from kvshare_core.host.loading.loading import load_video_model
from kvshare_core.host.loading.model_headers import model_facts
from kvshare_core.host.loading.model_info import model_info
from tests.support.family_cases import CASES
from tests.support.windows import share
from tests.tiny.models import Sampling, lively_state_dict
from tests.tiny.unets import CHANNELS, TEXT_WIDTHS
from tests.tiny.vaes import image_vae_weights

NAME = "tiny_sd15.safetensors"
ENCODER = "tiny_clip_l.safetensors"
STILLS = CASES["sd 1.5 stills"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a text encoder, as the host has one size of it only, which is large."""
    unet = UNetModel(
        image_size=32,
        in_channels=CHANNELS,
        model_channels=320,
        out_channels=CHANNELS,
        num_res_blocks=[1],
        channel_mult=(1,),
        num_heads=8,
        use_spatial_transformer=True,
        transformer_depth=[1],
        transformer_depth_middle=1,
        transformer_depth_output=[1, 1],
        context_dim=TEXT_WIDTHS["SD15"],
        legacy=False,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    weights = {f"model.diffusion_model.{name}": tensor for name, tensor in lively_state_dict(unet).items()}
    weights |= {f"first_stage_model.{name}": tensor for name, tensor in image_vae_weights().items()}
    made = tmp_path_factory.mktemp("checkpoints")
    safetensors.torch.save_file({name: tensor.half() for name, tensor in weights.items()}, made / NAME)
    return made


@pytest.fixture
def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """MODEL and VAE of ComfyUI's own loader."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", ([str(folder)], {".safetensors"}))
    model, _, vae = CheckpointLoaderSimple().load_checkpoint(NAME)[:3]
    return model, vae


def test_a_checkpoint_of_the_stock_loader_makes_a_storyboard(loaded: tuple[Any, Any]) -> None:
    model, vae = loaded
    info = model_info(model)[1]
    assert (info.family, info.blocks, info.frames_in_batch, info.native_frames) == ("unet", 4, True, 1)
    assert str(info.text_encoders) == CLIP_L.title
    timeline = STILLS.timeline(3)
    shape, negative = (3, CHANNELS, 8, 8), STILLS.negative(timeline)
    runs = [
        Sampling(steps=3).run(patched, STILLS.positive(timeline), negative, shape)
        for patched in (share(model, timeline, subject="fox")[0], model)
    ]
    assert torch.isfinite(runs[0]).all()
    pictures = VAEDecode().decode(vae, {"samples": runs[0]})[0]
    assert pictures.shape == (3, 64, 64, 3) and torch.isfinite(pictures).all()


def test_the_header_of_a_checkpoint_tells_what_it_is(folder: Path) -> None:
    facts = model_facts((str(folder / NAME),))
    assert facts is not None and (facts.info.family, facts.info.blocks) == ("unet", 4)


def test_load_video_dit_takes_a_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(3072, 768, dtype=torch.float16)}
    safetensors.torch.save_file(layer, folder / ENCODER)
    for kind in ("checkpoints", "text_encoders"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(folder)], {".safetensors"}))
    model, clip, vae = load_video_model(f"checkpoint: {NAME}", ENCODER, "from checkpoint", "default")
    assert model_info(model)[1].family == "unet" and vae.latent_channels == CHANNELS
    assert set(clip.tokenize("a fox")) == {"l"}
    with pytest.raises(ValueError, match="text_encoder is 'from checkpoint', but"):
        load_video_model(f"checkpoint: {NAME}", "from checkpoint", "from checkpoint", "default")
