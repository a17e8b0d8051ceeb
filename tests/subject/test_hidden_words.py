"""Effects of a subject's words: evaluations without them, where the prediction changes, and masks made of that."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.plan.share_plan import CastMember, SharePlan
from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.record.record import SegmentMasks
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.subject import appearance
from kvshare_core.subject.hidden_words import words_effect
from kvshare_core.subject.maps import Grid, normalise_over_clip, standardised
from kvshare_core.timeline.timeline import Segment
from tests.oracles.dense_reference import dense_attention, heads_together
from tests.support.fake_family import COND, SIGMAS, UNCOND, FakeModel, joint, self_and_cross, self_only, timeline_of
from tests.support.share_plans import one_subject

GRID = (2, 2, 3)
FOX, DOG = SubjectTokens((1,), (2,)), SubjectTokens((2, 3), (1,))
HIDDEN = torch.finfo(torch.float64).min


def plan_of(segments: int = 1, **values: object) -> SharePlan:
    values = {"cast": one_subject(FOX), "config": KVShareConfig(masks=MaskSettings(thres=0.6, rim=0)), **values}
    return SharePlan(timeline_of(segments, GRID[0]), **values)  # type: ignore[arg-type]


def two_subjects(segments: int = 1, dog: SubjectTokens | None = DOG) -> SharePlan:
    cast = (*one_subject(FOX), CastMember("dog", (dog,)))
    return plan_of(segments, cast=cast)


def model_of(plan: SharePlan, kind: str = "cross", rows: int = 1, heads: tuple[int, int] = (2, 2)) -> FakeModel:
    if kind == "cross":
        return FakeModel(plan, self_and_cross(2), GRID, rows=rows, text_tokens=5, heads=heads)
    start = {"text first": 5, "text last": 0}[kind]
    return FakeModel(plan, joint(2, start, 12 - 12 * (start > 0)), GRID, rows, outside=5, text_tokens=5, heads=heads)


@given(
    st.sampled_from(["cross", "text first", "text last"]),
    st.integers(0, 1),
    st.integers(1, 2),
    st.sampled_from([(2, 2), (2, 1)]),
    st.sampled_from([(COND,), (COND, UNCOND), (UNCOND, COND)]),
    st.booleans(),
)
@settings(max_examples=40)
def test_in_a_forward_without_words_no_token_of_their_prompt_attends_to_them(
    kind: str, subject: int, rows: int, heads: tuple[int, int], chunks: tuple[tuple[int, int], ...], masked: bool
) -> None:
    model = model_of(two_subjects(), kind, rows, heads)
    length = 12 + model.outside
    first_text = 12 if kind == "text last" else 0
    own = torch.zeros(length, dtype=torch.float64)
    if masked and kind != "cross":
        own[first_text + 4] = HIDDEN
        model.masks = dict.fromkeys((COND, UNCOND), own)
    session = model.session()
    (evaluation,) = session.begin_pass(SIGMAS[0], SIGMAS)
    found = model.forward(session, evaluation, chunks, subject)
    words = (FOX, DOG)[subject].subject
    for (chunk, row), outputs in found.items():
        for number, (site, output) in enumerate(zip(model.sites, outputs, strict=True)):
            query, key, value = model.tensors(0, evaluation.role, number, chunk, row)
            bias = torch.zeros(1, 1, 1, key.shape[2], dtype=torch.float64)
            if site.kind != "cross":
                bias = bias + own
            if site.kind != "self" and chunk == COND:
                bias[..., [site.text_start + token for token in words]] = -math.inf
            expected = dense_attention(query, key, value, bias=bias)
            torch.testing.assert_close(heads_together(output), expected, rtol=0, atol=1e-10)
    assert session.bank.held_bytes == 0 and model.warnings == []


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 2, 2), (1, 1, 1)])
def test_words_act_where_the_prediction_moves_without_them(patch: Grid) -> None:
    plain = torch.randn(2, 4, 5, 7, 10, generator=torch.Generator().manual_seed(0))
    hidden = plain.clone()
    hidden[0, :, 2, 4:6, 6:8] += 3
    hidden[1, :, 4, 0:2, 0:2] += 3
    grid = (-(-5 // patch[0]), -(-7 // patch[1]), -(-10 // patch[2]))
    effect = words_effect(hidden, plain, grid, patch)
    assert effect.shape == (2, math.prod(grid))
    for row, (frame, height, width) in enumerate([(2, 4, 6), (4, 0, 0)]):
        cells = effect[row].reshape(grid)
        frames = (cells > 0).flatten(1).any(1)
        assert frames.nonzero().flatten().tolist() == [frame // patch[0]]
        down, across = divmod(int(cells[frame // patch[0]].argmax()), grid[2])
        assert abs(down - height // patch[1]) <= 1 and abs(across - width // patch[2]) <= 1


def latent(seed: int, rows: int = 1) -> torch.Tensor:
    return torch.randn(rows, 3, *GRID, generator=torch.Generator().manual_seed(seed))


def see(session: SamplingRun, model: FakeModel, segment: Segment, seed: int, subjects: tuple[int, ...]) -> torch.Tensor:
    """Shows the session predictions without words, as a host does; what it should find, [subjects, rows, tokens]."""
    (evaluation,) = [one for one in session.begin_pass(SIGMAS[0], SIGMAS) if one.segment == segment]
    assert not session.wants_effects(segment, model.prompts)
    plain = latent(seed, model.rows)
    hidden = {subject: latent(seed + 1 + subject, model.rows) for subject in subjects}
    model.forward(session, evaluation, model.chunks)
    assert session.wants_effects(segment, model.prompts)
    for subject in subjects:
        model.forward(session, evaluation, (COND,), subject)
    session.see_effects(segment, plain, hidden)
    assert not session.wants_effects(segment, model.prompts)
    session.end_pass()
    return torch.stack([words_effect(hidden[subject], plain, GRID, (1, 1, 1)) for subject in subjects])


@given(st.sampled_from(["cross", "text first"]), st.integers(1, 2), st.integers(0, 99))
@settings(max_examples=15)
def test_appearance_masks_start_from_word_effects_and_continue_with_examples(kind: str, rows: int, seed: int) -> None:
    model = model_of(plan_of(), kind, rows)
    session = model.session()
    segment = model.plan.timeline.segments[0]
    effect = see(session, model, segment, seed, (0,))
    score, examples = effect, None
    for step in range(1, 4):
        recorded, _ = session.finish()
        assert recorded is not None and recorded.segments.masks[0] is not None
        assert torch.equal(recorded.segments.masks[0], normalise_over_clip(score) >= 0.6)
        examples = appearance.choose_examples(standardised(score) + standardised(effect))
        model.run_pass(session, step=step)
        score = torch.zeros_like(effect)
        for number, site in enumerate(model.sites):
            if site.kind == "cross":
                continue
            drawn = [model.tensors(0, "plain", number, COND, row)[2] for row in range(rows)]
            value = torch.cat(drawn)[:, :, site.video_start : site.video_start + 12]
            score += standardised(
                appearance.likeness(value, appearance.contrasts(appearance.example_weights(examples)))
            )


def test_each_subject_has_the_effect_of_its_own_words_and_an_absent_one_none() -> None:
    model = model_of(two_subjects())
    session = model.session()
    effects = see(session, model, model.plan.timeline.segments[0], 3, (0, 1))
    recorded, _ = session.finish()
    assert recorded is not None and recorded.segments.masks[0] is not None
    fox, dog = recorded.segments.masks[0]
    heat = normalise_over_clip(effects)
    assert not (fox & dog).any()
    assert torch.equal(fox | dog, (heat >= 0.6).any(0))
    model = model_of(two_subjects(dog=None))
    session = model.session()
    assert model.plan.shown(model.plan.timeline.segments[0]) == (0,)
    see(session, model, model.plan.timeline.segments[0], 3, (0,))
    recorded, _ = session.finish()
    assert recorded is not None and recorded.segments.masks[0] is not None
    assert recorded.segments.masks[0][0].any() and not recorded.segments.masks[0][1].any()


def test_a_segment_that_shows_no_subject_has_an_empty_mask() -> None:
    plan = plan_of(cast=one_subject(None))
    model = model_of(plan)
    session = model.session()
    (evaluation,) = session.begin_pass(SIGMAS[0], SIGMAS)
    segment = plan.timeline.segments[0]
    model.forward(session, evaluation, model.chunks)
    assert session.wants_effects(segment, 0) and plan.shown(segment) == ()
    session.see_effects(segment, latent(0), {})
    session.end_pass()
    recorded, _ = session.finish()
    assert recorded is not None and recorded.segments.masks[0] is not None
    assert recorded.segments.masks[0].shape == (1, 1, 12) and not recorded.segments.masks[0].any()


@pytest.mark.parametrize("masks", [MaskSettings(start="maps"), MaskSettings("contrast"), MaskSettings("threshold")])
def test_other_masks_ask_for_no_effect(masks: MaskSettings) -> None:
    model = model_of(plan_of(config=KVShareConfig(masks=masks)))
    session = model.session()
    (evaluation,) = session.begin_pass(SIGMAS[0], SIGMAS)
    model.forward(session, evaluation, model.chunks)
    assert not session.wants_effects(model.plan.timeline.segments[0], 0)


def test_the_effect_is_asked_for_once_and_only_where_maps_count() -> None:
    settings = MaskSettings(attn_map_step_idx=(1, 2))
    model = model_of(plan_of(config=KVShareConfig(masks=settings)))
    session = model.session()
    segment = model.plan.timeline.segments[0]
    for step, wanted in enumerate([False, True, False]):
        (evaluation,) = session.begin_pass(SIGMAS[step], SIGMAS)
        model.forward(session, evaluation, model.chunks)
        assert session.wants_effects(segment, 0) == wanted
        if wanted:
            model.forward(session, evaluation, (COND,), 0)
            session.see_effects(segment, latent(0), {0: latent(1)})
        session.end_pass()
    # Guidance that evaluates the model again at the same noise level is no second chance.
    session = model.session()
    for _ in range(2):
        session.end_pass()
        (evaluation,) = session.begin_pass(SIGMAS[1], SIGMAS)
        model.forward(session, evaluation, model.chunks)
    assert not session.wants_effects(segment, 0)


def test_a_resumed_run_uses_the_word_effects_of_the_earlier_one() -> None:
    model = model_of(plan_of())
    session = model.session()
    segment = model.plan.timeline.segments[0]
    see(session, model, segment, 5, (0,))
    recorded, _ = session.finish()
    assert recorded is not None
    plan = replace(model.plan, known=recorded.segments)
    for full_noise, wanted in [(1.0, False), (SIGMAS[1], True)]:
        further = model_of(plan)
        session = further.session(full_noise=full_noise)
        (evaluation,) = session.begin_pass(SIGMAS[1], SIGMAS)
        further.forward(session, evaluation, further.chunks)
        assert session.wants_effects(segment, 0) == wanted
        session.end_pass()
        # The record's looks are followed without a pass that shares.
        assert session.finish()[0] is not None


def test_what_a_run_holds_is_found_by_maps() -> None:
    """Some models get what is held without the noise that they are told of, and words act anywhere then."""
    found: list[torch.Tensor] = []
    for start in ("effect", "maps"):
        config = KVShareConfig(masks=MaskSettings(thres=0.6, rim=0, start=start))  # type: ignore[arg-type]
        model = model_of(plan_of(config=config))
        session = model.session(held=[0])
        for step in range(2):
            model.run_pass(session, step=step)
            assert not session.wants_effects(model.plan.timeline.segments[0], 0)
        recorded, _ = session.finish()
        assert recorded is not None
        found.append(recorded.heat)
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("masks", [MaskSettings("contrast"), MaskSettings("threshold")])
def test_examples_of_an_earlier_run_do_not_affect_other_kinds_of_masks(masks: MaskSettings) -> None:
    model = model_of(plan_of())
    session = model.session()
    see(session, model, model.plan.timeline.segments[0], 5, (0,))
    recorded, _ = session.finish()
    assert recorded is not None
    plan = replace(model.plan, config=KVShareConfig(masks=masks))
    found: list[torch.Tensor] = []
    for known in (None, recorded.segments):
        further = model_of(replace(plan, known=known))
        session = further.session()
        further.run_pass(session)
        after, _ = session.finish()
        found += [] if after is None else [after.heat]
    assert len(found) in (0, 2) and all(torch.equal(found[0], heat) for heat in found)


def test_nothing_is_shared_while_word_effects_are_measured() -> None:
    """The effect of words would be one of sharing too."""
    plan = plan_of(2)
    masks = tuple(torch.arange(12).ge(6)[None, None] for _ in range(2))
    plan = replace(plan, known=SegmentMasks(plan.names, masks))
    model = model_of(plan)
    session = model.session()
    for step, shares in enumerate([False, True]):
        for evaluation in session.begin_pass(SIGMAS[step], SIGMAS):
            session.begin_evaluation(evaluation)
            model.forward(session, evaluation, model.chunks)
            if step == 0:
                model.forward(session, evaluation, (COND,), 0)
                session.see_effects(evaluation.segment, latent(0), {0: latent(1)})
        session.end_pass()
        assert (session.shared_calls > 0) == shares


def test_a_subject_whose_words_cannot_be_hidden_is_named_and_left() -> None:
    unknown = model_of(plan_of())
    unknown.prompts = None
    short = model_of(plan_of(cast=one_subject(SubjectTokens((9,), (1,)))))
    textless = FakeModel(plan_of(), self_only(2), GRID)
    only = model_of(plan_of(cast=one_subject(SubjectTokens(tuple(range(5)), ()))))
    cases = [(unknown, "Long Video Segmenter"), (short, "more tokens"), (only, "no tokens but"), (textless, "changed")]
    for model, named in cases:
        session = model.session()
        asked = 0
        for step in range(3):
            (evaluation,) = session.begin_pass(SIGMAS[step], SIGMAS)
            model.forward(session, evaluation, model.chunks)
            if session.wants_effects(evaluation.segment, model.prompts):
                asked += 1
                model.forward(session, evaluation, (COND,), 0)
                session.see_effects(evaluation.segment, latent(0), {0: latent(1)})
            session.end_pass()
        assert asked == (model is not unknown)
        assert session.finish()[0] is None
        assert named in model.warnings[0]


def test_words_that_change_nothing_are_not_followed() -> None:
    """A cache may have answered for the model."""
    model = model_of(plan_of())
    session = model.session()
    (evaluation,) = session.begin_pass(SIGMAS[0], SIGMAS)
    model.forward(session, evaluation, model.chunks)
    model.forward(session, evaluation, (COND,), 0)
    session.see_effects(evaluation.segment, latent(0), {0: latent(0)})
    session.end_pass()
    assert session.finish()[0] is None
    assert "changed nothing in segment 1" in model.warnings[0]
