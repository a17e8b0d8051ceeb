"""Random scripts and the timelines planned from them, for property tests."""

import re
from dataclasses import replace

from hypothesis import strategies as st

from kvshare_core.script.film import Duration, Script, ScriptBeat, Transition
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline, TimelineError

SECONDS = st.floats(0.01, 30).map(Duration)
PICTURES = st.integers(1, 400).map(lambda value: Duration(value, "frames"))
LATENT_FRAMES = st.integers(1, 60).map(lambda value: Duration(value, "latent frames"))
TRANSITIONS = st.one_of(
    st.just(Transition("cut")),
    st.just(Transition("cut", gap=Duration(8, "frames"))),
    st.integers(1, 3).map(lambda count: Transition("segments", segments=count)),
    st.builds(
        lambda kind, frames: Transition(kind, Duration(frames, "latent frames")),
        st.sampled_from(["blend", "route"]),
        st.integers(1, 4),
    ),
)
BEATS = st.builds(
    ScriptBeat, st.just("p"), st.one_of(st.none(), SECONDS, PICTURES, LATENT_FRAMES), st.none() | TRANSITIONS
)
SCRIPTS = st.builds(
    lambda beats, loop: Script((replace(beats[0], transition=None), *beats[1:]), loop=loop),
    st.lists(BEATS, min_size=1, max_size=6),
    st.booleans(),
)
PLAIN_SCRIPTS = st.lists(st.just(ScriptBeat("p")), min_size=1, max_size=5).map(lambda beats: Script(tuple(beats)))


@st.composite
def timelines(draw: st.DrawFn, scripts: st.SearchStrategy[Script] = SCRIPTS) -> Timeline:
    """A timeline with some window, overlap, speed and compression."""
    window = draw(st.integers(1, 25))
    overlap = draw(st.integers(0, window - 1))
    fps = draw(st.sampled_from([8.0, 16.0, 23.976]))
    compression = draw(st.sampled_from([1, 4, 8]))
    extra = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    try:
        return plan_timeline(draw(scripts), window, overlap, fps, compression, *extra)
    except TimelineError as reason:
        # A transition that was drawn longer than a segment or the beat before it.
        assert re.search(r"it must be shorter than|the previous prompt lasts only", str(reason))
        return draw(timelines(PLAIN_SCRIPTS))
