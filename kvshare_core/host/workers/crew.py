"""The workers of one run: which segments each has, and what it has been told."""

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...plan.schedule import Evaluation, Role
from ...plan.worker_split import Split, evaluations_for
from ...subject.found_part import FoundPart
from .messages import CallMessage, Names, RunFacts
from .pool import Pool
from .travel import travelling_entry


@dataclass(frozen=True)
class ModelCall:
    """One model call, as it is told to any worker."""

    timestep: torch.Tensor
    sigmas: torch.Tensor
    options: Mapping[str, Any]
    shapes: tuple[torch.Size, ...]
    lists: tuple[Names | None, ...]
    needed: tuple[Evaluation, ...]
    pieces: Mapping[int, torch.Tensor]
    images: bool
    early: bool
    needs_sources: bool
    teachers: frozenset[int]
    """Segments in which later ones see what their subjects look like."""
    whole: bool
    """Whether every worker evaluates everything."""
    found: FoundPart
    """What was known before the call."""
    last_sigma: float | None
    """Noise level of the call before, None in the first of a stage."""

    @property
    def sigma(self) -> float:
        return float(self.timestep.max())


@dataclass(frozen=True)
class NamedEntry:
    """A conditioning and its parts, held so that their identities stay theirs."""

    entry: Any
    parts: tuple[Any, ...]
    name: str

    def is_as(self, parts: tuple[Any, ...]) -> bool:
        """Whether nothing was replaced in it."""
        return len(parts) == len(self.parts) and all(map(operator.is_, parts, self.parts))


class Entries:
    """Conditioning that workers know by name."""

    def __init__(self, pool: Pool, prefix: str, device: torch.device):
        """device: where the model computes in this process."""
        self.contents: dict[str, Any] = {}
        """References to what the names mean."""
        self._pool, self._prefix, self._device = pool, prefix, device
        self._known: dict[int, NamedEntry] = {}

    def name_of(self, entry: dict[str, Any]) -> str:
        """The name of an entry; a new one for an entry in which something was replaced."""
        parts = (*entry.values(), *entry["model_conds"].values())
        known = self._known.get(id(entry))
        if known is None or not known.is_as(parts):
            known = self._known[id(entry)] = NamedEntry(entry, parts, f"{self._prefix} {len(self.contents)}")
            self.contents[known.name] = self._pool.put(travelling_entry(entry, self._device))
        return known.name


class Crew:
    """Workers by their numbers in the pool."""

    def __init__(self, pool: Pool, facts: RunFacts, patches: Any, device: torch.device):
        """patches: of weights, those of the facts' recipe; None for none. device: where the model computes in this
        process."""
        self.pool = pool
        self.facts = facts
        self.entries = Entries(pool, f"run {facts.run} entry", device)
        if facts.recipe.patches is not None:
            self.entries.contents[facts.recipe.patches] = pool.put(patches)
        self.own: list[frozenset[int]] = [frozenset()] * pool.count
        """The segments of each."""
        self.stages: list[ModelCall] = []
        """Of every early stage that has ended, the last call that left keys."""
        self._dead: set[int] = set()
        self._told: list[set[str]] = [set() for _ in range(pool.count)]
        self._looks: list[set[int]] = [set() for _ in range(pool.count)]

    @property
    def busy(self) -> list[int]:
        """Workers that have segments."""
        return [number for number, own in enumerate(self.own) if own]

    def begin(self, split: Split) -> None:
        """Divides the segments, and begins the run on all workers that get any."""
        for number, span in enumerate(split.spans):
            self.own[number] = frozenset(span.own)
            self.set_up(number, None)

    def share_out(self, needed: Collection[int]) -> None:
        """Gives segments that only some model calls evaluate to the first worker."""
        unowned = {*needed} - frozenset[int]().union(*self.own)
        if unowned:
            first = self.busy[0]
            self.own[first] |= unowned

    def set_up(self, number: int, told: ModelCall | None) -> None:
        """Begins the run on a worker, and brings it to where the run is: before the model call `told`, or at its
        start."""
        run, call = self.facts.run, self.pool.call
        if self.facts.recipe.patches is not None:
            self._tell(number, [self.facts.recipe.patches])
        call(number, "begin", self.facts)
        self._looks[number] = set()
        for stage in self.stages:
            # What sources left in the bank at the end of an early stage, they leave again.
            self._settle(number, stage)
            self.ask(number, stage)
            call(number, "next_stage", run)
        if told is not None:
            self._settle(number, told)

    def ask(self, number: int, told: ModelCall) -> Any:
        """Sends a worker its part of a model call; a reference to the reply."""
        self._tell(number, [name for names in told.lists for name in names or ()])
        reference = self.pool.call(number, "evaluate", self._message(number, told))
        self._looks[number] |= told.found.looks.keys()
        return reference

    def next_stage(self) -> None:
        """Ends a stage of the run."""
        for number in self.busy:
            self.pool.call(number, "next_stage", self.facts.run)

    def restart(self, number: int) -> None:
        """Starts a worker in place of a lost one, which knows nothing."""
        self.pool.restart(number)
        self._told[number] = set()

    def heir_of(self, number: int) -> int | None:
        """Gives the segments of a worker that is gone for good to the one with the fewest; None without any left."""
        self._dead.add(number)
        left = [other for other in range(self.pool.count) if other not in self._dead]
        if not left:
            return None
        heir = min(left, key=lambda other: len(self.own[other]))
        self.own[heir] |= self.own[number]
        self.own[number] = frozenset()
        return heir

    def end(self) -> None:
        """Ends the run on all workers, without waiting."""
        if self.pool.is_open:
            for number in range(self.pool.count):
                if number not in self._dead:
                    self.pool.call(number, "end", self.facts.run, [*self.entries.contents])

    def _message(self, number: int, told: ModelCall) -> CallMessage:
        """A worker's part of a model call."""
        own = self.own[number]
        wanted = own | {index for index in told.teachers if index < max(own)}
        made = evaluations_for(self.facts.plan, told.needed, wanted, told.early, told.needs_sources)
        made = told.needed if told.whole else made
        names: list[tuple[int, Role]] = [(evaluation.segment.index, evaluation.role) for evaluation in made]
        return CallMessage(
            self.facts.run,
            told.timestep,
            told.sigmas,
            told.options,
            told.shapes,
            told.lists,
            tuple(names),
            {index: told.pieces[index] for index, _ in names},
            own & {evaluation.segment.index for evaluation in told.needed},
            told.images,
            told.found.any_found,
            {subject: look for subject, look in told.found.looks.items() if subject not in self._looks[number]},
        )

    def _tell(self, number: int, names: Sequence[str]) -> None:
        """Sends a worker what it does not know yet of what a message refers to."""
        new = [name for name in dict.fromkeys(names) if name not in self._told[number]]
        if new:
            self.pool.call(number, "know", new, *(self.entries.contents[name] for name in new))
            self._told[number] |= {*new}

    def _settle(self, number: int, told: ModelCall) -> None:
        """Brings a worker to where the run is before a model call of its stage."""
        run = self.facts.run
        if told.last_sigma is not None:
            self.pool.call(number, "settle", run, told.last_sigma, told.sigmas.tolist())
        self.pool.call(number, "take", run, told.found)
