"""The training loop of the embedded model: resuming, averaging, and one short run of the real thing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from kvshare_core.embedded.files import TEXT_ENCODER_FILE, TRANSFORMER_FILE, VAE_FILE, WEIGHTS
from kvshare_core.embedded.latents import BLOCK_FRAMES, BLOCK_SIDE
from kvshare_core.embedded.layouts import without_unread_inputs
from kvshare_core.embedded.scenes import FRAME_SIDE, centres, sample_scenes
from kvshare_core.embedded.training import denoiser
from kvshare_core.embedded.training.__main__ import DENOISERS, FEW_STEPS
from kvshare_core.embedded.training.denoiser import (
    IMAGE_RECIPE,
    JOINT_RECIPE,
    ONE_STREAM_RECIPE,
    DenoiserRecipe,
    ImageScenePool,
    ScenePool,
    Shape,
    train_denoiser,
)
from kvshare_core.embedded.training.image_scenes import LATEST_TURN, approach
from kvshare_core.embedded.training.joint_transformer import JointShape
from kvshare_core.embedded.training.loop import Schedule, TrainingRun, checkpoint_loss
from kvshare_core.embedded.training.low_rank import add_low_rank, low_rank_state
from kvshare_core.embedded.training.one_stream_transformer import OneStreamShape
from kvshare_core.embedded.training.transformer import TransformerShape, token_grid
from tests.support.latent_bases import latent_basis

WEIGHTS_LIMIT, HEADERS = 24_000_000, 150_000
"""Bytes that all weights of the node pack may take, and that the names in their files do at most."""
SCHEDULE = Schedule(steps=12, learning_rate=0.1, warmup_steps=3, decay_fraction=0.5, ema_decay=0.9)


class StoppedError(Exception):
    pass


def train_line(checkpoint: Path, stop_after: int | None = None) -> TrainingRun:
    """Fits a line with a checkpoint every fourth step; stops in the middle when asked to."""
    torch.manual_seed(0)
    model, average = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    run = TrainingRun(model, average, [optimizer], SCHEDULE, checkpoint, save_every=4)
    for step in range(run.start, SCHEDULE.steps):
        if step == stop_after:
            raise StoppedError
        points = torch.randn(8, 2, generator=torch.Generator().manual_seed(step))
        run.update(step, (model(points) - points.sum(1, keepdim=True)).square().mean(), lambda *_: None)
    return run


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = train_line(tmp_path / "unbroken.pt")
    with pytest.raises(StoppedError):
        train_line(tmp_path / "broken.pt", stop_after=6)
    resumed = train_line(tmp_path / "broken.pt")
    assert resumed.start == 4
    for one, other in (resumed.model, unbroken.model), (resumed.average, unbroken.average):
        torch.testing.assert_close(one.state_dict(), other.state_dict())
    assert checkpoint_loss(tmp_path / "broken.pt") == pytest.approx(checkpoint_loss(tmp_path / "unbroken.pt"))


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    train_line(tmp_path / "line.pt")
    assert train_line(tmp_path / "line.pt").start == SCHEDULE.steps


def test_the_learning_rate_rises_holds_and_falls_to_zero() -> None:
    rates = [SCHEDULE.learning_rate_at(step) for step in range(SCHEDULE.steps + 1)]
    assert rates[:3] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])
    assert rates[3:7] == pytest.approx([0.1] * 4)
    assert rates[7:] == sorted(rates[7:], reverse=True)
    assert rates[-1] == 0


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        (DenoiserRecipe(), TransformerShape(ffn_dim=128, layers=1)),
        (IMAGE_RECIPE, IMAGE_RECIPE.shape),
        (JOINT_RECIPE, JointShape(double_blocks=1, single_blocks=1)),
        (ONE_STREAM_RECIPE, OneStreamShape(layers=1)),
    ],
    ids=["cross-attention", "image-to-video", "joint-attention", "one-stream"],
)
def test_a_short_run_of_the_denoiser_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: DenoiserRecipe, shape: Shape
) -> None:
    monkeypatch.setattr(denoiser, "fit_basis", latent_basis)
    recipe = replace(
        recipe,
        steps=12,
        batch=8,
        warmup_steps=2,
        pool_scenes=64,
        first_scenes=64,
        fresh_per_step=1,
        shape=shape,
    )
    if recipe.begins_with_text_to_video:
        first = denoiser.Denoiser(TransformerShape(), recipe.known_words)
        denoiser.save_weights(first, tmp_path / TRANSFORMER_FILE, tmp_path / TEXT_ENCODER_FILE)
        recipe = replace(recipe, learning_rate=5e-3)
    losses: list[float] = []
    with torch.compiler.set_stance("force_eager"):
        average = train_denoiser(
            recipe,
            tmp_path / "denoiser.pt",
            torch.device("cpu"),
            lambda step, steps, loss: losses.append(loss),
            tmp_path,
        )
    assert len(losses) == recipe.steps
    assert losses[-1] < losses[0]
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_the_pool_holds_scenes_of_one_and_of_two_subjects() -> None:
    recipe = replace(JOINT_RECIPE, first_scenes=256, pool_scenes=256)
    pool = ScenePool(latent_basis(), recipe, seed=0)
    assert {len(words) for words in pool.words} == {1, 2}
    assert sum(len(words) == 2 for words in pool.words) / 256 == pytest.approx(recipe.pair_fraction, abs=0.08)
    latents, condition, ids = pool.draw(8)
    assert latents.shape == (8, 16, 5, 12, 12) and ids.shape == (8, recipe.text_tokens)
    assert condition.shape == (8, 0, 5, 12, 12)
    pool.add(4)
    assert len(pool.words) == 256 and pool.oldest == 4


def test_given_frames_are_the_scenes_own_and_the_others_grey() -> None:
    basis = latent_basis()
    recipe = replace(IMAGE_RECIPE, first_scenes=64, pool_scenes=64)
    pool = ImageScenePool(basis, recipe, seed=0)
    latents, condition, _ = pool.draw(256)
    mask, image = condition[:, :BLOCK_FRAMES], condition[:, BLOCK_FRAMES:]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    given = mask.amin(1) == 1
    # What is given is the scene with some noise; what is not is grey, or zero where no image is given at all.
    error = (image - latents).square().mean(1)[given].mean()
    assert error < 0.01
    nothing = (mask == 0).all(dim=(1, 2, 3, 4))
    assert 0.03 < nothing.float().mean() < 0.2 and bool((image[nothing] == 0).all())
    grey = image.transpose(0, 1)[:, (mask.amax(1) == 0) & ~nothing.reshape(-1, 1, 1, 1)]
    torch.testing.assert_close(grey, pool.grey.reshape(-1, 1).expand_as(grey))


def test_a_scene_turns_where_the_said_one_is_at_that_time() -> None:
    generator = torch.Generator().manual_seed(0)
    scenes = sample_scenes(32, generator)
    turn = torch.randint(1, LATEST_TURN + 1, (32,), generator=generator)
    before = approach(scenes, turn, generator)
    assert bool((before.direction != scenes.direction).all())
    rows = torch.arange(32)
    torch.testing.assert_close(centres(before)[rows, turn], centres(scenes)[rows, turn])


def test_all_weights_that_the_recipes_make_fit_the_pack() -> None:
    values = 0
    for part, (recipe, _, text_file) in DENOISERS.items():
        model = denoiser.Denoiser(recipe.shape, recipe.known_words)
        stored = without_unread_inputs(model.transformer.state_dict())
        add_low_rank(model.transformer, FEW_STEPS[f"{part}-few-steps"][1].rank)
        trained = [
            *stored.values(),
            *low_rank_state(model.transformer).values(),
            *([model.text.words] if text_file else []),
        ]
        values += sum(tensor.numel() for tensor in trained)
    assert 2 * values + (WEIGHTS / VAE_FILE).stat().st_size < WEIGHTS_LIMIT - HEADERS


def test_one_model_has_four_heads_and_a_fine_grid() -> None:
    shape = ONE_STREAM_RECIPE.shape
    assert isinstance(shape, OneStreamShape)
    side = FRAME_SIDE // BLOCK_SIDE
    assert shape.heads == 4 and token_grid(torch.zeros(1, 16, 5, side, side), shape.patch) == (5, 12, 12)
