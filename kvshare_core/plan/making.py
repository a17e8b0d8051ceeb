"""Makes a film's plan from what the nodes hold: a timeline, a configuration, and words or a mask of the subject."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..config import KVShareConfig
from ..prompt_words import SubjectTokens, WordError, find_subject, split_words
from ..record.look_point import parse_look_point
from ..record.record import ONLY_SUBJECT
from ..script.film import Source, Subject
from ..timeline.limits import check_subjects
from ..timeline.timeline import Beat, Timeline
from .share_plan import CastMember, SharePlan

ScriptSubjects = Mapping[str, Mapping[int, Subject]]
"""The script's subjects by name: what each is in the beats that show it."""


def make_plan(
    timeline: Timeline, config: KVShareConfig, subject: str, mask: torch.Tensor | None, look_at: str = ""
) -> SharePlan:
    """The plan of a film whose subjects are, the first of these that is there: what a user's `mask` covers, the token
    indices of the configuration, the subjects of the script, or `subject`, words of the prompts. Without any of them
    everything is shared. Prompts with `subject: none` do not show `subject`.

    Words are weighed as the script and the configuration say, whatever the subjects are.

    mask: [pictures, h, w] in 0..1, one picture for all frames or one for each frame of the video. look_at: a point
    whose attention is recorded, as look_point.parse_look_point reads it; empty for none. Raises WordError for a word
    that a prompt does not have, ValueError for a mask with a wrong number of pictures, for a `subject` besides other
    subjects of the script or that no prompt shows, for words with two weights, for an edit without a cut, for sharing
    all but a subject that nothing names, and as SharePlan does.
    """
    look = parse_look_point(look_at, timeline.frames) if look_at.strip() else None
    if config.is_edit:
        timeline = replace(_checked_edit(timeline), noise="same")
    scripted = _script_subjects(timeline)
    plan = SharePlan(timeline, config, look=look, weights=word_weights(timeline, config))
    if mask is not None:
        if mask.ndim != 3 or mask.shape[0] not in (1, timeline.frames):
            raise ValueError(
                f"mask: it has {mask.shape[0] if mask.ndim == 3 else 'no'} pictures; give 1 for all frames, or one for "
                f"each of the {timeline.frames} frames of the timeline."
            )
        return replace(plan, cast=(_located_otherwise(timeline, scripted, subject),), mask=mask)
    if config.masks.ref_token_idx:
        member = _member_at_indices(timeline, config, scripted, subject)
        return replace(plan, cast=(member,), beat_tokens=_beat_tokens(timeline))
    if scripted:
        _check_agreement(scripted, subject)
        cast = tuple(_scripted_member(timeline, name, in_beats) for name, in_beats in scripted.items())
    elif subject.strip():
        cast = (_member_of_words(timeline, subject),)
    elif not config.share_subject and config.mode != "off":
        raise ValueError(
            "config: share_subject is off, but no subject is named, so there is nothing to tell from it. Name the "
            "subject in Mask-Guided KV Share, or turn share_subject on."
        )
    else:
        return plan
    return replace(plan, cast=cast, beat_tokens=_beat_tokens(timeline))


def _checked_edit(timeline: Timeline) -> Timeline:
    """The timeline. Raises ValueError when it has no edit, or a segment that shows two beats: then an edit would not
    stand where its original does."""
    if len(timeline.beats) == 1:
        raise ValueError(
            "config: is_edit takes later prompts for edits of the first, but there is one prompt. Write the edited "
            "prompt below it, with [cut] in between."
        )
    beat = -1
    for segment in timeline.segments:
        begins, beat = segment.beat > beat, segment.beat
        if (begins and segment.rise > 0) or segment.next_beat is not None:
            number = max(1, beat if segment.next_beat is None else segment.next_beat) + 1
            raise ValueError(
                f"config: is_edit takes prompts for edits of the first, but prompt {number} and the one before fade "
                "into each other. Write [cut] between all prompts, and no loop."
            )
        own = timeline.beats[beat]
        if segment.start < own.start or segment.stop > own.stop:
            raise ValueError(
                f"config: is_edit takes prompts for edits of the first, but prompt {beat + 1} lasts "
                f"{own.stop - own.start} latent frames and a segment {segment.length}, which would show another prompt "
                f"too. Set sampling_num_frames in Long Video Segmenter to {own.stop - own.start}, or make the prompt "
                "longer."
            )
    return timeline


def word_weights(timeline: Timeline, config: KVShareConfig) -> tuple[Mapping[int, float], ...]:
    """For each beat the weights of words of its prompt, by their text tokens; empty when no beat has any. The
    configuration's token places are those of an edited prompt: of all but the first, or of the only one.

    Raises WordError for a word that a prompt does not have or that has two weights, ValueError for a place with two.
    """
    beats = timeline.beats
    weights = [weights_in(beat) for beat in beats]
    for found in weights[1:] if len(beats) > 1 else weights:
        for token in config.reweight_token_idx if config.reweight_scale != 1 else ():
            if token in found:
                raise ValueError(
                    f"config: reweight_token_idx has {token}, which is a word that the script weighs. Take one out."
                )
            found[token] = config.reweight_scale
    return tuple(weights) if any(weights) else ()


def weights_in(beat: Beat) -> dict[int, float]:
    """The weights that the script gives words of a prompt, by their text tokens. Raises WordError as word_weights."""
    found: dict[int, float] = {}
    for said in beat.script.weights:
        if beat.words is None:
            raise WordError(
                "weight: the words of this text encoder cannot be located yet. Take the weight out, or give the "
                "places of its tokens as reweight_token_idx in DiTCtrl Config."
            )
        tokens = find_subject(beat.prompt, beat.words, said.words, "weight").subject
        if not found.keys().isdisjoint(tokens):
            raise WordError(f"weight: a word of '{said.words}' has another weight already. Leave one out.")
        found |= dict.fromkeys(tokens, said.weight)
    return found


def _script_subjects(timeline: Timeline) -> ScriptSubjects:
    found: dict[str, dict[int, Subject]] = {}
    for number, beat in enumerate(timeline.beats):
        shown = timeline.script.subjects if beat.script.subjects is None else beat.script.subjects
        for subject in shown:
            found.setdefault(subject.name, {})[number] = subject
    check_subjects(len(found))
    return found


def _check_agreement(scripted: ScriptSubjects, subject: str) -> None:
    """Raises ValueError when `subject` is given and the script names anything else."""
    if not subject.strip():
        return
    named = {" ".join(split_words(found.words)) for in_beats in scripted.values() for found in in_beats.values()}
    if named != {" ".join(split_words(subject))}:
        raise ValueError(
            f"subject: it is '{subject.strip()}', but the script names {', '.join(scripted)} itself; leave subject "
            "empty, or take the subjects out of the script."
        )


def _scripted_member(timeline: Timeline, name: str, in_beats: Mapping[int, Subject]) -> CastMember:
    """A subject of the script, located by its words in every beat."""
    tokens: list[SubjectTokens | None] = [None] * len(timeline.beats)
    for beat, subject in in_beats.items():
        tokens[beat] = _tokens(timeline, beat, subject.words)
    return CastMember(name, tuple(tokens), _sources(timeline, in_beats))


def _member_of_words(timeline: Timeline, subject: str) -> CastMember:
    """The only subject, located by the same words in all beats but those that show none."""
    shows = [beat.script.subjects != () for beat in timeline.beats]
    if not any(shows):
        raise ValueError(f"subject: it is '{subject.strip()}', but every prompt says that it shows none.")
    tokens = tuple(_tokens(timeline, beat, subject) if shown else None for beat, shown in enumerate(shows))
    return CastMember(_name_of(subject), tokens)


def _located_otherwise(timeline: Timeline, scripted: ScriptSubjects, subject: str) -> CastMember:
    """The only subject, where its words do not locate it: the script's when it has one, else named by `subject`."""
    if len(scripted) == 1:
        ((name, in_beats),) = scripted.items()
        return CastMember(name, sources=_sources(timeline, in_beats))
    return CastMember(_name_of(subject) or ONLY_SUBJECT)


def _name_of(subject: str) -> str:
    return " ".join(subject.split())


def _member_at_indices(timeline: Timeline, config: KVShareConfig, scripted: ScriptSubjects, subject: str) -> CastMember:
    """The only subject, located by the configured indices of its text tokens, as in the paper's code."""
    if len(scripted) > 1:
        raise ValueError(
            f"config: ref_token_idx gives the places of one subject, but the script names {', '.join(scripted)}; leave "
            "ref_token_idx and cur_token_idx empty, or name one subject."
        )
    known = [beat.words for beat in timeline.beats]

    def in_every_beat(indices: tuple[int, ...]) -> tuple[SubjectTokens, ...]:
        return tuple(SubjectTokens(indices, () if beat is None else beat.other_content(indices)) for beat in known)

    masks = config.masks
    member = _located_otherwise(timeline, scripted, subject)
    if config.is_edit:
        first, *_ = in_every_beat(masks.ref_token_idx)
        _, *edits = in_every_beat(masks.cur_token_idx)
        return replace(member, tokens=(first, *edits))
    return replace(
        member,
        tokens=in_every_beat(masks.ref_token_idx),
        target_tokens=in_every_beat(masks.cur_token_idx) if masks.cur_token_idx != masks.ref_token_idx else (),
    )


def _sources(timeline: Timeline, in_beats: Mapping[int, Subject]) -> tuple[tuple[Source, ...] | None, ...]:
    sources: list[tuple[Source, ...] | None] = [None] * len(timeline.beats)
    for beat, subject in in_beats.items():
        sources[beat] = subject.sources
    return tuple(sources)


def _tokens(timeline: Timeline, number: int, words: str) -> SubjectTokens:
    beat = timeline.beats[number]
    if beat.words is None:
        raise WordError(
            "subject: the words of this text encoder cannot be located yet; leave subject empty, connect a mask, "
            "or give the places of its tokens as ref_token_idx and cur_token_idx."
        )
    return find_subject(beat.prompt, beat.words, words)


def _beat_tokens(timeline: Timeline) -> tuple[tuple[int, ...], ...]:
    """All real tokens of every beat; empty when they are unknown."""
    known = tuple(beat.words.tokens for beat in timeline.beats if beat.words is not None)
    return known if len(known) == len(timeline.beats) else ()
