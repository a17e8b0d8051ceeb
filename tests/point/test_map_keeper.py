"""Kept attention maps equal those of dense attention in float64, and only what is asked for is kept."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.bank.bank import Chunk
from kvshare_core.config import KVShareConfig, MapSettings
from kvshare_core.families.base import CallSite
from kvshare_core.forward.forward import Forward
from kvshare_core.plan.schedule import Evaluation
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.point import map_keeper
from kvshare_core.point.map_keeper import UNKNOWN_WORDS, chosen
from kvshare_core.prompt_words import PromptWords
from kvshare_core.record.kept_maps import KeptMap
from kvshare_core.record.record import KVShareRecord, RunOrigin
from kvshare_core.script.film import Duration, Script, ScriptBeat, Transition
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.fake_family import COND, SIGMAS, UNCOND, FakeModel, joint, self_and_cross
from tests.support.family_cases import CASES, model_of
from tests.support.windows import share
from tests.tiny.models import Sampling

GRID = (3, 2, 2)
VIDEO, PLACES = 12, 4
WORDS = (PromptWords(("red", "fox"), ((1,), (2, 3))), PromptWords(("dog",), ((2,),)))


def film(transition: Transition | None = None, beats: int = 1) -> Timeline:
    """Beats of one segment of three frames each and what lies between them, every prompt with words of its own."""
    said = tuple(ScriptBeat(f"prompt {beat}", None, transition if beat else None) for beat in range(beats))
    timeline = plan_timeline(Script(said), 3, 1, 8, 4)
    return replace(timeline, beats=tuple(replace(one, words=WORDS[n]) for n, one in enumerate(timeline.beats)))


def keeping(maps: MapSettings, timeline: Timeline | None = None, **config: Any) -> SharePlan:
    return SharePlan(timeline or film(), KVShareConfig(**{"mode": "off", **config}, maps=maps))


def kept_by(model: FakeModel, steps: Sequence[int] = (3,)) -> tuple[KeptMap, ...]:
    session = model.session()
    for step in steps:
        model.run_pass(session, step=step)
    return session.kept_maps


def dense(model: FakeModel, call: int, mask: torch.Tensor | None = None, segment: int = 0) -> torch.Tensor:
    """What every query attends to in a call, [queries, keys], mean over heads; float64."""
    query, key, _ = model.tensors(segment, "plain", call, COND, 0)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = query @ key.transpose(-1, -2) * model.head_dim**-0.5
    return (scores if mask is None else scores + mask)[0].softmax(-1).mean(0)


def close(found: torch.Tensor | None, expected: torch.Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found[0].double(), expected, rtol=0, atol=1e-6)


def word_sums(attended: torch.Tensor, text: int) -> torch.Tensor:
    """[..., words] of [..., keys]: red is one token, fox two."""
    return torch.stack([attended[..., text + 1], attended[..., text + 2] + attended[..., text + 3]], -1)


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("video_start", [0, 5])
def test_every_map_of_a_joint_model_is_a_part_of_its_attention(
    monkeypatch: pytest.MonkeyPatch, video_start: int, few: bool
) -> None:
    """few: of queries computed at once."""
    if few:
        monkeypatch.setattr(map_keeper, "SCORES_AT_ONCE", 3 * 4 * 17)
    text = 0 if video_start else VIDEO
    mask = torch.zeros(VIDEO + 5, dtype=torch.float64)
    mask[text + 4], mask[text + 2] = -torch.inf, -0.7
    plan = keeping(MapSettings("all", layer_idx=(0, 1)))
    model = FakeModel(plan, joint(2, video_start, text), GRID, outside=5, text_tokens=5, heads=(4, 2))
    model.masks = {COND: mask, UNCOND: torch.zeros_like(mask)}
    kept = kept_by(model)
    assert [(one.segment, one.step, one.block) for one in kept] == [(0, 3, 0), (0, 3, 1)]
    for one in kept:
        attended = dense(model, one.block, mask)
        video = attended[video_start : video_start + VIDEO]
        assert one.words == ((0, "red"), (0, "fox"))
        close(one.text_video, word_sums(video, text).T.reshape(2, *GRID))
        words = word_sums(attended[[text + 1, text + 2, text + 3]], text)
        close(one.text_text, torch.stack([words[0], words[1:].mean(0)]))
        among = video[:, video_start : video_start + VIDEO].reshape(3, PLACES, 3, PLACES)
        close(one.spatial, torch.stack([among[frame, :, frame] for frame in range(3)]).mean(0))
        close(one.temporal, among.sum(3).mean(1))


def test_a_model_with_attention_of_its_own_to_text_gives_each_map_where_it_is_computed() -> None:
    model = FakeModel(keeping(MapSettings("all", layer_idx=(1,))), self_and_cross(2), GRID, text_tokens=5)
    (one,) = kept_by(model)
    close(one.text_video, word_sums(dense(model, 3), 0).T.reshape(2, *GRID))
    among = dense(model, 2).reshape(3, PLACES, 3, PLACES)
    close(one.temporal, among.sum(3).mean(1))
    close(one.temporal.sum(-1) if one.temporal is not None else None, torch.ones(3).double())
    close(one.spatial, torch.stack([among[frame, :, frame] for frame in range(3)]).mean(0))
    assert one.text_text is None


@pytest.mark.parametrize(
    ("keep", "kinds"),
    [("none", None), ("words", {"text_video", "text_text"}), ("video", {"spatial", "temporal"})],
)
def test_only_what_is_asked_for_is_kept(keep: Any, kinds: set[str] | None) -> None:
    model = FakeModel(keeping(MapSettings(keep)), joint(1, 0, VIDEO), GRID, outside=5, text_tokens=5)
    kept = kept_by(model)
    assert [set(one.found()) for one in kept] == ([] if kinds is None else [kinds])


def test_named_steps_and_blocks_are_kept_else_every_fifth_and_the_last() -> None:
    model = FakeModel(keeping(MapSettings("video", (0, 2), (1, 7))), joint(3, 0, VIDEO), GRID, outside=5)
    assert [(one.step, one.block) for one in kept_by(model, range(4))] == [(0, 1), (2, 1)]
    usual = FakeModel(keeping(MapSettings("video")), joint(7, 0, VIDEO), GRID, outside=5)
    assert [(one.step, one.block) for one in kept_by(usual, range(4))] == [(3, 4), (3, 6)]
    assert chosen((), 20) == {4, 9, 14, 19} and chosen((), 3) == {2} and chosen((1, 30), 20) == {1}


def test_every_video_of_a_batch_and_every_segment_has_maps_and_the_prompt_s_rows_count() -> None:
    timeline = film(Transition("cut"), beats=2)
    model = FakeModel(
        keeping(MapSettings("words"), timeline), joint(1, 0, VIDEO), GRID, rows=2, outside=5, chunks=(UNCOND, COND),
        text_tokens=5,
    )  # fmt: skip
    kept = kept_by(model)
    assert [(one.segment, one.words) for one in kept] == [(0, ((0, "red"), (0, "fox"))), (1, ((1, "dog"),))]
    for one in kept:
        assert one.text_video is not None and one.text_video.shape == (2, len(one.words), *GRID)
    close(kept[0].text_video, word_sums(dense(model, 0)[:VIDEO], VIDEO).T.reshape(2, *GRID))
    assert kept_by(replace(model, chunks=(UNCOND,))) == ()


def test_words_that_are_not_known_have_no_maps() -> None:
    timeline = film()
    for words in (None, PromptWords(("fox",), ((99,),))):
        unknown = replace(timeline, beats=(replace(timeline.beats[0], words=words),))
        model = FakeModel(keeping(MapSettings("words"), unknown), joint(1, 0, VIDEO), GRID, outside=5, text_tokens=5)
        assert kept_by(model) == () and model.warnings == [UNKNOWN_WORDS]


def test_a_segment_between_two_prompts_has_the_words_of_both() -> None:
    timeline = film(Transition("segments", segments=1), beats=2)
    model = FakeModel(keeping(MapSettings("words"), timeline), joint(1, 0, VIDEO), GRID, outside=5, text_tokens=5)
    (between,) = (one for one in kept_by(model) if one.segment == 1)
    assert between.words == ((0, "red"), (0, "fox"), (1, "dog"))
    attended = dense(model, 0, segment=1)[:VIDEO]
    columns = torch.cat([word_sums(attended, VIDEO), attended[:, [VIDEO + 2]]], 1)
    close(between.text_video, columns.T.reshape(3, *GRID))


class Routed(FakeModel):
    """Its conditioning has the texts of both beats one behind the other, of five and four tokens, twice over."""

    def open_forward(
        self,
        session: SamplingRun,
        evaluation: Evaluation,
        chunks: tuple[Chunk, ...] | None = None,
        hides: int | None = None,
        **text: Any,
    ) -> Forward | None:
        routes = {0: (5, 4)} if evaluation.segment.texts else {}
        return super().open_forward(session, evaluation, chunks, hides, routes=routes, **text)


def test_every_frame_of_a_routed_segment_weighs_its_texts() -> None:
    timeline = film(Transition("route", Duration(2, "latent frames")), beats=2)
    sites = [CallSite(0, "self"), CallSite(0, "cross")]
    model = Routed(keeping(MapSettings("words"), timeline), sites, GRID, text_tokens=18, chunks=(COND,))
    segment = timeline.segments[0]
    (one,) = (one for one in kept_by(model) if one.segment == 0)
    assert one.words == ((0, "red"), (0, "fox"), (1, "dog"))
    bias = torch.empty(3, 18, dtype=torch.float64)
    for frame in range(3):
        logs = [math.log(weight) if weight else -math.inf for weight in (text.weights[frame] for text in segment.texts)]
        bias[frame] = torch.tensor(([logs[0]] * 5 + [logs[1]] * 4) * 2)
    attended = dense(model, 1, bias.repeat_interleave(PLACES, 0))
    once = attended[:, :9] + attended[:, 9:]
    close(one.text_video, torch.cat([word_sums(once, 0), once[:, [5 + 2]]], 1).T.reshape(3, *GRID))


def test_the_first_evaluation_in_a_step_counts_and_guidance_that_perturbs_the_model_does_not() -> None:
    model = FakeModel(keeping(MapSettings("video", (0,))), joint(1, 0, VIDEO), GRID, outside=5)
    session = model.session()
    model.run_pass(session, step=0)
    (first,) = session.kept_maps
    assert first.temporal is not None
    # A second-order sampler calls the model again between two sigmas, guidance at the same one.
    for sigma in (SIGMAS[0] - 0.01, SIGMAS[0] - 0.01):
        model.step = 7
        for evaluation in session.begin_pass(sigma, SIGMAS):
            session.begin_evaluation(evaluation)
            model.forward(session, evaluation, model.chunks)
        session.end_pass()
    (still,) = session.kept_maps
    assert still.temporal is not None and torch.equal(still.temporal, first.temporal)


def test_maps_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_keeper, "MOST_BYTES", 4 * (PLACES**2 + 9) * 2 * 3 - 1)
    plan = keeping(MapSettings("video", (0, 1), (0, 1, 2)))
    model = FakeModel(plan, joint(3, 0, VIDEO), GRID, outside=5)
    with pytest.raises(ValueError, match="keep_maps: the maps of 2 steps, 3 blocks and 1 segments"):
        kept_by(model, [0])
    monkeypatch.setattr(map_keeper, "MOST_BYTES", 4 * (PLACES**2 + 9) * 2 * 3)
    assert len(kept_by(model, [0])) == 3


def test_nothing_stays_after_a_run() -> None:
    model = FakeModel(keeping(MapSettings("all")), joint(1, 0, VIDEO), GRID, outside=5, text_tokens=5)
    session = model.session()
    model.run_pass(session, step=3)
    assert session.kept_maps
    session.close()
    assert session.kept_maps == ()


@pytest.mark.parametrize("block", [GRID, (3, 1, 2)])
def test_frames_that_are_rows_have_maps_within_each_frame(block: tuple[int, int, int]) -> None:
    """A class token stands in front of every frame; a block may have a grid of its own."""
    places = block[1] * block[2]
    sites = [
        CallSite(0, "self", video_start=1, grid=block, frames_as_rows=True),
        CallSite(0, "cross", grid=block, frames_as_rows=True),
    ]
    model = FakeModel(keeping(MapSettings("all")), sites, GRID, rows=2, outside=1, text_tokens=5)
    (one,) = kept_by(model)
    assert one.temporal is None and one.text_text is None
    for latent in range(2):
        spatial, words = torch.zeros(places, places).double(), torch.zeros(2, *block).double()
        for frame in range(3):
            query, key, _ = model.tensors(0, "plain", 0, COND, latent)
            attended = (query[frame] @ key[frame].transpose(-1, -2) / 2).softmax(-1).mean(0)
            spatial += attended[1:, 1:] / 3
            query, key, _ = model.tensors(0, "plain", 1, COND, latent)
            attended = (query[frame] @ key[frame].transpose(-1, -2) / 2).softmax(-1).mean(0)
            words[:, frame] = word_sums(attended, 0).T.reshape(2, *block[1:])
        assert one.spatial is not None and one.text_video is not None
        torch.testing.assert_close(one.spatial[latent].double(), spatial, rtol=0, atol=1e-6)
        torch.testing.assert_close(one.text_video[latent].double(), words, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["wan t2v", "hunyuan video", "vit3d"])
def test_keeping_maps_changes_nothing_and_every_model_has_them(name: str) -> None:
    case = CASES[name]
    timeline = case.timeline(2)
    outputs: list[torch.Tensor] = []
    for maps in (MapSettings(), MapSettings("all", (1,))):
        model, record = share(model_of(name), timeline, KVShareConfig(share_background=True, maps=maps))
        outputs.append(
            case.run(Sampling(), model, case.positive(timeline), case.negative(timeline), case.shape(timeline))
        )
    assert torch.equal(*outputs)
    kept = record.findings().maps
    assert {(one.segment, one.step) for one in kept} == {(0, 1), (1, 1)}
    assert any(one.text_video is not None and one.text_video.sum() > 0 for one in kept)
    assert all(one.spatial is not None for one in kept)
    assert all(one.words == ((one.segment, "fox"), (one.segment, "runs")) for one in kept if one.words)


def test_a_record_keeps_the_maps_of_its_newest_run_only() -> None:
    record, kept = KVShareRecord(), (KeptMap(0, 0, 0, temporal=torch.eye(2)[None]),)
    record.put(None, None, origin=RunOrigin("one"), maps=kept)
    record.put(None, None, origin=RunOrigin("two"), notices=["said"], maps=kept)
    assert record.findings().maps == kept
    assert [found.maps for found in record._runs.values()] == [(), kept]
