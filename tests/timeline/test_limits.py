"""A film beyond the limits is refused before it takes time or memory, and the error names the input and the fix."""

import math
import tracemalloc
from typing import Any

import pytest

from kvshare_core.script.film import Duration, Script, ScriptBeat, Transition
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.limits import (
    MAX_BEATS,
    MAX_FILM_SEGMENTS,
    MAX_FPS,
    MAX_LATENT_FRAMES,
    MAX_ROUTED_WEIGHTS,
    MAX_WINDOW,
)
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import TimelineError

MEMORY = 64 << 20
"""Bytes that a refusal may take, of which the largest film that is not refused needs most."""


def refused(script: Script, window: int, overlap: int, fps: float, **options: Any) -> str:
    """The message of a refusal that took no more than MEMORY."""
    tracemalloc.start()
    try:
        with pytest.raises(TimelineError) as reason:
            plan_timeline(script, window, overlap, fps, 4, **options)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    return str(reason.value)


@pytest.mark.parametrize("fps", [1e9, 1e300, math.inf, math.nan, MAX_FPS * 1.01])
def test_frames_per_second_have_an_end(fps: float) -> None:
    assert refused(parse_script("[3600s] a"), 21, 2, fps).startswith("fps: ")


def test_a_film_of_too_many_latent_frames_names_the_prompt() -> None:
    eight = parse_script("[3600s] a\n" * 8)
    assert refused(eight, 1, 0, 240).startswith("prompts: prompt 1 ends after 216,001 latent frames; a ")
    assert refused(eight, 21, 2, 24).startswith("prompts: prompt 5 ends after ")
    longest = Script((ScriptBeat("a", Duration(MAX_LATENT_FRAMES, "latent frames")),))
    assert plan_timeline(longest, 21, 2, 16, 4).latent_frames == MAX_LATENT_FRAMES


def test_a_film_of_too_many_segments_names_the_inputs() -> None:
    long = Script((ScriptBeat("a", Duration(MAX_FILM_SEGMENTS + 1, "latent frames")),))
    assert refused(long, 1, 0, 16).startswith("prompts: the film needs more than 10,000 segments. Raise sampling_num")
    most = Script((ScriptBeat("a", Duration(MAX_FILM_SEGMENTS, "latent frames")),))
    assert len(plan_timeline(most, 1, 0, 16, 4).segments) == MAX_FILM_SEGMENTS
    between = Script((ScriptBeat("a"),) * 200)
    assert "10,000 segments" in refused(between, 3, 1, 16, num_transition_blocks=64)
    assert refused(between, 3, 1, 16, longer_mid_segment=10**400).startswith("longer_mid_segment: ")


def test_too_many_prompts_and_too_long_segments_are_refused() -> None:
    many = Script((ScriptBeat("a"),) * (MAX_BEATS + 1))
    assert refused(many, 3, 1, 16).startswith("prompts: there are 10,001 prompts; ")
    assert refused(parse_script("a"), MAX_WINDOW + 1, 1, 16).startswith("sampling_num_frames: 1,025 latent frames; ")


def test_prompts_that_all_change_by_route_within_one_segment_are_refused() -> None:
    """Every frame of a segment then has a text of its own, and every segment a weight for each text and frame."""
    frame = Duration(1, "latent frames")
    beats = (ScriptBeat("a", frame), *(ScriptBeat("a", frame, Transition("route", frame)) for _ in range(1500)))
    assert refused(Script(beats), MAX_WINDOW, 1, 16).startswith("prompts: too many prompts change by route within one")
    planned = plan_timeline(Script(beats[:500]), 21, 1, 16, 4)
    assert sum(len(segment.texts) * planned.window for segment in planned.segments) < MAX_ROUTED_WEIGHTS
