"""The benchmark of subject masks, on rendered scenes in place of a model and on one real clip."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import masks
from bench.image_films import make_film
from bench.masks import CLIPS, Found, beginning_of, clips, judge, overlap, rank, rows_of
from bench.pipeline import Pointing, load_pipeline
from kvshare_core.embedded.vocabulary import SHAPES
from tests.support.measured_beats import beat, render_beat

LATENTS = ((0, 1), (1, 5), (5, 9), (9, 13), (13, 17))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=12))
def test_rank_is_the_share_of_pairs_in_the_right_order(tokens: list[tuple[int, bool]]) -> None:
    score = torch.tensor([float(value) for value, _ in tokens])
    true = torch.tensor([inside for _, inside in tokens])
    pairs = [(one, other) for one, inside in tokens for other, within in tokens if inside and not within]
    if pairs:
        right = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one, other in pairs)
        assert rank(score, true) == pytest.approx(right / len(pairs))


def test_clips_have_every_shape_as_often_and_only_seeds_of_their_own() -> None:
    found = clips(CLIPS)
    assert Counter(board.shape for board in found) == dict.fromkeys(SHAPES, CLIPS // len(SHAPES))
    assert len({board.seed for board in found}) == CLIPS
    assert all(masks.FIRST_SEED <= board.seed < 2000 for board in found)


def pointing(frames: torch.Tensor, true: torch.Tensor) -> Pointing:
    """A clip in which hiding the words shows the subject and the maps of the words everything but it."""
    scores: Mapping[int, torch.Tensor] = {0: -true.float(), 1: torch.zeros(len(true))}
    looks = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[true.long()].view(1, 1, -1, 2)
    return Pointing(frames, LATENTS, {3: scores}, {3: true.float()}, {3: {0: looks, 1: looks}})


def truth_of(frames: torch.Tensor) -> torch.Tensor:
    found = masks.detect(frames).masks
    return torch.cat([masks.in_tokens(found[first:last]).flatten() for first, last in LATENTS])


def test_maps_on_the_subject_rank_above_maps_elsewhere() -> None:
    frames = render_beat(beat(), 17)
    true = truth_of(frames)
    assert 0 < true.sum() < len(true)
    found = judge(pointing(frames, true))
    assert found == {
        (3, "effect"): Found(1.0, 1.0),
        (3, "all blocks"): Found(0.0, 0.0),
        (3, "block 0"): Found(0.0, 0.0),
        (3, "block 1"): Found(0.5, 0.0),
    }
    rows = rows_of("cross-attention", [found, {}, found])
    assert [(row["source"], row["rank"], row["clips"]) for row in rows] == [
        ("effect", 1.0, 2),
        ("all blocks", 0.0, 2),
        ("block 0", 0.0, 2),
        ("block 1", 0.5, 2),
    ]
    assert rows[0]["mask_iou_ci"] == [1.0, 1.0]
    assert rows_of("cross-attention", [{}]) == []


def test_a_first_look_finds_the_subject_of_a_clip_by_that_of_another() -> None:
    frames, others = render_beat(beat(), 17), render_beat(beat(direction="left"), 17)
    here, there = (pointing(clip, truth_of(clip)) for clip in (frames, others))
    assert judge(here, there)[3, "first look"] == Found(1.0, 1.0)


def test_a_mask_of_nothing_overlaps_nothing() -> None:
    true = torch.tensor([True, False, False])
    assert overlap(torch.zeros(3), true) == 0.0


def test_maps_of_a_clip_are_collected_while_the_embedded_model_samples_it() -> None:
    board = clips(3)[0]
    pipeline = load_pipeline()
    found = pipeline.pointing(board.prompts[0], board.shape, board.seed, (1, 3), steps=5)
    assert list(found.effects) == [1, 3] and set(found.scores[1]) == set(range(8))
    tokens = len(found.latents) * 36
    assert all(score.shape == (tokens,) for score in (*found.effects.values(), *found.scores[3].values()))
    assert all(value.shape[:3:2] == (1, tokens) for value in found.values[3].values()) and len(found.values[3]) == 8
    plain = pipeline.single_clips([board.prompts[0]], board.seed, steps=5)[0]
    assert torch.equal(found.frames, plain)


def test_given_and_made_frames_are_judged_apart() -> None:
    frames = render_beat(beat(), 17)
    true = truth_of(frames)
    clip = replace(pointing(frames, true), given=2)
    upside_down = true.clone().view(len(LATENTS), -1)
    upside_down[:2] = ~upside_down[:2]
    clip = replace(clip, effects={3: upside_down.flatten().float()})
    found = {part: judge(clip, None, part)[3, "effect"] for part in ("all", "made", "given")}
    assert found["made"] == Found(1.0, 1.0) and found["given"] == Found(0.0, 0.0)
    assert 0 < found["all"].rank < 1
    (row,) = [row for row in rows_of("cross-attention", [judge(clip, None, "made")], "held", "made")][:1]
    assert (row["begin"], row["frames"], row["rank"]) == ("held", "made", 1.0)


def test_a_clip_that_begins_with_held_frames_keeps_them() -> None:
    board = clips(3)[0]
    pipeline = load_pipeline()
    begin = beginning_of(pipeline, board, "held")
    assert begin is not None and begin.held is not None and begin.frames == begin.held.shape[2] == masks.HELD_FRAMES
    found = pipeline.pointing(board.prompts[0], board.shape, board.seed, (1,), steps=4, begin=begin)
    given = found.latents[masks.HELD_FRAMES - 1][1]
    shown = pipeline.decode(begin.held)[0]
    # Later frames reach a little into the decoder's view of the last of them.
    assert (found.frames[: given - 4] - shown[: given - 4]).abs().mean() < 0.03
    assert found.given == masks.HELD_FRAMES and len(found.effects[1]) == 36 * len(found.latents)
    plain = pipeline.pointing(board.prompts[0], board.shape, board.seed, (1,), steps=4)
    assert (found.frames[given:] - plain.frames[given:]).abs().mean() > 0.01


def test_a_clip_that_begins_with_an_image_shows_it() -> None:
    board = clips(3)[0]
    pipeline = load_pipeline("image-to-video")
    image = make_film(board.seed).image[0].movedim(-1, 0)
    begin = beginning_of(pipeline, board, "image")
    found = pipeline.pointing(board.prompts[0], board.shape, board.seed, (1,), steps=6, begin=begin)
    assert found.given == 1
    assert (found.frames[0] - image).abs().mean() < 0.06
    assert beginning_of(pipeline, board, "noise") is None
