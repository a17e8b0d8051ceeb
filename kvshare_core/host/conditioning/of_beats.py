"""A list of conditioning by its beats: a segment of a long film needs a few of its entries."""

from collections.abc import Sequence
from typing import Any

from ...timeline.timeline import Segment
from .. import BEAT_TAG, COMMON_TAG, is_prompt

Entry = dict[str, Any]

Conditioning = list[Entry]


class EntriesOfBeats:
    """One list of conditioning, from which the entries of a segment are taken without a look at all others."""

    def __init__(self, entries: Sequence[Entry]):
        self.entries = tuple(entries)
        self._of_beat: dict[int | None, list[tuple[int, Entry]]] = {}
        for place, entry in enumerate(entries):
            self._of_beat.setdefault(entry.get(BEAT_TAG), []).append((place, entry))

    def of_segment(self, segment: Segment) -> list[Entry]:
        """The entries of every beat that a segment shows, and those of no beat, in their order."""
        beats = {None, segment.beat, segment.next_beat, *(text.beat for text in segment.texts)}
        found = [pair for beat in beats for pair in self._of_beat.get(beat, ())]
        return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def in_force(cond: Conditioning, sigma: float) -> Conditioning:
    """`cond` without the beats' prompts while the common one is in force, and without the common one from its end on:
    at that very noise level the host would evaluate both."""
    common = any(COMMON_TAG in entry and sigma > entry["timestep_end"] for entry in cond)
    return [entry for entry in cond if not is_prompt(entry) or (COMMON_TAG in entry) == common]


def prompts_first(cond: Conditioning | None) -> Conditioning | None:
    """`cond` with the prompts of KV Share in front of what other nodes have combined with them; the host adds up what a
    list predicts in any order."""
    return cond and sorted(cond, key=lambda entry: not is_prompt(entry))
