"""Keeps whole attention maps of chosen blocks and steps: DiTCtrl's text-video, text-text, spatial and temporal maps
(section 3.2), for every query of the video.

Computed from the queries and keys of the model's own calls, a few queries at a time: no map of all tokens to all tokens
exists. It only looks on and does not change what is shared.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from ..attention.parts import TOKEN_DIM
from ..config import MapSettings
from ..devices import chunk_length, upload
from ..forward.attended_texts import AttendedText, attended_texts
from ..forward.call import OVER_VIDEO, AttentionContext
from ..plan.share_plan import SharePlan
from ..prompt_words import PromptWords
from ..record.kept_maps import KeptMap
from ..subject import maps
from ..timeline.timeline import Segment

SCORES_AT_ONCE = 1 << 25
"""Scores that are held at once, one query's at least."""
MOST_BYTES = 4 << 30
"""Memory that the maps of a run may take."""
USUAL_EVERY = 5
"""Of the steps and blocks every so manieth is kept where none is named, and the last."""

UNKNOWN_WORDS = (
    "the words of a prompt are not known, so there are no maps of them. Encode prompts by Long Video Segmenter."
)

Place = tuple[int, int, int]
"""Segment, step and block."""


class MapKeeper:
    """Takes the maps of one run's attention calls that its settings ask for."""

    def __init__(self, plan: SharePlan, blocks: int, frame_patch: int, warn: Callable[[str], None]):
        """blocks: of the model; frame_patch: latent frames per token frame; warn: receives why maps are missing."""
        self._plan = plan
        self._settings: MapSettings = plan.config.maps
        self._blocks = chosen(self._settings.layer_idx, blocks)
        self._frame_patch = frame_patch
        self._warn = warn
        self._step: int | None = None
        self._steps = 0
        self._kept: dict[Place, KeptMap] = {}

    @property
    def kept(self) -> tuple[KeptMap, ...]:
        """The maps so far, by segment, step and block."""
        return tuple(self._kept[place] for place in sorted(self._kept))

    def begin_pass(self, step: int, steps: int, repeats: bool) -> None:
        """Begins a model call in `step` of `steps`. repeats: whether guidance perturbs the model in it."""
        wanted = chosen(self._settings.step_idx, steps)
        self._step = step if self._settings.keep != "none" and not repeats and step in wanted else None
        self._steps = len(wanted)

    def end_pass(self) -> None:
        """Ends a model call."""
        self._step = None

    def clear(self) -> None:
        """Frees everything."""
        self._kept.clear()
        self._step = None

    def wants(self, segment: Segment) -> bool:
        """Whether the running model call counts for `segment`."""
        return self._step is not None

    def add_map(self, context: AttentionContext) -> None:
        """Takes the maps of one call, of the rows with the segment's own prompt. Of several evaluations of a segment
        in one step the first counts. Raises ValueError where the maps of the run would take too much memory."""
        forward, site = context.forward, context.site
        if self._step is None or site.block not in self._blocks or context.conditional_rows is None:
            return
        place = forward.segment.index, self._step, site.block
        known = self._kept.get(place, KeptMap(*place))
        over_video = self._settings.over_video and site.kind in OVER_VIDEO and known.spatial is None
        texts: tuple[_Words, ...] = ()
        if self._settings.of_words and site.kind != "self" and forward.text.own and known.text_video is None:
            texts = self._texts(context)
        if not over_video and not texts:
            return
        found = _Sums(context, texts, over_video, self._frame_patch)
        self._check_memory(found.bytes_each)
        text_text = _between_words(context, texts) if texts and site.kind == "joint" else None
        spatial, temporal, text_video = found.computed()
        self._kept[place] = replace(
            known,
            words=tuple((one.text.beat, word) for one in texts for word in one.words.words) or known.words,
            text_video=known.text_video if text_video is None else text_video,
            text_text=known.text_text if text_text is None else text_text,
            spatial=known.spatial if spatial is None else spatial,
            temporal=known.temporal if temporal is None else temporal,
        )

    def _texts(self, context: AttentionContext) -> "tuple[_Words, ...]":
        """The texts of a call whose words are known and lie in what the model received."""
        found: list[_Words] = []
        for text in attended_texts(context, self._frame_patch):
            words = self._plan.timeline.beats[text.beat].words
            if words is None or max(words.tokens, default=-1) >= text.length:
                self._warn(UNKNOWN_WORDS)
            elif words.words:
                found.append(_Words(text, words))
        return tuple(found)

    def _check_memory(self, bytes_each: int) -> None:
        segments = len(self._plan.timeline.segments)
        total = bytes_each * self._steps * len(self._blocks) * segments
        if total > MOST_BYTES:
            raise ValueError(
                f"keep_maps: the maps of {self._steps} steps, {len(self._blocks)} blocks and {segments} segments would "
                f"take {total / 2**30:.0f} GiB of memory. Name fewer in map_step_idx and map_layer_idx of KV Sharing "
                "Mask Settings, or set keep_maps to words."
            )


def chosen(named: tuple[int, ...], count: int) -> frozenset[int]:
    """Those of `count` steps or blocks whose maps are kept: those that are named, or else every fifth and the last."""
    usual = {*range(USUAL_EVERY - 1, count, USUAL_EVERY), count - 1}
    return frozenset(one for one in (named or usual) if one < count)


@dataclass(frozen=True)
class _Words:
    """A text of a call and its words."""

    text: AttendedText
    words: PromptWords

    def columns(self, keys: int, period: int | None) -> torch.Tensor:
        """[keys, words]: 1 where a key belongs to a word. period: keys after which the host has repeated the texts."""
        belongs = torch.zeros(keys, len(self.words.words))
        for number, span in enumerate(self.words.positions):
            for token in span:
                belongs[self.text.start + token :: period or keys, number] = 1.0
        return belongs


class _Sums:
    """The maps of one call, added up over a few queries at a time."""

    def __init__(self, context: AttentionContext, texts: tuple[_Words, ...], over_video: bool, frame_patch: int):
        self._context = context
        self._texts = texts
        self._over_video = over_video
        self._frame_patch = frame_patch
        call = context.call
        self._rows = context.conditional_rows or slice(0, 0)
        self._view = context.view
        self._grid = context.view.block
        self._latents = (self._rows.stop - self._rows.start) // context.view.rows
        self._period = _repeats(context)
        columns = [one.columns(call.key_tokens, self._period) for one in texts]
        self._columns = upload(torch.cat(columns, 1), call.query.device) if columns else None

    @property
    def bytes_each(self) -> int:
        """What the maps of one block take."""
        frames, tokens = self._grid[0], self._grid[1] * self._grid[2]
        words = sum(len(one.words.words) for one in self._texts)
        numbers = words * (frames * tokens + words) + (tokens**2 + frames**2 if self._over_video else 0)
        return 4 * numbers * self._latents

    def computed(self) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """The spatial, temporal and text-video map, None for those that are not asked for or not in the call."""
        frames, tokens, latents = self._grid[0], self._view.frame_tokens, self._latents
        device = self._context.call.query.device
        apart = self._view.frames_as_rows
        spatial = torch.zeros(latents, tokens, tokens, device=device) if self._over_video else None
        # Where frames are rows they attend to each other in other calls.
        temporal = torch.zeros(latents, frames, frames, device=device) if self._over_video and not apart else None
        to_words: list[torch.Tensor] = []
        for frame, queries, probabilities in self._probabilities():
            by_frame = probabilities[..., self._context.video].unflatten(-1, (-1, tokens)) if self._over_video else None
            if spatial is not None and by_frame is not None:
                spatial[:, queries] += by_frame[:, :, 0 if apart else frame] / frames
            if temporal is not None and by_frame is not None:
                temporal[:, frame] += by_frame.sum(-1).sum(1) / tokens
            if self._columns is not None:
                to_words.append((probabilities @ self._columns).cpu())
        text_video = None
        if to_words:
            text_video = torch.cat(to_words, 1).transpose(1, 2).unflatten(-1, self._grid).contiguous()
        return None if spatial is None else spatial.cpu(), None if temporal is None else temporal.cpu(), text_video

    def _probabilities(self) -> Iterator[tuple[int, slice, torch.Tensor]]:
        """Token frame, places in it, and what these attend to: [latents, places, keys], mean over heads."""
        call, rows, video, tokens = self._context.call, self._rows, self._context.video, self._view.frame_tokens
        size = chunk_length(self._latents * call.query.shape[1] * call.key_tokens, SCORES_AT_ONCE)
        for frame in range(self._grid[0]):
            bias, begin = self._bias(frame), video.start + frame * tokens
            if self._view.frames_as_rows:
                rows, begin = slice(self._rows.start + frame, self._rows.stop, self._view.rows), video.start
            for start in range(0, tokens, size):
                places = slice(start, min(start + size, tokens))
                queries = slice(begin + places.start, begin + places.stop)
                mask = maps.mask_of_queries(call.mask, rows, queries)
                scores = maps.attention_scores(call.query[rows, :, queries], call.key[rows], call.scale, mask)
                yield frame, places, (scores if bias is None else scores + bias).softmax(-1).mean(1)

    def _bias(self, frame: int) -> torch.Tensor | None:
        """What the weights of routed texts add to the scores of a frame: [keys]; None where no text is routed."""
        call = self._context.call
        if self._period is None:
            return None
        bias = torch.full((call.key_tokens,), -math.inf)
        for text in attended_texts(self._context, self._frame_patch):
            weight = text.weight_at(frame)
            for start in range(text.start, call.key_tokens, self._period):
                bias[start : start + text.length] = math.log(weight) if weight > 0 else -math.inf
        return upload(bias, call.query.device)


def _repeats(context: AttentionContext) -> int | None:
    """The length of all texts of a routed call, after which hosts may repeat them; None for a call without routes."""
    batch = context.forward.batch
    lengths = context.forward.text.routes.get(batch.chunks.index((batch.prompts or 0, 0)))
    return None if lengths is None or context.site.kind != "cross" else sum(lengths)


def _between_words(context: AttentionContext, texts: tuple[_Words, ...]) -> torch.Tensor:
    """Attention of each word to each word in a joint call, mean over frames that are rows: [latents, words, words]."""
    call, rows = context.call, context.conditional_rows or slice(0, 0)
    columns = torch.cat([one.columns(call.key_tokens, None) for one in texts], 1)
    places = upload(columns.any(1).nonzero()[:, 0], call.query.device)
    query = call.query[rows].index_select(TOKEN_DIM, places)
    mask = maps.mask_of_queries(call.mask, rows, places)
    probabilities = maps.attention_scores(query, call.key[rows], call.scale, mask).softmax(-1).mean(1).cpu()
    probabilities = probabilities.unflatten(0, (-1, context.view.rows)).mean(1)
    chosen_rows = columns[places.cpu()]
    means = chosen_rows.T / chosen_rows.sum(0).clamp(min=1)[:, None]
    return means @ probabilities @ columns
