"""The figures of the pages and of the registry, and the moving picture of the README."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from bench import concept_pictures, moving_picture, registry_pictures
from bench.demo import Video
from devtools.environment import ROOT
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline

PICTURES = ROOT / "docs" / "pictures"
DRAWN = {**concept_pictures.FIGURES, "icon": registry_pictures.icon, "banner": registry_pictures.banner}


def video(prompts: str, value: float | None = 0.5) -> Video:
    """A video of that plan, of one grey or of noise."""
    timeline = plan_timeline(parse_script(prompts), 5, 2, 8.0, 4)
    frames = (
        torch.rand(timeline.frames, 3, 24, 24) if value is None else torch.full((timeline.frames, 3, 24, 24), value)
    )
    return Video(frames, None, timeline)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_drawn_as_large_as_the_committed_one(name: str) -> None:
    with Image.open(PICTURES / f"{name}.png") as committed:
        drawn = DRAWN[name]()
        assert drawn.size == committed.size
        assert len(drawn.convert("RGB").quantize(8).getcolors() or ()) > 2


def test_the_moving_picture_has_every_frame_and_rests_on_the_last(tmp_path: Path) -> None:
    videos = [video("a fox\na dog", value) for value in (0.2, 0.8)]
    shown = moving_picture.pages(videos)
    assert len(shown) == videos[0].timeline.frames
    moving_picture.write_gif(shown, 8.0, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as made:
        assert made.size == shown[0].size and made.info["loop"] == 0
        left, right = (made.convert("RGB").getpixel((x, 100)) for x in (100, 450))
    assert [round(sum(colour) / 3 / 255, 1) for colour in (left, right)] == [0.2, 0.8]


def test_a_moving_picture_that_is_too_large_for_a_readme_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving_picture, "MAX_BYTES", 10_000)
    shown = moving_picture.pages([video("a fox", None), video("a fox", None)])
    with pytest.raises(ValueError, match="a README's picture may have"):
        moving_picture.write_gif(shown, 8.0, tmp_path / "a.gif")
