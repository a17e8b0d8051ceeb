"""What sharing costs on the released models at full size: tokens, keys and values, extra computation. Nothing is run;
the host's own classes are built without memory (on the meta device) and asked by the pack's families.

python -m bench.plans [--json FILE]
"""

import argparse
import math
from pathlib import Path
from typing import Any

from devtools.environment import find_host, read_version
from devtools.inprocess import enter_host
from kvshare_core.families import UnsupportedModelError

from .form import Row, make_result, publish
from .released import RELEASED, Reference, Released, released_info

SUBJECT_SHARE = 0.3
"""Part of the video tokens that is the subject, for the extra computation."""
MIB = 2**20
BF16 = 2


def measure_plans(host: str | None) -> list[Row]:
    """One row per released model, in a host that runs; a family that the host or the pack lacks has a reason."""
    return [plan_row(released, host) for released in RELEASED]


def plan_row(released: Released, host: str | None) -> Row:
    """The row of one model; a figure is None, and the reason is told, where the host or the pack lacks it."""
    row: dict[str, Any] = {"model": released.name, "host": host}
    try:
        info = released_info(released)
    except (ModuleNotFoundError, UnsupportedModelError) as reason:
        return {**row, **dict.fromkeys(FIGURES), "reason": str(reason)}
    video = math.prod(info.grid(*released.latent))
    tokens = video + (released.text if info.joint else 0)
    width = info.heads * info.head_dim
    attention = 4 * tokens**2 * width * info.blocks
    linear = (8 * width**2 + 4 * width * released.wide) * tokens * info.blocks
    cross = (
        0
        if info.joint
        else (4 * width**2 * (tokens + released.text) + 4 * tokens * released.text * width) * info.blocks
    )
    total = attention + linear + cross
    block_bytes = 2 * tokens * width * BF16
    figures = {
        "family": info.family,
        "blocks": info.blocks,
        "heads": info.heads,
        "head_dim": info.head_dim,
        "tokens": tokens,
        "attention_tflop": attention / 1e12,
        "total_tflop": total / 1e12,
        "kv_mib_per_block": block_bytes / MIB,
        "kv_gib_all": block_bytes * info.blocks / 2**30,
        "subject_kv_gib_all": 2 * SUBJECT_SHARE * video * width * BF16 * info.blocks / 2**30,
        "extra_compute": 4 * (SUBJECT_SHARE * video) ** 2 * width * info.blocks / total,
        "worst_difference": _worst_difference(released.reference, tokens, attention, total, block_bytes, info.blocks),
    }
    return {**row, **figures, "reason": None}


FIGURES = (
    "family",
    "blocks",
    "heads",
    "head_dim",
    "tokens",
    "attention_tflop",
    "total_tflop",
    "kv_mib_per_block",
    "kv_gib_all",
    "subject_kv_gib_all",
    "extra_compute",
    "worst_difference",
)


def _worst_difference(
    reference: Reference | None, tokens: int, attention: float, total: float, block_bytes: int, blocks: int
) -> float | None:
    """Largest relative difference from the numbers found by hand; None where there are none."""
    if reference is None:
        return None
    pairs = (
        (tokens, reference.tokens),
        (attention / 1e12, reference.attention),
        (total / 1e12, reference.total),
        (block_bytes / MIB, reference.block_mib),
        (block_bytes * blocks / 2**30, reference.all_gib),
    )
    return max(abs(found / expected - 1) for found, expected in pairs)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="full-size plans of the released models, without running them")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    host = find_host()
    enter_host(host)
    publish(make_result("plans", 0, measure_plans(read_version(host)), host), options.json)


if __name__ == "__main__":
    main()
