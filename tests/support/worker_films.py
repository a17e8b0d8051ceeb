"""Films of a tiny model whose file workers can load, by one process and by several, and Ray started small."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import pytest
import safetensors.torch
import torch

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.host.loading.loading import load_model
from kvshare_core.host.sampling.patch import apply
from kvshare_core.host.workers.pool import close_pool
from kvshare_core.host.workers.settings import WorkerSettings
from kvshare_core.host.workers.workers import with_workers
from kvshare_core.plan.making import make_plan
from kvshare_core.prompt_words import PromptWords
from kvshare_core.record.record import KVShareRecord
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.windows import beat_prompts, latent_shape
from tests.tiny.models import Sampling, one_prompt, tiny_wan

OBJECT_STORE = 100 * 2**20
FILE = "kv_share_tiny_wan.safetensors"


def start_ray() -> ModuleType:
    """Ray on this machine, with little memory; a test without it is skipped."""
    ray = pytest.importorskip("ray", reason="Ray is not installed here")
    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
        )
    return ray


def stop_ray(ray: ModuleType) -> None:
    """Ends it with its workers."""
    close_pool()
    ray.shutdown()


def tiny_model(folder: Path, image_to_video: bool = False) -> Any:
    """A tiny Wan, from a file of the models folder `folder` that is there from then on."""
    file = folder / (f"image_{FILE}" if image_to_video else FILE)
    folder_paths.add_model_folder_path("diffusion_models", str(folder))
    if not file.exists():
        network = tiny_wan(image_to_video).model.diffusion_model
        safetensors.torch.save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
    folder_paths.filename_list_cache.clear()
    return load_model(file.name, "default")


def film_timeline(script: str, overlap: int = 1) -> Timeline:
    """The timeline of a script whose prompts say "fox runs", with one text token a word."""
    timeline = plan_timeline(parse_script(script), 3, overlap, fps=8, temporal_compression=4)
    words = PromptWords(("fox", "runs"), ((0, 1), (2,)))
    return replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))


def film(
    model: Any, timeline: Timeline, config: KVShareConfig, subject: str = "fox", mask: Any = None
) -> tuple[Any, KVShareRecord]:
    """The model as Mask-Guided KV Share patches it."""
    return apply(model, make_plan(timeline, config, subject, mask))


def sample(model: Any, timeline: Timeline, steps: int = 3, cfg: float = 3.0, **options: Any) -> torch.Tensor:
    """A film with the stock sampler."""
    sampler = options.pop("sampler", "euler")
    return Sampling(steps=steps, cfg=cfg, sampler=sampler).run(
        model, beat_prompts(timeline), one_prompt(), latent_shape(timeline), **options
    )


SHARED = KVShareConfig(share_background=True)
SIX = "fox runs\n" * 6
"""A film of six prompts of one segment each."""


@dataclass(frozen=True)
class Case:
    """A film, and how it is sampled."""

    script: str = SIX
    config: KVShareConfig = SHARED
    subject: str = "fox"
    workers: int = 2
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    masked: bool = False


CASES = {
    "sources first": Case(),
    "appearance": Case(
        config=replace(SHARED, masks=MaskSettings(freeze_after=0.5, hysteresis=0.2)), options={"steps": 4}
    ),
    "maps": Case(config=replace(SHARED, masks=MaskSettings(kind="contrast", start="maps"))),
    "everything": Case(subject=""),
    "a user's mask": Case(masked=True),
    "source of a beat": Case(
        "subject: fox\nfox runs\nfox runs\n" + "fox runs | subject: fox from beat 2 | source: beat 2\n" * 4, subject=""
    ),
    "two subjects": Case("subject: fox\nsubject: runs\n" + SIX, subject=""),
    "transitions": Case("fox runs\n[segments 1]\nfox runs\n[blend]\nfox runs\n[cut]\nfox runs\n[route]\nfox runs\n"),
    "loop": Case("loop: yes\n" + SIX),
    "sources sampled first": Case(config=replace(SHARED, order="sources_first")),
    "no guidance": Case(options={"cfg": 1.0}),
    "noise in every step": Case(options={"sampler": "euler_ancestral"}),
    "two calls a step": Case(options={"sampler": "heun"}),
    "drift control": Case(config=replace(SHARED, drift_control=0.5)),
    "the paper's pairs": Case(
        config=KVShareConfig(order="ditctrl", sources="previous", masks=MaskSettings(kind="threshold"))
    ),
    "moved keys": Case(config=replace(SHARED, position="matched", mode="swap", strength=0.5)),
    "nothing shared": Case(config=KVShareConfig(mode="off")),
    "sharing from the second step on": Case(config=replace(SHARED, start_step=1)),
    "three workers": Case(workers=3),
}


def both(case: Case, model: Any, **options: Any) -> tuple[list[torch.Tensor], list[KVShareRecord], Any]:
    """What one process and several make of a film, and their records."""
    timeline = film_timeline(case.script)
    mask = None
    if case.masked:
        mask = torch.zeros(1, 8, 8)
        mask[:, 2:6, 1:5] = 1
    latents: list[torch.Tensor] = []
    records: list[KVShareRecord] = []
    for workers in (0, case.workers):
        patched, record = film(model, timeline, case.config, case.subject, mask)
        if workers:
            patched = with_workers(patched, WorkerSettings(workers=workers))
        latents.append(sample(patched, timeline, **{**case.options, **options}))
        records.append(record)
    return latents, records, timeline


def assert_same_masks(records: list[KVShareRecord]) -> None:
    """AssertionError unless both found the same masks in the same steps."""
    one, several = (record.latest() for record in records)
    assert (one is None) == (several is None)
    if one is None or several is None:
        return
    assert one.segments is not None and several.segments is not None
    for mine, theirs in zip(one.segments.masks, several.segments.masks, strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or theirs is None or torch.equal(mine, theirs)
    assert torch.equal(one.heat, several.heat) and torch.equal(one.mask, several.mask)
    assert [step.step for step in one.course] == [step.step for step in several.course]
    for mine, theirs in zip(one.course, several.course, strict=True):
        assert torch.equal(mine.masks, theirs.masks)
