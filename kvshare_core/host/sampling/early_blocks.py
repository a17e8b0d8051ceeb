"""Skips, in the second of two evaluations of a segment, the blocks in which it is the same as the first.

The host lets a node replace a model's blocks (`patches_replace`). In the first evaluation the replacements compute the
blocks and keep what the last of them gives to the next; in the second they pass their input on, and the last one gives
what was kept. Models without replaceable blocks compute everything twice.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...forward.forward import Forward
from ...session.early_blocks import EarlyBlocks

Replacement = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""Takes a block's arguments and, as `original_block`, the block itself; gives its output."""

STREAMS = ("img", "txt", "x")
"""What a block takes and gives, by the host's names."""


def with_early_blocks(
    replacements: Mapping[str, Any], early: EarlyBlocks, forward: Forward, diffusion_model: torch.nn.Module
) -> Mapping[str, Any]:
    """The host's block replacements with those of the early blocks of `forward`; the same where there is nothing to
    keep or to skip, or where another node replaces blocks."""
    if replacements.get("dit") or not (early.is_wanted(forward) or early.is_there(forward)):
        return replacements
    made = _skipping if early.is_there(forward) else _keeping
    # Models with blocks of two kinds count each kind from 0.
    doubles = len(getattr(diffusion_model, "double_blocks", ())) or early.count
    names = [
        ("double_block", number) if number < doubles else ("single_block", number - doubles)
        for number in range(early.count)
    ]
    return {**replacements, "dit": dict(zip(names, made(early, forward), strict=True))}


def _keeping(early: EarlyBlocks, forward: Forward) -> list[Replacement]:
    """Replacements that compute the early blocks."""
    last, calls = early.count - 1, [0] * early.count

    def made(number: int) -> Replacement:
        def run_block(arguments: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            # A model that attends between its blocks (VACE) would do so in the second evaluation too.
            between = number > 0 and forward.cache.calls != calls[number - 1]
            given = extra["original_block"](arguments)
            calls[number] = -1 if between else forward.cache.calls
            if number == last and not between and _is_stream(arguments, given):
                early.keep(forward, {name: tensor.clone() for name, tensor in given.items()})
            return given

        return run_block

    return [made(number) for number in range(early.count)]


def _is_stream(arguments: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a block gives what the next one takes."""
    return all(
        name in STREAMS and isinstance(tensor, torch.Tensor) and tensor.shape == arguments[name].shape
        for name, tensor in given.items()
    )


def _skipping(early: EarlyBlocks, forward: Forward) -> list[Replacement]:
    """Replacements that skip the early blocks."""

    def skip(arguments: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        return {name: arguments[name] for name in STREAMS if name in arguments}

    def take(arguments: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        return early.take(forward)

    return [skip] * (early.count - 1) + [take]
