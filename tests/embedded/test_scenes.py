"""Rendered scenes, the ground truth of quality measurements."""

import random
from dataclasses import replace
from itertools import combinations, product

import pytest
import torch

from kvshare_core.embedded.scenes import (
    ATTRIBUTES,
    BACKGROUND_SHADE,
    BACKGROUND_VALUES,
    COLOUR_VALUES,
    DIRECTION_VECTORS,
    FRAME_SIDE,
    FRAMES,
    MARK_VALUE,
    PAIR_GAP,
    PairScenes,
    Scenes,
    caption,
    centres,
    is_held_out,
    pair_caption,
    render,
    render_pairs,
    sample_pairs,
    sample_scenes,
)
from kvshare_core.embedded.training.denoiser import training_ids
from kvshare_core.embedded.vocabulary import (
    BACKGROUNDS,
    CHUNK_TOKENS,
    COLOURS,
    DIRECTIONS,
    PAIR_CHUNK_TOKENS,
    PAIR_WORDS,
    PATTERNS,
    SHAPES,
    SIZES,
    unknown_words,
)
from kvshare_core.prompt_words import split_words

WORDS_OF_ONE = {
    "size": "large",
    "colour": "red",
    "pattern": "striped",
    "shape": "circle",
    "direction": "right",
    "background": "grass",
}


def scenes_of_all_shapes(radius: float = 0.2, travel: float = 0.4) -> Scenes:
    """One red scene per shape that moves right through the centre."""
    count = len(SHAPES)
    zeros = torch.zeros(count, dtype=torch.long)
    return Scenes(
        size=zeros,
        colour=zeros,
        pattern=zeros,
        shape=torch.arange(count),
        direction=zeros,
        background=zeros,
        radius=torch.full((count,), radius),
        travel=torch.full((count,), travel),
        centre=torch.full((count, 2), 0.5),
    )


@pytest.fixture(scope="module", params=[False, True], ids=["training", "held out"])
def drawn(request: pytest.FixtureRequest) -> Scenes:
    return sample_scenes(256, torch.Generator().manual_seed(1), held_out=request.param)


def test_shapes_and_ranges() -> None:
    video, mask = render(sample_scenes(3, torch.Generator().manual_seed(0)))
    assert video.shape == (3, FRAMES, 3, FRAME_SIDE, FRAME_SIDE)
    assert mask.shape == (3, FRAMES, FRAME_SIDE, FRAME_SIDE)
    for values in (video, mask):
        assert 0 <= values.min() and values.max() <= 1.1


def test_mask_area_is_the_shapes() -> None:
    radius = 0.2 * FRAME_SIDE
    _, mask = render(scenes_of_all_shapes())
    areas = mask.sum((2, 3))
    half_base = 0.447 / 0.894 * 2.0 * radius
    expected = torch.tensor([torch.pi * radius**2, (1.8 * radius) ** 2, 2.0 * radius * half_base])
    torch.testing.assert_close(areas, expected[:, None].expand_as(areas), rtol=0.03, atol=0)


def test_mask_follows_the_centre() -> None:
    scenes = scenes_of_all_shapes()
    _, mask = render(scenes)
    axis = (torch.arange(FRAME_SIDE) + 0.5) / FRAME_SIDE
    found_x = (mask.sum(2) * axis).sum(-1) / mask.sum((2, 3))
    torch.testing.assert_close(found_x, centres(scenes)[..., 0], atol=0.005, rtol=0)
    moved = centres(scenes)[:, -1] - centres(scenes)[:, 0]
    torch.testing.assert_close(moved, DIRECTION_VECTORS[scenes.direction] * scenes.travel[:, None])


def test_pixels_have_the_true_colours() -> None:
    scenes = sample_scenes(8, torch.Generator().manual_seed(2))
    video, mask = render(scenes)
    for index in range(len(scenes)):
        inside = video[index].movedim(1, -1)[mask[index] == 1]
        torch.testing.assert_close(inside, COLOUR_VALUES[scenes.colour[index]].expand_as(inside))
        background = BACKGROUND_VALUES[scenes.background[index]]
        outside = video[index].movedim(1, -1)[mask[index] == 0] / background
        assert BACKGROUND_SHADE[0] - 1e-3 <= outside.min() and outside.max() <= BACKGROUND_SHADE[1] + 1e-3


def test_marks_cover_their_part_of_each_shape() -> None:
    scenes = scenes_of_all_shapes()
    _, masks = render(scenes)
    for pattern, parts in enumerate([(0, 0, 0), (0.38, 0.33, 0.34), (0.20, 0.20, 0.33), (0.5, 0.5, 0.56)]):
        video, same = render(replace(scenes, pattern=torch.full((len(SHAPES),), pattern)))
        assert torch.equal(same, masks)
        marked = (video - MARK_VALUE.reshape(3, 1, 1)).norm(dim=2) < 0.1
        share = marked.sum((1, 2, 3)) / (masks > 0.5).sum((1, 2, 3))
        torch.testing.assert_close(share, torch.tensor(parts, dtype=torch.float32), atol=0.07, rtol=0)
        assert not (marked & (masks < 0.5)).any()


def test_marks_have_the_colour_that_is_farthest_from_all_others() -> None:
    others = torch.cat(
        [COLOUR_VALUES, BACKGROUND_VALUES * BACKGROUND_SHADE[0], BACKGROUND_VALUES * BACKGROUND_SHADE[1]]
    )
    assert (others - MARK_VALUE).norm(dim=1).min() > 0.5


def test_patterns_change_nothing_else_of_a_seed() -> None:
    plain, patterned = (
        sample_scenes(64, torch.Generator().manual_seed(6), patterned=wanted) for wanted in (False, True)
    )
    assert not bool(plain.pattern.any()) and set(patterned.pattern.tolist()) == set(range(len(PATTERNS)))
    for name, values in vars(plain).items():
        assert name == "pattern" or torch.equal(values, getattr(patterned, name))
    pairs = sample_pairs(64, torch.Generator().manual_seed(6), patterned=True)
    assert not torch.equal(pairs.first.pattern, pairs.second.pattern)
    assert torch.equal(pairs.first.centre, sample_pairs(64, torch.Generator().manual_seed(6)).first.centre)


def test_subject_stays_inside_the_frame(drawn: Scenes) -> None:
    centre = centres(drawn)
    radius = drawn.radius[:, None, None]
    assert (centre - radius).min() >= -1e-5
    assert (centre + radius).max() <= 1 + 1e-5
    _, mask = render(drawn, side=32, frames=3)
    assert mask.sum((2, 3)).min() > 0


def test_training_never_shows_what_is_held_out(drawn: Scenes, request: pytest.FixtureRequest) -> None:
    held_out = is_held_out(drawn.colour, drawn.shape, drawn.direction, drawn.background)
    assert bool(held_out.all()) or not bool(held_out.any())


def test_split_covers_every_pair_of_values_on_both_sides() -> None:
    sizes = tuple(len(words) for words in (COLOURS, SHAPES, DIRECTIONS, BACKGROUNDS))
    everything = torch.tensor(list(product(*(range(size) for size in sizes))))
    held_out = is_held_out(*everything.T)
    assert held_out.float().mean() == pytest.approx(1 / 6, abs=0.01)
    training = everything[~held_out]
    for first, second in combinations(range(4), 2):
        pairs = {tuple(pair) for pair in training[:, [first, second]].tolist()}
        assert pairs == set(product(range(sizes[first]), range(sizes[second])))


def test_seed_decides_the_scenes() -> None:
    first, second = (sample_scenes(4, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first.centre, second.centre) and torch.equal(first.colour, second.colour)


def test_canonical_caption() -> None:
    assert caption(WORDS_OF_ONE, set(ATTRIBUTES)) == "a large red striped circle moving right over grass"
    words = WORDS_OF_ONE
    assert caption(words, {"shape"}) == "a circle moving"
    assert caption(words, {"colour"}) == "a red shape moving"


def test_captions_say_what_is_asked_in_known_words() -> None:
    wording = random.Random(0)
    scenes = sample_scenes(64, torch.Generator().manual_seed(4), patterned=True)
    for index in range(len(scenes)):
        words = scenes.attribute_words(index)
        said = {name for name in ATTRIBUTES if wording.random() < 0.5}
        text = caption(words, said, wording)
        assert not unknown_words(split_words(text))
        present = set(split_words(text))
        attribute_words = {*SIZES, *COLOURS, *PATTERNS, *SHAPES, *DIRECTIONS, *BACKGROUNDS}
        assert present & attribute_words == {words[name] for name in said}
        assert len(training_ids((words,), wording, CHUNK_TOKENS)) == CHUNK_TOKENS


def test_single_scenes_of_a_seed_never_change() -> None:
    """What was drawn before scenes with two subjects and patterns existed: the latent space is fitted to it."""
    scenes = sample_scenes(3, torch.Generator().manual_seed(0))
    video, mask = render(scenes)
    assert [caption(scenes.attribute_words(index), {*ATTRIBUTES} - {"pattern"}) for index in range(3)] == [
        "a small blue circle moving down over water",
        "a large yellow square moving down over sand",
        "a large purple circle moving up over grass",
    ]
    assert float(video.double().mean()) == pytest.approx(0.3620662787, abs=1e-8)
    assert float(mask.double().sum()) == pytest.approx(54282.1769, abs=1e-2)


@pytest.fixture(scope="module", params=[False, True], ids=["training", "held out"])
def pairs(request: pytest.FixtureRequest) -> PairScenes:
    return sample_pairs(96, torch.Generator().manual_seed(1), held_out=request.param)


def test_two_subjects_differ_in_shape_and_colour_over_one_background(pairs: PairScenes) -> None:
    first, second = pairs.first, pairs.second
    assert len(pairs) == 96
    assert not bool((first.shape == second.shape).any()) and not bool((first.colour == second.colour).any())
    assert torch.equal(first.background, second.background)
    assert not bool((first.size * second.size).any())
    for scenes in (first, second):
        assert len(scenes.direction.unique()) == len(DIRECTIONS)


def test_pairs_keep_to_their_side_of_the_split(pairs: PairScenes, request: pytest.FixtureRequest) -> None:
    sides = [is_held_out(part.colour, part.shape, part.direction, part.background) for part in vars(pairs).values()]
    everything = torch.cat(sides)
    assert bool(everything.all()) or not bool(everything.any())


def test_two_subjects_stay_whole_and_apart(pairs: PairScenes) -> None:
    video, masks = render_pairs(pairs)
    assert video.shape == (96, FRAMES, 3, FRAME_SIDE, FRAME_SIDE)
    assert masks.shape == (96, 2, FRAMES, FRAME_SIDE, FRAME_SIDE)
    areas = masks.sum((3, 4))
    torch.testing.assert_close(areas, areas[:, :, :1].expand_as(areas), rtol=0.02, atol=0)
    grown = torch.nn.functional.max_pool2d(masks.flatten(0, 2)[:, None], 3, 1, 1)[:, 0].unflatten(0, (96, 2, FRAMES))
    assert FRAME_SIDE * PAIR_GAP > 3 and (grown[:, 0] * grown[:, 1]).max() == 0


def test_each_mask_shows_its_own_subject(pairs: PairScenes) -> None:
    video, masks = render_pairs(pairs)
    for index, scenes in enumerate((pairs.first, pairs.second)):
        whole = masks[:, index, :, None] == 1
        colour = (video * whole).sum((1, 3, 4)) / whole.sum((1, 3, 4))
        torch.testing.assert_close(colour, COLOUR_VALUES[scenes.colour], atol=1e-4, rtol=1e-4)


def test_captions_of_two_subjects() -> None:
    other = {"size": "small", "colour": "blue", "pattern": "plain", "shape": "square", "direction": "left"}
    words = (WORDS_OF_ONE, {**other, "background": "grass"})
    everything = (set(ATTRIBUTES), set(ATTRIBUTES))
    expected = "a large red striped circle moving right and a small blue plain square moving left over grass"
    assert pair_caption(words, everything) == expected
    assert pair_caption(words, ({"shape"}, {"colour", "shape"})) == "a circle moving and a blue square moving"
    wording = random.Random(0)
    for _ in range(200):
        text = pair_caption(words, everything, wording)
        assert not unknown_words(split_words(text), PAIR_WORDS)
        assert len(training_ids(words, wording, PAIR_CHUNK_TOKENS)) == PAIR_CHUNK_TOKENS
