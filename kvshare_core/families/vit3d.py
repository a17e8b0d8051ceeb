"""ViT3D: the pack's own model of pixels (embedded/vit3d.py), whose frames are rows of attention over space.

The backbone's layers attend within each frame, behind a class token. After some of them frames attend to each other,
place by place, which is left as it is, and the features to the text: as tokens of the video where features are those
of patches, else as one token for every frame.
"""

import math
from collections.abc import Mapping
from typing import Any

from .base import AttentionCall, BlockName, CallSite, FamilyInfo, UnexpectedCallError
from .model_inputs import InputLayout

CLASS_TOKENS = 1
INPUTS: Mapping[str, InputLayout] = {}
MIXER = "mixer"
"""The kind of block that the model names besides the layers of its backbone."""


class ViT3DFamily:
    """Models of the pack's `HostViT3D` class. Its text encoder is in the model's own file."""

    name = "vit3d"
    inputs = INPUTS
    text_encoders = ()
    image_channels = None
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "HostViT3D":
            return None
        side, heads = _grid_side(diffusion_model), _layers(diffusion_model)[0].self_attention.heads
        return FamilyInfo(
            family=self.name,
            blocks=len(_layers(diffusion_model)),
            heads=heads,
            head_dim=diffusion_model.projection.in_features // heads,
            joint=False,
            patch=(1, -(-diffusion_model.height // side), -(-diffusion_model.width // side)),
            compression=(1, 1, 1),
            latent_channels=latent_channels,
            native_frames=int(diffusion_model.frames),
            routes_text=True,
            frames_as_rows=True,
            text_in_every_block=diffusion_model.mixing_every == 1 and _mixing_calls(diffusion_model) == 2,
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        layers, side, frames = diffusion_model.mixing_every, _grid_side(diffusion_model), call.grid[0]
        group, place = divmod(call_index, layers + _mixing_calls(diffusion_model))
        if group >= len(diffusion_model.mixers):
            raise UnexpectedCallError("no block to belong to")
        grid = (frames, side, side)
        if place < layers:
            _check(call, CLASS_TOKENS + side * side)
            return CallSite(group * layers + place, "self", CLASS_TOKENS, grid=grid, frames_as_rows=True)
        block = group * layers + layers - 1
        # One feature stands for its whole frame.
        read = grid if diffusion_model.patch_features else (frames, 1, 1)
        if place == layers:
            _check(call, frames)
            return CallSite(block, "other")
        _check(call, math.prod(read), text_tokens)
        return CallSite(block, "cross", grid=read)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        layers, mixing = diffusion_model.mixing_every, _mixing_calls(diffusion_model)
        if block.kind == MIXER:
            first = block.index * (layers + mixing) + layers
            return range(first, first + mixing if 0 <= block.index < len(diffusion_model.mixers) else first)
        group, place = divmod(block.index, layers)
        first = group * (layers + mixing) + place
        return range(first, first + 1 if 0 <= block.index < len(_layers(diffusion_model)) else first)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> None:
        """None: positions are learned and added to the tokens, so rotating a key does not move it."""
        return None


def _layers(diffusion_model: Any) -> Any:
    return diffusion_model.backbone.encoder.layers


def _grid_side(diffusion_model: Any) -> int:
    """Patches along the side of a frame, which is resized to the backbone's size."""
    return int(diffusion_model.backbone.shape.grid)


def _mixing_calls(diffusion_model: Any) -> int:
    """Calls of a mixer: across frames, and to the text where the model reads one."""
    return 1 if diffusion_model.mixers[0].text is None else 2


def _check(call: AttentionCall, tokens: int, text_tokens: int | None = None) -> None:
    """Raises UnexpectedCallError for a call of other tokens, which attend to each other where there is no text."""
    if call.query_tokens != tokens:
        raise UnexpectedCallError(f"{call.query_tokens} query tokens where the video has {tokens}")
    if text_tokens is None and call.key_tokens != tokens:
        raise UnexpectedCallError(f"{call.key_tokens} key tokens in a self-attention over {tokens}")
    if text_tokens is not None and call.key_tokens != text_tokens:
        raise UnexpectedCallError(f"{call.key_tokens} key tokens in a cross-attention to {text_tokens} text tokens")
