"""Planning takes time in proportion to the film, whatever its prompts say."""

from dataclasses import replace

import pytest

from kvshare_core.config import KVShareConfig, Order
from kvshare_core.families.base import FamilyInfo
from kvshare_core.plan.forecast import Sampling, forecast, windows_extra
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.model_fit import fit_plan
from kvshare_core.prompt_words import find_words
from kvshare_core.script.film import Duration, Script, ScriptBeat, Subject, Transition
from kvshare_core.timeline.limits import MAX_SUBJECTS
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import TimelineError
from tests.support.growth import assert_linear

INFO = FamilyInfo("fake", 4, 2, 8, False, (1, 2, 2), (4, 8, 8), 16, 3)
SAMPLING = Sampling(width=64, height=64, steps=20)
SECOND = Duration(1)


def beat(number: int, kind: str) -> ScriptBeat:
    """Beat `number` of a film in which every beat has what `kind` says."""
    transition = {
        "cut": Transition("cut"),
        "gap": Transition("cut", gap=SECOND),
        "blend": Transition("blend"),
        "segments": Transition("segments", segments=2),
    }.get(kind)
    return ScriptBeat(
        f"a fox{number} runs",
        SECOND,
        transition if number else None,
        subjects=(Subject(f"fox{number}", f"fox{number}"),) if kind == "subject" else None,
        sources=(number - 1,) if kind == "source" and number else None,
    )


def plan(size: int, kind: str, order: Order) -> None:
    """Everything that the editor asks for while the user types."""
    timeline = plan_timeline(Script(tuple(beat(number, kind) for number in range(size))), 5, 1, 16, 4)
    assert timeline.describe()
    words = [find_words((character, (0,)) for character in planned.prompt) for planned in timeline.beats]
    beats = tuple(replace(planned, words=own) for planned, own in zip(timeline.beats, words, strict=True))
    made = make_plan(replace(timeline, beats=beats), KVShareConfig(order=order), "", None)
    assert forecast(fit_plan(made, INFO), 2, SAMPLING).extra > 0
    assert windows_extra(made) > 0
    assert made.gapped_beat == (1 if kind == "gap" else None)
    for segment in timeline.segments:
        assert made.part_sources(segment.index) is not None and made.exported_parts(segment.index) is not None


@pytest.mark.parametrize("order", ["lockstep", "sources_first", "chain"])
@pytest.mark.parametrize("kind", ["plain", "subject", "cut", "gap", "blend", "segments", "source"])
def test_a_film_is_planned_in_proportion_to_its_prompts(kind: str, order: Order) -> None:
    assert_linear(lambda size: plan(size, kind, order), 60)


def test_more_subjects_than_a_film_has_are_refused() -> None:
    script = Script(tuple(beat(number, "subject") for number in range(MAX_SUBJECTS + 1)))
    with pytest.raises(TimelineError, match=r"^prompts: the script names 1,001 subjects; a film has at most 1,000"):
        make_plan(plan_timeline(script, 5, 1, 16, 4), KVShareConfig(), "", None)
