"""The UNets of Stable Diffusion 1.x, 2.x and SDXL: stills, and batches of frames that a motion module makes a video of.

Their latent is a batch of pictures. Every block attends to its picture, then to the text; the levels of the UNet have
grids and widths of their own. The host names part, place and block with every call, and the size of the block's grid.
Which of a block's two calls one is, their shapes say, and where picture and text have as many tokens, their order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from .base import (
    BLOCK_SHAPE,
    AttentionCall,
    BlockName,
    BlockSize,
    CallSite,
    FamilyInfo,
    UnexpectedCallError,
    UnsupportedModelError,
)
from .block_presets import BlockPreset
from .model_inputs import InputLayout
from .self_cross import self_then_cross
from .text_encoders import CLIP_L, PLAIN_PROMPT, EncoderFile, PromptTokens, TextEncoders, whole_text

CLIP_H = EncoderFile("OpenCLIP ViT-H", ("CLIP_H",))
CLIP_G = EncoderFile("OpenCLIP ViT-bigG", ("CLIP_G",))

SDXL_PROMPT = PromptTokens(
    ("SDXLClipModel",), whole_text, encoder_part="clip_l", tokenizer_part="clip_l", tokens_name="l"
)
"""Rows of CLIP-L and bigG side by side, whose tokens stand at the same places."""

SD1 = TextEncoders("STABLE_DIFFUSION", (CLIP_L,), PLAIN_PROMPT)
SD2 = TextEncoders("STABLE_DIFFUSION", (CLIP_H,), PLAIN_PROMPT)
SDXL = TextEncoders("STABLE_DIFFUSION", (CLIP_L, CLIP_G), SDXL_PROMPT)
REFINER = TextEncoders("STABLE_DIFFUSION", (CLIP_G,), PLAIN_PROMPT)

BY_TEXT_WIDTH = {768: SD1, 1024: SD2, 2048: SDXL, 1280: REFINER}
"""Text encoders by the width of the text that a model takes."""

INPUTS: Mapping[str, InputLayout] = {}
"""None of its own: all are batches, of one entry for all pictures or one for each."""

MASACTRL = BlockPreset(
    "share",
    tuple(range(10, 16)),
    "published",
    "MasaCtrl (2304.08465) shares layers 10 to 15 of SD 1.4, from step 4 of 50 on",
    (0.08, 1.0),
)

PRESETS: Mapping[tuple[int, int], tuple[BlockPreset, ...]] = {
    (16, 8): (MASACTRL,),
    (16, 20): (replace(MASACTRL, confidence="inferred", source=f"{MASACTRL.source}, which has the same blocks"),),
    (70, 20): (
        BlockPreset(
            "share",
            tuple(range(34, 70)),
            "published",
            "ConsiStory (2402.03286) extends the attention of SDXL's decoder, from step 1 of 50 on; MasaCtrl's script "
            "for SDXL begins with block 44, 54 or 64, from step 4 of 50 on",
            (0.02, 1.0),
        ),
    ),
}
"""Block presets by a model's number of blocks and the heads of its widest: SD 1.x, SD 2.x and SDXL."""

VIDEO_TRANSFORMER = "SpatialVideoTransformer"
"""The host's class of a transformer with layers over time."""


@dataclass(frozen=True)
class Place:
    """Where one transformer block is in its UNet."""

    part: tuple[str, int]
    """Part of the UNet and place in it, as the host names them."""
    depth: int
    """Its number in the transformer of that place."""
    size: BlockSize


_PLACES: WeakKeyDictionary[Any, tuple[Place, ...]] = WeakKeyDictionary()
"""Of models that were looked at, whose attention calls are many."""


class UNetFamily:
    """Models of the host's `UNetModel` class."""

    name = "unet"
    inputs = INPUTS
    text_encoders = (SD1, SD2, SDXL, REFINER)
    image_channels = None
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "UNetModel":
            return None
        if any(type(layer).__name__ == VIDEO_TRANSFORMER for _, layer in _layers(diffusion_model)):
            raise UnsupportedModelError(
                "the model is a UNet with layers over time (Stable Video Diffusion), which is not prompted by text: it "
                "animates one picture, so there are no words of a subject and no prompts to share between. Load a "
                "video diffusion transformer, or an SD 1.x, 2.x or SDXL model for stills."
            )
        places = places_of(diffusion_model)
        if not places:
            raise UnsupportedModelError(
                "the model is a UNet without attention to text, in which nothing can be shared. Load an SD 1.x, 2.x or "
                "SDXL model."
            )
        widest = max(places, key=lambda place: place.size.heads * place.size.head_dim).size
        return FamilyInfo(
            family=self.name,
            blocks=len(places),
            heads=widest.heads,
            head_dim=widest.head_dim,
            joint=False,
            patch=(1, 2, 2),
            compression=(1, 8, 8),
            latent_channels=latent_channels,
            native_frames=1,
            routes_text=True,
            presets=PRESETS.get((len(places), widest.heads), ()),
            text_encoders=BY_TEXT_WIDTH.get(_text_width(diffusion_model)),
            frames_as_rows=True,
            frames_in_batch=True,
            block_sizes=tuple(place.size for place in places),
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        block, step = divmod(call_index, 2)
        if block >= len(places_of(diffusion_model)):
            raise UnexpectedCallError("no block to belong to")
        height, width = call.options.get(BLOCK_SHAPE, (0, 0))[-2:]
        site = self_then_cross(step, call, 1, height * width, text_tokens)
        return replace(site, block=block, grid=(call.grid[0], height, width), frames_as_rows=True)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        for number, place in enumerate(places_of(diffusion_model)):
            if (place.part, place.depth) == (block.part, block.index):
                # A replaced self-attention makes no call (perturbed attention guidance).
                to_text = call.query_tokens != call.key_tokens or _is_replaced(call, block)
                return range(2 * number + to_text, 2 * number + 2)
        return range(0)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> None:
        """None: the convolutions know positions, keys are not rotated by them."""
        return None


def places_of(diffusion_model: Any) -> tuple[Place, ...]:
    """The transformer blocks of a UNet in the order in which they run."""
    known = _PLACES.get(diffusion_model)
    if known is None:
        known = _PLACES[diffusion_model] = tuple(_found(diffusion_model))
    return known


def _found(diffusion_model: Any) -> Iterator[Place]:
    scale = 1
    for part, layer in _layers(diffusion_model):
        kind = type(layer).__name__
        if kind == "SpatialTransformer":
            for depth, block in enumerate(layer.transformer_blocks):
                yield Place(part, depth, BlockSize(int(block.n_heads), int(block.d_head), scale))
        elif kind == "Downsample":
            scale *= 2
        elif kind == "Upsample":
            scale //= 2


def _layers(diffusion_model: Any) -> Iterator[tuple[tuple[str, int], Any]]:
    """All layers of a UNet in the order in which they run, with part and place as the host names them."""
    middle = diffusion_model.middle_block
    parts = (
        ("input", diffusion_model.input_blocks),
        ("middle", [] if middle is None else [middle]),
        ("output", diffusion_model.output_blocks),
    )
    for name, places in parts:
        for number, layers in enumerate(places):
            for layer in layers:
                yield (name, number), layer


def _text_width(diffusion_model: Any) -> int:
    """Width of the text that a UNet attends to."""
    for _, layer in _layers(diffusion_model):
        if type(layer).__name__ == "SpatialTransformer":
            return int(layer.transformer_blocks[0].attn2.to_k.weight.shape[1])
    return 0


def _is_replaced(call: AttentionCall, block: BlockName) -> bool:
    """Whether another node replaces the self-attention of a block."""
    replaced = (call.options.get("patches_replace") or {}).get("attn1") or {}
    return block.part is not None and ((*block.part, block.index) in replaced or block.part in replaced)
