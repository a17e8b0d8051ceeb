"""Masks by the latent that a run left."""

import torch

from kvshare_core.record.handover import KEPT, Handover
from kvshare_core.record.record import RecordedMasks
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline


def masks(value: float) -> RecordedMasks:
    timeline = plan_timeline(parse_script("fox"), 3, 1, 8, 4)
    return RecordedMasks(timeline, torch.full((1, 3, 2, 2), value), torch.zeros(1, 3, 2, 2))


def test_masks_belong_to_the_latent_they_were_left_with_in_either_precision() -> None:
    handover, latent, found = Handover(), torch.randn(1, 4, 3, 2, 2), masks(0.5)
    handover.leave(latent, found)
    assert handover.masks_of(latent.clone()) is found
    assert handover.masks_of(latent.half()) is found
    assert handover.masks_of(latent + 0.1) is None
    assert Handover().masks_of(latent) is None


def test_only_the_newest_are_kept() -> None:
    handover, latents = Handover(), [torch.full((1, 4, 3, 2, 2), float(number)) for number in range(KEPT + 2)]
    for number, latent in enumerate(latents):
        handover.leave(latent, masks(number / 10))
    assert [handover.masks_of(latent) is not None for latent in latents] == [False] * 2 + [True] * KEPT
