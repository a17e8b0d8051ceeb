"""Encodes a timeline's prompts with the user's text encoder and tags them by beat."""

from dataclasses import replace
from typing import Any

import torch
from comfy.model_management import intermediate_device

from ..families.base import FamilyInfo
from ..timeline import Timeline
from . import BEAT_TAG
from .tokens import locate_words


def encode_timeline(clip: Any, timeline: Timeline, negative_prompt: str) -> tuple[Timeline, list[Any], list[Any]]:
    """Positive conditioning of every beat, tagged, and one negative for all; and the timeline with its words located.

    A prompt that occurs in several beats is encoded once.
    """
    encoded: dict[str, list[Any]] = {}
    positive: list[Any] = []
    for number, beat in enumerate(timeline.beats):
        if beat.prompt not in encoded:
            encoded[beat.prompt] = encode(clip, beat.prompt)
        positive += [[tensor, {**extra, BEAT_TAG: number}] for tensor, extra in encoded[beat.prompt]]
    beats = tuple(replace(beat, words=locate_words(clip, beat.prompt)) for beat in timeline.beats)
    return replace(timeline, beats=beats), positive, encode(clip, negative_prompt)


def encode(clip: Any, text: str) -> list[Any]:
    """What the stock CLIPTextEncode gives for `text`."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def empty_latent(info: FamilyInfo, timeline: Timeline, width: int, height: int, batch: int) -> torch.Tensor:
    """Zeros [batch, channels, frames, height, width] for the whole timeline. Raises ValueError on sizes that misfit."""
    _, down_height, down_width = info.compression
    for name, size, factor in (("width", width, down_width), ("height", height, down_height)):
        step = factor * info.patch[1 if name == "height" else 2]
        if size % step:
            raise ValueError(
                f"{name} is {size}, but this model needs a multiple of {step}; "
                f"take {max(step, round(size / step) * step)}."
            )
    shape = (batch, info.latent_channels, timeline.latent_frames, height // down_height, width // down_width)
    return torch.zeros(shape, device=intermediate_device())
