"""Transition segments attend to text interpolated between two prompts, on the real host."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.conds
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig
from kvshare_core.families.mochi import MochiFamily
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.conditioning.mixing import interpolate_conditioning
from kvshare_core.prompt_words import PromptWords
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.windows import PlainWindows, image_conditioning, latent_shape, share
from tests.tiny.models import Sampling, one_prompt, random_text, tiny_wan

OFF = KVShareConfig(mode="off")


def timeline_of(beats: int = 2, transitions: int = 2) -> Timeline:
    """Beats of one segment each with transitions between them, whose words stand at tokens 0, 1 and 2."""
    lines = parse_script("fox runs\n" * beats)
    timeline = plan_timeline(lines, 3, 1, 8, 4, num_transition_blocks=transitions)
    words = PromptWords(("fox", "runs"), ((0, 1), (2,)))
    return replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))


def text_between(first: torch.Tensor, second: torch.Tensor, mix: float) -> torch.Tensor:
    """Interpolated token by token, in float64."""
    between = torch.zeros(1, max(first.shape[1], second.shape[1]), first.shape[2], dtype=torch.float64)
    between[:, : first.shape[1]] += (1 - mix) * first
    between[:, : second.shape[1]] += mix * second
    return between.float()


def by_hand(timeline: Timeline, texts: list[torch.Tensor], **extra: Any) -> tuple[Timeline, list[Any]]:
    """The same video as a plan without transitions, every segment a beat of its own, and the text of each."""
    segments = tuple(replace(segment, beat=segment.index, next_beat=None, mix=0.0) for segment in timeline.segments)
    prompts: list[Any] = []
    for segment in timeline.segments:
        text = texts[segment.beat]
        if segment.next_beat is not None:
            text = text_between(text, texts[segment.next_beat], segment.mix)
        prompts.append([text, {BEAT_TAG: segment.index, **extra}])
    return replace(timeline, segments=segments), prompts


def tagged(texts: list[torch.Tensor], **extra: Any) -> list[Any]:
    return [[text, {BEAT_TAG: beat, **extra}] for beat, text in enumerate(texts)]


@pytest.fixture(scope="module")
def t2v() -> Any:
    return tiny_wan()


# Whole runs.


@pytest.mark.parametrize(
    ("lengths", "cfg", "batch"),
    [((6, 6), 3.0, 1), ((6, 6), 1.0, 1), ((6, 6), 3.0, 2), ((4, 7), 3.0, 1), ((7, 4), 1.0, 2)],
)
def test_transitions_equal_segments_with_a_text_interpolated_by_hand(
    t2v: Any, lengths: tuple[int, int], cfg: float, batch: int
) -> None:
    timeline = timeline_of()
    texts = [random_text(10 + beat, tokens) for beat, tokens in enumerate(lengths)]
    sampling, shape = Sampling(cfg=cfg), latent_shape(timeline, batch)
    found = sampling.run(share(t2v, timeline, OFF)[0], tagged(texts), one_prompt(), shape)
    plain, prompts = by_hand(timeline, texts)
    expected = sampling.run(PlainWindows(plain).on(t2v), prompts, one_prompt(), shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    # The texts matter: leading with the first prompt alone is another video.
    for prompt, segment in zip(prompts, timeline.segments, strict=True):
        prompt[0] = texts[segment.beat]
    leading = sampling.run(PlainWindows(plain).on(t2v), prompts, one_prompt(), shape)
    assert (found - leading).abs().max() > 1e-3


def test_every_transition_of_three_prompts_lies_between_its_neighbours(t2v: Any) -> None:
    timeline = timeline_of(beats=3, transitions=1)
    texts = [random_text(10 + beat) for beat in range(3)]
    shape = latent_shape(timeline)
    found = Sampling().run(share(t2v, timeline, OFF)[0], tagged(texts), one_prompt(), shape)
    plain, prompts = by_hand(timeline, texts)
    expected = Sampling().run(PlainWindows(plain).on(t2v), prompts, one_prompt(), shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("mix", "shown"), [(0.0, 0), (1.0, 1)])
def test_the_ends_of_the_mixture_are_the_two_prompts_bit_for_bit(t2v: Any, mix: float, shown: int) -> None:
    timeline = timeline_of(transitions=1)
    before, transition, after = timeline.segments
    end = replace(timeline, segments=(before, replace(transition, mix=mix), after))
    plain = replace(timeline, segments=(before, replace(transition, beat=shown, next_beat=None, mix=0.0), after))
    prompts = tagged([random_text(10), random_text(11)])
    found, expected = (
        Sampling().run(share(t2v, plan, OFF)[0], prompts, one_prompt(), latent_shape(timeline)) for plan in (end, plain)
    )
    assert torch.equal(found, expected)


def test_images_of_a_transition_are_sliced_to_its_frames() -> None:
    timeline, model = timeline_of(), tiny_wan(image_to_video=True)
    texts, extra, shape = [random_text(10), random_text(11)], image_conditioning(timeline), latent_shape(timeline)
    found = Sampling().run(share(model, timeline, OFF)[0], tagged(texts, **extra), one_prompt(**extra), shape)
    plain, prompts = by_hand(timeline, texts, **extra)
    expected = Sampling().run(PlainWindows(plain).on(model), prompts, one_prompt(**extra), shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_several_conditionings_of_a_prompt_are_paired_by_their_order(t2v: Any) -> None:
    """Two at once, weighted, and listed with the second prompt's first one in front."""
    timeline = timeline_of(transitions=1)
    pairs = [[random_text(10), random_text(11)], [random_text(20), random_text(21)]]
    weights = [0.75, 0.25]
    entries = [tagged(texts, strength=weight) for texts, weight in zip(pairs, weights, strict=True)]
    positive = [entries[0][1], entries[0][0], entries[1][0], entries[1][1]]
    shape = latent_shape(timeline)
    found = Sampling().run(share(t2v, timeline, OFF)[0], positive, one_prompt(), shape)
    expected_positive: list[Any] = []
    for texts, weight in zip(pairs, weights, strict=True):
        plain, prompts = by_hand(timeline, texts, strength=weight)
        expected_positive += prompts
    expected = Sampling().run(PlainWindows(plain).on(t2v), expected_positive, one_prompt(), shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_one_prompt_for_the_whole_video_stays_itself_in_transitions(t2v: Any) -> None:
    timeline = timeline_of()
    shape = latent_shape(timeline)
    found = Sampling().run(share(t2v, timeline, OFF, subject="")[0], one_prompt(10), one_prompt(), shape)
    expected = Sampling().run(PlainWindows(timeline).on(t2v), one_prompt(10), one_prompt(), shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_prompts_with_different_numbers_of_conditionings_are_refused(t2v: Any) -> None:
    timeline = timeline_of()
    positive = [*tagged([random_text(10), random_text(11)]), [random_text(12), {BEAT_TAG: 0}]]
    with pytest.raises(
        ValueError, match=r"prompt 1 has 2 conditionings and prompt 2 has 1,.*cut from one to the other"
    ):
        Sampling().run(share(t2v, timeline, OFF)[0], positive, one_prompt(), latent_shape(timeline))


# The interpolation.


def processed(**values: Any) -> dict[str, Any]:
    """An entry of the host's conditioning, with inputs of the model given by value."""
    kinds: dict[type, Callable[[Any], Any]] = {torch.Tensor: comfy.conds.CONDRegular, list: comfy.conds.CONDList}
    conds = {name: kinds.get(type(value), comfy.conds.CONDConstant)(value) for name, value in values.items()}
    return {"model_conds": conds, "uuid": uuid.uuid4(), "strength": 1.0}


def inputs(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: cond.cond for name, cond in entry["model_conds"].items()}


def between(first: dict[str, Any], second: dict[str, Any], mix: float) -> dict[str, Any]:
    """Conditioning between two prompts of Mochi, which has a text length."""
    return interpolate_conditioning(first, second, mix, MochiFamily.inputs)


@given(st.integers(1, 5), st.integers(1, 5), st.floats(0, 1), st.sampled_from([torch.float32, torch.float64]))
def test_text_is_interpolated_token_by_token(tokens: int, other_tokens: int, mix: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(tokens * 7 + other_tokens)
    first = torch.randn(2, tokens, 3, generator=generator, dtype=dtype)
    second = torch.randn(2, other_tokens, 3, generator=generator, dtype=dtype)
    found = inputs(between(processed(c_crossattn=first), processed(c_crossattn=second), mix))
    text = found["c_crossattn"]
    assert text.dtype == dtype
    for token in range(text.shape[1]):
        one = first[:, token] if token < tokens else torch.zeros(2, 3, dtype=dtype)
        other = second[:, token] if token < other_tokens else torch.zeros(2, 3, dtype=dtype)
        torch.testing.assert_close(text[:, token], (1 - mix) * one + mix * other)
    assert text.shape[1] == (tokens if mix == 0 else max(tokens, other_tokens))


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
def test_a_token_that_either_text_reads_is_read(dtype: torch.dtype) -> None:
    def mask(*read: int) -> torch.Tensor:
        """Floating point masks are added to the scores."""
        tokens = torch.tensor([read], dtype=torch.bool)
        return torch.zeros(tokens.shape).masked_fill(~tokens, -1e9) if dtype.is_floating_point else tokens.to(dtype)

    first = processed(c_crossattn=torch.zeros(1, 3, 2), attention_mask=mask(1, 0, 0))
    second = processed(c_crossattn=torch.ones(1, 5, 2), attention_mask=mask(0, 1, 0, 0, 1))
    for one, other in ((first, second), (second, first)):
        found = inputs(between(one, other, 0.5))["attention_mask"]
        assert torch.equal(found, mask(1, 1, 0, 0, 1))


@pytest.mark.parametrize("dtype", [torch.long, torch.float32])
def test_a_text_without_a_mask_is_read_whole(dtype: torch.dtype) -> None:
    unread = -1e9 if dtype.is_floating_point else 0
    read = 0 if dtype.is_floating_point else 1
    masked = processed(
        c_crossattn=torch.zeros(1, 4, 2), attention_mask=torch.tensor([[read, unread, unread, unread]], dtype=dtype)
    )
    whole = processed(c_crossattn=torch.ones(1, 2, 2))
    for one, other in ((masked, whole), (whole, masked)):
        found = inputs(between(one, other, 0.25))["attention_mask"]
        assert torch.equal(found, torch.tensor([[read, read, unread, unread]], dtype=dtype))
    assert "attention_mask" not in inputs(between(whole, whole, 0.25))


def test_other_inputs_are_interpolated_where_that_has_a_meaning() -> None:
    first = processed(
        y=torch.tensor([[1.0, 2.0]]),
        num_tokens=3,
        frame_rate=24,
        image=torch.zeros(1, 2),
        ids=torch.tensor([1]),
        latents=[torch.zeros(1, 2)],
        only_first=torch.zeros(1),
    )
    second = processed(
        y=torch.tensor([[5.0, 2.0]]),
        num_tokens=7,
        frame_rate=30,
        image=torch.zeros(1, 3),
        ids=torch.tensor([9]),
        latents=[torch.ones(1, 2)],
        only_second=torch.ones(1),
    )
    found = inputs(between(first, second, 0.25))
    own = inputs(first)
    assert torch.equal(found.pop("y"), torch.tensor([[2.0, 2.0]]))
    # Models drop the text behind this number of tokens, so the longer text's counts.
    assert found.pop("num_tokens") == 7
    assert set(found) == {"frame_rate", "image", "ids", "latents", "only_first"}
    assert all(found[name] is own[name] for name in found)


def test_an_image_that_both_prompts_have_stays_exact() -> None:
    image = torch.randn(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    found = between(processed(c_concat=image), processed(c_concat=image.clone()), 1 / 3)
    assert torch.equal(inputs(found)["c_concat"], image)


def test_interpolation_does_not_change_its_inputs() -> None:
    first = processed(c_crossattn=torch.zeros(1, 2, 2), attention_mask=torch.ones(1, 2))
    second = processed(c_crossattn=torch.ones(1, 3, 2))
    before = [(dict(entry["model_conds"]), inputs(entry)["c_crossattn"].clone()) for entry in (first, second)]
    between(first, second, 0.5)
    for entry, (conds, text) in zip((first, second), before, strict=True):
        assert entry["model_conds"] == conds
        assert torch.equal(inputs(entry)["c_crossattn"], text)


def test_mix_zero_is_the_first_prompt_bit_for_bit() -> None:
    """Also where arithmetic would not be: zero times infinity, and the sign of zero."""
    first = processed(c_crossattn=torch.tensor([[[-0.0, 1.0]]]), y=torch.tensor([[0.0]]))
    second = processed(c_crossattn=torch.ones(1, 4, 2), y=torch.tensor([[torch.inf]]))
    assert between(first, second, 0.0) == first


def test_names_of_mixtures_are_repeatable_and_all_different() -> None:
    entries = [processed(c_crossattn=torch.full((1, 2, 2), float(number))) for number in range(3)]
    combinations = [(0, 1, 0.25), (0, 1, 0.5), (1, 0, 0.5), (0, 2, 0.5), (2, 0, 0.25)]
    names, again = (
        [between(entries[one], entries[other], mix)["uuid"] for one, other, mix in combinations] for _ in range(2)
    )
    assert names == again
    assert len({*names, *(entry["uuid"] for entry in entries)}) == len(combinations) + len(entries)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("c_crossattn", (1, 4, 8), (1, 4, 16)),
        ("c_crossattn", (2, 4, 8), (1, 4, 8)),
        ("attention_mask", (2, 4), (1, 6)),
    ],
)
def test_texts_of_different_encoders_are_refused_by_name(
    name: str, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=rf"{name} has the shapes .*Encode all prompts with the same text encoder"):
        between(processed(**{name: torch.ones(first)}), processed(**{name: torch.ones(second)}), 0.5)
