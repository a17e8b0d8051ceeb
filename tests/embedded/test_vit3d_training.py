"""Training a ViT3D: from scenes, from a user's clips, resumed, and its file."""

from dataclasses import asdict, replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import VisionTransformer

from kvshare_core.embedded.training import __main__ as command
from kvshare_core.embedded.training.clip_folder import caption_of, read_clips, vocabulary_of
from kvshare_core.embedded.training.vit3d import (
    ClipMaterial,
    SceneMaterial,
    ViT3DRecipe,
    ViT3DTrainee,
    make_optimizers,
    read_backbone,
    recipe_for_clips,
    save_trained,
    train_vit3d,
)
from kvshare_core.embedded.vit3d_file import read_vit3d
from kvshare_core.embedded.vit3d_model import load_vit3d
from kvshare_core.embedded.vocabulary import PAD, PAIR_WORDS, UNKNOWN
from tests.tiny.vit3d import TINY

RECIPE = ViT3DRecipe(steps=6, batch=4, pool_scenes=96, first_scenes=64, shape=TINY, warmup_steps=2)
CPU = torch.device("cpu")


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling would take longer than the few steps."""
    monkeypatch.setattr(torch, "compile", lambda model, **_options: model)  # pyright: ignore[reportUnknownLambdaType]


def colours(count: int, height: int, width: int, first: int = 0) -> np.ndarray:
    """Frames each of one grey, brighter by 20 from one to the next."""
    shades = (np.arange(count) * 20 + first).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (count, height, width, 3)).copy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clips = tmp_path / "clips"
    clips.mkdir()
    imageio.imwrite(clips / "red_fox-01.mp4", colours(6, 32, 48), plugin="pyav", codec="libx264", fps=8)
    imageio.imwrite(clips / "jump.gif", colours(5, 20, 16, 10), plugin="pillow", duration=100)
    (clips / "jump.txt").write_text("A fox jumps.", encoding="utf-8")
    (clips / "walk").mkdir()
    for number, frame in enumerate(colours(4, 16, 16)):
        imageio.imwrite(clips / "walk" / f"{number:03}.png", frame)
    imageio.imwrite(clips / "short.webp", colours(2, 16, 16), plugin="pillow", duration=100, lossless=True)
    (clips / "notes.md").write_text("not a clip", encoding="utf-8")
    return clips


def test_a_folder_s_videos_animations_and_pictures_are_clips(folder: Path) -> None:
    jump, fox, walk = read_clips(folder, 16, 4)
    assert [len(clip.frames) for clip in (fox, jump, walk)] == [6, 5, 4]
    assert [clip.words for clip in (fox, jump, walk)] == [("red", "fox"), ("a", "fox", "jumps"), ("walk",)]
    assert vocabulary_of([fox, jump, walk]) == (PAD, UNKNOWN, "a", "fox", "jumps", "red", "walk")
    assert torch.equal(walk.frames[:, 0, 3, 3].int(), torch.arange(4).int() * 20)
    assert fox.frames.shape == (6, 3, 16, 16)
    for clip, first in ((fox, 0), (jump, 10)):
        shades = torch.arange(len(clip.frames)) * 20 + first
        assert (clip.frames.float().mean(dim=(1, 2, 3)) - shades).abs().max() < 6


def test_the_middle_square_of_a_frame_is_taken(tmp_path: Path) -> None:
    (tmp_path / "clips" / "one").mkdir(parents=True)
    frame = np.zeros((8, 16, 3), np.uint8)
    frame[:, 4:12] = 200
    imageio.imwrite(tmp_path / "clips" / "one" / "0.png", frame)
    (clip,) = read_clips(tmp_path / "clips", 8, 1)
    assert (clip.frames == 200).all()


def test_captions_come_from_a_text_file_or_from_the_name(tmp_path: Path) -> None:
    assert caption_of(tmp_path / "A blue-fox_002.mp4") == ("a", "blue", "fox")
    (tmp_path / "7.txt").write_text("one dog", encoding="utf-8")
    (tmp_path / "7").mkdir()
    assert caption_of(tmp_path / "7") == ("one", "dog")


def test_folders_without_clips_and_broken_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        read_clips(tmp_path / "none", 16, 4)
    with pytest.raises(ValueError, match=r"no clip of 30 frames; its clips are too short: jump.gif \(5\)"):
        read_clips(folder, 16, 30)
    (folder / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.mp4 cannot be read"):
        read_clips(folder, 16, 4)


def test_scenes_have_captions_and_are_renewed() -> None:
    material = SceneMaterial(RECIPE, 0)
    first = material.videos[:4].clone()
    for _ in range(12):
        video, ids = material.draw(4)
    assert video.shape == (4, 3, 3, 16, 16) and -1 <= video.min() < -0.2 < video.max() <= 1
    assert ids.shape == (4, 16) and 0 <= ids.min() and ids.max() < len(PAIR_WORDS) == len(material.words)
    assert len(material.said) == 96 and not torch.equal(material.videos[:4], first)


def test_own_clips_are_drawn_as_stretches_with_their_words(folder: Path) -> None:
    material = ClipMaterial(read_clips(folder, 16, 4), replace(RECIPE, shape=replace(TINY, frames=4)), 0)
    video, ids = material.draw(64)
    brightness = (video.mean(dim=(1, 3, 4)) + 1) * 127.5
    assert ((brightness[:, 1:] - brightness[:, :-1] - 20).abs() < 8).all()
    said = {tuple(material.words[number] for number in row.tolist() if number) for row in ids}
    assert {("walk",), ("red", "fox"), ("a", "fox", "jumps"), ()} == said


def test_training_lowers_the_loss_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    losses: list[float] = []

    def report(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        if len(losses) == 150:
            raise StoppedError

    recipe = replace(RECIPE, steps=200, learning_rate=3e-3)
    with pytest.raises(StoppedError):
        train_vit3d(recipe, SceneMaterial(recipe, 0), tmp_path / "run.pt", CPU, report)
    train_vit3d(recipe, SceneMaterial(recipe, 0), tmp_path / "run.pt", CPU, report)
    # A checkpoint every hundred steps.
    assert len(losses) == 150 + 100
    assert losses[-1] < 0.7 * losses[0]


def test_every_matrix_of_a_block_has_muon_and_nothing_is_left_out() -> None:
    model = ViT3DTrainee(RECIPE, 5)
    groups = [group["params"] for optimizer in make_optimizers(model, 1e-3) for group in optimizer.param_groups]
    assert sum(len(group) for group in groups) == len(list(model.parameters()))
    assert all(parameter.ndim == 2 for parameter in groups[0]) and len(groups[0]) > 10


def test_a_trained_file_has_its_recipe_and_loads_into_the_host(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainee = ViT3DTrainee(RECIPE, len(PAIR_WORDS)).eval()
    save_trained(trainee, RECIPE, PAIR_WORDS, tmp_path / "out" / "vit3d.safetensors")
    content = read_vit3d(tmp_path / "out" / "vit3d.safetensors")
    assert content is not None and content.words == PAIR_WORDS and content.recipe == asdict(RECIPE)
    host = load_vit3d(tmp_path / "out" / "vit3d.safetensors", {"dtype": torch.float32}).model.diffusion_model
    video, ids, sigma = torch.randn(1, 3, 3, 16, 16), torch.randint(2, 20, (1, 16)), torch.tensor([0.5])
    with torch.no_grad():
        velocity = host(video, sigma * 1000, context=trainee.text(ids), transformer_options={})
        torch.testing.assert_close(video - 0.5 * velocity, trainee(video, sigma, ids), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_backbone_is_torchvision_s_own_file(tmp_path: Path, suffix: str) -> None:
    shape = TINY.backbone
    theirs = VisionTransformer(
        image_size=16, patch_size=4, num_layers=shape.layers, num_heads=2, hidden_dim=16, mlp_dim=shape.mlp_dim
    ).state_dict()
    file = tmp_path / f"vit{suffix}"
    save_file(theirs, file) if suffix == ".safetensors" else torch.save(theirs, file)
    model = ViT3DTrainee(RECIPE, 5)
    assert not model.model.load_state_dict(read_backbone(file), strict=False).unexpected_keys
    assert torch.equal(model.model.backbone.conv_proj.weight, theirs["conv_proj.weight"])
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no vision transformer of torchvision"):
        read_backbone(tmp_path / "other.pth")


def test_the_recipe_for_clips_is_of_their_size_or_of_the_backbone(tmp_path: Path) -> None:
    small = recipe_for_clips(64, 12, None, 10)
    assert (small.steps, small.shape.frames, small.shape.height, small.shape.backbone.grid) == (10, 12, 64, 8)
    large = recipe_for_clips(128, 28, tmp_path / "vit_b_16.pth", None).shape
    assert (large.embed_dim, large.backbone.layers, large.backbone.image_size) == (768, 12, 224)


def test_one_command_trains_a_model_of_own_clips(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["vit3d", "--clips", str(folder), "--side", "16", "--work", str(tmp_path / "work"), "--device", "cpu"]
    command.main([*common, "--frames", "4", "--steps", "2"])
    file = tmp_path / "work" / "vit3d_clips.safetensors"
    assert str(file) in capsys.readouterr().out
    content = read_vit3d(file)
    assert content is not None and content.shape.frames == 4 and "jumps" in content.words
    assert file.with_suffix(".json").is_file()
    with pytest.raises(SystemExit, match="--clips: "):
        command.main([*common, "--frames", "99", "--steps", "2"])
    with pytest.raises(SystemExit):
        command.parse(["joint", "--clips", str(folder)])
