"""Wan 2.1 and 2.2 in all layouts whose attention can be seen (host.md 1.3).

Every block calls self-attention, then cross-attention to the image (models with an image encoder only), then
cross-attention to the text, then HuMo's to the sound; VACE runs blocks of its own behind some of the main ones. The
oldest supported host passes no block index, so calls are counted within one forward and checked by shapes. Adapters
that the host hides from other packs (the face of Animate, the sound of S2V) do not count.

Models may put tokens of reference pictures before the video's or behind them. Those stay the segment's own.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from torch import nn

from ..attention.rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, CallSite, FamilyInfo, UnexpectedCallError, UnsupportedModelError
from .block_presets import BlockPreset

NATIVE_FRAMES = {"HumoWanModel": 25, "WanModel_S2V": 20}
"""Latent frames of the clips that a class was trained on, where it is not 21."""

TI2V_CHANNELS, TI2V_NATIVE_FRAMES = 48, 31
"""Wan 2.2 TI2V-5B: latent channels, which no other Wan model has, and latent frames of its clips."""

PRESETS: Mapping[tuple[int, int], tuple[BlockPreset, ...]] = {
    (30, 12): (
        BlockPreset(
            "share",
            tuple(range(20, 30)),
            "inferred",
            "Video Storyboarding (2412.07750) carries over queries in blocks 20 to 30 of Wan 2.1-1.3B",
        ),
    ),
    (40, 40): (
        BlockPreset(
            "prompts", tuple(range(20)), "published", "SwitchCraft (2602.23956) steers Wan 2.1-14B there", (0.0, 0.4)
        ),
    ),
}
"""What is known of the blocks of a model with that many of them and that many heads."""

SHARING_CLASSES = (
    "WanModel",
    "VaceWanModel",
    "CameraWanModel",
    "HumoWanModel",
    "AnimateWanModel",
    "WanModel_S2V",
)

REFUSED = {
    "CausalWanModel": "this is a causal Wan model (Self-Forcing), which makes the video piece by piece with a memory "
    "of keys of its own, so it cannot be cut into segments. Load the Wan model that it was made from",
    "SCAILWanModel": "this is Wan SCAIL, which reads reference pictures and poses in an order of its own that KV Share "
    "does not know yet. Load Wan Animate or VACE",
    "SCAIL2WanModel": "this is Wan SCAIL 2, which reads reference pictures and poses in an order of its own that KV "
    "Share does not know yet. Load Wan Animate or VACE",
    "WanAnimate2Model": "this is Wan Animate 2, which attends to its pose video and its reference in calls of its own "
    "for every frame, and KV Share does not know them yet. Load Wan Animate or VACE",
    "WanDancerModel": "this is WanDancer, which follows music over the whole video, and music is not cut into "
    "segments. Load another Wan model",
}
"""Classes that cannot share: what they are, why not, and what to do."""

UNSEEN_S2V = (
    "this is Wan S2V, and this version of ComfyUI does not let other nodes see its attention. Update ComfyUI, or load "
    "HuMo for video from sound"
)

AUDIO_TOKENS = 16
"""Sound tokens of each latent frame in HuMo."""

Place = Literal["self", "image", "text", "audio", "aside self", "aside text"]

VACE_CYCLE: tuple[Place, ...] = ("aside self", "aside text")
"""Calls of a VACE block."""


class WanFamily:
    """Models of the host's `WanModel` class and of those of its subclasses whose attention calls are known."""

    name = "wan"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        kind = type(diffusion_model).__name__
        if kind in REFUSED:
            raise UnsupportedModelError(f"{REFUSED[kind]}.")
        if kind not in SHARING_CLASSES:
            return None
        if kind == "WanModel_S2V" and not _passes_options(diffusion_model):
            raise UnsupportedModelError(f"{UNSEEN_S2V}.")
        large = latent_channels == TI2V_CHANNELS
        spatial = 16 if large else 8
        blocks, heads = len(diffusion_model.blocks), int(diffusion_model.num_heads)  # type: ignore[arg-type]
        return FamilyInfo(
            family=self.name,
            blocks=blocks,
            heads=heads,
            head_dim=int(diffusion_model.dim) // heads,  # type: ignore[arg-type]
            joint=False,
            patch=tuple(diffusion_model.patch_size),  # type: ignore[arg-type]
            compression=(4, spatial, spatial),
            latent_channels=latent_channels,
            native_frames=TI2V_NATIVE_FRAMES if large else NATIVE_FRAMES.get(kind, 21),
            # VACE's own blocks look at the text too.
            routes_text=kind != "VaceWanModel",
            presets=PRESETS.get((blocks, heads), ()),
        )

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        calls = _calls(*_layout(diffusion_model, call.inputs))
        if call_index >= len(calls):
            raise UnexpectedCallError("no block to belong to")
        block, place = calls[call_index]
        before, after = _surroundings(diffusion_model, call.inputs)
        tokens = before + video_tokens + after
        if place == "audio":
            if call.key_tokens != AUDIO_TOKENS:
                raise UnexpectedCallError(f"{call.key_tokens} key tokens where a frame's sound has {AUDIO_TOKENS}")
            return CallSite(block, "other")
        if call.query_tokens != tokens:
            around = f" and pictures around it {before} + {after}" if before + after else ""
            raise UnexpectedCallError(f"{call.query_tokens} query tokens where the video has {video_tokens}{around}")
        if place in ("self", "aside self") and call.key_tokens != tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a self-attention over {tokens}")
        if place in ("text", "aside text") and call.key_tokens != text_tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a cross-attention to {text_tokens} text tokens")
        if place == "self":
            return CallSite(block, "self", video_start=before)
        if place == "text":
            return CallSite(block, "cross", video_start=before)
        return CallSite(block, "aside" if place == "aside text" else "other")

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> RopeScheme:
        embedder = diffusion_model.rope_embedder
        scale = (rope_options.get("scale_t", 1.0), rope_options.get("scale_y", 1.0), rope_options.get("scale_x", 1.0))
        return embed_nd_scheme(embedder.axes_dim, embedder.theta, scale)  # type: ignore[union-attr, arg-type]


def _passes_options(diffusion_model: nn.Module) -> bool:
    """Whether the forward of S2V hands its blocks the transformer options: hosts that do also tell them their index."""
    forward: Any = diffusion_model.forward_orig
    return "block_index" in forward.__code__.co_consts


def _layout(
    diffusion_model: nn.Module, inputs: Mapping[str, tuple[tuple[int, ...], ...]]
) -> tuple[int, tuple[Place, ...], tuple[int, ...]]:
    """Number of blocks, calls of each, and behind each how many VACE blocks run."""
    blocks = len(diffusion_model.blocks)  # type: ignore[arg-type]
    cycle: list[Place] = ["self", "text"]
    if diffusion_model.model_type == "i2v":
        cycle.insert(1, "image")
    if type(diffusion_model).__name__ == "HumoWanModel" and "audio_embed" in inputs:
        cycle.append("audio")
    aside: list[int] = [0] * blocks
    if "vace_context" in inputs:
        # One VACE block for each control video, [batch, videos, channels, frames, height, width].
        for block in diffusion_model.vace_layers_mapping:  # type: ignore[union-attr]
            aside[block] = inputs["vace_context"][0][1]
    return blocks, tuple(cycle), tuple(aside)


@cache
def _calls(blocks: int, cycle: tuple[Place, ...], aside: tuple[int, ...]) -> tuple[tuple[int, Place], ...]:
    """The attention calls of a forward in order, each with its block."""
    return tuple((block, place) for block in range(blocks) for place in (*cycle, *VACE_CYCLE * aside[block]))


def _surroundings(diffusion_model: nn.Module, inputs: Mapping[str, tuple[tuple[int, ...], ...]]) -> tuple[int, int]:
    """Tokens before and behind the video's in the model's sequence."""
    patch: tuple[int, ...] = tuple(diffusion_model.patch_size)  # type: ignore[arg-type]
    kind = type(diffusion_model).__name__
    before = 0
    after = sum(
        _tokens(shape, patch) for name in ("time_dim_concat", "context_latents") for shape in inputs.get(name, ())
    )
    for shape in inputs.get("reference_latent", ()):
        if kind in ("HumoWanModel", "WanModel_S2V"):
            after += _tokens(shape, patch)
        elif getattr(diffusion_model, "ref_conv", None) is not None:
            before += _tokens(shape, patch)
    if kind == "WanModel_S2V":
        for shape in inputs.get("reference_motion", ()):
            after += _packed_tokens(shape, tuple(diffusion_model.frame_packer.zip_frame_buckets))  # type: ignore[union-attr]
    return before, after


def _tokens(shape: tuple[int, ...], patch: tuple[int, ...]) -> int:
    """Tokens of a latent [..., frames, height, width] or of one picture [batch, channels, height, width]."""
    sizes = (1, *shape[2:]) if len(shape) == 4 else shape[2:]
    return math.prod(-(-size // step) for size, step in zip(sizes, patch, strict=True))


def _packed_tokens(shape: tuple[int, ...], buckets: tuple[int, ...]) -> int:
    """Tokens of the frames before the video, packed the more the longer ago: patches of 2, 4, 8 in all directions but
    the first one in time."""
    height, width = shape[-2:]
    return sum(
        (frames // step) * (height // (2 * step)) * (width // (2 * step))
        for frames, step in zip(buckets, (1, 2, 4), strict=True)
    )
