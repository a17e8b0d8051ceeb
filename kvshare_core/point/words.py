"""How much a chosen point looks at every word of its prompt, and the words at each other (DiTCtrl section 3.2, its
video-to-text and text-to-text maps).

Where a segment shows two texts, each is told with its weight; a text whose words or places are unknown is not told.
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
class _ReadTexts:
    """The real tokens of the texts that one frame looks at: their `places` in the sequence of keys, what the weight of
    its text adds to the score of each, and of every text its beat, weight, words and first place."""

    places: tuple[int, ...]
    bias: tuple[float, ...]
    texts: tuple[tuple[int, float, PromptWords, int], ...]


class WordWatcher:
    """Follows the words that the plan's point sees through a run; frame_patch: latent frames per token frame."""

    def __init__(self, plan: SharePlan, frame_patch: int = 1):
        self.plan = plan
        self.frame_patch = frame_patch
        self._looks = NewestMeans()
        self._between = NewestMeans()
        self._read: dict[int, _ReadTexts] = {}
        self._uploaded: dict[tuple[tuple[float, ...], torch.dtype, torch.device], torch.Tensor] = {}

    def clear(self) -> None:
        """Frees everything."""
        for store in (self._looks, self._between, self._read, self._uploaded):
            store.clear()

    def end_pass(self) -> None:
        """Ends a model call: what it told replaces what the call before did."""
        self._looks.end_pass()
        self._between.end_pass()

    def watch(self, context: AttentionContext, scores: torch.Tensor, token_frame: int) -> None:
        """Reads one attention that sees text; scores: [rows, heads, keys] of the point's query, in `token_frame`.

        In joint attention words have their exact probabilities beside the video's; in cross-attention the real words
        share all of it, because models pad a text with tokens that mean nothing.
        """
        call, site, rows = context.call, context.site, context.conditional_rows or slice(0, 0)
        read = self._real_tokens(attended_texts(context, self.frame_patch), token_frame)
        if read is None or read.places[-1] >= call.key_tokens:
            return
        index = context.forward.segment.index
        self._read[index] = read
        places = self._on_device(read.places, torch.long, scores.device)
        if site.kind == "cross":
            bias = self._on_device(read.bias, scores.dtype, scores.device)
            probabilities = (scores[..., places] + bias).softmax(-1)
        else:
            probabilities = scores.softmax(-1)[..., places]
            self._between.add(index, self._among_words(call, rows, places))
        self._looks.add(index, probabilities.mean(1))

    def _among_words(self, call: AttentionCall, rows: slice, places: torch.Tensor) -> torch.Tensor:
        """How much each text token at `places` looks at each, of what it looks at them all: [rows, tokens, tokens].
        Without the video, whose scores would be a whole map for every token."""
        query, key = (tensor[rows].index_select(TOKEN_DIM, places) for tensor in (call.query, call.key))
        mask = maps.mask_of_queries(call.mask, rows, places)
        own = None if mask is None else mask[..., places]
        return maps.attention_scores(query, key, call.scale, own).softmax(-1).mean(1)

    def _real_tokens(self, texts: tuple[AttendedText, ...], token_frame: int) -> _ReadTexts | None:
        """None when the words of a text that is seen are unknown, or do not lie in it."""
        bias: dict[int, float] = {}
        seen: list[tuple[int, float, PromptWords, int]] = []
        for text in texts:
            weight, words = text.weight_at(token_frame), self.plan.timeline.beats[text.beat].words
            if weight == 0:
                continue
            if words is None or max(words.tokens, default=-1) >= text.length:
                return None
            seen.append((text.beat, weight, words, text.start))
            # Texts of their own places are weighed in the attention; those of a transition are mixed before it.
            own = math.log(weight) if isinstance(text.weight, tuple) else 0.0
            bias |= {text.start + token: own for token in words.tokens}
        places = tuple(sorted(bias))
        return _ReadTexts(places, tuple(bias[place] for place in places), tuple(seen)) if places else None

    def _on_device(self, numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Numbers as a tensor; made once per run."""
        name = numbers, dtype, device
        if name not in self._uploaded:
            self._uploaded[name] = upload(torch.tensor(numbers, dtype=dtype), device)
        return self._uploaded[name]

    def recorded(self) -> tuple[RecordedText, ...]:
        """What was read last, segment by segment."""
        texts: list[RecordedText] = []
        for index, looks in sorted(self._looks.newest.items()):
            read, between = self._read[index], self._between.newest.get(index)
            looks, between = looks.cpu(), None if between is None else between.cpu()
            for beat, weight, words, start in read.texts:
                of_words = _columns_of_words(read.places, words, start)
                texts.append(
                    RecordedText(
                        index,
                        beat,
                        weight,
                        words.words,
                        looks @ of_words,
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
