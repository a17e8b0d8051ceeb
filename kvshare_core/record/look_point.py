"""A point of the video whose attention is recorded. Pure Python."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LookPoint:
    """A point of the video whose query's attention is recorded."""

    x: float
    """Horizontal position in 0..1, from the left."""
    y: float
    """Vertical position in 0..1, from the top."""
    picture: int
    """Number of the frame, counted from 0."""


def parse_look_point(text: str, pictures: int) -> LookPoint:
    """Parses "x, y, picture" for a video of that many pictures. Raises ValueError naming look_at and what is wrong."""
    parts = [part.strip() for part in text.split(",")]
    try:
        x, y, picture = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        raise ValueError(f"look_at: '{text}' is no point; write x, y, frame, for example 0.5, 0.5, 12.") from None
    if len(parts) != 3 or not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"look_at: '{text}' must be three numbers, x and y from 0 to 1.")
    if not 0 <= picture < pictures:
        raise ValueError(f"look_at: frame {picture} is not in the video; it has frames 0 to {pictures - 1}.")
    return LookPoint(x, y, picture)
