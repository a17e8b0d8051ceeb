"""The nodes as ComfyUI sees them: schemas, whole runs in this process, and errors that say what to do."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.ops
import folder_paths
import pytest
import safetensors.torch
import torch
from comfy.ldm.lightricks.model import LTXVModel
from comfy_api.latest import ComfyExtension, io

import kv_share
from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.clip import load_text_encoder
from kvshare_core.embedded.latents import NATIVE_LATENT_FRAMES
from kvshare_core.embedded.text import WORD_WIDTH
from kvshare_core.embedded.vocabulary import WORDS
from tests.tiny_models import Sampling, seeded_state_dict, tiny_text_encoder, tiny_wan

INPUTS = {
    "LoadVideoDiT": ["diffusion_model", "text_encoder", "vae", "weight_dtype"],
    "LongVideoSegmenter": [
        "model",
        "clip",
        "prompts",
        "negative_prompt",
        "width",
        "height",
        "fps",
        "sampling_num_frames",
        "overlap_size",
        "batch_size",
        "num_transition_blocks",
        "longer_mid_segment",
    ],
    "KVShareConfig": [
        "mode",
        "strength",
        "sources",
        "start_step",
        "end_step",
        "start_layer",
        "end_layer",
        "step_idx",
        "layer_idx",
        "share_background",
        "share_uncond",
        "thres",
    ],
    "MaskGuidedKVShare": ["model", "timeline", "config", "subject", "mask"],
    "AttentionMaskPreview": ["record", "images", "opacity"],
}
"""Saved workflows keep widget values by place: new inputs may only be appended."""

OUTPUTS = {
    "LoadVideoDiT": ["MODEL", "CLIP", "VAE"],
    "LongVideoSegmenter": ["KVSHARE_TIMELINE", "CONDITIONING", "CONDITIONING", "LATENT", "STRING"],
    "KVShareConfig": ["KVSHARE_CONFIG"],
    "MaskGuidedKVShare": ["MODEL", "KVSHARE_RECORD"],
    "AttentionMaskPreview": ["IMAGE", "MASK"],
}


def nodes_of_the_pack() -> dict[str, type[io.ComfyNode]]:
    """The nodes, loaded through the entry point that ComfyUI calls."""
    extension = asyncio.run(kv_share.comfy_entrypoint())
    assert isinstance(extension, ComfyExtension)
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


NODES = nodes_of_the_pack()


def run(name: str, **inputs: Any) -> tuple[Any, ...]:
    """What a node gives when the host executes it, in inference mode as the host does."""
    with torch.inference_mode():
        return NODES[name].EXECUTE_NORMALIZED(**inputs).result


# Schemas.


def test_the_pack_has_its_nodes() -> None:
    assert list(NODES) == [
        "LoadVideoDiT",
        "LongVideoSegmenter",
        "KVShareConfig",
        "MaskGuidedKVShare",
        "AttentionMaskPreview",
    ]


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_and_outputs_keep_their_order(name: str) -> None:
    schema = NODES[name].GET_SCHEMA()
    assert [item.id for item in schema.inputs] == INPUTS[name]
    assert [item.io_type for item in schema.outputs] == OUTPUTS[name]


@pytest.mark.parametrize("name", INPUTS)
def test_everything_on_a_node_is_explained(name: str) -> None:
    schema = NODES[name].GET_SCHEMA()
    assert schema.description
    assert schema.category == "kvshare"
    assert schema.display_name != name
    for item in [*schema.inputs, *schema.outputs]:
        assert item.tooltip, f"{name}: {item.id} has no tooltip"
        assert item.tooltip.endswith("."), f"{name}: {item.tooltip}"
        assert item.tooltip.isascii()


@pytest.mark.parametrize("name", INPUTS)
def test_the_host_can_show_the_node(name: str) -> None:
    node = NODES[name]
    shown = {**node.INPUT_TYPES().get("required", {}), **node.INPUT_TYPES().get("optional", {})}
    assert set(shown) == set(INPUTS[name])
    assert node.RETURN_TYPES == OUTPUTS[name]
    assert node.GET_NODE_INFO_V1()["name"] == name


def test_default_values_of_the_config_node_are_the_defaults_of_sharing() -> None:
    defaults = {item.id: item.default for item in NODES["KVShareConfig"].GET_SCHEMA().inputs}
    assert run("KVShareConfig", **defaults) == (KVShareConfig(),)


# A whole run.


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_wan()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The embedded text encoder with random words, so that the tests do not depend on trained weights."""
    file: Path = tmp_path_factory.mktemp("weights") / "text_encoder.safetensors"
    words = torch.randn(len(WORDS), WORD_WIDTH, generator=torch.Generator().manual_seed(0))
    safetensors.torch.save_file({"words": words}, str(file))
    return load_text_encoder(file)


def segmenter(model: Any, clip: Any, **changes: Any) -> dict[str, Any]:
    """Inputs of LongVideoSegmenter for a tiny video of two beats."""
    return {
        "model": model,
        "clip": clip,
        "prompts": "a red circle moves right\n[3s] a red circle moves up over grass",
        "negative_prompt": "",
        "width": 48,
        "height": 48,
        "fps": 8.0,
        "sampling_num_frames": 3,
        "overlap_size": 1,
        "batch_size": 1,
        **changes,
    }


def test_the_nodes_make_a_video_under_the_stock_sampler(model: Any, clip: Any) -> None:
    timeline, positive, negative, latent, info = run("LongVideoSegmenter", **segmenter(model, clip))
    assert latent["samples"].shape == (1, 16, 9, 6, 6)
    assert [beat.segments for beat in timeline.beats] == [1, 3]
    assert info.splitlines()[-1].startswith("33 frames, 4.12 s at 8 frames per second; 4 segments")
    defaults = {item.id: item.default for item in NODES["KVShareConfig"].GET_SCHEMA().inputs}
    (_config,) = run("KVShareConfig", **{**defaults, "share_background": True})
    shape = tuple(latent["samples"].shape)
    outputs: dict[str, torch.Tensor] = {}
    for mode in ("off", "replace"):
        (chosen,) = run("KVShareConfig", **{**defaults, "mode": mode})
        patched, record = run("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle", config=chosen)
        outputs[mode] = Sampling(steps=3).run(patched, positive, negative, shape)
    assert torch.isfinite(outputs["replace"]).all()
    assert (outputs["replace"] - outputs["off"]).abs().max() > 1e-4
    images = torch.rand(33, 48, 48, 3)
    overlay, mask = run("AttentionMaskPreview", record=record, images=images, opacity=0.5)
    assert overlay.shape == images.shape
    assert mask.shape == (33, 48, 48)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert (overlay - images).abs().max() > 0.01


def test_transitions_and_longer_beats_are_planned_told_and_sampled(model: Any, clip: Any) -> None:
    prompts = "\n".join(f"a red circle moves {way}" for way in ("right", "up", "left"))
    inputs = segmenter(model, clip, prompts=prompts, num_transition_blocks=2, longer_mid_segment=1)
    timeline, positive, negative, latent, info = run("LongVideoSegmenter", **inputs)
    beats = [(segment.beat, segment.next_beat) for segment in timeline.segments]
    assert beats == [(0, None), (0, 1), (0, 1), (1, None), (1, None), (1, 2), (1, 2), (2, None)]
    assert sum("transition from prompt" in line for line in info.splitlines()) == 2
    patched, _ = run("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle")
    assert torch.isfinite(Sampling().run(patched, positive, negative, tuple(latent["samples"].shape))).all()


def test_one_prompt_makes_one_segment_with_its_mask(model: Any, clip: Any) -> None:
    inputs = segmenter(model, clip, prompts="a red circle moves right")
    timeline, positive, negative, latent, _ = run("LongVideoSegmenter", **inputs)
    patched, record = run("MaskGuidedKVShare", model=model, timeline=timeline, subject="red circle")
    Sampling().run(patched, positive, negative, tuple(latent["samples"].shape))
    _, mask = run("AttentionMaskPreview", record=record, images=torch.rand(9, 48, 48, 3), opacity=0.5)
    assert 0 < float(mask.mean()) < 1


def test_a_mask_needs_no_words(model: Any) -> None:
    clip = tiny_text_encoder("t5")
    inputs = segmenter(model, clip, prompts="a fox\na fox")
    timeline, *_ = run("LongVideoSegmenter", **inputs)
    mask = torch.zeros(1, 48, 48)
    mask[:, :24] = 1
    run("MaskGuidedKVShare", model=model, timeline=timeline, subject="wolf", mask=mask)
    run("MaskGuidedKVShare", model=model, timeline=timeline, subject="fox")


def test_the_embedded_model_runs_through_all_nodes() -> None:
    names = {"diffusion_model": "embedded", "text_encoder": "embedded", "vae": "embedded", "weight_dtype": "default"}
    model, clip, vae = run("LoadVideoDiT", **names)
    changes = {"sampling_num_frames": 0, "prompts": "a red circle moves right\na red circle moves left"}
    timeline, positive, negative, latent, _ = run("LongVideoSegmenter", **segmenter(model, clip, **changes))
    assert timeline.window == NATIVE_LATENT_FRAMES
    patched, record = run("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle")
    samples = Sampling().run(patched, positive, negative, tuple(latent["samples"].shape))
    with torch.inference_mode():
        images = vae.decode(samples)[0]
    assert images.shape == (timeline.frames, 48, 48, 3)
    overlay, _ = run("AttentionMaskPreview", record=record, images=images, opacity=0.5)
    assert torch.isfinite(overlay).all()


# Errors.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompts": " "}, "^LongVideoSegmenter: prompts: there is no prompt; write one a line"),
        ({"prompts": "a circle\n[3x] a circle"}, r"^LongVideoSegmenter: prompts, line 2: .*write \[3s\] or \[24f\]"),
        ({"overlap_size": 3}, "^LongVideoSegmenter: overlap_size: 3 latent frames; .*less than a segment's 3"),
        ({"num_transition_blocks": -1}, "^LongVideoSegmenter: num_transition_blocks: -1 segments; .*at least 0"),
        ({"longer_mid_segment": -1}, "^LongVideoSegmenter: longer_mid_segment: -1 segments; .*at least 0"),
        ({"width": 56}, "^LongVideoSegmenter: width is 56, .*multiple of 16; take (48|64)"),
        ({"height": 40}, "^LongVideoSegmenter: height is 40, .*multiple of 16; take (32|48)"),
        ({"fps": 0.0}, "^LongVideoSegmenter: fps: 0.0; it must be larger than 0"),
    ],
)
def test_a_timeline_that_cannot_be_is_explained(model: Any, clip: Any, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        run("LongVideoSegmenter", **segmenter(model, clip, **changes))


@pytest.mark.parametrize("name", ["LongVideoSegmenter", "MaskGuidedKVShare"])
def test_a_model_that_is_no_video_transformer_is_refused(model: Any, clip: Any, name: str) -> None:
    timeline, *_ = run("LongVideoSegmenter", **segmenter(model, clip))
    other = model.clone()
    other.add_object_patch("diffusion_model", torch.nn.Linear(1, 1))
    inputs = segmenter(other, clip)
    if name == "MaskGuidedKVShare":
        inputs = {"model": other, "timeline": timeline, "subject": ""}
    with pytest.raises(ValueError, match=rf"^{name}: the model is a Linear, but .*families: wan. Load one"):
        run(name, **inputs)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"mode": "on"}, "^KVShareConfig: mode is 'on'; choose one of off, replace, extend"),
        ({"strength": 11.0}, "^KVShareConfig: strength is 11.0; it must lie between 0 and 10"),
        ({"start_step": 4, "end_step": 2}, "^KVShareConfig: end_step .*use -1 for the last step"),
        ({"layer_idx": "3, x"}, "^KVShareConfig: layer_idx: 'x' is neither a number nor a range"),
        ({"step_idx": "9-3"}, "^KVShareConfig: step_idx: the range '9-3' runs backwards"),
    ],
)
def test_a_config_that_cannot_be_is_explained(changes: dict[str, Any], complaint: str) -> None:
    defaults = {item.id: item.default for item in NODES["KVShareConfig"].GET_SCHEMA().inputs}
    with pytest.raises(ValueError, match=complaint):
        run("KVShareConfig", **{**defaults, **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"subject": "fox"}, "^MaskGuidedKVShare: subject: 'fox' is not in the prompt 'a red circle moves right'"),
        ({"subject": "grass"}, "'grass' is not in the prompt 'a red circle moves right'. Words of this prompt: a, red"),
        ({"subject": " ,"}, "^MaskGuidedKVShare: subject: ' ,' has no words; name what should stay the same"),
        (
            {"mask": torch.zeros(7, 8, 8)},
            "^MaskGuidedKVShare: mask: it has 7 pictures; give 1 .* each of the 33 frames",
        ),
        (
            {"config": KVShareConfig(layer_idx=(1, 7))},
            "^MaskGuidedKVShare: config: layer_idx asks for block 7, but this model has blocks 0 to 2",
        ),
        (
            {"config": KVShareConfig(start_layer=3)},
            "^MaskGuidedKVShare: config: start_layer asks for block 3, but this model has blocks 0 to 2",
        ),
    ],
)
def test_sharing_that_cannot_be_is_explained(model: Any, clip: Any, changes: dict[str, Any], complaint: str) -> None:
    timeline, *_ = run("LongVideoSegmenter", **segmenter(model, clip))
    with pytest.raises(ValueError, match=complaint):
        run("MaskGuidedKVShare", **{"model": model, "timeline": timeline, "subject": "", **changes})


def test_a_subject_is_refused_where_the_text_encoder_tells_no_words(model: Any, clip: Any) -> None:
    timeline, *_ = run("LongVideoSegmenter", **segmenter(model, clip))
    silent = replace(timeline, beats=tuple(replace(beat, words=None) for beat in timeline.beats))
    with pytest.raises(ValueError, match=r"^MaskGuidedKVShare: subject: .*leave subject empty or connect a mask"):
        run("MaskGuidedKVShare", model=model, timeline=silent, subject="circle")


def test_a_preview_before_any_run_is_explained(model: Any, clip: Any) -> None:
    timeline, *_ = run("LongVideoSegmenter", **segmenter(model, clip))
    _, record = run("MaskGuidedKVShare", model=model, timeline=timeline, subject="")
    with pytest.raises(ValueError, match=r"^AttentionMaskPreview: no run .*Name a subject or connect a mask"):
        run("AttentionMaskPreview", record=record, images=torch.zeros(1, 8, 8, 3), opacity=0.5)


def test_pictures_of_another_video_are_explained(model: Any, clip: Any) -> None:
    timeline, positive, negative, latent, _ = run("LongVideoSegmenter", **segmenter(model, clip))
    patched, record = run("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle")
    Sampling(1).run(patched, positive, negative, tuple(latent["samples"].shape))
    with pytest.raises(ValueError, match=r"^AttentionMaskPreview: 12 images, but the run made 1 .* of 33 frames"):
        run("AttentionMaskPreview", record=record, images=torch.zeros(12, 8, 8, 3), opacity=0.5)


@pytest.mark.parametrize("own", ["diffusion_model", "text_encoder", "vae"])
def test_the_embedded_model_is_not_mixed_with_other_files(own: str) -> None:
    inputs = {"diffusion_model": "embedded", "text_encoder": "embedded", "vae": "embedded", "weight_dtype": "default"}
    with pytest.raises(ValueError, match=rf"^LoadVideoDiT: .*'embedded' but {own} is a file of yours.*for all three"):
        run("LoadVideoDiT", **{**inputs, own: "mine.safetensors"})


@pytest.fixture
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the user's diffusion models."""
    _, extensions = folder_paths.folder_names_and_paths["diffusion_models"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusion_models", ([str(tmp_path)], extensions))
    return tmp_path


def test_a_file_that_is_no_model_is_explained(models_folder: Path) -> None:
    safetensors.torch.save_file({"something": torch.zeros(2)}, str(models_folder / "other.safetensors"))
    names = {"diffusion_model": "other.safetensors", "text_encoder": "mine", "vae": "mine", "weight_dtype": "default"}
    with pytest.raises(ValueError, match=r"^LoadVideoDiT: diffusion_model 'other.safetensors' is no diffusion model"):
        run("LoadVideoDiT", **names)


def test_a_model_of_an_unknown_family_is_explained(models_folder: Path) -> None:
    module = LTXVModel(
        in_channels=128,
        cross_attention_dim=64,
        attention_head_dim=2,
        num_attention_heads=32,
        caption_channels=4096,
        num_layers=1,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
    )
    safetensors.torch.save_file(seeded_state_dict(module), str(models_folder / "ltxv.safetensors"))
    names = {"diffusion_model": "ltxv.safetensors", "text_encoder": "mine", "vae": "mine", "weight_dtype": "default"}
    with pytest.raises(
        ValueError, match=r"^LoadVideoDiT: diffusion_model 'ltxv.safetensors' cannot be used: .*LTXVModel"
    ):
        run("LoadVideoDiT", **names)


def test_models_of_the_user_are_listed_behind_the_embedded_one(models_folder: Path) -> None:
    (models_folder / "mine.safetensors").touch()
    (listed,) = [item for item in NODES["LoadVideoDiT"].define_schema().inputs if item.id == "diffusion_model"]
    assert list(listed.options) == ["embedded", "mine.safetensors"]
