"""The evidence for one mask per segment: scores from words, from their effects, and from the likeness to examples.

Scores are [subjects shown in the segment, rows, tokens].
"""

from collections.abc import Collection

import torch

from ..forward.call import AttentionContext
from ..forward.view import View
from ..plan.share_plan import SharePlan
from ..record.record import Examples
from . import appearance, maps
from .first_look import FirstLook


class Evidence:
    """The scores of the running model call and what later calls reuse, by segment. Examples and effects begin with
    those of the plan's known masks."""

    def __init__(self, plan: SharePlan, blocks: int):
        self.examples: dict[int, Examples] = {}
        """The tokens of each segment that others are compared with."""
        self.effects: dict[int, torch.Tensor] = {}
        """Where the words of each segment's subjects act, standardised."""
        if plan.known is not None:
            self.examples |= {index: known for index, known in enumerate(plan.known.examples) if known is not None}
            self.effects |= {index: known for index, known in enumerate(plan.known.effects) if known is not None}
        self._by_appearance = plan.config.masks.kind == "appearance"
        self._words: dict[int, torch.Tensor] = {}
        self._likeness: dict[int, torch.Tensor] = {}
        self.first_look = FirstLook(plan, blocks)
        """What the subjects look like in the segments that found them."""
        self._by_first_look: set[int] = set()
        self._counts: dict[tuple[int, View], tuple[Examples, torch.Tensor]] = {}

    @property
    def segments(self) -> Collection[int]:
        """The segments that have scores from the running model call."""
        return {*self._words, *self._likeness}

    def add_words(self, index: int, score: torch.Tensor) -> None:
        """Adds the score of the words in one block of segment `index`."""
        _add(self._words, index, maps.standardised(score))

    def needs_effects(self, index: int) -> bool:
        """Whether nothing locates the subjects of segment `index` yet: neither the effects of their words nor what they
        look like in another segment."""
        return index not in self.effects and not self.first_look.knows(index)

    def add_effects(self, index: int, effects: torch.Tensor) -> None:
        """Takes how strongly hiding the words changes the prediction of segment `index` at each token."""
        self.effects[index] = self._words[index] = maps.standardised(effects)
        self.first_look.learn(index, appearance.choose_examples(self.effects[index]))

    def add_likeness(self, context: AttentionContext) -> bool:
        """Compares the video tokens of one self- or joint attention with the examples of its segment; returns whether
        there are any to compare with."""
        forward, rows = context.forward, context.conditional_rows
        if not self._by_appearance or rows is None or forward.batch.prompts is None:
            return False
        index = forward.segment.index
        examples = self.examples.get(index)
        if examples is None:
            return False
        # Over the whole clip, also where frames are rows: a frame alone may have no example.
        value = context.view.clip(context.call.value[rows, :, context.video])
        counts = self._counts_of(index, context.view, examples, value.device)
        likeness = context.view.clip_to_masks(appearance.likeness(value, counts))
        _add(self._likeness, index, maps.standardised(likeness))
        return True

    def look_first(self, context: AttentionContext) -> bool:
        """Compares the same tokens, of a segment that has no examples yet, with what its subjects look like in another
        one, or keeps them until the effects of its words are known; returns whether they were compared."""
        forward = context.forward
        index = forward.segment.index
        if index in self.examples or context.conditional_rows is None or forward.batch.prompts is None:
            return False
        if self.needs_effects(index):
            self.first_look.keep(context)
            return False
        likeness = self.first_look.likeness(context)
        if likeness is None:
            return False
        self._by_first_look.add(index)
        _add(self._likeness, index, maps.standardised(likeness))
        return True

    def _counts_of(self, index: int, view: View, examples: Examples, device: torch.device) -> torch.Tensor:
        """`appearance.contrasts` of segment `index` in the grid of a block, on `device`; made once for all blocks that
        have the video alike."""
        known = self._counts.get((index, view))
        if known is None or known[0] is not examples or known[1].device != device:
            weights = view.to_block(appearance.example_weights(examples.to(device)))
            # Examples that a coarser grid has taken together count less there.
            weights = weights if view.is_plain else weights / weights.sum(-1, keepdim=True)
            known = self._counts[index, view] = examples, appearance.contrasts(weights)
        return known[1]

    def score(self, index: int) -> torch.Tensor:
        """The score of segment `index`: the likeness to its examples where there is one, else that of the words.

        With masks by appearance it also chooses the examples of the next model call, where words and likeness agree.
        """
        words = self._words.get(index, self.effects.get(index))
        score = self._likeness.get(index, words)
        assert score is not None
        if self._by_appearance:
            by_words = score if words is None else words.to(score.device)
            self.examples[index] = appearance.choose_examples(maps.standardised(score) + maps.standardised(by_words))
        if index in self._by_first_look:
            # From here on it stands for the effects of words, for which the segment was never evaluated.
            self.effects.setdefault(index, maps.standardised(score))
        return score

    def drop_scores(self) -> None:
        """Drops the scores of the running model call."""
        for store in (self._words, self._likeness, self._counts, self._by_first_look):
            store.clear()
        self.first_look.forget_tokens()

    def clear(self) -> None:
        """Frees everything."""
        self.drop_scores()
        self.examples.clear()
        self.effects.clear()
        self.first_look.clear()


def _add(totals: dict[int, torch.Tensor], index: int, score: torch.Tensor) -> None:
    """Adds a block's score to that of segment `index`."""
    totals[index] = totals[index] + score if index in totals else score
