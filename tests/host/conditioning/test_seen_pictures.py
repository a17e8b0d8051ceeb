"""First and last images of beats for MiniMax H3, whose text encoder sees them: every segment has what the host's own
node makes for a clip of its length."""

import importlib
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig
from kvshare_core.families.minimax_h3 import CYCLE, prompt_start
from kvshare_core.host import BEAT_TAG, SEGMENTS_TAG
from kvshare_core.host.conditioning.beat_images import BeatImages, add_beat_images
from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline, other_rate
from kvshare_core.host.conditioning.seen_pictures import encode_with_references
from kvshare_core.host.conditioning.tokens import locate_words
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.prompt_words import find_subject
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.present import present
from tests.support.windows import share
from tests.tiny.encoders import tiny_encoder
from tests.tiny.minimax_h3 import CHANNELS, SIDE, sample_with_audio
from tests.tiny.models import Sampling

PIXELS = 16 * SIDE
CASE = CASES["minimax h3"]


class PlainVAE:
    """Encodes a picture [1, height, width, 3] by its mean colours."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(pixels.movedim(-1, 1), SIDE)
        return small.repeat(1, CHANNELS // 3, 1, 1)[:, :, None]


@pytest.fixture(scope="module")
def clip() -> Any:
    present("minimax h3")
    return tiny_encoder("minimax")


def picture(seed: int) -> torch.Tensor:
    return torch.rand(1, PIXELS, PIXELS, 3, generator=torch.Generator().manual_seed(seed))


def film(clip: Any, script: str, **options: int) -> tuple[Timeline, list[Any], list[Any], torch.Tensor]:
    """A timeline, its conditioning and the video of its latent."""
    family, info = model_info(model_of(CASE.name))
    timeline = plan_timeline(parse_script(script), 7, 2, 24, 4, frame_cycle=CYCLE, **options)
    timeline, positive, negative = encode_timeline(clip, timeline, "blurred")
    module = model_of(CASE.name).get_model_object("diffusion_model")
    latent = empty_latent(info, timeline, PIXELS, PIXELS, 1, family.audio, module)
    return timeline, positive, negative, latent.unbind()[0]


def stock(clip: Any, prompt: str, first: Any = None, last: Any = None) -> tuple[torch.Tensor, dict[str, Any]]:
    """What the host's own node makes for a clip of a segment's 22 pictures."""
    from comfy_extras.nodes_minimax_h3 import MiniMaxH3ImageToVideo

    made = MiniMaxH3ImageToVideo.execute(clip, PlainVAE(), prompt, PIXELS, PIXELS, 22, first, last)
    ((tensor, extra),) = made.result[0]
    return tensor, extra


def in_segment(entries: list[Any], beat: int, segment: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """The only conditioning of a segment."""
    ((tensor, extra),) = [
        entry
        for entry in entries
        if entry[1].get(BEAT_TAG, beat) == beat and segment in entry[1].get(SEGMENTS_TAG, (segment,))
    ]
    return tensor, extra


def assert_equal(found: tuple[torch.Tensor, dict[str, Any]], expected: tuple[torch.Tensor, dict[str, Any]]) -> None:
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1]["minimax_token_tags"], expected[1]["minimax_token_tags"])
    ours, theirs = (extra.get("minimax_keyframes", []) for _, extra in (found, expected))
    assert found[1].get("minimax_frame_count") == expected[1].get("minimax_frame_count")
    assert [one["resolved_frame_index"] for one in ours] == [one["resolved_frame_index"] for one in theirs]
    assert all(torch.equal(one["latent"], other["latent"]) for one, other in zip(ours, theirs, strict=True))


def added(
    model: Any, timeline: Timeline, latent: torch.Tensor, positive: Any, negative: Any, beat: int, images: BeatImages
) -> tuple[Any, Any]:
    """Both conditionings with the images of a beat."""
    *both, same = add_beat_images(model, PlainVAE(), timeline, {"samples": latent}, positive, negative, beat, images)
    assert same["samples"] is latent
    return both[0], both[1]


def test_a_prompt_without_images_is_encoded_as_the_host_does(clip: Any) -> None:
    _, positive, negative, _ = film(clip, "a fox runs\na fox sleeps")
    assert_equal(in_segment(positive, 1, 1), stock(clip, "a fox sleeps"))
    assert_equal(in_segment(negative, 1, 1), stock(clip, "blurred"))


def test_each_end_of_a_beat_has_its_image_and_every_other_segment_none(clip: Any) -> None:
    timeline, *both, latent = film(clip, "[2s] a fox runs\na fox sleeps")
    assert [segment.beat for segment in timeline.segments] == [0, 0, 0, 1]
    first, last, other = picture(1), picture(2), picture(3)
    model = model_of(CASE.name)
    both = added(model, timeline, latent, *both, 1, BeatImages(first, last, clip=clip))
    both = added(model, timeline, latent, *both, 2, BeatImages(other, other, clip=clip))
    for entries, texts in zip(both, (("a fox runs", "a fox sleeps"), ("blurred", "blurred")), strict=True):
        assert_equal(in_segment(entries, 0, 0), stock(clip, texts[0], first))
        assert_equal(in_segment(entries, 0, 1), stock(clip, texts[0]))
        assert_equal(in_segment(entries, 0, 2), stock(clip, texts[0], None, last))
        assert_equal(in_segment(entries, 1, 3), stock(clip, texts[1], other, other))


def test_images_reach_their_segments_in_a_run_and_words_are_found_behind_them(clip: Any) -> None:
    timeline, *both, latent = film(clip, "[2s] a fox runs\na fox sleeps")
    model = model_of(CASE.name)
    both = added(model, timeline, latent, *both, 1, BeatImages(picture(1), picture(2), clip=clip))
    patched, record = share(model, timeline, KVShareConfig(), "fox")
    seen: dict[tuple[int, int], list[str]] = {}

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = args[5]
        kinds = [kind for *_, kind in kwargs["minimax_payload"]["layout"].segments]
        seen[options["context_window"].segment.index, options["cond_or_uncond"][0]] = kinds
        return executor(*args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    shape = tuple(latent.shape)
    assert torch.isfinite(sample_with_audio(Sampling(), patched, *both, shape)).all()
    for (segment, _), kinds in seen.items():
        assert kinds == ["text", *["cond"] * (segment in (0, 2)), "audio", "video"]
    assert set(seen) == {(segment, number) for segment in range(4) for number in (0, 1)}
    masks = record.latest()
    assert masks is not None and 0 < masks.mask.mean() < 1


def test_the_rows_of_a_prompt_follow_those_of_the_pictures(clip: Any) -> None:
    """A word stands as many rows behind the pictures as it does in the prompt alone."""
    text = "a red fox runs"
    known = locate_words(clip, text)
    assert known is not None
    (alone, _), (seen, extra) = stock(clip, text), stock(clip, text, picture(1), picture(2))
    start = prompt_start(extra["minimax_token_tags"])
    assert seen.shape[1] == start + alone.shape[1] and start > 2 * 9
    for row in find_subject(text, known, "fox").subject:
        # The tiny encoder's rows depend on their own token alone.
        torch.testing.assert_close(seen[:, start + row], alone[:, row], rtol=1e-4, atol=1e-4)


def test_the_latent_holds_the_audio_of_the_video(clip: Any) -> None:
    family, info = model_info(model_of(CASE.name))
    timeline = film(clip, "[2s] a fox runs")[0]
    module = model_of(CASE.name).get_model_object("diffusion_model")
    video, audio = empty_latent(info, timeline, PIXELS, PIXELS, 1, family.audio, module).unbind()
    assert tuple(video.shape) == (1, CHANNELS, 17, SIDE, SIDE)
    assert tuple(audio.shape) == (1, 32, 2, round(56 / 24 * 40))
    assert other_rate(family.audio, 24) == []
    assert other_rate(family.audio, 16) == ["The model makes 24 frames per second, but fps is 16; set fps to 24."]


def test_references_are_shown_to_every_prompt(clip: Any) -> None:
    from comfy_extras.nodes_minimax_h3 import MiniMaxH3ReferenceToVideo

    model = model_info(model_of(CASE.name))
    timeline, *_, latent = film(clip, "a fox runs\na fox sleeps")
    images = torch.cat([picture(1), picture(2)])
    encode = encode_with_references(clip, PlainVAE(), model, timeline, latent, images)
    _, positive, negative = encode_timeline(clip, timeline, "blurred", encode)
    for found, text in (
        (positive[0], "a fox runs"),
        (positive[1], "a fox sleeps"),
        (negative[0], "blurred"),
    ):
        expected = MiniMaxH3ReferenceToVideo.execute(
            clip, PlainVAE(), None, text, PIXELS, PIXELS, 22, ref_images={"a": images[:1], "b": images[1:]}
        ).result[0][0]
        assert_equal(found, expected)
        ours, theirs = found[1]["minimax_refs"], expected[1]["minimax_refs"]
        assert [one["kind"] for one in ours] == ["image", "image"]
        assert all(torch.equal(one["latent"], other["latent"]) for one, other in zip(ours, theirs, strict=True))
    with pytest.raises(ValueError, match=r"^positive: it has references, and the model takes either these or"):
        added(model_of(CASE.name), timeline, latent, positive, negative, 1, BeatImages(picture(1), clip=clip))
    assert encode_with_references(clip, None, model, timeline, latent, None) is None
    with pytest.raises(ValueError, match=r"^vae: connect the model's VAE"):
        encode_with_references(clip, None, model, timeline, latent, images)
    with pytest.raises(ValueError, match=r"^references: there are 10 images; the model takes up to 9"):
        encode_with_references(clip, PlainVAE(), model, timeline, latent, picture(1).repeat(10, 1, 1, 1))
    wan = model_info(model_of("wan t2v"))
    with pytest.raises(ValueError, match=r"^references: a wan model takes no reference images"):
        encode_with_references(clip, PlainVAE(), wan, timeline, latent, images)


def test_what_is_missing_or_too_much_is_named(clip: Any) -> None:
    timeline, positive, negative, latent = film(clip, "a fox runs")
    given: tuple[Any, ...] = (model_of(CASE.name), timeline, latent)
    with pytest.raises(ValueError, match=r"^clip: the text encoder of minimax_h3 sees the images"):
        added(*given, positive, negative, 1, BeatImages(picture(1)))
    with pytest.raises(ValueError, match=r"^start_image: it has 2 pictures, but this model takes one"):
        added(*given, positive, negative, 1, BeatImages(picture(1).repeat(2, 1, 1, 1), clip=clip))
    with pytest.raises(ValueError, match=r"^clip_vision_start_image: a minimax_h3 model takes no output"):
        added(*given, positive, negative, 1, BeatImages(picture(1), vision=object(), clip=clip))
    unknown = [[tensor, {BEAT_TAG: 0}] for tensor, _ in positive]
    with pytest.raises(ValueError, match=r"^positive: its prompt is not known"):
        added(*given, unknown, negative, 1, BeatImages(picture(1), clip=clip))


def guide_node() -> Any:
    """The host's node for an image at any frame; older hosts lack it."""
    return getattr(importlib.import_module("comfy_extras.nodes_minimax_h3"), "MiniMaxH3AddGuide", None)


def test_an_image_within_a_beat_stands_in_the_segment_that_shows_it(clip: Any) -> None:
    if guide_node() is None:
        pytest.skip("this host gives the model images at the ends of a clip only")
    timeline, *both, latent = film(clip, "[2s] a fox runs\na fox sleeps")
    first, middle = picture(1), picture(2)
    images = BeatImages(first, middle=middle, middle_at=0.5, clip=clip)
    entries, _ = added(model_of(CASE.name), timeline, latent, *both, 1, images)
    assert_equal(in_segment(entries, 0, 0), stock(clip, "a fox runs", first))
    assert_equal(in_segment(entries, 0, 2), stock(clip, "a fox runs"))
    _, values = in_segment(entries, 0, 1)
    (guide,) = values["minimax_keyframes"]
    beat = timeline.beats[0]
    moment, _ = timeline.picture_range(beat.start + round((beat.stop - beat.start - 1) / 2), timeline.latent_frames)
    begin, _ = timeline.picture_range(timeline.segments[1].start, timeline.segments[1].stop)
    assert guide["resolved_frame_index"] == moment - begin > 0
    # The host rounds what it scales to 8 bits.
    torch.testing.assert_close(guide["latent"], PlainVAE().encode(middle), rtol=0, atol=5e-3)


def test_an_image_within_a_beat_is_refused_where_the_host_takes_none(
    clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("comfy_extras.nodes_minimax_h3.MiniMaxH3AddGuide", raising=False)
    timeline, *both, latent = film(clip, "a fox runs")
    with pytest.raises(ValueError, match=r"^middle_image: this version of ComfyUI gives the model images at the ends"):
        added(model_of(CASE.name), timeline, latent, *both, 1, BeatImages(middle=picture(1), clip=clip))


def test_an_image_within_a_beat_may_not_fall_on_its_first(clip: Any) -> None:
    timeline, *both, latent = film(clip, "a fox runs")
    images = BeatImages(picture(1), middle=picture(2), middle_at=0.0, clip=clip)
    with pytest.raises(ValueError, match=r"^middle_image: it falls on another image"):
        added(model_of(CASE.name), timeline, latent, *both, 1, images)
