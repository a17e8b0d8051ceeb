"""Encodes a timeline's prompts with the user's text encoder and tags them by beat."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from comfy.hooks import set_hooks_for_conditioning
from comfy.model_management import intermediate_device, throw_exception_if_processing_interrupted
from comfy.nested_tensor import NestedTensor

from ...families.base import FamilyInfo
from ...families.model_inputs import PackedAudio
from ...record.handover import Handover
from ...script.film import Script
from ...timeline.timeline import Beat, Timeline
from .. import BEAT_TAG, COMMON_TAG, HANDOVER_TAG, NEGATIVE_TAG, PROMPT_TAG
from .loras import lora_hooks
from .tokens import locate_words


def encode_timeline(
    clip: Any, timeline: Timeline, negative_prompt: str, encode_text: Callable[[str], list[Any]] | None = None
) -> tuple[Timeline, list[Any], list[Any]]:
    """The timeline with its words located; positive conditioning, tagged by beat; and negative conditioning: one entry
    for all beats, or if they differ, one for each, tagged.

    A common prompt applies to the first part of the noise schedule, and the beats' own from there on (TunerDiT: early
    steps share a prompt, which settles the layout). LoRAs of a beat act on all conditioning of that beat.
    negative_prompt: for beats without one in the script. encode_text: makes the conditioning of a text, where
    that takes more than the text encoder. A text that occurs several times is encoded once. Between two prompts the
    user can interrupt.

    Raises ValueError for a LoRA that cannot be loaded.
    """
    script, beats, encoded = timeline.script, timeline.beats, cache(encode_text or partial(encode, clip))
    hooks, handover = lora_hooks(beats), Handover()

    def of_every_beat(texts: Sequence[str], values: dict[str, Any]) -> list[Any]:
        entries: list[Any] = []
        for number, (text, hook) in enumerate(zip(texts, hooks, strict=True)):
            throw_exception_if_processing_interrupted()
            entries += set_hooks_for_conditioning(
                _with(encoded(text), {**values, HANDOVER_TAG: handover, PROMPT_TAG: text, BEAT_TAG: number}), hook
            )
        return entries

    def of_all_beats(texts: Sequence[str], values: dict[str, Any]) -> list[Any]:
        """One entry without a tag when all beats have the same."""
        if len({*zip(texts, hooks, strict=True)}) > 1:
            return of_every_beat(texts, values)
        entries = _with(encoded(texts[0]), {**values, HANDOVER_TAG: handover, PROMPT_TAG: texts[0]})
        return set_hooks_for_conditioning(entries, hooks[0])

    prompts = [beat.prompt for beat in beats]
    if script.common_prompt and script.common_until > 0:
        common = [script.common_prompt] * len(beats)
        positive = of_all_beats(common, {COMMON_TAG: True, "end_percent": script.common_until})
        positive += of_every_beat(prompts, {"start_percent": script.common_until})
    else:
        positive = of_every_beat(prompts, {})
    negative = of_all_beats([negative_of(script, beat, negative_prompt) for beat in beats], {NEGATIVE_TAG: True})
    located: list[Beat] = []
    for beat in beats:
        throw_exception_if_processing_interrupted()
        located.append(replace(beat, words=locate_words(clip, beat.prompt)))
    return replace(timeline, beats=tuple(located)), positive, negative


def negative_of(script: Script, beat: Beat, negative_prompt: str) -> str:
    """The negative prompt of a beat: its own, even an empty one, the script's, or that of the node."""
    own = beat.script.negative
    return script.negative or negative_prompt if own is None else own


def _with(entries: list[Any], values: dict[str, Any]) -> list[Any]:
    return [[tensor, {**extra, **values}] for tensor, extra in entries]


def encode(clip: Any, text: str) -> list[Any]:
    """What the stock CLIPTextEncode gives for `text`."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def empty_latent(
    info: FamilyInfo,
    timeline: Timeline,
    width: int,
    height: int,
    batch: int,
    audio: PackedAudio | None = None,
    diffusion_model: Any = None,
) -> Any:
    """Zeros [batch, channels, frames, height, width] for the whole timeline, or [frames, channels, height, width] where
    the model's latent is a batch of pictures; where it cannot do without `audio`, nested with zeros for that. Raises
    ValueError for sizes that the model cannot have."""
    _, down_height, down_width = info.compression
    for name, size, factor in (("width", width, down_width), ("height", height, down_height)):
        step = factor * info.patch[1 if name == "height" else 2]
        if size % step:
            raise ValueError(
                f"{name} is {size}, but this model needs a multiple of {step}; "
                f"choose {max(step, round(size / step) * step)}."
            )
    if info.frames_in_batch:
        if batch != 1:
            raise ValueError(
                f"batch_size is {batch}, but this model's latent is a batch of pictures, the frames of one film. Set "
                "it to 1, and queue the workflow again for more."
            )
        pictures = (timeline.latent_frames, info.latent_channels, height // down_height, width // down_width)
        return torch.zeros(pictures, device=intermediate_device())
    shape = (batch, info.latent_channels, timeline.latent_frames, height // down_height, width // down_width)
    video = torch.zeros(shape, device=intermediate_device())
    if audio is None or audio.shape is None or isinstance(audio.pictures_per_second, str):
        return video
    steps = round(timeline.frames / audio.pictures_per_second * audio.steps_per_second(diffusion_model))
    return NestedTensor((video, video.new_zeros(batch, *audio.shape(diffusion_model, steps))))


def other_rate(audio: PackedAudio | None, fps: float) -> list[str]:
    """A line when the model makes so many pictures a second whatever the user plans with."""
    rate = None if audio is None else audio.pictures_per_second
    if rate is None or isinstance(rate, str) or rate == fps:
        return []
    return [f"The model makes {rate:g} frames per second, but fps is {fps:g}; set fps to {rate:g}."]
