"""What a run really did, told from the attention calls that were made, never from its plan.

Other nodes may answer in place of the model, skip blocks or make calls of their own; then steps that were planned to
share do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..forward.forward import Forward
from ..subject.map_reader import UNKNOWN_PROMPT
from .model_pass import ModelPass, sharing_steps
from .settings import RunSettings
from .warn_once import WarnOnce

Reason = Literal[
    "unread",
    "lost",
    "conditioning",
    "answered",
    "skipped",
    "partly",
    "doubted",
    "mask of the call",
    "keys",
    "subject",
    "absent",
]
"""Why a segment did not attend to others everywhere it was to, the first that holds.

unread: a call's arguments are not known. lost: the model's calls could not be told any more. conditioning: it was not
that of the segment alone. answered: the model made no call. skipped: it was not even evaluated. partly: it left blocks
out. doubted: a block made its attention twice. mask of the call: it differs between queries. keys: the segment's
sources left none. subject: it is not found yet. absent: it is in none of both.
"""

EXPECTED: frozenset[Reason] = frozenset({"subject", "absent"})
"""Reasons that are no fault: masks are used from the step after the one that finds them."""

BY_CACHES: tuple[Reason, ...] = ("answered", "skipped", "partly")
"""Reasons that are a step cache's."""


@dataclass
class Tally:
    """What the calls of one evaluation came to."""

    blocks: set[int] = field(default_factory=set[int])
    """Blocks in which something was computed with source keys."""
    reasons: set[Reason] = field(default_factory=set[Reason])
    """Why something else was not."""


@dataclass(frozen=True)
class Outcome:
    """What was planned and what was done, in steps of the sampler and blocks of the model."""

    planned_steps: int = 0
    """Steps in which segments were to attend to others, without those before a subject is found."""
    shared_steps: int = 0
    """Those in which all of them did, in every block."""
    planned_blocks: int = 0
    shared_blocks: int = 0
    """Blocks that shared in some step."""
    found_subjects: bool = False
    """Whether masks were found from attention or from the effect of words."""
    sentence: str | None = None
    """Where done and planned differ, how, why, and what to do."""


@dataclass(frozen=True)
class AccountEntry:
    """One segment that was to attend to others in one step."""

    step: int
    blocks: frozenset[int]
    reason: Reason | None


@dataclass(frozen=True)
class AccountPart:
    """What another process counted in some model calls; the same evaluation may be counted by several."""

    entries: frozenset[AccountEntry]
    causes: Mapping[int, frozenset[Reason]]
    """By step, what kept segments from sharing."""
    explained: frozenset[Reason]


class RunAccount:
    """Counts what the evaluations of one run came to."""

    def __init__(self, settings: RunSettings, warn: WarnOnce):
        self.tally = Tally()
        self._warn = warn
        self._explained: set[Reason] = set()
        self._settings = settings
        self._entries: list[AccountEntry] = []
        self._causes: dict[int, set[Reason]] = {}
        """By step, what kept segments from sharing, also those that only others attend to."""
        self._forwards: list[Forward] = []
        self._steps: set[int] = set()
        self._seen: set[int] = set()

    def explain(self, message: str, *reasons: Reason, kind: str | None = None) -> None:
        """Says at once, with the way out, why something is not shared, so that the end of the run need not repeat it;
        of messages of one kind only the first."""
        self._explained.update(reasons)
        self._warn(message, kind)

    def leave_conditioning(self, message: str) -> None:
        """Counts a forward of the running evaluation that is left as it is, because of its conditioning."""
        self.tally.reasons.add("conditioning")
        self.explain(message, "conditioning")

    def begin_pass(self, now: ModelPass, sample_sigmas: Sequence[float]) -> None:
        """Begins a model call of a run with those sigmas."""
        if not self._seen:
            self._steps.update(sharing_steps(self._settings, sample_sigmas))
        if now.shares:
            self._steps.add(now.step)
        self._seen.add(now.step)

    def begin_evaluation(self) -> None:
        """Begins the ordinary evaluation of a segment."""
        self.tally, self._forwards = Tally(), []

    @property
    def met_prompt(self) -> bool:
        """Whether a forward of the running evaluation had the segment's own prompt."""
        return any(forward.batch.conditional_rows is not None for forward in self._forwards)

    def opened(self, forward: Forward) -> None:
        """Takes a forward of the running evaluation."""
        self._forwards.append(forward)

    def end_evaluation(self, now: ModelPass, attends: bool, waits: bool, trusted: bool) -> None:
        """Ends an evaluation in which a forward was to be opened; one of guidance that perturbs the model does not
        count. Says at once where something answered in place of the model.

        attends: whether its segment was to attend to others; waits: whether its subjects are only being found;
        trusted: whether the model's calls can be told.
        """
        if now.repeats:
            return
        blocks = self._settings.info.blocks
        reasons = set(self.tally.reasons)
        if waits:
            reasons.add("subject")
        if self._forwards:
            reasons.discard("conditioning")
        if not trusted:
            reasons.add("lost")
        elif "conditioning" not in reasons and (
            not self._forwards or any(forward.cache.calls == 0 for forward in self._forwards)
        ):
            reasons.add("answered")
        elif any(len(forward.cache.met) < blocks for forward in self._forwards):
            reasons.add("partly")
        self._causes.setdefault(now.step, set()).update(reasons - EXPECTED)
        if attends:
            done = self.tally.blocks >= set(self._settings.blocks)
            reason = None if done else first_reason(reasons)
            # Blocks that were left out while the subject was only being looked for cost no sharing.
            if reason == "partly" and "subject" in reasons and not self.tally.blocks:
                reason = "subject"
            self._entries.append(AccountEntry(now.step, frozenset(self.tally.blocks), reason))
        known = self._settings.neighbours.caches or len(self._settings.plan.timeline.segments) == 1
        if first_reason(reasons) == "answered" and not known:
            self.explain(ANSWERED.format(who=self._settings.neighbours.cache), "answered")

    def part(self) -> AccountPart:
        """What was counted since the last call of this."""
        causes = {step: frozenset(reasons) for step, reasons in self._causes.items()}
        part = AccountPart(frozenset(self._entries), causes, frozenset(self._explained))
        self._entries.clear()
        self._causes.clear()
        return part

    def take(self, part: AccountPart) -> None:
        """Adds what another process counted."""
        self._entries += part.entries
        for step, reasons in part.causes.items():
            self._causes.setdefault(step, set()).update(reasons)
        self._explained |= part.explained

    def outcome(self, found_subjects: bool) -> Outcome:
        """What the finished run did."""
        plan, neighbours = self._settings.plan, self._settings.neighbours
        if not plan.shares or not self._seen:
            return Outcome(found_subjects=found_subjects)
        if not self._steps:
            return Outcome(found_subjects=found_subjects, sentence=NO_STEP)
        # Samplers choose where they call the model; only beside a cache does a step without a call mean something.
        skipped = self._steps - self._seen if neighbours.caches else set[int]()
        faults = [entry for entry in self._entries if entry.reason not in {None, *EXPECTED}]
        planned = {entry.step for entry in self._entries if entry.reason not in EXPECTED} | skipped
        short = {entry.step for entry in faults} | skipped
        blocks = frozenset[int]().union(*(entry.blocks for entry in self._entries))
        reasons: set[Reason] = {entry.reason for entry in (faults or self._entries) if entry.reason is not None}
        looked_at = short or {entry.step for entry in self._entries}
        reasons.update(*(self._causes.get(step, ()) for step in looked_at))
        if skipped:
            reasons.add("skipped")
        sentence = None
        if reasons and not blocks:
            sentence = "nothing was shared"
        elif unshared := short - {entry.step for entry in faults if entry.blocks}:
            sentence = f"only {len(planned - unshared)} of {len(planned)} steps shared"
        elif short:
            least, wanted = min(len(entry.blocks) for entry in faults), len(self._settings.blocks)
            sentence = f"only {least} of {wanted} blocks shared in {len(short)} of {len(planned)} steps"
        if sentence is not None:
            sentence += self._because(first_reason(reasons), found_subjects)
        return Outcome(
            len(planned), len(planned - short), len(self._settings.blocks), len(blocks), found_subjects, sentence
        )

    def _because(self, reason: Reason | None, found_subjects: bool) -> str:
        """How the sentence ends: with the reason and the way out, where these have not been said yet."""
        if reason in self._explained or (reason == "subject" and UNKNOWN_PROMPT in self._warn):
            return ", for the reason above."
        return f": {LATE if reason == 'subject' and found_subjects else self._way_out(reason)}"

    def _way_out(self, reason: Reason | None) -> str:
        """What to do about reasons that nothing has been said of."""
        cache = self._settings.neighbours.cache
        return {
            "answered": f"{cache} answered in place of the model. Take it off the model, or let it begin after the "
            "steps that share.",
            "skipped": f"{cache} skipped the other steps. Take it off the model, or let it begin after the steps that "
            "share.",
            "partly": f"{cache} left blocks of the model out. Take it off the model.",
            "keys": "segments that others attend to were left out. Take nodes off the model that skip evaluations.",
            "subject": "the subject was not found. Name it in Mask-Guided KV Share by other words of the prompt, or "
            "connect a mask.",
            "absent": "no two segments show the same subject. Name a subject that several prompts have.",
        }[reason or "keys"]


ANSWERED = (
    "{who} answered in place of the model, so a segment neither attended to others nor gave them its keys, and it may "
    "have been given what another segment left. Take it off the model."
)
"""What a run says of the first evaluation of a segment in which the model made no attention call."""

LATE = (
    "the subject was found in the last step that was to share, and masks are used from the next one on. Give the "
    "sampler more steps, or widen start_percent and end_percent in KV Sharing Config."
)
"""Why nothing is shared in a run that is too short to use what it finds."""

NO_STEP = (
    "nothing was shared: none of this run's steps is among those that the configuration names. Change start_percent, "
    "end_percent or step_idx in KV Sharing Config, or the steps of the sampler."
)
"""What a run says whose configuration leaves it no step."""


def first_reason(reasons: set[Reason]) -> Reason | None:
    """The one of several reasons that explains the others."""
    order: tuple[Reason, ...] = get_args(Reason)
    return next((reason for reason in order if reason in reasons), None)
