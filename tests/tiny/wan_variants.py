"""Tiny models of the Wan layouts besides plain text- and image-to-video, and what their nodes put in a conditioning."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import comfy.ldm.wan.model as host
import comfy.ops
import comfy.sd
import torch
from comfy.ldm.wan.model_animate import AnimateWanModel

from kvshare_core.timeline.timeline import Timeline
from tests.tiny.models import CHANNELS, seeded_state_dict

SIDE = 6
"""Height and width of the latents."""

CLASSES: dict[str, Any] = {
    "": host.WanModel,
    "vace": host.VaceWanModel,
    "camera": host.CameraWanModel,
    "humo": host.HumoWanModel,
    "animate": AnimateWanModel,
    "s2v": host.WanModel_S2V,
}


def tiny_variant(kind: str = "", layers: int = 3, channels: int = CHANNELS, extra: int = 0, **options: Any) -> Any:
    """A Wan MODEL of 128 channels of the class that CLASSES names; `extra` input channels besides the latent's."""
    if kind:
        options.setdefault("model_type", kind)
    module = CLASSES[kind](
        in_dim=channels + extra,
        out_dim=channels,
        dim=128,
        ffn_dim=256,
        num_heads=1,
        num_layers=layers,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
        **options,
    )
    state = seeded_state_dict(module)
    state |= {name: buffer for name, buffer in module.state_dict().items() if name not in state}
    model = comfy.sd.load_diffusion_model_state_dict(state)
    assert type(model.model.diffusion_model) is CLASSES[kind]
    return model


def seeded(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def video(timeline: Timeline, channels: int = CHANNELS, seed: int = 3, frames: int | None = None) -> torch.Tensor:
    """A latent over the timeline, or over that many frames."""
    return seeded(seed, 1, channels, timeline.latent_frames if frames is None else frames, SIDE, SIDE)


def vision(tokens: int = 257) -> Any:
    """A CLIP vision output, of two pictures for 514 tokens."""
    return SimpleNamespace(penultimate_hidden_states=seeded(4, 1, tokens, 1280))


def first_and_last(timeline: Timeline) -> Mapping[str, Any]:
    """What WanFirstLastFrameToVideo adds: only the outer frames are known."""
    mask = torch.ones(1, 4, timeline.latent_frames, SIDE, SIDE)
    mask[:, :, 0] = mask[:, -1:, -1:] = 0
    return {"concat_latent_image": video(timeline), "concat_mask": mask, "clip_vision_output": vision(514)}


def fun_control(timeline: Timeline) -> Mapping[str, Any]:
    """What WanFunControlToVideo and a reference image add."""
    return {
        "concat_latent_image": video(timeline, 2 * CHANNELS),
        "clip_vision_output": vision(),
        "reference_latents": [video(timeline, frames=1)],
    }


def known_start(timeline: Timeline) -> Mapping[str, Any]:
    """Timesteps of TI2V-5B where the first frame is given."""
    mask = torch.ones(1, 48, timeline.latent_frames, SIDE, SIDE)
    mask[:, :, 0] = 0
    return {"denoise_mask": mask}


def two_controls(timeline: Timeline) -> Mapping[str, Any]:
    """What two WanVaceToVideo nodes in a row add."""
    return {
        "vace_frames": [video(timeline, 32, seed) for seed in (3, 4)],
        "vace_mask": [(video(timeline, 64, seed) > 0).float() for seed in (5, 6)],
        "vace_strength": [1.0, 0.5],
    }


def camera_path(timeline: Timeline) -> Mapping[str, Any]:
    """What WanCameraImageToVideo adds."""
    return {
        "camera_conditions": seeded(6, 1, 24, timeline.latent_frames, 8 * SIDE, 8 * SIDE),
        "concat_latent_image": video(timeline),
        "clip_vision_output": vision(),
    }


def speech(timeline: Timeline) -> Mapping[str, Any]:
    """What WanHuMoImageToVideo adds."""
    return {
        "audio_embed": seeded(7, 1, timeline.latent_frames, 8, 5, 1280),
        "reference_latents": [video(timeline, frames=1)],
    }


def poses(timeline: Timeline) -> Mapping[str, Any]:
    """What WanAnimateToVideo adds for a pose video."""
    return {
        "pose_video_latent": video(timeline, frames=timeline.latent_frames - 1),
        "concat_latent_image": video(timeline),
        "clip_vision_output": vision(),
    }


def pictures_behind(timeline: Timeline) -> Mapping[str, Any]:
    """What WanPhantomSubjectToVideo adds for two pictures."""
    return {"time_dim_concat": video(timeline, frames=2)}


def reference_video_and_image(timeline: Timeline) -> Mapping[str, Any]:
    """A video to edit and a larger reference image."""
    return {"context_latents": [video(timeline), seeded(8, 1, CHANNELS, 1, SIDE + 2, SIDE)]}


def sound(timeline: Timeline) -> Mapping[str, Any]:
    """What WanSoundImageToVideo adds, a pose video included."""
    return {
        "audio_embed": seeded(7, 1, 25, 1024, 4 * timeline.latent_frames),
        "reference_latents": [video(timeline, frames=1)],
        "control_video": video(timeline),
    }


BUILDERS: dict[str, tuple[Callable[[], Any], Callable[[Timeline], Mapping[str, Any]]]] = {
    "wan first and last frame": (
        lambda: tiny_variant(model_type="i2v", extra=20, flf_pos_embed_token_number=514),
        first_and_last,
    ),
    "wan 2.2 i2v": (lambda: tiny_variant(extra=20), lambda timeline: {"concat_latent_image": video(timeline)}),
    "wan fun control": (
        lambda: tiny_variant(model_type="i2v", extra=32, in_dim_ref_conv=CHANNELS),
        fun_control,
    ),
    "wan ti2v 5b": (lambda: tiny_variant(channels=48), known_start),
    "wan vace": (lambda: tiny_variant("vace", layers=4, vace_layers=2, vace_in_dim=96), two_controls),
    "wan camera": (lambda: tiny_variant("camera", extra=16), camera_path),
    "wan humo": (lambda: tiny_variant("humo"), speech),
    "wan animate": (lambda: tiny_variant("animate", layers=5, extra=20), poses),
    "wan phantom": (tiny_variant, pictures_behind),
    "wan in context": (tiny_variant, reference_video_and_image),
    "wan s2v": (lambda: tiny_variant("s2v", audio_inject_layers=[0, 2]), sound),
}
"""How to make each layout's MODEL, and what its nodes add to a conditioning."""


def lacks(name: str) -> str | None:
    """What the host under test lacks for a layout; None when it has all of it."""
    if name == "wan in context" and "context_latents" not in host.WanModel.forward_orig.__code__.co_consts:
        return "the host has no latents in context"
    if name == "wan s2v" and "block_index" not in host.WanModel_S2V.forward_orig.__code__.co_consts:
        return "the host does not let packs override the attention of Wan S2V"
    return None
