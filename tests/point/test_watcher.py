"""Attention of one chosen point equals the rows of the model's own attention that belong to it: over the video, over
each frame and over words; and attention between words."""

import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.bank.bank import Chunk
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import CallSite
from kvshare_core.forward.forward import Forward
from kvshare_core.host import COMMON_TAG
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.schedule import Evaluation
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.prompt_words import PromptWords
from kvshare_core.record.look_point import LookPoint
from kvshare_core.record.record import RecordedPoint, RecordedText
from kvshare_core.script.film import Duration, Script, ScriptBeat, Transition
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.fake_family import COND, UNCOND, FakeModel, joint, self_and_cross
from tests.support.pretend_cuda import CUDA, pretending
from tests.support.windows import beat_prompts, joint_beat_prompts, latent_shape, tiny_timeline
from tests.tiny.models import Sampling, joint_text, one_prompt, tiny_hunyuan, tiny_wan

OFF = KVShareConfig(mode="off")
FOX, RUNS = [0, 1], [2]
"""Tokens of the words of every prompt."""


@pytest.fixture(scope="module", params=["wan", "hunyuan"])
def family(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, tiny_wan() if request.param == "wan" else tiny_hunyuan()


def look(
    family: tuple[str, Any],
    point: LookPoint,
    spy: Any = None,
    batch: int = 1,
    timeline: Timeline | None = None,
    conditioning: list[Any] | None = None,
) -> RecordedPoint | None:
    """One step over two segments without sharing, with `spy` behind the pack's own attention."""
    name, model = family
    timeline = timeline or tiny_timeline(2, overlap=0)
    model = model.clone()
    if spy is not None:
        model.model_options["transformer_options"]["optimized_attention_override"] = spy
    plan = replace(make_plan(timeline, OFF, "", None), look=point)
    patched, record = apply(model, plan)
    tensor, extra = joint_text(99, 7)
    told = conditioning or (joint_beat_prompts(timeline) if name == "hunyuan" else beat_prompts(timeline))
    negative = [[tensor, dict(extra)]] if name == "hunyuan" else one_prompt()
    Sampling(steps=1).run(patched, told, negative, latent_shape(timeline, batch))
    return record.latest_point()


class DenseLooks:
    """An attention override that keeps in float64 what the query `token` of the video looks at in every block of each
    segment, [batch, ...] of the rows with the prompt: its `video`, its `words`, and the words `between` each other."""

    def __init__(self, family: tuple[str, Any], token: dict[int, int], batch: int = 1):
        blocks = getattr(family[1].model.diffusion_model, "double_blocks", None)
        self.joint = blocks is not None
        self.text_first = blocks is not None and not getattr(blocks[0], "flipped_img_txt", False)
        self.token = token
        self.batch = batch
        self.video: dict[int, list[torch.Tensor]] = defaultdict(list)
        self.words: dict[int, list[torch.Tensor]] = defaultdict(list)
        self.between: dict[int, list[torch.Tensor]] = defaultdict(list)

    def __deepcopy__(self, memo: dict[int, Any]) -> "DenseLooks":
        return self

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        query, key = args[:2]
        options = kwargs["transformer_options"]
        if not kwargs.get("skip_reshape"):
            query, key = (part.unflatten(-1, (kwargs["heads"], -1)).transpose(1, 2) for part in (query, key))
        segment, tokens = options["context_window"].segment.index, query.shape[2]
        if segment in self.token and tokens >= 27:
            first = options["cond_or_uncond"].index(0) * self.batch
            rows = slice(first, first + self.batch)
            scores = query[rows].double() @ key[rows].double().transpose(-1, -2) * query.shape[-1] ** -0.5
            start = tokens - 27 if self.text_first else 0
            self._keep(segment, scores, start, 0 if self.text_first or tokens != key.shape[2] else 27)
        return function(*args, **kwargs)

    def _keep(self, segment: int, scores: torch.Tensor, video: int, text: int) -> None:
        own = scores[:, :, video + self.token[segment]]
        places = [text + token for token in FOX + RUNS]
        if self.joint or scores.shape[2] == scores.shape[3]:
            self.video[segment].append(own[..., video : video + 27].softmax(-1).mean(1))
        if self.joint:
            self.words[segment].append(of_words(own.softmax(-1)[..., places].mean(1)))
            among = scores[:, :, places][..., places].softmax(-1).mean(1)
            by_word = of_words(among)
            self.between[segment].append(torch.stack([by_word[:, FOX].mean(1), by_word[:, 2]], 1))
        elif scores.shape[2] != scores.shape[3]:
            self.words[segment].append(of_words(own[..., places].softmax(-1).mean(1)))


def of_words(tokens: torch.Tensor) -> torch.Tensor:
    """Probabilities of the tokens of fox and runs, in their order, as those of the two words."""
    return torch.stack([tokens[..., :2].sum(-1), tokens[..., 2]], -1)


def mean(blocks: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(blocks).mean(0)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_everything_is_a_row_of_the_attention(family: tuple[str, Any], batch: int) -> None:
    """Picture 13 is latent frame 4, the second of segment 1; (0.5, 0.9) is the token in row 2, column 1 of 3 x 3."""
    dense = DenseLooks(family, {1: 9 + 2 * 3 + 1}, batch)
    found = look(family, LookPoint(0.5, 0.9, 13), dense, batch)
    assert found is not None
    expected = mean(dense.video[1]).reshape(batch, 3, 3, 3)
    highest = expected.amax(dim=(1, 2, 3), keepdim=True)
    close(found.heat[:, 3:], expected / highest)
    assert (found.heat[:, :3] == 0).all() and (found.frames[:, :3] == 0).all()
    close(found.frames[:, 3:], expected.sum((2, 3)))
    close(found.own_heat[:, 4], expected[:, 1] / expected[:, 1].amax(dim=(1, 2), keepdim=True))
    assert (found.own_heat[:, [0, 1, 2, 3, 5]] == 0).all()
    (text,) = found.texts
    assert (text.segment, text.beat, text.weight, text.words) == (1, 1, 1.0, ("fox", "runs"))
    close(text.looks, mean(dense.words[1]))
    if family[0] == "wan":
        assert text.between is None
        close(text.looks.sum(-1), torch.ones(batch).double())
    else:
        assert text.between is not None
        close(text.between, mean(dense.between[1]))
        close(text.between.sum(-1), torch.ones(batch, 2).double())
        assert (text.looks.sum(-1) < 1).all()


def test_a_point_that_two_segments_share_has_both_their_words_and_one_sum_of_frames(family: tuple[str, Any]) -> None:
    """Latent frame 2 is the last of segment 0 and the first of segment 1."""
    timeline = tiny_timeline(2)
    dense = DenseLooks(family, {0: 2 * 9, 1: 0})
    found = look(family, LookPoint(0, 0, 5), dense, timeline=timeline)
    assert found is not None
    assert [(text.segment, text.beat) for text in found.texts] == [(0, 0), (1, 1)]
    for text in found.texts:
        close(text.looks, mean(dense.words[text.segment]))
    expected = torch.zeros(1, 5).double()
    for segment, start in ((0, 0), (1, 2)):
        expected[:, start : start + 3] += mean(dense.video[segment]).reshape(1, 3, 9).sum(-1) / 2
    close(found.frames, expected)
    assert float(found.frames.sum()) == pytest.approx(1)


def test_segments_that_only_reach_into_the_point_s_time_do_not_count(family: tuple[str, Any]) -> None:
    """The second beat lasts one latent frame; its window reaches back into the time of the first."""
    beats = (ScriptBeat("fox runs", Duration(4, "latent frames")), ScriptBeat("fox runs", Duration(1, "latent frames")))
    timeline = plan_timeline(Script(beats), 3, 0, 8, 4)
    last = timeline.segments[-1]
    assert last.shown is not None and 3 in timeline.frames_of(last) and 3 not in timeline.shown_frames_of(last)
    words = PromptWords(("fox", "runs"), ((0, 1), (2,)))
    timeline = replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))
    found = look(family, LookPoint(0, 0, 10), timeline=timeline)
    assert found is not None and {text.segment for text in found.texts} == {
        segment.index for segment in timeline.segments_at(3)
    }
    assert last.index not in {text.segment for text in found.texts}


@pytest.mark.parametrize("words", [None, PromptWords((), ()), PromptWords(("fox",), ((99,),))])
def test_unknown_words_leave_the_rest(family: tuple[str, Any], words: PromptWords | None) -> None:
    timeline = tiny_timeline(2, overlap=0)
    timeline = replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))
    found = look(family, LookPoint(0.5, 0.5, 0), timeline=timeline)
    assert found is not None and found.texts == ()
    assert float(found.frames.sum()) == pytest.approx(1)


def test_a_common_prompt_is_not_recorded_as_the_beats_text(family: tuple[str, Any]) -> None:
    timeline = tiny_timeline(2, overlap=0)
    told = joint_beat_prompts(timeline) if family[0] == "hunyuan" else beat_prompts(timeline)
    common = [[tensor, {**extra, COMMON_TAG: True, "end_percent": 1.0}] for tensor, extra in told]
    own = [[tensor, {**extra, "start_percent": 1.0}] for tensor, extra in told]
    found = look(family, LookPoint(0.5, 0.5, 0), timeline=timeline, conditioning=common + own)
    assert found is not None and found.texts == ()


def test_a_point_outside_the_video_or_no_point_records_nothing(family: tuple[str, Any]) -> None:
    assert look(family, LookPoint(0.5, 0.5, 999)) is None


def test_every_latent_of_a_batch_has_its_map(family: tuple[str, Any]) -> None:
    found = look(family, LookPoint(0.1, 0.1, 0), batch=2)
    assert found is not None and found.heat.shape == (2, 6, 3, 3)
    assert not torch.equal(found.heat[0], found.heat[1])


# Without a host: what no tiny model has.

GRID = (3, 2, 2)
VIDEO = 12


def worded(transition: Transition | None, beats: int = 2) -> Timeline:
    """Beats of one segment of three frames each and what lies between them, every prompt with words of its own."""
    said = tuple(ScriptBeat(f"prompt {beat}", None, transition if beat else None) for beat in range(beats))
    timeline = plan_timeline(Script(said), 3, 1, 8, 4)
    words = [PromptWords(("red", "fox"), ((1,), (2, 3))), PromptWords(("dog",), ((2,),)), None]
    return replace(
        timeline, beats=tuple(replace(beat, words=words[number]) for number, beat in enumerate(timeline.beats))
    )


def watched(model: FakeModel, passes: int = 1) -> RecordedPoint:
    session = model.session()
    for step in range(passes):
        model.run_pass(session, step=step)
    (_, point) = session.finish()
    assert point is not None
    return point


def dense_scores(model: FakeModel, segment: int, call: int, token: int) -> torch.Tensor:
    """Scores [heads, keys] of a video query in one call of a segment, float64."""
    query, key, _ = model.tensors(segment, "plain", call, COND, 0)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    return (query @ key.transpose(-1, -2) * model.head_dim**-0.5)[0, :, model.sites[call].video_start + token]


@pytest.mark.parametrize("chunks", [(COND, UNCOND), (UNCOND, COND)])
@pytest.mark.parametrize("video_start", [0, 5])
def test_masks_grouped_heads_and_guidance_are_accounted_for(video_start: int, chunks: tuple[Any, ...]) -> None:
    text = 0 if video_start else VIDEO
    mask = torch.zeros(VIDEO + 5, dtype=torch.float64)
    mask[text + 4], mask[text + 2] = -torch.inf, -0.7
    timeline = worded(None, beats=1)
    plan = SharePlan(timeline, OFF, look=LookPoint(0.9, 0.2, 8))
    model = FakeModel(plan, joint(2, video_start, text), GRID, outside=5, text_tokens=5, heads=(4, 2), chunks=chunks)
    model.masks = {COND: mask, UNCOND: torch.zeros_like(mask)}
    found = watched(model)
    token = 2 * 4 + 1
    blocks = [(dense_scores(model, 0, block, token) + mask).softmax(-1).mean(0) for block in range(2)]
    probabilities = mean(blocks)[[text + place for place in (1, 2, 3)]]
    (told,) = found.texts
    close(told.looks[0], torch.stack([probabilities[0], probabilities[1:].sum()]))
    assert told.between is not None
    among: list[torch.Tensor] = []
    for block in range(2):
        query, key, _ = model.tensors(0, "plain", block, COND, 0)
        places = [text + place for place in (1, 2, 3)]
        scores = query[0, :, places] @ key[0].repeat_interleave(2, 0)[:, places].transpose(-1, -2) / 2
        among.append((scores + mask[places]).softmax(-1).mean(0))
    tokens = mean(among)
    columns = torch.stack([tokens[:, 0], tokens[:, 1:].sum(1)], 1)
    close(told.between[0], torch.stack([columns[0], columns[1:].mean(0)]))


def test_the_newest_model_call_counts() -> None:
    plan = SharePlan(worded(None, beats=1), OFF, look=LookPoint(0, 0, 0))
    model = FakeModel(plan, self_and_cross(2), GRID, text_tokens=5)
    found = watched(model, passes=2)
    assert model.step == 1
    blocks = [dense_scores(model, 0, call, 0)[:, [1, 2, 3]].softmax(-1).mean(0) for call in (1, 3)]
    close(found.texts[0].looks[0, 0], mean(blocks)[0])


def test_a_point_in_a_transition_records_both_texts_at_the_tokens_that_they_share() -> None:
    timeline = worded(Transition("segments", segments=1))
    assert timeline.segments[1].next_beat == 1
    frame = timeline.segments[1].start + 1
    plan = SharePlan(timeline, OFF, look=LookPoint(0, 0, timeline.picture_range(frame, frame + 1)[0]))
    model = FakeModel(plan, self_and_cross(1), GRID, text_tokens=5)
    told = watched(model).texts
    assert [(text.segment, text.beat, text.weight, text.words) for text in told] == [
        (1, 0, 0.5, ("red", "fox")),
        (1, 1, 0.5, ("dog",)),
    ]
    looks = dense_scores(model, 1, 1, 4)[:, [1, 2, 3]].softmax(-1).mean(0)
    close(told[0].looks[0], torch.stack([looks[0], looks[1:].sum()]))
    close(told[1].looks[0], looks[1:2])


class Routed(FakeModel):
    """Its conditioning has the texts of all beats one behind the other, of five and four tokens."""

    def open_forward(
        self,
        session: SamplingRun,
        evaluation: Evaluation,
        chunks: tuple[Chunk, ...] | None = None,
        hides: int | None = None,
        **text: Any,
    ) -> Forward | None:
        routed = [place for place, chunk in enumerate(chunks or self.chunks) if chunk == COND]
        routes = dict.fromkeys(routed, (5, 4)) if evaluation.segment.texts else {}
        return super().open_forward(session, evaluation, chunks, hides, routes=routes, **text)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_routed_frame_weighs_its_texts(place: int) -> None:
    timeline = worded(Transition("route", Duration(2, "latent frames")))
    segment = timeline.segments[0]
    weights = [text.weights[place] for text in segment.texts]
    frame = segment.start + place
    plan = SharePlan(timeline, OFF, look=LookPoint(0, 0, timeline.picture_range(frame, frame + 1)[0]))
    sites = [CallSite(0, "self"), CallSite(0, "cross")]
    model = Routed(plan, sites, GRID, text_tokens=9, chunks=(COND,))
    told = [text for text in watched(model).texts if text.segment == 0]
    assert [(text.beat, text.weight) for text in told] == [
        (beat, weight) for beat, weight in enumerate(weights) if weight > 0
    ]
    bias = torch.tensor([math.log(weight) if weight else -math.inf for weight in [weights[0]] * 3 + weights[1:]])
    looks = (dense_scores(model, 0, 1, 4 * place)[:, [1, 2, 3, 5 + 2]] + bias).softmax(-1).mean(0)
    expected = [torch.stack([looks[0], looks[1:3].sum()]), looks[3:]]
    for text in told:
        close(text.looks[0], expected[text.beat])


def test_one_unknown_text_of_two_leaves_both_out() -> None:
    timeline = worded(Transition("segments", segments=1))
    first, second = timeline.beats
    timeline = replace(timeline, beats=(first, replace(second, words=None)))
    frame = timeline.segments[1].start + 1
    plan = SharePlan(timeline, OFF, look=LookPoint(0, 0, timeline.picture_range(frame, frame + 1)[0]))
    found = watched(FakeModel(plan, self_and_cross(1), GRID, text_tokens=5))
    assert found.texts == ()


def test_words_of_several_tokens_are_one_and_words_may_share_a_token() -> None:
    timeline = worded(None, beats=1)
    shared = PromptWords(("狐", "狸"), ((0, 1), (1, 2)), frozenset({1}))
    timeline = replace(timeline, beats=(replace(timeline.beats[0], words=shared),))
    plan = SharePlan(timeline, OFF, look=LookPoint(0, 0, 0))
    model = FakeModel(plan, joint(1, 0, VIDEO), GRID, outside=4, text_tokens=4)
    (told,) = watched(model).texts
    assert isinstance(told, RecordedText)
    looks = dense_scores(model, 0, 0, 0).softmax(-1).mean(0)[VIDEO:]
    close(told.looks[0], torch.stack([looks[:2].sum(), looks[1:3].sum()]))


@pytest.mark.parametrize("shape", ["cross", "joint"])
def test_recording_a_point_never_waits_inside_a_forward(shape: str) -> None:
    plan = SharePlan(worded(None, beats=1), OFF, look=LookPoint(0, 0, 0))
    sites, outside = (self_and_cross(2), 0) if shape == "cross" else (joint(2, 5, 0), 5)
    model = FakeModel(plan, sites, GRID, outside=outside, text_tokens=5, device=str(CUDA))
    session = model.session()
    attend = session.attend
    inside = Counter[str]()
    with pretending() as device, device:
        masks = {COND: torch.zeros(17).to(CUDA), UNCOND: torch.zeros(17).to(CUDA)}
        model.masks = {} if shape == "cross" else masks

        def watched_attend(*args: Any) -> Any:
            found: list[Any] = []
            inside.update(device.waits_of(lambda: found.append(attend(*args))))
            return found.pop()

        session.attend = watched_attend  # type: ignore[method-assign]
        model.run_pass(session)
        assert not inside
        _, point = session.finish()
    assert point is not None and point.texts
