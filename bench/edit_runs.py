"""Makes edits with an embedded model on the real host, in this process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.scenes import FPS
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.holding import hold_original
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import FRAME_DIM, Noise

from .pipeline import GUIDANCE, STEPS, Pipeline, joined


@dataclass(frozen=True)
class Way:
    """A way to edit. guided: whether the subject is named; noise: of the timeline; given: whether of clips that are
    given; denoise: part of the noise schedule that is sampled, 1 for all; masked: whether nothing but the original's
    subject may change; weight: what the changed word counts for."""

    name: str
    config: KVShareConfig
    guided: bool = False
    noise: Noise = "plain"
    given: bool = False
    denoise: float = 1.0
    masked: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class Given:
    """Clips to edit: videos [n, f, 3, h, w], and where their subjects are [n, f, h, w], both in 0..1."""

    videos: torch.Tensor
    subjects: torch.Tensor


@torch.inference_mode()
def edit_clips(
    pipeline: Pipeline, way: Way, films: Sequence[str], seeds: Sequence[int], given: Given | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each film of two prompts the original and its edit, both [f, 3, h, w] and decoded apart; given: the originals,
    for a way that takes them. Words that mean the same must stand at the same places in all films."""
    from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
    from kvshare_core.host.loading.model_info import model_info
    from kvshare_core.host.sampling.patch import apply
    from kvshare_core.plan.making import make_plan

    _, info = model_info(pipeline.model)
    plans, encoded = [], []
    for film in films:
        timeline = plan_timeline(parse_script(film), info.native_frames, 0, FPS, info.compression[0])
        timeline, *conditioning = encode_timeline(pipeline.clip, replace(timeline, noise=way.noise), "")
        plans.append(make_plan(timeline, way.config, "", None))
        encoded.append(conditioning)
    timeline = plans[0].timeline
    latent, mask = empty_latent(info, timeline, pipeline.side, pipeline.side, len(films)), None
    if given is not None:
        clips = pipeline.encode(given.videos).to(latent)
        latent, mask = hold_original(timeline, latent, None, clips)
        if way.masked:
            held = [hold_original(timeline, latent[:1], None, clips[:1], subject)[1] for subject in given.subjects]
            mask = torch.cat(held)
    patched, _ = apply(pipeline.model, plans[0])
    conditioning = joined([one for one, _ in encoded]), encoded[0][1]
    samples = pipeline.sample(patched, latent, seeds, *conditioning, STEPS, GUIDANCE, mask=mask, denoise=way.denoise)
    length = timeline.beats[0].stop
    original, edit = (pipeline.decode(part) for part in samples.split(length, FRAME_DIM))
    return list(zip(original, edit, strict=True))


@torch.inference_mode()
def weighed_clips(pipeline: Pipeline, prompts: Sequence[str], seeds: Sequence[int]) -> list[torch.Tensor]:
    """A video [f, 3, h, w] of each prompt, which may weigh words of its own at the same places."""
    from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
    from kvshare_core.host.loading.model_info import model_info
    from kvshare_core.host.sampling.patch import apply
    from kvshare_core.plan.making import make_plan

    _, info = model_info(pipeline.model)
    plans, encoded = [], []
    for prompt in prompts:
        timeline = plan_timeline(parse_script(prompt), info.native_frames, 0, FPS, info.compression[0])
        timeline, *conditioning = encode_timeline(pipeline.clip, timeline, "")
        plans.append(make_plan(timeline, KVShareConfig(mode="off"), "", None))
        encoded.append(conditioning)
    if any(plan.weights != plans[0].weights for plan in plans):
        raise ValueError("clips made together must weigh words at the same places")
    latent = empty_latent(info, plans[0].timeline, pipeline.side, pipeline.side, len(prompts))
    patched, _ = apply(pipeline.model, plans[0])
    samples = pipeline.sample(
        patched, latent, seeds, joined([one for one, _ in encoded]), encoded[0][1], STEPS, GUIDANCE
    )
    return list(pipeline.decode(samples))
