"""How much memory one shared attention call takes on the released models at full size, beside what the model's own call
takes. Nothing is computed: the pack's own code runs on tensors of torch's meta device, whose storages are followed.

python3 dev.py bench memory [--json FILE]

    subject        part of the video's tokens that is the subject, in source and target alike; none: everything is
                   shared, without a mask
    rows           batch rows that share: 2 with guidance, 1 without
    kept           dtype in which the bank keeps keys and values: model, or fp8, which are restored for the call
    peak_gib       most that the call holds beyond its inputs and the bank, its output included
    stock_gib      the same of the model's own call by a fused kernel: its output
    over_stock     peak over stock
    predicted_gib  the peak that the pack counts with before a run
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from devtools.environment import find_host
from devtools.inprocess import enter_host
from kvshare_core.attention.log_sum_exp import Kernel, LogSumExpAttention, OutputWithLogSumExp
from kvshare_core.attention.parts import Backend
from kvshare_core.attention.rope import RopeScheme
from kvshare_core.config import KVShareConfig, MemorySettings
from kvshare_core.families import FamilyInfo, UnsupportedModelError
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.forward.call import AttentionContext
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.plan.call_memory import call_bytes
from kvshare_core.plan.model_fit import fit_plan
from kvshare_core.plan.share_plan import CastMember, SharePlan
from kvshare_core.script.film import Script, ScriptBeat
from kvshare_core.session.account import RunAccount
from kvshare_core.session.call_sharing import CallSharer
from kvshare_core.session.settings import RunSettings
from kvshare_core.session.warn_once import WarnOnce
from kvshare_core.subject.tracker import SubjectTracker
from kvshare_core.timeline.planning import plan_timeline

from .form import Row, make_result, publish, show_progress
from .meters import peak_extra_bytes
from .released import RELEASED, Released, released_model

GIB = 2**30
META = torch.device("meta")
DTYPE = torch.bfloat16
SUBJECT_SHARES = (0.3, 0.5)
DEFAULTS = KVShareConfig(sources="first", memory=MemorySettings(place="device"))
IN_FP8 = replace(DEFAULTS, memory=replace(DEFAULTS.memory, dtype="fp8"))
MODES: tuple[Mapping[str, Any], ...] = (
    {"mode": "swap"},
    {"mode": "extend", "strength": 1.0},
    {"mode": "extend", "strength": 0.5},
    {"mode": "replace", "strength": 1.0},
    {"mode": "replace", "strength": 0.5},
)
POSITIONS = ("same", "centred", "gap", "matched", "frame")


@dataclass(frozen=True)
class Model:
    """What the memory of a model's calls depends on. text: tokens beside the video in its joint attention, else 0."""

    name: str
    info: FamilyInfo
    scheme: RopeScheme | None
    latent: tuple[int, int, int]
    text: int

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.info.grid(*self.latent)

    @property
    def tokens(self) -> int:
        """Tokens of one attention call."""
        return math.prod(self.grid) + self.text


class _Calls:
    """A family whose calls are those of `model`, in a sequence that begins with the text."""

    name = "released"

    def __init__(self, model: Model):
        self._model = model

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme | None:
        return self._model.scheme


class _FusedAttention(LogSumExpAttention):
    """Attention with its log-sum-exp as fused kernels leave it: nothing but the output and the sums."""

    def kernel_for(self, query: torch.Tensor) -> Kernel:
        return _fused


def _fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> OutputWithLogSumExp:
    return _backend(query, key, value), query.new_empty(query.shape[:-1], dtype=torch.float32)


def _backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    rows, heads, tokens, _ = query.shape
    return query.new_empty(rows, tokens, heads, value.shape[-1]).transpose(1, 2)


def model_of(released: Released) -> Model:
    """A released model. Raises as `released_model`."""
    module, family, info = released_model(released)
    return Model(
        released.name, info, family.rope_scheme(module, {}), released.latent, released.text if info.joint else 0
    )


def shared_plan(model: Model, config: KVShareConfig, subject: float | None) -> SharePlan:
    """Two segments, the second of which attends to the first; subject: part of the picture that a mask covers."""
    timeline = plan_timeline(
        Script((ScriptBeat("one"), ScriptBeat("two"))),
        model.latent[0],
        0 if model.info.frame_cycle else 1,
        16,
        model.info.compression[0],
        frame_cycle=model.info.frame_cycle,
    )
    if subject is None:
        return SharePlan(timeline, config)
    return SharePlan(timeline, config, cast=(CastMember("subject"),), mask=_box(model, subject))


def _box(model: Model, part: float) -> torch.Tensor:
    """A mask [1, h, w] of a box over that part of the picture: whole rows of tokens and a piece of another."""
    _, height, width = model.grid
    mask = torch.zeros(height * width)
    mask[: round(part * height * width)] = 1
    return mask.view(1, height, width)


@dataclass(frozen=True)
class Place:
    """Where a call is made, and by which attention."""

    device: torch.device
    backend: Backend
    attention: Callable[[], LogSumExpAttention]


ON_META = Place(META, _backend, _FusedAttention)


def peak_bytes(model: Model, plan: SharePlan, rows: int, place: Place = ON_META) -> int:
    """The most that a call of the second segment holds beyond its inputs and what the bank holds before."""
    settings = RunSettings(fit_plan(plan, model.info), _Calls(model), None)  # pyright: ignore[reportArgumentType]
    sharer = CallSharer(
        settings,
        SubjectTracker(settings.plan, _refuse, settings.info.blocks),
        RunAccount(settings, WarnOnce(_refuse)),
        _refuse,
    )
    first, second = plan.timeline.segments
    batch = Batch(((0, 0), (1, 0))[:rows])
    block = settings.blocks[0]
    strength = plan.config.strength
    assert strength is not None
    source = Forward(first, batch, PromptText(model.text), model.grid, consumers=1)
    target = Forward(second, batch, PromptText(model.text), model.grid, strength=strength, sources=(0,))
    earlier, context = (_context(model, forward, block, rows, place) for forward in (source, target))
    nothing_hidden = earlier.key_masks
    assert nothing_hidden is not None
    sharer.share(earlier, nothing_hidden)
    del earlier

    def share() -> torch.Tensor:
        output = sharer.share(context, nothing_hidden)
        assert output is not None and len(sharer.bank) == 0
        return output

    return peak_extra_bytes(share, place.device)


def _context(model: Model, forward: Forward, block: int, rows: int, place: Place) -> AttentionContext:
    shape = (rows, model.tokens, model.info.heads, model.info.head_dim)
    query, key, value = (torch.empty(shape, dtype=DTYPE, device=place.device).transpose(1, 2) for _ in range(3))
    for tensor in (query, key, value):
        tensor.zero_()
    site = CallSite(block, "joint" if model.text else "self", video_start=model.text)
    return AttentionContext(forward, AttentionCall(query, key, value), site, place.backend, place.attention())


def _refuse(message: str) -> None:
    raise RuntimeError(message)


def configurations(model: Model) -> Iterator[KVShareConfig]:
    """Every mode at every position that the model has."""
    for mode in MODES:
        for position in POSITIONS:
            if position in ("same", "centred", "frame") or model.scheme is not None:
                further = {"position_gap": 2} if position == "gap" else {}
                yield replace(DEFAULTS, **mode, position=position, **further)


def measure(
    model: Model, config: KVShareConfig, subject: float | None, rows: int, place: Place = ON_META
) -> dict[str, Any]:
    """One row of the benchmark."""
    plan = shared_plan(model, config, subject)
    peak = peak_bytes(model, plan, rows, place)
    stock = rows * model.tokens * model.info.heads * model.info.head_dim * DTYPE.itemsize
    video = math.prod(model.grid)
    counted = [round((subject or 1.0) * video)] * len(plan.timeline.segments)
    predicted = stock + call_bytes(fit_plan(plan, model.info), counted, video, model.text, rows, DTYPE.itemsize)
    return {
        "model": model.name,
        "mode": config.mode,
        "strength": config.strength,
        "position": config.position,
        "subject": subject,
        "rows": rows,
        "kept": config.memory.dtype,
        "peak_gib": peak / GIB,
        "stock_gib": stock / GIB,
        "over_stock": peak / stock,
        "predicted_gib": predicted / GIB,
    }


def measure_all(released: tuple[Released, ...] = RELEASED) -> list[Row]:
    """Every mode and position of every model with the larger subject and guidance, and the defaults in fp8, with the
    smaller one, without guidance and without a subject; models that the host lacks are left out."""
    rows: list[Row] = []
    for number, one in enumerate(released, start=1):
        try:
            model = model_of(one)
        except (ModuleNotFoundError, UnsupportedModelError):
            continue
        rows += [measure(model, config, SUBJECT_SHARES[-1], 2) for config in configurations(model)]
        rows += [measure(model, IN_FP8, SUBJECT_SHARES[-1], 2)]
        rows += [measure(model, DEFAULTS, SUBJECT_SHARES[0], count) for count in (1, 2)]
        rows += [measure(model, DEFAULTS, None, 2)]
        show_progress(number, len(released), "models")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="memory of one shared attention call on the released models")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    host = find_host()
    enter_host(host)
    with torch.inference_mode():
        publish(make_result("memory", 0, measure_all(), host), options.json)


if __name__ == "__main__":
    main()
