"""The benchmark of a device: whether the pack is right on it. The models are the tests' tiny ones."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy.cli_args import args as host_options

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings, MemorySettings
from tests.support.family_cases import CASES as FAMILY_CASES
from tests.support.family_cases import FamilyCase, HostLacksFamilyError, model_of
from tests.support.family_contracts import CONTRACTS
from tests.support.windows import PlainWindows, share
from tests.tiny.models import Sampling

from .device_rows import row_of
from .form import ROOT, Row

FAMILIES = ("wan t2v", "hunyuan video", "cogvideox", "ltxv", "wan i2v")
"""The main ones."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
HALF_CONTRACTS = (
    "one_segment_is_the_stock_model",
    "off_is_off",
    "a_rerun_is_equal",
    "nothing_stays_after_a_run",
    "other_overrides_stay_in_use",
    "the_subject_is_followed",
)
"""Contracts whose tolerances hold in half precision."""
SHARED = KVShareConfig(share_background=True)
WORSE = 4.0
"""Most that a shared run's rounding error may be over that of the model without the pack, which sums fewer scores."""
WAYS: dict[str, KVShareConfig] = {
    "device": KVShareConfig(memory=MemorySettings(place="device")),
    "cpu": KVShareConfig(memory=MemorySettings(place="cpu")),
    "auto": KVShareConfig(memory=MemorySettings(budget_mib=1)),
    "fp8": KVShareConfig(memory=MemorySettings(dtype="fp8")),
    "fp8 on the cpu": KVShareConfig(memory=MemorySettings(place="cpu", dtype="fp8")),
    "matched": KVShareConfig(position="matched"),
    "frame": KVShareConfig(position="frame"),
    "extend": KVShareConfig(mode="extend", strength=0.5, share_background=True),
    "contrast": KVShareConfig(masks=MaskSettings(kind="contrast")),
    "sources first": KVShareConfig(order="sources_first"),
    "ditctrl": replace(DITCTRL, start_step=0, end_step=-1, start_layer=1, end_layer=2),
}
LISTED_WAITS = 2
"""The sampler's position and the masks found, of a step with the defaults."""


def _present(device: torch.device) -> list[FamilyCase]:
    """The main families that the host has; one of them stands for all on the CPU."""
    found: list[FamilyCase] = []
    for name in FAMILIES if device.type == "cuda" else FAMILIES[:1]:
        try:
            model_of(name)
        except HostLacksFamilyError:
            continue
        found.append(FAMILY_CASES[name])
    return found


@contextmanager
def _in_dtype(name: str) -> Iterator[None]:
    """Models that are made meanwhile compute in that dtype, as by the host's own option."""
    option = f"{name}_unet"
    before = getattr(host_options, option)
    setattr(host_options, option, True)
    model_of.cache_clear()
    try:
        yield
    finally:
        setattr(host_options, option, before)
        model_of.cache_clear()


def contracts(device: torch.device) -> Iterator[Row]:
    """The contracts in both halves."""
    names = HALF_CONTRACTS if device.type == "cuda" else HALF_CONTRACTS[:2]
    for dtype in DTYPES:
        for case in _present(device):
            for name in names:
                note = None
                with _in_dtype(dtype):
                    try:
                        CONTRACTS[name](case)
                    except AssertionError as broken:
                        note = (str(broken).strip().splitlines() or ["broken"])[0][:200]
                figure = name.replace("_", " ")
                yield row_of("contracts", case.name, figure, None, dtype=dtype, ok=note is None, note=note)
        gc.collect()


def _sampled(case: FamilyCase, device: torch.device, plain: bool) -> torch.Tensor:
    """Two steps of two segments on `device`: of the subject in a box, so that no mask depends on rounding, or without
    the pack."""
    timeline = case.timeline(2)
    model = model_of(case.name).clone()
    model.load_device = device
    box = torch.zeros(1, *case.latent[1:])
    box[:, : case.latent[1] // 2] = 1
    patched = PlainWindows(timeline).on(model) if plain else share(model, timeline, SHARED, "", box)[0]
    arguments = (case.positive(timeline), case.negative(timeline), case.shape(timeline))
    comfy.model_management.unload_all_models()
    return case.run(Sampling(), patched, *arguments).float().cpu()


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the difference over that of `expected`."""
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def equality(device: torch.device) -> Iterator[Row]:
    """Shared runs against float32 on the CPU, beside the model's own difference."""
    cpu = torch.device("cpu")
    for case in _present(device):
        with _in_dtype("fp32"):
            expected = [_sampled(case, cpu, plain) for plain in (True, False)]
        for dtype in DTYPES:
            with _in_dtype(dtype):
                found = [_sampled(case, device, plain) for plain in (True, False)]
            stock, shared = (_distance(one, other) for one, other in zip(found, expected, strict=True))
            yield row_of("equality", case.name, "error", shared, dtype=dtype)
            # Where the device computes as the CPU does both differ by nothing.
            ratio = shared / stock if stock else float(shared > 0)
            yield row_of("equality", case.name, "error_over_stock", ratio, dtype=dtype, bound=WORSE)


def reruns(device: torch.device) -> Iterator[Row]:
    """Every way twice, with the subject found by the run; and the places of keys against each other."""
    names = list(WAYS) if device.type == "cuda" else ["device", "cpu", "fp8"]
    for case in _present(device)[:2]:
        timeline = case.timeline(2)
        arguments = (case.positive(timeline), case.negative(timeline), case.shape(timeline))
        kept: dict[str, torch.Tensor] = {}
        with _in_dtype("bf16"):
            for name in names:
                model = share(model_of(case.name), timeline, WAYS[name])[0]
                kept[name], again = (case.run(Sampling(steps=3), model, *arguments) for _ in range(2))
                figure, worst = "difference of a rerun", float((again - kept[name]).abs().max())
                yield row_of("reruns", f"{case.name}, {name}", figure, worst, dtype="bf16", bound=0.0)
        for place in ("cpu", "auto"):
            if place in kept:
                figure, worst = "difference to keys on the device", float((kept[place] - kept["device"]).abs().max())
                yield row_of("reruns", f"{case.name}, {place}", figure, worst, dtype="bf16", bound=0.0)
        finite = all(bool(torch.isfinite(result).all()) for result in kept.values())
        yield row_of("reruns", case.name, "finite", None, dtype="bf16", ok=finite)


def waits(device: torch.device) -> Iterator[Row]:
    """What torch warns of in the last of three steps, by the line of the pack."""
    if device.type != "cuda":
        yield row_of("waits", "all", "waits of a steady step", None, note="only CUDA tells")
        return
    for case in _present(device):
        timeline = case.timeline(2)
        arguments = (case.positive(timeline), case.negative(timeline), case.shape(timeline))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")

            def after(step: int, *latents: Any) -> None:
                # After the second step only the third counts.
                torch.cuda.set_sync_debug_mode("warn" if step == 1 else "default")

            try:
                case.run(Sampling(steps=3), share(model_of(case.name), timeline)[0], *arguments, callback=after)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        places = _places(said)
        note = ", ".join(places)[:400] or None
        yield row_of(
            "waits", case.name, "waits of a steady step", float(len(places)), bound=float(LISTED_WAITS), note=note
        )


def _places(said: list[warnings.WarningMessage]) -> list[str]:
    """The lines of the pack in which the device was waited for."""
    core = ROOT / "kvshare_core"
    files = [(Path(one.filename), one.lineno) for one in said if "synchroniz" in str(one.message)]
    return [f"{file.relative_to(ROOT)}:{line}" for file, line in files if file.is_relative_to(core)]
