"""Start and end images of beats: a segment's conditioning is what the host's own node makes for such a clip."""

from typing import Any

import comfy_extras.nodes_hunyuan
import comfy_extras.nodes_wan
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.conditioning.beat_images import BeatImages, add_beat_images, joined_vision
from kvshare_core.script.film import Duration, Script, ScriptBeat
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.windows import share
from tests.tiny.models import Sampling

SIDE = 48


class PlainVAE:
    """Encodes as a causal video VAE does: a latent frame knows its own pictures and the one before, and fewer stand for
    the first."""

    def __init__(self, channels: int, side: int):
        self.latent_channels, self.side = channels, side

    def spacial_compression_encode(self) -> int:
        return SIDE // self.side

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(
            pixels[: 1 + (len(pixels) - 1) // 4 * 4].movedim(-1, 1), self.side
        )
        small = torch.cat([small, small[:, :1]], 1).repeat(1, self.latent_channels // 4, 1, 1)
        before = torch.cat([torch.zeros_like(small[:1]), small[:-1]])
        mixed = small + 0.25 * before
        frames = [mixed[:1].mean(0), *(part.mean(0) for part in mixed[1:].split(4) if len(part))]
        return torch.stack(frames, 1)[None]


def film(*frames: int | None) -> Timeline:
    """Beats of so many latent frames in windows of 3."""
    beats = tuple(
        ScriptBeat("fox runs", None if count is None else Duration(count, "latent frames")) for count in frames
    )
    return plan_timeline(Script(beats), 3, 1, 8, 4)


def picture(seed: int) -> torch.Tensor:
    return torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(seed))


def concats(case: FamilyCase, timeline: Timeline, positive: Any, negative: Any) -> dict[tuple[int, int], torch.Tensor]:
    """What the model gets beside the noise, by segment and by the list (0 for the prompts)."""
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        window, lists = args[5]["context_window"], args[5]["cond_or_uncond"]
        for number, piece in zip(lists, args[2].chunk(len(lists)), strict=True):
            seen[window.segment.index, number] = piece
        return executor(*args, **kwargs)

    model = share(model_of(case.name), timeline, KVShareConfig(mode="off"), subject="")[0]
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    output = Sampling(steps=1).run(model, positive, negative, case.shape(timeline))
    assert torch.isfinite(output).all()
    return seen


def plain_texts(case: FamilyCase, timeline: Timeline) -> tuple[Any, Any]:
    """Conditioning without pictures."""
    positive = [
        [case.text(10 + number, 6)[0], {**case.text(10, 6)[1], BEAT_TAG: number}]
        for number in range(len(timeline.beats))
    ]
    return positive, [[case.text(99, 6)[0], dict(case.text(99, 6)[1])]]


def stock(case: FamilyCase, vae: Any, start: Any, end: Any) -> torch.Tensor:
    """The same for a video of one segment under the host's own node."""
    timeline = film(3)
    positive, negative = plain_texts(case, timeline)
    length = 9
    if case.name == "wan i2v":
        node = comfy_extras.nodes_wan.WanFirstLastFrameToVideo
        both = node.execute(positive, negative, vae, SIDE, SIDE, length, 1, start, end).result[:2]
    elif case.name == "hunyuan video 1.5 i2v":
        node = comfy_extras.nodes_hunyuan.HunyuanVideo15ImageToVideo
        both = node.execute(positive, negative, vae, SIDE, SIDE, length, 1, start).result[:2]
    else:
        node = comfy_extras.nodes_hunyuan.HunyuanImageToVideo
        given = node.execute(positive, vae, SIDE, SIDE, length, 1, "v1 (concat)", start).result[0]
        both = (given, negative)
    seen = concats(case, timeline, *both)
    return seen[0, 0]


def vae_of(case: FamilyCase) -> PlainVAE:
    return PlainVAE(case.latent[0], case.latent[1])


def with_images(
    case: FamilyCase, timeline: Timeline, positive: Any, negative: Any, beat: int, images: BeatImages
) -> tuple[Any, Any]:
    """Both conditionings with the images; the latent stays as it was."""
    latent = {"samples": torch.zeros(case.shape(timeline))}
    model, vae = model_of(case.name), vae_of(case)
    *both, same = add_beat_images(model, vae, timeline, latent, positive, negative, beat, images)
    assert same is latent
    return both[0], both[1]


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("wan i2v", "start"),
        ("wan i2v", "end"),
        ("wan i2v", "both"),
        ("hunyuan video i2v", "start"),
        ("skyreels i2v", "start"),
        ("hunyuan video 1.5 i2v", "start"),
    ],
)
def test_a_segment_gets_what_the_hosts_own_node_gives_a_clip(name: str, ends: str) -> None:
    case, timeline = CASES[name], film(None, None, None)
    start = picture(1) if ends != "end" else None
    end = picture(2) if ends != "start" else None
    vae = vae_of(case)
    positive, negative = plain_texts(case, timeline)
    seen = concats(case, timeline, *with_images(case, timeline, positive, negative, 2, BeatImages(start, end)))
    expected = stock(case, vae, start, end)
    torch.testing.assert_close(seen[1, 0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[1, 1], expected, rtol=0, atol=1e-6)
    without = stock(case, vae, None, None)
    for place in ((0, 0), (2, 0), (0, 1), (2, 1)):
        # The host's clip begins with a latent frame of one picture; here it is the middle of a film.
        torch.testing.assert_close(seen[place][:, :, 1:], without[:, :, 1:], rtol=0, atol=1e-6)
    assert not torch.equal(seen[1, 0], without)


def test_a_beat_of_several_segments_has_its_pictures_in_the_first_and_the_last() -> None:
    case, timeline = CASES["wan i2v"], film(7, 2)
    vae = vae_of(case)
    positive, negative = plain_texts(case, timeline)
    assert [segment.beat for segment in timeline.segments] == [0, 0, 0, 1]
    images = BeatImages(picture(1), picture(2))
    seen = concats(case, timeline, *with_images(case, timeline, positive, negative, 1, images))
    start, end = stock(case, vae, picture(1), None), stock(case, vae, None, picture(2))
    torch.testing.assert_close(seen[0, 0], start, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[2, 0][:, :, 1:], end[:, :, 1:], rtol=0, atol=1e-6)
    assert not seen[1, 0][:, :4].any()


def test_pictures_of_several_beats_are_added_one_by_one() -> None:
    case, timeline = CASES["wan i2v"], film(None, None)
    vae, texts = vae_of(case), plain_texts(case, timeline)
    for beat in (1, 2):
        texts = with_images(case, timeline, *texts, beat, BeatImages(picture(beat)))
    seen = concats(case, timeline, *texts)
    for index in (0, 1):
        expected = stock(case, vae, picture(index + 1), None)
        torch.testing.assert_close(seen[index, 0], expected, rtol=0, atol=1e-6)


def test_what_both_pictures_look_like_to_the_vision_encoder_is_joined() -> None:
    output = type("Output", (), {})
    start, end = output(), output()
    start.penultimate_hidden_states, end.penultimate_hidden_states = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    assert joined_vision(start, None) is start
    assert joined_vision(None, end) is end
    assert torch.equal(
        joined_vision(start, end).penultimate_hidden_states, torch.cat([torch.zeros(1, 2, 3), torch.ones(1, 2, 3)], 1)
    )


@pytest.mark.parametrize(("part", "frame"), [(0.2, 1), (0.5, 3), (1.0, 6)])
def test_an_image_in_a_beats_time_is_in_the_segment_that_shows_it(part: float, frame: int) -> None:
    """Of a beat of seven latent frames, in the first video frame of the one that it falls on."""
    case, timeline = CASES["wan i2v"], film(7, 2)
    middle, vae = picture(1), vae_of(case)
    segment = next(one for one in timeline.segments if one.beat == 0 and one.shown_start <= frame < one.shown_stop)
    texts = with_images(case, timeline, *plain_texts(case, timeline), 1, BeatImages(middle=middle, middle_at=part))
    seen = concats(case, timeline, *texts)
    for index in range(len(timeline.segments)):
        masks = seen[index, 0][0, :4, :, 0, 0]
        if index == segment.index:
            place = frame - segment.start
            assert masks.T.nonzero().tolist() == [[place, 0]] if place else masks[:, 0].tolist() == [1.0] * 4
            clip = torch.full((1, 9, SIDE, SIDE, 3), 0.5)
            clip[0, 4 * (place - 1) + 1 if place else 0] = middle
            expected = vae.encode(clip[0])[:, :, place]
            assert (
                seen[index, 0][:, 4:, place]
                - model_of(case.name).model.process_latent_in(expected[:, :, None])[:, :, 0]
            ).abs().max() < 1e-5
        else:
            assert masks.max() == 0


@pytest.mark.parametrize(
    ("name", "beat", "images", "message"),
    [
        ("wan t2v", 1, BeatImages(picture(1)), "model: it does not take images as input channels"),
        (
            "hunyuan video i2v",
            1,
            BeatImages(picture(1), picture(2)),
            "end_image: a hunyuan model takes an image to begin with only",
        ),
        ("wan i2v", 4, BeatImages(picture(1)), "beat is 4; the timeline has prompts 1 to 2"),
        ("wan i2v", 1, BeatImages(), "start_image: connect"),
        (
            "wan i2v",
            1,
            BeatImages(picture(1).repeat(10, 1, 1, 1)),
            "start_image: it has 10 images, but a segment has 9 frames",
        ),
        ("hunyuan video i2v", 1, BeatImages(middle=picture(1)), "middle_image: a hunyuan model takes images at the"),
        (
            "wan i2v",
            1,
            BeatImages(picture(1), middle=picture(2), middle_at=0.0),
            "middle_image: it falls on the frames of start_image",
        ),
        ("wan i2v", 1, BeatImages(picture(1), strength=0.5), "strength: a wan model takes images without a strength"),
    ],
)
def test_what_a_model_does_not_take_is_reported(name: str, beat: int, images: BeatImages, message: str) -> None:
    case, timeline = CASES[name], film(None, None)
    with pytest.raises(ValueError, match=message):
        with_images(case, timeline, *plain_texts(case, timeline), beat, images)
