"""The evaluation without a subject's words, in every model that the host runs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.prompt_words import PromptWords
from kvshare_core.record.record import KVShareRecord
from kvshare_core.script.film import Script, ScriptBeat, Subject
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.present import present
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling, random_text

MIXES_TEXT = {"hunyuan", "mochi", "kandinsky5", "ltx2", "minimax_h3"}
"""Families that mix the text's tokens among themselves, or into one, before the video sees them."""

CONFIG = KVShareConfig(masks=MaskSettings(thres=0.6), carry_image=False)


class Outputs:
    """What a model predicted: `plain` of the segments in turn, and `hidden` without the words of a subject."""

    def __init__(self) -> None:
        self.plain: list[torch.Tensor] = []
        self.hidden: list[tuple[int, torch.Tensor]] = []
        self.names: list[list[Any]] = []

    def on(self, model: Any) -> Any:
        """`model`, watched."""

        def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
            output = executor(*args, **kwargs)
            hides = args[5]["context_window"].hides
            self.names.append(args[5]["uuids"])
            if hides is None:
                self.plain.append(output.clone())
            else:
                self.hidden.append((hides, output.clone()))
            return output

        watched = model.clone()
        watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        return watched


def run(
    case: FamilyCase, timeline: Timeline, positive: list[Any], steps: int = 1, plan: SharePlan | None = None
) -> tuple[Outputs, KVShareRecord]:
    outputs = Outputs()
    patched, record = apply(model_of(case.name), plan or make_plan(timeline, CONFIG, "fox", None))
    case.run(Sampling(steps, cfg=1.0), outputs.on(patched), positive, case.negative(timeline), case.shape(timeline))
    return outputs, record


def with_other_text(positive: list[Any], tokens: tuple[int, ...]) -> list[Any]:
    """The same conditioning with something else at `tokens`."""
    changed: list[Any] = []
    for text, extra in positive:
        text = text.clone()
        text[:, list(tokens)] = torch.randn(text[:, list(tokens)].shape, generator=torch.Generator().manual_seed(7))
        changed.append([text, extra])
    return changed


@pytest.mark.parametrize("name", CASES)
def test_what_stands_in_place_of_hidden_words_changes_nothing(name: str) -> None:
    case = present(name)
    timeline = case.timeline(2)
    positive = case.positive(timeline)
    (found, record), (other, _) = (
        run(case, timeline, given) for given in (positive, with_other_text(positive, (0, 1)))
    )
    assert [subject for subject, _ in found.hidden] == [0]
    assert len(found.plain) == 2
    for place, ((_, without), (_, changed)) in enumerate(zip(found.hidden, other.hidden, strict=True)):
        effect = (without - found.plain[place]).abs().max()
        assert effect > 1e-5
        if case.family not in MIXES_TEXT:
            torch.testing.assert_close(changed, without, rtol=1e-4, atol=1e-5)
            assert (other.plain[place] - found.plain[place]).abs().max() > 1e-5
    recorded = record.latest()
    assert recorded is not None and recorded.segments is not None
    _, info = model_info(model_of(name))
    frames, height, width = info.grid(timeline.window, *case.latent[1:])
    for mask in recorded.segments.masks:
        assert mask is not None and mask.shape == (1, 1, frames * height * width)
        assert 0 < mask.float().mean() < 1


@pytest.mark.parametrize("name", ["wan t2v", "hunyuan video"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_first_segment_of_each_subject_is_evaluated_once_more_in_the_first_step_only(name: str, cfg: float) -> None:
    case = CASES[name]
    beats = (ScriptBeat("fox dog run"), ScriptBeat("fox dog run", subjects=(Subject("dog", "dog"),)))
    timeline = plan_timeline(Script(beats, subjects=(Subject("fox", "fox"), Subject("dog", "dog"))), 3, 1, 8, 4)
    words = PromptWords(("fox", "dog", "run"), ((0, 1), (2,), (3,)))
    timeline = replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))
    outputs = Outputs()
    patched, _ = apply(model_of(name), make_plan(timeline, CONFIG, "", None))
    Sampling(3, cfg=cfg).run(
        outputs.on(patched), case.positive(timeline), case.negative(timeline), case.shape(timeline)
    )
    assert [subject for subject, _ in outputs.hidden] == [0, 1]
    assert all(output.shape[0] == 1 for _, output in outputs.hidden)
    assert len({id for names in outputs.names for id in names if len(names) == 1}) >= 2


def test_evaluations_without_words_change_no_prediction() -> None:
    """With sharing off, and subjects followed all the same."""
    case, timeline = CASES["wan t2v"], tiny_timeline(3)
    found = [
        Sampling(2).run(
            share(model_of(case.name), timeline, replace(CONFIG, mode="off", masks=MaskSettings(start=start)))[0],
            case.positive(timeline),
            case.negative(timeline),
            case.shape(timeline),
        )
        for start in ("effect", "maps")
    ]
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("transition", ["blend", "route"])
def test_words_are_hidden_in_every_text_that_a_segment_sees(transition: str) -> None:
    case = CASES["wan t2v"]
    script = f"fox runs\n[{'segments 1' if transition == 'blend' else 'route 4f'}]\nfox runs"
    timeline = plan_timeline(parse_script(script), 3, 1, fps=8, temporal_compression=4)
    words = PromptWords(("fox", "runs"), ((0, 1), (2,)))
    timeline = replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))
    assert any(segment.next_beat is not None or segment.texts for segment in timeline.segments)
    positive = case.positive(timeline)
    (found, _), (other, _) = (run(case, timeline, given) for given in (positive, with_other_text(positive, (0, 1))))
    assert len(found.hidden) == 1
    for (_, without), (_, changed) in zip(found.hidden, other.hidden, strict=True):
        torch.testing.assert_close(changed, without, rtol=1e-4, atol=1e-5)


def test_what_a_step_cache_keeps_of_a_prompt_is_not_of_the_prompt_without_words() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    kept: list[Any] = []
    for start in ("effect", "maps"):
        cached = EasyCacheNode.execute(model_of(case.name), 0.9, 0.15, 0.95, False).result[0]
        config = KVShareConfig(mode="off", masks=MaskSettings(start=start))
        kept.append(
            Sampling(6).run(
                share(cached, timeline, config)[0],
                case.positive(timeline),
                case.negative(timeline),
                case.shape(timeline),
            )
        )
    assert torch.equal(kept[0], kept[1])


def test_a_prompt_of_other_nodes_is_named_and_left(caplog: pytest.LogCaptureFixture) -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    outputs = Outputs()
    patched, record = share(model_of(case.name), timeline, CONFIG)
    Sampling(2).run(outputs.on(patched), [[random_text(1), {}]], case.negative(timeline), case.shape(timeline))
    assert outputs.hidden == []
    assert record.latest() is None
    assert "Long Video Segmenter" in caplog.text


def test_segments_with_held_frames_are_found_by_maps_and_the_others_by_the_effect() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(3, overlap=0)
    mask = torch.ones(1, 1, *case.shape(timeline)[2:])
    mask[:, :, :4] = 0
    looked: list[int] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        window = args[5]["context_window"]
        if window.hides is not None:
            looked.append(window.segment.index)
        return executor(*args, **kwargs)

    patched, record = share(model_of(case.name), timeline, CONFIG)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    Sampling(2).run(
        patched,
        case.positive(timeline),
        case.negative(timeline),
        case.shape(timeline),
        latent=torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(7)),
        noise_mask=mask,
    )
    assert looked == [2]
    recorded = record.latest()
    assert recorded is not None and all(mask is not None for mask in recorded.segments.masks)


@pytest.mark.parametrize("changes", [{"mode": "off"}, {"strength": 0.0}])
def test_a_run_that_shares_nothing_evaluates_no_segment_twice_and_still_shows_the_subject(
    changes: dict[str, Any],
) -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    plan = make_plan(timeline, replace(CONFIG, **changes), "fox", None)
    found, record = run(case, timeline, case.positive(timeline), steps=2, plan=plan)
    assert (len(found.plain), found.hidden) == (4, [])
    assert record.latest() is not None
