"""Scores of the subjects from one attention call: how much each video token attends to the words that name them."""

from collections.abc import Callable

import torch

from ..attention.key_masks import read_key_mask
from ..attention.parts import TOKEN_DIM
from ..devices import upload
from ..families.base import AttentionCall
from ..forward.attended_texts import AttendedText, attended_texts
from ..forward.call import AttentionContext
from ..forward.forward import Forward
from ..plan.share_plan import SharePlan
from ..prompt_words import SubjectTokens
from . import maps

UNKNOWN_PROMPT = (
    "the conditioning does not come from Long Video Segmenter; its subject cannot be followed. Connect the "
    "segmenter's, or a mask to Mask-Guided KV Share."
)
"""What is said of a prompt whose words are not known."""

WordScore = Callable[[torch.Tensor, tuple[int, ...], SubjectTokens], torch.Tensor]
"""The score [rows, video tokens] of a subject from the probabilities [rows, video tokens, text tokens] of some text
tokens, as `maps.subject_score` computes it."""


class MapReader:
    """Computes the subjects' scores from the attention calls of one run."""

    def __init__(self, plan: SharePlan, word_score: WordScore, warn: Callable[[str], None], frame_patch: int = 1):
        """warn: receives the reason where a subject cannot be followed; frame_patch: latent frames per token frame."""
        self._plan = plan
        self._word_score = word_score
        self._warn = warn
        self._frame_patch = frame_patch
        self._indices: dict[tuple[tuple[int, ...], int, torch.device], torch.Tensor] = {}
        self._hidden: tuple[torch.Tensor, frozenset[int]] | None = None

    def end_pass(self) -> None:
        """Ends a model call, whose attention mask is not that of the next."""
        self._hidden = None

    def clear(self) -> None:
        """Frees everything."""
        self._indices.clear()
        self._hidden = None

    def scores(self, context: AttentionContext, log_sum_exp: torch.Tensor | None) -> dict[int, torch.Tensor] | None:
        """The score [latents, tokens of the masks' grid] of each subject that the texts of the segment name, by its
        number; None where the call has no conditional rows or its text does not fit the prompt.

        log_sum_exp: [conditional rows, heads, video tokens] of a joint call, for exact probabilities in it.
        """
        forward, rows = context.forward, context.conditional_rows
        if forward.batch.prompts is None:
            self._warn(UNKNOWN_PROMPT)
            return None
        if rows is None:
            return None
        query = context.call.query[rows, :, context.video]
        totals: dict[int, torch.Tensor] = {}
        for text in attended_texts(context, self._frame_patch):
            scores = self._text_scores(context, query, text, log_sum_exp)
            if scores is None:
                return None
            for number, score in scores.items():
                weighted = context.view.to_masks(score) * _weight(text, forward, query.device)
                totals[number] = totals[number] + weighted if number in totals else weighted
        return totals

    def _text_scores(
        self,
        context: AttentionContext,
        query: torch.Tensor,
        text: AttendedText,
        log_sum_exp: torch.Tensor | None,
    ) -> dict[int, torch.Tensor] | None:
        """The score [rows, video tokens of the call] of each subject that one text names, by its number; None where
        the text has fewer tokens than the prompt."""
        call, rows = context.call, context.conditional_rows or slice(0, 0)
        subjects = {
            number: subject
            for number, subject in enumerate(self._plan.tokens(text.beat, context.forward.role))
            if subject is not None
        }
        if not subjects:
            return {}
        named = [token for subject in subjects.values() for token in subject.subject]
        exact = log_sum_exp is not None
        tokens = self._columns(named, text.beat, exact) or tuple(
            sorted({*self._visible_text(call, text, rows), *named})
        )
        if max(tokens) >= text.length:
            self._warn("the prompt has more tokens than the model received; its subject cannot be followed.")
            return None
        index = self._index(tokens, text.start, call.key.device)
        text_key = call.key[rows].index_select(TOKEN_DIM, index)
        probabilities = maps.text_probabilities(query, text_key, call.scale, log_sum_exp)
        return {number: self._word_score(probabilities, tokens, subject) for number, subject in subjects.items()}

    def _columns(self, named: list[int], beat: int, exact: bool) -> tuple[int, ...]:
        """Text tokens whose probabilities are needed: with exact ones those that name subjects, else all that the
        softmax is over. Empty when the plan does not say which tokens are real."""
        if exact:
            return tuple(dict.fromkeys(named))
        if self._plan.beat_tokens:
            return tuple(sorted({*self._plan.beat_tokens[beat], *named}))
        return ()

    def _visible_text(self, call: AttentionCall, text: AttendedText, rows: slice) -> tuple[int, ...]:
        """Tokens of a text that the call's own mask does not hide from the conditional rows; all without a mask. A
        model call passes the same mask to all its blocks, so it is copied to the CPU once."""
        if call.mask is None:
            return tuple(range(text.length))
        if self._hidden is None or self._hidden[0] is not call.mask:
            masks = read_key_mask(call.mask, call.key, slice(0, 0))
            self._hidden = call.mask, frozenset(masks[rows.start].hidden if masks else ())
        hidden = self._hidden[1]
        return tuple(token for token in range(text.length) if text.start + token not in hidden)

    def _index(self, tokens: tuple[int, ...], text_start: int, device: torch.device) -> torch.Tensor:
        """Positions of text tokens in a sequence, on `device`; made once per run."""
        name = tokens, text_start, device
        if name not in self._indices:
            self._indices[name] = upload(torch.tensor(tokens) + text_start, device)
        return self._indices[name]


def _weight(text: AttendedText, forward: Forward, device: torch.device) -> float | torch.Tensor:
    """The weight of a text: one number, or one per token of the masks' grid where the weight differs between frames."""
    if not isinstance(text.weight, tuple):
        return text.weight
    of_frames = upload(torch.tensor(text.weight), device)
    return of_frames.repeat_interleave(forward.frame_tokens)
