"""What a script says about its beats' texts reaches the segments of each beat, on the real host."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from comfy_extras.nodes_custom_sampler import BasicScheduler, DualCFGGuider, KSamplerSelect, SamplerCustomAdvanced

from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.clip import load_text_encoder
from kvshare_core.embedded.text import WORD_WIDTH
from kvshare_core.embedded.vocabulary import WORDS
from kvshare_core.host import BEAT_TAG, NEGATIVE_TAG
from kvshare_core.host.conditioning import encode, encode_timeline
from kvshare_core.script import Script, ScriptBeat
from kvshare_core.timeline import Timeline, plan_timeline
from tests.family_cases import CASES, FamilyCase, model_of
from tests.family_contracts import SHARED, sample
from tests.tiny_models import Sampling
from tests.windows import PlainWindows, share, tiny_timeline

OFF = KVShareConfig(mode="off")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
