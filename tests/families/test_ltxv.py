"""LTX-Video: masks distinguish its attention calls; guides, skipped attention, hidden text, images."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.ldm.lightricks import model as lightricks
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.families.ltxv import LTXVideoFamily
from kvshare_core.host.loading.model_info import model_info
from tests.support.family_cases import CASES
from tests.support.windows import PlainWindows, share, tiny_timeline
from tests.tiny.cross_attention import LTXV_CHANNELS, LTXV_TEXT_WIDTH, tiny_ltxv
from tests.tiny.models import Sampling

CASE = CASES["ltxv"]
LAYERS = 3
TOKENS = 27
SHARED = KVShareConfig(share_background=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_ltxv(LAYERS)


def classify(
    model: Any, number: int, query_tokens: int, key_tokens: int, masked: bool, text_tokens: int = 6
) -> CallSite:
    """What the family says of one call of a video of 27 tokens."""
    query, key = torch.zeros(1, 4, query_tokens, 32), torch.zeros(1, 4, key_tokens, 32)
    call = AttentionCall(query, key, key, torch.zeros(1, 1, 1, key_tokens) if masked else None)
    diffusion_model = model.get_model_object("diffusion_model")
    return LTXVideoFamily().classify(diffusion_model, number, call, TOKENS, text_tokens)


def sample(model: Any, tokens: int = 6, **options: Any) -> torch.Tensor:
    timeline = tiny_timeline(2)
    positive, negative = CASE.positive(timeline, tokens), CASE.negative(timeline, tokens)
    return Sampling().run(model, positive, negative, CASE.shape(timeline), **options)


def test_its_numbers_are_read_off_the_model(model: Any) -> None:
    _, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim) == ("ltxv", LAYERS, 4, 32)
    assert (info.patch, info.compression, info.latent_channels) == ((1, 1, 1), (8, 32, 32), LTXV_CHANNELS)
    # An odd size has no padding, and 121 pictures are 8 * 15 + 1.
    assert info.grid(5, 3, 7) == (5, 3, 7)
    assert info.compression[0] * (info.native_frames - 1) + 1 == 121


def test_every_call_is_checked_by_its_own_shape(model: Any) -> None:
    for block in range(LAYERS):
        assert classify(model, 2 * block, TOKENS, TOKENS, masked=False) == CallSite(block, "self")
        assert classify(model, 2 * block + 1, TOKENS, 6, masked=True) == CallSite(block, "cross")
        for place, query_tokens, key_tokens, masked in (
            (0, TOKENS, 6, True),
            (0, TOKENS - 9, TOKENS, False),
            (0, TOKENS, TOKENS + 9, False),
            (0, TOKENS, TOKENS, True),
            (1, TOKENS, TOKENS, False),
            (1, TOKENS, 5, True),
            (1, TOKENS - 9, 6, True),
        ):
            with pytest.raises(UnexpectedCallError):
                classify(model, 2 * block + place, query_tokens, key_tokens, masked)
    with pytest.raises(UnexpectedCallError):
        classify(model, 2 * LAYERS, TOKENS, TOKENS, masked=False)


def test_a_cross_attention_may_come_without_a_mask_where_its_length_tells_it(model: Any) -> None:
    assert classify(model, 1, TOKENS, 6, masked=False) == CallSite(0, "cross")
    with pytest.raises(UnexpectedCallError, match="no mask over its 27 keys"):
        classify(model, 1, TOKENS, TOKENS, masked=False, text_tokens=TOKENS)


@pytest.mark.skipif(not hasattr(lightricks, "GuideAttentionMask"), reason="this host does not split self-attention")
def test_self_attention_split_by_a_guide_is_not_taken_for_the_plain_one(model: Any) -> None:
    """A guide of half strength behind two frames: the host asks for the video's and the guide's queries apart."""
    diffusion_model = model.get_model_object("diffusion_model")
    calls: list[AttentionCall] = []

    def look(function: Any, query: Any, key: Any, value: Any, heads: int, *args: Any, **kwargs: Any) -> Any:
        parts = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
        calls.append(AttentionCall(*parts, kwargs.get("mask")))
        return function(query, key, value, heads, *args, **kwargs)

    with torch.inference_mode():
        diffusion_model(
            torch.zeros(1, LTXV_CHANNELS, 3, 3, 3),
            torch.full((1, 27, 1), 0.5),
            torch.zeros(1, 6, LTXV_TEXT_WIDTH),
            torch.ones(1, 6, dtype=torch.int64),
            transformer_options={"optimized_attention_override": look},
            keyframe_idxs=torch.zeros(1, 3, 9, 2),
            denoise_mask=torch.ones(1, 1, 3, 3, 3),
            guide_attention_entries=[{"pre_filter_count": 9, "strength": 0.5}],
        )
    assert len(calls) == 3 * LAYERS
    for place, reason in ((0, "18 query tokens where the video has 27"), (1, "9 query tokens")):
        with pytest.raises(UnexpectedCallError, match=reason):
            LTXVideoFamily().classify(diffusion_model, 0, calls[place], TOKENS, 6)


def without_self_attention(model: Any, block: int) -> Any:
    """A clone that skips the self-attention of one block, as spatio-temporal guidance does."""

    def replaced(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        attention = diffusion_model.transformer_blocks[block].attn2
        mask, options = args["attention_mask"], args["transformer_options"]
        return {"img": args["img"] + attention(args["img"], args["txt"], mask, transformer_options=options)}

    diffusion_model = model.get_model_object("diffusion_model")
    clone = model.clone()
    clone.set_model_patch_replace(replaced, "dit", "double_block", block)
    return clone


@pytest.mark.parametrize("tokens", [6, TOKENS], ids=["short text", "as many text tokens as video tokens"])
@pytest.mark.parametrize("block", [0, LAYERS - 1])
def test_skipped_self_attention_is_left_unshared_and_named(
    model: Any, block: int, tokens: int, caplog: pytest.LogCaptureFixture
) -> None:
    skipping = without_self_attention(model, block)
    with caplog.at_level(logging.WARNING):
        found = sample(share(skipping, tiny_timeline(2), SHARED)[0], tokens)
    message, came_to = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    assert message.startswith("Mask-Guided KV Share: ltxv: an attention call has ")
    assert message.endswith("left unshared.")
    assert f"only {LAYERS - 1} of {LAYERS} blocks shared" in came_to
    rest = replace(SHARED, layer_idx=tuple(number for number in range(LAYERS) if number != block))
    assert torch.equal(found, sample(share(skipping, tiny_timeline(2), rest)[0], tokens))
    windows = sample(PlainWindows(tiny_timeline(2)).on(skipping), tokens)
    assert (found - windows).abs().max() > 1e-3 * windows.abs().max()


def test_guide_frames_are_refused(model: Any) -> None:
    timeline = tiny_timeline(2)
    guided = CASE.positive(timeline)
    guided[0][1]["keyframe_idxs"] = torch.zeros(1, 3, 9, 2)
    channels, height, width = CASE.latent
    longer = (1, channels, timeline.latent_frames + 1, height, width)
    for shape in (CASE.shape(timeline), longer):
        with pytest.raises(ValueError, match="Mask-Guided KV Share: the conditioning has guide frames"):
            Sampling().run(share(model, timeline)[0], guided, CASE.negative(timeline), shape)


def test_a_noise_mask_is_cut_to_the_segments(model: Any) -> None:
    """A picture to start from belongs to the first segment: only there a frame has no noise."""
    timeline = tiny_timeline(2, overlap=0)
    noise_mask = torch.ones(1, 1, timeline.latent_frames, 3, 3)
    noise_mask[:, :, 0] = 0
    seen: list[list[float]] = []

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["denoise_mask"][0, 0, :, 0, 0].tolist())
        return executor(*args, **kwargs)

    patched, _ = share(model, timeline, SHARED, subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    output = sample_masked(patched, timeline, noise_mask)
    assert seen[:2] == [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    torch.testing.assert_close(output[:, :, 0], torch.zeros_like(output[:, :, 0]), rtol=0, atol=1e-5)
    off = sample_masked(share(model, timeline, KVShareConfig(mode="off"))[0], timeline, noise_mask)
    assert (output - off)[:, :, 3:].abs().max() > 1e-3


def sample_masked(model: Any, timeline: Any, noise_mask: torch.Tensor) -> torch.Tensor:
    positive, negative = CASE.positive(timeline), CASE.negative(timeline)
    return Sampling().run(model, positive, negative, CASE.shape(timeline), noise_mask=noise_mask)


def by_words() -> Any:
    return share(tiny_ltxv(LAYERS), tiny_timeline(2), SHARED)


def by_places() -> Any:
    """The subject named by the place of its token, with an encoder that does not tell its words."""
    timeline = tiny_timeline(2)
    timeline = replace(timeline, beats=tuple(replace(beat, words=None) for beat in timeline.beats))
    config = replace(SHARED, masks=MaskSettings(ref_token_idx=(1,), cur_token_idx=(1,)))
    return share(tiny_ltxv(LAYERS), timeline, config, subject="")


@pytest.mark.parametrize("shared", [by_words, by_places])
def test_hidden_text_tokens_do_not_count_in_the_maps(shared: Callable[[], Any]) -> None:
    timeline = tiny_timeline(2)
    heats: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    for hidden in (0.0, 3.0):
        patched, record = shared()
        positive = CASE.positive(timeline)
        for entry in positive:
            entry[0] = entry[0].clone()
            entry[0][:, -1] += hidden
        outputs.append(Sampling().run(patched, positive, CASE.negative(timeline), CASE.shape(timeline)))
        masks = record.latest()
        assert masks is not None
        heats.append(masks.heat)
    assert heats[0].max() > 0
    assert torch.equal(heats[0], heats[1])
    assert torch.equal(outputs[0], outputs[1])


def test_keys_cannot_be_moved(model: Any) -> None:
    """Its heads rotate by frequencies of their own, at positions that the frame rate scales."""
    for config in (KVShareConfig(position="matched"), KVShareConfig(position="gap", position_gap=3)):
        with pytest.raises(ValueError, match="choose centred, same or frame"):
            share(model, tiny_timeline(2), config)
