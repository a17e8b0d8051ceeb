"""Subject maps as pictures: every decoded picture shows the map of its own latent frame."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.record.preview import HEAT_COLOURS, heat_colours, overlay_heat, pictures_of, rgb_of
from kvshare_core.record.record import RecordedMasks
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline


def recorded(timeline: Timeline, batch: int) -> RecordedMasks:
    """Maps whose value is the number of the latent frame, from 0 to 1, and masks of the second half."""
    frames = timeline.latent_frames
    heat = torch.linspace(0, 1, frames).reshape(1, frames, 1, 1).expand(batch, -1, 2, 3)
    return RecordedMasks(timeline, heat, (heat >= 0.5).float())


@given(st.integers(1, 3), st.integers(2, 5), st.sampled_from([1, 4]), st.integers(1, 2))
def test_every_picture_gets_the_map_of_its_latent_frame(beats: int, window: int, scale: int, batch: int) -> None:
    timeline = plan_timeline(parse_script("fox\n" * beats), window, 1, 8, scale)
    masks = recorded(timeline, batch)
    heat, mask = pictures_of(masks, batch * timeline.frames, 8, 12)
    assert heat.shape == mask.shape == (batch * timeline.frames, 8, 12)
    for video in range(batch):
        for frame in range(timeline.latent_frames):
            for picture in range(*timeline.picture_range(frame, frame + 1)):
                place = video * timeline.frames + picture
                assert float(heat[place].mean()) == pytest.approx(float(masks.heat[video, frame, 0, 0]), abs=1e-6)
                assert torch.equal(mask[place], masks.mask[video, frame, 0, 0].expand(8, 12))


def test_pictures_of_another_run_are_refused() -> None:
    timeline = plan_timeline(parse_script("fox"), 3, 1, 8, 4)
    with pytest.raises(ValueError, match=r"^images: 8 images, but the run made 1 video"):
        pictures_of(recorded(timeline, 1), 8, 4, 4)


@given(st.floats(0, 1))
def test_heat_colours_are_colours_and_hit_the_table(value: float) -> None:
    colour = heat_colours(torch.tensor([value]))
    assert colour.shape == (1, 3)
    assert bool(((colour >= 0) & (colour <= 1)).all())
    for place, expected in enumerate(HEAT_COLOURS):
        found = heat_colours(torch.tensor(place / (len(HEAT_COLOURS) - 1)))
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


def test_cold_places_and_no_opacity_leave_the_picture_as_it_was() -> None:
    images = torch.rand(2, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    heat = torch.zeros(2, 3, 4)
    assert torch.equal(overlay_heat(images, heat, 1.0), images)
    assert torch.equal(overlay_heat(images, heat + 1, 0.0), images)
    torch.testing.assert_close(overlay_heat(images, heat + 1, 1.0), heat_colours(heat + 1))


def test_a_loop_that_another_decoder_decoded_is_told_of_ours() -> None:
    timeline = plan_timeline(parse_script("loop: yes\nfox\nfox"), 3, 1, 8, 4)
    once = timeline.frames - 3
    with pytest.raises(ValueError, match=r"Decode a loop with Long Video Decode Loop\.$"):
        pictures_of(recorded(timeline, 2), 2 * once, 4, 4)
    with pytest.raises(ValueError, match=r"Connect the decoded frames of the same run\.$"):
        pictures_of(recorded(timeline, 2), 2 * once + 1, 4, 4)


def test_pictures_have_three_channels() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(rgb_of(images), images[..., :3])
    assert torch.equal(rgb_of(images[..., :1]), images[..., :1].repeat(1, 1, 1, 3))
    for wrong in (images[..., :2], images[0], images.repeat(1, 1, 1, 2)):
        with pytest.raises(ValueError, match=r"^images: they have the shape"):
            rgb_of(wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_run_that_overflowed_is_shown_without_heat(value: float) -> None:
    timeline = plan_timeline(parse_script("fox"), 3, 1, 8, 4)
    masks = recorded(timeline, 1)
    broken = RecordedMasks(timeline, torch.full_like(masks.heat, value), masks.mask)
    heat, _ = pictures_of(broken, timeline.frames, 4, 4)
    images = torch.rand(timeline.frames, 4, 4, 3)
    assert overlay_heat(images, heat, 0.6).isfinite().all()
