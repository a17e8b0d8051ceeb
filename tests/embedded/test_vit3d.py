"""ViT3D: the note's constructor, torchvision's backbone, the file, and the host's samplers."""

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nodes import CLIPTextEncode, KSampler, VAEDecode, VAEEncode  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file
from torchvision.models import VisionTransformer

from kvshare_core.embedded.vit3d import IMAGE_MEAN, IMAGE_STD, BackboneShape, ViT3D, backbone_names
from kvshare_core.embedded.vit3d_file import KEY, ViT3DFile, ViT3DShape, read_vit3d, save_vit3d
from kvshare_core.embedded.vit3d_model import load_vit3d, load_vit3d_clip, pixel_vae
from kvshare_core.embedded.vocabulary import PAD, UNKNOWN

TINY = ViT3DShape(
    frames=3,
    height=16,
    width=16,
    time_dim=8,
    text_dim=160,
    embed_dim=16,
    num_temporal_heads=2,
    backbone=BackboneShape(image_size=16, patch_size=8, layers=4, heads=2, mlp_dim=24),
    patch_features=True,
    mixing_every=2,
)
WORDS = (PAD, UNKNOWN, "fox", "runs")


def tiny(shape: ViT3DShape = TINY, seed: int = 0) -> ViT3D:
    torch.manual_seed(seed)
    model = shape.model()
    model.reset_parameters()
    return model.eval()


def tiny_file(path: Path, model: ViT3D, shape: ViT3DShape = TINY) -> Path:
    torch.manual_seed(1)
    save_vit3d(model, torch.randn(len(WORDS), 128), ViT3DFile(shape, WORDS, 3.0, {"steps": 1}), path)
    return path


def noise(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_constructor_is_the_note_s() -> None:
    named = {
        name: parameter.default
        for name, parameter in inspect.signature(ViT3D).parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    assert named == {
        "in_channels": 3,
        "out_channels": 3,
        "frames": 28,
        "height": 128,
        "width": 128,
        "time_dim": 128,
        "text_dim": None,
        "embed_dim": 768,
        "freeze_backbone": False,
        "num_temporal_heads": 8,
    }
    assert ViT3DShape() == ViT3DShape(**{name: value for name, value in named.items() if name != "freeze_backbone"})


def test_the_default_backbone_has_the_weights_of_vit_b_16() -> None:
    with torch.device("meta"):
        model = ViT3D()
        theirs = VisionTransformer(224, 16, 12, 12, 768, 3072)
    own = {name: tensor.shape for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    assert own == {name: tensor.shape for name, tensor in backbone_names(theirs.state_dict()).items()}


def test_the_backbone_computes_what_torchvision_s_does() -> None:
    theirs = VisionTransformer(image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=20)
    model = ViT3D(embed_dim=12, num_temporal_heads=2, backbone=BackboneShape(16, 8, 2, 2, 20))
    missing = model.load_state_dict(backbone_names(theirs.state_dict()), strict=False)
    assert not missing.unexpected_keys and not any(name.startswith("backbone.") for name in missing.missing_keys)
    frames = noise(2, 3, 16, 16)
    tokens = model.backbone.tokens(frames)
    for layer in model.backbone.encoder.layers:
        tokens = layer(tokens, {})
    with torch.no_grad():
        patches = theirs._process_input(((frames + 1) / 2 - IMAGE_MEAN) / IMAGE_STD)
        expected = theirs.eval().encoder(torch.cat([theirs.class_token.expand(2, -1, -1), patches], 1))
    torch.testing.assert_close(model.backbone.encoder.ln(tokens), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("patch_features", [False, True])
@pytest.mark.parametrize("mixing_every", [0, 1])
def test_any_number_and_size_of_frames_goes_through(patch_features: bool, mixing_every: int) -> None:
    model = tiny(replace(TINY, patch_features=patch_features, mixing_every=mixing_every))
    text = noise(2, 5, 160)
    for size in ((3, 16, 16), (5, 16, 16), (2, 24, 40)):
        assert model(noise(2, 3, *size), torch.tensor([500.0, 20.0]), text).shape == (2, 3, *size)


@pytest.mark.parametrize("patch_features", [False, True])
def test_frames_and_text_reach_every_frame_and_batches_stay_apart(patch_features: bool) -> None:
    model = tiny(replace(TINY, patch_features=patch_features))
    video, text, time = noise(2, 3, 3, 16, 16), noise(2, 4, 160, seed=6), torch.tensor([700.0, 300.0])
    plain = model(video, time, text)
    torch.testing.assert_close(model(video[1:], time[1:], text[1:])[0], plain[1], rtol=1e-4, atol=1e-5)
    other_frame, other_text = video.clone(), text.clone()
    other_frame[0, :, 2] += 1
    other_text[0, 3] += 1
    for changed in (model(other_frame, time, text), model(video, time, other_text), model(video, time + 50, text)):
        assert ((changed - plain)[0].abs().amax(dim=(0, 2, 3)) > 1e-6).all()
    for changed in (model(other_frame, time, text), model(video, time, other_text)):
        torch.testing.assert_close(changed[1], plain[1], rtol=1e-4, atol=1e-5)


def test_its_output_is_the_velocity_to_the_clean_video_that_it_predicts() -> None:
    model, video, text = tiny(), noise(1, 3, 3, 16, 16), noise(1, 2, 160)
    timestep = torch.tensor([400.0])
    velocity, clean = model(video, timestep, text), model.clean(video, timestep, text, {})
    torch.testing.assert_close(video - 0.4 * velocity, clean, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(model(video, torch.tensor([0.0]), text)).all()


def test_a_frozen_backbone_learns_nothing() -> None:
    model = ViT3D(embed_dim=12, freeze_backbone=True, num_temporal_heads=2, backbone=BackboneShape(16, 8, 2, 2, 20))
    learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"time_embedding", "mixers", "projection", "conv"}


@pytest.mark.parametrize(
    "wrong",
    [{"time_dim": 7}, {"embed_dim": 15}, {"num_temporal_heads": 3}, {"mixing_every": 3}],
)
def test_sizes_that_do_not_go_together_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must|does not divide"):
        replace(TINY, **wrong).model()


def test_frames_that_patches_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of patch_size"):
        BackboneShape(image_size=20, patch_size=8)


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "tiny.safetensors", tiny())
    assert read_vit3d(path) == ViT3DFile(TINY, WORDS, 3.0, {"steps": 1})
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, other)
    assert read_vit3d(other) is None and read_vit3d(tmp_path / "none.safetensors") is None
    with pytest.raises(ValueError, match="no ViT3D file"):
        load_vit3d(other)


@pytest.mark.parametrize("size", [100_000, -1, 1.5, "big", True])
def test_sizes_in_a_file_are_checked(tmp_path: Path, size: Any) -> None:
    document = {"shape": {"embed_dim": size, "backbone": {}}, "words": [], "shift": 1.0}
    path = tmp_path / "wrong.safetensors"
    save_file({"weight": torch.zeros(1)}, path, {KEY: json.dumps(document)})
    if size is True:
        assert read_vit3d(path) is not None
        return
    with pytest.raises(ValueError, match="sizes are whole numbers"):
        read_vit3d(path)


# On the host.


def test_the_host_s_class_computes_the_same(tmp_path: Path) -> None:
    twin = tiny().half().float()
    loaded = load_vit3d(tiny_file(tmp_path / "tiny.safetensors", twin), {"dtype": torch.float32})
    model = loaded.model.diffusion_model
    video, text, timestep = noise(2, 3, 3, 16, 16), noise(2, 4, 160), torch.tensor([900.0, 100.0])
    with torch.no_grad():
        torch.testing.assert_close(
            model(video, timestep, context=text, transformer_options={}),
            twin(video, timestep, text),
            rtol=1e-4,
            atol=1e-4,
        )


def test_the_stock_sampler_ends_at_the_video_that_the_model_predicts(tmp_path: Path) -> None:
    """A model that takes everything for one colour."""
    model = tiny()
    torch.nn.init.zeros_(model.conv.weight)
    model.conv.bias.data = torch.tensor([0.5, -0.25, 0.0])
    path = tiny_file(tmp_path / "tiny.safetensors", model)
    patcher, clip = load_vit3d(path), load_vit3d_clip(path)
    prompts = [CLIPTextEncode().encode(clip, text)[0] for text in ("fox runs", "")]
    start = {"samples": torch.zeros(1, 3, 3, 16, 16)}
    latent = KSampler().sample(patcher, 1, 3, 2.0, "euler", "simple", *prompts, start)[0]
    (pictures,) = VAEDecode().decode(pixel_vae(), latent)
    expected = torch.tensor([0.75, 0.375, 0.5]).expand(3, 16, 16, 3)
    torch.testing.assert_close(pictures, expected, rtol=1e-2, atol=1e-2)
    again = VAEEncode().encode(pixel_vae(), pictures)[0]["samples"]
    torch.testing.assert_close(again, latent["samples"], rtol=0, atol=1e-5)


def test_its_clip_has_the_words_of_the_file(tmp_path: Path) -> None:
    path = tiny_file(tmp_path / "tiny.safetensors", tiny())
    clip = load_vit3d_clip(path)
    (chunk,) = clip.tokenize("fox flies")["words"]
    assert [token[0] for token in chunk[:3]] == [2, 1, 0] and len(chunk) == 16
    text = CLIPTextEncode().encode(clip, "fox")[0][0][0]
    torch.manual_seed(1)
    table = torch.randn(len(WORDS), 128).half().float()
    assert text.shape == (1, 16, 160)
    torch.testing.assert_close(text[0, 0, :128].float(), table[2])
    assert clip.tokenizer.untokenize([(3, 1.0)]) == [((3, 1.0), "runs")]
