"""From what the nodes hold to the frozen plan that a session works from."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..config import KVShareConfig
from ..prompt_words import SubjectTokens, WordError, find_subject, split_words
from ..record.look_point import parse_look_point
from ..script.film import Source, Subject
from ..timeline.timeline import Timeline
from .share_plan import CastMember, SharePlan

Named = dict[str, list[Subject | None]]
"""The script's subjects by name: what it says of each in every beat, None in beats that do not show it."""


def make_plan(
    timeline: Timeline, config: KVShareConfig, subject: str, mask: torch.Tensor | None, look_at: str = ""
) -> SharePlan:
    """Resolves the words of the script's subjects, or of `subject` where the script names none, in every beat. A mask
    overrides the words and is one subject, and so do the token places of the configuration; without any of them
    everything is shared. Prompts that say `subject: none` do not show it.

    mask: [pictures, h, w] in 0..1, one picture for all frames or one for each frame of the video. look_at: a point to
    record, as look_point.parse_look_point reads it; empty for none. Raises words.WordError for a word that a prompt
    does not have, ValueError for a mask with a wrong number of pictures, for `subject` beside other subjects of the
    script or where no prompt shows any, and as SharePlan does.
    """
    plan = _plan_of_subject(timeline, config, subject, mask)
    return replace(plan, look=parse_look_point(look_at, timeline.frames)) if look_at.strip() else plan


def _plan_of_subject(timeline: Timeline, config: KVShareConfig, subject: str, mask: torch.Tensor | None) -> SharePlan:
    named = _named_by_script(timeline)
    if mask is not None:
        if mask.ndim != 3 or mask.shape[0] not in (1, timeline.frames):
            raise ValueError(
                f"mask: it has {mask.shape[0]} pictures; give 1 for all frames, or one for each of the "
                f"{timeline.frames} frames of the timeline."
            )
        return SharePlan(timeline, config, mask=mask, cast=_only_member(named))
    if config.masks.ref_token_idx:
        return _plan_of_places(timeline, config, named)
    if named:
        _check_agreement(named, subject)
        cast = tuple(
            CastMember(
                name,
                tuple(
                    None if said is None else _tokens(timeline, beat, said.words) for beat, said in enumerate(in_beats)
                ),
                _sources(in_beats),
            )
            for name, in_beats in named.items()
        )
        return SharePlan(timeline, config, beat_tokens=_beat_tokens(timeline), cast=cast)
    if not subject.strip():
        return SharePlan(timeline, config)
    shown = [beat for beat, said in enumerate(timeline.beats) if said.script.subjects != ()]
    if not shown:
        raise ValueError(f"subject: it is '{subject.strip()}', but every prompt says that it shows none.")
    subjects = {beat: _tokens(timeline, beat, subject) for beat in shown}
    if len(shown) == len(timeline.beats):
        return SharePlan(timeline, config, tuple(subjects.values()), _beat_tokens(timeline))
    beats = range(len(timeline.beats))
    only = CastMember(subject.strip(), tuple(map(subjects.get, beats)), (None,) * len(beats))
    return SharePlan(timeline, config, beat_tokens=_beat_tokens(timeline), cast=(only,))


def _named_by_script(timeline: Timeline) -> Named:
    """The script's subjects."""
    named: Named = {}
    for number, beat in enumerate(timeline.beats):
        shown = timeline.script.subjects if beat.script.subjects is None else beat.script.subjects
        for subject in shown:
            named.setdefault(subject.name, [None] * len(timeline.beats))[number] = subject
    return named


def _check_agreement(named: Named, subject: str) -> None:
    """Raises ValueError when `subject` is given and the script names anything else."""
    said = {" ".join(split_words(found.words)) for in_beats in named.values() for found in in_beats if found}
    if subject.strip() and said != {" ".join(split_words(subject))}:
        raise ValueError(
            f"subject: it is '{subject.strip()}', but the script names {', '.join(named)} itself; leave subject empty, "
            "or take the subjects out of the script."
        )


def _sources(in_beats: Sequence[Subject | None]) -> tuple[tuple[Source, ...] | None, ...]:
    return tuple(None if said is None else said.sources for said in in_beats)


def _only_member(named: Named) -> tuple[CastMember, ...]:
    """The script's subject, when it names one, for what is not found by its words."""
    return tuple(CastMember(name, (), _sources(in_beats)) for name, in_beats in named.items() if len(named) == 1)


def _tokens(timeline: Timeline, number: int, subject: str) -> SubjectTokens:
    beat = timeline.beats[number]
    if beat.words is None:
        raise WordError(
            "subject: the words of this text encoder cannot be located yet; leave subject empty, connect a mask, "
            "or give the places of its tokens as ref_token_idx and cur_token_idx."
        )
    return find_subject(beat.prompt, beat.words, subject)


def _beat_tokens(timeline: Timeline) -> tuple[tuple[int, ...], ...]:
    """All real tokens of every beat; empty when they are unknown."""
    known = tuple(beat.words.tokens for beat in timeline.beats if beat.words is not None)
    return known if len(known) == len(timeline.beats) else ()


def _plan_of_places(timeline: Timeline, config: KVShareConfig, named: Named) -> SharePlan:
    """The plan when the subject is given by the places of its text tokens, as in the paper's code."""
    if len(named) > 1:
        raise ValueError(
            f"config: ref_token_idx gives the places of one subject, but the script names {', '.join(named)}; leave "
            "ref_token_idx and cur_token_idx empty, or name one subject."
        )
    words = [beat.words for beat in timeline.beats]

    def subjects(places: tuple[int, ...]) -> tuple[SubjectTokens, ...]:
        return tuple(SubjectTokens(places, () if found is None else found.other_content(places)) for found in words)

    masks = config.masks
    return SharePlan(
        timeline,
        config,
        subjects(masks.ref_token_idx),
        _beat_tokens(timeline),
        target_subjects=subjects(masks.cur_token_idx) if masks.cur_token_idx != masks.ref_token_idx else (),
        cast=_only_member(named),
    )
