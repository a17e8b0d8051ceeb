"""The contracts (docs/architecture.md#contracts) as functions of one family; AssertionError when one is broken."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.bank.bank import BankKey
from kvshare_core.config import KVShareConfig
from kvshare_core.host import KEY
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.record.look_point import LookPoint
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import FamilyCase, model_of
from tests.support.windows import PlainWindows, share
from tests.tiny.models import Sampling

SHARED = KVShareConfig(share_background=True, carry_image=False)
SAMPLERS = (
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "uni_pc",
    "lcm",
    "res_multistep",
)


class StoppedError(Exception):
    """Raised by a contract in the middle of a run."""


def sample(case: FamilyCase, model: Any, timeline: Timeline, batch: int = 1, **options: Any) -> torch.Tensor:
    """A run of two steps with the stock sampler."""
    shape = case.shape(timeline, batch)
    return case.run(Sampling(**options), model, case.positive(timeline), case.negative(timeline), shape)


def patched(case: FamilyCase, timeline: Timeline, config: KVShareConfig = SHARED, subject: str = "fox") -> Any:
    """The tiny model as MaskGuidedKVShare patches it."""
    return share(model_of(case.name), timeline, config, subject)[0]


def one_segment_is_the_stock_model(case: FamilyCase) -> None:
    timeline = case.timeline(1)
    assert torch.equal(sample(case, patched(case, timeline), timeline), sample(case, model_of(case.name), timeline))


def off_is_off(case: FamilyCase) -> None:
    timeline = case.timeline(2)
    ways = [KVShareConfig(mode="off"), KVShareConfig(strength=0.0), KVShareConfig(step_idx=(99,))]
    outputs = [sample(case, patched(case, timeline, config), timeline) for config in ways]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    windows = sample(case, PlainWindows(timeline).on(model_of(case.name)), timeline)
    torch.testing.assert_close(outputs[0], windows, rtol=1e-5, atol=1e-5)


def sharing_changes_later_segments_only(case: FamilyCase) -> None:
    timeline = case.timeline(2, cut=True)
    first = timeline.beats[0].stop
    # After a step, segments that are not apart see what later ones show; in the first, no subject is found yet.
    steps, subject = (2, "fox") if case.apart else (1, "")
    off = sample(case, patched(case, timeline, KVShareConfig(mode="off")), timeline, steps=steps)
    shared = sample(case, patched(case, timeline, subject=subject), timeline, steps=steps)
    assert torch.isfinite(shared).all()
    torch.testing.assert_close(shared[:, :, :first], off[:, :, :first], rtol=1e-4, atol=1e-4)
    assert (shared[:, :, first:] - off[:, :, first:]).abs().max() > 1e-4 * off.abs().max()


def sources_may_come_first(case: FamilyCase) -> None:
    timeline = case.timeline(2, cut=True)
    first = timeline.beats[0].stop
    outputs: list[torch.Tensor] = []
    seen: list[list[dict[BankKey, list[torch.Tensor]]]] = []
    for order in ("lockstep", "sources_first"):
        seen.append([])
        model = looked_into(case, timeline, replace(SHARED, order=order), seen[-1])
        outputs.append(sample(case, model, timeline, steps=3))
        again = patched(case, timeline, replace(SHARED, order=order))
        assert torch.equal(sample(case, again, timeline, steps=3), outputs[-1])
    assert not torch.equal(outputs[1][:, :, first:], outputs[0][:, :, first:])
    last = seen[1][0]
    if case.apart:
        torch.testing.assert_close(outputs[1][:, :, :first], outputs[0][:, :, :first], rtol=1e-4, atol=1e-4)
        # Side by side, the second segment meets the first one's last keys in the last step only.
        last = max(reversed(seen[0]), key=len)
    assert last and len(seen[1]) > 1
    for found in seen[1]:
        assert found.keys() == last.keys()
        assert all(torch.equal(one, other) for key in last for one, other in zip(found[key], last[key], strict=True))


def a_rerun_is_equal(case: FamilyCase) -> None:
    timeline = case.timeline(2)
    model = patched(case, timeline)
    first = sample(case, model, timeline)
    assert torch.equal(sample(case, model, timeline), first)
    assert torch.equal(sample(case, model.clone().clone(), timeline), first)


def nothing_stays_after_a_run(case: FamilyCase) -> None:
    timeline = case.timeline(2)
    stops = (None, _raise_stop, comfy.model_management.interrupt_current_processing)
    for stop, order in product(stops, ("lockstep", "sources_first")):
        sessions: list[weakref.ref[Any]] = []
        held: list[int] = []
        model = _spied(case, replace(SHARED, order=order), timeline, sessions, held, stop)
        try:
            sample(case, model, timeline)
        except (StoppedError, comfy.model_management.InterruptProcessingException):
            pass
        finally:
            comfy.model_management.interrupt_current_processing(False)
        assert sessions and (stop is not None or max(held) > 0)
        gc.collect()
        assert {session() for session in sessions} == {None}


def other_overrides_stay_in_use(case: FamilyCase) -> None:
    timeline = case.timeline(2)
    calls: list[int] = []

    def override(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return function(*args, **kwargs)

    other = model_of(case.name).clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = override
    found = sample(case, share(other, timeline, SHARED)[0], timeline)
    assert calls
    assert torch.equal(found, sample(case, patched(case, timeline), timeline))


def every_segment_has_its_prompt(case: FamilyCase) -> None:
    timeline = case.timeline(2, cut=True)
    first = timeline.beats[0].stop
    model = patched(case, timeline, KVShareConfig(mode="off"))
    steps = 2 if case.apart else 1
    own = sample(case, model, timeline, steps=steps)
    entries = case.positive(timeline)
    entries[1][0] = case.text(55, 6)[0]
    other = case.run(Sampling(steps), model, entries, case.negative(timeline), case.shape(timeline))
    assert torch.equal(own[:, :, :first], other[:, :, :first])
    assert (own[:, :, first:] - other[:, :, first:]).abs().max() > 1e-6 * own.abs().max()


def the_subject_is_followed(case: FamilyCase) -> None:
    timeline = case.timeline(2)
    model, record = share(model_of(case.name), timeline, SHARED)
    sample(case, model, timeline)
    masks = record.latest()
    assert masks is not None and torch.isfinite(masks.heat).all()
    assert 0 < masks.mask.mean() < 1


def a_watched_point_tells_all_and_changes_nothing(case: FamilyCase) -> None:
    timeline, model = case.timeline(2), model_of(case.name)
    start = timeline.segments[1].start
    look = LookPoint(0.5, 0.5, timeline.picture_range(start, start + 1)[0])
    plan = replace(make_plan(timeline, SHARED, "", None), look=look)
    watched, record = apply(model, plan)
    assert torch.equal(
        sample(case, watched, timeline, steps=1), sample(case, patched(case, timeline, subject=""), timeline, steps=1)
    )
    point = record.latest_point()
    assert point is not None and abs(float(point.frames.sum()) - 1) < 1e-5
    shown = [segment.index for segment in timeline.segments_at(start)]
    # Stills do not overlap.
    assert shown == ([0, 1] if case.overlap else [1])
    assert [(text.segment, text.words) for text in point.texts] == [(index, ("fox", "runs")) for index in shown]
    joint = model_info(model)[1].joint
    for text in point.texts:
        assert (text.between is not None) == joint and (text.looks > 0).all()
        assert (float(text.looks.sum()) < 1 - 1e-6) if joint else abs(float(text.looks.sum()) - 1) < 1e-5


def every_sampler_works(case: FamilyCase) -> None:
    timeline = case.timeline(2)
    model, off = patched(case, timeline), patched(case, timeline, KVShareConfig(mode="off"))
    for sampler in SAMPLERS:
        shared = sample(case, model, timeline, sampler=sampler)
        assert torch.isfinite(shared).all(), sampler
        assert not torch.equal(shared, sample(case, off, timeline, sampler=sampler)), sampler


def guidance_and_batches_work(case: FamilyCase) -> None:
    timeline = case.timeline(2)
    model, off = patched(case, timeline), patched(case, timeline, KVShareConfig(mode="off"))
    for cfg in (1.0, 3.0):
        for batch in case.batches:
            shared = sample(case, model, timeline, batch, cfg=cfg)
            assert shared.shape[0] == batch and torch.isfinite(shared).all()
            assert not torch.equal(shared, sample(case, off, timeline, batch, cfg=cfg))


CONTRACTS: dict[str, Callable[[FamilyCase], None]] = {
    contract.__name__: contract
    for contract in (
        one_segment_is_the_stock_model,
        off_is_off,
        sharing_changes_later_segments_only,
        sources_may_come_first,
        a_rerun_is_equal,
        nothing_stays_after_a_run,
        other_overrides_stay_in_use,
        every_segment_has_its_prompt,
        the_subject_is_followed,
        a_watched_point_tells_all_and_changes_nothing,
        every_sampler_works,
        guidance_and_batches_work,
    )
}


def looked_into(
    case: FamilyCase, timeline: Timeline, config: KVShareConfig, seen: list[dict[BankKey, list[torch.Tensor]]]
) -> Any:
    """The patched model; `seen` gets what the bank holds when the second segment is evaluated with all its words."""

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        window = args[5]["context_window"]
        if window.segment.index == 1 and window.hides is None:
            stored = args[5][KEY].run.bank._entries
            seen.append({key: [tensor.clone() for tensor in entry.tensors] for key, entry in stored.items()})
        return executor(*args, **kwargs)

    model = patched(case, timeline, config)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    return model


def count_run(case: FamilyCase) -> tuple[int, int]:
    """Blocks that shared, and forwards of the model with all words, in a run of two segments and one step."""
    forwards: list[int] = []
    blocks: list[int] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        if args[5]["context_window"].hides is None:
            forwards.append(1)
        blocks.append(len(args[5][KEY].run.settings.blocks))
        return executor(*args, **kwargs)

    timeline = case.timeline(2)
    model = patched(case, timeline)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", look)
    sample(case, model, timeline, steps=1)
    return max(blocks), len(forwards)


def _raise_stop() -> None:
    raise StoppedError


def _spied(
    case: FamilyCase,
    config: KVShareConfig,
    timeline: Timeline,
    sessions: list[weakref.ref[Any]],
    held: list[int],
    stop: Callable[[], None] | None,
) -> Any:
    """The patched model; `stop` is called in the first forward that meets keys."""

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        session = args[5][KEY].run
        sessions.append(weakref.ref(session))
        held.append(len(session.bank))
        output = executor(*args, **kwargs)
        if stop is not None and held[-1]:
            stop()
        return output

    model = patched(case, timeline, config)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    return model
