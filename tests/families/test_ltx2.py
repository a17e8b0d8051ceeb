"""LTX-2: six attention calls per block; audio is packed with the video and cut to the segments' time."""

import inspect
import logging
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import comfy_extras.nodes_lt
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import (
    BasicScheduler,
    CFGGuider,
    KSamplerSelect,
    RandomNoise,
    SamplerCustomAdvanced,
)
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.families.ltx2 import LTX2Family
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling import memory
from kvshare_core.host.sampling.packed_latent import audio_stretches
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import count_run
from tests.support.present import present
from tests.support.windows import PlainWindows, share, tiny_timeline
from tests.tiny.ltx2 import AUDIO_BANDS, AUDIO_CHANNELS, HEADS, sample_both
from tests.tiny.models import Sampling

CASE = CASES["ltx-2"]
LAYERS, VIDEO, TEXT, AUDIO = 3, 27, 6, 9
SHARED = KVShareConfig(share_background=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return model_of(present("ltx-2").name)


def require_in_model(model: Any, *names: str) -> None:
    """Skips the test where the code of the model does not read what these names stand for."""
    source = "".join(
        inspect.getsource(sys.modules[base.__module__])
        for base in type(model.get_model_object("diffusion_model")).__mro__
        if base.__module__.startswith("comfy.")
    )
    if not all(name in source for name in names):
        pytest.skip(f"this ComfyUI does not know {' and '.join(names)}")


def classify(
    model: Any, number: int, query_tokens: int, key_tokens: int, width: int, masked: bool = False, audio: bool = True
) -> CallSite:
    """What the family says of one call of a video of 27 tokens with 9 steps of audio or without."""
    query, key = torch.zeros(1, HEADS, query_tokens, width), torch.zeros(1, HEADS, key_tokens, width)
    shapes = ((1, 128, 3, 3, 3), (1, AUDIO_CHANNELS, AUDIO, AUDIO_BANDS))
    mask = torch.zeros(1, 1, 1, key_tokens) if masked else None
    call = AttentionCall(query, key, key, mask, inputs={"latent_shapes": shapes if audio else shapes[:1]})
    return LTX2Family().classify(model.get_model_object("diffusion_model"), number, call, VIDEO, TEXT)


def test_its_numbers_are_read_off_the_model(model: Any) -> None:
    _, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim) == ("ltx2", LAYERS, HEADS, 32)
    assert (info.patch, info.compression, info.latent_channels) == ((1, 1, 1), (8, 32, 32), 128)


@pytest.mark.parametrize("name", ["ltx-2", "ltx-2.3", "ltx-2.5"])
def test_a_version_has_its_own_parts_and_shares_in_every_block(name: str) -> None:
    case = present(name)
    inner = model_of(name).get_model_object("diffusion_model")
    block, newer = inner.transformer_blocks[0], name != "ltx-2"
    assert (block.attn1.to_gate_logits is not None) == newer
    assert (inner.prompt_adaln_single is not None) == newer
    assert (getattr(inner, "keyframes_abs_pos_embedding", None) is not None) == (name == "ltx-2.5")
    assert (block.ff.net[2].bias is None) == (name == "ltx-2.5")
    # Of the newer ones' connectors every prompt comes out with 1024 tokens, the text's first.
    text, extra = case.text(1, 6)
    processed = inner.preprocess_text_embeds(text, extra.get("unprocessed_ltxav_embeds", False))
    assert processed.shape[1] == (1024 if newer else 6)
    # Two segments, the prompt's and the negative's rows together.
    assert count_run(case) == (LAYERS, 2)


def test_every_call_is_checked_by_its_own_shape(model: Any) -> None:
    cycle = (
        (VIDEO, VIDEO, 32, "self"),
        (VIDEO, TEXT, 32, "cross"),
        (AUDIO, AUDIO, 16, "other"),
        (AUDIO, TEXT, 16, "aside"),
        (VIDEO, AUDIO, 16, "other"),
        (AUDIO, VIDEO, 16, "other"),
    )
    for block in range(LAYERS):
        for place, (query_tokens, key_tokens, width, kind) in enumerate(cycle):
            number = 6 * block + place
            assert classify(model, number, query_tokens, key_tokens, width) == CallSite(block, kind)
            for wrong in (
                (query_tokens - 1, key_tokens, width),
                (query_tokens, key_tokens - 1, width),
                (query_tokens, key_tokens, 48 - width),
                cycle[(place + 1) % 6][:3],
            ):
                with pytest.raises(UnexpectedCallError):
                    classify(model, number, *wrong)
    with pytest.raises(UnexpectedCallError, match="no block"):
        classify(model, 6 * LAYERS, VIDEO, VIDEO, 32)
    with pytest.raises(UnexpectedCallError, match="a mask"):
        classify(model, 0, VIDEO, VIDEO, 32, masked=True)


def test_reference_audio_may_stand_in_front_of_the_audio(model: Any) -> None:
    assert classify(model, 2, AUDIO + 4, AUDIO + 4, 16).kind == "other"
    with pytest.raises(UnexpectedCallError):
        classify(model, 2, AUDIO + 4, AUDIO + 5, 16)


def test_without_audio_a_block_calls_twice(model: Any) -> None:
    assert classify(model, 2, VIDEO, VIDEO, 32, audio=False) == CallSite(1, "self")
    assert classify(model, 3, VIDEO, TEXT, 32, audio=False) == CallSite(1, "cross")


@pytest.mark.parametrize(
    "flags",
    [
        {"run_ax": False},
        {"run_vx": False},
        {"a2v_cross_attn": False},
        {"v2a_cross_attn": False},
        {"stg_self_attn_blocks": (0,)},
        {"stg_self_attn_blocks": (LAYERS - 1,)},
    ],
    ids=str,
)
def test_guidance_that_leaves_calls_out_costs_what_follows_in_the_block_and_is_named(
    model: Any, flags: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    require_in_model(model, *flags)
    other = model.clone()
    other.model_options["transformer_options"].update(flags)
    with caplog.at_level(logging.WARNING, "kvshare"):
        found = sample(share(other, tiny_timeline(2), SHARED)[0], tiny_timeline(2))
    messages = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    # The call that `v2a_cross_attn` leaves out is a block's last, after which nothing can be taken for another.
    left_out = [message for message in messages if "left unshared" in message]
    assert len(left_out) == ("v2a_cross_attn" not in flags)
    left = range(LAYERS) if "run_vx" in flags else flags.get("stg_self_attn_blocks", ())
    blocks = tuple(block for block in range(LAYERS) if block not in left)
    rest = replace(SHARED, layer_idx=blocks) if blocks else replace(SHARED, mode="off")
    expected = sample(share(other, tiny_timeline(2), rest)[0], tiny_timeline(2))
    assert torch.equal(found, expected)
    windows = sample(PlainWindows(tiny_timeline(2)).on(other), tiny_timeline(2))
    assert torch.allclose(found, windows, rtol=1e-4, atol=1e-4) == (not blocks)


def sample(model: Any, timeline: Timeline, **options: Any) -> torch.Tensor:
    return sample_both(
        Sampling(), model, CASE.positive(timeline), CASE.negative(timeline), CASE.shape(timeline), **options
    )


def spied(model: Any, timeline: Timeline, seen: list[Any], config: KVShareConfig = SHARED) -> Any:
    """The patched model; `seen` collects the parts of every forward and its inputs."""

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        if args[5]["context_window"].hides is None:
            seen.append((tuple(args[0].shape), kwargs))
        return executor(*args, **kwargs)

    patched, _ = share(model, timeline, config)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    return patched


@pytest.mark.parametrize(("overlap", "audio"), [(0, [12, 9]), (1, [9, 9])])
def test_every_segment_has_the_audio_of_its_pictures(model: Any, overlap: int, audio: list[int]) -> None:
    """Three frames are 9 pictures of one step each, and without an overlap there are 3 more until the next segment."""
    seen: list[Any] = []
    sample(spied(model, tiny_timeline(2, overlap=overlap), seen), tiny_timeline(2, overlap=overlap))
    for (shape, inputs), steps in zip(seen, audio * 2, strict=True):
        assert [tuple(part[1:]) for part in inputs["latent_shapes"]] == [
            (128, 3, 3, 3),
            (AUDIO_CHANNELS, steps, AUDIO_BANDS),
        ]
        assert shape[1:] == (1, 128 * 27 + AUDIO_CHANNELS * AUDIO_BANDS * steps)


@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(0, 8),
    st.sampled_from([4, 8]),
    st.floats(0.2, 3.0),
)
def test_audio_stretches_cover_all_steps_and_begin_with_their_pictures(
    segments: int, window: int, overlap: int, compression: int, steps_a_picture: float
) -> None:
    if overlap >= window:
        overlap = 0
    timeline = plan_timeline(parse_script("fox\n" * segments), window, overlap, 25, compression)
    steps = max(segments, round(timeline.frames * steps_a_picture))
    stretches = audio_stretches(timeline, steps)
    spans = [(stretch.start, stretch.length) for stretch in stretches]
    assert spans[0][0] == 0 and sum(spans[-1]) == steps
    for (start, length), following in pairwise(spans):
        assert start <= following[0] <= start + length
    for segment, (start, length) in zip(timeline.segments, spans, strict=True):
        picture = compression * segment.start
        assert start == min(steps - 1, round(picture * steps / timeline.frames))
        pictures = compression * (segment.length - 1) + 1
        assert length >= 1 and length >= pictures * steps / timeline.frames - 1 - 1e-6
        assert start + length <= steps


def test_audio_of_three_segments_is_blended_like_their_video(model: Any) -> None:
    timeline = tiny_timeline(3)
    off = sample(share(model, timeline, KVShareConfig(mode="off"))[0], timeline)
    torch.testing.assert_close(off, sample(PlainWindows(timeline).on(model), timeline), rtol=1e-5, atol=1e-5)
    for order in ("ditctrl", "lockstep"):
        shared = sample(share(model, timeline, KVShareConfig(share_background=True, order=order))[0], timeline)
        assert torch.isfinite(shared).all() and not torch.equal(shared, off)


def test_noise_masks_of_video_and_audio_are_cut_to_the_segments(model: Any) -> None:
    timeline = tiny_timeline(2, overlap=0)
    video = torch.ones(1, 1, timeline.latent_frames, 3, 3)
    video[:, :, 0] = 0
    audio = torch.ones(1, AUDIO_CHANNELS, timeline.frames, AUDIO_BANDS)
    audio[:, :, 14] = 0
    seen: list[Any] = []
    sample(spied(model, timeline, seen), timeline, noise_mask=NestedTensor([video, audio]))
    masks = [(kwargs["denoise_mask"], kwargs["audio_denoise_mask"]) for _, kwargs in seen]
    assert [mask[0, 0, :, 0, 0].tolist() for mask, _ in masks[:2]] == [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert [mask[0, 0, :, 0].tolist() for _, mask in masks[:2]] == [[1.0] * 12, [1.0, 1.0, 0.0] + [1.0] * 6]


def test_a_latent_of_other_frames_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"the latent has 6 frames, but the timeline plans 5 latent frames"):
        sample(share(model, tiny_timeline(2))[0], tiny_timeline(2, overlap=0))


def test_audio_of_another_length_is_refused_with_the_settings_that_fit(model: Any) -> None:
    timeline = tiny_timeline(2)
    with pytest.raises(ValueError, match="13 steps of audio, but 17 pictures at 25 a second last 17"):
        sample(share(model, timeline)[0], timeline, steps_a_frame=3)
    positive = [[text, {**extra, "frame_rate": 50.0}] for text, extra in CASE.positive(timeline)]
    with pytest.raises(ValueError, match="17 pictures at 50 a second last 8"):
        sample_both(Sampling(), share(model, timeline)[0], positive, positive, CASE.shape(timeline))


def test_one_segment_takes_audio_of_any_length_as_the_host_does(model: Any) -> None:
    timeline = tiny_timeline(1)
    found = sample(share(model, timeline, SHARED)[0], timeline, steps_a_frame=3)
    assert torch.equal(found, sample(model, timeline, steps_a_frame=3))


def test_the_host_keeps_memory_free_for_one_segment(model: Any) -> None:
    shapes: list[list[int]] = []

    def spy(executor: Any, model: Any, noise_shape: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(list(noise_shape))
        return executor(model, noise_shape, *args, **kwargs)

    timeline = tiny_timeline(3)
    whole = 128 * 9 * timeline.latent_frames + AUDIO_CHANNELS * AUDIO_BANDS * timeline.frames
    patched, _ = share(model, timeline, KVShareConfig(mode="off"))
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "spy", spy)
    sample(patched, timeline)
    (shape,) = shapes
    assert shape[:2] == [1, 1]
    assert abs(shape[2] - whole * timeline.window / timeline.latent_frames) <= 1


def test_the_forecast_of_the_bank_follows_from_the_video(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[int] = []
    held: list[int] = []
    monkeypatch.setattr(memory, "report", lambda size, *_: expected.append(size.bank))
    monkeypatch.setattr(memory, "report_held", held.append)
    sample(share(model, tiny_timeline(2), SHARED)[0], tiny_timeline(2))
    assert expected == held and held[0] > 0


def guided(model: Any, node: Any, timeline: Timeline, *scales: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Video and audio of one step with a guider of the host."""
    case = CASES["ltx-2"]
    audio = (1, AUDIO_CHANNELS, timeline.frames, AUDIO_BANDS)
    latent = NestedTensor([torch.zeros(case.shape(timeline)), torch.zeros(audio)])
    guider = node.execute(model, case.positive(timeline), case.negative(timeline), *scales).result[0]
    sigmas = BasicScheduler.execute(model, "simple", 1, 1.0).result[0]
    sampler = KSamplerSelect.execute("euler").result[0]
    with torch.inference_mode():
        found = SamplerCustomAdvanced.execute(
            RandomNoise.execute(5).result[0], guider, sampler, sigmas, {"samples": latent}
        )
    video, sound = found.result[0]["samples"].unbind()
    return video, sound


def test_guidance_of_video_and_audio_by_scales_of_their_own(model: Any) -> None:
    dual = getattr(comfy_extras.nodes_lt, "LTXVDualCFGGuider", None)
    if dual is None:
        pytest.skip("this ComfyUI has no LTXVDualCFGGuider")
    timeline = tiny_timeline(2)
    patched = share(model, timeline, SHARED, subject="")[0]
    high, low = (guided(patched, CFGGuider, timeline, scale) for scale in (3.0, 1.5))
    equal = guided(patched, dual, timeline, 3.0, 3.0)
    assert torch.equal(equal[0], high[0]) and torch.equal(equal[1], high[1])
    found = guided(patched, dual, timeline, 3.0, 1.5)
    torch.testing.assert_close(found[0], high[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], low[1], rtol=1e-5, atol=1e-5)
    assert not torch.equal(high[1], low[1])
    off = share(model, timeline, KVShareConfig(mode="off"))[0]
    assert not torch.equal(found[0], guided(off, dual, timeline, 3.0, 1.5)[0])
    # At scale 1 for the video the negative prompt is evaluated all the same, for the audio.
    plain, mixed = guided(patched, CFGGuider, timeline, 1.0), guided(patched, dual, timeline, 1.0, 3.0)
    torch.testing.assert_close(mixed[0], plain[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mixed[1], high[1], rtol=1e-5, atol=1e-5)


def test_keys_cannot_be_moved(model: Any) -> None:
    with pytest.raises(ValueError, match="choose centred, same or frame"):
        share(model, tiny_timeline(2), KVShareConfig(position="matched"))


@pytest.mark.parametrize(
    "guide",
    [{"keyframe_idxs": torch.zeros(1, 3, 9, 2)}, {"generated_keyframes": {"tokens_per_frame": 9}}],
    ids=["given", "generated"],
)
def test_guide_frames_are_refused(model: Any, guide: dict[str, Any]) -> None:
    require_in_model(model, *guide)
    timeline = tiny_timeline(2)
    positive = [[text, {**extra, **guide}] for text, extra in CASE.positive(timeline)]
    with pytest.raises(ValueError, match="Mask-Guided KV Share: the conditioning has guide frames"):
        sample_both(Sampling(), share(model, timeline)[0], positive, CASE.negative(timeline), CASE.shape(timeline))
