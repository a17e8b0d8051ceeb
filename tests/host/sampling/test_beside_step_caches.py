"""Sharing beside nodes that answer in place of the model: what a run then says, and where."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

from kvshare_core.config import KVShareConfig
from kvshare_core.host.sampling.neighbours import LEFT_BEHIND, MIXED_UP, mixed_up_by, neighbours_of
from kvshare_core.record.record import KVShareRecord
from kvshare_core.session.neighbours import Neighbours
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.neighbours import (
    left_cache_by_call,
    with_cache_by_block,
    with_cache_by_call,
    with_cache_by_cond,
    with_dropped_options,
    with_function_wrapper,
    with_own_attention,
    with_patched_forward,
    with_replaced_blocks,
    with_sampler_wrapper,
)
from tests.support.windows import share, tiny_timeline

CASE = CASES["wan t2v"]
TIMELINE = tiny_timeline(3)
STEPS = 6

Neighbour = Callable[[Any], Any]


def film(neighbour: Neighbour, ours_first: bool, subject: str = "") -> tuple[torch.Tensor, KVShareRecord]:
    """A film of a model with a neighbour's node in front of ours or behind it."""
    model = model_of(CASE.name)
    if ours_first:
        patched, record = share(model, TIMELINE, SHARED, subject=subject)
        return sample(CASE, neighbour(patched), TIMELINE, steps=STEPS, cfg=1.0), record
    patched, record = share(neighbour(model), TIMELINE, SHARED, subject=subject)
    return sample(CASE, patched, TIMELINE, steps=STEPS, cfg=1.0), record


def in_second_half(segments_per_call: int) -> Callable[[int], bool]:
    return lambda call: call >= STEPS // 2 * segments_per_call


CACHES: dict[str, tuple[Neighbour, str]] = {
    "by cond": (
        lambda model: with_cache_by_cond(model, in_second_half(3)),
        "TeaCache keeps what the model returned last",
    ),
    "by call": (
        lambda model: with_cache_by_call(model, in_second_half(3)),
        "another node, such as a step cache, answered in place of the model, so a segment neither attended",
    ),
    "by block": (
        lambda model: with_cache_by_block(model, range(2), in_second_half(3)),
        "another node, such as a step cache, left blocks",
    ),
    "EasyCache": (lambda model: EasyCacheNode.execute(model, 3.0, 0.15, 0.95, False).result[0], "EasyCache answered"),
    "LazyCache": (lambda model: LazyCacheNode.execute(model, 3.0, 0.15, 0.95, False).result[0], "LazyCache skipped"),
}
EXPLAINED = ("by cond", "by call")
"""Those of which a run says at once what they do to a film."""


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize("name", CACHES)
def test_a_run_says_which_steps_did_not_share_and_who_answered(
    name: str, ours_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    neighbour, who = CACHES[name]
    with caplog.at_level(logging.WARNING, "kvshare"):
        output, record = film(neighbour, ours_first)
    assert torch.isfinite(output).all()
    *before, sentence = record.notices()
    part, _, why = sentence.partition(", for the reason above." if name in EXPLAINED else ": ")
    assert part.startswith("only ")
    assert part.endswith(f"in 3 of {STEPS} steps" if name == "by block" else f"of {STEPS} steps shared")
    assert len(before) == (name in EXPLAINED)
    (reason,) = before or [why]
    assert reason.startswith(who) and "Take it off the model" in reason
    logged = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    assert logged == [f"Mask-Guided KV Share: {notice}" for notice in record.notices()]


def test_a_cache_that_gives_a_segment_what_another_left_is_named_before_the_first_step() -> None:
    said: list[str] = []
    logger, handler = logging.getLogger("kvshare"), logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger.addHandler(handler)
    calls: list[int] = []

    def skips(call: int) -> bool:
        calls.append(len(said))
        return False

    try:
        _, record = film(lambda model: with_cache_by_cond(model, skips), False)
    finally:
        logger.removeHandler(handler)
    assert calls[0] == 1 and len(said) == 1
    assert record.notices() == (MIXED_UP.format(who="TeaCache"),)


def test_a_cache_that_stays_in_the_loaded_model_is_named_when_its_node_is_gone() -> None:
    film(lambda model: model, False)  # An earlier test's patches are off the model now.
    with left_cache_by_call(model_of(CASE.name), in_second_half(3)):
        _, record = film(lambda model: model, False)
    assert record.notices()[0] == LEFT_BEHIND.format(who="CacheDiT")
    _, record = film(lambda model: model, False)
    assert record.notices() == ()


@pytest.mark.parametrize("ours_first", [False, True])
def test_a_forward_that_hides_its_attention_is_noticed_in_the_first_segment(ours_first: bool) -> None:
    _, record = film(with_dropped_options, ours_first)
    first, last = record.notices()
    assert first.startswith("another node, such as a step cache, answered in place of the model")
    assert last == "nothing was shared, for the reason above."


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize(
    "neighbour",
    [with_sampler_wrapper, with_own_attention, with_replaced_blocks, with_function_wrapper, with_patched_forward],
)
@pytest.mark.parametrize("subject", ["", "fox"])
def test_neighbours_that_leave_the_model_alone_change_nothing_and_are_not_blamed(
    neighbour: Callable[[Any, list[int]], Any], ours_first: bool, subject: str
) -> None:
    seen: list[int] = []
    output, record = film(lambda model: neighbour(model, seen), ours_first, subject)
    plain, _ = film(lambda model: model, False, subject)
    assert seen and torch.equal(output, plain)
    assert record.notices() == ()


def test_a_run_that_shares_as_planned_knows_it() -> None:
    _, record = film(lambda model: model, False, "fox")
    assert record.notices() == ()


def test_a_run_without_a_step_that_shares_says_so() -> None:
    patched, record = share(model_of(CASE.name), TIMELINE, KVShareConfig(step_idx=(50,)))
    sample(CASE, patched, TIMELINE, steps=2)
    (notice,) = record.notices()
    assert notice.startswith("nothing was shared: none of this run's steps")


def test_packs_are_named_by_their_folder_alone() -> None:
    def patch() -> None: ...

    patch.__module__ = "/home/me/ComfyUI/custom_nodes/ComfyUI-Neighbour.nodes.models"
    clone = model_of(CASE.name).clone()
    clone.add_object_patch("diffusion_model.head.forward", patch)
    assert neighbours_of(clone, clone.model_options) == Neighbours(others=("ComfyUI-Neighbour",))
    ours, _ = share(model_of(CASE.name), TIMELINE, SHARED)
    assert neighbours_of(ours, ours.model_options) == Neighbours()
    lazy = LazyCacheNode.execute(ours, 0.2, 0.15, 0.95, False).result[0]
    assert neighbours_of(lazy, lazy.model_options) == Neighbours(caches=("LazyCache",))
    assert mixed_up_by(Neighbours(caches=("LazyCache",))) is None
