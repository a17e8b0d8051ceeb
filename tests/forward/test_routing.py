"""Every frame of a routed segment attends to the texts of its own time, in one softmax over all of them."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.forward.call import AttentionContext
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.forward.routing import attend_routed
from kvshare_core.host import BEAT_TAG
from kvshare_core.prompt_words import PromptWords
from kvshare_core.script.film import Duration, Script, ScriptBeat, Transition
from kvshare_core.timeline.frame_cycle import FrameCycle
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import RoutedText, Segment, Timeline
from tests.oracles.dense_reference import dense_attention, heads_apart
from tests.support.family_cases import CASES, model_of
from tests.support.present import present
from tests.support.windows import PlainWindows, latent_shape, share
from tests.tiny.models import Sampling, one_prompt, random_text, tiny_hunyuan, tiny_wan

OFF = KVShareConfig(mode="off")
ROUTING_FAMILIES = {"wan", "ltxv", "cosmos", "cosmos_predict2", "unet", "vit3d"}
NOT_ROUTING = {"wan vace"}


def plain_backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return dense_attention(query, key, value).unflatten(-1, (query.shape[1], -1)).transpose(1, 2)


def routed_context(
    call: AttentionCall,
    segment: Segment,
    grid: tuple[int, int, int],
    video_start: int,
    routes: dict[int, tuple[int, ...]],
) -> AttentionContext:
    """A cross-attention of a forward with one latent in each of the two chunks of its batch."""
    forward = Forward(segment, Batch(((0, 0), (1, 0))), PromptText(call.key_tokens, routes=routes), grid)
    return AttentionContext(forward, call, CallSite(0, "cross", video_start), plain_backend, LogSumExpAttention())


@st.composite
def routes(draw: st.DrawFn) -> tuple[Segment, list[int], int]:
    """A segment of beat 1 whose frames weigh the texts of up to three beats, their lengths, and a frame patch."""
    frames = draw(st.integers(1, 5))
    beats = draw(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=3, unique=True).map(sorted))
    rows = [
        draw(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=len(beats), max_size=len(beats)))
        for _ in range(frames)
    ]
    rows = [row if sum(row) else [1.0] * len(beats) for row in rows]
    texts = tuple(RoutedText(beat, tuple(row[place] / sum(row) for row in rows)) for place, beat in enumerate(beats))
    lengths = draw(st.lists(st.integers(1, 4), min_size=len(beats), max_size=len(beats)))
    return Segment(0, beats[0], 0, frames, texts=texts), lengths, draw(st.integers(1, 2))


@given(routes(), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.integers(1, 2), st.booleans())
def test_routed_attention_is_one_softmax_with_the_logarithm_of_the_weights_added(
    routed: tuple[Segment, list[int], int], frame_tokens: int, before: int, after: int, copies: int, masked: bool
) -> None:
    segment, lengths, patch = routed
    token_frames = -(-segment.length // patch)
    video = slice(before, before + token_frames * frame_tokens)
    generator = torch.Generator().manual_seed(frame_tokens)
    total = sum(lengths)
    query = torch.randn(2, 2, video.stop + after, 4, generator=generator, dtype=torch.float64)
    key, value = (torch.randn(2, 2, total * copies, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = None
    if masked:
        # The first token of every text stays visible, so that no frame is left without one.
        mask = torch.randn(2, total * copies, generator=generator).double()
        starts = [sum(lengths[:place]) for place in range(len(lengths))]
        for token in range(1, total * copies, 2):
            if token % total not in starts:
                mask[:, token] = -1e9
        mask = mask[:, None, None]
    call = AttentionCall(query, key, value, mask)
    context = routed_context(call, segment, (token_frames, 1, frame_tokens), before, {0: tuple(lengths)})
    masks = context.key_masks
    assert masks is not None
    found = attend_routed(context, masks, patch)

    bias = torch.zeros(2, 1, query.shape[2], total * copies, dtype=torch.float64)
    owner = [place for place, length in enumerate(lengths) for _ in range(length)] * copies
    for token in range(query.shape[2]):
        for place, text in enumerate(segment.texts):
            if video.start <= token < video.stop:
                frame = (token - video.start) // frame_tokens
                own = text.weights[frame * patch : (frame + 1) * patch]
                weight = sum(own) / len(own)
            else:
                weight = float(text.beat == segment.beat)
            columns = [column for column, of in enumerate(owner) if of == place]
            bias[0, 0, token, columns] = math.log(weight) if weight else -math.inf
    expected = dense_attention(query, key, value, bias=bias if mask is None else bias + mask)
    torch.testing.assert_close(found, heads_apart(expected, 2, 1), rtol=1e-9, atol=1e-9)


def test_keys_that_are_not_the_texts_are_an_error() -> None:
    segment = Segment(0, 0, 0, 1, texts=(RoutedText(0, (1.0,)),))
    call = AttentionCall(*(torch.zeros(1, 1, tokens, 4) for tokens in (1, 5, 5)))
    context = routed_context(call, segment, (1, 1, 1), 0, {0: (3,)})
    masks = context.key_masks
    assert masks is not None
    with pytest.raises(ValueError, match="5 text tokens, but the texts have 3"):
        attend_routed(context, masks, 1)


# On the real host.


def routed_timeline(
    frames: int = 2, window: int = 4, beats: int = 2, overlap: int = 1, frame_cycle: FrameCycle | None = None
) -> Timeline:
    """Beats that turn into each other over `frames` latent frames."""
    route = Transition("route", Duration(frames, "latent frames"))
    said = (ScriptBeat("fox"), *(ScriptBeat("fox", None, route) for _ in range(beats - 1)))
    return plan_timeline(Script(said), window, overlap, 8, 4, frame_cycle=frame_cycle)


def blended(timeline: Timeline) -> Timeline:
    """The same segments, each with its own text only."""
    return replace(timeline, segments=tuple(replace(segment, texts=()) for segment in timeline.segments))


def located(timeline: Timeline) -> Timeline:
    """Beats whose one word stands at tokens 0 and 1, beside another at 2."""
    words = PromptWords(("fox", "runs"), ((0, 1), (2,)))
    return replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))


def tagged(texts: list[torch.Tensor], **extra: Any) -> list[Any]:
    return [[text, {BEAT_TAG: beat, **extra}] for beat, text in enumerate(texts)]


@pytest.mark.parametrize("name", CASES)
def test_routing_between_equal_texts_changes_nothing(name: str) -> None:
    case, model = present(name), model_of(name)
    timeline = routed_timeline()
    if case.frame_cycle is not None:
        timeline = routed_timeline(window=case.window, overlap=case.overlap, frame_cycle=case.frame_cycle)
    prompts = case.positive(timeline)
    texts = [[prompts[0][0], {**extra, BEAT_TAG: beat}] for beat, (_, extra) in enumerate(prompts)]
    arguments = texts, case.negative(timeline), case.shape(timeline)
    expected = case.run(Sampling(), share(model, blended(timeline), OFF, "")[0], *arguments)
    if case.family not in ROUTING_FAMILIES or name in NOT_ROUTING:
        with pytest.raises(ValueError, match="it routes the text"):
            share(model, timeline, OFF, "")
        return
    found = case.run(Sampling(), share(model, timeline, OFF, "")[0], *arguments)
    # Some of the random models leave values in the hundreds.
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-4)


@pytest.mark.parametrize(("lengths", "cfg", "batch"), [((6, 6), 3.0, 1), ((4, 7), 3.0, 2), ((7, 4), 1.0, 1)])
def test_a_routed_video_is_that_of_dense_attention_with_biases(
    lengths: tuple[int, int], cfg: float, batch: int
) -> None:
    model, timeline = tiny_wan(), routed_timeline()
    texts = [random_text(10 + beat, tokens) for beat, tokens in enumerate(lengths)]
    sampling, shape = Sampling(cfg=cfg), latent_shape(timeline, batch)
    found = sampling.run(share(model, timeline, OFF, "")[0], tagged(texts), one_prompt(), shape)
    both = torch.cat(texts, 1)
    windows = RoutedWindows(timeline, lengths)
    dense = windows.on(model)
    dense.model_options["transformer_options"]["optimized_attention_override"] = windows.attend
    expected = sampling.run(dense, tagged([both, both]), one_prompt(), shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    apart = sampling.run(share(model, blended(timeline), OFF, "")[0], tagged(texts), one_prompt(), shape)
    assert (found - apart).abs().max() > 1e-3


class RoutedWindows(PlainWindows):
    """Plain windows whose text attention weighs both texts frame by frame, densely."""

    def __init__(self, timeline: Timeline, lengths: tuple[int, int]):
        super().__init__(timeline)
        self.lengths = lengths
        self.segment = timeline.segments[0]

    def get_resized_cond(self, cond_in: Any, x_in: torch.Tensor, window: Any, device: Any = None) -> Any:
        self.segment = window
        return super().get_resized_cond(cond_in, x_in, window, device)

    def attend(self, function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        query, key, value = args[:3]
        options = kwargs["transformer_options"]
        if query.shape[1] == key.shape[1]:
            return function(*args, **kwargs)
        rows = query.shape[0] // len(options["cond_or_uncond"])
        owner = [place for place, length in enumerate(self.lengths) for _ in range(length)]
        copies = key.shape[1] // len(owner)
        frame_tokens = query.shape[1] // self.segment.length
        bias = torch.zeros(query.shape[0], 1, query.shape[1], key.shape[1], dtype=torch.float64)
        for chunk, kind in enumerate(options["cond_or_uncond"]):
            if kind == 1:
                continue
            for token in range(query.shape[1]):
                parts = [text.weights[token // frame_tokens] for text in self.segment.texts]
                logs = [math.log(part) if part else -math.inf for part in parts]
                bias[chunk * rows : (chunk + 1) * rows, 0, token] = torch.tensor([logs[of] for of in owner] * copies)
        return dense_attention(query, key, value, kwargs["heads"], 1, bias=bias).to(query.dtype)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_subject_is_found_in_a_routed_segment_as_in_another(cfg: float) -> None:
    model, timeline = tiny_wan(), located(routed_timeline())
    text = random_text(10, 6)
    found: list[Any] = []
    for plan in (timeline, blended(timeline)):
        patched, record = share(model, plan)
        video = Sampling(steps=3, cfg=cfg).run(patched, tagged([text, text]), one_prompt(), latent_shape(plan))
        found.append((video, record.latest()))
    (video, masks), (expected, expected_masks) = found
    torch.testing.assert_close(masks.heat, expected_masks.heat, rtol=0, atol=2e-3)
    torch.testing.assert_close(video, expected, rtol=0, atol=2e-3)


def test_the_words_of_both_texts_are_read_where_they_stand() -> None:
    model, timeline = tiny_wan(), located(routed_timeline())
    texts = [random_text(10, 6), random_text(11, 6)]
    words = PromptWords(("fox",), ((4, 5),))
    other = replace(timeline, beats=(timeline.beats[0], replace(timeline.beats[1], words=words)))
    runs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for plan in (timeline, other):
        patched, record = share(model, plan, OFF)
        video = Sampling(steps=2).run(patched, tagged(texts), one_prompt(), latent_shape(plan))
        recorded = record.latest()
        assert recorded is not None
        runs.append((video, recorded.heat))
    assert torch.equal(runs[0][0], runs[1][0])
    assert (runs[0][1] - runs[1][1]).abs().max() > 1e-3


def test_a_model_that_mixes_text_with_video_refuses_to_route() -> None:
    with pytest.raises(
        ValueError, match=r"timeline: it routes the text .*\(hunyuan\).*Write \[blend\] or \[segments\]"
    ):
        share(tiny_hunyuan(), routed_timeline(), OFF, "")
