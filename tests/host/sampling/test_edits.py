"""Edits on the real host: what is the same as in the original, and what stays of a video that is given."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.host import BEAT_TAG
from kvshare_core.timeline.holding import hold_original
from tests.support.family_cases import CASES, FamilyCase
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling

EDIT = KVShareConfig(mode="replace", strength=1.0, position="same", is_edit=True)
NAMES = ("wan t2v", "hunyuan video")


def edited(
    case: FamilyCase, config: KVShareConfig, beats: int = 2, subject: str = "", **inputs: Any
) -> list[torch.Tensor]:
    """The latents of the original and of each edit, every prompt of which has another text."""
    timeline = tiny_timeline(beats, overlap=0)
    patched, _ = share(case.build(), timeline, config, subject)
    result = Sampling(3).run(patched, case.positive(timeline), case.negative(timeline), case.shape(timeline), **inputs)
    return list(result.split(timeline.window, 2))


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_that_changes_nothing_is_the_original(name: str) -> None:
    case, timeline = CASES[name], tiny_timeline(3, overlap=0)
    (text, extra), *_ = case.positive(timeline)
    alike = [[text, {**extra, BEAT_TAG: number}] for number in range(3)]
    patched, _ = share(case.build(), timeline, replace(EDIT, mode="off"), "")
    result = Sampling(3).run(patched, alike, case.negative(timeline), case.shape(timeline))
    original, *edits = result.split(timeline.window, 2)
    for edit in edits:
        torch.testing.assert_close(edit, original, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_original_does_not_see_its_edits_and_they_see_it(name: str) -> None:
    case = CASES[name]
    shared, alone = edited(case, EDIT, 3), edited(case, replace(EDIT, mode="off"), 3)
    assert torch.equal(shared[0], alone[0])
    for one, other in zip(shared[1:], alone[1:], strict=True):
        assert (one - other).abs().max() > 1e-4


def test_each_of_several_edits_is_what_it_is_alone() -> None:
    case = CASES["wan t2v"]
    noise = torch.randn(case.shape(tiny_timeline(3, overlap=0)), generator=torch.Generator().manual_seed(3))
    several = edited(case, EDIT, 3, noise=noise)
    alone = edited(case, EDIT, 2, noise=noise[:, :, :6])
    torch.testing.assert_close(several[0], alone[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(several[1], alone[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_of_a_given_video_the_original_and_what_is_held_stay_bit_for_bit(name: str) -> None:
    case, timeline = CASES[name], tiny_timeline(2, overlap=0)
    shape = case.shape(timeline)
    given = torch.randn(shape[0], shape[1], 3, *shape[3:], generator=torch.Generator().manual_seed(9))
    change = torch.zeros(1, 48, 48)
    change[:, :24] = 1
    latent, mask = hold_original(timeline, torch.zeros(shape), None, given, change)
    original, edit = edited(case, EDIT, latent=latent, noise_mask=mask)
    assert torch.equal(original, given)
    assert torch.equal(edit[..., 3:, :], given[..., 3:, :])
    assert (edit[..., :3, :] - given[..., :3, :]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_sharing_all_but_the_subject_leaves_the_subject_to_itself(name: str) -> None:
    case = CASES[name]
    masks = MaskSettings(kind="contrast", thres=0.5, start="maps")
    settings = replace(EDIT, masks=masks, share_background=True)
    found = [edited(case, replace(settings, share_subject=shares), subject="fox")[1] for shares in (True, False)]
    assert torch.isfinite(found[1]).all()
    assert (found[0] - found[1]).abs().max() > 1e-4
