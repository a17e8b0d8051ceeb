"""On a device whose results take time, a steady step neither mixes devices nor makes the CPU wait, but for what is
listed here."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import comfy.model_management
import pytest
import torch

from kvshare_core import devices
from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings, MemorySettings
from kvshare_core.host.sampling import memory
from tests.support.present import present
from tests.support.pretend_cuda import CUDA, PretendCuda, PretendStream, Wait
from tests.support.windows import share
from tests.tiny.models import Sampling

SIGMA = "value read back", "kvshare_core/host/sampling/segment_handler.py"
MASKS = "copy to the CPU", "kvshare_core/subject/strategies.py"
LISTED = {SIGMA: 1, MASKS: 1}
"""Waits that a step may have, by kind and file: the sampler's position, and the masks found."""
LISTED_OF_THRESHOLD = {SIGMA: 1, MASKS: 2}
"""The same where every block finds masks of its own, from which the number of its tokens follows."""

FAMILIES = ("wan t2v", "hunyuan video", "ltxv", "cogvideox")
CONFIGURATIONS = {
    "off": KVShareConfig(mode="off"),
    "defaults": KVShareConfig(),
    "bank on the CPU": KVShareConfig(memory=MemorySettings(place="cpu")),
    "fp8": KVShareConfig(memory=MemorySettings(dtype="fp8")),
    "contrast": KVShareConfig(masks=MaskSettings(kind="contrast")),
    "matched": KVShareConfig(position="matched"),
    "frame": KVShareConfig(position="frame"),
    "token dropout": KVShareConfig(token_dropout=0.3),
    "extend with the background": KVShareConfig(mode="extend", strength=1.0, share_background=True),
    "drift control": KVShareConfig(drift_control=0.5),
    "sources first": KVShareConfig(order="sources_first"),
    "ditctrl": replace(DITCTRL, start_step=0, end_step=-1, start_layer=1, end_layer=2),
}
PAIRS = [("wan t2v", name) for name in CONFIGURATIONS] + [(family, "defaults") for family in FAMILIES[1:]]
GIB = 2**30


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PretendCuda:
    """The device, in a host that takes it for one with all memory and leaves models where they are."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Stream", PretendStream)
    monkeypatch.setattr(torch.cuda, "Event", PretendStream)
    monkeypatch.setattr(torch.cuda, "current_stream", PretendStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    for name in ("load_models_gpu", "cleanup_models", "free_memory"):
        monkeypatch.setattr(comfy.model_management, name, lambda *args, **kwargs: [])

    def free(device: Any = None, torch_free_too: bool = False) -> Any:
        return (GIB, GIB) if torch_free_too else GIB

    monkeypatch.setattr(comfy.model_management, "get_free_memory", free)
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *args, **kwargs: GIB)
    monkeypatch.setattr(memory, "get_total_memory", lambda *args, **kwargs: GIB)
    return PretendCuda()


def waits_of_a_steady_step(device: PretendCuda, name: str, config: KVShareConfig) -> Counter[Wait]:
    """What the pack made the CPU wait for in the last of three steps of a stage."""
    case = present(name)
    timeline = case.timeline(2)
    model = case.build()
    model.load_device = CUDA
    steady: Counter[Wait] = Counter()

    def after(step: int, *latents: Any) -> None:
        if step == 2:
            steady.clear()
            steady.update(device.waits)
        device.waits.clear()

    with torch.inference_mode(), device:
        for module in model.model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({key: device.put(held) for key, held in tensors.items() if held is not None})
        patched, _ = share(model, timeline, config, "fox")
        result = case.run(
            Sampling(steps=3),
            patched,
            case.positive(timeline),
            case.negative(timeline),
            case.shape(timeline),
            callback=after,
        )
        assert bool(torch.isfinite(result).all())
    return Counter({wait: count for wait, count in steady.items() if wait.of_pack})


def unlisted(waits: Counter[Wait], listed: dict[tuple[str, str], int] = LISTED) -> dict[str, int]:
    """The waits beyond those that are listed, as kind and place."""
    by_file: Counter[tuple[str, str]] = Counter()
    for wait, count in waits.items():
        by_file[wait.kind, wait.place.rpartition(":")[0]] += count
    return {
        f"{wait.kind} at {wait.place}": count
        for wait, count in waits.items()
        if by_file[name := (wait.kind, wait.place.rpartition(":")[0])] > listed.get(name, 0)
    }


@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_a_steady_step_waits_for_nothing_unlisted(device: PretendCuda, family: str, name: str) -> None:
    waits = waits_of_a_steady_step(device, family, CONFIGURATIONS[name])
    assert waits, "the tool has seen nothing: not even the sampler's position was read"
    assert unlisted(waits, LISTED_OF_THRESHOLD if name == "ditctrl" else LISTED) == {}


def test_an_upload_that_is_left_out_or_blocks_is_seen(device: PretendCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvshare_core.timeline import fades

    monkeypatch.setattr(fades, "upload", lambda tensor, device: tensor)
    mixed = unlisted(waits_of_a_steady_step(device, "wan t2v", CONFIGURATIONS["defaults"]))
    assert any(name.startswith("mixed devices at kvshare_core/timeline/fades.py") for name in mixed)
    monkeypatch.setattr(fades, "upload", lambda tensor, device: tensor.to(device))
    blocking = unlisted(waits_of_a_steady_step(device, "wan t2v", CONFIGURATIONS["defaults"]))
    assert any(name.startswith("copy to the device at kvshare_core/timeline/fades.py") for name in blocking)


def test_every_kind_of_wait_is_told(device: PretendCuda) -> None:
    with torch.inference_mode(), device:
        there, here = device.put(torch.randn(3, 4)), torch.randn(3, 4)
        for kind, act in {
            "mixed devices": lambda: there + here,
            "copy to the device": lambda: here.to(CUDA),
            "copy to the CPU": there.cpu,
            "value read back": there.sum().item,
            "size read back": there.nonzero,
        }.items():
            device.waits.clear()
            act()
            assert {wait.kind for wait in device.waits} == {kind}
        device.waits.clear()
        there[:, device.put(torch.tensor([0, 2]))] = devices.upload(torch.zeros(3, 2), CUDA)
        assert float(torch.tensor(1.0)) == 1.0 and (there + torch.tensor(1.0))[..., 1:, None].device == CUDA
        assert not device.waits
