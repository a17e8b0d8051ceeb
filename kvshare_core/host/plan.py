"""From what the nodes hold to the frozen plan that a session works from."""

import torch

from ..config import KVShareConfig
from ..session import SharePlan
from ..timeline import Timeline
from ..words import SubjectTokens, WordError, find_subject


def make_plan(timeline: Timeline, config: KVShareConfig, subject: str, mask: torch.Tensor | None) -> SharePlan:
    """Resolves the subject's words in every beat. A mask overrides the words; neither shares everything.

    mask: [pictures, h, w] in 0..1, one picture for all frames or one for each frame of the video. Raises
    words.WordError for a word that a prompt does not have, ValueError for a mask with a wrong number of pictures.
    """
    if mask is not None:
        if mask.ndim != 3 or mask.shape[0] not in (1, timeline.frames):
            raise ValueError(
                f"mask: it has {mask.shape[0]} pictures; give 1 for all frames, or one for each of the "
                f"{timeline.frames} frames of the timeline."
            )
        return SharePlan(timeline, config, (), (), mask)
    if not subject.strip():
        return SharePlan(timeline, config, (), (), None)
    subjects: list[SubjectTokens] = []
    tokens: list[tuple[int, ...]] = []
    for beat in timeline.beats:
        if beat.words is None:
            raise WordError(
                "subject: the words of this text encoder cannot be located yet; leave subject empty or connect a mask."
            )
        subjects.append(find_subject(beat.prompt, beat.words, subject))
        tokens.append(beat.words.tokens)
    return SharePlan(timeline, config, tuple(subjects), tuple(tokens), None)
