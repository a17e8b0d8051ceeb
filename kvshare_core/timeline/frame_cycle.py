"""How many pictures the latent frames of a video stand for. Pure Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class FrameCycle:
    """Latent frames of models that encode a video in groups of pictures: the groups are alike, and a model knows a
    latent frame by its place in its group.

    pictures: of each latent frame of a group. rest: latent frames of a video beyond its whole groups; a video of any
    other number of frames cannot be encoded, decoded or made.
    """

    pictures: tuple[int, ...]
    rest: int = 0

    @property
    def period(self) -> int:
        """Latent frames of a group."""
        return len(self.pictures)

    @cached_property
    def _before(self) -> tuple[int, ...]:
        return tuple(accumulate(self.pictures, initial=0))

    def before(self, frame: int) -> int:
        """Pictures of the latent frames before `frame`."""
        groups, place = divmod(frame, self.period)
        return groups * self._before[-1] + self._before[place]

    def frame_of(self, picture: int) -> int:
        """The latent frame that stands for `picture`."""
        groups, place = divmod(picture, self._before[-1])
        return groups * self.period + max(frame for frame in range(self.period) if self._before[frame] <= place)

    def nearest(self, pictures: float, place: int | None = None) -> int:
        """The number of latent frames, from a video's beginning, whose pictures come nearest to that many, of two the
        larger one; place: what is left of that number after whole groups, None for anything."""
        groups = max(0, int(pictures // self._before[-1]) - 1)
        places = range(self.period) if place is None else (place % self.period,)
        numbers = [(groups + further) * self.period + left for further in range(4) for left in places]
        # Seconds times fps may have lost a little.
        return min(numbers, key=lambda number: (round(abs(self.before(number) - pictures), 5), -number))

    def fits(self, frames: int) -> bool:
        """Whether a video may have that many latent frames."""
        return frames >= 1 and frames % self.period == self.rest % self.period

    def near(self, frames: int) -> Sequence[int]:
        """The numbers of latent frames next to `frames` that a video may have."""
        lower = frames - (frames - self.rest) % self.period
        return [number for number in (lower, lower + self.period) if number >= 1]
