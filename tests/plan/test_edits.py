"""Edits of the first beat: whom they attend to, with which tokens, and what is refused; and weights of words."""

from dataclasses import replace
from typing import Any

import pytest

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings
from kvshare_core.plan.making import make_plan
from kvshare_core.prompt_words import PromptWords, WordError, find_words
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline

EDIT = KVShareConfig(is_edit=True)


def film(text: str, overlap: int = 1) -> Timeline:
    """A film in windows of 3, every word of which is a token."""
    timeline = plan_timeline(parse_script(text), 3, overlap, 8, 4)
    return replace(timeline, beats=tuple(replace(beat, words=words_of(beat.prompt)) for beat in timeline.beats))


def words_of(prompt: str) -> PromptWords:
    return find_words((character, (prompt[:place].count(" "),)) for place, character in enumerate(prompt))


def test_each_segment_of_an_edit_attends_to_the_first_beats_at_the_same_time() -> None:
    plan = make_plan(film("[7l] a fox\n[cut]\n[7l] a dog\n[cut]\n[4l] a cat"), EDIT, "", None)
    beats = [segment.beat for segment in plan.timeline.segments]
    assert beats == [0, 0, 0, 1, 1, 1, 2, 2]
    starts = {
        segment.index: segment.start - plan.timeline.beats[segment.beat].start for segment in plan.timeline.segments
    }
    for segment in plan.timeline.segments:
        sources = plan.sources(segment.index)
        assert len(sources) == (segment.beat > 0)
        for source in sources:
            assert beats[source] == 0
            assert abs(starts[source] - starts[segment.index]) <= 1
    assert plan.sources(3) == (0,) and plan.sources(5) == (2,) and plan.sources(6) == (0,)
    assert plan.timeline.noise == "same"


def test_a_source_of_an_edits_own_is_kept() -> None:
    plan = make_plan(film("a fox\n[cut]\na dog\n[cut]\na cat | source: previous"), EDIT, "", None)
    assert [plan.sources(index) for index in range(3)] == [(), (0,), (1,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a fox", "there is one prompt"),
        ("a fox\na dog", "prompt 2 and the one before fade"),
        ("a fox\n[cut]\na dog\n[blend]\na cat", "prompt 3 and the one before fade"),
        ("a fox\n[segments 1]\na dog", "prompt 2 and the one before fade"),
        ("loop: yes\na fox\n[cut]\na dog", "no loop"),
        ("a fox\n[cut]\n[2l] a dog", "prompt 2 lasts 2 latent frames and a segment 3.*sampling_num_frames .* to 2"),
    ],
)
def test_what_is_no_edit_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(film(text), EDIT, "", None)


def test_the_papers_places_are_those_of_the_original_and_of_its_edits() -> None:
    config = replace(
        DITCTRL,
        is_edit=True,
        order="lockstep",
        masks=replace(DITCTRL.masks, ref_token_idx=(1,), cur_token_idx=(2,)),
    )
    plan = make_plan(film("a fox runs\n[cut]\na red fox\n[cut]\na blue fox"), config, "", None)
    for role in ("source", "target", "both"):
        shown = [plan.tokens(beat, role)[0] for beat in range(3)]
        assert [one and one.subject for one in shown] == [(1,), (2,), (2,)]


def test_without_the_subject_only_the_background_is_shared() -> None:
    config = KVShareConfig(share_subject=False, share_background=True)
    plan = make_plan(film("a fox\n[cut]\na fox"), config, "fox", None)
    assert plan.part_sources(1).subjects == ((),)
    assert plan.part_sources(1).background == (0,)
    assert plan.exported_parts(0).background and not plan.exported_parts(0).subjects
    with pytest.raises(ValueError, match="no subject is named"):
        make_plan(film("a fox\n[cut]\na fox"), config, "", None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share_subject": False}, "share_subject and share_background are both off"),
        ({"is_edit": True, "order": "ditctrl"}, "is_edit pairs"),
        ({"reweight_scale": -5.0}, "reweight_scale is -5"),
        ({"reweight_form": "other"}, "choose one of normalised, paper"),
    ],
)
def test_configurations_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KVShareConfig(**values)


def test_words_are_weighed_where_they_stand_in_each_prompt() -> None:
    timeline = film("a fox runs\na red fox runs | weight: red fox 2 | weight: runs 0")
    assert make_plan(timeline, KVShareConfig(), "fox", None).weights == ({}, {1: 2.0, 2: 2.0, 3: 0.0})
    assert make_plan(film("a fox\na fox"), KVShareConfig(), "", None).weights == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a fox | weight: foxes 2", "weight: 'foxes' is not in the prompt 'a fox'. Did you mean 'fox'"),
        ("a red fox | weight: fox 2 | weight: red fox 3", "a word of 'red fox' has another weight already"),
    ],
)
def test_words_that_cannot_be_weighed_are_named(text: str, message: str) -> None:
    with pytest.raises(WordError, match=message):
        make_plan(film(text), KVShareConfig(), "", None)


def test_the_papers_tokens_are_weighed_in_every_prompt_but_the_first() -> None:
    config = replace(DITCTRL, reweight_token_idx=(1,), reweight_scale=0.5)
    two = make_plan(film("a fox\na dog\na cat"), config, "", None)
    assert two.weights == ({}, {1: 0.5}, {1: 0.5})
    assert make_plan(film("a fox"), config, "", None).weights == ({1: 0.5},)
    assert make_plan(film("a fox"), replace(config, reweight_scale=1.0), "", None).weights == ()
    with pytest.raises(ValueError, match="a word that the script weighs"):
        make_plan(film("a fox | weight: fox 2"), config, "", None)


def test_a_segment_weighs_what_any_of_its_texts_does() -> None:
    timeline = film("a fox | weight: fox 2\n[segments 1]\na dog\na cat")
    plan = make_plan(timeline, KVShareConfig(masks=MaskSettings()), "", None)
    weighed = [plan.weighs(segment) for segment in timeline.segments]
    assert weighed == [True, True, False, False]
