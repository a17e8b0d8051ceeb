"""The memory of the key/value bank: its budget, the expected size, and what the host must keep free."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_management import get_total_memory

from ...attention.log_sum_exp import KERNELS
from ...config import MemorySettings, format_indices
from ...families.base import FamilyInfo
from ...plan.bank_size import plan_bytes
from ...plan.call_memory import call_bytes, unfused_bytes
from ...plan.model_fit import FittedPlan
from ...plan.share_plan import SharePlan
from ...subject.maps import mask_to_tokens
from .. import BEAT_TAG, COMMON_TAG, is_for, is_prompt

log = logging.getLogger("kvshare")


@dataclass(frozen=True)
class ExpectedBytes:
    """Bytes that sharing holds at most in a run."""

    bank: int
    """Of keys and values of source segments, wherever they are."""
    exact: bool
    """Whether the bank will hold that much."""
    call: int
    """On the device while one attention call is computed, beside what the model's own call takes."""


DEVICE_SHARE = 4
"""If the user sets no budget, place `auto` takes at most this fraction (1 / n) of the device's memory."""

BLOCKS_ON_THE_WAY = 2
"""Blocks whose entries are on the device though they are kept elsewhere: one is read or fetched ahead, one is saved."""


def bank_budget(memory: MemorySettings, device: torch.device) -> int | None:
    """Bytes that place `auto` may keep on `device`; None for no limit, where the device is the CPU itself."""
    if device.type == "cpu":
        return None
    return memory.budget_mib * 2**20 if memory.budget_mib else int(get_total_memory(device)) // DEVICE_SHARE  # pyright: ignore[reportArgumentType]


def expected_bytes(fitted: FittedPlan, guider: Any, noise_shape: Sequence[int]) -> ExpectedBytes:
    """What sharing will hold at most in a run of `guider`: masks that are not known yet count as whole segments.

    noise_shape: [batch, channels, frames, height, width] of the whole latent.
    """
    if len(noise_shape) != 5:
        return ExpectedBytes(0, True, 0)
    plan, info = fitted.plan, fitted.info
    grid = info.grid(plan.timeline.window, *noise_shape[3:])
    subject = [_subject_tokens(plan, info, grid, index) for index in range(len(plan.timeline.segments))]
    base_model = guider.model_patcher.model
    element_size = (base_model.manual_cast_dtype or base_model.get_dtype()).itemsize
    video, text = math.prod(grid), _text_tokens(guider.conds)
    rows, every_row = (noise_shape[0] * _chunks(guider, plan, every) for every in (plan.config.share_uncond, True))
    size, exact = plan_bytes(fitted, subject, video, text, rows, element_size)
    call = call_bytes(fitted, subject, video, text, every_row, element_size)
    if guider.model_patcher.load_device.type not in KERNELS:
        call += unfused_bytes(fitted, video, text, every_row)
    return ExpectedBytes(size, exact, call)


def report(expected: ExpectedBytes, blocks: Sequence[int]) -> None:
    """Logs what a run will hold, and of which blocks."""
    if expected.bank:
        log.info(
            "Mask-Guided KV Share: shares blocks %s, holds %s%.1f MiB of keys and values, and up to %.1f MiB more of "
            "VRAM while a block shares.",
            format_indices(blocks),
            "" if expected.exact else "at most ",
            expected.bank / 2**20,
            expected.call / 2**20,
        )


def report_held(size: int) -> None:
    """Logs the most that a run has held."""
    if size:
        log.info("Mask-Guided KV Share: held up to %.1f MiB.", size / 2**20)


def frames_to_reserve(model: Any, noise_shape: Sequence[int], size: int) -> int:
    """Latent frames to add to the shape that the host budgets for, so that it keeps `size` bytes free; model: a
    MODEL."""
    one_frame = [1, *noise_shape[1:]] if len(noise_shape) == 4 else [*noise_shape[:2], 1, *noise_shape[3:]]
    return math.ceil(size / model.model.memory_required(one_frame))


def bytes_on_device(memory: MemorySettings, size: int, budget: int | None) -> int:
    """The part of `size` bytes that stays on the compute device."""
    if memory.place == "cpu":
        return 0
    return size if memory.place == "device" or budget is None else min(size, budget)


def bytes_to_reserve(memory: MemorySettings, size: int, budget: int | None, blocks: int) -> int:
    """The part of `size` bytes, of so many blocks, that is on the compute device at one time: what stays there, and of
    the rest what is on its way."""
    kept = bytes_on_device(memory, size, budget)
    return min(size, kept + math.ceil(size * BLOCKS_ON_THE_WAY / max(1, blocks)))


def _subject_tokens(plan: SharePlan, info: FamilyInfo, grid: tuple[int, int, int], index: int) -> int:
    if plan.mask is None:
        return math.prod(grid)
    pictures = plan.timeline.pictures_of(plan.timeline.segments[index])
    values = mask_to_tokens(plan.mask, pictures, grid, info.patch[0])
    return int((values >= 0.5).sum())


def _text_tokens(conds: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    return max((cond["cross_attn"].shape[1] for entries in conds.values() for cond in entries), default=0)


def _chunks(guider: Any, plan: SharePlan, unconditional: bool) -> int:
    """Batch chunks of one segment, those of other conditioning than its prompt's too where `unconditional`. At CFG 1
    the host leaves the negative conditioning out."""
    chunks = 0
    unguided = getattr(guider, "cfg", None) == 1.0 and not guider.model_options.get("disable_cfg1_optimization", False)
    for name, entries in guider.conds.items():
        # A common prompt is never evaluated together with the beats' own.
        own = [cond for cond in entries if COMMON_TAG not in cond]
        of_beats = any(is_prompt(cond) for cond in entries)
        if (unguided and name == "negative") or not (of_beats or unconditional):
            continue
        chunks += max(
            sum(cond.get(BEAT_TAG, segment.beat) == segment.beat and is_for(cond, segment.index) for cond in own)
            for segment in plan.timeline.segments
        )
    return chunks
