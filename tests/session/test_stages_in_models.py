"""Sources sampled first, together with samplers, caches, held frames and drift control."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.bank.bank import BankKey
from kvshare_core.config import MaskSettings
from kvshare_core.timeline.holding import redo_mask
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.family_contracts import SAMPLERS, SHARED, looked_into, patched, sample
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling

FIRST = replace(SHARED, order="sources_first")


@pytest.fixture(params=["wan t2v", "hunyuan video"])
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return CASES[request.param]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sources_sampled_first_come_out_as_in_lockstep(case: FamilyCase, sampler: str) -> None:
    timeline = tiny_timeline(3, overlap=0)
    before, beside = (
        sample(case, patched(case, timeline, config), timeline, sampler=sampler, steps=3) for config in (FIRST, SHARED)
    )
    torch.testing.assert_close(before[:, :, :3], beside[:, :, :3], rtol=1e-4, atol=1e-4)
    assert (before[:, :, 3:] - beside[:, :, 3:]).abs().max() > 1e-4 * beside.abs().max()


@pytest.mark.parametrize("changes", [{"drift_control": 1.0}, {"step_idx": (1,)}, {"end_percent": 0.9}])
def test_keys_kept_for_later_stages_depend_on_the_source_alone(case: FamilyCase, changes: dict[str, Any]) -> None:
    timeline = tiny_timeline(2)
    seen: list[list[dict[BankKey, list[torch.Tensor]]]] = []
    for config in (FIRST, replace(FIRST, **changes)):
        seen.append([])
        sample(case, looked_into(case, timeline, config, seen[-1]), timeline, steps=3)
    plain, changed = (found[0] for found in seen)
    assert plain.keys() == changed.keys() and plain
    for key, tensors in plain.items():
        assert all(map(torch.equal, tensors, changed[key]))


def test_an_overlap_is_the_sources_own_while_it_comes_first(case: FamilyCase) -> None:
    """Neighbours that wait for their turn do not fade into it."""
    seen: list[list[dict[BankKey, list[torch.Tensor]]]] = []
    noise = torch.randn(case.shape(tiny_timeline(2, overlap=0)), generator=torch.Generator().manual_seed(5))
    for overlap in (0, 1):
        timeline = tiny_timeline(2, overlap=overlap)
        shape = case.shape(timeline)
        seen.append([])
        case.run(
            Sampling(steps=3),
            looked_into(case, timeline, FIRST, seen[-1]),
            case.positive(timeline),
            case.negative(timeline),
            shape,
            noise=noise[:, :, : shape[2]],
        )
    cut, overlapping = (found[0] for found in seen)
    assert cut and all(map(torch.equal, cut[key], overlapping[key]) for key in cut)


def test_conditioning_that_starts_and_ends_does_so_in_every_stage(case: FamilyCase) -> None:
    timeline = tiny_timeline(2, overlap=0)
    entries = case.positive(timeline)
    for tag, (text, extra) in enumerate(list(entries)):
        extra["end_percent"] = 0.5
        entries.append([case.text(70 + tag, text.shape[1])[0], {**extra, "start_percent": 0.5, "end_percent": 1.0}])
    shape, negative = case.shape(timeline), case.negative(timeline)
    before, beside, plain = (
        case.run(Sampling(steps=4), patched(case, timeline, config), positive, negative, shape)
        for config, positive in ((FIRST, entries), (SHARED, entries), (SHARED, case.positive(timeline)))
    )
    torch.testing.assert_close(before[:, :, :3], beside[:, :, :3], rtol=1e-4, atol=1e-4)
    assert not torch.equal(before[:, :, :3], plain[:, :, :3])


def test_every_stage_is_a_run_of_its_own_to_what_others_put_on_the_model(case: FamilyCase) -> None:
    timeline = tiny_timeline(3)
    for config, stages in ((FIRST, 2), (replace(FIRST, sources="previous"), 3), (SHARED, 1)):
        runs: list[int] = []
        for place in ("before", "after"):
            model = model_of(case.name).clone()
            if place == "before":
                model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "other", counting(runs))
            model = share(model, timeline, config)[0]
            if place == "after":
                model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "other", counting(runs))
            runs.clear()
            sample(case, model, timeline)
            assert len(runs) == stages


@pytest.mark.parametrize("changes", [{"start_step": 5}, {"step_idx": (7,)}, {"start_percent": 0.999}])
def test_a_run_in_which_no_step_shares_samples_nothing_before(case: FamilyCase, changes: dict[str, Any]) -> None:
    timeline = tiny_timeline(2)
    outputs = []
    for order in ("sources_first", "lockstep"):
        model = patched(case, timeline, replace(SHARED, order=order, masks=MaskSettings(start="maps"), **changes))
        runs: list[int] = []
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", counting(runs))
        outputs.append((sample(case, model, timeline, steps=3), len(runs)))
    assert torch.equal(outputs[0][0], outputs[1][0]) and outputs[0][1] == outputs[1][1]


def test_held_frames_are_matched_as_if_everything_was_evaluated(case: FamilyCase) -> None:
    timeline = tiny_timeline(4)
    existing = torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(7))
    for config in (replace(FIRST, drift_control=1.0), replace(SHARED, drift_control=1.0, step_idx=(1,))):
        outputs = []
        for guided in (False, True):
            model = patched(case, timeline, config)
            if guided:
                model.model_options["sampler_pre_cfg_function"] = [lambda args: args["conds_out"]]
            outputs.append(
                case.run(
                    Sampling(steps=3),
                    model,
                    case.positive(timeline),
                    case.negative(timeline),
                    case.shape(timeline),
                    latent=existing,
                    noise_mask=redo_mask(timeline, existing, 3),
                )
            )
        assert torch.equal(*outputs)


def counting(runs: list[int]) -> Any:
    """A wrapper that counts."""

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(1)
        return executor(*args, **kwargs)

    return count
