"""Divides beats into segments of equal length. Pure Python.

A *beat* is one prompt and its time. The long latent is covered by *segments*: windows of `window` latent frames, the
length the model was trained on, whatever the beats are. A beat is shown by as many segments as it needs; a shorter beat
has a whole window too, which extends into its neighbours' time for context but is shown only in its own. Neighbouring
segments share frames, over which one fades into the other. Between two beats there may be *transitions*: segments whose
text is interpolated between the two prompts, as in DiTCtrl's multi-prompt sampling.

Where a model encodes its video in groups of latent frames (`FrameCycle`), it takes the first frame of any latent for
the first of a group, so windows begin with a group and are as long as videos may be. A beat that follows at a cut
begins with a group too; one that fades in does where its fade begins.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..script.film import Duration, Script, Transition, TransitionKind
from .frame_cycle import FrameCycle
from .limits import check_frames, check_inputs, check_routed, check_segments
from .timeline import Beat, RoutedText, Segment, Timeline, TimelineError


def plan_timeline(
    script: Script,
    window: int,
    overlap: int,
    fps: float,
    temporal_compression: int,
    num_transition_blocks: int = 0,
    longer_mid_segment: int = 0,
    frame_cycle: FrameCycle | None = None,
) -> Timeline:
    """Covers the beats with segments of `window` latent frames that share `overlap` latent frames with their neighbour.

    A beat's duration is rounded to latent frames. A beat without one has one segment, and `longer_mid_segment` more
    when it is neither first nor last; its time begins where the previous beat has faded out. Where the script has no
    transition between two beats, `num_transition_blocks` segments are inserted, on top of their durations, whose texts
    are evenly spaced between the two; with 0, the overlap is blended. Both numbers are those of DiTCtrl's released
    code, which has no durations.

    Segments are shorter only when the whole video is shorter than one, and do not overlap where a segment is one latent
    frame, as the stills of an image model are. Raises TimelineError when the window or the
    overlap is impossible, a number is negative, or a transition does not fit between its beats, for a loop of latent
    frames that come in groups, and for a film beyond the limits of limits.py, before it takes time or memory.
    """
    check_inputs(len(script.beats), window, fps, longer_mid_segment)
    # A still has nothing to overlap with, and the node's default is for videos.
    overlap = 0 if window == 1 and overlap > 0 else overlap
    _check(window, overlap, fps, num_transition_blocks, longer_mid_segment)
    if frame_cycle is not None:
        _check_cycle(script, window, overlap, frame_cycle)
    clock = _Clock(fps, temporal_compression, script.loop, frame_cycle)
    usual = Transition("segments", segments=num_transition_blocks) if num_transition_blocks else _usual(overlap)
    beats: list[Beat] = []
    shots: list[_Shot] = []
    transitions = [Transition("cut"), *(said.transition or usual for said in script.beats[1:])]
    fades = [_shared_frames(kind, overlap, clock, number, window) for number, kind in enumerate(transitions)]
    for number, (said, transition) in enumerate(zip(script.beats, transitions, strict=True)):
        if transition.kind == "segments":
            check_segments(len(shots) + transition.segments)
            for part in range(1, transition.segments + 1):
                start, shared = clock.frame, min(overlap, shots[-1].most_shared)
                clock.advance(window - shared, overlap)
                shots.append(_Shot(number - 1, start, clock.frame, shared, number, part / (transition.segments + 1)))
        shared = fades[number]
        if shots and shared > shots[-1].most_shared:
            if said.transition is not None and said.transition.duration is not None:
                raise TimelineError(
                    f"prompt {number + 1}: its {transition.kind} takes {shared} latent frames, but the previous prompt "
                    f"lasts only {shots[-1].frames}. Shorten the {transition.kind} or lengthen the prompt."
                )
            shared = shots[-1].most_shared
        start, following = clock.frame, fades[number + 1] if number + 1 < len(fades) else None
        if said.duration is None:
            longer = longer_mid_segment if 0 < number < len(script.beats) - 1 else 0
            clock.advance(window - shared + longer * (window - overlap), following)
        else:
            clock.last(said.duration, following)
        check_frames(clock.frame, number + 1)
        gap = 0 if transition.gap is None else clock.latent_frames(transition.gap)
        text = " ".join(part for part in (script.prompt, said.prompt) if part)
        beats.append(Beat(text, start, clock.frame, said, gap))
        shots.append(_Shot(number, start, clock.frame, shared, fixed=said.duration is not None))
    total = clock.frame
    length = min(window, total)
    if script.loop:
        shots[0] = replace(shots[0], shared=min(overlap, shots[-1].most_shared, length - 1))
    windows = _Windows(
        length, overlap, None if script.loop else total, 1 if frame_cycle is None else frame_cycle.period
    )
    segments = _segments(shots, beats, windows, total)
    planned = Timeline(script, tuple(beats), segments, length, overlap, fps, temporal_compression, window)
    return replace(planned, frame_cycle=frame_cycle)


def overridden_inputs(
    script: Script, negative_prompt: str, num_transition_blocks: int = 0, longer_mid_segment: int = 0
) -> list[str]:
    """A line for every input of the node that the script overrides for some prompts."""
    beats, last = script.beats, len(script.beats) - 1
    said: list[tuple[str, bool, list[int]]] = [
        (
            "negative_prompt",
            bool(negative_prompt),
            [number for number, beat in enumerate(beats) if script.negative or beat.negative is not None],
        ),
        (
            "num_transition_blocks",
            num_transition_blocks > 0,
            [number for number, beat in enumerate(beats) if beat.transition is not None],
        ),
        (
            "longer_mid_segment",
            longer_mid_segment > 0,
            [number for number, beat in enumerate(beats) if 0 < number < last and beat.duration is not None],
        ),
    ]
    return [
        f"{name} is not used for prompt {', '.join(str(number + 1) for number in numbers)}: the script sets its own."
        for name, given, numbers in said
        if given and numbers
    ]


def _check(window: int, overlap: int, fps: float, num_transition_blocks: int, longer_mid_segment: int) -> None:
    if window < 1:
        raise TimelineError(f"sampling_num_frames: {window} latent frames; a segment needs at least 1.")
    if not 0 <= overlap < window:
        raise TimelineError(
            f"overlap_size: {overlap} latent frames; it must be at least 0 and less than a segment's {window}."
        )
    if fps <= 0:
        raise TimelineError(f"fps: {fps}; it must be larger than 0.")
    for name, number in (("num_transition_blocks", num_transition_blocks), ("longer_mid_segment", longer_mid_segment)):
        if number < 0:
            raise TimelineError(f"{name}: {number} segments; it must be at least 0.")


def _check_cycle(script: Script, window: int, overlap: int, cycle: FrameCycle) -> None:
    if script.loop:
        raise TimelineError(
            f"loop: this model encodes its video in groups of {cycle.period} latent frames, with which a loop cannot "
            "go round. Take loop out of the script."
        )
    if not cycle.fits(window):
        raise TimelineError(
            f"sampling_num_frames: {window} latent frames; videos of this model have "
            f"{' or '.join(map(str, cycle.near(window)))}."
        )
    if window - overlap < cycle.period:
        raise TimelineError(
            f"overlap_size: {overlap} latent frames; segments of {window} begin {cycle.period} or more after each "
            f"other, so they overlap by at most {window - cycle.period}."
        )


def _usual(overlap: int) -> Transition:
    return Transition("blend", Duration(overlap, "latent frames")) if overlap else Transition("cut")


@dataclass
class _Clock:
    """How far the plan is: `frame` latent frames, and `pictures` video frames by the script's durations."""

    fps: float
    scale: int
    loop: bool
    cycle: FrameCycle | None = None
    frame: int = 0
    pictures: float = 0.0

    def advance(self, frames: int, following: int | None = None) -> None:
        """Goes on for at most `frames`, at least one. following: frames over which the next text fades in, None at the
        end; in a cycle its window should begin with a group."""
        stop = self.frame + frames
        if self.cycle is not None:
            stop -= (stop - self._place(following)) % self.cycle.period
            stop += self.cycle.period if stop <= self.frame else 0
        self.frame = stop
        self.pictures = self._pictures_of(self.frame)

    def last(self, duration: Duration, following: int | None = None) -> None:
        """Advances by `duration`, to the nearest latent frame, at least one. Rounding errors do not add up over
        beats."""
        if duration.unit == "latent frames":
            frames = max(1, round(duration.value))
            if self.cycle is None:
                self.advance(frames)
                return
            self.pictures += self.cycle.before(self.frame + frames) - self.cycle.before(self.frame)
        else:
            self.pictures += duration.value * self.fps if duration.unit == "seconds" else duration.value
        frame = self._nearest(following)
        if frame <= self.frame:
            self.advance(1, following)
        else:
            self.frame = frame

    def _nearest(self, following: int | None) -> int:
        if self.cycle is not None:
            return self.cycle.nearest(self.pictures, self._place(following))
        frames = self.pictures / self.scale if self.loop else (self.pictures - 1) / self.scale + 1
        # Halves always up, also where seconds times fps lost a little; otherwise they depend on where a beat stands.
        return math.floor(frames + 0.5 + 1e-6)

    def _place(self, following: int | None) -> int:
        assert self.cycle is not None
        return self.cycle.rest if following is None else following

    def latent_frames(self, duration: Duration) -> int:
        """A duration in the middle of the video, at least one latent frame."""
        if self.cycle is not None and duration.unit != "latent frames":
            return max(1, self.cycle.nearest(duration.value * (self.fps if duration.unit == "seconds" else 1)))
        scale = {"seconds": self.fps / self.scale, "frames": 1 / self.scale, "latent frames": 1.0}[duration.unit]
        return max(1, round(duration.value * scale))

    def _pictures_of(self, frames: int) -> int:
        if self.cycle is not None:
            return self.cycle.before(frames)
        return self.scale * frames if self.loop else self.scale * (frames - 1) + 1


def _shared_frames(transition: Transition, overlap: int, clock: _Clock, number: int, window: int) -> int:
    """Latent frames over which beat `number` fades in."""
    if transition.kind == "cut":
        return 0
    if transition.duration is None:
        return overlap
    shared = clock.latent_frames(transition.duration)
    if shared >= window:
        raise TimelineError(
            f"prompt {number + 1}: its {transition.kind} takes {shared} latent frames; it must be shorter than a "
            f"segment's {window}."
        )
    return shared


@dataclass(frozen=True)
class _Shot:
    """Latent frames [start, stop) that show one text, which fades in over the `shared` frames before them; fixed:
    whether the user set the duration."""

    beat: int
    start: int
    stop: int
    shared: int
    next_beat: int | None = None
    mix: float = 0.0
    fixed: bool = False

    @property
    def frames(self) -> int:
        return self.stop - self.start

    @property
    def most_shared(self) -> int:
        """Frames over which the next shot may fade in; a fade must not cross a beat whose duration is set."""
        return self.frames if self.fixed else self.stop


@dataclass(frozen=True)
class _Windows:
    """Where windows of `length` latent frames may lie: inside the video of `total` frames, None in a loop, and begin
    at multiples of `period`. overlap: what neighbours of one beat should share at least."""

    length: int
    overlap: int
    total: int | None
    period: int


def _segments(shots: Sequence[_Shot], beats: Sequence[Beat], windows: _Windows, total: int) -> tuple[Segment, ...]:
    cuts, ramps = sorted(_starts_after(beats, "cut").values()), _ramps(shots, beats)
    window, overlap = windows.length, windows.overlap
    segments: list[Segment] = []
    routed = 0
    for number, shot in enumerate(shots):
        faded = shots[(number + 1) % len(shots)].shared
        start, stop = shot.start - shot.shared, shot.stop
        begins = _windows(start, stop, windows, cuts)
        check_segments(len(segments) + len(begins))
        inner = [_seam(earlier, later, window, overlap, len(begins)) for earlier, later in pairwise(begins)]
        # A fade is in the middle of the frames that both windows share.
        edges = [
            later + (earlier + window - later - seam) // 2
            for (earlier, later), seam in zip(pairwise(begins), inner, strict=True)
        ]
        rises, falls = [shot.shared, *inner], [*inner, faded]
        firsts = [start, *edges]
        stops = [*(edge + seam for edge, seam in zip(edges, inner, strict=True)), stop]
        for place, begin in enumerate(begins):
            # In a loop, frames before the beginning are those at the end.
            turn = total if begin < 0 else 0
            texts = () if shot.mix else _texts(range(begin, begin + window), shot.beat, ramps)
            routed += window * len(texts)
            check_routed(routed)
            segments.append(
                Segment(
                    index=len(segments),
                    beat=shot.beat,
                    start=begin + turn,
                    length=window,
                    next_beat=shot.next_beat,
                    mix=shot.mix,
                    shown=(firsts[place] + turn, stops[place] + turn),
                    rise=rises[place],
                    fall=falls[place],
                    texts=texts,
                )
            )
    return tuple(segments)


def _starts_after(beats: Sequence[Beat], kind: TransitionKind) -> dict[int, int]:
    """The first frames of the beats that follow a transition of that kind, by beat."""
    return {
        number: beat.start
        for number, beat in enumerate(beats)
        if beat.script.transition is not None and beat.script.transition.kind == kind
    }


def _windows(start: int, stop: int, windows: _Windows, cuts: Sequence[int]) -> tuple[int, ...]:
    """The first frames of the windows that cover latent frames [start, stop): evenly spread when one window is too
    short; otherwise one, inside the video, with as few frames beyond a cut as possible, and then as centred as
    possible. cuts: the frames at which beats follow a cut, rising."""
    window, period = windows.length, windows.period
    first, last = start // period * period, -(-(stop - window) // period) * period
    if last > first:
        most_apart = (window - min(windows.overlap, window - 1)) // period
        count = -(-(last - first) // period // most_apart) + 1
        steps = (last - first) // period
        return tuple(first + period * round(place * steps / (count - 1)) for place in range(count))
    lowest, highest = last, first
    if windows.total is not None:
        lowest, highest = max(0, lowest), min(highest, windows.total - window)
    middle = (start + stop - window) / 2
    place = bisect_right(cuts, start)
    cut_before = cuts[place - 1] if place else None
    place = bisect_left(cuts, stop)
    cut_after = cuts[place] if place < len(cuts) else None

    def badness(begin: int) -> tuple[int, float]:
        before = 0 if cut_before is None else max(0, cut_before - begin)
        after = 0 if cut_after is None else max(0, begin + window - cut_after)
        return before + after, abs(begin - middle)

    # Both numbers fall and then rise with `begin`, and turn at these places.
    turns = [
        middle,
        *([] if cut_before is None else [cut_before]),
        *([] if cut_after is None else [cut_after - window]),
    ]
    begins = {lowest, highest - (highest - lowest) % period}
    for turn in turns:
        below = lowest + math.floor((turn - lowest) / period) * period
        begins |= {begin for begin in (below, below + period) if lowest <= begin <= highest}
    return (min(sorted(begins), key=badness),)


def _seam(earlier: int, later: int, window: int, overlap: int, count: int) -> int:
    """Frames over which one of a beat's `count` windows fades into the next: those that they share. Where these are
    more than the overlap, no more than the windows' distance, so that fades do not meet."""
    shared = earlier + window - later
    return shared if count == 2 else min(shared, max(overlap, later - earlier))


def _ramps(shots: Sequence[_Shot], beats: Sequence[Beat]) -> dict[int, range]:
    """The latent frames over which the text changes to that of a beat, by beat."""
    routed = _starts_after(beats, "route")
    shared = {shot.beat: shot.shared for shot in shots if shot.next_beat is None}
    return {beat: range(start - shared[beat], start) for beat, start in routed.items()}


def _texts(frames: range, beat: int, ramps: Mapping[int, range]) -> tuple[RoutedText, ...]:
    """The texts of a segment of `beat` in which some frames have another beat's; empty when none has."""
    parts: dict[int, list[float]] = {}
    for place, frame in enumerate(frames):
        for number, part in _text_of_frame(frame, beat, ramps).items():
            parts.setdefault(number, [0.0] * len(frames))[place] = part
    if list(parts) == [beat]:
        return ()
    return tuple(RoutedText(number, tuple(parts[number])) for number in sorted(parts))


def _text_of_frame(frame: int, beat: int, ramps: Mapping[int, range]) -> dict[int, float]:
    """The shares of texts in a frame of a segment of `beat`; only a ramp leads to a neighbour's text."""
    while beat in ramps and frame < ramps[beat].start:
        beat -= 1
    while beat + 1 in ramps and frame >= ramps[beat + 1].stop:
        beat += 1
    for later in (beat, beat + 1):
        if later in ramps and frame in ramps[later]:
            part = (frame - ramps[later].start + 1) / (len(ramps[later]) + 1)
            return {later - 1: 1 - part, later: part}
    return {beat: 1.0}
