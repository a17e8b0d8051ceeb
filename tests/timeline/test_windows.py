"""Where a beat that fits one segment has its window: beyond as few cuts as possible, then as centred as possible."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.script.film import Duration, Script, ScriptBeat, Transition
from kvshare_core.timeline.frame_cycle import FrameCycle
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.timelines import timelines

CYCLE = FrameCycle((1, 4, 4, 8), rest=1)
LENGTHS = st.integers(1, 12).map(lambda value: Duration(value, "latent frames"))
CUT_FILMS = st.lists(
    st.builds(ScriptBeat, st.just("p"), LENGTHS, st.sampled_from([Transition("cut"), None])), min_size=2
)


def best_windows(timeline: Timeline) -> None:
    """Every beat that has one segment of its own has the best of all windows that cover it, found by trying all."""
    period = 1 if timeline.frame_cycle is None else timeline.frame_cycle.period
    window, total = timeline.window, timeline.latent_frames
    cuts = [beat.start for beat in timeline.beats if beat.script.transition and beat.script.transition.kind == "cut"]
    own = [segment for segment in timeline.segments if segment.next_beat is None]
    count = Counter(segment.beat for segment in own)
    for segment in own:
        if count[segment.beat] > 1:
            continue
        # In a loop, a window that begins before the film lies at its end.
        turn = total if segment.shown_stop > total else 0
        start, stop, chosen = segment.shown_start - turn, segment.shown_stop - turn, segment.start - turn
        lowest, highest = -(-(stop - window) // period) * period, start // period * period
        if not timeline.script.loop:
            lowest, highest = max(0, lowest), min(highest, total - window)

        def badness(begin: int, start: int = start, stop: int = stop) -> tuple[int, float]:
            before = max((cut - begin for cut in cuts if begin < cut <= start), default=0)
            after = max((begin + window - cut for cut in cuts if stop <= cut < begin + window), default=0)
            return before + after, abs(begin + window / 2 - (start + stop) / 2)

        assert chosen == min(range(lowest, highest + 1, period), key=badness)


@settings(max_examples=300)
@given(timelines())
def test_the_window_of_any_beat_is_the_best_of_all(timeline: Timeline) -> None:
    best_windows(timeline)


@settings(max_examples=300)
@given(CUT_FILMS, st.integers(1, 14), st.data(), st.booleans())
def test_the_window_among_cuts_is_the_best_of_all(
    beats: list[ScriptBeat], window: int, data: st.DataObject, loop: bool
) -> None:
    script = Script((ScriptBeat("p", beats[0].duration), *beats[1:]), loop=loop)
    best_windows(plan_timeline(script, window, data.draw(st.integers(0, window - 1)), 16, 4))


@settings(max_examples=200)
@given(CUT_FILMS, st.integers(1, 4))
def test_the_window_of_grouped_frames_is_the_best_of_all(beats: list[ScriptBeat], groups: int) -> None:
    script = Script((ScriptBeat("p", beats[0].duration), *beats[1:]))
    best_windows(plan_timeline(script, CYCLE.period * groups + CYCLE.rest, 1, 16, 4, frame_cycle=CYCLE))
