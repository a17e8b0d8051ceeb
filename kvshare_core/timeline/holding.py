"""Frames of an existing video in a timeline's latent, and noise masks that hold them while the rest is sampled.

A noise mask is float [1 or batch, 1, latent frames, height or 1, width or 1]: 1 where the sampler generates the video,
0 where it keeps what is there, and in between where it may change it a little.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from ..choices import wrong_choice
from .frame_cycle import FrameCycle
from .timeline import FRAME_DIM, Segment, Timeline

HoldPlace = Literal["start", "end", "beat"]
HOLD_PLACES: tuple[str, ...] = get_args(HoldPlace)


def first_frame(timeline: Timeline, place: HoldPlace, beat: int, frames: int) -> int:
    """The first of `frames` latent frames at a place of the timeline; beat: counted from 1, for the place of that name.

    Raises ValueError when the place or the beat does not exist, or the place has fewer frames.
    """
    if place not in HOLD_PLACES:
        raise ValueError(wrong_choice("hold", place, HOLD_PLACES))
    if place == "beat":
        own = timeline.beats[_beat_index(timeline, beat)]
        start, room = own.start, own.stop - own.start
    else:
        room = timeline.latent_frames
        start = 0 if place == "start" else room - frames
    if frames > room:
        whole = f"prompt {beat}" if place == "beat" else "the timeline"
        raise ValueError(
            f"existing: it has {frames} latent frames, but {whole} has {room}. Give {whole} a longer duration, or a "
            "shorter video."
        )
    return start


def latent_frames_of(timeline: Timeline, place: HoldPlace, beat: int, pictures: int) -> int:
    """How many latent frames `pictures` video frames are at a place of the timeline.

    Raises ValueError when they are not a whole number of latent frames there, naming numbers that are.
    """
    if timeline.frame_cycle is not None:
        return _frames_in_groups(timeline, timeline.frame_cycle, place, beat, pictures)
    start = 0
    if place == "beat":
        start = timeline.beats[_beat_index(timeline, beat)].start
    elif place == "end":
        start = 0 if pictures == timeline.frames else 1
    counts = range(1, pictures + 2)
    lengths = [last - first for first, last in (timeline.picture_range(start, start + count) for count in counts)]
    if pictures in lengths:
        return counts[lengths.index(pictures)]
    near = [length for length in lengths if abs(length - pictures) < timeline.temporal_compression]
    raise _no_whole_frames(pictures, near)


def _frames_in_groups(timeline: Timeline, cycle: FrameCycle, place: HoldPlace, beat: int, pictures: int) -> int:
    """The same where latent frames come in groups, with one of which a held video begins."""
    if place == "beat":
        start = timeline.beats[_beat_index(timeline, beat)].start
        if start % cycle.period:
            raise ValueError(
                f"place: prompt {beat} fades in over the one before, and a video can be held from its beginning only "
                "where it follows at a cut. Put [cut] before it in the script."
            )
    frames = cycle.nearest(pictures, cycle.rest)
    if cycle.before(frames) == pictures:
        return frames
    raise _no_whole_frames(pictures, [cycle.before(near) for near in cycle.near(cycle.frame_of(pictures))])


def _no_whole_frames(pictures: int, near: Sequence[int]) -> ValueError:
    return ValueError(
        f"images: there are {pictures}; {' or '.join(map(str, near))} would be whole latent frames at that place. "
        "Remove some (ImageFromBatch) or add some."
    )


def hold_frames(
    timeline: Timeline,
    latent: torch.Tensor,
    noise_mask: torch.Tensor | None,
    existing: torch.Tensor,
    start: int,
    soft_frames: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Puts `existing` [1 or batch, channels, frames, height, width] into the timeline's latent at frame `start`: the
    latent and the noise mask that holds it.

    noise_mask: that of the latent so far; soft_frames: how many frames of the existing video may change a little where
    it meets the new one, the nearer the more. Raises ValueError naming what does not fit.
    """
    _check_latent(timeline, latent)
    _check_existing(latent, existing)
    frames, loop = existing.shape[FRAME_DIM], timeline.script.loop and existing.shape[FRAME_DIM] < latent.shape[2]
    before = soft_frames if start > 0 or loop else 0
    after = soft_frames if start + frames < timeline.latent_frames or loop else 0
    if before + after > frames:
        raise ValueError(
            f"soft_frames: {before + after} are more than the {frames} latent frames of the existing video. Lower it."
        )
    samples = latent.clone()
    samples[:, :, start : start + frames] = existing.to(samples)
    part = torch.zeros(frames)
    part[:before] = torch.arange(before, 0, -1) / (before + 1)
    part[frames - after :] = torch.arange(1, after + 1) / (after + 1)
    mask = _open_mask(latent) if noise_mask is None else _mask_of_latent(noise_mask, latent).clone()
    mask[:, :, start : start + frames] = part[:, None, None]
    return samples, mask


def hold_original(
    timeline: Timeline,
    latent: torch.Tensor,
    noise_mask: torch.Tensor | None,
    existing: torch.Tensor,
    change: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Makes `existing` [1 or batch, channels, frames, height, width] the first beat of a timeline whose later beats are
    edits of it: the latent and its noise mask. The first beat is held, and each later one begins with the video too, so
    that a sampler which does not begin with nothing but noise starts from it.

    change: [pictures, h, w] in 0..1, one picture or one for each of the video, where an edit may differ from it; None
    for everywhere. noise_mask: that of the latent so far. Raises ValueError naming what does not fit.
    """
    frames = existing.shape[FRAME_DIM] if existing.ndim == 5 else 0
    first, *edits = timeline.beats
    if not edits:
        raise ValueError(
            "hold: an edit needs a second prompt. Write it below the first in Long Video Segmenter, with [cut] between."
        )
    if frames and frames != first.stop:
        raise ValueError(
            f"existing: it has {frames} latent frames, but prompt 1 has {first.stop}. Write [{frames}l] in front of "
            "prompt 1 and of each of its edits."
        )
    samples, mask = hold_frames(timeline, latent, noise_mask, existing, 0)
    for beat in edits:
        stop = min(beat.stop, beat.start + frames)
        length = stop - beat.start
        samples[:, :, beat.start : stop] = existing[:, :, :length].to(samples)
        if change is not None:
            mask[:, :, beat.start : stop] = _change_in_latent(timeline, change, latent, frames)[:, :, :length]
    return samples, mask


def _change_in_latent(timeline: Timeline, change: torch.Tensor, latent: torch.Tensor, frames: int) -> torch.Tensor:
    """Where an edit may change the first `frames` latent frames, [1, 1, frames, height, width]: what a place of the
    latent may is what any of its pixels may."""
    pictures = timeline.picture_range(0, frames)[1]
    if change.ndim != 3 or change.shape[0] not in (1, pictures):
        found = change.shape[0] if change.ndim == 3 else "no"
        raise ValueError(f"mask: it has {found} pictures; give 1 for all frames, or one for each of the {pictures}.")
    spread = change.float().expand(pictures, -1, -1)
    spans = (timeline.picture_range(frame, frame + 1) for frame in range(frames))
    of_frames = torch.stack([spread[first:last].amax(0) for first, last in spans])
    return F.adaptive_max_pool2d(of_frames[:, None], latent.shape[3:])[:, 0][None, None]


def image_places(timeline: Timeline, beat: int, frames: Mapping[str, int], middle_at: float) -> dict[str, range]:
    """The latent frames of the images of the beat number `beat` (from 1), within the beat's own time.

    frames: how many each has, by the inputs' names `start_image`, `middle_image` and `end_image`; middle_at: where the
    one in the middle stands, from 0 at the beat's beginning to 1 at its end. Raises ValueError when there is no such
    beat, or when it is too short for them.
    """
    own = timeline.beats[_beat_index(timeline, beat)]
    length = own.stop - own.start
    places: dict[str, range] = {}
    for name, count in frames.items():
        offset = {"start_image": 0.0, "middle_image": middle_at, "end_image": 1.0}[name] * (length - count)
        if count > length:
            raise ValueError(
                f"{name}: it has {count} latent frames, but prompt {beat} has {length}. Give the prompt a longer "
                "duration, or take fewer images."
            )
        places[name] = range(own.start + round(offset), own.start + round(offset) + count)
    for (name, one), (other, two) in combinations(places.items(), 2):
        if one.start < two.stop and two.start < one.stop:
            raise ValueError(
                f"{other}: prompt {beat} has {length} latent frames, of which {name} has the same. Give the prompt a "
                "longer duration, or move the one in the middle (middle_at)."
            )
    return places


def moment_of(timeline: Timeline, beat: int, own: Sequence[Segment], part: float) -> tuple[Segment, int]:
    """The one of a beat's `own` segments that shows a moment best, and the moment's latent frame; part: where in the
    time of the beat, number `beat` from 0, the moment is, from 0 to 1."""
    begin, stop = timeline.beats[beat].start, timeline.beats[beat].stop
    frame = begin + round(part * (stop - begin - 1))
    return max(own, key=lambda one: min(frame - one.shown_start, one.shown_stop - 1 - frame)), frame


def hold_images(
    timeline: Timeline,
    latent: torch.Tensor,
    noise_mask: torch.Tensor | None,
    images: Mapping[range, torch.Tensor],
    strength: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The timeline's latent with encoded images [1 or batch, channels, frames, height, width] at their latent frames,
    and the noise mask that holds them there with `strength`, 1 for unchanged, 0 not at all.

    What comes out is what the host's LTXVImgToVideoInplace makes of one image at the beginning. noise_mask: what the
    latent holds already. Raises ValueError naming what does not fit.
    """
    _check_latent(timeline, latent)
    samples = latent.clone()
    mask = torch.ones(latent.shape[0], 1, latent.shape[FRAME_DIM], 1, 1, device=latent.device)
    if noise_mask is not None:
        mask = _check_mask(noise_mask, latent).float().clone()
    for frames, image in images.items():
        samples[:, :, frames.start : frames.stop] = image.to(samples)
        mask[:, :, frames.start : frames.stop] = 1.0 - strength
    return samples, mask


def redo_mask(timeline: Timeline, latent: torch.Tensor, beat: int) -> torch.Tensor:
    """The noise mask that samples beat number `beat` (from 1) again, in the frames that show it, and holds all others.

    Raises ValueError when there is no such beat or the latent is not the timeline's.
    """
    index = _beat_index(timeline, beat)
    _check_latent(timeline, latent)
    mask = torch.zeros_like(_open_mask(latent))
    mask[:, :, timeline.shown_frames(index)] = 1
    return mask


def _beat_index(timeline: Timeline, beat: int) -> int:
    if not 1 <= beat <= len(timeline.beats):
        raise ValueError(f"beat is {beat}; the timeline has prompts 1 to {len(timeline.beats)}.")
    return beat - 1


def _open_mask(latent: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, 1, *latent.shape[FRAME_DIM:])


def _mask_of_latent(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """A noise mask with a number for each place of the latent. Raises ValueError for one of another size."""
    mask = _check_mask(mask, latent)
    return mask.float().expand(*mask.shape[:FRAME_DIM], *latent.shape[FRAME_DIM:])


def _check_mask(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """The mask. Raises ValueError for one of other frames or another size."""
    wanted = latent.shape[FRAME_DIM:]
    if mask.ndim != 5 or mask.shape[FRAME_DIM:] not in (wanted, (wanted[0], 1, 1)):
        raise ValueError(
            f"latent: its noise mask has the shape {list(mask.shape)}, not one number for each of the latent's "
            f"{list(wanted)}. Remove it, and put Set Latent Noise Mask after this node instead."
        )
    return mask


def _check_latent(timeline: Timeline, latent: torch.Tensor) -> None:
    if latent.ndim != 5 or latent.shape[FRAME_DIM] != timeline.latent_frames:
        found = f"{latent.shape[FRAME_DIM]} latent frames" if latent.ndim == 5 else f"the shape {list(latent.shape)}"
        raise ValueError(
            f"latent: it has {found}, but the timeline has {timeline.latent_frames} latent frames. Connect the latent "
            "of the same timeline; prompts may change, but not their durations."
        )


def _check_existing(latent: torch.Tensor, existing: torch.Tensor) -> None:
    if existing.ndim != 5:
        raise ValueError(
            f"existing: it has the shape {list(existing.shape)} and is not a video. Connect the latent of a video."
        )
    if existing.shape[1] != latent.shape[1]:
        raise ValueError(
            f"existing: it has {existing.shape[1]} channels, but the latent has {latent.shape[1]}. Encode the video "
            "with the VAE of this model."
        )
    if existing.shape[3:] != latent.shape[3:]:
        wanted, found = ([shape[4], shape[3]] for shape in (latent.shape, existing.shape))
        raise ValueError(
            f"existing: it is {found[0]} x {found[1]} in latent pixels, but the timeline's latent is {wanted[0]} x "
            f"{wanted[1]}. Scale the video, or set width and height of Long Video Segmenter to its own."
        )
    if existing.shape[0] not in (1, latent.shape[0]):
        raise ValueError(
            f"existing: it has {existing.shape[0]} videos, but the latent has {latent.shape[0]}. Give one for all, or "
            f"set batch_size of Long Video Segmenter to {existing.shape[0]}."
        )
