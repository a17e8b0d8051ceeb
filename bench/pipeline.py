"""Makes videos with the embedded model on the real host, in this process. The only module here that knows the host."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from devtools.environment import find_host
from devtools.inprocess import enter_host
from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.scenes import FPS, FRAME_SIDE
from kvshare_core.script_forms import parse_script
from kvshare_core.session import Session
from kvshare_core.timeline import Timeline, plan_timeline

from .spans import own_pictures, seam_pictures

Method = Literal["isolated", "windows", "kvshare"]
METHODS: tuple[Method, ...] = get_args(Method)

SAMPLER, SCHEDULER = "euler", "simple"
SHARING = KVShareConfig(start_layer=3)
"""Chosen for the embedded model on storyboards 100 to 111, which no published figure is measured on: its first blocks
carry layout, which each prompt keeps to itself."""
STEPS = 20
GUIDANCE = 4.0


@dataclass(frozen=True)
class Clip:
    """One video: `frames` [f, 3, h, w] in 0..1, its plan, the seconds it took (sampling and decoding), and the subject
    masks [f, h, w] that the attention found, None when it followed no subject."""

    frames: torch.Tensor
    timeline: Timeline
    seconds: float
    masks: torch.Tensor | None

    @property
    def segment_frames(self) -> tuple[tuple[int, int], ...]:
        """Pictures [first, last) that belong to each segment."""
        return own_pictures(self.timeline)

    @property
    def seams(self) -> tuple[int | None, ...]:
        """Where each next segment takes over, None at cuts."""
        return seam_pictures(self.timeline)


class Pipeline:
    """The embedded model with its text encoder and VAE, on the host in folder `host`."""

    def __init__(self, host: Path, model: Any, clip: Any, vae: Any):
        self.host = host
        self.model = model
        self.clip = clip
        self.vae = vae

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[str],
        *,
        seed: int,
        overlap: int,
        method: Method,
        subject: str,
        steps: int = STEPS,
        cfg: float = GUIDANCE,
        config: KVShareConfig = SHARING,
        mask: torch.Tensor | None = None,
    ) -> Clip:
        """The long video of `prompts`, one beat each.

        `isolated` makes segments without overlap and without sharing whatever `overlap` is, `windows` blends them,
        `kvshare` shares as `config` says the keys and values of `subject`, a word of all prompts, or where a `mask`
        [pictures, h, w] in 0..1 is given of what that covers; of everything when there is neither.
        """
        from kvshare_core.host.conditioning import empty_latent, encode_timeline
        from kvshare_core.host.patch import apply, model_info
        from kvshare_core.host.plan import make_plan

        _, info = model_info(self.model)
        shared_frames = 0 if method == "isolated" else overlap
        lines = parse_script("\n".join(prompts))
        timeline = plan_timeline(lines, info.native_frames, shared_frames, FPS, info.compression[0])
        timeline, positive, negative = encode_timeline(self.clip, timeline, "")
        settings = config if method == "kvshare" else KVShareConfig(mode="off")
        patched, record = apply(self.model, make_plan(timeline, settings, subject, mask))

        start = time.perf_counter()
        latent = empty_latent(info, timeline, FRAME_SIDE, FRAME_SIDE, 1)
        samples = self._sample(patched, latent, [seed], positive, negative, steps, cfg)
        frames = self._decode(samples)[0]
        return Clip(frames, timeline, time.perf_counter() - start, _masks(record, frames))

    @torch.inference_mode()
    def single_clips(
        self, prompts: Sequence[str], seed: int, steps: int = STEPS, cfg: float = GUIDANCE
    ) -> torch.Tensor:
        """Videos [n, f, 3, h, w] of one segment each, sampled together by the unpatched model; the noise of place i is
        that of `seed` + i."""
        from kvshare_core.host.conditioning import empty_latent, encode
        from kvshare_core.host.patch import model_info

        _, info = model_info(self.model)
        timeline = plan_timeline(parse_script(prompts[0]), info.native_frames, 0, FPS, info.compression[0])
        encoded = [encode(self.clip, prompt) for prompt in prompts]
        positive = [[torch.cat([cond[0][0] for cond in encoded]), dict(encoded[0][0][1])]]
        latent = empty_latent(info, timeline, FRAME_SIDE, FRAME_SIDE, len(prompts))
        seeds = range(seed, seed + len(prompts))
        samples = self._sample(self.model, latent, seeds, positive, encode(self.clip, ""), steps, cfg)
        return self._decode(samples)

    def watched(self, look: Callable[[Session, int], None]) -> "Pipeline":
        """The same, and before each forward of a run of `generate`, `look` is shown the run's session and the bytes
        that the host was asked to keep free for its bank."""
        from comfy.patcher_extension import WrappersMP

        from kvshare_core.host import KEY
        from kvshare_core.host.patch import RESERVE_KEY

        def show(executor: Any, *args: Any, **kwargs: Any) -> Any:
            options = args[5]
            look(options[KEY], options[RESERVE_KEY])
            return executor(*args, **kwargs)

        model = self.model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "bench", show)
        return Pipeline(self.host, model, self.clip, self.vae)

    def _sample(
        self,
        model: Any,
        latent: torch.Tensor,
        seeds: Sequence[int],
        positive: Any,
        negative: Any,
        steps: int,
        cfg: float,
    ) -> torch.Tensor:
        import comfy.sample

        noise = torch.cat([comfy.sample.prepare_noise(latent[:1], seed) for seed in seeds])
        return comfy.sample.sample(
            model,
            noise,
            steps,
            cfg,
            SAMPLER,
            SCHEDULER,
            positive,
            negative,
            latent,
            disable_pbar=True,
            seed=seeds[0],
        )

    def _decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Latents to videos [n, f, 3, h, w] in 0..1."""
        return self.vae.decode(samples).float().cpu().movedim(-1, 2)


def load_pipeline() -> Pipeline:
    """Starts the host in this process and loads the embedded model. Call it before anything imports `comfy`."""
    host = find_host()
    enter_host(host)
    from kvshare_core.host.loading import EMBEDDED, load_video_model

    return Pipeline(host, *load_video_model(EMBEDDED, EMBEDDED, EMBEDDED, "default"))


def _masks(record: Any, frames: torch.Tensor) -> torch.Tensor | None:
    from kvshare_core.preview import pictures_of

    recorded = record.latest()
    return None if recorded is None else pictures_of(recorded, len(frames), *frames.shape[-2:])[1]
