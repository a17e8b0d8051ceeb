"""A host that takes the pretended device for one with all memory, and runs on it that tell what they waited for."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.host.sampling import memory
from tests.support.family_cases import FamilyCase
from tests.support.pretend_cuda import CUDA, PretendCuda, Wait, pretending
from tests.support.windows import share
from tests.tiny.models import Sampling

GIB = 2**30
STEPS = 3
"""Of a run. Masks are found in the first, used from the second on, and found as in all later ones in the last."""


@contextmanager
def pretending_host() -> Iterator[PretendCuda]:
    """The device, in a host that computes on it and leaves models where they are."""

    def free(device: Any = None, torch_free_too: bool = False) -> Any:
        return (GIB, GIB) if torch_free_too else GIB

    with pytest.MonkeyPatch.context() as patch, pretending() as device:
        for name in ("load_models_gpu", "cleanup_models", "free_memory"):
            patch.setattr(comfy.model_management, name, lambda *args, **kwargs: [])
        patch.setattr(comfy.model_management, "get_free_memory", free)
        patch.setattr(comfy.model_management, "get_total_memory", lambda *args, **kwargs: GIB)
        patch.setattr(comfy.model_management, "MAX_PINNED_MEMORY", GIB)
        patch.setattr(memory, "get_total_memory", lambda *args, **kwargs: GIB)
        yield device


def waits_of_a_steady_step(device: PretendCuda, case: FamilyCase, config: KVShareConfig) -> Counter[Wait]:
    """What the pack made the CPU wait for in the last step of the last stage of a run."""
    timeline = case.timeline(2)
    model = case.build()
    model.load_device = CUDA
    steady: Counter[Wait] = Counter()

    def after(step: int, *latents: Any) -> None:
        if step == STEPS - 1:
            steady.clear()
            steady.update(device.waits)
        device.waits.clear()

    with torch.inference_mode(), device:
        for module in model.model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({key: device.put(held) for key, held in tensors.items() if held is not None})
        patched, _ = share(model, timeline, config, "fox", carry_image=config.carry_image)
        result = case.run(
            Sampling(steps=STEPS),
            patched,
            case.positive(timeline),
            case.negative(timeline),
            case.shape(timeline),
            callback=after,
        )
        assert bool(torch.isfinite(result).all())
    return Counter({wait: count for wait, count in steady.items() if wait.of_pack})
