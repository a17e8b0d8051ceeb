"""How much a chosen point attends to every word of its prompt, and the words to each other (DiTCtrl section 3.2, its
video-to-text and text-to-text maps).

Where a segment has two texts, each is recorded with its weight; texts whose words or positions are unknown are not
recorded.
"""

import math
from dataclasses import dataclass

import torch

from ..attention.parts import TOKEN_DIM
from ..devices import upload
from ..families.base import AttentionCall
from ..forward.attended_texts import AttendedText, attended_texts
from ..forward.call import AttentionContext
from ..plan.share_plan import SharePlan
from ..prompt_words import PromptWords
from ..record.record import RecordedText
from ..subject import maps
from .newest_means import NewestMeans


@dataclass(frozen=True)
class _RealTokens:
    """The real tokens of the texts that one frame attends to."""

    places: tuple[int, ...]
    """Their positions in the sequence of keys."""
    bias: tuple[float, ...]
    """What the weight of its text adds to the score of each."""
    texts: tuple[tuple[int, float, PromptWords, int], ...]
    """Beat, weight, words and first position of every text."""


class WordWatcher:
    """Follows the attention of the plan's point to words through a run."""

    def __init__(self, plan: SharePlan, frame_patch: int = 1):
        """frame_patch: latent frames per token frame."""
        self.plan = plan
        self.frame_patch = frame_patch
        self._to_words = NewestMeans()
        self._between = NewestMeans()
        self._tokens: dict[int, _RealTokens] = {}
        self._uploaded: dict[tuple[tuple[float, ...], torch.dtype, torch.device], torch.Tensor] = {}

    def clear(self) -> None:
        """Frees everything."""
        for store in (self._to_words, self._between, self._tokens, self._uploaded):
            store.clear()

    def end_pass(self) -> None:
        """Ends a model call: its maps replace those of the call before."""
        self._to_words.end_pass()
        self._between.end_pass()

    def add_map(self, context: AttentionContext, scores: torch.Tensor, token_frame: int) -> None:
        """Adds the map of one cross- or joint attention; scores: [rows, heads, keys] of the point's query, in
        `token_frame`.

        In joint attention the words keep their exact probabilities in the softmax over video and text; in
        cross-attention the softmax runs over the real words only, because models pad a text with meaningless tokens.
        """
        call, site, rows = context.call, context.site, context.conditional_rows or slice(0, 0)
        real = self._real_tokens(attended_texts(context, self.frame_patch), token_frame)
        if real is None or real.places[-1] >= call.key_tokens:
            return
        index = context.forward.segment.index
        self._tokens[index] = real
        places = self._on_device(real.places, torch.long, scores.device)
        if site.kind == "cross":
            bias = self._on_device(real.bias, scores.dtype, scores.device)
            probabilities = (scores[..., places] + bias).softmax(-1)
        else:
            probabilities = scores.softmax(-1)[..., places]
            self._between.add(index, self._among_words(call, rows, places))
        self._to_words.add(index, probabilities.mean(1))

    def _among_words(self, call: AttentionCall, rows: slice, places: torch.Tensor) -> torch.Tensor:
        """Attention of the text tokens at `places` to each other, softmax over them alone: [rows, tokens, tokens].
        Video keys are left out; their scores would be a whole map for every token."""
        query, key = (tensor[rows].index_select(TOKEN_DIM, places) for tensor in (call.query, call.key))
        mask = maps.mask_of_queries(call.mask, rows, places)
        own = None if mask is None else mask[..., places]
        return maps.attention_scores(query, key, call.scale, own).softmax(-1).mean(1)

    def _real_tokens(self, texts: tuple[AttendedText, ...], token_frame: int) -> _RealTokens | None:
        """The real tokens of the texts with a weight in `token_frame`; None when the words of one are unknown or do not
        lie in it, or there are none."""
        bias: dict[int, float] = {}
        weighted: list[tuple[int, float, PromptWords, int]] = []
        for text in texts:
            weight, words = text.weight_at(token_frame), self.plan.timeline.beats[text.beat].words
            if weight == 0:
                continue
            if words is None or max(words.tokens, default=-1) >= text.length:
                return None
            weighted.append((text.beat, weight, words, text.start))
            # Texts of their own places are weighed in the attention; those of a transition are mixed before it.
            own = math.log(weight) if isinstance(text.weight, tuple) else 0.0
            bias |= {text.start + token: own for token in words.tokens}
        places = tuple(sorted(bias))
        return _RealTokens(places, tuple(bias[place] for place in places), tuple(weighted)) if places else None

    def _on_device(self, numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Numbers as a tensor; made once per run."""
        name = numbers, dtype, device
        if name not in self._uploaded:
            self._uploaded[name] = upload(torch.tensor(numbers, dtype=dtype), device)
        return self._uploaded[name]

    def recorded(self) -> tuple[RecordedText, ...]:
        """The newest maps, segment by segment."""
        texts: list[RecordedText] = []
        for index, to_words in sorted(self._to_words.newest.items()):
            real, between = self._tokens[index], self._between.newest.get(index)
            to_words, between = to_words.cpu(), None if between is None else between.cpu()
            for beat, weight, words, start in real.texts:
                of_words = _columns_of_words(real.places, words, start)
                texts.append(
                    RecordedText(
                        index,
                        beat,
                        weight,
                        words.words,
                        to_words @ of_words,
                        None if between is None else _mean_rows(of_words) @ between @ of_words,
                    )
                )
        return tuple(texts)


def _columns_of_words(places: tuple[int, ...], words: PromptWords, start: int) -> torch.Tensor:
    """[places, words]: 1 where a token belongs to a word."""
    column = {place: number for number, place in enumerate(places)}
    belongs = torch.zeros(len(places), len(words.words))
    for word, span in enumerate(words.positions):
        belongs[[column[start + token] for token in span], word] = 1.0
    return belongs


def _mean_rows(of_words: torch.Tensor) -> torch.Tensor:
    """[words, tokens] that takes the mean over the tokens of each word."""
    return of_words.T / of_words.sum(0).clamp(min=1)[:, None]
