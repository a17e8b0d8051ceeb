"""The entries of a segment are those that a look at all entries finds, in their order."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.host import BEAT_TAG
from kvshare_core.host.conditioning.of_beats import EntriesOfBeats
from kvshare_core.timeline.timeline import RoutedText, Segment

BEATS = st.integers(0, 5)


@given(st.lists(st.none() | BEATS, max_size=12), BEATS, st.none() | BEATS, st.lists(BEATS, max_size=3, unique=True))
def test_a_segment_has_the_entries_of_its_beats_and_of_none(
    tags: list[int | None], beat: int, next_beat: int | None, routed: list[int]
) -> None:
    entries: list[dict[str, Any]] = [
        {"number": number, **({} if tag is None else {BEAT_TAG: tag})} for number, tag in enumerate(tags)
    ]
    texts = tuple(RoutedText(number, (1.0,)) for number in routed)
    segment = Segment(0, beat, 0, 1, next_beat=next_beat, texts=texts)
    wanted = {beat, next_beat, *routed}
    expected = [entry for entry, tag in zip(entries, tags, strict=True) if tag is None or tag in wanted]
    assert EntriesOfBeats(entries).of_segment(segment) == expected
