"""One tiny model of every family and layout, made by the host's own classes, with what it needs to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from kvshare_core.embedded.text import TEXT_WIDTH
from kvshare_core.families.minimax_h3 import CYCLE
from kvshare_core.host import BEAT_TAG
from kvshare_core.timeline.frame_cycle import FrameCycle
from kvshare_core.timeline.timeline import Timeline
from tests.support.windows import image_conditioning, tiny_timeline
from tests.tiny import cogvideox as tiny_cogvideox
from tests.tiny import hunyuan as tiny_hunyuan
from tests.tiny import ltx2 as tiny_ltx2
from tests.tiny import minimax_h3 as tiny_h3
from tests.tiny import mochi as tiny_mochi
from tests.tiny import unets as tiny_unets
from tests.tiny.cross_attention import (
    COSMOS_TEXT_WIDTH,
    LTXV_CHANNELS,
    PREDICT2_TEXT_WIDTH,
    masked_text,
    pooled_text,
    tiny_cosmos,
    tiny_kandinsky5,
    tiny_ltxv,
    tiny_predict2,
)
from tests.tiny.models import Sampling, joint_text, random_text, tiny_wan
from tests.tiny.models import tiny_hunyuan as tiny_hunyuan_video
from tests.tiny.vit3d import TINY, tiny_vit3d
from tests.tiny.wan_variants import BUILDERS, lacks

Conditioning = list[list[Any]]


class HostLacksFamilyError(Exception):
    """The host under test has no such family; the message says what is missing."""


@dataclass(frozen=True)
class FamilyCase:
    """A tiny MODEL of one layout and its conditioning.

    build: makes the MODEL, or raises HostLacksFamilyError. text(seed, tokens): an embedding and the rest of its
    conditioning, as the family's text encoder gives them. per_video(timeline): conditioning over all latent frames,
    such as an image to start from. latent: channels, height and width. negative_too: whether the negative conditioning
    gets `per_video` as well. batches: numbers of latents at once that the stock host can run. run: samples a latent of
    that shape and whatever else the model makes; returns a tensor that has the latent's frames as its third dimension.
    window, overlap: latent frames of a segment and of what two share. frame_cycle: as the family states it.
    """

    name: str
    family: str
    build: Callable[[], Any]
    text: Callable[[int, int], tuple[torch.Tensor, dict[str, Any]]]
    latent: tuple[int, int, int] = (16, 6, 6)
    per_video: Callable[[Timeline], Mapping[str, Any]] = lambda timeline: {}
    negative_too: bool = True
    batches: tuple[int, ...] = (1, 2)
    run: Callable[..., torch.Tensor] = Sampling.run
    window: int = 3
    overlap: int = 1
    frame_cycle: FrameCycle | None = None

    @property
    def apart(self) -> bool:
        """Whether segments that follow at a cut share no latent frame."""
        return self.frame_cycle is None

    def timeline(self, beats: int, cut: bool = False) -> Timeline:
        """A timeline of so many beats of one segment each, which overlap or follow each other at cuts."""
        return tiny_timeline(beats, self.window, 0 if cut else self.overlap, self.frame_cycle)

    def shape(self, timeline: Timeline, batch: int = 1) -> tuple[int, ...]:
        """Shape of the timeline's latent."""
        channels, height, width = self.latent
        return (batch, channels, timeline.latent_frames, height, width)

    def positive(self, timeline: Timeline, tokens: int = 6) -> Conditioning:
        """A seeded text of its own for every beat, tagged."""
        entries: Conditioning = []
        for number in range(len(timeline.beats)):
            tensor, extra = self.text(10 + number, tokens)
            entries.append([tensor, {**extra, **self.per_video(timeline), BEAT_TAG: number}])
        return entries

    def negative(self, timeline: Timeline, tokens: int = 6) -> Conditioning:
        """A seeded text for the whole video."""
        tensor, extra = self.text(99, tokens)
        return [[tensor, {**extra, **(self.per_video(timeline) if self.negative_too else {})}]]


def plain_text(width: int) -> Callable[[int, int], tuple[torch.Tensor, dict[str, Any]]]:
    """Texts of models that need the embedding alone."""

    def text(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
        return torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(seed)), {}

    return text


def where_known(build: Callable[[], Any]) -> Callable[[], Any]:
    """`build` for a family that came with a module of its own, which older hosts lack."""

    def guarded() -> Any:
        try:
            return build()
        except ModuleNotFoundError as missing:
            raise HostLacksFamilyError(f"this host has no {missing.name}") from missing

    return guarded


def hunyuan_cases() -> list[FamilyCase]:
    """The other layouts of HunyuanVideo's class; the three ways to begin with a picture are the host's own.

    Two of them fail on stock hosts as soon as a forward has several latents: positions of the reference are written
    into a tensor that repeats one row, and the modulation of a given start is not laid out over a batch. One latent
    works, because the host's node gives both to the positive conditioning only.
    """

    def older(name: str, per_video: Callable[[Timeline], Mapping[str, Any]], **options: Any) -> FamilyCase:
        channels = options.pop("channels", tiny_hunyuan.CHANNELS)
        build = partial(tiny_hunyuan.tiny_hunyuan_layout, channels)
        return FamilyCase(name, "hunyuan", build, joint_text, per_video=per_video, **options)

    def newer(name: str, channels: int = 65, **options: Any) -> FamilyCase:
        build = partial(tiny_hunyuan.tiny_hunyuan_layout, channels, newer=True)
        text, latent = tiny_hunyuan.text_with_signs, (tiny_hunyuan.CHANNELS_1_5, 3, 3)
        return FamilyCase(name, "hunyuan", build, text, latent, **options)

    one_by_one: dict[str, Any] = {"negative_too": False, "batches": (1,)}
    return [
        older("hunyuan video i2v", tiny_hunyuan.start_image, channels=33),
        older("hunyuan video i2v replacing", lambda timeline: {"guiding_frame_index": 0}, **one_by_one),
        older("hunyuan video i2v reference", tiny_hunyuan.reference_picture, **one_by_one),
        older("skyreels i2v", tiny_hunyuan.start_image, channels=32),
        newer("hunyuan video 1.5"),
        newer("hunyuan video 1.5 i2v", per_video=tiny_hunyuan.start_image_seen),
        newer("hunyuan video 1.5 super resolution", 98, per_video=tiny_hunyuan.small_video),
    ]


def cogvideox_case(
    name: str, per_video: Callable[[Timeline], Mapping[str, Any]] = lambda timeline: {}, **sizes: Any
) -> FamilyCase:
    return FamilyCase(
        name,
        "cogvideox",
        where_known(lambda: tiny_cogvideox.tiny_cogvideox(**sizes)),
        plain_text(tiny_cogvideox.TEXT_WIDTH),
        per_video=per_video,
    )


def ltx2_case(name: str, version: str = "2", **options: Any) -> FamilyCase:
    def build() -> Any:
        if (missing := tiny_ltx2.lacks_version(version)) is not None:
            raise HostLacksFamilyError(missing)
        return tiny_ltx2.tiny_ltx2(version=version)

    text = tiny_ltx2.text_for_both if version == "2" else tiny_ltx2.projected_text
    return FamilyCase(name, "ltx2", where_known(build), text, (LTXV_CHANNELS, 3, 3), **options)


def h3_case(
    name: str, per_video: Callable[[Timeline], Mapping[str, Any]] = lambda timeline: {}, **options: Any
) -> FamilyCase:
    """MiniMax H3, whose host takes one latent at a time."""
    return FamilyCase(
        name,
        "minimax_h3",
        where_known(tiny_h3.tiny_minimax_h3),
        tiny_h3.tagged_text,
        (tiny_h3.CHANNELS, tiny_h3.SIDE, tiny_h3.SIDE),
        per_video,
        batches=(1,),
        run=tiny_h3.sample_with_audio,
        window=7,
        overlap=2,
        frame_cycle=CYCLE,
        **options,
    )


def unet_case(name: str, kind: str, window: int = 3, overlap: int = 1) -> FamilyCase:
    """A UNet, whose latent is a batch of pictures and so one film; a window of 1 makes stills."""
    return FamilyCase(
        name,
        "unet",
        partial(tiny_unets.tiny_unet, kind),
        partial(tiny_unets.text_of, kind),
        (tiny_unets.CHANNELS, 8, 8),
        batches=(1,),
        run=tiny_unets.sample_pictures,
        window=window,
        overlap=overlap,
    )


CASES: dict[str, FamilyCase] = {
    case.name: case
    for case in (
        FamilyCase("wan t2v", "wan", tiny_wan, lambda seed, tokens: (random_text(seed, tokens), {})),
        FamilyCase(
            "wan i2v",
            "wan",
            lambda: tiny_wan(image_to_video=True),
            lambda seed, tokens: (random_text(seed, tokens), {}),
            per_video=image_conditioning,
        ),
        FamilyCase("hunyuan video", "hunyuan", tiny_hunyuan_video, joint_text),
        *hunyuan_cases(),
        FamilyCase("mochi", "mochi", tiny_mochi.tiny_mochi, tiny_mochi.padded_text, (tiny_mochi.CHANNELS, 6, 6)),
        cogvideox_case("cogvideox"),
        cogvideox_case("cogvideox learned positions", rotary=False, heads=3),
        cogvideox_case("cogvideox i2v", tiny_cogvideox.start_image, input_channels=32),
        cogvideox_case("cogvideox inpaint", tiny_cogvideox.masked_video, input_channels=48),
        cogvideox_case("cogvideox 1.5", frame_patch=2),
        cogvideox_case(
            "cogvideox 1.5 i2v", tiny_cogvideox.start_image, frame_patch=2, input_channels=32, start_strength=True
        ),
        cogvideox_case("cogvideox 1.5 inpaint", tiny_cogvideox.masked_video, frame_patch=2, input_channels=48),
        FamilyCase("ltxv", "ltxv", tiny_ltxv, masked_text, latent=(LTXV_CHANNELS, 3, 3)),
        FamilyCase("cosmos predict2", "cosmos_predict2", tiny_predict2, plain_text(PREDICT2_TEXT_WIDTH)),
        FamilyCase("kandinsky 5", "kandinsky5", where_known(tiny_kandinsky5), pooled_text),
        FamilyCase("vit3d", "vit3d", tiny_vit3d, plain_text(TEXT_WIDTH), latent=(3, 16, 16)),
        FamilyCase(
            "vit3d global features",
            "vit3d",
            lambda: tiny_vit3d(replace(TINY, patch_features=False)),
            plain_text(TEXT_WIDTH),
            latent=(3, 16, 16),
        ),
        FamilyCase("cosmos 1", "cosmos", tiny_cosmos, plain_text(COSMOS_TEXT_WIDTH)),
        ltx2_case("ltx-2", run=tiny_ltx2.sample_both),
        ltx2_case("ltx-2 without audio"),
        ltx2_case("ltx-2.3", "2.3", run=tiny_ltx2.sample_both),
        ltx2_case("ltx-2.3 i2v", "2.3", run=tiny_ltx2.sample_from_picture),
        ltx2_case("ltx-2.5", "2.5", run=tiny_ltx2.sample_both),
        h3_case("minimax h3"),
        h3_case("minimax h3 i2v", tiny_h3.first_and_last_picture),
        h3_case("minimax h3 references", tiny_h3.references),
        unet_case("sd 1.5", "SD15"),
        unet_case("sd 1.5 stills", "SD15", window=1, overlap=0),
        unet_case("sd 2.x", "SD20"),
        unet_case("sdxl", "SDXL"),
        unet_case("sdxl stills", "SDXL", window=1, overlap=0),
    )
}


def wan_case(name: str) -> FamilyCase:
    """The case of one of the Wan layouts in tiny_wan_variants."""
    builder, per_video = BUILDERS[name]

    def build() -> Any:
        if (missing := lacks(name)) is not None:
            raise HostLacksFamilyError(missing)
        return builder()

    return FamilyCase(
        name,
        "wan",
        build,
        lambda seed, tokens: (random_text(seed, tokens), {}),
        (48 if name == "wan ti2v 5b" else 16, 6, 6),
        per_video,
    )


CASES |= {name: wan_case(name) for name in BUILDERS}


@cache
def model_of(name: str) -> Any:
    """The MODEL of a case; made once, because tests only ever patch clones. Raises HostLacksFamilyError."""
    return CASES[name].build()
