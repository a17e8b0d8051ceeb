"""Arranges the sampler's noise for a run's timeline."""

from collections.abc import Callable, Sequence

import torch
from comfy.sample import prepare_noise_inner
from comfy.utils import pack_latents, unpack_latents

from ...timeline.noise import timeline_noise, wants_noise
from ...timeline.pictures import as_pictures, as_video
from ...timeline.timeline import FRAME_DIM, Timeline

MOST_LATENTS = 64
"""The largest index in a batch that is searched for a latent that was taken out of it."""


def arrange_noise(
    timeline: Timeline,
    noise: torch.Tensor,
    seed: int | None,
    shapes: Sequence[Sequence[int]],
    warn: Callable[[str], None],
    lead: int = 0,
    frames_in_batch: bool = False,
) -> torch.Tensor:
    """The noise of a run; of video packed with audio, the video's part changes, and of reference frames none, `lead` of
    which are in front of the video.

    shapes: of the parts packed into `noise`; frames_in_batch: whether that is a batch of pictures. All zeros, from a
    sampler that continues another's latent, stay zeros, and a latent that is not the timeline's is left for the
    segment handler to refuse.
    """
    if not wants_noise(timeline) or not bool(noise.any()):
        return noise
    parts = list(unpack_latents(noise, shapes)) if len(shapes) > 1 else [noise]
    if frames_in_batch:
        return _arranged_pictures(timeline, noise, seed, warn)
    if parts[0].ndim != 5 or parts[0].shape[FRAME_DIM] != timeline.latent_frames + lead:
        return noise
    draw = None if seed is None else _drawn_like(parts[0], seed)
    whole = parts[0]
    if draw is None:
        _warn_of_seeds(timeline, warn)
    of_video = None if draw is None else _behind(draw, lead)
    video = timeline_noise(timeline, whole[:, :, lead:], seed or 0, of_video, FRAME_DIM)
    parts[0] = torch.cat([whole[:, :, :lead], video], FRAME_DIM) if lead else video
    return pack_latents(parts)[0] if len(parts) > 1 else parts[0]


def _arranged_pictures(
    timeline: Timeline, noise: torch.Tensor, seed: int | None, warn: Callable[[str], None]
) -> torch.Tensor:
    """The same for a batch of pictures, the film's frames."""
    if len(noise) != timeline.latent_frames:
        return noise
    draw = None if seed is None else _drawn_like(noise, seed)
    if draw is None:
        _warn_of_seeds(timeline, warn)
    of_video = None if draw is None else _as_videos(draw)
    return as_pictures(timeline_noise(timeline, as_video(noise), seed or 0, of_video, FRAME_DIM))


def _as_videos(draw: Callable[[int], torch.Tensor]) -> Callable[[int], torch.Tensor]:
    """The noise of pictures as that of a video."""
    return lambda seed: as_video(draw(seed))


def _warn_of_seeds(timeline: Timeline, warn: Callable[[str], None]) -> None:
    """Says that seeds of single prompts are ignored, where there are any."""
    if any(beat.script.seed_offset for beat in timeline.beats):
        warn("the sampler's noise is not that of its seed, so the seeds of single prompts are ignored.")


def _behind(draw: Callable[[int], torch.Tensor], lead: int) -> Callable[[int], torch.Tensor]:
    """The noise of the video behind `lead` reference frames."""

    def of_video(seed: int) -> torch.Tensor:
        return draw(seed)[:, :, lead:]

    return of_video


def _drawn_like(noise: torch.Tensor, seed: int) -> Callable[[int], torch.Tensor] | None:
    """How the host drew `noise` from `seed`, for other seeds; None when it did not.

    Latents that were taken out of a batch have the noise of their index in it, which is not passed on.
    """
    like, drawn = torch.empty_like(noise, device="cpu"), noise.cpu()

    def draw(seed: int, places: list[int] | None = None) -> torch.Tensor:
        return prepare_noise_inner(like, torch.Generator().manual_seed(seed), places)

    if torch.equal(draw(seed), drawn):
        return draw
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, int] = {}
    for place in range(MOST_LATENTS):
        one = prepare_noise_inner(like[:1], generator)[0]
        found |= {row: place for row in range(len(drawn)) if torch.equal(drawn[row], one)}
        if len(found) == len(drawn):
            places = [found[row] for row in range(len(drawn))]
            return lambda seed: draw(seed, places)
    return None
