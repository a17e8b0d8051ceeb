"""What is wrong with a film, or would surprise its user, before any run: in words, with the prompt that it concerns and
the ways out that the editor offers as buttons. Values for JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...config import KVShareConfig
from ...plan.making import weights_in
from ...plan.share_plan import SharePlan
from ...prompt_words import STOP_WORDS, PromptWords, WordError, find_subject, missing_words, nearest_word
from ...script.film import Subject
from ...script.text_form import subject_text
from ...timeline.timeline import Beat, Timeline
from ..conditioning.loras import find_lora

Json = dict[str, Any]

MOST_WORDS = 3
"""How many words are offered as a subject."""
MOST_PROMPTS = 20
"""How many prompts with a wrong word are told of."""
GB = 10**9


@dataclass(frozen=True)
class Remark:
    """One message. beat: counted from 0, None for the whole film; ways: what a button may do, each with its `label`."""

    message: str
    beat: int | None = None
    ways: tuple[Json, ...] = ()

    def told(self) -> Json:
        """For JSON."""
        return asdict(self)


def wrong_words(timeline: Timeline, subject: str, sharer: str) -> list[Remark]:
    """A remark for every prompt without the words of its subject; subject: that of MaskGuidedKVShare, whose node has
    the id `sharer`. Empty when the script names subjects and `subject` is given too, which is another mistake."""
    script = timeline.script
    scripted = bool(script.subjects) or any(beat.script.subjects for beat in timeline.beats)
    if scripted == bool(subject.strip()):
        return []
    given = () if scripted else (Subject("subject", subject.strip()),)
    found: list[Remark] = []
    for number, beat in enumerate(timeline.beats):
        own = beat.script.subjects
        shown = (given or script.subjects) if own is None else own
        found += _wrong_words(number, beat, shown, None if scripted else sharer)
    return found[:MOST_PROMPTS]


def wrong_weights(timeline: Timeline) -> list[Remark]:
    """A remark for every prompt without a word that it weighs, or with a word of two weights."""
    found: list[Remark] = []
    for number, beat in enumerate(timeline.beats):
        try:
            weights_in(beat)
        except WordError as reason:
            found.append(Remark(f"Prompt {number + 1}: {reason}", number))
    return found[:MOST_PROMPTS]


def _wrong_words(number: int, beat: Beat, shown: Sequence[Subject], sharer: str | None) -> Iterator[Remark]:
    known = beat.words or PromptWords((), ())
    for subject in shown:
        try:
            find_subject(beat.prompt, known, subject.words)
        except WordError as reason:
            yield Remark(
                f"Prompt {number + 1}: {reason}", number, tuple(_other_words(number, known, shown, subject, sharer))
            )


def _other_words(
    number: int, known: PromptWords, shown: Sequence[Subject], subject: Subject, sharer: str | None
) -> Iterator[Json]:
    """The way to the nearest word, if there is one for every missing word."""
    words = subject.words
    for missing in missing_words(known, words):
        near = nearest_word(missing, known)
        if near is None:
            return
        words = " ".join(near if word.lower() == missing else word for word in words.split())
    if words == subject.words:
        return
    if sharer is not None:
        yield {"label": f"Use '{words}'", "kind": "widget", "node": sharer, "name": "subject", "value": words}
        return
    values = [subject_text(Subject(one.name, words, one.sources) if one is subject else one) for one in shown]
    yield {"label": f"Use '{words}' here", "kind": "fields", "beat": number, "name": "subject", "values": values}


def missing_loras(timeline: Timeline) -> list[Remark]:
    """A remark for every prompt with a LoRA that there is no file of."""
    found: list[Remark] = []
    for number, beat in enumerate(timeline.beats):
        for lora in beat.script.loras:
            try:
                find_lora(number + 1, lora)
            except ValueError as reason:
                found.append(Remark(f"{str(reason)[:1].upper()}{str(reason)[1:]}", number))
    return found[:MOST_PROMPTS]


def unnamed_subject(plan: SharePlan, cost: str) -> Remark | None:
    """A remark where a plan shares everything since nothing names a subject; cost: what that takes, in words. An edit
    keeps everything but the word on purpose."""
    if not plan.shares or plan.guided or plan.config.is_edit:
        return None
    ways = tuple(
        {"label": f"Subject: {word}", "kind": "line", "text": f"subject: {word}"}
        for word in _common_words(plan.timeline)[:MOST_WORDS]
    )
    return Remark(
        f"No subject is named, so the whole picture is shared: {cost}. Name what should stay the same.", None, ways
    )


def _common_words(timeline: Timeline) -> list[str]:
    """Words of all prompts that name something, in the order of the first prompt."""
    known = [beat.words for beat in timeline.beats if beat.words is not None]
    if not known:
        return []
    first, *others = known
    words = (run[0] for run in first.runs if len(run) == 1 and len(run[0]) > 1)
    return [
        word
        for word in dict.fromkeys(words)
        if word not in STOP_WORDS and all(other.places_of((word,)) for other in others)
    ]


ALONE = Remark(
    "Nothing shares: the timeline is not connected to Mask-Guided KV Share, so every prompt gets a subject of its own.",
    None,
    ({"label": "Add Mask-Guided KV Share", "kind": "sharer"},),
)
"""What to tell where no node takes the timeline."""


def why_off(plan: SharePlan, blocks: Sequence[int], steps: Sequence[int] | None) -> str | None:
    """Why nothing is shared, in words; None where something is."""
    config = plan.config
    if config.mode == "off":
        return "mode is off"
    if not plan.may_share:
        return "strength is 0"
    if len(plan.timeline.segments) == 1:
        return "there is one segment only"
    if not plan.shares:
        return "no prompt has a source"
    if not blocks:
        return "no block is chosen"
    return "no step is chosen" if steps == () else None


def too_large(config: KVShareConfig, size: int, room: int, where: str) -> Remark | None:
    """A remark where keys and values of `size` bytes are expected, and `room` bytes is all there is of `where`."""
    if size <= room:
        return None
    smaller = "" if config.memory.dtype == "fp8" else "dtype fp8 in KV Sharing Memory Settings halves this; "
    return Remark(
        f"Keys and values need about {size / GB:.1f} GB of {where}, and this machine has {room / GB:.1f} GB: "
        f"{smaller}a smaller width and height, sources first or previous, or fewer blocks need less."
    )
