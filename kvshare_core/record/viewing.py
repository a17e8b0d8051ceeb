"""What the mask viewer shows of a run: some of its frames, small, and the maps that belong to them.

Pictures travel as *sheets*: tiles of one size, row by row, so that a whole film is a few files however long it is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..prompt_words import PromptWords, SubjectTokens
from ..timeline.timeline import Timeline
from .preview import HEAT_COLOURS
from .record import RecordedMasks, RecordedPoint

MOST_FRAMES = 120
"""Frames that are shown at most; of a longer film evenly spaced ones."""
LONGEST_SIDE = 512
"""Pixels of a shown frame's longer side at most."""
SHEET_PIXELS = 2**24
"""Pixels that all shown frames have together at most: browsers hold such a picture without trouble."""

STEP_BITS = 8
"""Steps that fit into one channel of a picture, one in each bit."""
ROUNDED_DOWN = 0.25
"""What to add to a whole number so that it is still that one when its 255th part was rounded down to a byte."""

DIGITS = 6
"""Decimal places of the numbers that the viewer receives."""

ALL, SUBJECT, POINT = "all", "subject", "point"

Json = dict[str, Any]


@dataclass(frozen=True)
class ShownMap:
    """One map of the viewer."""

    kind: str
    """`all` subjects together, one `subject`, or the attention of the chosen `point`."""
    name: str
    """The subject; empty where there is no single one."""
    sheet: torch.Tensor
    """[height, width, 3] in 0..1, tiles on the token grid: red is the heat, green the mask (of a point: the heat within
    its own latent frame), and bit k of blue the mask of steps[k]."""
    grid: tuple[int, int]
    """Height and width of a tile."""
    words: tuple[Json | None, ...] = ()
    """For each beat the words that name the subject, as `naming_words` returns them; empty where no words do."""
    steps: tuple[int, ...] = ()
    """The sampler steps whose masks the sheet holds."""


def shown_frames(frames: int) -> list[int]:
    """Numbers of the frames that are shown of a video."""
    count = min(frames, MOST_FRAMES)
    return [round(place * (frames - 1) / max(count - 1, 1)) for place in range(count)]


def columns_of(tiles: int) -> int:
    """Tiles in a row of a sheet."""
    return math.ceil(math.sqrt(tiles))


def sheet_of(tiles: torch.Tensor) -> torch.Tensor:
    """Tiles [tiles, h, w, channels] as one picture [rows x h, columns x w, channels]; places without a tile are 0."""
    count, height, width, channels = tiles.shape
    columns = columns_of(count)
    rows = math.ceil(count / columns)
    whole = torch.cat([tiles, tiles.new_zeros(rows * columns - count, height, width, channels)])
    return whole.reshape(rows, columns, height, width, channels).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def small_frames(images: torch.Tensor, frames: list[int]) -> torch.Tensor:
    """Some of the frames [frames, h, w, 3], no larger than the viewer shows them."""
    height, width = images.shape[1:3]
    factor = min(1.0, LONGEST_SIDE / max(height, width), math.sqrt(SHEET_PIXELS / (len(frames) * height * width)))
    size = max(1, int(height * factor)), max(1, int(width * factor))
    # One by one: together they may be large before they are small.
    return torch.cat(
        [F.interpolate(images[frame : frame + 1].movedim(-1, 1), size, mode="area").movedim(1, -1) for frame in frames]
    )


def shown_maps(masks: RecordedMasks | None, point: RecordedPoint | None, frames: list[int]) -> Iterator[ShownMap]:
    """The maps of the first video of a run in the chosen frames: of all subjects together, of each where there are
    several, and of a point."""
    if masks is not None:
        named = [(one, naming_words(masks.timeline, one.tokens)) for one in masks.subjects]
        alone = len(named) == 1
        yield _shown(ALL, named[0][0].name if alone else "", masks, frames, named[0][1] if alone else ())
        for subject, words in () if alone else named:
            yield _shown(SUBJECT, subject.name, masks.of(subject.name), frames, words)
    if point is not None:
        yield _shown(POINT, "", RecordedMasks(point.timeline, point.heat, point.own_heat), frames, ())


def _shown(kind: str, name: str, masks: RecordedMasks, frames: list[int], words: tuple[Json | None, ...]) -> ShownMap:
    owners = [masks.timeline.frame_of(frame) for frame in frames]
    heat, mask = (maps[0, owners].float().nan_to_num(0.0, 1.0, 0.0).cpu() for maps in (masks.heat, masks.mask))
    course = masks.course[:STEP_BITS]
    bits = torch.zeros_like(heat)
    for bit, step in enumerate(course):
        bits += 2**bit * step.masks[:, 0, owners].any(0)
    tiles = torch.stack([heat.clamp(0, 1), mask, (bits + ROUNDED_DOWN) / 255], dim=-1)
    return ShownMap(
        kind, name, sheet_of(tiles), (heat.shape[1], heat.shape[2]), words, tuple(one.step for one in course)
    )


def naming_words(timeline: Timeline, tokens: tuple[SubjectTokens | None, ...]) -> tuple[Json | None, ...]:
    """For each beat how its prompt names a subject, None where it does not: `subject` and `others`, the words it is
    contrasted with, each a list of [word, places of its text tokens]. A place that belongs to no known word has ""."""
    return tuple(
        None
        if named is None
        else {"subject": _words_at(beat.words, named.subject), "others": _words_at(beat.words, named.others)}
        for beat, named in zip(timeline.beats, tokens, strict=False)
    )


def _words_at(known: PromptWords | None, places: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    if known is not None:
        for word, span in zip(known.words, known.positions, strict=True):
            if set(span) & set(places):
                found.append((word, span))
    left = tuple(sorted(set(places) - {place for _, span in found for place in span}))
    return [*found, ("", left)] if left else found


def described_point(point: RecordedPoint) -> Json:
    """What the viewer needs to know about a point besides its map, of the first video of a run.

    x, y, frame: its position; frames: the share of each latent frame in its attention to video; spans: first picture
    and stop of each; segments: those that contain it; texts: of every text that it attends to the segment, beat,
    weight, words, its attention to each word (`looks`) and theirs to each other (`between`, None where there is none).
    """
    timeline, look = point.timeline, point.look
    return {
        "x": look.x,
        "y": look.y,
        "frame": look.picture,
        "frames": _numbers(point.frames),
        "spans": [timeline.picture_range(frame, frame + 1) for frame in range(timeline.latent_frames)],
        "segments": [segment.index for segment in timeline.segments_at(timeline.frame_of(look.picture))],
        "texts": [
            {
                "segment": text.segment,
                "beat": text.beat,
                "weight": text.weight,
                "words": text.words,
                "looks": _numbers(text.looks),
                "between": None if text.between is None else _numbers(text.between),
            }
            for text in point.texts
        ],
    }


def _numbers(values: torch.Tensor) -> list[Any]:
    """Those of the first video, as short as they need be for people; 0 where a run that overflowed left no number."""
    return (values[0].double().nan_to_num(0.0, 0.0, 0.0) * 10**DIGITS).round().div(10**DIGITS).tolist()


def described_film(timeline: Timeline, frames: list[int], videos: int) -> Json:
    """What the viewer needs to know about the film besides pictures.

    frames: numbers of the shown ones; segments: first frame and stop of the frames in which each counts, in a loop over
    the end; videos: how many the run made, of which the first is shown.
    """
    return {
        "frames": frames,
        "columns": columns_of(len(frames)),
        "frame_count": timeline.frames,
        "fps": timeline.fps,
        "videos": videos,
        "prompts": [beat.prompt for beat in timeline.beats],
        "segments": [
            {
                "beat": segment.beat,
                "next_beat": segment.next_beat,
                "span": timeline.picture_range(segment.shown_start, segment.shown_stop),
            }
            for segment in timeline.segments
        ],
        "colours": HEAT_COLOURS,
    }
