"""Mochi: video before text, no padding in the attention, learned positions."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from tests.support.family_cases import CASES
from tests.support.family_contracts import SHARED, sample
from tests.support.windows import share, tiny_timeline
from tests.tiny.mochi import TEXT_LENGTH, padded_text, tiny_mochi
from tests.tiny.models import Sampling

CASE = CASES["mochi"]
TEXT = 6
LAYERS = 3


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_mochi(LAYERS)


def test_the_numbers_of_the_model_are_read_off_it(model: Any) -> None:
    family, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim, info.joint) == ("mochi", LAYERS, 2, 64, True)
    assert (info.patch, info.compression, info.native_frames) == ((1, 2, 2), (6, 8, 8), 28)
    assert family.rope_scheme(model.get_model_object("diffusion_model"), {}) is None


def test_every_call_is_checked_by_its_own_shape(model: Any) -> None:
    family, _ = model_info(model)

    def classify(number: int, query_tokens: int, key_tokens: int) -> CallSite:
        query, key = torch.zeros(1, 1, query_tokens, 64), torch.zeros(1, 1, key_tokens, 64)
        diffusion_model = model.get_model_object("diffusion_model")
        return family.classify(diffusion_model, number, AttentionCall(query, key, key), 27, TEXT)

    whole = 27 + TEXT
    for block in range(LAYERS):
        assert classify(block, whole, whole) == CallSite(block, "joint", video_start=0, text_start=27)
        for queries, keys in ((27, 27), (whole, 27), (27 + TEXT_LENGTH, 27 + TEXT_LENGTH), (27, whole)):
            with pytest.raises(UnexpectedCallError, match=str(queries)):
                classify(block, queries, keys)
    with pytest.raises(UnexpectedCallError, match="no block"):
        classify(LAYERS, whole, whole)


def test_positions_that_heads_have_learned_are_not_moved(model: Any) -> None:
    with pytest.raises(ValueError, match="position is 'matched', but this model's keys carry no positions"):
        share(model, tiny_timeline(2), KVShareConfig(position="matched"))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["contrast", "threshold"])
def test_padding_changes_nothing(model: Any, kind: Any, known: bool) -> None:
    """Tokens behind the text have no part in masks and sharing, whether or not the words are known."""
    timeline = tiny_timeline(2)
    if not known:
        timeline = replace(timeline, beats=tuple(replace(beat, words=None) for beat in timeline.beats))
    masks = MaskSettings(kind=kind, ref_token_idx=(0, 1), cur_token_idx=(0, 1))
    config = KVShareConfig(masks=masks, share_background=True)
    patched, record = apply(model, make_plan(timeline, config, "", None))
    outputs: list[torch.Tensor] = []
    heats: list[torch.Tensor] = []
    for scale in (0.0, 3.0):
        positive = CASE.positive(timeline, TEXT)
        for entry in positive:
            entry[0] = entry[0].clone()
            entry[0][:, TEXT:] *= scale
        outputs.append(Sampling().run(patched, positive, CASE.negative(timeline), CASE.shape(timeline)))
        found = record.latest()
        assert found is not None
        heats.append(found.heat)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(heats[0], heats[1], rtol=1e-4, atol=1e-4)


def test_prompts_of_other_lengths_share_with_each_other(model: Any) -> None:
    """The host cannot batch them with the negative one: every text has a sequence of its own length."""
    timeline = tiny_timeline(2, overlap=0)
    positive: list[Any] = []
    for number, tokens in enumerate((5, 9)):
        tensor, extra = padded_text(10 + number, tokens)
        positive.append([tensor, {**extra, BEAT_TAG: number}])
    outputs = [
        Sampling().run(share(model, timeline, config)[0], positive, CASE.negative(timeline), CASE.shape(timeline))
        for config in (KVShareConfig(mode="off"), SHARED)
    ]
    torch.testing.assert_close(outputs[0][:, :, :3], outputs[1][:, :, :3], rtol=1e-4, atol=1e-4)
    assert (outputs[0][:, :, 3:] - outputs[1][:, :, 3:]).abs().max() > 1e-3


def test_a_word_is_followed_to_its_own_key(model: Any) -> None:
    """The heat is what the host's own keys of the word's tokens give, read behind the video in the sequence."""
    timeline = tiny_timeline(1)
    plan = make_plan(timeline, KVShareConfig(masks=MaskSettings(start="maps")), "fox", None)
    scores: list[torch.Tensor] = []

    def spy(function: Any, query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        row = kwargs["transformer_options"]["cond_or_uncond"].index(0)
        assert query.shape[2] == 27 + TEXT
        text = (query[row, :, :27].double() @ key[row, :, 27:].double().mT * 64**-0.5)[..., :3].softmax(-1).mean(0)
        score = text[:, :2].mean(-1) - text[:, 2]
        scores.append((score - score.mean()) / score.std(correction=0))
        return function(query, key, *args, **kwargs)

    watched = model.clone()
    watched.model_options["transformer_options"]["optimized_attention_override"] = spy
    patched, record = apply(watched, plan)
    sample(CASE, patched, timeline, steps=1)
    masks = record.latest()
    assert masks is not None and len(scores) == LAYERS
    expected = torch.stack(scores).sum(0)
    found = masks.heat[0].flatten().double()
    inside = (found > 0) & (found < 1)
    assert inside.sum() > 20
    together = torch.corrcoef(torch.stack([found[inside], expected[inside]]))
    assert together[0, 1] > 0.9999
