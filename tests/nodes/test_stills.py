"""A storyboard through the nodes: planned, sampled, saved, resumed, redone and held, all as a batch of pictures."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.host.editor.live_plan import Film, Surroundings, tell
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.plan.forecast import ModelFacts
from tests.support.family_cases import model_of
from tests.support.node_calls import run_node, segmenter_inputs
from tests.tiny.encoders import tiny_encoder
from tests.tiny.models import Sampling
from tests.tiny.unets import CHANNELS, TEXT_WIDTHS
from tests.tiny.vaes import tiny_image_vae

PROMPTS = "a red fox in snow\n[2f] a red fox by the sea\na red fox on a hill"


class Storyboard:
    """What the nodes give for four pictures of three prompts."""

    def __init__(self, **changes: Any):
        self.model = model_of("sd 1.5 stills")
        clip = tiny_encoder("clip_l", hidden_size=TEXT_WIDTHS["SD15"])
        inputs = {"sampling_num_frames": 0, "overlap_size": 2, "width": 64, "height": 64, "prompts": PROMPTS, **changes}
        planned = run_node("LongVideoSegmenter", **segmenter_inputs(self.model, clip, **inputs))
        self.timeline, self.positive, self.negative, self.latent, self.info = planned

    def sample(self, latent: dict[str, Any] | None = None, seed: int = 1, **inputs: Any) -> tuple[torch.Tensor, Any]:
        """The sampled pictures and the record."""
        latent = latent or self.latent
        model, record = run_node("MaskGuidedKVShare", model=self.model, timeline=self.timeline, subject="fox", **inputs)
        samples = latent["samples"]
        noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(seed))
        mask = {"noise_mask": latent["noise_mask"]} if "noise_mask" in latent else {}
        sampled = Sampling(3).run(
            model, self.positive, self.negative, tuple(samples.shape), noise=noise, latent=samples, **mask
        )
        return sampled, record


@pytest.fixture(scope="module")
def board() -> Storyboard:
    return Storyboard()


@pytest.fixture(scope="module")
def made(board: Storyboard) -> tuple[torch.Tensor, Any]:
    return board.sample()


def test_the_segmenter_plans_pictures(board: Storyboard) -> None:
    assert board.latent["samples"].shape == (4, CHANNELS, 8, 8)
    assert [segment.beat for segment in board.timeline.segments] == [0, 1, 1, 2]
    assert "4 segments of 1 latent frames, overlap 0" in board.info


def test_the_subject_is_found_in_every_picture(made: tuple[torch.Tensor, Any]) -> None:
    pictures, record = made
    assert pictures.shape == (4, CHANNELS, 8, 8) and torch.isfinite(pictures).all()
    masks = record.latest()
    assert masks is not None and masks.mask.shape[1] == 4
    assert 0 < float(masks.mask.mean()) < 1


def test_a_saved_storyboard_is_loaded_and_resumed_as_it_was(
    board: Storyboard, made: tuple[torch.Tensor, Any], folders: Path
) -> None:
    pictures, record = made
    (name,) = run_node(
        "LongVideoSave",
        timeline=board.timeline,
        latent={"samples": pictures},
        filename_prefix="board",
        record=record,
    )
    timeline, latent, loaded = run_node("LongVideoLoad", file=name)[:3]
    assert timeline == board.timeline
    assert torch.equal(latent["samples"], pictures)
    found = loaded.latest()
    assert found is not None and torch.equal(found.mask, record.latest().mask)


def test_one_prompt_is_redone_and_the_other_pictures_stay(board: Storyboard, made: tuple[torch.Tensor, Any]) -> None:
    pictures, _ = made
    (latent,) = run_node("LongVideoRedoBeat", timeline=board.timeline, latent={"samples": pictures}, beat=2)
    assert latent["noise_mask"].shape == (4, 1, 8, 8)
    again, _ = board.sample(latent, seed=2)
    assert torch.equal(again[[0, 3]], pictures[[0, 3]])
    assert not torch.equal(again[1], pictures[1]) and not torch.equal(again[2], pictures[2])


@pytest.mark.parametrize("as_images", [False, True])
def test_a_given_picture_is_held_as_the_first(board: Storyboard, as_images: bool) -> None:
    vae = tiny_image_vae()
    images = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(4))
    given = {"images": images, "vae": vae} if as_images else {"existing": {"samples": vae.encode(images)}}
    inputs = {"hold": "start", "beat": 1, "soft_frames": 0, **given}
    (latent,) = run_node("LongVideoContinue", timeline=board.timeline, latent=board.latent, **inputs)
    assert latent["samples"].shape == (4, CHANNELS, 8, 8)
    (both,) = run_node("LongVideoContinue", timeline=board.timeline, latent=latent, **{**inputs, "hold": "end"})
    assert both["noise_mask"][:, 0, 0, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
    found, _ = board.sample(both)
    assert torch.equal(found[[0, 3]], both["samples"][[0, 3]])


def test_a_loop_of_pictures_is_decoded_by_vae_decode(made: tuple[torch.Tensor, Any]) -> None:
    sizes = {"tile_size": 0, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    with pytest.raises(ValueError, match="VAE Decode"):
        run_node("LongVideoDecodeLoop", samples={"samples": made[0]}, vae=tiny_image_vae(), **sizes)


def test_beat_images_says_that_the_model_takes_none(board: Storyboard) -> None:
    with pytest.raises(ValueError, match="does not take images as input channels"):
        run_node(
            "LongVideoBeatImages",
            model=board.model,
            vae=tiny_image_vae(),
            timeline=board.timeline,
            positive=board.positive,
            negative=board.negative,
            latent=board.latent,
            beat=1,
            start_image=torch.rand(1, 64, 64, 3),
        )


def test_windows_of_a_batch_overlap(board: Storyboard) -> None:
    windows = Storyboard(sampling_num_frames=3, overlap_size=1, prompts="a red fox runs\na red fox sleeps")
    assert windows.latent["samples"].shape == (5, CHANNELS, 8, 8)
    found, record = windows.sample(config=KVShareConfig(share_background=True))
    assert torch.isfinite(found).all() and record.latest() is not None


def test_the_editor_plans_stills_before_a_run() -> None:
    info = model_info(model_of("sd 1.5 stills"))[1]
    around = Surroundings(ModelFacts(info, 2), KVShareConfig(), "fox", steps=20)
    told = tell(Film(PROMPTS, width=512, height=512), around)
    assert told["error"] is None and told["problems"] == []
    assert [segment["sources"] for segment in told["segments"]] == [[], [0], [0], [0]]
    sharing = told["sharing"]
    assert sharing["off"] is None and sharing["block_count"] == info.blocks
    assert 0 < sharing["extra"] < sharing["most_extra"] and sharing["bytes"] > 0
