"""Films from one image: what is measured on them, and that every method makes one."""

from dataclasses import replace

import pytest
import torch

from bench.image_films import LAST_FRAME, METHODS, WINDOWS, look_at, make_clips, make_film, rows_of
from bench.pipeline import load_pipeline
from kvshare_core.embedded.detector import detect
from kvshare_core.embedded.scenes import render
from kvshare_core.embedded.vocabulary import COLOURS


def test_the_image_shows_what_the_first_beat_says() -> None:
    for seed in range(3000, 3006):
        film = make_film(seed)
        seen = detect(render(film.scene)[0][0])
        assert {name: getattr(seen, name) for name in film.board.said[0]} == film.board.said[0]
        assert film.image.shape == (1, 96, 96, 3)


def test_rendered_beats_count_as_kept_and_a_jump_back_as_a_reset() -> None:
    film = make_film(3000)
    clip = render(film.scene)[0][0]
    other = render(replace(film.scene, colour=(film.scene.colour + 1) % len(COLOURS)))[0][0]
    same = look_at(film, [clip, clip.flip(0), clip])
    assert same.kept == [1.0] and same.drift == [pytest.approx(0, abs=0.01)]
    # The second goes back to the image's place by itself; the third begins there.
    assert same.reset == [0.0, 0.0]
    assert look_at(film, [clip, clip, clip]).reset == [1.0, 1.0]
    assert look_at(film, [clip, other, clip]).colour == [0.0]
    bigger = render(replace(film.scene, radius=film.scene.radius * 1.3))[0][0]
    changed = look_at(film, [clip, clip, bigger])
    assert (changed.colour, changed.size) == ([1.0], [0.0]) and changed.drift[0] > 0.2
    (row,) = rows_of({"way": [same, changed]}, steps=2, guidance=1.0)
    assert row["kept"] == 0.5 and row["films"] == 2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_three_beats(method: str) -> None:
    pipeline, film = load_pipeline("image-to-video"), make_film(3000)
    with torch.inference_mode():
        clips = make_clips(pipeline, method, film, steps=2, guidance=1.0)
    if clips is None:
        assert method == WINDOWS
        pytest.skip("this host's context windows take no prompt of their own")
    assert len(clips) == 3 and all(clip.shape[1:] == (3, 96, 96) and clip.isfinite().all() for clip in clips)
    assert sum(map(len, clips)) == (17 + 16 + 16 if method == LAST_FRAME else 41)
