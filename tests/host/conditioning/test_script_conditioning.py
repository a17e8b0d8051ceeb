"""Prompts, negatives and weights of a script reach the segments of their beats, on the real host."""

import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from comfy.model_management import InterruptProcessingException, interrupt_current_processing
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import BasicScheduler, DualCFGGuider, KSamplerSelect, SamplerCustomAdvanced
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from kvshare_core.config import KVShareConfig, MaskKind, MaskSettings
from kvshare_core.embedded.clip import load_text_encoder
from kvshare_core.embedded.text import WORD_WIDTH
from kvshare_core.embedded.vocabulary import WORDS
from kvshare_core.host import BEAT_TAG, COMMON_TAG, KEY, NEGATIVE_TAG, is_prompt
from kvshare_core.host.conditioning.encoding import encode, encode_timeline
from kvshare_core.script.film import Script, ScriptBeat
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.windows import PlainWindows, share, tiny_timeline
from tests.tiny.models import Sampling

OFF = KVShareConfig(mode="off")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The embedded text encoder with random words."""
    file: Path = tmp_path_factory.mktemp("weights") / "text_encoder.safetensors"
    words = torch.randn(len(WORDS), WORD_WIDTH, generator=torch.Generator().manual_seed(0))
    safetensors.torch.save_file({"words": words}, str(file))
    return load_text_encoder(file)


@pytest.fixture(params=["wan t2v", "hunyuan video"])
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return CASES[request.param]


def timeline_of(*beats: ScriptBeat, **script: Any) -> Timeline:
    return plan_timeline(Script(beats, **script), 3, 1, fps=8, temporal_compression=4)


def same_entries(found: list[Any], expected: list[Any]) -> bool:
    """Whether both are the same texts in the same order, tags aside."""
    return len(found) == len(expected) and all(
        torch.equal(one[0], other[0]) for one, other in zip(found, expected, strict=True)
    )


def test_the_user_can_interrupt_between_two_prompts(clip: Any) -> None:
    encoded: list[str] = []

    def encode_text(text: str) -> list[Any]:
        encoded.append(text)
        interrupt_current_processing()
        return encode(clip, text)

    with pytest.raises(InterruptProcessingException):
        encode_timeline(clip, timeline_of(ScriptBeat("a"), ScriptBeat("red"), ScriptBeat("circle")), "", encode_text)
    assert encoded == ["a"]


# Negative prompts.


@pytest.mark.parametrize(("said", "expected"), [("", "a blue square"), ("a green circle", "a green circle")])
def test_one_negative_prompt_for_all_beats_is_not_tagged(clip: Any, said: str, expected: str) -> None:
    timeline = timeline_of(ScriptBeat("a red circle"), ScriptBeat("a red square"), negative=said)
    _, positive, negative = encode_timeline(clip, timeline, "a blue square")
    assert [extra[BEAT_TAG] for _, extra in positive] == [0, 1]
    assert same_entries(negative, encode(clip, expected))
    assert not any(BEAT_TAG in extra for _, extra in negative)


def test_beats_with_negative_prompts_of_their_own_have_tagged_ones(clip: Any) -> None:
    beats = (
        ScriptBeat("a red circle", negative="grass"),
        ScriptBeat("a red square", negative=""),
        ScriptBeat("a cross"),
    )
    _, positive, negative = encode_timeline(clip, timeline_of(*beats), "a blue square")
    expected = [entry for text in ("grass", "", "a blue square") for entry in encode(clip, text)]
    assert same_entries(negative, expected)
    assert [extra[BEAT_TAG] for _, extra in negative] == [0, 1, 2]
    assert all(NEGATIVE_TAG in extra for _, extra in negative)
    assert not any(NEGATIVE_TAG in extra for _, extra in positive)


def test_negative_prompts_of_all_beats_are_no_prompts(clip: Any) -> None:
    _, positive, negative = encode_timeline(clip, timeline_of(ScriptBeat("a red circle")), "")
    assert [is_prompt(extra) for _, extra in positive + negative] == [True, False]


def tagged_negatives(case: FamilyCase, timeline: Timeline, seeds: tuple[int, ...]) -> list[Any]:
    """A negative prompt of its own for every beat; 99 is the seed of the case's one for all."""
    texts = [case.text(seed, 6) for seed in seeds]
    return [[text, {**extra, BEAT_TAG: beat, NEGATIVE_TAG: True}] for beat, (text, extra) in enumerate(texts)]


def test_every_segment_is_guided_away_from_its_own_negative_prompt(case: FamilyCase) -> None:
    timeline = tiny_timeline(2, overlap=0)
    negative = tagged_negatives(case, timeline, (98, 99))
    shape, model = case.shape(timeline), model_of(case.name)
    found = Sampling().run(share(model, timeline, OFF)[0], case.positive(timeline), negative, shape)
    expected = Sampling().run(PlainWindows(timeline).on(model), case.positive(timeline), negative, shape)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    one = sample(case, share(model, timeline, OFF)[0], timeline)
    torch.testing.assert_close(found[:, :, 3:], one[:, :, 3:], rtol=1e-4, atol=1e-4)
    assert (found[:, :, :3] - one[:, :, :3]).abs().max() > 1e-3 * one.abs().max()


@pytest.mark.parametrize("uncond", [True, False])
@pytest.mark.parametrize("guider", ["cfg", "dual"])
def test_tagged_negatives_are_not_taken_for_prompts(case: FamilyCase, guider: str, uncond: bool) -> None:
    """In whatever order a guider lists them: equal ones for every beat are one for all, masks and sharing included."""
    timeline = tiny_timeline(2)
    positive, shape = case.positive(timeline), case.shape(timeline)
    results: list[torch.Tensor] = []
    for negative in (case.negative(timeline), tagged_negatives(case, timeline, (99, 99))):
        patched, record = share(model_of(case.name), timeline, replace(SHARED, share_uncond=uncond))
        if guider == "cfg":
            results.append(Sampling(steps=3).run(patched, positive, negative, shape))
        else:
            results.append(sample_dual(patched, positive, negative, shape))
        found = record.latest()
        assert found is not None
        results.append(found.heat)
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])


def sample_dual(model: Any, positive: list[Any], negative: list[Any], shape: tuple[int, ...]) -> torch.Tensor:
    """Under a guider that lists the negative prompt first."""
    noise = FixedNoise(torch.randn(shape, generator=torch.Generator().manual_seed(5)))
    guider = DualCFGGuider.execute(model, positive, positive, negative, 2.0, 3.0, "regular").result[0]
    sigmas = BasicScheduler.execute(model, "simple", 3, 1.0).result[0]
    sampler = KSamplerSelect.execute("euler").result[0]
    with torch.inference_mode():
        node = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, {"samples": torch.zeros(shape)})
    return node.result[0]["samples"]


class FixedNoise:
    """A NOISE that is given."""

    seed = 5

    def __init__(self, noise: torch.Tensor):
        self.noise = noise

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        return self.noise


# A common prompt.


def test_a_common_prompt_holds_until_the_beats_own_do(clip: Any) -> None:
    beats = (ScriptBeat("a red circle"), ScriptBeat("a red square"))
    timeline = timeline_of(*beats, common_prompt="a circle", common_until=0.25)
    located, positive, negative = encode_timeline(clip, timeline, "")
    assert same_entries(
        positive, [entry for text in ("a circle", *("a red circle", "a red square")) for entry in encode(clip, text)]
    )
    assert [(extra.get(BEAT_TAG), extra.get("start_percent"), extra.get("end_percent")) for _, extra in positive] == [
        (None, None, 0.25),
        (0, 0.25, None),
        (1, 0.25, None),
    ]
    assert same_entries(negative, encode(clip, "")) and "start_percent" not in negative[0][1]
    assert all(beat.words is not None and "red" in beat.words.words for beat in located.beats)


@pytest.mark.parametrize("script", [{"common_prompt": "a circle", "common_until": 0.0}, {}])
def test_without_a_common_part_there_is_no_common_prompt(clip: Any, script: dict[str, Any]) -> None:
    timeline = timeline_of(ScriptBeat("a red circle"), **script)
    _, positive, _ = encode_timeline(clip, timeline, "")
    assert [set(extra) & {"start_percent", "end_percent", COMMON_TAG} for _, extra in positive] == [set()]


def with_common(case: FamilyCase, timeline: Timeline, until: float) -> list[Any]:
    text, extra = case.text(50, 6)
    own = [[tensor, {**values, "start_percent": until}] for tensor, values in case.positive(timeline)]
    return [*own, [text, {**extra, COMMON_TAG: True, "end_percent": until}]]


def shift_one(model: Any) -> Any:
    """Noise levels that are what is left of the schedule, so that a step can lie exactly where a prompt ends."""
    return ModelSamplingSD3().patch(model, 1.0)[0]


@pytest.mark.parametrize("until", [0.3, 0.5, 1.0])
def test_every_step_has_the_common_prompt_or_the_beats_own(case: FamilyCase, until: float) -> None:
    """Steps at 1.0, 0.75, 0.5 and 0.25 of the noise."""
    timeline = tiny_timeline(2)
    model, shape = shift_one(model_of(case.name)), case.shape(timeline)
    sigmas = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    texts: list[tuple[float, int, list[float]]] = []

    def look(
        executor: Any, x: Any, t: Any, c_concat: Any = None, c_crossattn: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        texts.append((float(t[0]), x.shape[0], sorted(float(row.sum()) for row in c_crossattn)))
        return executor(x, t, c_concat, c_crossattn, *args, **kwargs)

    patched = share(model, timeline, OFF)[0]
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    run = Sampling(steps=4, cfg=1.0).run
    found = run(patched, with_common(case, timeline, until), case.negative(timeline), shape, sigmas=sigmas)
    assert {rows for _, rows, _ in texts} == {1}
    early = {tuple(text) for sigma, _, text in texts if sigma > 1 - until}
    late = {tuple(text) for sigma, _, text in texts if sigma <= 1 - until}
    assert len(early) == 1 and len(late) == (0 if until == 1.0 else 2) and not early & late
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("kind", ["contrast", "threshold"])
def test_the_subject_is_found_once_the_beats_own_prompts_hold(
    case: FamilyCase, kind: MaskKind, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then nothing is read, shared or complained about."""
    timeline = tiny_timeline(2)
    model, shape = shift_one(model_of(case.name)), case.shape(timeline)
    config = replace(SHARED, masks=MaskSettings(kind=kind))
    shared_at: dict[float, int] = {}

    def look(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        output = executor(x, t, *args, **kwargs)
        shared_at[float(t[0])] = args[3][KEY].run.shared_calls
        return output

    patched, record = share(model, timeline, config)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    positive, sigmas = with_common(case, timeline, 0.4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    found = Sampling(steps=4).run(patched, positive, case.negative(timeline), shape, sigmas=sigmas)
    off = Sampling(steps=4).run(share(model, timeline, OFF)[0], positive, case.negative(timeline), shape, sigmas=sigmas)
    assert shared_at[1.0] == shared_at[0.75] == 0 < shared_at[0.25]
    assert not torch.equal(found, off)
    masks = record.latest()
    assert masks is not None and 0 < float(masks.mask.mean()) < 1
    assert not [line for line in caplog.records if line.name == "kvshare" and line.levelno >= logging.WARNING]


@pytest.mark.parametrize("uncond", [True, False])
def test_sharing_without_a_subject_goes_on_through_the_common_part(case: FamilyCase, uncond: bool) -> None:
    timeline = tiny_timeline(2)
    model, shape = shift_one(model_of(case.name)), case.shape(timeline)
    shared_at: dict[float, int] = {}

    def look(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        output = executor(x, t, *args, **kwargs)
        shared_at[float(t[0])] = args[3][KEY].run.shared_calls
        return output

    patched = share(model, timeline, KVShareConfig(share_uncond=uncond), subject="")[0]
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    positive, sigmas = with_common(case, timeline, 0.4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    Sampling(steps=4).run(patched, positive, case.negative(timeline), shape, sigmas=sigmas)
    counts = [0, *(shared_at[sigma] for sigma in (1.0, 0.75, 0.5, 0.25))]
    assert {after - before for before, after in pairwise(counts)} == {counts[1]} and counts[1] > 0


def test_a_common_prompt_does_not_stand_for_a_missing_beat(case: FamilyCase) -> None:
    timeline = tiny_timeline(3)
    positive = [entry for entry in with_common(case, timeline, 0.4) if entry[1].get(BEAT_TAG) != 1]
    with pytest.raises(ValueError, match=r"has prompts 1, 3, but the timeline has 3 of them"):
        Sampling().run(
            share(model_of(case.name), timeline, OFF)[0], positive, case.negative(timeline), case.shape(timeline)
        )
