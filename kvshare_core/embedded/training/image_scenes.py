"""What the image-to-video model learns from: scenes of which some frames are given, as the host's WanImageToVideo does.

The condition of Wan's image-to-video layout has 20 channels for every latent position: a mask of the four frames that
it covers, 1 where a frame is given, then the latents of a video that shows the given frames and is grey elsewhere.
Without an image the host gives zeros.

A film from one picture asks for more than a scene whose first frame is given: a beat names another background than its
picture shows, or another direction than the given frames move in. So some scenes come from another background, and some
turn.
"""

import random
from dataclasses import replace

import torch

from ..latents import BLOCK_FRAMES, CHANNELS, LatentBasis
from ..scenes import DIRECTION_VECTORS, FRAMES, Scenes, centres, render
from ..vocabulary import BACKGROUNDS, DIRECTIONS

CONDITION_CHANNELS = BLOCK_FRAMES + CHANNELS
GIVEN = {"nothing": 0.1, "first frame": 0.5, "first latents": 0.15, "first and last frame": 0.15, "middle latent": 0.1}
"""What is given of a scene, and how often."""
CHANGED_BACKGROUND = 0.25
TURNED = 0.25
FADE_FRAMES = 6
LATEST_TURN = 8
IMAGE_NOISE = 0.15
"""Most noise on the given latents, which a VAE has coded or the model itself has drawn."""
GREY = 0.5


def render_changing(scenes: Scenes, wording: random.Random, generator: torch.Generator) -> torch.Tensor:
    """Video [n, frames, 3, side, side] of `scenes`, some of which fade from another background or turn."""
    video = render(scenes)[0]
    kind = [wording.random() for _ in range(len(scenes))]
    faded = torch.tensor([value < CHANGED_BACKGROUND for value in kind])
    turned = torch.tensor([CHANGED_BACKGROUND <= value < CHANGED_BACKGROUND + TURNED for value in kind])
    if bool(faded.any()):
        chosen = select(scenes, faded)
        other = (chosen.background + other_index(len(chosen), len(BACKGROUNDS), generator)) % len(BACKGROUNDS)
        weight = (torch.arange(FRAMES) / FADE_FRAMES).clamp(0, 1).reshape(1, -1, 1, 1, 1)
        video[faded] = torch.lerp(render(replace(chosen, background=other))[0], video[faded], weight)
    if bool(turned.any()):
        chosen = select(scenes, turned)
        turn = torch.randint(1, LATEST_TURN + 1, (len(chosen),), generator=generator)
        before = (torch.arange(FRAMES) < turn[:, None]).reshape(len(chosen), FRAMES, 1, 1, 1)
        video[turned] = torch.where(before, render(approach(chosen, turn, generator))[0], video[turned])
    return video


def approach(scenes: Scenes, turn: torch.Tensor, generator: torch.Generator) -> Scenes:
    """`scenes` whose subjects move another way and reach their place in frame `turn` [n] at the same time."""
    direction = (scenes.direction + other_index(len(scenes), len(DIRECTIONS), generator)) % len(DIRECTIONS)
    met = centres(scenes)[torch.arange(len(scenes)), turn]
    since_middle = (turn / (FRAMES - 1) - 0.5)[:, None]
    centre = met - DIRECTION_VECTORS[direction] * scenes.travel[:, None] * since_middle
    return replace(scenes, direction=direction, centre=centre)


def other_index(count: int, choices: int, generator: torch.Generator) -> torch.Tensor:
    """`count` random steps [count] from one of `choices` to another."""
    return torch.randint(1, choices, (count,), generator=generator)


def select(scenes: Scenes, chosen: torch.Tensor) -> Scenes:
    """Those of `scenes` where `chosen` [n] is true."""
    return Scenes(**{name: values[chosen] for name, values in vars(scenes).items()})


def last_frame_latents(video: torch.Tensor, basis: LatentBasis) -> torch.Tensor:
    """Latents [n, 16, h, w] of the last latent frame when only the last frame of `video` is given."""
    given = torch.full_like(video[:, -1 - BLOCK_FRAMES :], GREY)
    given[:, -1] = video[:, -1]
    return basis.encode(given)[:, :, -1]


def grey_latents(basis: LatentBasis) -> torch.Tensor:
    """Latents [16, 1, 1, 1] of a frame that is not given."""
    side = 8
    return basis.encode(torch.full((1, 1, 3, side, side), GREY))[0]


def condition(
    latents: torch.Tensor, last: torch.Tensor, grey: torch.Tensor, wording: random.Random, generator: torch.Generator
) -> torch.Tensor:
    """The condition [n, 20, t, h, w] of scenes with `latents` [n, 16, t, h, w].

    `last` [n, 16, h, w] is of `last_frame_latents`, `grey` [16, 1, 1, 1] of `grey_latents`.
    """
    count, _, frames, height, width = latents.shape
    mask = torch.zeros(count, BLOCK_FRAMES, frames, height, width)
    image = grey.expand_as(latents).clone()
    kinds = wording.choices(list(GIVEN), list(GIVEN.values()), k=count)
    for row, kind in enumerate(kinds):
        if kind == "nothing":
            image[row] = 0
            continue
        first = wording.randrange(1, frames) if kind == "middle latent" else 0
        end = first + (2 if kind == "first latents" else 1)
        image[row, :, first:end] = latents[row, :, first:end]
        mask[row, :, first:end] = 1
        if kind == "first and last frame":
            image[row, :, -1] = last[row]
            mask[row, -1, -1] = 1
    noise = torch.randn(latents.shape, generator=generator) * torch.rand(count, 1, 1, 1, 1, generator=generator)
    return torch.cat([mask, image + IMAGE_NOISE * noise * mask.amax(1, keepdim=True)], dim=1)
