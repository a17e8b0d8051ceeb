"""Sources, strength, gaps and several subjects of a script in the host's own models: one with cross-attention and one
with joint attention."""

from dataclasses import replace
from typing import Any

import comfy.sample
import pytest
import torch
from comfy.k_diffusion.sampling import sample_euler
from comfy.samplers import KSAMPLER

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.prompt_words import PromptWords, SubjectTokens
from kvshare_core.record.record import ONLY_SUBJECT, SegmentMasks
from kvshare_core.script.film import Duration, Script, ScriptBeat, Subject, Transition
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.oracles.sources_oracle import Oracle
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.tiny.models import Sampling

FOX, DOG = Subject("fox", "fox"), Subject("dog", "dog", ("previous",))
SHARED = KVShareConfig(share_background=True)


def film(*beats: ScriptBeat, overlap: int = 1, **said: Any) -> Timeline:
    """Beats of one segment each; `fox` stands at tokens 0 and 1 of every prompt, `dog` at 2, `run` at 3."""
    timeline = plan_timeline(Script(beats, **said), 3, overlap, fps=8, temporal_compression=4)
    words = PromptWords(("fox", "dog", "run"), ((0, 1), (2,), (3,)))
    return replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))


def beat(gap: int | None = None, **said: Any) -> ScriptBeat:
    transition = None if gap is None else Transition("cut", gap=Duration(gap, "latent frames"))
    return ScriptBeat("fox dog run", transition=transition, **said)


FILMS: dict[str, Timeline] = {
    "two subjects with sources of their own": film(beat(), beat(subjects=(FOX,)), beat(), subjects=(FOX, DOG)),
    "a beat that sees beat 1 and one that is weaker": film(
        beat(), beat(strength=0.5), beat(strength=0.0), beat(sources=(1,)), subjects=(FOX,)
    ),
    "gaps across cuts": film(beat(), beat(5), beat(2, sources=("first", "previous")), subjects=(FOX, DOG)),
}


@pytest.fixture(scope="module", params=["wan t2v", "hunyuan video"])
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return CASES[request.param]


def sample(case: FamilyCase, plan: SharePlan, **options: Any) -> torch.Tensor:
    patched, _ = apply(model_of(case.name), plan)
    timeline = plan.timeline
    return Sampling(**options).run(patched, case.positive(timeline), case.negative(timeline), case.shape(timeline))


@pytest.mark.parametrize(
    ("name", "changes"),
    [*((name, {}) for name in FILMS), *((name, {"key_contrast": 1.3}) for name in FILMS)],
)
def test_every_call_of_a_film_equals_the_dense_reference_of_its_script(
    case: FamilyCase, name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(FILMS[name], replace(SHARED, **changes), "", None)
    family, _ = model_info(model_of(case.name))
    scheme = family.rope_scheme(model_of(case.name).get_model_object("diffusion_model"), {})
    oracle = Oracle(plan, scheme)
    monkeypatch.setattr(SamplingRun, "attend", oracle.attend(SamplingRun.attend))
    assert torch.isfinite(sample(case, plan)).all()
    assert set(oracle.checked) == {segment.index for segment in plan.timeline.segments if plan.sources(segment.index)}


def test_one_subject_of_the_script_is_the_subject_of_the_node(case: FamilyCase) -> None:
    """Named with the same sources, or as words beside themselves, bit for bit."""
    config = KVShareConfig(sources="first and previous")
    plain = make_plan(film(beat(), beat(), beat()), config, "fox", None)
    said = film(*[beat(sources=("first", "previous"))] * 3, subjects=(FOX,))
    named = make_plan(said, KVShareConfig(), "fox", None)
    assert named.names == ("fox",)
    assert torch.equal(sample(case, named), sample(case, plain))


def test_a_beat_without_strength_or_sources_is_off_bit_for_bit(case: FamilyCase) -> None:
    off = sample(case, make_plan(film(beat(), beat(), beat(), overlap=0), KVShareConfig(mode="off"), "", None))
    for said in ({"strength": 0.0}, {"sources": ()}, {"subjects": ()}):
        timeline = film(beat(), beat(**said), beat(), overlap=0, subjects=(FOX,))
        found = sample(case, make_plan(timeline, KVShareConfig(sources="previous"), "", None))
        assert torch.equal(found[:, :, :6], off[:, :, :6])
        # The last beat still reads what the one before it leaves.
        changed = (found[:, :, 6:] - off[:, :, 6:]).abs().max()
        assert changed == 0 if said == {"subjects": ()} else changed > 1e-4
    everywhere = film(*[beat(sources=())] * 3, overlap=0)
    assert torch.equal(sample(case, make_plan(everywhere, SHARED, "fox", None)), off)


def test_a_run_resumed_with_recorded_masks_is_the_same_bit_for_bit(case: FamilyCase) -> None:
    timeline = film(beat(), beat(), beat(), subjects=(FOX, DOG))
    plan = make_plan(timeline, SHARED, "", None)
    sigmas = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    between: list[torch.Tensor] = []

    def run(plan: SharePlan, first: int, last: int) -> tuple[torch.Tensor, Any]:
        """Steps from `first` to `last` of the four; later ones begin with what `between` has."""

        def steps(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
            if first > 0:
                x = between[0]
            reached = sample_euler(model, x, sigmas[first : min(last, 2) + 1], **options) if first < 2 else x
            if first < 2:
                between.append(reached.clone())
            return sample_euler(model, reached, sigmas[2 : last + 1], **options) if last > 2 else reached

        patched, record = apply(model_of(case.name), plan)
        shape = case.shape(timeline)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        positive, negative = case.positive(timeline), case.negative(timeline)
        with torch.inference_mode():
            found = comfy.sample.sample_custom(
                patched, noise, 3.0, KSAMPLER(steps), sigmas, positive, negative, torch.zeros(shape), disable_pbar=True
            )
        return found, record.latest()

    whole, _ = run(plan, 0, 4)
    between.clear()
    _, recorded = run(plan, 0, 2)
    assert recorded.segments.names == ("fox", "dog")
    assert [mask.shape[:2] for mask in recorded.segments.masks] == [(2, 1)] * 3
    rest, _ = run(replace(plan, known=recorded.segments), 2, 4)
    assert torch.equal(rest, whole)
    forgetful, _ = run(plan, 2, 4)
    assert not torch.equal(forgetful, whole)


# Who the subjects are.


def test_beats_name_their_own_subjects() -> None:
    second = Subject("fox", "dog", ("first",))
    plan = make_plan(film(beat(), beat(subjects=(second,)), beat(subjects=()), subjects=(FOX, DOG)), SHARED, "", None)
    assert plan.names == ("fox", "dog")
    assert [plan.tokens(number, "both") for number in range(3)] == [
        (SubjectTokens((0, 1), (2, 3)), SubjectTokens((2,), (0, 1, 3))),
        (SubjectTokens((2,), (0, 1, 3)), None),
        (None, None),
    ]
    assert [member.sources for member in plan.cast] == [(None, ("first",), None), (("previous",), None, None)]


def test_words_of_the_node_may_be_absent_from_prompts_without_a_subject() -> None:
    silent = replace(film(beat(), beat(subjects=()), beat()).beats[1], words=PromptWords(("run",), ((0,),)))
    timeline = film(beat(), beat(subjects=()), beat())
    timeline = replace(timeline, beats=(timeline.beats[0], silent, timeline.beats[2]))
    plan = make_plan(timeline, SHARED, "fox", None)
    assert plan.names == ("fox",)
    assert [plan.tokens(number, "both") for number in range(3)] == [
        (SubjectTokens((0, 1), (2, 3)),),
        (None,),
        (SubjectTokens((0, 1), (2, 3)),),
    ]
    with pytest.raises(ValueError, match=r"^subject: it is 'fox', but every prompt says that it shows none"):
        make_plan(film(beat(subjects=()), beat(subjects=())), SHARED, "fox", None)


def test_words_of_the_node_are_refused_where_the_script_names_subjects() -> None:
    timeline = film(beat(), beat(), subjects=(FOX, DOG))
    with pytest.raises(ValueError, match=r"^subject: it is 'fox', but the script names fox, dog itself; leave subject"):
        make_plan(timeline, SHARED, "fox", None)
    with pytest.raises(ValueError, match=r"^subject: it is 'dog', but the script names fox itself"):
        make_plan(film(beat(), subjects=(FOX,)), SHARED, "dog", None)


def test_a_subject_has_the_name_that_the_user_gave_whichever_beats_show_it() -> None:
    everywhere, hidden = film(beat(), beat(), beat()), film(beat(), beat(subjects=()), beat())
    named = film(beat(), beat(), beat(), subjects=(FOX,))
    plans = [make_plan(timeline, SHARED, "fox", None) for timeline in (everywhere, hidden, named)]
    assert {plan.names for plan in plans} == {("fox",)}
    for masks in (SegmentMasks(("fox",), (None,) * 3), SegmentMasks((ONLY_SUBJECT,), (None,) * 3)):
        for plan in plans:
            assert replace(plan, known=masks).known is masks


def test_a_mask_and_token_places_are_one_subject() -> None:
    timeline = film(beat(), beat(), subjects=(FOX, DOG))
    masked = make_plan(timeline, SHARED, "", torch.ones(1, 8, 8))
    assert (masked.names, masked.finds_subjects, masked.sources(1)) == (("subject",), False, (0,))
    assert make_plan(timeline, SHARED, " red  fox", torch.ones(1, 8, 8)).names == ("red fox",)
    places = KVShareConfig(masks=MaskSettings(ref_token_idx=(1,), cur_token_idx=(1,)))
    with pytest.raises(ValueError, match=r"^config: ref_token_idx gives the places of one subject, but .* fox, dog"):
        make_plan(timeline, places, "", None)
    with pytest.raises(ValueError, match=r"^config: the paper's method follows one subject, but .* fox, dog"):
        make_plan(timeline, DITCTRL, "", None)
    alone = film(beat(), beat(), beat(), subjects=(DOG,))
    for plan in (make_plan(alone, places, "", None), make_plan(alone, SHARED, "", torch.ones(1, 8, 8))):
        assert (plan.names, plan.part_sources(2).subjects) == (("dog",), ((1,),))
