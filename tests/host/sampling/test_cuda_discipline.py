"""On a device whose results take time, a steady step neither mixes devices nor makes the CPU wait, but for what is
listed here. Every layout that the host has runs with the defaults, and one of every main family with every
configuration."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from kvshare_core import devices
from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings, MemorySettings
from kvshare_core.timeline import fades
from tests.support.family_cases import CASES
from tests.support.present import present
from tests.support.pretend_cuda import CUDA, PretendCuda, Wait
from tests.support.pretend_host import pretending_host, waits_of_a_steady_step

Listed = dict[tuple[str, str], int]

SIGMA = "value read back", "kvshare_core/host/sampling/segment_handler.py"
MASKS = "copy to the CPU", "kvshare_core/subject/strategies.py"
LISTED: Listed = {SIGMA: 1, MASKS: 1}
"""Waits that a step may have, by kind and file: the sampler's position, and the masks found."""
LISTED_OF: dict[str, Listed] = {"ditctrl": {SIGMA: 1, MASKS: 2}}
"""The same where every block finds masks of its own, from which the number of its tokens follows."""

KERNELS = "kvshare_core/attention/log_sum_exp.py"
OF_WIDTHS: Listed = {("copy to the device", KERNELS): 12, ("value read back", KERNELS): 4}
"""Of UNets, whose heads have several widths: a kernel is tried once in a run for each, and a coarse block may share for
the first time in the step that is looked at."""

FAMILIES = ("wan t2v", "hunyuan video", "ltxv", "cogvideox")
"""Those that run with every configuration."""
CONFIGURATIONS = {
    "defaults": KVShareConfig(),
    "off": KVShareConfig(mode="off"),
    "bank on the CPU": KVShareConfig(memory=MemorySettings(place="cpu")),
    "fp8": KVShareConfig(memory=MemorySettings(dtype="fp8")),
    "contrast": KVShareConfig(masks=MaskSettings(kind="contrast")),
    # With the shipped threshold, cleaning may leave nothing of so small a picture until the last step.
    "masks mended": KVShareConfig(masks=MaskSettings(presence=0.1, clean=True, hysteresis=0.1, rim=2, thres=0.6)),
    "two sources": KVShareConfig(sources="first and previous", share_uncond=False, end_strength=0.2),
    "matched": KVShareConfig(position="matched"),
    "frame": KVShareConfig(position="frame"),
    "token dropout": KVShareConfig(token_dropout=0.3),
    "extend with the background": KVShareConfig(mode="extend", strength=1.0, share_background=True),
    "drift control": KVShareConfig(drift_control=0.5),
    "sources first": KVShareConfig(order="sources_first"),
    "contrast of keys": KVShareConfig(key_contrast=1.2, position="same"),
    "chain": KVShareConfig(order="chain"),
    "ditctrl": replace(DITCTRL, start_step=0, end_step=-1, start_layer=1, end_layer=2),
}
CANNOT = {("ltxv", "matched")}
"""Its keys have no positions that could be matched."""
PAIRS = [
    *((family, "defaults") for family in CASES),
    ("wan i2v", "chain"),
    *(pair for pair in product(FAMILIES, CONFIGURATIONS) if pair[1] != "defaults" and pair not in CANNOT),
]


@pytest.fixture
def device() -> Iterator[PretendCuda]:
    with pretending_host() as found:
        yield found


def unlisted(waits: Counter[Wait], listed: Listed = LISTED) -> dict[str, int]:
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
    waits = waits_of_a_steady_step(device, present(family), CONFIGURATIONS[name])
    assert waits, "the tool has seen nothing: not even the sampler's position was read"
    listed = {**LISTED_OF.get(name, LISTED), **(OF_WIDTHS if CASES[family].family == "unet" else {})}
    assert unlisted(waits, listed) == {}


def _then(act: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor, torch.device], torch.Tensor]:
    """An upload after which `act` is done with what is on the device."""

    def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        there = devices.upload(tensor, device)
        act(there)
        return there

    return upload


FAULTS: dict[str, Callable[[torch.Tensor, torch.device], torch.Tensor]] = {
    "mixed devices": lambda tensor, device: tensor,
    "copy to the device": lambda tensor, device: tensor.to(device),
    "copy of ordinary memory": lambda tensor, device: tensor.to(device, non_blocking=True),
    "copy to the CPU": _then(torch.Tensor.cpu),
    "value read back": _then(lambda there: there.sum().item()),
    "size read back": _then(torch.Tensor.nonzero),
}


def test_indices_and_weights_of_any_size_come_from_pinned_memory(
    device: PretendCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "STAGED_BYTES", 0)
    assert unlisted(waits_of_a_steady_step(device, CASES["wan t2v"], CONFIGURATIONS["matched"])) == {}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_put_into_a_step_is_told_with_its_line(
    device: PretendCuda, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(fades, "upload", FAULTS[kind])
    # As if these few numbers were more than CUDA stages.
    monkeypatch.setattr(devices, "STAGED_BYTES", 0)
    found = unlisted(waits_of_a_steady_step(device, CASES["wan t2v"], CONFIGURATIONS["defaults"]))
    assert any(re.fullmatch(rf"{kind} at kvshare_core/timeline/fades\.py:\d+", name) for name in found), found


def test_every_kind_of_wait_is_told(device: PretendCuda) -> None:
    with torch.inference_mode(), device:
        there, here = device.put(torch.randn(3, 4)), torch.randn(3, 4)
        for kind, act in {
            "mixed devices": lambda: there + here,
            "copy to the device": lambda: (here.to(CUDA), torch.tensor([1.0, 2.0], device=CUDA)),
            "copy to the CPU": there.cpu,
            "value read back": there.sum().item,
            "size read back": there.nonzero,
        }.items():
            assert device.waits_of(act) == {kind: 2 if kind == "copy to the device" else 1}
        device.waits.clear()
        there[:, device.put(torch.tensor([0, 2]))] = devices.upload(torch.zeros(3, 2), CUDA)
        assert float(torch.tensor(1.0)) == 1.0 and (there + torch.tensor(1.0))[..., 1:, None].device == CUDA
        assert not device.waits
