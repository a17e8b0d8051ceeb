"""Generated scenes with ground truth: one coloured shape that moves over a background.

Everything about a scene is known (mask, colour, shape, size, direction and background of every frame), so quality can
be measured without any downloaded network. Lengths are fractions of the frame side unless said otherwise; images have
values in 0..1; the y axis points down.
"""

import random
from dataclasses import dataclass

import torch

from .vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SIZES

FRAME_SIDE = 96
FRAMES = 17
FPS = 8
"""Frames per second that a scene stands for."""

COLOUR_VALUES = torch.tensor(
    [
        (0.90, 0.15, 0.15),
        (0.15, 0.75, 0.20),
        (0.15, 0.30, 0.95),
        (0.95, 0.85, 0.10),
        (0.60, 0.20, 0.80),
        (0.95, 0.95, 0.95),
    ]
)
BACKGROUND_VALUES = torch.tensor([(0.05, 0.06, 0.12), (0.72, 0.60, 0.40), (0.12, 0.32, 0.12), (0.08, 0.30, 0.38)])
DIRECTION_VECTORS = torch.tensor([(1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0)])
RADIUS_RANGES = ((0.13, 0.17), (0.20, 0.25))
TRAVEL_RANGE = (0.30, 0.50)
BACKGROUND_SHADE = (0.85, 1.15)
"""Brightness of the background at the top and at the bottom of the frame."""

ATTRIBUTES = ("size", "colour", "shape", "direction", "background")


@dataclass(frozen=True)
class Scenes:
    """`n` scenes. Index tensors [n] point into the vocabulary's tuples; `radius`, `travel` [n]; `centre` [n, 2]
    is the subject's (x, y) in the middle of the clip."""

    size: torch.Tensor
    colour: torch.Tensor
    shape: torch.Tensor
    direction: torch.Tensor
    background: torch.Tensor
    radius: torch.Tensor
    travel: torch.Tensor
    centre: torch.Tensor

    def __len__(self) -> int:
        return self.radius.shape[0]

    def attribute_words(self, index: int) -> dict[str, str]:
        """The five words that describe scene `index` in full."""
        return {
            "size": SIZES[int(self.size[index])],
            "colour": COLOURS[int(self.colour[index])],
            "shape": SHAPES[int(self.shape[index])],
            "direction": DIRECTIONS[int(self.direction[index])],
            "background": BACKGROUNDS[int(self.background[index])],
        }


def is_held_out(
    colour: torch.Tensor, shape: torch.Tensor, direction: torch.Tensor, background: torch.Tensor
) -> torch.Tensor:
    """True for the sixth of all attribute combinations that training never shows. Every pair of attribute values
    still occurs in training, so a model that composes attributes can draw them."""
    return (colour + 2 * shape + 3 * direction + 5 * background) % 6 == 0


def sample_scenes(count: int, generator: torch.Generator, held_out: bool = False) -> Scenes:
    """Draws `count` scenes whose attribute combination is held out from training, or is not.

    The subject stays inside the frame over its whole path.
    """

    def draw(choices: int) -> torch.Tensor:
        return torch.randint(choices, (count,), generator=generator)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    attributes = torch.stack([draw(len(COLOURS)), draw(len(SHAPES)), draw(len(DIRECTIONS)), draw(len(BACKGROUNDS))])
    wrong = is_held_out(*attributes) != held_out
    while bool(wrong.any()):
        fresh = torch.stack([draw(len(COLOURS)), draw(len(SHAPES)), draw(len(DIRECTIONS)), draw(len(BACKGROUNDS))])
        attributes = torch.where(wrong, fresh, attributes)
        wrong = is_held_out(*attributes) != held_out
    colour, shape, direction, background = attributes

    size = draw(len(SIZES))
    ranges = torch.tensor(RADIUS_RANGES)[size]
    radius = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * uniform(count)
    travel = TRAVEL_RANGE[0] + (TRAVEL_RANGE[1] - TRAVEL_RANGE[0]) * uniform(count)
    travel = torch.minimum(travel, 1 - 2 * radius)
    moves = DIRECTION_VECTORS[direction].abs()
    room = 0.5 - radius[:, None] - moves * travel[:, None] / 2
    centre = 0.5 + (2 * uniform(count, 2) - 1) * room.clamp(0, 0.15)
    return Scenes(size, colour, shape, direction, background, radius, travel, centre)


def centres(scenes: Scenes, frames: int = FRAMES) -> torch.Tensor:
    """Subject centre of every frame as fractions of the frame side, [n, frames, 2] in (x, y)."""
    time = torch.linspace(-0.5, 0.5, frames)
    step = DIRECTION_VECTORS[scenes.direction] * scenes.travel[:, None]
    return scenes.centre[:, None] + step[:, None] * time[None, :, None]


def signed_distance(shape: torch.Tensor, offset_x: torch.Tensor, offset_y: torch.Tensor, radius: torch.Tensor):
    """Distance to the outline of each shape, positive inside; all in one unit.

    `shape` [n] indexes SHAPES; offsets from the shape's centre and `radius` broadcast to [n, ...]. Of one
    radius, the square has the area of the circle and the triangle about two thirds of it.
    """
    circle = radius - torch.hypot(offset_x, offset_y)
    square = radius * 0.90 - torch.maximum(offset_x.abs(), offset_y.abs())
    triangle = torch.minimum(radius * 0.85 - offset_y, 0.447 * (offset_y + radius * 1.15) - 0.894 * offset_x.abs())
    choice = shape.reshape(-1, *([1] * (circle.ndim - 1)))
    return torch.where(choice == 0, circle, torch.where(choice == 1, square, triangle))


def pixel_grid(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel centres (x, y), each [side, side], in pixels."""
    axis = torch.arange(side) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def render(scenes: Scenes, side: int = FRAME_SIDE, frames: int = FRAMES) -> tuple[torch.Tensor, torch.Tensor]:
    """Renders video [n, frames, 3, side, side] and its true subject mask [n, frames, side, side], both in 0..1."""
    x, y = pixel_grid(side)
    centre = centres(scenes, frames) * side
    offset_x = x - centre[..., 0, None, None]
    offset_y = y - centre[..., 1, None, None]
    mask = (signed_distance(scenes.shape, offset_x, offset_y, scenes.radius.reshape(-1, 1, 1, 1) * side) + 0.5).clamp(
        0, 1
    )

    shade = BACKGROUND_SHADE[0] + (BACKGROUND_SHADE[1] - BACKGROUND_SHADE[0]) * y / side
    background = BACKGROUND_VALUES[scenes.background][:, None, :, None, None] * shade
    subject = COLOUR_VALUES[scenes.colour][:, None, :, None, None]
    alpha = mask[:, :, None]
    return background * (1 - alpha) + subject * alpha, mask


def caption(words: dict[str, str], said: frozenset[str] | set[str], wording: random.Random | None = None) -> str:
    """A plain sentence that says the attributes in `said` and leaves the others open.

    `words` holds one word per name in ATTRIBUTES. With `wording`, articles and verbs vary; without, the sentence is the
    canonical one: "a large red circle moving right over grass".
    """

    def pick(*options: str) -> str:
        return wording.choice(options) if wording else options[0]

    parts = [pick("a", "the")]
    parts += [words[name] for name in ("size", "colour") if name in said]
    parts.append(words["shape"] if "shape" in said else "shape")
    parts.append(pick("moving", "moves", "going", "goes"))
    if "direction" in said:
        if words["direction"] in ("left", "right"):
            parts += pick("", "", "to the").split()
        parts.append(words["direction"])
    if "background" in said:
        parts.append(pick("over", "across", "on"))
        parts += pick("", "the").split()
        parts.append(words["background"])
    return " ".join(parts)
