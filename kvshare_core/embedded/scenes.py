"""Generated scenes with ground truth: one coloured shape, or two, that move over a background.

Everything about a scene is known (mask, colour, pattern, shape, size, direction and background of every frame), so
quality can be measured without any downloaded network. Lengths are fractions of the frame side unless said otherwise;
images have values in 0..1; the y axis points down.
"""

import math
import random
from dataclasses import dataclass

import torch

from .vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, PATTERNS, SHAPES, SIZES

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
MARK_VALUE = torch.tensor((0.10, 0.85, 0.90))
"""Colour of every mark: the one that is farthest from all subjects and backgrounds."""
DIRECTION_VECTORS = torch.tensor([(1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0)])
RADIUS_RANGES = ((0.13, 0.17), (0.20, 0.25))
TRAVEL_RANGE = (0.30, 0.50)
BACKGROUND_SHADE = (0.85, 1.15)
"""Brightness of the background at the top and at the bottom of the frame."""

PAIR_SIZES = torch.tensor([(0, 0), (0, 1), (1, 0)])
"""Sizes that two subjects of one scene may have: two large ones would fill the frame."""
PAIR_TRAVEL_RANGE = (0.20, 0.40)
PAIR_GAP = 0.04
"""Least distance between the bounding boxes of two subjects."""
PAIR_PLACEMENTS = 48
"""Places that are tried for two subjects before their attributes are drawn anew."""
EXTENTS = torch.tensor([(1.0, 1.0, 1.0), (0.90, 0.90, 0.90), (1.0, 1.15, 0.85)])
"""How far each shape of `signed_distance` at radius one reaches sideways, up and down."""

MIDDLES = torch.tensor([0.0, 0.0, 0.18])
"""How far below its centre the middle of each shape at radius one lies, where its mark is."""
STRIPE, SPOT = 0.30, 0.45
"""Half the height of a stripe and the radius of a spot at radius one."""

ATTRIBUTES = ("size", "colour", "pattern", "shape", "direction", "background")


@dataclass(frozen=True)
class Scenes:
    """`n` scenes. Index tensors [n] point into the vocabulary's tuples; `radius`, `travel` [n]; `centre` [n, 2]
    is the subject's (x, y) in the middle of the clip."""

    size: torch.Tensor
    colour: torch.Tensor
    pattern: torch.Tensor
    shape: torch.Tensor
    direction: torch.Tensor
    background: torch.Tensor
    radius: torch.Tensor
    travel: torch.Tensor
    centre: torch.Tensor

    def __len__(self) -> int:
        return self.radius.shape[0]

    def attribute_words(self, index: int) -> dict[str, str]:
        """The six words that describe scene `index` in full."""
        return {
            "size": SIZES[int(self.size[index])],
            "colour": COLOURS[int(self.colour[index])],
            "pattern": PATTERNS[int(self.pattern[index])],
            "shape": SHAPES[int(self.shape[index])],
            "direction": DIRECTIONS[int(self.direction[index])],
            "background": BACKGROUNDS[int(self.background[index])],
        }


@dataclass(frozen=True)
class PairScenes:
    """`n` scenes with two subjects each, of different shape and colour over one background."""

    first: Scenes
    second: Scenes

    def __len__(self) -> int:
        return len(self.first)

    def attribute_words(self, index: int) -> tuple[dict[str, str], dict[str, str]]:
        """The six words of either subject of scene `index`."""
        return self.first.attribute_words(index), self.second.attribute_words(index)


def is_held_out(
    colour: torch.Tensor, shape: torch.Tensor, direction: torch.Tensor, background: torch.Tensor
) -> torch.Tensor:
    """True for the sixth of all attribute combinations that training never shows. Every pair of attribute values
    still occurs in training, so a model that composes attributes can draw them."""
    return (colour + 2 * shape + 3 * direction + 5 * background) % 6 == 0


def sample_scenes(count: int, generator: torch.Generator, held_out: bool = False, patterned: bool = False) -> Scenes:
    """Draws `count` scenes whose attribute combination is held out from training, or is not.

    The subject stays inside the frame over its whole path. Subjects are plain, or of any pattern where `patterned`.
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
    pattern = sample_patterns(count, generator, patterned)
    return Scenes(size, colour, pattern, shape, direction, background, radius, travel, centre)


def sample_patterns(count: int, generator: torch.Generator, patterned: bool) -> torch.Tensor:
    """Indices [count] into PATTERNS: plain ones, or any where `patterned`. Drawn last, so that the rest of a seed's
    scenes is the same either way."""
    return torch.randint(len(PATTERNS), (count,), generator=generator) if patterned else torch.zeros(count).long()


def sample_pairs(count: int, generator: torch.Generator, held_out: bool = False, patterned: bool = False) -> PairScenes:
    """Draws `count` scenes with two subjects, whose attribute combinations are both held out from training, or neither.

    The subjects stay inside the frame and apart from each other over their whole paths. Both are plain, or of any
    pattern where `patterned`.
    """
    pairs, good = draw_pairs(count, generator, held_out)
    while not bool(good.all()):
        fresh, fresh_good = draw_pairs(int((~good).sum()), generator, held_out)
        for scenes, fresh_scenes in ((pairs.first, fresh.first), (pairs.second, fresh.second)):
            for name, values in vars(fresh_scenes).items():
                getattr(scenes, name)[~good] = values
        good[~good] = fresh_good
    for scenes in (pairs.first, pairs.second):
        scenes.pattern[:] = sample_patterns(count, generator, patterned)
    return pairs


def draw_pairs(count: int, generator: torch.Generator, held_out: bool) -> tuple[PairScenes, torch.Tensor]:
    """`count` attempts at a scene with two plain subjects, and which of them [count] succeeded."""

    def draw(choices: int) -> torch.Tensor:
        return torch.randint(choices, (count,), generator=generator)

    shape, colour, background = draw(len(SHAPES)), draw(len(COLOURS)), draw(len(BACKGROUNDS))
    shapes = (shape, (shape + 1 + draw(len(SHAPES) - 1)) % len(SHAPES))
    colours = (colour, (colour + 1 + draw(len(COLOURS) - 1)) % len(COLOURS))
    sizes = PAIR_SIZES[draw(len(PAIR_SIZES))].unbind(1)
    directions = (draw(len(DIRECTIONS)), draw(len(DIRECTIONS)))
    placed: list[Scenes] = []
    combined = torch.ones(count, dtype=torch.bool)
    for attributes in zip(sizes, colours, shapes, directions, strict=True):
        combined &= is_held_out(*attributes[1:], background) == held_out
        repeated = torch.stack([*attributes, background]).repeat_interleave(PAIR_PLACEMENTS, dim=1)
        placed.append(place_anywhere(repeated, generator))
    apart = stay_apart(placed[0], placed[1]).unflatten(0, (count, PAIR_PLACEMENTS))
    chosen = torch.arange(count) * PAIR_PLACEMENTS + apart.int().argmax(1)
    first, second = (Scenes(**{name: values[chosen] for name, values in vars(scenes).items()}) for scenes in placed)
    return PairScenes(first, second), combined & apart.any(1)


def place_anywhere(attributes: torch.Tensor, generator: torch.Generator) -> Scenes:
    """Scenes whose subject is plain and anywhere in the frame, inside it over its whole path.

    `attributes` [5, n] index the vocabulary for size, colour, shape, direction and background.
    """

    def between(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return low + (high - low) * torch.rand(high.shape, generator=generator)

    size, colour, shape, direction, background = attributes
    radius = between(*torch.tensor(RADIUS_RANGES)[size].unbind(1))
    travel = between(*torch.tensor(PAIR_TRAVEL_RANGE).expand(len(size), 2).unbind(1))
    sideways, upwards, downwards = (EXTENTS[shape] * radius[:, None]).unbind(1)
    way = DIRECTION_VECTORS[direction].abs() * travel[:, None] / 2
    low = torch.stack([sideways, upwards], dim=1) + way
    high = 1 - torch.stack([sideways, downwards], dim=1) - way
    plain = torch.zeros_like(shape)
    return Scenes(size, colour, plain, shape, direction, background, radius, travel, between(low, high))


def stay_apart(first: Scenes, second: Scenes) -> torch.Tensor:
    """Whether the bounding boxes of two subjects [n] each keep PAIR_GAP between them in every frame."""
    boxes: list[tuple[torch.Tensor, torch.Tensor]] = []
    for scenes in (first, second):
        sideways, upwards, downwards = (EXTENTS[scenes.shape] * scenes.radius[:, None])[:, None].unbind(2)
        centre = centres(scenes)
        boxes.append(
            (
                centre - torch.stack([sideways, upwards], dim=2),
                centre + torch.stack([sideways, downwards], dim=2),
            )
        )
    (low, high), (other_low, other_high) = boxes
    gap = torch.maximum(other_low - high, low - other_high)
    return (gap.amax(2) >= PAIR_GAP).all(1)


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


def mark_distance(
    pattern: torch.Tensor, shape: torch.Tensor, offset_x: torch.Tensor, offset_y: torch.Tensor, radius: torch.Tensor
) -> torch.Tensor:
    """Distance to the outline of the mark of each pattern, positive inside; all in one unit. Nothing is inside the mark
    of a plain subject.

    `pattern` and `shape` [n] index PATTERNS and SHAPES; offsets are from the shape's centre, and broadcast with
    `radius` to [n, ...].
    """
    trailing = [1] * (offset_x.ndim - 1)
    offset_y = offset_y - MIDDLES[shape].reshape(-1, *trailing) * radius
    stripe = STRIPE * radius - offset_y.abs()
    spot = SPOT * radius - torch.hypot(offset_x, offset_y)
    choice = pattern.reshape(-1, *trailing)
    marked = torch.where(choice == 1, stripe, torch.where(choice == 2, spot, offset_y))
    return torch.where(choice == 0, -math.inf, marked)


def pixel_grid(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel centres (x, y), each [side, side], in pixels."""
    axis = torch.arange(side) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def render(scenes: Scenes, side: int = FRAME_SIDE, frames: int = FRAMES) -> tuple[torch.Tensor, torch.Tensor]:
    """Renders video [n, frames, 3, side, side] and its true subject mask [n, frames, side, side], both in 0..1."""
    mask = subject_masks(scenes, side, frames)
    _, y = pixel_grid(side)
    shade = BACKGROUND_SHADE[0] + (BACKGROUND_SHADE[1] - BACKGROUND_SHADE[0]) * y / side
    background = BACKGROUND_VALUES[scenes.background][:, None, :, None, None] * shade
    return paint(background, scenes, mask), mask


def render_pairs(pairs: PairScenes, side: int = FRAME_SIDE, frames: int = FRAMES) -> tuple[torch.Tensor, torch.Tensor]:
    """Renders video [n, frames, 3, side, side] and the true masks of both subjects [n, 2, frames, side, side]."""
    video, first_mask = render(pairs.first, side, frames)
    second_mask = subject_masks(pairs.second, side, frames)
    return paint(video, pairs.second, second_mask), torch.stack([first_mask, second_mask], dim=1)


def subject_masks(scenes: Scenes, side: int, frames: int) -> torch.Tensor:
    """Opacity of the subjects in every frame, [n, frames, side, side] in 0..1."""
    return (signed_distance(scenes.shape, *offsets(scenes, side, frames)) + 0.5).clamp(0, 1)


def mark_masks(scenes: Scenes, side: int, frames: int) -> torch.Tensor:
    """Opacity of the marks on the subjects, which may reach beyond these, [n, frames, side, side] in 0..1."""
    return (mark_distance(scenes.pattern, scenes.shape, *offsets(scenes, side, frames)) + 0.5).clamp(0, 1)


def offsets(scenes: Scenes, side: int, frames: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every pixel's (x, y) from the subject's centre, each [n, frames, side, side], and the radius [n, 1, 1, 1], in
    pixels."""
    x, y = pixel_grid(side)
    centre = centres(scenes, frames) * side
    radius = scenes.radius.reshape(-1, 1, 1, 1) * side
    return x - centre[..., 0, None, None], y - centre[..., 1, None, None], radius


def paint(video: torch.Tensor, scenes: Scenes, mask: torch.Tensor) -> torch.Tensor:
    """`video` [n, frames or 1, 3, side, side] with the subjects of `scenes` where `mask` [n, frames, side, side] is."""
    alpha = mask[:, :, None]
    colour = COLOUR_VALUES[scenes.colour][:, None, :, None, None]
    if bool(scenes.pattern.any()):
        mark = mark_masks(scenes, mask.shape[-1], mask.shape[1])[:, :, None]
        colour = colour * (1 - mark) + MARK_VALUE.reshape(3, 1, 1) * mark
    return video * (1 - alpha) + colour * alpha


def caption(words: dict[str, str], said: frozenset[str] | set[str], wording: random.Random | None = None) -> str:
    """A plain sentence that says the attributes in `said` and leaves the others open.

    `words` holds one word per name in ATTRIBUTES. With `wording`, articles and verbs vary; without, the sentence is the
    canonical one: "a large red striped circle moving right over grass".
    """

    return " ".join([*clause(words, said, wording), *place(words, said, wording)])


def pair_caption(
    words: tuple[dict[str, str], dict[str, str]],
    said: tuple[frozenset[str] | set[str], frozenset[str] | set[str]],
    wording: random.Random | None = None,
) -> str:
    """The same for two subjects: "a large red circle moving right and a small blue square moving up over grass".

    The background is said when `said` of the first subject has it.
    """
    first, second = (clause(subject, named, wording) for subject, named in zip(words, said, strict=True))
    return " ".join([*first, pick(wording, "and", "and", "while"), *second, *place(words[0], said[0], wording)])


def clause(words: dict[str, str], said: frozenset[str] | set[str], wording: random.Random | None) -> list[str]:
    """The words of one subject and its movement."""
    parts = [pick(wording, "a", "the")]
    parts += [words[name] for name in ("size", "colour", "pattern") if name in said]
    parts.append(words["shape"] if "shape" in said else "shape")
    parts.append(pick(wording, "moving", "moves", "going", "goes"))
    if "direction" in said:
        if words["direction"] in ("left", "right"):
            parts += pick(wording, "", "", "to the").split()
        parts.append(words["direction"])
    return parts


def place(words: dict[str, str], said: frozenset[str] | set[str], wording: random.Random | None) -> list[str]:
    """The words that say the background, if it is to be said."""
    if "background" not in said:
        return []
    return [pick(wording, "over", "across", "on"), *pick(wording, "", "the").split(), words["background"]]


def pick(wording: random.Random | None, *options: str) -> str:
    """One of `options`, the first without `wording`."""
    return wording.choice(options) if wording else options[0]
