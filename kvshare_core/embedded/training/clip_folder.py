"""A user's own clips as training material: videos and folders of pictures, with captions in words."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...prompt_words import split_words
from ..vocabulary import PAD, UNKNOWN

VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
ANIMATIONS = frozenset({".gif", ".webp", ".apng"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
MOST_FRAMES = 600
"""Frames that are read of a clip at most."""


@dataclass(frozen=True)
class UserClip:
    """One clip: uint8 [frames, 3, side, side], and the words of its caption."""

    frames: torch.Tensor
    words: tuple[str, ...]


def read_clips(folder: Path, side: int, least_frames: int) -> list[UserClip]:
    """All clips in `folder` that have that many frames: videos, animations, and folders of pictures in the order of
    their names. The caption is the text file of the same name, else the name itself, without its numbers.

    Raises ValueError, naming the folder or the file, for a folder without clips and for files that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"--clips: there is no folder {folder}.")
    clips: list[UserClip] = []
    short: list[str] = []
    for path in sorted(folder.iterdir()):
        if not (path.is_dir() or path.suffix.lower() in VIDEOS | ANIMATIONS):
            continue
        frames = [_fitted(frame, side) for frame in _frames(path)]
        if len(frames) < least_frames:
            short.append(f"{path.name} ({len(frames)})")
            continue
        clips.append(UserClip(torch.stack(frames), caption_of(path)))
    if not clips:
        reason = f"its clips are too short: {', '.join(short[:5])}" if short else "it has no videos or picture folders"
        raise ValueError(f"--clips: {folder} has no clip of {least_frames} frames; {reason}.")
    return clips


def caption_of(path: Path) -> tuple[str, ...]:
    """The words of a clip's caption: of the text file beside it, else of its name."""
    text = path.with_suffix(".txt") if path.is_file() else path.parent / f"{path.name}.txt"
    said = text.read_text(encoding="utf-8") if text.is_file() else re.sub(r"[\d_\-.]+", " ", path.stem)
    return tuple(split_words(said))


def vocabulary_of(clips: Sequence[UserClip]) -> tuple[str, ...]:
    """The words of all captions, after those for padding and for unknown words."""
    return (PAD, UNKNOWN, *sorted({word for clip in clips for word in clip.words}))


def _frames(path: Path) -> Iterator[Any]:
    """The frames of a video, of an animation, or of the pictures in a folder, as arrays [h, w, channels]."""
    # Here, because only this command needs it.
    import imageio.v3 as iio

    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
            yield from (iio.imread(file, mode="RGB") for file in files[:MOST_FRAMES])
            return
        plugin = "pillow" if path.suffix.lower() in ANIMATIONS else "pyav"
        options: dict[str, Any] = {"mode": "RGB"} if plugin == "pillow" else {"format": "rgb24"}
        for number, frame in enumerate(iio.imiter(path, plugin=plugin, **options)):
            if number >= MOST_FRAMES:
                return
            yield frame
    # Decoders raise errors of many kinds for files that they cannot read.
    except Exception as error:
        raise ValueError(f"--clips: {path} cannot be read ({error}).") from error


def _fitted(frame: Any, side: int) -> torch.Tensor:
    """The middle square of a frame [h, w, 3], uint8 [3, side, side]."""
    picture = torch.as_tensor(frame[..., :3].copy()).permute(2, 0, 1)
    height, width = picture.shape[1:]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    middle = picture[None, :, top : top + square, left : left + square].float()
    return F.interpolate(middle, (side, side), mode="bilinear", antialias=True)[0].round().clamp(0, 255).byte()
