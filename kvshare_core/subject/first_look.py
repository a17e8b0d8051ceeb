"""What a subject looks like in the segment that found it first, by which later segments find it in the same model call.

Finding a subject by the effect of its words takes an evaluation of the segment. In attention values the subjects of two
segments with different prompts and noise lie in the same direction already in the first step, so one segment's
evaluation is enough for all (docs/laboratory.md).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch

from ..forward.call import AttentionContext
from ..forward.view import View
from ..plan.share_plan import SharePlan
from ..record.record import Examples
from . import appearance

MOST_TOKENS = 2048
"""Tokens of a clip that are kept for each block until the effect of the words is known."""
MOST_BLOCKS = 8
"""Blocks that are looked at."""


@dataclass(frozen=True)
class _Sampled:
    """Some tokens of one call."""

    view: View
    value: torch.Tensor
    """Their values [rows, heads, tokens, head_dim]."""
    mean: torch.Tensor
    """Of all tokens, float32 [rows, heads x head_dim]."""
    places: torch.Tensor
    """Which tokens of the block's grid they are."""


class FirstLook:
    """The directions in which the subjects of one run lie, by subject and block."""

    def __init__(self, plan: SharePlan, blocks: int):
        """blocks: of the model."""
        self._plan = plan
        self._blocks = _spread(blocks)
        self._sampled: dict[int, dict[int, _Sampled]] = {}
        self._directions: dict[int, dict[int, torch.Tensor]] = {}

    def knows(self, index: int) -> bool:
        """Whether all subjects of segment `index` have been seen. A segment without any has nothing to be found by."""
        shown = self._shown(index)
        return bool(shown) and all(number in self._directions for number in shown)

    def keep(self, context: AttentionContext) -> None:
        """Keeps tokens of a self- or joint attention of a segment whose subjects are about to be found."""
        block = context.site.block
        if block not in self._blocks or context.conditional_rows is None:
            return
        value = context.view.clip(context.call.value[context.conditional_rows, :, context.video])
        count = value.shape[2]
        places = torch.arange(count) if count <= MOST_TOKENS else torch.linspace(0, count - 1, MOST_TOKENS).long()
        places = places.to(value.device)
        sampled = _Sampled(context.view, value.index_select(2, places), appearance.mean_value(value), places)
        self._sampled.setdefault(context.forward.segment.index, {})[block] = sampled

    def learn(self, index: int, examples: Examples) -> None:
        """Learns the directions of the subjects of segment `index` that have none yet from the tokens that were kept
        of it; examples: tokens of the masks' grid, by the effect of the words."""
        new = [(place, number) for place, number in enumerate(self._shown(index)) if number not in self._directions]
        for block, sampled in self._sampled.pop(index, {}).items():
            weights = sampled.view.to_block(appearance.example_weights(examples.to(sampled.value.device)))
            features = appearance.Features(sampled.value, sampled.mean)
            weights = weights.index_select(-1, sampled.places)
            # Of an example that was not kept, or has no token of its own in the block's grid, nothing is left.
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(appearance.SHORTEST)
            found = features.directions(appearance.contrasts(weights))
            for place, number in new:
                self._directions.setdefault(number, {})[block] = found[..., place]

    def likeness(self, context: AttentionContext) -> torch.Tensor | None:
        """How much every token of a self- or joint attention resembles the subjects of its segment, float32 [subjects,
        rows, tokens of the masks' grid]; None where one of them has no direction."""
        found = [
            self._directions.get(number, {}).get(context.site.block)
            for number in self._shown(context.forward.segment.index)
        ]
        known = [direction for direction in found if direction is not None]
        if not known or len(known) < len(found):
            return None
        value = context.view.clip(context.call.value[context.conditional_rows or slice(0, 0), :, context.video])
        direction = torch.stack(known, dim=-1).to(value.device)
        features = appearance.Features(value, appearance.mean_value(value))
        return context.view.clip_to_masks(features.along(direction))

    @property
    def directions(self) -> Mapping[int, Mapping[int, torch.Tensor]]:
        """What has been learned: by subject and block, [rows, heads x head_dim]."""
        return self._directions

    def take(self, directions: Mapping[int, Mapping[int, torch.Tensor]]) -> None:
        """Takes over what another process has learned of subjects that are unknown here."""
        for number, blocks in directions.items():
            self._directions.setdefault(number, dict(blocks))

    def teachers(self, indices: Iterable[int]) -> set[int]:
        """Those of the segments, in the order in which they are evaluated, that show a subject which has not been seen
        before: in none of those that come earlier, and not in another model call."""
        known, found = {*self._directions}, set[int]()
        for index in indices:
            shown = self._shown(index)
            if not known.issuperset(shown):
                found.add(index)
                known.update(shown)
        return found

    def forget_tokens(self) -> None:
        """Frees the tokens of segments whose subjects were not found."""
        self._sampled.clear()

    def clear(self) -> None:
        """Frees everything."""
        self._sampled.clear()
        self._directions.clear()

    def _shown(self, index: int) -> tuple[int, ...]:
        return self._plan.shown(self._plan.timeline.segments[index])


def _spread(blocks: int) -> Collection[int]:
    """At most MOST_BLOCKS of a model's blocks, as far from each other as they can be."""
    if blocks <= MOST_BLOCKS:
        return range(blocks)
    return frozenset(int((number + 0.5) * blocks / MOST_BLOCKS) for number in range(MOST_BLOCKS))
