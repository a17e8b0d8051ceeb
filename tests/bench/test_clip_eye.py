"""CLIP as an eye, with the host's own classes."""

import json
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.sd1_clip
import pytest
import torch
from safetensors.torch import save_file

from bench.clip_eye import clip_eye, has_projection, load_text

WIDTH = 768


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text half of CLIP-L with random weights, as its files are named."""
    torch.manual_seed(0)
    with torch.no_grad():
        model = comfy.sd1_clip.SD1ClipModel(dtype=torch.float16).clip_l.transformer
        weights = {
            name: torch.randn_like(value) * 0.02
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }
    file = tmp_path_factory.mktemp("clip") / "clip_l.safetensors"
    save_file(weights, file)
    return file


def vision(folder: Path, width: int) -> Any:
    """The host's CLIP vision model at two small layers, with random weights."""
    config = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "projection_dim": width,
        "image_size": 32,
        "patch_size": 8,
        "num_channels": 3,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
    }
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    model = comfy.clip_vision.ClipVisionModel(str(file))
    with torch.no_grad():
        for parameter in model.model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def test_both_halves_of_a_clip_give_features_of_one_width(tmp_path: Path, text_file: Path) -> None:
    model = vision(tmp_path, WIDTH)
    eye = clip_eye("clip_l", model, load_text(text_file))
    frames = torch.rand(3, 3, 40, 40)
    features = eye.see(frames)
    assert features.shape == (3, WIDTH)
    torch.testing.assert_close(features[:1], eye.see(frames[:1]))
    assert (features[0] - features[1]).abs().max() > 1e-4
    assert eye.read is not None
    texts = eye.read(["a fox", "a dog"])
    assert texts.shape == (2, WIDTH) and torch.isfinite(texts).all() and not torch.equal(texts[0], texts[1])


def test_halves_of_two_clips_and_texts_without_a_projection_are_refused(tmp_path: Path, text_file: Path) -> None:
    with pytest.raises(ValueError, match="has features of width 512, its text half of 768; they are two CLIPs"):
        clip_eye("clip_x", vision(tmp_path, 512), load_text(text_file))
    without = tmp_path / "clip_without.safetensors"
    save_file({"text_model.final_layer_norm.weight": torch.ones(768)}, without)
    assert has_projection(text_file) and not has_projection(without)
    with pytest.raises(ValueError, match=r"clip_without\.safetensors has no text_projection"):
        load_text(without)


def test_an_eye_without_a_text_half_reads_nothing(tmp_path: Path) -> None:
    assert clip_eye("clip", vision(tmp_path, 64), None).read is None
