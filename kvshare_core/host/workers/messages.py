"""What the process with the sampler and its workers tell each other. All tensors are on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ...plan.schedule import Role
from ...plan.share_plan import SharePlan
from ...session.account import AccountPart
from ...session.neighbours import Neighbours
from ...subject.found_part import FoundPart
from ..loading.model_info import ModelSource

Names = tuple[str, ...]
"""Names of what a worker was told to know."""


@dataclass(frozen=True)
class Schedule:
    """A noise schedule of the host, whose class nodes put together from classes of the host."""

    classes: tuple[tuple[str, str], ...]
    """Of the host, by module and name."""
    values: Mapping[str, Any]
    buffers: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class ModelRecipe:
    """How a worker makes the MODEL: from the same files, with the same patches."""

    source: ModelSource
    schedule: Schedule | None
    """The noise schedule that a node put in place of the model's; None for the model's."""
    patches: str | None
    """The name under which a worker knows the patches of weights, as LoRAs are; None for none."""


@dataclass(frozen=True)
class RunFacts:
    """What does not change during one run."""

    run: int
    """The number of the run, the same in all its messages."""
    recipe: ModelRecipe
    plan: SharePlan
    sigma_window: tuple[float, float]
    """As in RunSettings, like what follows."""
    rope_options: Mapping[str, float]
    full_noise: float
    held: frozenset[int]
    neighbours: Neighbours
    masks_read: bool
    bank_bytes: int
    """Bytes on the device that the host should keep free for the bank, and for one shared attention call."""
    call_bytes: int


@dataclass(frozen=True)
class CallMessage:
    """A part of one model call."""

    run: int
    timestep: torch.Tensor
    sigmas: torch.Tensor
    """Of the whole run, falling, with the final one."""
    options: Mapping[str, Any]
    """Transformer options of the host that are plain values."""
    shapes: tuple[torch.Size, ...]
    """Of the parts of the whole latent."""
    lists: tuple[Names | None, ...]
    """The conditioning of each list that the sampler asks for."""
    evaluations: tuple[tuple[int, Role], ...]
    """What to evaluate, in order: the segment and what its evaluation does with keys."""
    pieces: Mapping[int, torch.Tensor]
    """The latents of these segments."""
    own: frozenset[int]
    """The segments whose predictions are asked for."""
    images: bool
    """Whether the model takes images as input channels."""
    any_found: bool
    """Whether any process has found masks in this stage."""
    looks: Mapping[int, Mapping[int, torch.Tensor]]
    """What subjects look like that the worker has not seen, as in FoundPart."""


@dataclass(frozen=True)
class CallReply:
    """What a worker made of its part of a model call."""

    predictions: Mapping[tuple[int, Role], tuple[list[torch.Tensor], int]]
    """By evaluation, the outputs and the list that begins with the prompt."""
    found: FoundPart | None
    """What it found out about its own segments; None where nothing is new."""
    account: AccountPart
    said: tuple[str, ...]
    """Notices for the user."""
    gave_up: bool
    """Whether a segment was given up whose subjects were to be found by the effect of their words."""
    trusted: bool
    """Whether the model's attention calls could be told."""
    peak_bytes: int
    """The most that its bank has held."""


@dataclass(frozen=True)
class Failure:
    """Why a worker did not do what it was asked for."""

    kind: Literal["error", "memory", "interrupted"]
    message: str


@dataclass(frozen=True)
class Done:
    """A worker did what it was asked for."""

    process: int
    """Its process id."""
    holds_run: bool
    """Whether it holds the state of a run."""
