"""What `bench faults` interrupts: sampled films on tiny models, and nodes that read and write files.

Everything here needs a host that runs (devtools.inprocess.enter_host).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import torch

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings, MemorySettings
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import sample
from tests.support.node_calls import run_node, segmenter_inputs
from tests.support.windows import latent_shape, tiny_timeline

Run = Callable[[], list[torch.Tensor]]
"""Runs once; what two equal runs have in common."""

BEATS = 3
STEPS = 3
BOTH_SOURCES = KVShareConfig(sources="first and previous", share_background=True)
AWAY = MemorySettings(place="cpu", dtype="fp8")
PAPER = replace(DITCTRL, start_step=0, end_step=-1, start_layer=0, end_layer=-1)
"""The paper's method in every step and block of a tiny model."""


def sampled(layout: str, config: KVShareConfig) -> Run:
    """A film of three beats, on the tiny model of that layout by the stock sampler: its latent and its masks."""
    case = CASES[layout]
    timeline = case.timeline(BEATS)
    model, record = apply(model_of(layout), make_plan(timeline, config, "fox", None))

    def run() -> list[torch.Tensor]:
        latent = sample(case, model, timeline, steps=STEPS)
        found = record.latest()
        return [latent] if found is None else [latent, found.mask]

    return run


def film() -> tuple[Timeline, dict[str, torch.Tensor]]:
    """A timeline and a latent for it."""
    timeline = tiny_timeline(2)
    return timeline, {"samples": torch.randn(latent_shape(timeline), generator=torch.Generator().manual_seed(1))}


def save_film() -> Path:
    """Saves that film; the file that was written."""
    timeline, latent = film()
    folder = Path(folder_paths.get_output_directory())
    before = set(folder.rglob("*"))
    run_node("LongVideoSave", timeline=timeline, latent=latent, filename_prefix="fault")
    (file,) = set(folder.rglob("*")) - before
    return file


def saving() -> Run:
    """Saves a film: the bytes of its file."""

    def run() -> list[torch.Tensor]:
        file = save_film()
        content = file.read_bytes()
        file.unlink()
        return [torch.frombuffer(bytearray(content), dtype=torch.uint8)]

    return run


def loading() -> Run:
    """Loads a film: its latent."""
    name = f"{save_film().name} [output]"
    return lambda: [run_node("LongVideoLoad", file=name)[1]["samples"]]


def embedded() -> tuple[Any, Any, Any]:
    """Model, text encoder and VAE that come with the pack."""
    names = {name: "embedded" for name in ("diffusion_model", "text_encoder", "vae")}
    return run_node("LoadVideoDiT", **names, weight_dtype="default")[:3]


def encoding() -> Run:
    """Plans a film and encodes its prompts: their embeddings."""
    model, clip, _ = embedded()
    values = segmenter_inputs(model, clip)

    def run() -> list[torch.Tensor]:
        _, positive, negative, *_ = run_node("LongVideoSegmenter", **values)
        return [entry[0] for entry in [*positive, *negative]]

    return run


def decoding() -> Run:
    """Decodes a loop: its pictures."""
    vae = embedded()[2]
    samples = {"samples": torch.randn(1, 16, 3, 6, 6, generator=torch.Generator().manual_seed(2))}
    sizes = {"tile_size": 0, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    return lambda: [run_node("LongVideoDecodeLoop", samples=samples, vae=vae, **sizes)[0]]


def previewing() -> Run:
    """Shows the masks of a film over its pictures."""
    case = CASES["wan t2v"]
    timeline = case.timeline(BEATS)
    model, record = apply(model_of(case.name), make_plan(timeline, KVShareConfig(), "fox", None))
    sample(case, model, timeline, steps=1)
    images = torch.rand(timeline.frames, 48, 48, 3, generator=torch.Generator().manual_seed(3))
    return lambda: list(run_node("AttentionMaskPreview", record=record, images=images, opacity=0.5))


RUNS: Mapping[str, Callable[[], Run]] = {
    "lockstep": lambda: sampled("wan t2v", BOTH_SOURCES),
    "keys away, fp8": lambda: sampled("wan t2v", replace(BOTH_SOURCES, memory=AWAY)),
    "maps, sources first": lambda: sampled(
        "hunyuan video", KVShareConfig(order="sources_first", masks=MaskSettings(kind="contrast"))
    ),
    "paper's order": lambda: sampled("wan t2v", PAPER),
    "drift control": lambda: sampled("wan t2v", KVShareConfig(drift_control=0.5)),
    "chain of images": lambda: sampled("wan i2v", KVShareConfig(order="chain")),
    "encode": encoding,
    "save": saving,
    "load": loading,
    "decode": decoding,
    "preview": previewing,
}
"""What makes each run ready."""


def digest(values: list[torch.Tensor]) -> str:
    """A number for the bits of `values`."""
    found = hashlib.sha256()
    for value in values:
        found.update(value.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
