"""The plan of a film while the user edits it, before any run: where its parts are in the text, when they are shown, and
what a run will cost. Values for JSON; times in latent frames and video frames."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.model_management import get_torch_device, get_total_memory

from ...config import KVShareConfig, format_indices
from ...plan.forecast import Forecast, ModelFacts, Sampling, forecast, windows_extra
from ...plan.making import make_plan
from ...plan.model_fit import FittedPlan, fit_plan
from ...plan.share_plan import SharePlan
from ...prompt_words import find_words
from ...script.editor_places import read_film, unit_offset
from ...script.film import Script, ScriptError, Transition
from ...script.text_reader import line_starts
from ...timeline.planning import overridden_inputs, plan_timeline
from ...timeline.timeline import Timeline, TimelineError
from ..sampling.memory import bank_budget, bytes_on_device
from ..workers.workers import check_film
from .remarks import ALONE, Remark, missing_loras, too_large, unnamed_subject, why_off, wrong_weights, wrong_words
from .told_split import told_split

Json = dict[str, Any]

SHARER = "Mask-Guided KV Share"

ASSUMED_FRAMES, ASSUMED_COMPRESSION = 21, 4
"""Latent frames of a clip, and video frames per latent frame, while the model is unknown: those of Wan."""


@dataclass(frozen=True)
class Film:
    """The inputs of LongVideoSegmenter that the plan depends on, by their names and with their defaults."""

    prompts: str
    negative_prompt: str = ""
    width: int = 832
    height: int = 480
    fps: float = 16.0
    sampling_num_frames: int = 0
    overlap_size: int = 2
    batch_size: int = 1
    num_transition_blocks: int = 0
    longer_mid_segment: int = 0


@dataclass(frozen=True)
class Surroundings:
    """The nodes around LongVideoSegmenter. model: None while it is unknown; config: None when nothing shares; subject,
    masked, sharer: those of MaskGuidedKVShare and the node's id; steps: of the sampler, None when unknown; guided:
    whether its CFG is not 1; alone: whether no node takes the timeline. problems, notes: what is wrong with other
    nodes, and what had to be assumed about them. workers: that of KVShareWorkers, None without that node."""

    model: ModelFacts | None = None
    config: KVShareConfig | None = None
    subject: str = ""
    masked: bool = False
    sharer: str = ""
    steps: int | None = None
    guided: bool = True
    alone: bool = False
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    workers: int | None = None


def _go_on() -> None:
    pass


def tell(film: Film, around: Surroundings, go_on: Callable[[], None] = _go_on) -> Json:
    """The answer for an editor. go_on: called between the parts of the work; what it raises ends the work.

    error: why the film cannot be read or planned, with `at`, its position in the text, and `beat`, if known; without
    `beats` when it cannot be read. problems: what would stop a run from starting, and warnings: what a user would not
    expect of one, as remarks.Remark; named: the words of the subjects that a new beat shows; notes: what the user
    should know.
    """
    problems = [Remark(message).told() for message in around.problems]
    try:
        script, answer = read_film(film.prompts)
    except ScriptError as reason:
        at = None if reason.place is None else unit_offset(film.prompts, *reason.place)
        beat = None if reason.place is None else _beat_at(film.prompts, reason.place[0])
        error = {"message": str(reason), "at": at, "beat": beat}
        return {"error": error, "problems": problems, "warnings": [], "notes": []}
    go_on()
    try:
        timeline, error = _planned(script, film, around.model), None
    except TimelineError as reason:
        error = {"message": str(reason), "at": None, "beat": None}
        timeline = _roughly_planned(script, film, around.model)
    answer |= {
        "error": error,
        "notes": list(around.notes),
        "problems": problems,
        "warnings": [ALONE.told()] if around.alone else [],
        "model_known": around.model is not None,
        "named": " and ".join(one.words for one in script.subjects) or " ".join(around.subject.split()),
    }
    if timeline is None:
        return answer
    go_on()
    answer |= _times(timeline)
    for beat, planned in zip(answer["beats"], timeline.beats, strict=True):
        beat |= {"start": planned.start, "stop": planned.stop}
    if error is None:
        _add_plan(answer, timeline, film, around, go_on)
    return answer


def _beat_at(text: str, line: int) -> int | None:
    """The prompt, counted from 0, in whose lines the reader stopped: the one after all that can be read before."""
    start = line_starts(text)[line - 1]
    try:
        beats = len(read_film(text[:start])[1]["beats"])
    except ScriptError as reason:
        # Nothing but settings and comments is before it, or another mistake.
        return 0 if reason.place is None else None
    return beats - text[start:].lstrip().startswith("|")


def _planned(script: Script, film: Film, model: ModelFacts | None) -> Timeline:
    return plan_timeline(
        script,
        film.sampling_num_frames or (ASSUMED_FRAMES if model is None else model.info.native_frames),
        film.overlap_size,
        film.fps,
        ASSUMED_COMPRESSION if model is None else model.info.compression[0],
        film.num_transition_blocks,
        film.longer_mid_segment,
        None if model is None else model.info.frame_cycle,
    )


def _roughly_planned(script: Script, film: Film, model: ModelFacts | None) -> Timeline | None:
    """The film with cuts for all transitions, to show something while it cannot be planned; None when this cannot be
    planned either."""
    cut = Transition("cut")
    beats = [beat if number == 0 else replace(beat, transition=cut) for number, beat in enumerate(script.beats)]
    plain = replace(film, overlap_size=0, num_transition_blocks=0)
    try:
        return _planned(replace(script, beats=tuple(beats)), plain, model)
    except TimelineError:
        return None


def _times(timeline: Timeline) -> Json:
    return {
        "fps": timeline.fps,
        "scale": timeline.temporal_compression,
        "cycle": None if timeline.frame_cycle is None else list(timeline.frame_cycle.pictures),
        "loop": timeline.script.loop,
        "latent_frames": timeline.latent_frames,
        "frames": timeline.frames,
        "window": timeline.window,
    }


def _add_plan(answer: Json, timeline: Timeline, film: Film, around: Surroundings, go_on: Callable[[], None]) -> None:
    script = timeline.script
    answer["notes"] += [*timeline.rounded_transitions(), *timeline.short_windows()]
    answer["notes"] += overridden_inputs(
        script, film.negative_prompt, film.num_transition_blocks, film.longer_mid_segment
    )
    answer["problems"] += [remark.told() for remark in missing_loras(timeline)]
    plan, fitted = _share_plan(answer, timeline, around)
    go_on()
    answer["segments"] = [
        {
            "beat": segment.beat,
            "next_beat": segment.next_beat,
            "start": segment.start,
            "stop": segment.stop,
            "shown": [segment.shown_start, segment.shown_stop],
            "rise": segment.rise,
            "fall": segment.fall,
            "sources": list(plan.sources(segment.index)) if plan is not None and plan.config.mode != "off" else [],
        }
        for segment in timeline.segments
    ]
    answer["windows_extra"] = windows_extra(plan or SharePlan(timeline, KVShareConfig()))
    answer["sharing"] = None
    go_on()
    sampling = Sampling(film.width, film.height, film.batch_size, around.steps, around.guided)
    if plan is not None and around.workers is not None:
        try:
            check_film(plan, around.workers)
            answer["notes"] += told_split(plan, around.model, sampling, around.workers)
        except ValueError as reason:
            answer["problems"].append(Remark(str(reason)).told())
    if fitted is None or around.model is None:
        return
    found = forecast(fitted, around.model.element_size, sampling)
    answer["sharing"] = _sharing(found, fitted.plan, around)
    if answer["sharing"]["off"] is None:
        cost = f"about +{found.extra:.0%} computation".replace("%", " %")
        told = [unnamed_subject(fitted.plan, cost), *_too_large(found, fitted.plan.config)]
        answer["warnings"] += [remark.told() for remark in told if remark is not None]


def _share_plan(answer: Json, timeline: Timeline, around: Surroundings) -> tuple[SharePlan | None, FittedPlan | None]:
    """The plan of MaskGuidedKVShare, and the same fitted to the model if that is known; every word counts as one token,
    since no text encoder is loaded. What the node would refuse becomes a problem, and nothing is shared."""
    if around.config is None:
        return None, None
    beats = tuple(replace(beat, words=find_words(_characters(beat.prompt))) for beat in timeline.beats)
    timeline = replace(timeline, beats=beats)
    mask = torch.ones(1, 1, 1) if around.masked else None
    wrong = wrong_weights(timeline)
    if mask is None and not around.config.masks.ref_token_idx:
        wrong += wrong_words(timeline, around.subject, around.sharer)
    if wrong:
        answer["problems"] += [remark.told() for remark in wrong]
        return None, None
    try:
        plan = make_plan(timeline, around.config, around.subject, mask)
        fitted = None if around.model is None else fit_plan(plan, around.model.info)
        # What one of them has found out of its segments is not found out again for the other.
        return (plan if fitted is None else fitted.plan), fitted
    except ValueError as reason:
        answer["problems"].append(Remark(f"{SHARER}: {reason}").told())
        return None, None


def _characters(prompt: str) -> list[tuple[str, tuple[int, ...]]]:
    """Characters of a prompt, each with the number of its word as its token."""
    words = 0
    characters: list[tuple[str, tuple[int, ...]]] = []
    for before, character in zip(" " + prompt, prompt, strict=False):
        words += before.isspace() and not character.isspace()
        characters.append((character, (words,)))
    return characters


def _too_large(found: Forecast, config: KVShareConfig) -> list[Remark | None]:
    """A remark for each kind of memory of which less is there than what is expected to be held."""
    device, main = get_torch_device(), torch.device("cpu")
    near = bytes_on_device(config.memory, found.expected, bank_budget(config.memory, device))
    room = int(get_total_memory(main))  # pyright: ignore[reportArgumentType]
    if device.type == main.type:
        return [too_large(config, found.expected, room, "system RAM")]
    there = int(get_total_memory(device))  # pyright: ignore[reportArgumentType]
    return [too_large(config, near, there, "VRAM"), too_large(config, found.expected - near, room, "system RAM")]


def _sharing(found: Forecast, plan: SharePlan, around: Surroundings) -> Json:
    config, facts = plan.config, around.model
    device = get_torch_device()
    budget = bank_budget(config.memory, device)
    return {
        "off": why_off(plan, found.blocks, found.steps),
        "expected_bytes": found.expected,
        "bits": 8 if config.memory.dtype == "fp8" or facts is None else 8 * facts.element_size,
        "blocks": format_indices(found.blocks),
        "block_count": len(found.blocks),
        "steps": None if found.steps is None else format_indices(found.steps),
        "step_count": None if found.steps is None else len(found.steps),
        "all_steps": around.steps,
        "limited": found.limited,
        "bytes": found.bytes,
        "exact": found.exact,
        "call_bytes": found.call_bytes,
        "device": device.type,
        "device_bytes": bytes_on_device(config.memory, found.bytes, budget),
        "extra": found.extra,
        "most_extra": found.most_extra,
        "finding": found.finding,
    }
