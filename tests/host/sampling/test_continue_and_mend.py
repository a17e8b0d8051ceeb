"""Videos of the embedded model, continued, repaired and looped under the host's own sampler."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.detector import detect
from kvshare_core.embedded.scenes import FPS, FRAME_SIDE, render, sample_scenes
from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
from kvshare_core.host.loading.loading import EMBEDDED, load_video_model
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.script.film import Duration, Script, ScriptBeat
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.node_calls import run_node
from tests.support.segment_counts import counting_segments
from tests.tiny.models import Sampling

STEPS, GUIDANCE = 6, 4.0
CONFIG = KVShareConfig(start_layer=3)
RIGHT, LEFT = "a large red circle moves right over grass", "a large red circle moves left over grass"


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any, Any]:
    """The embedded model, its text encoder and its VAE."""
    return load_video_model(EMBEDDED, EMBEDDED, EMBEDDED, "default")


class Film:
    """A timeline of the embedded model with what its nodes give for it."""

    def __init__(self, loaded: tuple[Any, Any, Any], *prompts: str, loop: bool = False, side: int = FRAME_SIDE):
        self.model, clip, self.vae = loaded
        _, info = model_info(self.model)
        beats = tuple(ScriptBeat(prompt, Duration(5, "latent frames")) for prompt in prompts)
        planned = plan_timeline(Script(beats, loop=loop), info.native_frames, 1, FPS, info.compression[0])
        self.timeline: Timeline
        self.timeline, self.positive, self.negative = encode_timeline(clip, planned, "")
        self.latent = {"samples": empty_latent(info, self.timeline, side, side, 1)}

    def sample(
        self, latent: dict[str, Any] | None = None, seed: int = 0, config: KVShareConfig = CONFIG
    ) -> tuple[torch.Tensor, Counter[int]]:
        """The sampled latent, and how many rows each segment was evaluated with."""
        latent, forwards = latent or self.latent, Counter[int]()
        model, _ = run_node(
            "MaskGuidedKVShare",
            model=counting_segments(self.model, forwards),
            timeline=self.timeline,
            subject="circle",
            config=config,
        )
        samples = latent["samples"]
        noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(seed))
        mask = {"noise_mask": latent["noise_mask"]} if "noise_mask" in latent else {}
        sampled = Sampling(STEPS, GUIDANCE).run(
            model, self.positive, self.negative, tuple(samples.shape), noise=noise, latent=samples, **mask
        )
        return sampled, forwards

    def pictures(self, samples: torch.Tensor, beat: int) -> torch.Tensor:
        """The pictures of a beat [f, 3, h, w], decoded with the frame in front of it."""
        own = self.timeline.beats[beat]
        with torch.inference_mode():
            return self.vae.decode(samples[:, :, own.start - 1 : own.stop])[0, 1:].movedim(-1, 1)


@pytest.fixture(scope="module")
def finished(loaded: tuple[Any, Any, Any]) -> torch.Tensor:
    """A video of three prompts."""
    return Film(loaded, RIGHT, LEFT, RIGHT).sample()[0]


def test_a_beat_that_is_made_again_follows_its_new_prompt_and_leaves_the_others_alone(
    loaded: tuple[Any, Any, Any], finished: torch.Tensor
) -> None:
    film = Film(loaded, RIGHT, "a large blue circle moves left over sand", RIGHT)
    (latent,) = run_node("LongVideoRedoBeat", timeline=film.timeline, latent={"samples": finished}, beat=2)
    samples, forwards = film.sample(latent, seed=4, config=replace(CONFIG, mode="off"))
    # It fades in over the last frame of the first prompt and out over its own last.
    free = list(range(4, 10))
    held = [frame for frame in range(15) if frame not in free]
    assert torch.equal(samples[:, :, held], finished[:, :, held])
    before, after = (detect(film.pictures(video, 1)) for video in (finished, samples))
    assert (before.colour, before.background) == ("red", "grass")
    assert (after.colour, after.background) == ("blue", "sand")
    needed = {
        segment.index
        for segment in film.timeline.segments
        if set(range(segment.shown_start, segment.shown_stop)) & set(free)
    }
    assert set(forwards) == needed
    assert len(needed) < len(film.timeline.segments)


@pytest.mark.parametrize("hold", ["start", "end"])
def test_a_real_video_is_continued_and_led_into(loaded: tuple[Any, Any, Any], hold: str) -> None:
    film = Film(loaded, "a circle moves right", "a circle moves left")
    scenes = sample_scenes(1, torch.Generator().manual_seed(2))
    first, last = film.timeline.picture_range(*((0, 4) if hold == "start" else (6, 10)))
    video = render(scenes, frames=last - first)[0][0].movedim(1, -1)
    (latent,) = run_node(
        "LongVideoContinue",
        timeline=film.timeline,
        latent=film.latent,
        hold=hold,
        beat=1,
        soft_frames=0,
        images=video,
        vae=film.vae,
    )
    frames = slice(0, 4) if hold == "start" else slice(6, 10)
    shared, _ = film.sample(latent)
    alone, _ = film.sample(latent, config=replace(CONFIG, mode="off"))
    for samples in (shared, alone):
        assert torch.equal(samples[:, :, frames], latent["samples"][:, :, frames])
    # Its keys are seen in what is new.
    new = slice(6, 10) if hold == "start" else slice(0, 4)
    assert (shared[:, :, new] - alone[:, :, new]).abs().max() > 0.05


def test_pictures_in_the_middle_of_a_video_are_encoded_as_what_they_stand_for(loaded: tuple[Any, Any, Any]) -> None:
    film = Film(loaded, RIGHT, LEFT, side=48)
    scenes = sample_scenes(1, torch.Generator().manual_seed(3))
    video = render(scenes, 48, film.timeline.frames)[0][0].movedim(1, -1)
    start, stop = film.timeline.picture_range(6, 10)
    errors: list[float] = []
    with torch.inference_mode():
        whole = film.vae.encode(video)
        (latent,) = run_node(
            "LongVideoContinue",
            timeline=film.timeline,
            latent={"samples": whole},
            hold="end",
            beat=1,
            soft_frames=0,
            images=video[start:stop],
            vae=film.vae,
        )
        for samples in (whole, latent["samples"]):
            errors.append(float((film.vae.decode(samples)[0, start:stop] - video[start:stop]).abs().mean()))
    assert errors[1] < 1.5 * errors[0]


def test_a_loop_closes_as_smoothly_as_it_runs(loaded: tuple[Any, Any, Any]) -> None:
    film = Film(loaded, RIGHT, LEFT, loop=True)
    samples, _ = film.sample()
    pictures = run_node(
        "LongVideoDecodeLoop",
        samples={"samples": samples},
        vae=film.vae,
        tile_size=0,
        overlap=64,
        temporal_size=64,
        temporal_overlap=8,
    )[0]
    assert pictures.shape == (film.timeline.frames, FRAME_SIDE, FRAME_SIDE, 3)
    changes = (pictures - pictures.roll(1, 0)).abs().mean((1, 2, 3))
    assert changes[0] < 2 * changes[1:].median()
    assert changes[0] <= changes[1:].max()
    latent_changes = (samples - samples.roll(1, 2)).abs().mean((0, 1, 3, 4))
    assert latent_changes[0] <= latent_changes[1:].max()
    with torch.inference_mode():
        cut = film.vae.decode(samples)[0]
    assert changes[0] < (cut[0] - cut[-1]).abs().mean()


def test_a_loop_is_decoded_in_tiles_too(loaded: tuple[Any, Any, Any]) -> None:
    film = Film(loaded, RIGHT, loop=True, side=48)
    video = render(sample_scenes(1, torch.Generator().manual_seed(3)), 48)[0][0].movedim(1, -1)
    with torch.inference_mode():
        samples = {"samples": film.vae.encode(video)}
    settings = {"samples": samples, "vae": film.vae, "overlap": 8, "temporal_size": 16, "temporal_overlap": 8}
    whole, tiled = (run_node("LongVideoDecodeLoop", tile_size=size, **settings)[0] for size in (0, 32))
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.02
