"""Locating a subject by how the prediction changes when the subject's words are hidden from attention.

Which attention maps locate a subject differs from model to model, and some locate anything else. The effect of a word
on the picture needs no choice of blocks (docs/laboratory.md, measured on models of three layouts).
"""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F

from ..attention.key_masks import ODD_MASK, KeyMask
from ..families.base import FamilyInfo
from ..forward.attended_texts import AttendedText, attended_texts, copies
from ..forward.call import AttentionContext
from ..plan.share_plan import SharePlan
from ..prompt_words import SubjectTokens
from .maps import Grid
from .tracker import SubjectTracker


class HiddenWords:
    """Hides the words of subjects from forwards of one run, and measures what that changes."""

    def __init__(self, plan: SharePlan, info: FamilyInfo, warn: Callable[[str], None]):
        """warn: receives the reason where words cannot be hidden."""
        self.plan = plan
        self.info = info
        self._warn = warn
        self._hidden: set[int] = set()

    def masks(self, context: AttentionContext) -> list[KeyMask] | None:
        """The keys that each batch row may attend to in a call of a forward that hides a subject's words; None where
        the call stays unchanged."""
        subject = context.forward.text.hidden_subject
        if context.site.kind == "self" or context.conditional_rows is None or subject is None:
            return None
        masks = context.key_masks
        if masks is None:
            self._warn(f"{self.info.family}: {ODD_MASK}; its subject is not read.")
            return None
        texts = attended_texts(context, self.info.patch[0])
        try:
            places = places_of_words(texts, lambda beat: self.plan.tokens(beat, context.forward.role)[subject])
        except ValueError as reason:
            self._warn(f"{reason}; its subject cannot be followed.")
            return None
        places = frozenset(copy + place for copy in copies(context) for place in places)
        without = context.key_masks_without(masks, places)
        if without is not None:
            self._hidden.add(subject)
        return without

    def record_effects(
        self, segment: int, plain: torch.Tensor, hidden: Mapping[int, torch.Tensor], tracker: SubjectTracker
    ) -> bool:
        """Gives the tracker the effects of words in a segment; returns whether there were any.

        plain: the segment's prediction [rows, channels, frames, height, width]; hidden: the prediction without the
        words of each of its subjects, by the subject's number.
        """
        grid = self.info.grid(*plain.shape[2:])
        effects = self.effects(plain, hidden, grid)
        if effects is None:
            tracker.give_up(segment)
        else:
            tracker.add_effects(segment, effects, grid)
        return effects is not None

    def effects(self, plain: torch.Tensor, hidden: Mapping[int, torch.Tensor], grid: Grid) -> torch.Tensor | None:
        """How far a segment's prediction moves at each token without the words of each of the `hidden` subjects, in
        their order, [subjects, rows, tokens]; predictions as in words_effect. None where one was not hidden since this
        was asked last, or hiding it changed nothing."""
        missed = hidden.keys() - self._hidden
        self._hidden.clear()
        found = [words_effect(without, plain, grid, self.info.patch) for _, without in sorted(hidden.items())]
        if missed or not all(bool(effect.any()) for effect in found):
            return None
        return torch.stack(found) if found else plain.new_zeros(0, len(plain), math.prod(grid))


def words_effect(hidden: torch.Tensor, plain: torch.Tensor, grid: Grid, patch: Grid) -> torch.Tensor:
    """How far the prediction moves at each token when the words are hidden: float32 [rows, tokens].

    hidden, plain: the prediction without the words and with them, [rows, channels, frames, height, width]; patch:
    latent cells of a token. Root mean squares, each the mean of a token and its neighbours in its frame: taking a word
    away changes the subject's edges most.
    """
    squares = F.avg_pool2d((hidden - plain).float().square().sum(1), patch[1:], ceil_mode=True)
    moved = torch.stack([frames.mean(1) for frames in squares.split(patch[0], dim=1)], dim=1).sqrt()
    return F.avg_pool2d(moved, 3, 1, 1, count_include_pad=False).reshape(len(moved), *grid).flatten(1)


def places_of_words(texts: Iterable[AttendedText], words: Callable[[int], SubjectTokens | None]) -> frozenset[int]:
    """Where the words of a subject stand in the sequence of keys, in all texts that a segment attends to; words: of
    each beat. Raises ValueError when a text is too short for them, or has no other tokens."""
    places: set[int] = set()
    for text in texts:
        subject = words(text.beat)
        tokens = () if subject is None else subject.subject
        if max(tokens, default=-1) >= text.length:
            raise ValueError("the prompt has more tokens than the model received")
        if len(set(tokens)) == text.length:
            raise ValueError("the prompt has no tokens but those of the subject")
        places.update(text.start + token for token in tokens)
    return frozenset(places)
