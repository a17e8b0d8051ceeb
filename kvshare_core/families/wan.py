"""Wan 2.1 and 2.2 in all layouts whose attention calls the host lets other packs override.

Every block calls self-attention, then cross-attention to the image (models with an image encoder only), then
cross-attention to the text, then, in HuMo, to the audio; VACE runs control blocks of its own after some of the main
ones. Adapters whose calls no pack can override (the face of Animate, the audio of S2V) are not counted.

Models may put tokens of reference images before the video's or after them. Those are never shared.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from ..attention.rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, BlockName, CallSite, FamilyInfo, Shapes, UnexpectedCallError, UnsupportedModelError
from .block_presets import BlockPreset
from .model_inputs import ImageChannels, InputLayout, PerFrame, ReferenceFrames
from .text_encoders import PLAIN_PROMPT, UMT5_XXL, TextEncoders

NATIVE_FRAMES = {"HumoWanModel": 25, "WanModel_S2V": 20}
"""Latent frames of the clips that a class was trained on, where they are not 21."""

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
"""Block presets by a model's numbers of blocks and heads."""

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
    "SCAILWanModel": "this is Wan SCAIL, which takes reference images and poses in an order of its own that KV Share "
    "does not know yet. Load Wan Animate or VACE",
    "SCAIL2WanModel": "this is Wan SCAIL 2, which takes reference images and poses in an order of its own that KV "
    "Share does not know yet. Load Wan Animate or VACE",
    "WanAnimate2Model": "this is Wan Animate 2, which attends to its pose video and its reference in calls of its own "
    "for every frame, and KV Share does not know them yet. Load Wan Animate or VACE",
    "WanDancerModel": "this is WanDancer, which follows music over the whole video, and music is not cut into "
    "segments. Load another Wan model",
}
"""Classes that cannot share: what they are, why not, and what to do."""

CLOSED_S2V = (
    "this is Wan S2V, and this version of ComfyUI does not let other nodes change its attention. Update ComfyUI, or "
    "load HuMo for video from audio"
)

INPUTS: Mapping[str, InputLayout] = {
    "audio_embed": {
        # HuMo [batch, frames, window, layers, width], S2V [batch, layers, width, pictures].
        5: PerFrame(1, length="longer"),
        4: PerFrame(3, per_frame=4, length="longer"),
    },
    "camera_conditions": PerFrame(2),
    "clip_fea": "whole video",
    "clip_fea_ref": "whole video",
    "context_latents": "reference latents",
    "control_video": PerFrame(2),
    "face_pixel_values": PerFrame(2, per_frame=4, first=1, length="any"),
    "pose_latents": PerFrame(2, first=1, length="any"),
    "reference_latent": "whole video",
    "reference_motion": "first segment",
    "time_dim_concat": "whole video",
    "vace_context": PerFrame(3),
    "vace_strength": "whole video",
}

REFERENCE_FRAMES: Mapping[str, ReferenceFrames] = {
    # 32 channels of the control video, then 64 of its mask, which is 1 where the model generates.
    "VaceWanModel": ReferenceFrames("vace_context", channel_dim=2, frame_dim=3, channels=(32, 96), value=0.0),
    # A mask of 4 channels, which is 1 where an image is given.
    "AnimateWanModel": ReferenceFrames("c_concat", channel_dim=1, frame_dim=2, channels=(0, 4), value=1.0),
}
"""Classes whose nodes (WanVaceToVideo, WanAnimateToVideo) put the reference picture in front of the video."""

UMT5 = TextEncoders("WAN", (UMT5_XXL,), PLAIN_PROMPT)

AUDIO_TOKENS = 16
"""Audio tokens of each latent frame in HuMo."""

Attention = Literal["self", "image", "text", "audio", "control self", "control text"]
"""What the video's tokens attend to in a call; `control` marks the calls of VACE's own blocks."""

VACE_CYCLE: tuple[Attention, ...] = ("control self", "control text")
"""Calls of a VACE block."""


class WanFamily:
    """Models of the host's `WanModel` class and of those of its subclasses whose attention calls are known."""

    name = "wan"
    inputs = INPUTS
    text_encoders = (UMT5,)
    # WanFirstLastFrameToVideo of the host: a latent of 16 channels and a mask of 4 channels; grey where no image is.
    image_channels = ImageChannels(
        "patch_embedding.weight", extra_channels=20, mask_channels=4, empty_pixel=0.5, last_image=True, mask_first=True
    )
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        kind = type(diffusion_model).__name__
        if kind in REFUSED:
            raise UnsupportedModelError(f"{REFUSED[kind]}.")
        if kind not in SHARING_CLASSES:
            return None
        if kind == "WanModel_S2V" and not _passes_options(diffusion_model):
            raise UnsupportedModelError(f"{CLOSED_S2V}.")
        large = latent_channels == TI2V_CHANNELS
        spatial = 16 if large else 8
        blocks, heads = len(diffusion_model.blocks), int(diffusion_model.num_heads)
        return FamilyInfo(
            family=self.name,
            blocks=blocks,
            heads=heads,
            head_dim=int(diffusion_model.dim) // heads,
            joint=False,
            patch=tuple(diffusion_model.patch_size),
            compression=(4, spatial, spatial),
            latent_channels=latent_channels,
            native_frames=TI2V_NATIVE_FRAMES if large else NATIVE_FRAMES.get(kind, 21),
            # VACE's own blocks attend to the text too.
            routes_text=kind != "VaceWanModel",
            presets=PRESETS.get((blocks, heads), ()),
            text_encoders=UMT5,
            reference_frames=REFERENCE_FRAMES.get(kind),
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        calls = _calls(*_layout(diffusion_model, call.inputs))
        if call_index >= len(calls):
            raise UnexpectedCallError("no block to belong to")
        block, attends_to = calls[call_index]
        before, after = _tokens_around_video(diffusion_model, call.inputs)
        tokens = before + video_tokens + after
        if attends_to == "audio":
            if call.key_tokens != AUDIO_TOKENS:
                raise UnexpectedCallError(f"{call.key_tokens} key tokens where a frame's audio has {AUDIO_TOKENS}")
            return CallSite(block, "other")
        if call.query_tokens != tokens:
            around = f" and reference images {before} + {after}" if before + after else ""
            raise UnexpectedCallError(f"{call.query_tokens} query tokens where the video has {video_tokens}{around}")
        if attends_to in ("self", "control self") and call.key_tokens != tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a self-attention over {tokens}")
        if attends_to in ("text", "control text") and call.key_tokens != text_tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a cross-attention to {text_tokens} text tokens")
        if attends_to == "self":
            return CallSite(block, "self", video_start=before)
        if attends_to == "text":
            return CallSite(block, "cross", video_start=before)
        return CallSite(block, "aside" if attends_to == "control text" else "other")

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return _ranges(*_layout(diffusion_model, call.inputs)).get(block.index, range(0))

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme:
        embedder = diffusion_model.rope_embedder
        scale = (rope_options.get("scale_t", 1.0), rope_options.get("scale_y", 1.0), rope_options.get("scale_x", 1.0))
        return embed_nd_scheme(embedder.axes_dim, embedder.theta, scale)


def _passes_options(diffusion_model: Any) -> bool:
    """Whether the forward of S2V passes the transformer options on to its blocks: where it does, it also puts the block
    index into them."""
    return "block_index" in diffusion_model.forward_orig.__code__.co_consts


def _layout(diffusion_model: Any, inputs: Shapes) -> tuple[int, tuple[Attention, ...], tuple[int, ...]]:
    """Number of blocks, calls of each, and how many VACE blocks run after each."""
    blocks = len(diffusion_model.blocks)
    cycle: tuple[Attention, ...] = ("self", "text")
    if diffusion_model.model_type == "i2v":
        cycle = ("self", "image", "text")
    if "audio_embed" in inputs and type(diffusion_model).__name__ == "HumoWanModel":
        cycle = (*cycle, "audio")
    if "vace_context" not in inputs:
        return blocks, cycle, (0,) * blocks
    # One VACE block for each control video, [batch, videos, channels, frames, height, width].
    controlled, videos = diffusion_model.vace_layers_mapping, inputs["vace_context"][0][1]
    return blocks, cycle, tuple(videos if block in controlled else 0 for block in range(blocks))


@cache
def _calls(
    blocks: int, cycle: tuple[Attention, ...], control_blocks: tuple[int, ...]
) -> tuple[tuple[int, Attention], ...]:
    """The attention calls of a forward in order, each with its block."""
    return tuple(
        (block, attends_to) for block in range(blocks) for attends_to in (*cycle, *VACE_CYCLE * control_blocks[block])
    )


@cache
def _ranges(blocks: int, cycle: tuple[Attention, ...], control_blocks: tuple[int, ...]) -> Mapping[int, range]:
    """The numbers of every block's calls, VACE's that follow it among them."""
    ranges: dict[int, range] = {}
    first = 0
    for block in range(blocks):
        count = len(cycle) + len(VACE_CYCLE) * control_blocks[block]
        ranges[block] = range(first, first + count)
        first += count
    return ranges


TOKENS_AROUND = frozenset({"context_latents", "reference_latent", "reference_motion", "time_dim_concat"})
"""Inputs that become tokens before the video's or after them."""


def _tokens_around_video(diffusion_model: Any, inputs: Shapes) -> tuple[int, int]:
    """Numbers of tokens before the video's and after them in the model's sequence."""
    if TOKENS_AROUND.isdisjoint(inputs):
        return 0, 0
    patch: tuple[int, ...] = tuple(diffusion_model.patch_size)
    kind = type(diffusion_model).__name__
    before = after = 0
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
            after += _packed_tokens(shape, tuple(diffusion_model.frame_packer.zip_frame_buckets))
    return before, after


def _tokens(shape: tuple[int, ...], patch: tuple[int, ...]) -> int:
    """Number of tokens of a latent [..., frames, height, width] or of one image [batch, channels, height, width]."""
    sizes = (1, *shape[2:]) if len(shape) == 4 else shape[2:]
    return math.prod(-(-size // step) for size, step in zip(sizes, patch, strict=True))


def _packed_tokens(shape: tuple[int, ...], buckets: tuple[int, ...]) -> int:
    """Number of tokens of the frames before the video, packed the more the longer ago: patches of (1, 2, 2), (2, 4, 4)
    and (4, 8, 8)."""
    height, width = shape[-2:]
    return sum(
        (frames // step) * (height // (2 * step)) * (width // (2 * step))
        for frames, step in zip(buckets, (1, 2, 4), strict=True)
    )
