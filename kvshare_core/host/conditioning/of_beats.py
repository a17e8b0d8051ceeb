"""A list of conditioning by its beats: a segment of a long film needs a few of its entries."""

from collections.abc import Sequence
from typing import Any

from ...timeline.timeline import Segment
from .. import BEAT_TAG

Entry = dict[str, Any]


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
