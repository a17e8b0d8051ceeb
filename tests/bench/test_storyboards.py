"""Storyboards, with rendered scenes in place of a model."""

from itertools import pairwise

import torch

from bench.measures import SAID
from bench.pipeline import Clip
from bench.storyboards import BEATS, JOINS, SCENES, Storyboard, make_storyboard, measure_clip
from kvshare_core.embedded.scenes import Scenes, render
from kvshare_core.embedded.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, unknown_words
from kvshare_core.prompt_words import split_words
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline

STORYBOARDS = [make_storyboard(seed) for seed in range(200)]


def render_storyboard(storyboard: Storyboard, overlap: int, colours: tuple[str, ...]) -> Clip:
    """A video that shows what the storyboard says, in one colour per beat."""
    lines = parse_script("\n".join(storyboard.prompts))
    timeline = plan_timeline(lines, window=5, overlap=overlap, fps=16, temporal_compression=4)
    empty = Clip(torch.zeros(timeline.frames, 3, 96, 96), timeline, 1.0, None)
    for (start, stop), words, colour in zip(empty.segment_frames, storyboard.said, colours, strict=True):
        scenes = Scenes(
            size=torch.tensor([0]),
            colour=torch.tensor([COLOURS.index(colour)]),
            pattern=torch.tensor([0]),
            shape=torch.tensor([SHAPES.index(words["shape"])]),
            direction=torch.tensor([DIRECTIONS.index(words["direction"])]),
            background=torch.tensor([BACKGROUNDS.index(words["background"])]),
            radius=torch.tensor([0.18]),
            travel=torch.tensor([0.4]),
            centre=torch.tensor([[0.5, 0.5]]),
        )
        empty.frames[start:stop] = render(scenes, frames=stop - start)[0][0]
    return empty


def test_storyboards_leave_colour_and_size_open() -> None:
    storyboard = STORYBOARDS[0]
    assert len(storyboard.prompts) == BEATS
    for board in STORYBOARDS:
        for prompt, words in zip(board.prompts, board.said, strict=True):
            assert prompt == f"a {words['shape']} moving {words['direction']} over {words['background']}"
            assert unknown_words(split_words(prompt)) == []


def test_one_shape_and_a_change_at_every_beat() -> None:
    for board in STORYBOARDS:
        assert {words["shape"] for words in board.said} == {board.shape}
        for before, after in pairwise(board.said):
            assert any(before[name] != after[name] for name in ("direction", "background"))


def test_half_of_the_transitions_keep_the_background() -> None:
    kept = [
        before["background"] == after["background"] for board in STORYBOARDS for before, after in pairwise(board.said)
    ]
    assert sum(kept) == len(kept) / 2


def test_storyboards_are_reproducible_and_varied() -> None:
    assert make_storyboard(7) == STORYBOARDS[7]
    assert len({board.prompts for board in STORYBOARDS}) > 150


def test_a_video_that_follows_its_captions_has_the_full_score() -> None:
    board = STORYBOARDS[3]
    measured = measure_clip(board, render_storyboard(board, 2, ("red",) * BEATS))
    assert [seen.colour for seen in measured.detections] == ["red"] * BEATS
    for words, seen in zip(board.said, measured.detections, strict=True):
        assert {name: getattr(seen, name) for name in SAID} == words


def test_a_film_cuts_where_the_scene_changes() -> None:
    for board in STORYBOARDS[:20]:
        assert board.lines("overlap") == board.lines("cut") == board.prompts
        timeline = plan_timeline(parse_script("\n".join(board.lines(SCENES))), 5, JOINS[SCENES], 16, 4)
        assert [beat.prompt for beat in timeline.beats] == list(board.prompts)
        cuts = [before.stop == after.start for before, after in pairwise(timeline.segments)]
        assert cuts == list(board.new_scenes)
