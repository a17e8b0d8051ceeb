"""From what the nodes hold to the frozen plan that a session works from."""

from dataclasses import replace

import torch

from ..config import KVShareConfig
from ..plan import SharePlan, parse_look_point
from ..timeline import Timeline
from ..words import SubjectTokens, WordError, find_subject


def make_plan(
    timeline: Timeline, config: KVShareConfig, subject: str, mask: torch.Tensor | None, look_at: str = ""
) -> SharePlan:
    """Resolves the subject's words in every beat. A mask overrides the words, and so do the token places of the
    configuration; without any of them everything is shared.

    mask: [pictures, h, w] in 0..1, one picture for all frames or one for each frame of the video. Raises
    words.WordError for a word that a prompt does not have, ValueError for a mask with a wrong number of pictures.
    look_at: a point to record, as plan.parse_look_point reads it; empty for none.
    """
    plan = _plan_of_subject(timeline, config, subject, mask)
    return replace(plan, look=parse_look_point(look_at, timeline.frames)) if look_at.strip() else plan


def _plan_of_subject(timeline: Timeline, config: KVShareConfig, subject: str, mask: torch.Tensor | None) -> SharePlan:
    if mask is not None:
        if mask.ndim != 3 or mask.shape[0] not in (1, timeline.frames):
            raise ValueError(
                f"mask: it has {mask.shape[0]} pictures; give 1 for all frames, or one for each of the "
                f"{timeline.frames} frames of the timeline."
            )
        return SharePlan(timeline, config, mask=mask)
    if config.masks.ref_token_idx:
        return _plan_of_places(timeline, config)
    if not subject.strip():
        return SharePlan(timeline, config)
    subjects: list[SubjectTokens] = []
    tokens: list[tuple[int, ...]] = []
    for beat in timeline.beats:
        if beat.words is None:
            raise WordError(
                "subject: the words of this text encoder cannot be located yet; leave subject empty, connect a mask, "
                "or give the places of its tokens as ref_token_idx and cur_token_idx."
            )
        subjects.append(find_subject(beat.prompt, beat.words, subject))
        tokens.append(beat.words.tokens)
    return SharePlan(timeline, config, tuple(subjects), tuple(tokens))


def _plan_of_places(timeline: Timeline, config: KVShareConfig) -> SharePlan:
    """The plan when the subject is given by the places of its text tokens, as in the paper's code."""
    words = [beat.words for beat in timeline.beats]
    known = tuple(found for found in words if found is not None)
    tokens = tuple(found.tokens for found in known) if len(known) == len(words) else ()

    def subjects(places: tuple[int, ...]) -> tuple[SubjectTokens, ...]:
        return tuple(SubjectTokens(places, () if found is None else found.other_content(places)) for found in words)

    masks = config.masks
    return SharePlan(
        timeline,
        config,
        subjects(masks.ref_token_idx),
        tokens,
        target_subjects=subjects(masks.cur_token_idx) if masks.cur_token_idx != masks.ref_token_idx else (),
    )
