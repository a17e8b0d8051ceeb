"""The sources of every segment of a script, against a dense reference and for known scripts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.attention.positions import PositionMover
from kvshare_core.attention.rope import embed_nd_scheme
from kvshare_core.config import DITCTRL, KVShareConfig, MaskKind, MaskSettings
from kvshare_core.plan.bank_size import bank_uses, kept_tokens, predict_bytes
from kvshare_core.plan.schedule import strength_at
from kvshare_core.plan.share_plan import CastMember, SharePlan
from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.record.record import ONLY_SUBJECT, SegmentMasks
from kvshare_core.script.film import Duration, ScriptBeat, Source, Transition
from kvshare_core.session.sampling_run import SamplingRun
from tests.oracles.sources_oracle import Oracle, seen_by
from tests.support.fake_family import SIGMAS, FakeModel, joint, self_and_cross, self_only
from tests.support.share_plans import FROZEN, GRID, SHOWN, TOKENS, beats_of, one_subject, share_plans, timeline_of

SCHEME = embed_nd_scheme((4, 2, 2), 10000.0)


def model_of(plan: SharePlan, text: bool) -> FakeModel:
    sites = joint(2, 4, 0) if text else self_only(2)
    outside = 4 if text else 0
    return FakeModel(plan, sites, GRID, rows=2, outside=outside, text_tokens=4, head_dim=8, scheme=SCHEME)


def plain_pass(plan: SharePlan) -> SamplingRun:
    model = model_of(plan, text=False)
    session = model.session()
    model.run_pass(session)
    return session


def checked_pass(plan: SharePlan, text: bool = False) -> tuple[Oracle, SamplingRun]:
    """A pass of which every call was held against the dense reference."""
    model, oracle = model_of(plan, text), Oracle(plan, SCHEME, 1e-9)
    session = model.session()
    original = type(session).attend
    session.attend = lambda *args: oracle.attend(original)(session, *args)  # type: ignore[method-assign]
    model.run_pass(session)
    assert len(session.bank) == 0
    return oracle, session


@given(share_plans(), st.booleans())
@settings(max_examples=15)
def test_a_pass_equals_the_dense_reference_of_its_script(plan: SharePlan, text: bool) -> None:
    oracle, session = checked_pass(plan, text)
    if not plan.guided:
        assert set(oracle.checked) == {
            segment.index for segment in plan.timeline.segments if plan.sources(segment.index)
        }
    # The rim of a subject may leave no background, or none in the frames in which a source has some.
    assert (session.shared_calls > 0) == bool(oracle.checked) or not plan.config.share_subject
    assert session.shared_calls > 0 or not oracle.checked


@given(share_plans())
@settings(max_examples=30)
def test_what_the_bank_holds_is_predicted_exactly_by_a_mask_and_at_most_by_words(plan: SharePlan) -> None:
    config, session = plan.config, plain_pass(plan)
    counts = [
        kept_tokens(config, plan.guided, TOKENS, TOKENS, 0, max(1, len(plan.names))) for _ in plan.timeline.segments
    ]
    if plan.shares:
        predicted = predict_bytes(bank_uses(plan, counts), 2, 4, 2, 8, 8, config.memory)
        assert session.bank.peak_bytes == predicted if not plan.guided else session.bank.peak_bytes <= predicted
    member = tuple(replace(member, tokens=()) for member in plan.cast[:1]) or one_subject()
    masked = replace(plan, cast=member, beat_tokens=(), known=None, mask=(torch.rand(200, 2, 2) < 0.5).float())
    session = plain_pass(masked)
    recorded = session.tracker.recorded()
    if recorded is None or recorded.segments is None:
        found = (None,) * len(masked.timeline.segments)
    else:
        found = recorded.segments.masks
    counts = [kept_tokens(config, True, TOKENS, 0 if mask is None else int(mask[0, 0].sum()), 0) for mask in found]
    assert session.bank.peak_bytes == predict_bytes(bank_uses(masked, counts), 2, 4, 2, 8, 8, config.memory)


@given(share_plans(subjects=2))
@settings(max_examples=100)
def test_segments_are_kept_for_their_consumers_only(plan: SharePlan) -> None:
    segments = plan.timeline.segments
    for segment in segments:
        said = plan.timeline.beats[segment.beat].script.strength
        part_sources = plan.part_sources(segment.index)
        for number, found in enumerate(part_sources.subjects):
            wanted = [
                source
                for source in sorted(seen_by(plan, segment.index, number))
                if said != 0 and all(number in plan.shown(segments[index]) for index in (source, segment.index))
            ]
            assert list(found) == wanted
        wanted = sorted(seen_by(plan, segment.index, -1)) if plan.config.share_background and said != 0 else []
        assert list(part_sources.background) == wanted
        union = {*part_sources.background, *(source for sources in part_sources.subjects for source in sources)}
        assert plan.sources(segment.index) == tuple(sorted(union))
        assert plan.consumers(segment.index) == sum(segment.index in plan.sources(other.index) for other in segments)
        read = plan.exported_parts(segment.index)
        assert read.background == any(segment.index in plan.part_sources(other.index).background for other in segments)


# Sources, strength and gaps in plain words.


def sources_in(rule: tuple[Source, ...] | None, **config: Any) -> list[tuple[int, ...]]:
    """Sources of every segment of four beats, the third of which lasts two segments and says `rule`."""
    third = ScriptBeat("third", Duration(4, "latent frames"), sources=rule)
    plan = SharePlan(timeline_of(*beats_of(4, beat2=third)), KVShareConfig(**config))
    assert [segment.beat for segment in plan.timeline.segments] == [0, 1, 2, 2, 3]
    return [plan.sources(index) for index in range(5)]


@pytest.mark.parametrize(
    ("rule", "third"),
    [
        (None, [(0,), (0,)]),
        ((), [(), ()]),
        (("previous",), [(1,), (2,)]),
        ((1,), [(1,), (1,)]),
        (("first", 1, "previous"), [(0, 1), (0, 1, 2)]),
    ],
)
def test_all_segments_of_a_beat_follow_its_own_rule(rule: Any, third: list[tuple[int, ...]]) -> None:
    assert sources_in(rule) == [(), (0,), *third, (0,)]


def test_a_transition_follows_the_beat_before_it() -> None:
    timeline = timeline_of(*beats_of(3, beat1=ScriptBeat("b", sources=("previous",))), transitions=1)
    assert [(segment.beat, segment.next_beat) for segment in timeline.segments] == [
        (0, None), (0, 1), (1, None), (1, 2), (2, None)
    ]  # fmt: skip
    plan = SharePlan(timeline, KVShareConfig())
    assert [plan.sources(index) for index in range(5)] == [(), (0,), (1,), (2,), (0,)]


def test_sources_of_a_beat_do_not_fit_the_papers_pairs() -> None:
    timeline = timeline_of(*beats_of(3, beat1=ScriptBeat("b", sources=("first",))))
    with pytest.raises(ValueError, match=r"^prompt 2: it has sources of its own"):
        SharePlan(timeline, DITCTRL)


def test_a_mask_is_of_one_subject() -> None:
    timeline, mask = timeline_of(*beats_of(2)), torch.ones(1, 2, 2)
    for cast in ((), tuple(CastMember(name) for name in ("fox", "dog"))):
        with pytest.raises(ValueError, match=f"^mask: it is of one subject, but the plan has {len(cast)}"):
            SharePlan(timeline, KVShareConfig(), cast, mask=mask)


def test_the_paper_follows_one_subject_only() -> None:
    cast = tuple(CastMember(name, (SHOWN, SHOWN), (None, None)) for name in ("fox", "dog"))
    timeline = timeline_of(*beats_of(2))
    for config in (
        DITCTRL,
        KVShareConfig(masks=MaskSettings(kind="threshold", thres=0.5, rim=0)),
        KVShareConfig(order="ditctrl"),
    ):
        with pytest.raises(ValueError, match="follows one subject, but the script names fox, dog"):
            SharePlan(timeline, config, cast=cast)
        SharePlan(timeline, config, cast=cast[:1])


def test_known_masks_must_be_of_the_same_subjects_and_segments() -> None:
    cast = (CastMember("fox", (SHOWN, SHOWN), (None, None)),)
    plan = SharePlan(timeline_of(*beats_of(2)), KVShareConfig(masks=FROZEN), beat_tokens=((0, 1, 2),) * 2, cast=cast)
    for names in (("fox",), (ONLY_SUBJECT,)):
        replace(plan, known=SegmentMasks(names, (None, None)))
    for known in (
        SegmentMasks(("dog",), (None, None)),
        SegmentMasks(("fox",), (None,)),
        SegmentMasks((ONLY_SUBJECT,), (None,)),
        SegmentMasks((ONLY_SUBJECT, "dog"), (None, None)),
    ):
        with pytest.raises(
            ValueError, match=r"^known masks: they are of . segments with (dog|fox|subject)(, dog)?, but"
        ):
            replace(plan, known=known)
    odd = replace(plan, known=SegmentMasks(("fox",), (torch.ones(1, 3, TOKENS, dtype=torch.bool),) * 2))
    with pytest.raises(ValueError, match=r"^known masks: segment 0 has \[1, 3, 12\] .* but \[1, 2, 12\] in this run"):
        plain_pass(odd)


@given(
    st.sampled_from([(1.0, None), (0.5, 2.0), (2.0, 0.0), (0.0, 1.5), (0.0, None)]),
    st.floats(0, 10),
    st.integers(2, 9),
)
def test_a_beats_strength_keeps_the_course_of_the_configuration(
    usual: tuple[float, float | None], said: float, steps: int
) -> None:
    config = KVShareConfig(strength=usual[0], end_strength=usual[1])
    plan = SharePlan(timeline_of(*beats_of(3, beat1=ScriptBeat("b", strength=said))), config)
    full = usual[0] or usual[1]
    for step in range(steps):
        course = strength_at(config, step, steps)
        assert plan.strength(0, step, steps) == plan.strength(2, step, steps) == course
        assert plan.strength(1, step, steps) == pytest.approx(said * course / full if full else said)
    assert plan.strength(1, 0 if usual[0] else steps - 1, steps) == said
    assert bool(plan.sources(1)) == (said > 0)
    assert bool(plan.sources(2)) == (full not in (None, 0.0))


def test_gaps_of_several_cuts_do_not_add_up() -> None:
    cuts = {f"beat{number}": cut(gap) for number, gap in ((1, 5), (3, 7), (4, 2))}
    plan = SharePlan(timeline_of(*beats_of(5, **cuts)), KVShareConfig())
    assert [plan.gap(0, target) for target in range(1, 5)] == [5, 5, 7, 7]
    assert [plan.gap(1, 2), plan.gap(2, 3), plan.gap(3, 4), plan.gap(0, 0)] == [0, 7, 2, 0]


def cut(gap: int, **said: Any) -> ScriptBeat:
    return ScriptBeat("cut", transition=Transition("cut", gap=Duration(gap, "latent frames")), **said)


def test_a_gap_that_moves_keys_of_a_model_without_positions_names_the_prompt() -> None:
    def mover(beats: Sequence[ScriptBeat], **config: Any) -> PositionMover:
        plan = SharePlan(timeline_of(*beats), KVShareConfig(**config))
        return PositionMover(plan.config, None, gapped_beat=plan.gapped_beat)

    with pytest.raises(ValueError, match=r"^prompt 2: its cut has a gap, .*take the gap out"):
        mover(beats_of(3, beat1=cut(4)))
    mover(beats_of(3, beat1=ScriptBeat("cut", transition=Transition("cut"))))
    mover(beats_of(3, beat1=cut(4)), mode="off")
    mover(beats_of(2, beat1=cut(4, sources=())))


# Masks of several subjects.


def contrast(model: FakeModel, segment: int, row: int, subject: SubjectTokens, tokens: Sequence[int]) -> torch.Tensor:
    """Score of one subject in the cross-attentions of a segment, in plain loops; all blocks count alike."""
    total = torch.zeros(TOKENS, dtype=torch.float64)
    for number, site in enumerate(model.sites):
        if site.kind != "cross":
            continue
        query, key, _ = model.tensors(segment, "both", number, (0, 0), row)
        looks = torch.zeros(TOKENS, len(tokens), dtype=torch.float64)
        for head in range(2):
            looks += torch.softmax(query[0, head] @ key[0, head][list(tokens)].T / 2, -1) / 2
        found = dict(zip(tokens, looks.T, strict=True))
        score = torch.stack([found[token] for token in subject.subject]).mean(0)
        score -= torch.stack([found[token] for token in subject.others]).mean(0)
        total += (score - score.mean()) / score.std(correction=0)
    return total


@given(st.integers(0, 200), st.sampled_from([0.3, 0.5]))
@settings(max_examples=8)
def test_a_token_goes_to_the_subject_whose_map_is_strongest(seed: int, threshold: float) -> None:
    fox, dog = SubjectTokens((1,), (2, 3)), SubjectTokens((2, 3), (1,))
    cast = (CastMember("fox", (fox, fox), (None, None)), CastMember("dog", (None, dog), (None, None)))
    config = KVShareConfig(masks=MaskSettings(thres=threshold, start="maps"), share_background=True)
    plan = SharePlan(timeline_of(*beats_of(2)), config, beat_tokens=((0, 1, 2, 3),) * 2, cast=cast)
    model = FakeModel(plan, self_and_cross(2), GRID, rows=2, text_tokens=5)
    model.step = seed
    session = model.session()
    for evaluation in session.begin_pass(SIGMAS[0], SIGMAS):
        session.begin_evaluation(evaluation)
        model.forward(session, evaluation, model.chunks)
    session.end_pass()
    recorded = session.tracker.recorded()
    assert recorded is not None and recorded.segments is not None
    assert recorded.segments.names == ("fox", "dog") == tuple(subject.name for subject in recorded.subjects)
    for segment, subjects in enumerate([(fox,), (fox, dog)]):
        found = recorded.segments.masks[segment]
        assert found is not None and found.shape == (2, 2, TOKENS)
        for row in range(2):
            heats: list[torch.Tensor] = []
            for subject in subjects:
                score = contrast(model, segment, row, subject, (0, 1, 2, 3)).float()
                low, high = score.quantile(0.02), score.quantile(0.98)
                heats.append(((score - low) / (high - low)).clamp(0, 1))
            for token in range(TOKENS):
                claims = [float(heat[token]) for heat in heats]
                best = max(claims)
                close = sum(abs(claim - best) < 1e-5 and claim < 1 for claim in claims) > 1
                if close or abs(best - threshold) < 1e-5:
                    continue
                owner = claims.index(best) if best >= threshold else None
                assert [bool(found[number, row, token]) for number in range(2)] == [owner == 0, owner == 1]
    together = recorded.mask
    assert torch.equal(together, torch.stack([subject.mask for subject in recorded.subjects]).amax(0))
    assert torch.equal(recorded.of("dog").mask, recorded.subjects[1].mask)
    with pytest.raises(ValueError, match=r"^subject: the run followed no 'cat', but fox, dog"):
        recorded.of("cat")


@pytest.mark.parametrize("kind", ["contrast", "appearance"])
@pytest.mark.parametrize("subjects", [1, 2])
def test_a_run_that_starts_with_known_masks_is_the_same_bit_for_bit(subjects: int, kind: MaskKind) -> None:
    fox, dog = SubjectTokens((1,), (2, 3)), SubjectTokens((2, 3), (1,))
    cast = (CastMember("fox", (fox,) * 3, (None,) * 3), CastMember("dog", (None, dog, dog), (("previous",),) * 3))
    config = KVShareConfig(masks=MaskSettings(kind, hysteresis=0.2, start="maps"), share_background=True)
    plan = SharePlan(timeline_of(*beats_of(3)), config, beat_tokens=((0, 1, 2, 3),) * 3, cast=cast[:subjects])

    def outputs(plan: SharePlan, steps: range) -> tuple[list[torch.Tensor], SamplingRun]:
        model = FakeModel(plan, self_and_cross(2), GRID, text_tokens=5)
        session = model.session()
        results = [model.run_pass(session, step=step) for step in steps]
        calls = [call for passed in results for _, output in passed for calls in output.values() for call in calls]
        return calls, session

    whole, _ = outputs(plan, range(4))
    first, session = outputs(plan, range(2))
    recorded, _ = session.finish()
    assert recorded is not None
    rest, session = outputs(replace(plan, known=recorded.segments), range(2, 4))
    assert session.shared_calls > 0
    assert all(torch.equal(one, other) for one, other in zip(whole, [*first, *rest], strict=True))
    fresh, _ = outputs(plan, range(2, 4))
    assert not all(torch.equal(one, other) for one, other in zip(rest, fresh, strict=True))
