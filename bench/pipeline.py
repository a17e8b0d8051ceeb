"""Makes videos with the embedded model on the real host, in this process. The only module here that knows the host."""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F

from devtools.environment import find_host
from devtools.inprocess import enter_host
from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.files import VIT3D_FILE, WEIGHTS, weight_file
from kvshare_core.embedded.scenes import FPS, FRAME_SIDE
from kvshare_core.probe.figures import ProbeSettings
from kvshare_core.probe.watchers import ProbedCall
from kvshare_core.script.parsing import parse_script
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import FRAME_DIM, Timeline

from .evaluations import Evaluations
from .methods import Method
from .spans import own_pictures, seam_pictures

Model = Literal["cross-attention", "joint-attention", "one-stream-attention", "vit3d"]
MODELS: tuple[Model, ...] = get_args(Model)
"""The embedded models that draw without a given image, by how their video looks at the text; and the one whose frames
are rows of attention."""
BOTH_KINDS: tuple[Model, ...] = ("cross-attention", "joint-attention")
"""One model of each kind of attention, which all hosts have."""

SAMPLER, SCHEDULER = "euler", "simple"
STEPS = 20
GUIDANCE = 4.0


def models_of(host: Path) -> tuple[Model, ...]:
    """The embedded models whose layout the host in folder `host` knows."""
    known = (host / "comfy" / "ldm" / "cogvideo").is_dir()
    return tuple(model for model in MODELS if known or model != "one-stream-attention")


@dataclass(frozen=True)
class Clip:
    """One video: `frames` [f, 3, h, w] in 0..1, its plan, the seconds it took (sampling and decoding), the subject
    masks [f, h, w] that the attention found, None when it followed no subject, and the evaluations that looked for it,
    per evaluation of the film."""

    frames: torch.Tensor
    timeline: Timeline
    seconds: float
    masks: torch.Tensor | None
    search_cost: float = 0.0

    @property
    def segment_frames(self) -> tuple[tuple[int, int], ...]:
        """Pictures [first, last) that belong to each segment."""
        return own_pictures(self.timeline)

    @property
    def latents(self) -> tuple[tuple[int, int], ...]:
        """Pictures [first, last) of every latent frame."""
        frames = range(self.timeline.latent_frames)
        return tuple(self.timeline.picture_range(frame, frame + 1) for frame in frames)

    @property
    def seams(self) -> tuple[int | None, ...]:
        """Where each next segment takes over, None at cuts."""
        return seam_pictures(self.timeline)


@dataclass(frozen=True)
class Pointing:
    """A clip of one segment: its `frames` [f, 3, h, w] in 0..1, the pictures [first, last) of each of its latents, and
    by step what pointed at the subject while it was made: by block the score of its words [tokens], and the effect of
    hiding them [tokens]; by block also the attention values of its tokens [1, heads, tokens, head_dim]. The clip began
    with `given` latent frames that were not made."""

    frames: torch.Tensor
    latents: tuple[tuple[int, int], ...]
    scores: Mapping[int, Mapping[int, torch.Tensor]]
    effects: Mapping[int, torch.Tensor]
    values: Mapping[int, Mapping[int, torch.Tensor]]
    given: int = 0


@dataclass(frozen=True)
class Beginning:
    """The first latent frames of a clip, so many as `frames`, that are given. held: these frames [1, channels, frames,
    h, w], which the noise mask holds; None for a model that takes an image, which `conditioning` has, as values of the
    positive and of the negative one."""

    frames: int
    held: torch.Tensor | None = None
    conditioning: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def hold(self, latent: torch.Tensor) -> dict[str, Any]:
        """`latent` [1, channels, f, h, w] of a clip as a sampler takes it."""
        if self.held is None:
            return {"samples": latent}
        latent, mask = latent.clone(), torch.ones_like(latent[:, :1])
        latent[:, :, : self.frames], mask[:, :, : self.frames] = self.held, 0.0
        return {"samples": latent, "noise_mask": mask}


class KeepValues:
    """Keeps the values of the video's tokens of every block."""

    def __init__(self) -> None:
        self.values: dict[int, torch.Tensor] = {}

    def at(self, probed: ProbedCall) -> None:
        """Takes one call, which stays as it is."""
        if probed.context.site.kind in ("self", "joint"):
            self.values[probed.block] = probed.context.call.value[:, :, probed.context.video].clone()


class HostLacksPromptsError(Exception):
    """The host's own context windows all have the same prompt."""


class Pipeline:
    """An embedded model with its text encoder and VAE, on the host in folder `host`. side: of its frames in pixels;
    what it draws is enlarged to that of the others, which the detector was made for."""

    def __init__(self, host: Path, model: Any, clip: Any, vae: Any, side: int = FRAME_SIDE):
        self.host = host
        self.model = model
        self.clip = clip
        self.vae = vae
        self.side = side

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
        mask: torch.Tensor | None = None,
    ) -> Clip:
        """The long video of `prompts`, one beat each; the arguments are those of generate_all. mask: [pictures, h, w]
        in 0..1, what it covers is shared in place of `subject`."""
        return self.generate_all(
            [prompts], [seed], overlap=overlap, method=method, subjects=[subject], steps=steps, cfg=cfg, mask=mask
        )[0]

    @torch.inference_mode()
    def generate_all(
        self,
        films: Sequence[Sequence[str]],
        seeds: Sequence[int],
        *,
        overlap: int,
        method: Method,
        subjects: Sequence[str],
        steps: int = STEPS,
        cfg: float = GUIDANCE,
        mask: torch.Tensor | None = None,
    ) -> list[Clip]:
        """The long videos of several `films`, made together: the prompts of each, as many for all; the noise of each
        seed; and the word of each that names its subject, which must stand at the same place in all of them.

        overlap: latent frames that neighbouring segments share where the method lets them. Raises ValueError when the
        films do not fit together.
        """
        from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
        from kvshare_core.host.loading.model_info import model_info
        from kvshare_core.host.sampling.patch import apply
        from kvshare_core.plan.making import make_plan

        if method.host_windows and len(films) > 1:
            # The host's windows fail on batches whose rows have texts of their own.
            settings: dict[str, Any] = {"overlap": overlap, "method": method, "steps": steps, "cfg": cfg}
            return [
                self.generate(film, seed=seed, subject=subject, **settings)
                for film, seed, subject in zip(films, seeds, subjects, strict=True)
            ]
        _, info = model_info(self.model)
        shared_frames = overlap if method.overlaps else 0
        plans: list[Any] = []
        encoded: list[Any] = []
        for prompts, subject in zip(films, subjects, strict=True):
            script = parse_script("\n".join(prompts))
            timeline = plan_timeline(script, info.native_frames, shared_frames, FPS, info.compression[0])
            timeline = replace(timeline, noise="freenoise" if method.freenoise else "plain")
            timeline, *conditioning = encode_timeline(self.clip, timeline, "")
            plans.append(make_plan(timeline, method.config, subject if method.guided else "", mask))
            encoded.append(conditioning)
        if len({(tuple(member.tokens for member in plan.cast), plan.beat_tokens) for plan in plans}) > 1:
            raise ValueError("films made together must have their words at the same places")
        timeline = plans[0].timeline
        positive = joined([positive for positive, _ in encoded])
        negative = encoded[0][1]
        if method.host_windows:
            patched, record = host_windows(self.model, timeline), None
            positive = without_beats(positive)
        else:
            patched, record = apply(self.model, plans[0])

        evaluations = Evaluations()
        start = time.perf_counter()
        latent = empty_latent(info, timeline, self.side, self.side, len(films))
        samples = self.sample(evaluations.counted(patched), latent, seeds, positive, negative, steps, cfg)
        videos = self.decode(samples)
        seconds = (time.perf_counter() - start) / len(films)
        masks = None if record is None else _masks(record, videos)
        return [
            Clip(video, plan.timeline, seconds, None if masks is None else masks[place], evaluations.search_cost)
            for place, (video, plan) in enumerate(zip(videos, plans, strict=True))
        ]

    @torch.inference_mode()
    def single_clips(
        self, prompts: Sequence[str], seed: int, steps: int = STEPS, cfg: float = GUIDANCE
    ) -> torch.Tensor:
        """Videos [n, f, 3, h, w] of one segment each, sampled together by the unpatched model; the noise of
        place i is that of `seed` + i."""
        from kvshare_core.host.conditioning.encoding import empty_latent, encode
        from kvshare_core.host.loading.model_info import model_info

        _, info = model_info(self.model)
        timeline = plan_timeline(parse_script(prompts[0]), info.native_frames, 0, FPS, info.compression[0])
        encoded = [encode(self.clip, prompt) for prompt in prompts]
        positive = [[torch.cat([cond[0][0] for cond in encoded]), dict(encoded[0][0][1])]]
        latent = empty_latent(info, timeline, self.side, self.side, len(prompts))
        seeds = range(seed, seed + len(prompts))
        samples = self.sample(self.model, latent, seeds, positive, encode(self.clip, ""), steps, cfg)
        return self.decode(samples)

    @torch.inference_mode()
    def pointing(
        self,
        prompt: str,
        subject: str,
        seed: int,
        levels: Sequence[int],
        steps: int = STEPS,
        begin: Beginning | None = None,
    ) -> Pointing:
        """A clip of `prompt` by the unpatched model, looked at in the steps `levels`, rising."""
        import comfy.sample

        from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
        from kvshare_core.host.loading.model_info import model_info
        from kvshare_core.host.sampling.probe_run import Level, ProbeRun
        from kvshare_core.plan.making import make_plan

        family, info = model_info(self.model)
        timeline = plan_timeline(parse_script(prompt), info.native_frames, 0, FPS, info.compression[0])
        timeline, positive, negative = encode_timeline(self.clip, timeline, "")
        plan = make_plan(timeline, KVShareConfig(), subject, None)
        latent = empty_latent(info, timeline, self.side, self.side, 1)
        begin = begin or Beginning(0)
        positive, negative = (
            [[text, {**extra, **begin.conditioning}] for text, extra in entries] for entries in (positive, negative)
        )
        run = ProbeRun(self.model, family, info, plan, ProbeSettings(seed, steps, GUIDANCE, SCHEDULER))
        scores: dict[int, Mapping[int, torch.Tensor]] = {}
        effects: dict[int, torch.Tensor] = {}
        values: dict[int, Mapping[int, torch.Tensor]] = {}

        def look(level: Level) -> None:
            reading = run.read(level, level.latent)
            scores[level.step], effects[level.step] = reading.scores, reading.effect
            kept = KeepValues()
            level.evaluate(level.latent, kept)
            values[level.step] = kept.values

        noise = comfy.sample.prepare_noise(latent, seed)
        samples = run.sample(noise, positive, negative, begin.hold(latent), look, levels, steps)
        spans = tuple(timeline.picture_range(frame, frame + 1) for frame in range(timeline.latent_frames))
        return Pointing(self.decode(samples)[0], spans, scores, effects, values, begin.frames)

    def watched(self, look: Callable[[SamplingRun, int], None]) -> "Pipeline":
        """The same, and before each forward of a run of `generate`, `look` is shown the run's session and the bytes
        that the host was asked to keep free for its bank."""
        from comfy.patcher_extension import WrappersMP

        from kvshare_core.host import KEY

        def show(executor: Any, *args: Any, **kwargs: Any) -> Any:
            state = args[5][KEY]
            look(state.run, state.bank_bytes)
            return executor(*args, **kwargs)

        model = self.model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "bench", show)
        return self.with_model(model)

    def sample(
        self,
        model: Any,
        latent: torch.Tensor,
        seeds: Sequence[int],
        positive: Any,
        negative: Any,
        steps: int,
        cfg: float,
        *,
        mask: torch.Tensor | None = None,
        denoise: float = 1.0,
    ) -> torch.Tensor:
        """The host's stock sampler; the noise of each latent is that of its seed. mask: what is made, of `latent`."""
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
            denoise=denoise,
            noise_mask=mask,
            disable_pbar=True,
            seed=seeds[0],
        )

    def empty_clip(self) -> torch.Tensor:
        """The latent of one video of the length and size that the model was trained on."""
        from kvshare_core.host.conditioning.encoding import empty_latent
        from kvshare_core.host.loading.model_info import model_info

        _, info = model_info(self.model)
        timeline = plan_timeline(parse_script("clip"), info.native_frames, 0, FPS, info.compression[0])
        return empty_latent(info, timeline, self.side, self.side, 1)

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Latents to videos [n, f, 3, h, w] in 0..1, h and w FRAME_SIDE."""
        return _resized(self.vae.decode(samples).float().cpu().movedim(-1, 2), FRAME_SIDE)

    def encode(self, videos: torch.Tensor) -> torch.Tensor:
        """The latents of videos [n, f, 3, h, w] in 0..1."""
        return torch.cat([self.vae.encode(video) for video in _resized(videos, self.side).movedim(2, -1)])

    def with_model(self, model: Any) -> "Pipeline":
        """The same with another MODEL."""
        return Pipeline(self.host, model, self.clip, self.vae, self.side)


def _resized(videos: torch.Tensor, side: int) -> torch.Tensor:
    if videos.shape[-1] == side:
        return videos
    frames = F.interpolate(videos.flatten(0, 1), (side, side), mode="bilinear", antialias=True)
    return frames.unflatten(0, videos.shape[:2])


def load_pipeline(model: Model | Literal["image-to-video"] = "cross-attention") -> Pipeline:
    """Starts the host in this process and loads an embedded model. Call it before anything imports `comfy`."""
    host = find_host()
    enter_host(host)
    from kvshare_core.host.loading.loading import load_video_model
    from kvshare_core.host.loading.model_files import EMBEDDED, EMBEDDED_MODELS

    name = next(name for name, attention in EMBEDDED_MODELS.items() if attention == model)
    loaded = load_video_model(name, EMBEDDED, EMBEDDED, "default")
    return Pipeline(host, *loaded, FRAME_SIDE if model != "vit3d" else _trained_side(weight_file(WEIGHTS, VIT3D_FILE)))


def load_pixel_pipeline(file: Path) -> Pipeline:
    """The same of another ViT3D file. Raises ValueError for a file that is none."""
    host = find_host()
    enter_host(host)
    from kvshare_core.embedded.vit3d_model import load_vit3d, load_vit3d_clip, pixel_vae

    return Pipeline(host, load_vit3d(file), load_vit3d_clip(file), pixel_vae(), _trained_side(file))


def _trained_side(file: Path) -> int:
    from kvshare_core.embedded.vit3d_model import vit3d_content

    return vit3d_content(file).shape.height


def host_windows(model: Any, timeline: Timeline) -> Any:
    """`model` with the host's own context windows, each with the prompt of its part of the video. Raises
    HostLacksPromptsError on hosts whose windows take one prompt for all."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    if "split_conds_to_windows" not in inspect.signature(ContextWindowsManualNode.execute).parameters:
        raise HostLacksPromptsError("this host's context windows take no prompt of their own")
    return ContextWindowsManualNode.execute(
        model,
        context_length=timeline.window,
        context_overlap=timeline.overlap,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=FRAME_DIM,
        freenoise=False,
        split_conds_to_windows=True,
    ).args[0]


def without_beats(positive: Any) -> Any:
    """Conditioning of beats as the host's own nodes would list it."""
    from kvshare_core.host import BEAT_TAG

    return [[text, {name: value for name, value in extra.items() if name != BEAT_TAG}] for text, extra in positive]


def joined(conditionings: Sequence[Any]) -> Any:
    """Conditionings of several films, entry by entry, as one with a row for each."""
    return [
        [torch.cat([text for text, _ in entries]), _joined_extras([extra for _, extra in entries])]
        for entries in zip(*conditionings, strict=True)
    ]


def _joined_extras(extras: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = extras[0]
    return {
        name: torch.cat([extra[name] for extra in extras]) if isinstance(value, torch.Tensor) else value
        for name, value in first.items()
    }


def _masks(record: Any, videos: torch.Tensor) -> torch.Tensor | None:
    """The subject [n, f, h, w] that the attention found in videos [n, f, 3, h, w]; None where it followed none."""
    from kvshare_core.record.preview import pictures_of

    recorded = record.latest()
    if recorded is None:
        return None
    count, frames = videos.shape[:2]
    return pictures_of(recorded, count * frames, *videos.shape[-2:])[1].unflatten(0, (count, frames))
