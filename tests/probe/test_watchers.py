"""A probe's changes of one attention call equal dense attention in float64 with an explicit matrix of biases."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kvshare_core.attention.rope import embed_nd_scheme, rotate
from kvshare_core.attention.token_split import split_tokens
from kvshare_core.bank.bank import KeyValueBank
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.probe.watchers import (
    Change,
    ChangeBlock,
    HideWords,
    KeepSubject,
    ProbedCall,
    ReadMaps,
    WatchedForward,
    Watcher,
    move_keys,
    see_another,
    see_only_oneself,
)
from kvshare_core.prompt_words import SubjectTokens
from tests.oracles.dense_reference import dense_attention, heads_together
from tests.support.fake_family import FakeFamily, joint, self_and_cross, self_only, timeline_of

GRID = (2, 2, 3)
VIDEO = 12
SCHEME = embed_nd_scheme([2, 0, 0], 10.0)
SUBJECT = SubjectTokens((1,), (2, 3))

LAYOUTS: dict[str, tuple[CallSite, int]] = {
    "self": (self_only(1)[0], 0),
    "self with a reference before": (CallSite(0, "self", video_start=2), 3),
    "joint, text behind": (joint(1, 0, VIDEO)[0], 5),
    "joint, text before": (joint(1, 5, 0)[0], 5),
}
"""The call, and how many tokens stand outside the video."""


def drawn(tokens: int, heads: tuple[int, int] = (2, 2), seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(1, count, tokens, 4, generator=generator, dtype=torch.float64)
        for count in (heads[0], heads[1], heads[1])
    )


def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(query, key, value, enable_gqa=True)


def watched(
    sites: list[CallSite], calls: list[AttentionCall], watcher: Watcher, text_tokens: int = 5
) -> list[torch.Tensor | None]:
    """What a forward with these calls gives back for each."""
    family = FakeFamily(sites)
    timeline = timeline_of(1, GRID[0])
    forward = Forward(timeline.segments[0], Batch(((0, 0),)), PromptText(text_tokens), GRID)
    module = torch.nn.Module()
    seen = WatchedForward(family, family.describe(module, 16), module, forward, watcher)
    return [seen.attend(call, backend) for call in calls]


def changed(site: CallSite, call: AttentionCall, change: Change) -> torch.Tensor:
    watcher = ChangeBlock(0, change)
    (output,) = watched([site], [call], watcher)
    assert watcher.met and output is not None
    return heads_together(output)


def additive_mask(tokens: int, hidden: int) -> torch.Tensor:
    """Hides one token and makes another count less."""
    mask = torch.zeros(1, 1, 1, tokens, dtype=torch.float64)
    mask[..., hidden] = -torch.inf
    mask[..., hidden - 1] = -0.7
    return mask


@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("masked", [False, True])
def test_alone_a_video_token_attends_to_no_other_video_token(layout: str, heads: tuple[int, int], masked: bool) -> None:
    site, outside = LAYOUTS[layout]
    if masked and not outside:
        pytest.skip("nothing outside the video to hide")
    tokens = VIDEO + outside
    video = torch.arange(site.video_start, site.video_start + VIDEO)
    last = tokens - 1 if site.video_start < 3 else 4
    mask = additive_mask(tokens, last) if masked else None
    query, key, value = drawn(tokens, heads)
    bias = torch.zeros(tokens, tokens, dtype=torch.float64) if mask is None else mask[0, 0].expand(tokens, -1).clone()
    apart = torch.full((VIDEO, VIDEO), -math.inf, dtype=torch.float64).fill_diagonal_(0.0)
    bias[video[:, None], video] += apart
    found = changed(site, AttentionCall(query, key, value, mask, 0.4), see_only_oneself)
    # The backend of these tests takes no scale, so queries outside the video are compared without one.
    expected = dense_attention(query, key, value, bias=bias, scale=0.4)
    torch.testing.assert_close(found[:, video], expected[:, video])
    plain = changed(site, AttentionCall(query, key, value, mask), see_only_oneself)
    torch.testing.assert_close(plain, dense_attention(query, key, value, bias=bias))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_moved_keys_are_those_of_the_video_for_the_video(layout: str) -> None:
    site, outside = LAYOUTS[layout]
    query, key, value = drawn(VIDEO + outside)
    video = slice(site.video_start, site.video_start + VIDEO)
    moved = key.clone()
    moved[:, :, video] = rotate(key[:, :, video], SCHEME, torch.tensor([-1, 0, 0]))
    found = changed(site, AttentionCall(query, key, value), move_keys(SCHEME, 1))
    expected = dense_attention(query, key, value)
    assert (found[:, video] - expected[:, video]).abs().max() > 1e-3
    expected[:, video] = dense_attention(query, moved, value)[:, video]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_subject_queries_attend_to_the_other_clips_in_place_of_their_own_video(layout: str) -> None:
    site, outside = LAYOUTS[layout]
    tokens, bank = VIDEO + outside, KeyValueBank()
    there, here = torch.arange(VIDEO) % 3 == 0, torch.arange(VIDEO) % 4 == 1
    other = drawn(tokens, seed=1)
    assert watched([site], [AttentionCall(*other)], KeepSubject(split_tokens(there), bank)) == [None]
    query, key, value = drawn(tokens)
    found = changed(site, AttentionCall(query, key, value), see_another(split_tokens(here), bank))
    assert len(bank) == 0
    video = torch.arange(site.video_start, site.video_start + VIDEO)
    kept = video[there]
    keys, values = (
        torch.cat([own, foreign[:, :, kept]], 2) for own, foreign in zip((key, value), other[1:], strict=True)
    )
    bias = torch.zeros(tokens, tokens + len(kept), dtype=torch.float64)
    bias[:, tokens:] = -math.inf
    bias[video[here, None], video] = -math.inf
    bias[video[here], tokens:] = 0.0
    torch.testing.assert_close(found, dense_attention(query, keys, values, bias=bias))


@pytest.mark.parametrize("kind", ["cross", "joint"])
@pytest.mark.parametrize("masked", [False, True])
def test_no_query_attends_to_hidden_words(kind: str, masked: bool) -> None:
    site = CallSite(0, kind, 0, VIDEO if kind == "joint" else 0)  # type: ignore[arg-type]
    keys = VIDEO + 5 if kind == "joint" else 5
    query, key, value = drawn(VIDEO + 5)
    query, key, value = query[:, :, : keys if kind == "joint" else VIDEO], key[:, :, :keys], value[:, :, :keys]
    mask = additive_mask(keys, keys - 1) if masked else None
    (output,) = watched([site], [AttentionCall(query, key, value, mask)], HideWords(SUBJECT))
    assert output is not None
    bias = torch.zeros(1, 1, 1, keys, dtype=torch.float64) if mask is None else mask.clone()
    bias[..., site.text_start + 1] = -math.inf
    torch.testing.assert_close(heads_together(output), dense_attention(query, key, value, bias=bias))


def test_maps_are_read_in_every_block_and_change_nothing() -> None:
    reader = ReadMaps(SUBJECT, (0, 1, 2, 3))
    calls = []
    for number in range(2):
        query, key, value = drawn(VIDEO, seed=number)
        text = drawn(5, seed=9 + number)
        calls += [AttentionCall(query, key, value), AttentionCall(query, *text[1:])]
    assert watched(self_and_cross(2), calls, reader) == [None] * 4
    assert set(reader.scores) == {0, 1}
    call = calls[3]
    weights = (call.query[0] @ call.key[0, :, :4].transpose(-1, -2) * 0.5).softmax(-1).mean(0)
    expected = weights[:, 1] - weights[:, 2:4].mean(-1)
    torch.testing.assert_close(reader.scores[1], expected.float())


def test_only_the_named_block_is_changed() -> None:
    seen: list[int] = []

    def change(call: ProbedCall) -> torch.Tensor:
        seen.append(call.block)
        return call.context.call.query

    calls = [AttentionCall(*drawn(VIDEO))] * 3
    outputs = watched(self_only(3), calls, ChangeBlock(1, change))
    assert seen == [1] and [output is None for output in outputs] == [True, False, True]
    absent = ChangeBlock(5, change)
    watched(self_only(3), calls, absent)
    assert not absent.met


def call_with(**changes: Any) -> AttentionCall:
    return replace(AttentionCall(*drawn(VIDEO)), **changes)


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ([call_with()] * 2, "an attention call has no block to belong to; its blocks cannot be told apart"),
        ([call_with(mask=torch.zeros(1, 1, VIDEO, VIDEO))], "attention comes with a mask that hides video"),
    ],
)
def test_calls_that_no_block_can_be_told_of_are_refused(calls: list[AttentionCall], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        watched(self_only(1), calls, KeepSubject(split_tokens(torch.ones(VIDEO).bool()), KeyValueBank()))


def test_a_prompt_with_more_tokens_than_the_model_got_is_refused() -> None:
    call = AttentionCall(drawn(VIDEO)[0], *drawn(5)[1:])
    with pytest.raises(ValueError, match="positive: the prompt has text tokens up to 3, but the model received 2"):
        watched([CallSite(0, "cross")], [call], ReadMaps(SUBJECT, (0, 1)), 2)
