"""Encodes a timeline's prompts with the user's text encoder and tags them by beat."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from comfy.model_management import intermediate_device

from ..families.base import FamilyInfo
from ..script import Script
from ..timeline import Beat, Timeline
from . import BEAT_TAG, NEGATIVE_TAG
from .tokens import locate_words


def encode_timeline(clip: Any, timeline: Timeline, negative_prompt: str) -> tuple[Timeline, list[Any], list[Any]]:
    """Positive conditioning of every beat, tagged, and negative: one for all beats, or where their negative prompts
    differ, one of each, tagged; and the timeline with its words located.

    negative_prompt: of beats for which the script has none. A text that occurs several times is encoded once.
    """
    script, encoded = timeline.script, cache(partial(encode, clip))
    negatives = [negative_of(script, beat, negative_prompt) for beat in timeline.beats]
    apart = len(set(negatives)) > 1
    positive: list[Any] = []
    negative: list[Any] = [] if apart else encoded(negatives[0])
    for number, (beat, unwanted) in enumerate(zip(timeline.beats, negatives, strict=True)):
        positive += _with(encoded(beat.prompt), {BEAT_TAG: number})
        if apart:
            negative += _with(encoded(unwanted), {BEAT_TAG: number, NEGATIVE_TAG: True})
    beats = tuple(replace(beat, words=locate_words(clip, beat.prompt)) for beat in timeline.beats)
    return replace(timeline, beats=beats), positive, negative


def negative_of(script: Script, beat: Beat, negative_prompt: str) -> str:
    """The negative prompt of a beat: its own, even an empty one, the script's, or that of the node."""
    own = beat.script.negative
    return script.negative or negative_prompt if own is None else own


def _with(entries: list[Any], values: dict[str, Any]) -> list[Any]:
    return [[tensor, {**extra, **values}] for tensor, extra in entries]


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
