"""Timelines of the tiny models, and their segments and sharing on the real host once more.

`PlainWindows` and `DenseSharing` use none of the pack's code for either, but for the list of frequencies that the model
rotates with: they are slow, dense and in float64.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from comfy.conds import CONDConstant
from comfy.context_windows import ContextHandlerABC
from comfy.utils import pack_latents, unpack_latents

from kvshare_core.attention.rope import RopeScheme, grid_positions
from kvshare_core.config import KVShareConfig
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.prompt_words import PromptWords, SubjectTokens
from kvshare_core.record.record import KVShareRecord
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.frame_cycle import FrameCycle
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Segment, Timeline
from tests.oracles.dense_reference import dense_attention, heads_apart, heads_together, sharing_bias
from tests.oracles.rope_reference import rotated_reference
from tests.oracles.sources_oracle import ways_between_centres
from tests.tiny.models import CHANNELS, joint_text, random_text


def tiny_timeline(beats: int, window: int = 3, overlap: int = 1, frame_cycle: FrameCycle | None = None) -> Timeline:
    """`beats` prompts "fox runs" of one segment each, whose words stand at tokens 0, 1 and 2."""
    script = parse_script("fox runs\n" * beats)
    timeline = plan_timeline(script, window, overlap, fps=8, temporal_compression=4, frame_cycle=frame_cycle)
    words = PromptWords(("fox", "runs"), ((0, 1), (2,)))
    return replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))


def latent_shape(timeline: Timeline, batch: int = 1, side: int = 6) -> tuple[int, ...]:
    """Shape of the timeline's latent; `side` 6 makes 3 x 3 tokens a frame."""
    return (batch, CHANNELS, timeline.latent_frames, side, side)


def beat_prompts(timeline: Timeline, tokens: int = 6, **extra: Any) -> list[Any]:
    """Positive conditioning of every beat with a seeded text of its own, tagged."""
    return [[random_text(10 + number, tokens), {BEAT_TAG: number, **extra}] for number in range(len(timeline.beats))]


def joint_beat_prompts(timeline: Timeline, tokens: int = 7, real: int | None = None) -> list[Any]:
    """The same for models with joint attention; of `tokens` the first `real` are text, the others padding."""
    texts = [joint_text(10 + number, tokens, real) for number in range(len(timeline.beats))]
    return [[tensor, {**extra, BEAT_TAG: number}] for number, (tensor, extra) in enumerate(texts)]


def image_conditioning(timeline: Timeline, side: int = 6, seed: int = 3) -> dict[str, Any]:
    """What image-to-video nodes add to a conditioning: a latent to concatenate and a CLIP vision output."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "concat_latent_image": torch.randn(latent_shape(timeline, side=side), generator=generator),
        "clip_vision_output": SimpleNamespace(penultimate_hidden_states=torch.randn(1, 257, 1280, generator=generator)),
    }


def share(
    model: Any,
    timeline: Timeline,
    config: KVShareConfig | None = None,
    subject: str = "fox",
    mask: torch.Tensor | None = None,
    carry_image: bool = False,
) -> tuple[Any, KVShareRecord]:
    """What MaskGuidedKVShare does, but segments of image-to-video models are given frames of others only on request:
    what a segment computes then follows from its own window."""
    config = replace(config or KVShareConfig(), carry_image=carry_image)
    return apply(model, make_plan(timeline, config, subject, mask))


CUTS: dict[str, Callable[[Any, int, int], Any]] = {
    "c_concat": lambda tensor, start, stop: tensor[:, :, start:stop],
    "denoise_mask": lambda tensor, start, stop: tensor[:, :, start:stop],
    "control_video": lambda tensor, start, stop: tensor[:, :, start:stop],
    "camera_conditions": lambda tensor, start, stop: tensor[:, :, start:stop],
    "vace_context": lambda tensor, start, stop: tensor[:, :, :, start:stop],
    "pose_latents": lambda tensor, start, stop: tensor[:, :, start : stop - 1],
    "audio_embed": lambda tensor, start, stop: (
        tensor[:, start:stop] if tensor.ndim == 5 else tensor[..., 4 * start : 4 * stop]
    ),
    "context_latents": lambda latents, start, stop: [latents[0][:, :, start:stop], *latents[1:]],
}
"""What of a conditioning belongs to the frames from start to stop."""


class PlainWindows(ContextHandlerABC):
    """Evaluates the segments one by one and blends them; shares nothing unless `sharing` is given."""

    def __init__(self, timeline: Timeline, sharing: "DenseSharing | None" = None):
        self.timeline = timeline
        self.sharing = sharing

    def __deepcopy__(self, memo: dict[int, Any]) -> "PlainWindows":
        return self

    def on(self, model: Any) -> Any:
        """A clone of `model` that samples this way."""
        clone = model.clone()
        clone.model_options["context_handler"] = self
        if self.sharing is not None:
            clone.model_options["transformer_options"]["optimized_attention_override"] = self.sharing.attend
        return clone

    def should_use_context(self, *_: Any) -> bool:
        return True

    def get_resized_cond(self, cond_in: Any, x_in: torch.Tensor, window: Any, device: Any = None) -> Any:
        if cond_in is None:
            return None
        resized: list[Any] = []
        for cond in cond_in:
            if cond.get(BEAT_TAG, window.beat) == window.beat:
                parts = dict(cond["model_conds"])
                if window.start > 0:
                    parts.pop("guiding_frame_index", None)
                for name in parts.keys() & CUTS.keys():
                    parts[name] = type(parts[name])(CUTS[name](parts[name].cond, window.start, window.stop))
                resized.append({**cond, "model_conds": parts})
        return resized

    def execute(
        self, calc_cond_batch: Any, model: Any, conds: Any, x_in: torch.Tensor, timestep: Any, model_options: Any
    ) -> Any:
        shapes = next((cond["model_conds"]["latent_shapes"].cond for cond in conds[0] or () if x_in.ndim == 3), None)
        if shapes is not None:
            return self._execute_packed(calc_cond_batch, model, conds, x_in, timestep, model_options, shapes)
        time = 0 if x_in.ndim == 4 else 2
        totals = [torch.zeros_like(x_in) for _ in conds]
        weight = torch.zeros(x_in.shape[time])
        overlap, segments = self.timeline.overlap, self.timeline.segments
        for segment in segments:
            ramp = torch.ones(segment.length)
            for place in range(overlap):
                share = (place + 1) / (overlap + 1)
                ramp[place] *= share if segment.index > 0 else 1
                ramp[-1 - place] *= share if segment.index < len(segments) - 1 else 1
            weight[segment.start : segment.stop] += ramp
            if self.sharing is not None:
                self.sharing.begin_segment(segment.index, segment.beat)
            resized = [self.get_resized_cond(cond, x_in, segment) for cond in conds]
            piece = x_in.narrow(time, segment.start, segment.length).clone()
            # A batch of pictures has a noise level for each.
            levels = timestep if time else timestep[: segment.length]
            outputs = calc_cond_batch(model, resized, piece, levels, model_options)
            for total, output in zip(totals, outputs, strict=True):
                shaped = ramp.reshape(-1, *[1] * (x_in.ndim - time - 1))
                total.narrow(time, segment.start, segment.length).add_(output * shaped)
        if self.sharing is not None:
            self.sharing.end_pass()
        return [total / weight.reshape(-1, *[1] * (x_in.ndim - time - 1)) for total in totals]

    def _execute_packed(
        self,
        calc_cond_batch: Any,
        model: Any,
        conds: Any,
        x_in: torch.Tensor,
        timestep: Any,
        model_options: Any,
        shapes: Any,
    ) -> Any:
        """Video and the audio of its pictures."""
        parts = unpack_latents(x_in, shapes)
        totals = [[torch.zeros_like(part) for part in parts] for _ in conds]
        times = (2, 2 if self.timeline.frame_cycle is None else 3)
        weights = [torch.zeros(part.shape[time]) for part, time in zip(parts, times, strict=True)]
        for segment in self.timeline.segments:
            places = (slice(segment.start, segment.stop), self._sounds(segment, parts[1].shape[times[1]]))
            pieces = [
                part.narrow(time, place.start, place.stop - place.start).clone()
                for part, time, place in zip(parts, times, places, strict=True)
            ]
            packed, piece_shapes = pack_latents(pieces)
            resized = [self.get_resized_cond(cond, x_in, segment) for cond in conds]
            for cond in (cond for entries in resized for cond in entries or ()):
                inputs = cond["model_conds"]
                inputs["latent_shapes"] = CONDConstant(piece_shapes)
                if "minimax_payload" in inputs:
                    inputs["minimax_payload"] = CONDConstant(self._payload(inputs["minimax_payload"].cond, segment))
                if (mask := inputs.get("audio_denoise_mask")) is not None:
                    place = places[1]
                    inputs["audio_denoise_mask"] = type(mask)(
                        mask.cond.narrow(times[1], place.start, place.stop - place.start)
                    )
            outputs = calc_cond_batch(model, resized, packed, timestep, model_options)
            ramps = (self._ramp(segment, None), self._ramp(segment, parts[1].shape[times[1]]))
            for number, (time, place, ramp) in enumerate(zip(times, places, ramps, strict=True)):
                weights[number][place] += ramp
                shaped = ramp.reshape(-1, *[1] * (parts[number].ndim - time - 1))
                for total, output in zip(totals, outputs, strict=True):
                    piece = unpack_latents(output, piece_shapes)[number] * shaped
                    total[number].narrow(time, place.start, len(ramp)).add_(piece)
        return [
            pack_latents(
                [
                    part / weight.reshape(-1, *[1] * (part.ndim - time - 1))
                    for part, weight, time in zip(total, weights, times, strict=True)
                ]
            )[0]
            for total in totals
        ]

    def _step(self, picture: int, steps: int) -> int:
        """The step of audio that sounds with a picture's beginning."""
        return round(picture * steps / self._pictures(self.timeline.segments[-1].stop))

    def _pictures(self, frame: int) -> int:
        """Pictures before a latent frame."""
        if self.timeline.frame_cycle is not None:
            return sum(self.timeline.frame_cycle.pictures[place % 5] for place in range(frame))
        return max(0, self.timeline.temporal_compression * (frame - 1) + 1)

    def _sounds(self, segment: Segment, steps: int) -> slice:
        """Steps of audio of a segment: from its first frame's last picture on, and without an overlap until the next
        segment's begins."""
        start = self._step(self._pictures(segment.start + 1) - 1, steps)
        stop = self._step(self._pictures(segment.stop), steps)
        following = self.timeline.segments[segment.index + 1 : segment.index + 2]
        for later in following:
            stop = max(stop, self._step(self._pictures(later.start + 1) - 1, steps))
        return slice(start, stop)

    def _ramp(self, segment: Segment, steps: int | None) -> torch.Tensor:
        """The weights of a segment's latent frames, or of its steps of audio."""
        segments = self.timeline.segments

        def shown(one: Segment) -> slice:
            if steps is None:
                return slice(one.shown_start, one.shown_stop)
            stop = self._step(self._pictures(one.shown_stop), steps)
            for later in segments[one.index + 1 : one.index + 2]:
                stop = max(stop, self._step(self._pictures(later.shown_start + 1) - 1, steps))
            return slice(self._step(self._pictures(one.shown_start + 1) - 1, steps), stop)

        whole = slice(segment.start, segment.stop) if steps is None else self._sounds(segment, steps)
        own, ramp = shown(segment), torch.zeros(whole.stop - whole.start)
        first, last = own.start - whole.start, own.stop - whole.start
        ramp[first:last] = 1
        for before in segments[max(0, segment.index - 1) : segment.index]:
            count = shown(before).stop - own.start
            ramp[first : first + count] *= torch.arange(1, count + 1) / (count + 1)
        for after in segments[segment.index + 1 : segment.index + 2]:
            count = own.stop - shown(after).start
            ramp[last - count : last] *= torch.arange(count, 0, -1) / (count + 1)
        return ramp

    def _payload(self, whole: dict[str, Any], segment: Segment) -> dict[str, Any]:
        """What MiniMax H3 is told of a segment; the host makes another layout when the one it gets does not fit."""
        own = dict(whole)
        if "keyframes" in own:
            first, last = own["keyframes"]
            kept: list[Any] = [first] if segment.start == 0 else []
            count = self._pictures(segment.length)
            if segment.stop == self.timeline.segments[-1].stop:
                kept.append({**last, "resolved_frame_index": count - 1})
            own |= {"keyframes": kept, "cond_video_latents": [one["latent"] for one in kept], "frame_count": count}
        return own


class DenseSharing:
    """An attention override that shares by one dense score matrix per row.

    masks: for each segment the subject mask [tokens], or None to find masks in the cross-attention of one pass for the
    next; `guided` False shares everything instead. scheme: how the model rotates its keys.
    """

    def __init__(
        self,
        config: KVShareConfig,
        blocks: int,
        grid: tuple[int, int, int],
        scheme: RopeScheme,
        masks: list[torch.Tensor] | None = None,
        subjects: tuple[SubjectTokens, ...] = (),
        guided: bool = True,
    ):
        self.config = config
        self.blocks = blocks
        self.grid = grid
        self.scheme = scheme
        self.masks: dict[tuple[int, int], torch.Tensor] = {}
        self.given = masks
        self.subjects = subjects
        self.guided = guided
        self.scores: dict[tuple[int, int], torch.Tensor] = {}
        self.memory: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}
        self.begin_segment(0, 0)

    def begin_segment(self, segment: int, beat: int) -> None:
        self.segment, self.beat = segment, beat
        self.calls = Counter[Any]()
        if segment == 0:
            self.memory.clear()

    def end_pass(self) -> None:
        for key, score in self.scores.items():
            low, high = torch.quantile(score, torch.tensor([0.02, 0.98], dtype=torch.float64))
            self.masks[key] = (score - low) / (high - low) >= self.config.masks.thres
        self.scores.clear()

    def attend(self, function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        query, key, value = args[:3]
        heads, options = kwargs["heads"], kwargs["transformer_options"]
        conds = options["cond_or_uncond"]
        rows = query.shape[0] // len(conds)
        if key.shape[1] != math.prod(self.grid):
            if self.subjects and key.shape[1] != 257:
                self._read_maps(query, key, heads, conds, rows)
            return function(*args, **kwargs)
        block = self.calls[tuple(conds)] % self.blocks
        self.calls[tuple(conds)] += 1
        output: list[torch.Tensor] = []
        for index in range(query.shape[0]):
            cond, row = conds[index // rows], index % rows
            own = [tensor[index : index + 1] for tensor in (query, key, value)]
            self.memory[self.segment, block, cond, row] = own[1], own[2]
            output.append(self._attend_row(*own, heads, (block, cond, row)))
        return torch.cat(output).to(query.dtype)

    def _attend_row(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, place: tuple[int, int, int]
    ) -> torch.Tensor:
        row = place[2]
        own_mask = self._mask(self.segment, row)
        sources = self._sources() if own_mask is not None or not self.guided else []
        if place[1] != 0 and not self.config.share_uncond:
            sources = []
        stored = [self.memory[(source, *place)] for source in sources]
        masks = [self._mask(source, row) for source in sources]
        bias = sharing_bias(self.config, key.shape[1], own_mask, masks)
        moved = [self._moved(pair[0], mask, own_mask, heads) for pair, mask in zip(stored, masks, strict=True)]
        keys = torch.cat([key, *moved], 1)
        values = torch.cat([value, *(pair[1] for pair in stored)], 1)
        return dense_attention(query, keys, values, heads, 1, bias=bias)

    def _moved(
        self, key: torch.Tensor, mask: torch.Tensor | None, own_mask: torch.Tensor | None, heads: int
    ) -> torch.Tensor:
        """The source's keys where the configuration wants them."""
        if self.config.position != "centred" or mask is None or own_mask is None:
            return key
        places = grid_positions(torch.arange(key.shape[1]), self.grid).double()
        ways = ways_between_centres(places, mask.int() - 1, own_mask.int() - 1)
        raw = rotated_reference(heads_apart(key, heads, 1), self.scheme, -places)
        return heads_together(rotated_reference(raw, self.scheme, places + ways))

    def _sources(self) -> list[int]:
        chosen = {"first": {0}, "previous": {self.segment - 1}, "first and previous": {0, self.segment - 1}}
        return sorted(source for source in chosen[self.config.sources] if 0 <= source < self.segment)

    def _mask(self, segment: int, row: int) -> torch.Tensor | None:
        return self.given[segment] if self.given is not None else self.masks.get((segment, row))

    def _read_maps(self, query: torch.Tensor, key: torch.Tensor, heads: int, conds: list[int], rows: int) -> None:
        subject = self.subjects[self.beat]
        tokens = sorted((*subject.subject, *subject.others))
        for row in range(rows):
            index = conds.index(0) * rows + row if 0 in conds else None
            if index is None:
                continue
            queries, keys = (heads_apart(tensor[index : index + 1], heads, 1) for tensor in (query, key))
            weights = (queries @ keys[:, :, tokens].transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(-1)
            looks = {token: weights[0, :, :, place].mean(0) for place, token in enumerate(tokens)}
            score = torch.stack([looks[token] for token in subject.subject]).mean(0)
            score = score - torch.stack([looks[token] for token in subject.others]).mean(0)
            score = (score - score.mean()) / score.std(correction=0)
            known = self.scores.get((self.segment, row))
            self.scores[self.segment, row] = score if known is None else known + score
