"""The detector on rendered scenes whose attributes are known: benchmarks measure with it."""

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from kvshare_core.embedded.detector import Detection, detect, detect_pair
from kvshare_core.embedded.scenes import (
    ATTRIBUTES,
    BACKGROUND_VALUES,
    COLOUR_VALUES,
    FRAME_SIDE,
    MARK_VALUE,
    PairScenes,
    Scenes,
    centres,
    render,
    render_pairs,
    sample_pairs,
    sample_scenes,
)
from kvshare_core.embedded.vocabulary import BACKGROUNDS, COLOURS, PATTERNS, SHAPES
from tests.support.latent_bases import latent_basis

SCENES = 300
PAIRS = 32


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return sample_scenes(SCENES, torch.Generator().manual_seed(21), patterned=True)


@pytest.fixture(scope="module")
def rendered(scenes: Scenes) -> tuple[torch.Tensor, torch.Tensor]:
    return render(scenes)


def one_scene(**attributes: float) -> Scenes:
    """A large red circle that moves right over night, with some attributes replaced (indices, lengths)."""
    standard = dict(size=1, colour=0, pattern=0, shape=0, direction=0, background=0, radius=0.22, travel=0.4)
    values = {name: torch.tensor([value]) for name, value in {**standard, **attributes}.items()}
    return Scenes(centre=torch.tensor([[0.5, 0.5]]), **values)


def blurred(video: torch.Tensor) -> torch.Tensor:
    """`video` after a binomial blur over 5 x 5 pixels."""
    row = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    padded = F.pad(video.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    return F.conv2d(padded, kernel, groups=3).unflatten(0, video.shape[:2])


def accuracy(detections: list[Detection], scenes: Scenes) -> dict[str, float]:
    truth = [scenes.attribute_words(index) for index in range(len(detections))]
    return {
        name: sum(getattr(seen, name) == words[name] for seen, words in zip(detections, truth, strict=True))
        / len(truth)
        for name in ATTRIBUTES
    }


def radius_errors(detections: list[Detection], scenes: Scenes) -> torch.Tensor:
    radii = torch.tensor([seen.radius or math.nan for seen in detections])
    return (radii / scenes.radius[: len(detections)] - 1).abs()


def test_rendered_scenes_are_read_back(scenes: Scenes, rendered: tuple[torch.Tensor, torch.Tensor]) -> None:
    video, masks = rendered
    detections = [detect(clip) for clip in video]
    assert min(accuracy(detections, scenes).values()) >= 0.995
    assert radius_errors(detections, scenes).max() < 0.06
    seen_centres = torch.stack([seen.centres for seen in detections])
    assert (seen_centres - centres(scenes)).norm(dim=-1).max() < 0.01
    seen_masks, true_masks = torch.stack([seen.masks for seen in detections]), masks > 0.5
    overlap = (seen_masks & true_masks).sum((2, 3)) / (seen_masks | true_masks).sum((2, 3))
    assert overlap.min() > 0.90 and overlap[scenes.pattern == 0].min() > 0.95


def test_rows_of_the_linear_latent_round_trip_are_read_back(
    scenes: Scenes, rendered: tuple[torch.Tensor, torch.Tensor]
) -> None:
    basis = latent_basis(192)
    video = rendered[0][: SCENES // 2]
    decoded = basis.decode(basis.encode(video)).clamp(0, 1)
    error = (decoded - video).square().mean()
    assert -10 * torch.log10(error) < 32  # The blocky one: a faithful decoder would make this test say nothing.
    detections = [detect(clip) for clip in decoded]
    assert min(accuracy(detections, scenes).values()) >= 0.97
    assert radius_errors(detections, scenes).quantile(0.97) < 0.06


@pytest.mark.parametrize("spoil", ["noise", "blur"])
def test_spoiled_frames_are_read_back(spoil: str, scenes: Scenes, rendered: tuple[torch.Tensor, torch.Tensor]) -> None:
    video = rendered[0][:100]
    noise = 0.03 * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    video = (video + noise).clamp(0, 1) if spoil == "noise" else blurred(video)
    detections = [detect(clip) for clip in video]
    assert min(accuracy(detections, scenes).values()) >= 0.99
    assert radius_errors(detections, scenes).max() < 0.06


@pytest.mark.parametrize("background", range(len(BACKGROUNDS)))
@pytest.mark.parametrize("colour", range(len(COLOURS)))
def test_every_colour_is_distinguished_from_every_background_in_wrong_light(colour: int, background: int) -> None:
    video, _ = render(one_scene(colour=colour, background=background))
    for light in (0.85, 1.0, 1.15):
        seen = detect((video[0] * light).clamp(0, 1))
        assert (seen.colour, seen.background) == (COLOURS[colour], BACKGROUNDS[background])


def test_an_empty_scene_has_no_subject_but_a_background() -> None:
    for index, word in enumerate(BACKGROUNDS):
        video, _ = render(one_scene(background=index))
        empty = video[0, :, :, :1, :1] * torch.linspace(0.98, 1.3, FRAME_SIDE)[:, None].expand(17, 3, -1, FRAME_SIDE)
        noise = 0.03 * torch.randn(empty.shape, generator=torch.Generator().manual_seed(index))
        seen = detect((empty + noise).clamp(0, 1))
        assert not seen.found
        assert (seen.colour, seen.pattern, seen.shape, seen.direction, seen.radius, seen.size) == (None,) * 6
        assert seen.background == word
        assert not seen.masks.any()
        assert seen.centres.isnan().all()


def test_a_faint_or_tiny_subject_is_none() -> None:
    video, _ = render(one_scene())
    background = video * 0 + video[:, :, :, :1, :1]
    assert not detect((background + 0.1 * (video - background))[0]).found
    assert not detect(render(one_scene(radius=0.04))[0][0]).found


def test_a_subject_that_stands_still_has_no_direction() -> None:
    seen = detect(render(one_scene(travel=0.0))[0][0])
    assert seen.found
    assert seen.direction is None
    assert math.hypot(*seen.displacement) < 0.01


def test_displacement_is_the_way_between_the_outer_thirds() -> None:
    seen = detect(render(one_scene(travel=0.4, direction=3))[0][0])
    assert seen.direction == "down"
    assert seen.displacement == pytest.approx((0.0, 0.4 * 11.5 / 16), abs=0.01)


def test_frames_without_the_subject_are_left_out() -> None:
    video, _ = render(one_scene())
    missing = [0, 5, 6, 16]
    clip = video[0].clone()
    clip[missing] = clip[missing, :, :1, :1]
    seen = detect(clip)
    assert (seen.colour, seen.shape, seen.direction) == ("red", "circle", "right")
    assert seen.centres.isnan().all(1).nonzero()[:, 0].tolist() == missing
    clip[:9] = clip[:9, :, :1, :1]
    assert not detect(clip).found


def test_a_ghost_changes_nothing() -> None:
    subject, _ = render(one_scene())
    other, other_masks = render(
        dataclasses.replace(one_scene(colour=5, direction=1, radius=0.14), centre=torch.tensor([[0.5, 0.16]]))
    )
    seen = detect((subject + 0.3 * other_masks[:, :, None] * (other - subject))[0])
    assert (seen.colour, seen.shape, seen.direction) == ("red", "circle", "right")
    assert seen.radius == pytest.approx(0.22, rel=0.06)


def test_colours_outside_the_palettes_have_no_name() -> None:
    video, masks = render(one_scene())
    video = torch.where(masks[:, :, None] > 0.5, torch.tensor([0.45, 0.45, 0.45]).reshape(3, 1, 1), video)
    assert detect(video[0]).found
    bright = torch.where(masks[:, :, None] > 0.5, video, torch.tensor([0.9, 0.3, 0.7]).reshape(3, 1, 1))
    assert detect(bright[0]).background is None


def test_segments_of_other_lengths_are_read() -> None:
    for frames in (12, 20):
        seen = detect(render(one_scene(shape=2), frames=frames)[0][0])
        assert (seen.shape, seen.direction, len(seen.masks)) == ("triangle", "right", frames)


@pytest.mark.parametrize("shape", [(17, 96, 96), (17, 1, 96, 96), (17, 3, 96, 64), (0, 3, 96, 96)])
def test_other_tensors_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"detect takes frames \[f, 3, h, h\]"):
        detect(torch.zeros(shape))


class Operations(TorchDispatchMode):
    """Counts the operations that torch runs."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_three_times_as_many_frames_take_no_more_operations() -> None:
    """All frames are handled at once; what little is added depends on rounding."""
    clip = render(one_scene())[0][0]
    counts: list[int] = []
    for frames in (clip, clip.repeat_interleave(3, 0)):
        with Operations() as operations:
            detect(frames)
        counts.append(operations.count)
    assert counts[0] > 0
    assert counts[1] < 1.1 * counts[0]


def test_palettes_are_what_the_words_say() -> None:
    assert len(COLOUR_VALUES) == len(COLOURS)
    assert len(BACKGROUND_VALUES) == len(BACKGROUNDS)


# Two subjects.


@pytest.fixture(scope="module")
def pairs() -> PairScenes:
    return sample_pairs(PAIRS, torch.Generator().manual_seed(22), patterned=True)


@pytest.fixture(scope="module")
def rendered_pairs(pairs: PairScenes) -> tuple[torch.Tensor, torch.Tensor]:
    return render_pairs(pairs)


def in_true_order(seen: tuple[Detection, Detection], pairs: PairScenes, index: int) -> list[Detection]:
    """What was seen of the first and of the second subject of a scene, told apart by their true shapes."""
    first, second = (words["shape"] for words in pairs.attribute_words(index))
    return sorted(seen, key=lambda subject: (subject.shape == second) - (subject.shape == first))


@pytest.mark.parametrize("spoil", ["nothing", "blur", "linear latent round trip"])
def test_both_subjects_of_rendered_pairs_are_read_back(
    spoil: str, pairs: PairScenes, rendered_pairs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    video, masks = rendered_pairs
    if spoil == "blur":
        video = blurred(video)
    elif spoil == "linear latent round trip":
        basis = latent_basis(192)
        video = basis.decode(basis.encode(video)).clamp(0, 1)
    seen = [in_true_order(detect_pair(clip), pairs, index) for index, clip in enumerate(video)]
    for place, scenes in enumerate((pairs.first, pairs.second)):
        subjects = [pair[place] for pair in seen]
        assert min(accuracy(subjects, scenes).values()) >= 0.98
        assert radius_errors(subjects, scenes).max() < 0.08
        seen_centres = torch.stack([subject.centres for subject in subjects])
        assert (seen_centres - centres(scenes)).norm(dim=-1).max() < 0.03
        seen_masks, true_masks = torch.stack([subject.masks for subject in subjects]), masks[:, place] > 0.5
        overlap = (seen_masks & true_masks).sum((1, 2, 3)) / (seen_masks | true_masks).sum((1, 2, 3))
        assert overlap.min() > (0.9 if spoil == "nothing" else 0.7)
        moved = torch.tensor([subject.displacement for subject in subjects])
        way = centres(scenes)[:, -6:].mean(1) - centres(scenes)[:, :6].mean(1)
        assert (moved - way).abs().max() < 0.02


def test_the_larger_of_two_subjects_comes_first(rendered_pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    for clip in rendered_pairs[0][:8]:
        large, small = detect_pair(clip)
        assert large.masks.sum() > small.masks.sum() > 0


def test_each_subject_is_followed_where_the_other_is_hidden(
    pairs: PairScenes, rendered_pairs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    alone, _ = render(pairs.second)
    video = rendered_pairs[0].clone()
    video[:, 6:9] = alone[:, 6:9]
    for index in range(4):
        first, second = in_true_order(detect_pair(video[index]), pairs, index)
        assert first.centres[:, 0].isnan().nonzero()[:, 0].tolist() == [6, 7, 8]
        assert not second.centres.isnan().any()
        truth = (pairs.first.attribute_words(index), pairs.second.attribute_words(index))
        assert [(seen.colour, seen.direction) for seen in (first, second)] == [
            (words["colour"], words["direction"]) for words in truth
        ]


def test_of_one_subject_no_second_is_detected() -> None:
    scenes = sample_scenes(12, torch.Generator().manual_seed(23))
    for index, clip in enumerate(render(scenes)[0]):
        first, second = detect_pair(clip)
        words = scenes.attribute_words(index)
        assert first.found and not second.found
        assert (first.colour, first.shape, second.background) == (words["colour"], words["shape"], words["background"])


def test_pairs_are_detected_in_whole_clips_only() -> None:
    with pytest.raises(ValueError, match=r"\[f, 3, h, h\]"):
        detect_pair(torch.zeros(3, 8, 8))


# Patterns.


@pytest.mark.parametrize("colour", range(len(COLOURS)))
@pytest.mark.parametrize("pattern", range(len(PATTERNS)))
def test_every_pattern_is_read_on_every_colour_and_changes_nothing_else(pattern: int, colour: int) -> None:
    for shape, radius in itertools.product(range(len(SHAPES)), (0.13, 0.24)):
        scene = one_scene(
            pattern=pattern, colour=colour, shape=shape, radius=radius, background=colour % 4, size=radius > 0.2
        )
        (video,), (mask,) = render(scene)
        seen = detect(blurred(video[None])[0])
        assert (seen.pattern, seen.colour, seen.shape) == (PATTERNS[pattern], COLOURS[colour], SHAPES[shape])
        assert seen.radius == pytest.approx(radius, rel=0.04)
        assert (seen.masks & (mask > 0.5)).sum() > 0.95 * (seen.masks | (mask > 0.5)).sum()


def test_a_mark_that_is_none_of_the_patterns_has_no_name() -> None:
    (video,), (mask,) = render(one_scene(radius=0.24, travel=0.0))
    rightmost = torch.arange(FRAME_SIDE) > FRAME_SIDE * 0.62
    clip = torch.where(((mask > 0.9) & rightmost)[:, None], MARK_VALUE.reshape(3, 1, 1), video)
    seen = detect(clip)
    assert (seen.pattern, seen.colour, seen.shape) == (None, "red", "circle")
