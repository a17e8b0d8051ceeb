"""Known frames that take the place of an image in the conditioning of a segment."""

import uuid
from typing import Any

import pytest
import torch
from comfy.conds import CONDNoiseShape
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.families.hunyuan import HunyuanFamily
from kvshare_core.families.model_inputs import ImageChannels
from kvshare_core.families.wan import WanFamily
from kvshare_core.host.conditioning.carried_image import ImagesGiven, KnownFrames, given_frames, with_images
from kvshare_core.timeline.timeline import Segment
from tests.support.family_cases import model_of
from tests.support.present import present
from tests.support.windows import share
from tests.tiny.models import Sampling

CHANNELS, FRAMES = 4, 5
SEGMENT = Segment(0, 0, 0, FRAMES)
WAN, HUNYUAN = WanFamily.image_channels, HunyuanFamily.image_channels


def entry(concat: torch.Tensor) -> dict[str, Any]:
    """One conditioning of the host with these input channels."""
    return {"uuid": uuid.uuid4(), "model_conds": {"c_concat": CONDNoiseShape(concat)}}


def input_channels(channels: ImageChannels, given: list[bool]) -> torch.Tensor:
    """Random image latents, with a mask that says which frames they give: [1, extra channels, frames, 2, 2]."""
    image = torch.randn(1, CHANNELS, len(given), 2, 2)
    mask = torch.tensor(given).float().reshape(1, 1, -1, 1, 1).expand(1, channels.mask_channels, len(given), 2, 2)
    return torch.cat([mask, image] if channels.mask_first else [image, mask], dim=1)


@pytest.mark.parametrize("channels", [WAN, HUNYUAN], ids=["wan", "hunyuan"])
@given(given_=st.lists(st.booleans(), min_size=FRAMES, max_size=FRAMES), known=st.lists(st.booleans(), min_size=FRAMES))
def test_known_frames_become_images_unless_one_of_them_has_its_own(
    channels: ImageChannels, given_: list[bool], known: list[bool]
) -> None:
    before = input_channels(channels, given_)
    frames = KnownFrames(torch.randn(2, CHANNELS, FRAMES, 2, 2), torch.tensor(known[:FRAMES]))
    (carried_entry,), shown = with_images([entry(before.clone())], SEGMENT, frames, channels, ImagesGiven())
    carried = carried_entry["model_conds"]["c_concat"].cond
    assert shown == (any(given_) or any(known[:FRAMES]))
    own = any(one and other for one, other in zip(given_, known, strict=False))
    if own or not any(known[:FRAMES]):
        assert torch.equal(carried, before)
        return
    image, mask = channels.split(carried, CHANNELS)
    old_image, _ = channels.split(before, CHANNELS)
    for frame in range(FRAMES):
        expected = frames.latent[:, :, frame] if known[frame] else old_image[:, :, frame].expand(2, -1, -1, -1)
        assert torch.equal(image[:, :, frame], expected)
        assert bool((mask[:, :, frame] == float(known[frame] or given_[frame])).all())
    assert given_frames(carried, channels, CHANNELS).tolist() == [
        one or other for one, other in zip(given_, known, strict=False)
    ]


def test_an_entry_without_input_channels_stays_as_it_is() -> None:
    plain: dict[str, Any] = {"uuid": uuid.uuid4(), "model_conds": {}}
    frames = KnownFrames(torch.ones(1, CHANNELS, FRAMES, 2, 2), torch.ones(FRAMES, dtype=torch.bool))
    (unchanged,), shown = with_images([plain], SEGMENT, frames, WAN, ImagesGiven())
    assert unchanged is plain and shown


def test_a_segment_has_an_image_when_every_entry_gives_one() -> None:
    first, none = (entry(input_channels(WAN, [given_, *[False] * 4])) for given_ in (True, False))
    nothing = KnownFrames(torch.zeros(1, CHANNELS, FRAMES, 2, 2), torch.zeros(FRAMES, dtype=torch.bool))
    assert with_images([first], SEGMENT, nothing, WAN, ImagesGiven())[1]
    assert not with_images([first, none], SEGMENT, nothing, WAN, ImagesGiven())[1]


def test_an_entry_is_read_once_for_each_segment() -> None:
    given_, read = ImagesGiven(), entry(input_channels(WAN, [True, *[False] * 4]))
    first = given_.by(read, 0, WAN, CHANNELS)
    other = {**read, "model_conds": entry(input_channels(WAN, [False] * FRAMES))["model_conds"]}
    assert given_.by(other, 0, WAN, CHANNELS) is first
    assert given_.by(other, 1, WAN, CHANNELS).tolist() == [False] * FRAMES  # type: ignore[union-attr]


def test_only_frames_that_count_become_known_and_are_taken() -> None:
    """Of a window that is shown in part, and of one that goes on at the beginning of a loop."""
    nothing = KnownFrames.none_of(torch.zeros(1, CHANNELS, 8, 1, 1))
    frames = nothing.copy()
    prediction = torch.arange(1.0, 6.0).reshape(1, 1, 5, 1, 1).expand(1, CHANNELS, 5, 1, 1)
    frames.add(Segment(0, 0, 1, 5, shown=(2, 5)), prediction)
    assert frames.known.tolist() == [False, False, True, True, True, False, False, False]
    assert frames.latent[0, 0, :, 0, 0].tolist() == [0, 0, 2, 3, 4, 0, 0, 0]
    frames.add(Segment(1, 1, 6, 5), prediction + 10)
    assert frames.known.tolist() == [True, True, True, True, True, False, True, True]
    assert frames.latent[0, 0, :, 0, 0].tolist() == [13, 14, 2, 3, 4, 0, 11, 12]
    assert nothing.latent.untyped_storage().nbytes() < frames.latent.untyped_storage().nbytes() == frames.latent.nbytes
    part = frames.of_segment(Segment(2, 2, 1, 5, shown=(3, 6)))
    assert part.known.tolist() == [False, False, True, True, False]
    assert not bool(nothing.known.any() or nothing.latent.any())


@pytest.mark.parametrize("name", ["hunyuan video 1.5", "hunyuan video 1.5 i2v"])
def test_a_model_that_may_be_text_to_video_is_given_frames_only_in_a_film_with_an_image(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Both kinds of HunyuanVideo 1.5 have the same channels; those of the text-to-video models were always 0."""
    case = present(name)
    timeline = case.timeline(2)

    def sampled(carried: bool) -> torch.Tensor:
        model, _ = share(model_of(name), timeline, carry_image=carried)
        return Sampling(cfg=1.0).run(model, case.positive(timeline), case.negative(timeline), case.shape(timeline))

    takes_images = name.endswith("i2v")
    assert torch.equal(sampled(True), sampled(False)) != takes_images
    assert ("prompt 2 begins without one" in caplog.text) == takes_images
