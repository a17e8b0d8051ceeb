"""One tiny model of every family and layout, made by the host's own classes, with what it needs to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from kvshare_core.host import BEAT_TAG
from kvshare_core.timeline import Timeline
from tests import tiny_cogvideox, tiny_mochi
from tests.tiny_cross import (
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
from tests.tiny_models import joint_text, random_text, tiny_hunyuan, tiny_wan
from tests.tiny_wan_variants import BUILDERS, lacks
from tests.windows import image_conditioning

Conditioning = list[list[Any]]


class HostLacksFamilyError(Exception):
    """The host under test has no such family; the message says what is missing."""


@dataclass(frozen=True)
class FamilyCase:
    """A tiny MODEL of one layout and its conditioning.

    build: makes the MODEL, or raises HostLacksFamilyError. text(seed, tokens): an embedding and the rest of its
    conditioning, as the family's text encoder gives them. per_video(timeline): conditioning over all latent frames,
    such as an image to start from. latent: channels, height and width.
    """

    name: str
    family: str
    build: Callable[[], Any]
    text: Callable[[int, int], tuple[torch.Tensor, dict[str, Any]]]
    latent: tuple[int, int, int] = (16, 6, 6)
    per_video: Callable[[Timeline], Mapping[str, Any]] = lambda timeline: {}

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
        return [[tensor, {**extra, **self.per_video(timeline)}]]


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


def cogvideox_case(name: str, image: bool = False, **sizes: Any) -> FamilyCase:
    return FamilyCase(
        name,
        "cogvideox",
        where_known(lambda: tiny_cogvideox.tiny_cogvideox(**sizes)),
        plain_text(tiny_cogvideox.TEXT_WIDTH),
        per_video=tiny_cogvideox.start_image if image else lambda timeline: {},
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
        FamilyCase("hunyuan video", "hunyuan", tiny_hunyuan, joint_text),
        FamilyCase("mochi", "mochi", tiny_mochi.tiny_mochi, tiny_mochi.padded_text, (tiny_mochi.CHANNELS, 6, 6)),
        cogvideox_case("cogvideox"),
        cogvideox_case("cogvideox learned positions", rotary=False, heads=3),
        cogvideox_case("cogvideox i2v", image=True, input_channels=32),
        cogvideox_case("cogvideox 1.5", frame_patch=2),
        cogvideox_case("cogvideox 1.5 i2v", image=True, frame_patch=2, input_channels=32),
        FamilyCase("ltxv", "ltxv", tiny_ltxv, masked_text, latent=(LTXV_CHANNELS, 3, 3)),
        FamilyCase("cosmos predict2", "cosmos_predict2", tiny_predict2, plain_text(PREDICT2_TEXT_WIDTH)),
        FamilyCase("kandinsky 5", "kandinsky5", where_known(tiny_kandinsky5), pooled_text),
        FamilyCase("cosmos 1", "cosmos", tiny_cosmos, plain_text(COSMOS_TEXT_WIDTH)),
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
