"""The nodes as ComfyUI calls them: schemas, whole runs in this process, and error messages."""

import copy
import inspect
import json
import re
from dataclasses import fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import safetensors.torch
import torch
from comfy_api.latest import io
from hypothesis import given
from hypothesis import strategies as st

from devtools import client
from devtools.environment import ROOT
from devtools.server import Server
from kvshare_core.config import (
    DITCTRL,
    MASK_KINDS,
    ORDERS,
    POSITIONS,
    SOURCES,
    STORE_DTYPES,
    STORE_PLACES,
    KVShareConfig,
    MapSettings,
    MaskSettings,
    MemorySettings,
)
from kvshare_core.embedded.clip import load_text_encoder
from kvshare_core.embedded.model import NATIVE_FRAMES
from kvshare_core.embedded.text import WORD_WIDTH
from kvshare_core.embedded.vocabulary import WORDS
from kvshare_core.host.loading.model_files import EMBEDDED, EMBEDDED_IMAGE, EMBEDDED_MODELS
from kvshare_core.probe.measured_preset import read_preset
from kvshare_core.record.record import KVShareRecord, RecordedMasks, RecordedSubject
from tests.support.node_calls import NODES, run_node, segmenter_inputs, shown_name
from tests.support.present import known
from tests.support.workflow_runs import VIT3D_FRAMES
from tests.tiny.models import Sampling, tiny_text_encoder, tiny_wan

INPUTS = {
    "LoadVideoDiT": ["diffusion_model", "text_encoder", "vae", "weight_dtype", "text_encoder_2"],
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
        "blend_weights",
        "noise",
        "vae",
        "references",
        "start_image",
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
        "end_strength",
        "start_percent",
        "end_percent",
        "layer_preset",
        "position",
        "position_gap",
        "token_dropout",
        "drift_control",
        "order",
        "carry_image",
        "share_subject",
        "is_edit",
        "reweight_form",
        "key_contrast",
    ],
    "KVShareMaskSettings": [
        "config",
        "mask_kind",
        "presence",
        "clean",
        "hysteresis",
        "freeze_after",
        "attn_map_step_idx",
        "attn_map_layer_idx",
        "ref_token_idx",
        "cur_token_idx",
        "rim",
        "mask_start",
        "keep_maps",
        "map_step_idx",
        "map_layer_idx",
    ],
    "KVShareMemorySettings": ["config", "place", "budget_mib", "dtype", "out_of_memory"],
    "DiTCtrlConfig": [
        "start_step",
        "end_step",
        "start_layer",
        "end_layer",
        "step_idx",
        "layer_idx",
        "thres",
        "ref_token_idx",
        "cur_token_idx",
        "is_edit",
        "reweight_token_idx",
        "reweight_scale",
    ],
    "MaskGuidedKVShare": ["model", "timeline", "config", "subject", "mask", "look_at", "earlier_record"],
    "AttentionMaskPreview": ["record", "images", "opacity", "show", "subject", "mask_save_dir"],
    "LongVideoContinue": ["timeline", "latent", "hold", "beat", "soft_frames", "existing", "images", "vae", "mask"],
    "LongVideoRedoBeat": ["timeline", "latent", "beat"],
    "LongVideoSave": ["timeline", "latent", "filename_prefix", "record"],
    "LongVideoLoad": ["file"],
    "LongVideoDecodeLoop": ["samples", "vae", "tile_size", "overlap", "temporal_size", "temporal_overlap"],
    "LongVideoBeatImages": [
        "model",
        "vae",
        "timeline",
        "positive",
        "negative",
        "latent",
        "beat",
        "start_image",
        "end_image",
        "clip_vision_start_image",
        "clip_vision_end_image",
        "clip",
        "middle_image",
        "middle_at",
        "strength",
    ],
    "KVShareProbe": [
        "model",
        "timeline",
        "positive",
        "negative",
        "latent",
        "subject",
        "seed",
        "steps",
        "cfg",
        "filename_prefix",
        "scheduler",
        "noise_levels",
        "config",
    ],
    "KVShareLoadPreset": ["config", "file"],
    "KVShareWorkers": ["model", "address", "workers", "memory_gib"],
}
"""Saved workflows keep widget values by place: new inputs may only be appended."""

ALWAYS_SHOWN = {
    "KVShareConfig": {"mode", "strength", "sources", "share_background", "end_percent", "order", "is_edit"},
    "LongVideoSegmenter": {"prompts", "negative_prompt", "width", "height", "fps"},
}
"""Widgets that are not folded away."""
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")

OPTIONAL = {
    "LoadVideoDiT": ["text_encoder_2"],
    "LongVideoSegmenter": INPUTS["LongVideoSegmenter"][10:],
    "KVShareConfig": INPUTS["KVShareConfig"][12:],
    "DiTCtrlConfig": INPUTS["DiTCtrlConfig"][9:],
    "MaskGuidedKVShare": ["config", "mask", "look_at", "earlier_record"],
    "AttentionMaskPreview": ["show", "subject", "mask_save_dir"],
    "LongVideoContinue": ["existing", "images", "vae", "mask"],
    "LongVideoSave": ["record"],
    "KVShareMaskSettings": ["rim", "mask_start", "keep_maps", "map_step_idx", "map_layer_idx"],
    "KVShareMemorySettings": ["out_of_memory"],
    "LongVideoBeatImages": INPUTS["LongVideoBeatImages"][7:],
    "KVShareProbe": ["scheduler", "noise_levels", "config"],
}
"""Workflows in API format name what a node had when they were made: what came later is optional."""

OUTPUTS = {
    "LoadVideoDiT": ["MODEL", "CLIP", "VAE", "STRING"],
    "LongVideoSegmenter": ["KVSHARE_TIMELINE", "CONDITIONING", "CONDITIONING", "LATENT", "STRING"],
    "KVShareConfig": ["KVSHARE_CONFIG"],
    "KVShareMaskSettings": ["KVSHARE_CONFIG"],
    "KVShareMemorySettings": ["KVSHARE_CONFIG"],
    "DiTCtrlConfig": ["KVSHARE_CONFIG"],
    "MaskGuidedKVShare": ["MODEL", "KVSHARE_RECORD"],
    "AttentionMaskPreview": ["IMAGE", "MASK"],
    "LongVideoContinue": ["LATENT"],
    "LongVideoRedoBeat": ["LATENT"],
    "LongVideoSave": ["STRING"],
    "LongVideoLoad": ["KVSHARE_TIMELINE", "LATENT", "KVSHARE_RECORD"],
    "LongVideoDecodeLoop": ["IMAGE"],
    "LongVideoBeatImages": ["CONDITIONING", "CONDITIONING", "LATENT"],
    "KVShareProbe": ["KVSHARE_CONFIG", "STRING", "STRING", "IMAGE"],
    "KVShareLoadPreset": ["KVSHARE_CONFIG", "STRING"],
    "KVShareWorkers": ["MODEL"],
}


# Schemas.


def test_the_pack_has_its_nodes() -> None:
    assert list(NODES) == [
        "LoadVideoDiT",
        "LongVideoSegmenter",
        "KVShareConfig",
        "KVShareMaskSettings",
        "KVShareMemorySettings",
        "DiTCtrlConfig",
        "MaskGuidedKVShare",
        "AttentionMaskPreview",
        "LongVideoContinue",
        "LongVideoRedoBeat",
        "LongVideoSave",
        "LongVideoLoad",
        "LongVideoDecodeLoop",
        "LongVideoBeatImages",
        "KVShareProbe",
        "KVShareLoadPreset",
        "KVShareWorkers",
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


@pytest.mark.parametrize(("name", "shown"), ALWAYS_SHOWN.items())
def test_rare_inputs_are_folded_where_the_host_can(name: str, shown: set[str]) -> None:
    widgets = [item for item in NODES[name].define_schema().inputs if item.get_io_type() in WIDGET_TYPES]
    assert shown < {item.id for item in widgets}
    folds = "advanced" in inspect.signature(io.Int.Input).parameters
    assert {item.id for item in widgets if not getattr(item, "advanced", None)} == (
        shown if folds else {item.id for item in widgets}
    )


def test_the_frame_rate_of_television_is_kept() -> None:
    (fps,) = (item for item in NODES["LongVideoSegmenter"].define_schema().inputs if item.id == "fps")
    assert round(23.976 / fps.round) * fps.round == pytest.approx(23.976)


@pytest.mark.parametrize("name", INPUTS)
def test_what_was_appended_is_optional(name: str) -> None:
    assert list(NODES[name].INPUT_TYPES().get("optional", {})) == OPTIONAL.get(name, [])


@pytest.mark.skipif(
    "search_aliases" not in inspect.signature(io.Schema).parameters, reason="this host's search knows no aliases"
)
@pytest.mark.parametrize("name", INPUTS)
def test_a_node_is_found_by_other_words(name: str) -> None:
    assert NODES[name].GET_NODE_INFO_V1()["search_aliases"]


# Settings.

FIELDS = {
    "KVShareConfig": {"thres": "masks.thres"},
    "KVShareMaskSettings": {name: f"masks.{name}" for name in INPUTS["KVShareMaskSettings"]}
    | {"mask_kind": "masks.kind", "mask_start": "masks.start"}
    | {"keep_maps": "maps.keep", "map_step_idx": "maps.step_idx", "map_layer_idx": "maps.layer_idx"},
    "KVShareMemorySettings": {name: f"memory.{name}" for name in INPUTS["KVShareMemorySettings"]},
    "DiTCtrlConfig": {name: f"masks.{name}" for name in ("thres", "ref_token_idx", "cur_token_idx")},
}
"""Where the value of an input goes when not to the field of its own name."""

PRESETS = {"DiTCtrlConfig": DITCTRL}
"""What a node's defaults are when not the defaults of sharing."""


def defaults_of(name: str) -> dict[str, Any]:
    """The values that a settings node shows when it is new."""
    return {item.id: item.default for item in NODES[name].GET_SCHEMA().inputs if item.id != "config"}


def run_settings(name: str, config: KVShareConfig, **changes: Any) -> KVShareConfig:
    """What a settings node makes of its defaults with changes, and of `config` where it takes one."""
    incoming = {"config": config} if "config" in INPUTS[name] else {}
    (result,) = run_node(name, **incoming, **{**defaults_of(name), **changes})
    return result


def field(config: KVShareConfig, node: str, name: str) -> Any:
    """The value in `config` that input `name` of `node` sets."""
    return attrgetter(FIELDS[node].get(name, name))(config)


@pytest.mark.parametrize("name", FIELDS)
def test_default_values_of_a_settings_node_are_those_of_the_core(name: str) -> None:
    expected = PRESETS.get(name, KVShareConfig())
    assert run_settings(name, KVShareConfig()) == expected
    shown = {key: value for key, value in defaults_of(name).items() if key != "end_strength"}
    for key, value in shown.items():
        held = field(expected, name, key)
        assert value == (", ".join(map(str, held)) if isinstance(held, tuple) else held), key


def test_inputs_that_older_workflows_lack_have_their_defaults() -> None:
    old = {key: value for key, value in defaults_of("KVShareConfig").items() if key not in OPTIONAL["KVShareConfig"]}
    assert run_node("KVShareConfig", **old) == (KVShareConfig(),)


CHOSEN = {
    "mode": "off",
    "strength": 0.75,
    "end_strength": 0.25,
    "sources": "previous",
    "start_step": 3,
    "end_step": 20,
    "start_percent": 0.2,
    "end_percent": 0.8,
    "start_layer": 26,
    "end_layer": 28,
    "step_idx": "3, 5-6",
    "layer_idx": "3, 5-6",
    "layer_preset": "middle",
    "share_background": True,
    "share_uncond": False,
    "position": "gap",
    "position_gap": 5,
    "token_dropout": 0.4,
    "drift_control": 0.3,
    "order": "sources_first",
    "carry_image": False,
    "share_subject": False,
    "is_edit": True,
    "reweight_form": "paper",
    "key_contrast": 1.2,
    "reweight_token_idx": "3, 5-6",
    "reweight_scale": 0.5,
    "out_of_memory": "save_memory",
    "thres": 0.6,
    "mask_kind": "threshold",
    "presence": 0.2,
    "clean": True,
    "hysteresis": 0.1,
    "freeze_after": 0.7,
    "rim": 3,
    "mask_start": "maps",
    "keep_maps": "words",
    "map_step_idx": "3, 5-6",
    "map_layer_idx": "3, 5-6",
    "attn_map_step_idx": "3, 5-6",
    "attn_map_layer_idx": "3, 5-6",
    "ref_token_idx": "3, 5-6",
    "cur_token_idx": "3, 5-6",
    "place": "cpu",
    "budget_mib": 512,
    "dtype": "fp8",
}
"""For every input a value that is no node's default."""

TOGETHER = {
    "ref_token_idx": {"ref_token_idx", "cur_token_idx"},
    "cur_token_idx": {"ref_token_idx", "cur_token_idx"},
    "share_subject": {"share_subject", "share_background"},
}
"""Inputs that are refused alone, and what goes with them."""


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in FIELDS for key in defaults_of(name)])
def test_an_input_sets_its_own_field_and_no_other(name: str, key: str) -> None:
    before = run_settings(name, KVShareConfig())
    changes = {other: CHOSEN[other] for other in TOGETHER.get(key, {key})}
    after = run_settings(name, KVShareConfig(), **changes)
    assert field(before, name, key) != field(after, name, key)
    assert field(after, name, key) == ((3, 5, 6) if CHOSEN[key] == "3, 5-6" else CHOSEN[key])
    for other in defaults_of(name).keys() - changes.keys():
        assert field(after, name, other) == field(before, name, other), other


def test_every_setting_of_masks_and_memory_has_an_input() -> None:
    masks = {FIELDS["KVShareMaskSettings"][key] for key in defaults_of("KVShareMaskSettings")} | {"masks.thres"}
    kept = {f"maps.{item.name}" for item in fields(MapSettings)}
    assert masks == {f"masks.{item.name}" for item in fields(MaskSettings)} | kept
    assert set(defaults_of("KVShareMemorySettings")) == {item.name for item in fields(MemorySettings)}


@given(strength=st.floats(-1, 10))
def test_an_end_strength_below_zero_keeps_the_strength(strength: float) -> None:
    config = run_settings("KVShareConfig", KVShareConfig(), end_strength=strength)
    assert config.end_strength == (None if strength < 0 else strength)


CONFIGS = st.builds(
    KVShareConfig,
    mode=st.just("replace"),
    strength=st.floats(0, 10),
    end_strength=st.none() | st.floats(0, 10),
    sources=st.sampled_from(SOURCES),
    # In a chain there is no drift control.
    order=st.sampled_from([order for order in ORDERS if order != "chain"]),
    start_step=st.integers(0, 50),
    step_idx=st.tuples(st.integers(0, 50)),
    end_percent=st.floats(0.1, 1),
    share_text=st.booleans(),
    position=st.sampled_from(POSITIONS),
    token_dropout=st.floats(0, 0.9),
    drift_control=st.floats(0, 1),
    key_contrast=st.floats(0, 2),
    masks=st.builds(
        MaskSettings,
        kind=st.sampled_from(MASK_KINDS),
        thres=st.floats(0, 1),
        presence=st.floats(0, 1),
        clean=st.booleans(),
        attn_map_layer_idx=st.tuples(st.integers(0, 50)),
    ),
    memory=st.builds(MemorySettings, st.sampled_from(STORE_PLACES), st.integers(0, 9), st.sampled_from(STORE_DTYPES)),
)


@given(CONFIGS)
def test_mask_settings_keep_the_threshold_and_all_that_is_not_the_mask(config: KVShareConfig) -> None:
    result = run_settings("KVShareMaskSettings", config, presence=0.3, attn_map_step_idx="1-3")
    masks = MaskSettings(thres=config.masks.thres, presence=0.3, attn_map_step_idx=(1, 2, 3))
    assert result == replace(config, masks=masks)


@given(CONFIGS)
def test_memory_settings_keep_all_that_is_not_the_memory(config: KVShareConfig) -> None:
    result = run_settings("KVShareMemorySettings", config, place="cpu", budget_mib=64, dtype="fp8")
    assert result == replace(config, memory=MemorySettings("cpu", 64, "fp8", "stop"))


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


def test_the_nodes_make_a_video_under_the_stock_sampler(model: Any, clip: Any) -> None:
    timeline, positive, negative, latent, info = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    assert latent["samples"].shape == (1, 16, 9, 6, 6)
    assert [segment.beat for segment in timeline.segments] == [0, 1, 1, 1]
    assert info.splitlines()[-1].startswith("33 frames, 4.12 s at 8 frames per second; 4 segments")
    shape = tuple(latent["samples"].shape)
    outputs: dict[str, torch.Tensor] = {}
    for mode in ("off", "replace"):
        chosen = run_settings("KVShareConfig", KVShareConfig(), mode=mode)
        patched, record = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle", config=chosen)
        outputs[mode] = Sampling(steps=3).run(patched, positive, negative, shape)
    assert torch.isfinite(outputs["replace"]).all()
    assert (outputs["replace"] - outputs["off"]).abs().max() > 1e-4
    images = torch.rand(33, 48, 48, 3)
    overlay, mask = run_node("AttentionMaskPreview", record=record, images=images, opacity=0.5)
    assert overlay.shape == images.shape
    assert mask.shape == (33, 48, 48)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert (overlay - images).abs().max() > 0.01


@pytest.mark.parametrize(
    "changes",
    [
        {"end_strength": 0.0, "start_percent": 0.1, "end_percent": 0.9, "layer_preset": "late"},
        {"layer_preset": "middle", "position": "gap", "position_gap": 2},
        {"position": "matched", "token_dropout": 0.3},
        {"position": "frame"},
        {"drift_control": 0.5},
        {"key_contrast": 1.5},
        {"order": "sources_first"},
        {"order": "chain"},
    ],
)
def test_what_the_config_node_offers_reaches_the_sampler(model: Any, clip: Any, changes: dict[str, Any]) -> None:
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    outputs: list[torch.Tensor] = []
    for chosen in ({}, changes):
        config = run_settings("KVShareConfig", KVShareConfig(), **chosen)
        patched, _ = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle", config=config)
        outputs.append(Sampling(steps=3).run(patched, positive, negative, tuple(latent["samples"].shape)))
    assert torch.isfinite(outputs[1]).all()
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("changes", [{"blend_weights": "hann", "overlap_size": 2}, {"noise": "freenoise"}])
def test_what_the_segmenter_offers_reaches_the_sampler(model: Any, clip: Any, changes: dict[str, Any]) -> None:
    outputs: list[torch.Tensor] = []
    for chosen in (changes, {**changes, "blend_weights": "linear", "noise": "plain"}):
        timeline, positive, negative, latent, _ = run_node(
            "LongVideoSegmenter", **segmenter_inputs(model, clip, **chosen)
        )
        patched, _ = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle")
        outputs.append(Sampling(1).run(patched, positive, negative, tuple(latent["samples"].shape)))
    assert torch.isfinite(outputs[0]).all()
    assert not torch.equal(*outputs)


def test_transitions_and_longer_beats_are_planned_described_and_sampled(model: Any, clip: Any) -> None:
    prompts = "\n".join(f"a red circle moves {way}" for way in ("right", "up", "left"))
    inputs = segmenter_inputs(model, clip, prompts=prompts, num_transition_blocks=2, longer_mid_segment=1)
    timeline, positive, negative, latent, info = run_node("LongVideoSegmenter", **inputs)
    beats = [(segment.beat, segment.next_beat) for segment in timeline.segments]
    assert beats == [(0, None), (0, 1), (0, 1), (1, None), (1, None), (1, 2), (1, 2), (2, None)]
    assert sum("transition from prompt" in line for line in info.splitlines()) == 2
    patched, _ = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle")
    assert torch.isfinite(Sampling().run(patched, positive, negative, tuple(latent["samples"].shape))).all()


def test_one_prompt_makes_one_segment_with_its_mask(model: Any, clip: Any) -> None:
    inputs = segmenter_inputs(model, clip, prompts="a red circle moves right")
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **inputs)
    patched, record = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="red circle")
    Sampling().run(patched, positive, negative, tuple(latent["samples"].shape))
    _, mask = run_node("AttentionMaskPreview", record=record, images=torch.rand(9, 48, 48, 3), opacity=0.5)
    assert 0 < float(mask.mean()) < 1


def test_a_mask_takes_the_place_of_the_subjects_words(model: Any, clip: Any) -> None:
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    inputs = {"model": model, "timeline": timeline, "subject": "wolf"}
    with pytest.raises(ValueError, match="'wolf' is not in the prompt"):
        run_node("MaskGuidedKVShare", **inputs)
    upper_half = torch.zeros(1, 48, 48)
    upper_half[:, :16] = 1
    patched, record = run_node("MaskGuidedKVShare", **inputs, mask=upper_half)
    Sampling(1).run(patched, positive, negative, tuple(latent["samples"].shape))
    _, found = run_node("AttentionMaskPreview", record=record, images=torch.rand(33, 48, 48, 3), opacity=0.5)
    assert torch.equal(found, upper_half.expand(33, -1, -1))


def test_the_words_of_a_stock_text_encoder_are_found(model: Any) -> None:
    inputs = segmenter_inputs(model, tiny_text_encoder("t5"), prompts="a fox\na fox")
    timeline, *_ = run_node("LongVideoSegmenter", **inputs)
    assert [beat.words.words for beat in timeline.beats] == [("a", "fox")] * 2
    run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="fox")


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_the_embedded_models_run_through_all_nodes(name: str) -> None:
    known(EMBEDDED_MODELS[name])
    names = {"diffusion_model": name, "text_encoder": "embedded", "vae": "embedded", "weight_dtype": "default"}
    model, clip, vae, _ = run_node("LoadVideoDiT", **names)
    changes = {"sampling_num_frames": 0, "prompts": "a red circle moves right\na red circle moves left"}
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip, **changes))
    assert timeline.window == NATIVE_FRAMES.get(EMBEDDED_MODELS[name], VIT3D_FRAMES)
    patched, record = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle")
    samples = Sampling().run(patched, positive, negative, tuple(latent["samples"].shape))
    with torch.inference_mode():
        images = vae.decode(samples)[0]
    assert images.shape == (timeline.frames, 48, 48, 3)
    overlay, _ = run_node("AttentionMaskPreview", record=record, images=images, opacity=0.5)
    assert torch.isfinite(overlay).all()


def test_a_probe_saves_a_preset_that_its_model_runs_with(
    model: Any, clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    one = segmenter_inputs(model, clip, prompts="a red circle moves right over grass")
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **one)
    inputs = {"timeline": timeline, "positive": positive, "negative": negative, "latent": latent}
    base = KVShareConfig(strength=0.5)
    settings = {"subject": "circle", "seed": 1, "steps": 2, "cfg": 3.0, "filename_prefix": "presets/circle"}
    config, preset, info, chart = run_node("KVShareProbe", model=model, **inputs, **settings, config=base)
    assert config.measured_on is not None and config.strength == 0.5
    file, *table = info.splitlines()
    assert chart.ndim == 4 and chart.shape[-1] == 3
    loaded, told = run_node("KVShareLoadPreset", config=base, file=file)
    assert loaded == config and told.splitlines() == table
    assert read_preset(preset).put_on(base) == config
    assert NODES["KVShareLoadPreset"].fingerprint_inputs(file=file)
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    patched, _ = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle", config=loaded)
    assert torch.isfinite(Sampling().run(patched, positive, negative, tuple(latent["samples"].shape))).all()
    other = tiny_wan(layers=2)
    with pytest.raises(ValueError, match=r"^Mask-Guided KV Share: config: its blocks were measured on wan with 3"):
        run_node("MaskGuidedKVShare", model=other, timeline=timeline, subject="circle", config=loaded)


# On a running server.


@pytest.fixture(scope="module")
def example(server: Server) -> dict[str, Any]:
    """An example as saved before most settings were there, in API format with a single step."""
    file = ROOT / "tests" / "nodes" / "golden_workflows" / "first_light_b5c4925.json"
    saved = json.loads(file.read_text(encoding="utf-8"))["workflow"]
    workflow = client.to_api_format(saved, client.object_info(server.url))
    workflow[place_of(workflow, "KSampler")]["inputs"]["steps"] = 1
    return workflow


def place_of(workflow: dict[str, Any], kind: str) -> str:
    """The only node of a kind."""
    (place,) = (name for name, node in workflow.items() if node["class_type"] == kind)
    return place


def with_settings(workflow: dict[str, Any], *chain: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The workflow with settings nodes between its config and the patch; the first may replace the config."""
    changed = copy.deepcopy(workflow)
    last = place_of(changed, "KVShareConfig")
    for number, (name, changes) in enumerate(chain):
        incoming = {"config": [last, 0]} if "config" in INPUTS[name] else {}
        last = f"settings {number}"
        changed[last] = {"class_type": name, "inputs": {**incoming, **defaults_of(name), **changes}}
    changed[place_of(changed, "MaskGuidedKVShare")]["inputs"]["config"] = [last, 0]
    return changed


def test_the_server_lists_every_node_with_its_inputs(server: Server) -> None:
    listed = client.object_info(server.url)
    for name, inputs in INPUTS.items():
        order = listed[name]["input_order"]
        # The host lists what is optional behind what is not.
        assert sorted([*order["required"], *order.get("optional", [])]) == sorted(inputs)
        assert order.get("optional", []) == OPTIONAL.get(name, [])


def test_a_workflow_from_before_the_new_inputs_runs(server: Server, example: dict[str, Any]) -> None:
    assert not set(OPTIONAL["KVShareConfig"]) & set(example[place_of(example, "KVShareConfig")]["inputs"])
    client.run(server.url, example)


@pytest.mark.parametrize(
    "chain",
    [
        [
            ("KVShareMaskSettings", {"presence": 0.1, "clean": True, "attn_map_layer_idx": "2-5"}),
            ("KVShareMemorySettings", {"place": "cpu", "dtype": "fp8"}),
        ],
        [("DiTCtrlConfig", {"start_step": 0, "start_layer": 6, "end_layer": 8}), ("KVShareMemorySettings", {})],
    ],
)
def test_settings_in_a_chain_run(
    server: Server, example: dict[str, Any], chain: list[tuple[str, dict[str, Any]]]
) -> None:
    client.run(server.url, with_settings(example, *chain))


def test_a_probe_and_its_preset_run(server: Server, example: dict[str, Any]) -> None:
    loader = place_of(example, "LoadVideoDiT")
    one = {**example[place_of(example, "LongVideoSegmenter")]["inputs"], "prompts": "a circle moving right over grass"}
    ends = {"timeline": 0, "positive": 1, "negative": 2, "latent": 3}
    inputs = {"model": [loader, 0], **{name: ["one", place] for name, place in ends.items()}}
    settings = {"subject": "circle", "seed": 1, "steps": 2, "cfg": 3.0, "filename_prefix": "presets/circle"}
    workflow = {
        loader: example[loader],
        "one": {"class_type": "LongVideoSegmenter", "inputs": one},
        "probe": {"class_type": "KVShareProbe", "inputs": {**inputs, **settings}},
    }
    client.run(server.url, workflow)
    files = client.object_info(server.url)["KVShareLoadPreset"]["input"]["required"]["file"]
    names = files[1]["options"] if files[0] == "COMBO" else files[0]
    (file,) = (name for name in names if name.startswith("presets/circle_00001_"))
    loaded = with_settings(example, ("KVShareLoadPreset", {"file": file}))
    client.run(server.url, loaded)
    # Again, so that the host asks whether the file has changed.
    loaded[place_of(loaded, "KSampler")]["inputs"]["seed"] += 1
    client.run(server.url, loaded)


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("KVShareMaskSettings", {"cur_token_idx": "1"}, "KV Sharing Mask Settings: give both ref_token_idx"),
        ("DiTCtrlConfig", {"step_idx": "2-1"}, "DiTCtrl Config .paper.: step_idx: the range '2-1'"),
    ],
)
def test_wrong_settings_are_reported_at_their_node(
    server: Server, example: dict[str, Any], name: str, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(client.WorkflowError, match=complaint) as caught:
        client.run(server.url, with_settings(example, (name, changes)))
    assert caught.value.node_type == name


# Errors.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompts": " "}, "^Long Video Segmenter: prompts: there is no prompt; write one per line"),
        (
            {"prompts": "a circle\n[3x] a circle"},
            r"^Long Video Segmenter: prompts, line 2, column 1: .*\[3s\] or \[24f\]",
        ),
        ({"overlap_size": 3}, "^Long Video Segmenter: overlap_size: 3 latent frames; .*less than a segment's 3"),
        ({"num_transition_blocks": -1}, "^Long Video Segmenter: num_transition_blocks: -1 segments; .*at least 0"),
        ({"longer_mid_segment": -1}, "^Long Video Segmenter: longer_mid_segment: -1 segments; .*at least 0"),
        ({"width": 56}, "^Long Video Segmenter: width is 56, .*multiple of 16; choose (48|64)"),
        ({"height": 40}, "^Long Video Segmenter: height is 40, .*multiple of 16; choose (32|48)"),
        ({"fps": 0.0}, "^Long Video Segmenter: fps: 0.0; it must be larger than 0"),
        ({"blend_weights": "best"}, "^Long Video Segmenter: blend_weights is 'best'; choose one of linear, hann"),
        ({"noise": "loud"}, "^Long Video Segmenter: noise is 'loud'; choose one of plain, freenoise"),
    ],
)
def test_a_timeline_that_cannot_be_is_explained(model: Any, clip: Any, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        run_node("LongVideoSegmenter", **segmenter_inputs(model, clip, **changes))


@pytest.mark.parametrize("name", ["LongVideoSegmenter", "MaskGuidedKVShare"])
def test_a_model_that_is_no_video_transformer_is_refused(model: Any, clip: Any, name: str) -> None:
    timeline, *_ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    other = model.clone()
    other.add_object_patch("diffusion_model", torch.nn.Linear(1, 1))
    inputs = segmenter_inputs(other, clip)
    if name == "MaskGuidedKVShare":
        inputs = {"model": other, "timeline": timeline, "subject": ""}
    with pytest.raises(
        ValueError, match=rf"^{re.escape(shown_name(name))}: the model is a Linear, but .*families: wan, .*Load one"
    ):
        run_node(name, **inputs)


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("KVShareConfig", {"mode": "on"}, "mode is 'on'; choose one of off, replace, extend"),
        ("KVShareConfig", {"strength": 11.0}, "strength is 11.0; it must be between 0 and 10"),
        ("KVShareConfig", {"start_step": 4, "end_step": 2}, "end_step .*use -1 for the last step"),
        ("KVShareConfig", {"layer_idx": "3, x"}, "layer_idx: 'x' is neither a number nor a range"),
        ("KVShareConfig", {"step_idx": "9-3"}, "step_idx: the range '9-3' runs backwards"),
        ("KVShareConfig", {"thres": 1.5}, "thres is 1.5; it must be between 0 and 1"),
        ("KVShareConfig", {"end_strength": 11.0}, "end_strength is 11.0; it must be between 0 and 10"),
        ("KVShareConfig", {"start_percent": 0.7, "end_percent": 0.2}, "end_percent .*larger than start_percent"),
        ("KVShareConfig", {"layer_preset": "early"}, "layer_preset is 'early'; choose one of custom, late, middle"),
        ("KVShareConfig", {"position": "near"}, "position is 'near'; choose one of same, gap, matched, frame, centred"),
        ("KVShareConfig", {"drift_control": 1.5}, "drift_control is 1.5; it must be between 0 and 1"),
        ("KVShareConfig", {"token_dropout": 1.0}, "token_dropout is 1.0; it must be at least 0 and below 1"),
        ("KVShareMaskSettings", {"mask_kind": "best"}, "mask_kind is 'best'; choose one of contrast, threshold"),
        ("KVShareMaskSettings", {"presence": 1.5}, "presence is 1.5; it must be between 0 and 1"),
        ("KVShareMaskSettings", {"hysteresis": -0.1}, "hysteresis is -0.1; it must be between 0 and 1"),
        ("KVShareMaskSettings", {"freeze_after": 2.0}, "freeze_after is 2.0; it must be between 0 and 1"),
        ("KVShareMaskSettings", {"attn_map_step_idx": "x"}, "attn_map_step_idx: 'x' is neither a number nor a range"),
        ("KVShareMaskSettings", {"attn_map_layer_idx": "5-2"}, "attn_map_layer_idx: the range '5-2' runs backwards"),
        ("KVShareMaskSettings", {"ref_token_idx": "2"}, "give both ref_token_idx and cur_token_idx, or neither"),
        ("KVShareMemorySettings", {"place": "disk"}, "place is 'disk'; choose one of auto, device, cpu"),
        ("KVShareMemorySettings", {"budget_mib": -1}, "budget_mib is -1; it cannot be negative"),
        ("KVShareMemorySettings", {"dtype": "int4"}, "dtype is 'int4'; choose one of model, fp8"),
        ("DiTCtrlConfig", {"end_layer": 20}, "end_layer .20. must be larger than start_layer .25."),
        ("DiTCtrlConfig", {"layer_idx": "a"}, "layer_idx: 'a' is neither a number nor a range"),
        ("DiTCtrlConfig", {"cur_token_idx": "2"}, "give both ref_token_idx and cur_token_idx, or neither"),
    ],
)
def test_settings_that_cannot_be_are_explained(name: str, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(shown_name(name))}: {complaint}"):
        run_settings(name, KVShareConfig(), **changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"subject": "fox"}, "^Mask-Guided KV Share: subject: 'fox' is not in the prompt 'a red circle moves right'"),
        ({"subject": "grass"}, "'grass' is not in the prompt 'a red circle moves right'. Words of this prompt: a, red"),
        ({"subject": " ,"}, "^Mask-Guided KV Share: subject: ' ,' has no words; name what should stay the same"),
        (
            {"mask": torch.zeros(7, 8, 8)},
            "^Mask-Guided KV Share: mask: it has 7 pictures; give 1 .* each of the 33 frames",
        ),
        ({"look_at": "middle"}, "^Mask-Guided KV Share: look_at: 'middle' is no point; write x, y, frame"),
        ({"look_at": "0.5, 1.5, 3"}, "^Mask-Guided KV Share: look_at: '0.5, 1.5, 3' must be three numbers"),
        ({"look_at": "0.5, 0.5, 33"}, "^Mask-Guided KV Share: look_at: frame 33 .* it has frames 0 to 32"),
        (
            {"config": KVShareConfig(layer_idx=(1, 7))},
            "^Mask-Guided KV Share: config: layer_idx asks for block 7, but this model has blocks 0 to 2",
        ),
        (
            {"config": KVShareConfig(start_layer=3)},
            "^Mask-Guided KV Share: config: start_layer asks for block 3, but this model has blocks 0 to 2",
        ),
    ],
)
def test_sharing_that_cannot_be_is_explained(model: Any, clip: Any, changes: dict[str, Any], complaint: str) -> None:
    timeline, *_ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    with pytest.raises(ValueError, match=complaint):
        run_node("MaskGuidedKVShare", **{"model": model, "timeline": timeline, "subject": "", **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompts": "a red circle\na red circle"}, "^KV Sharing Probe: timeline: it has 2 segments, but one is"),
        ({"batch_size": 2}, "^KV Sharing Probe: latent: it has 2 videos, but one is probed"),
        ({"prompts": "a red square moves"}, "^KV Sharing Probe: subject: 'circle' is not in the prompt"),
        ({"prompts": "circle"}, "^KV Sharing Probe: subject: the prompt names nothing else. Add words"),
    ],
)
def test_what_cannot_be_probed_is_explained(model: Any, clip: Any, changes: dict[str, Any], complaint: str) -> None:
    inputs = segmenter_inputs(model, clip, **{"prompts": "a red circle moves right", **changes})
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **inputs)
    settings = {"subject": "circle", "seed": 1, "steps": 2, "cfg": 3.0, "filename_prefix": "x"}
    with pytest.raises(ValueError, match=complaint):
        run_node(
            "KVShareProbe",
            model=model,
            timeline=timeline,
            positive=positive,
            negative=negative,
            latent=latent,
            **settings,
        )


def test_a_subject_is_refused_where_the_text_encoder_has_no_word_positions(model: Any, clip: Any) -> None:
    timeline, *_ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    silent = replace(timeline, beats=tuple(replace(beat, words=None) for beat in timeline.beats))
    with pytest.raises(
        ValueError, match=r"^Mask-Guided KV Share: subject: .*leave subject empty, connect a mask, or .*ref_token_idx"
    ):
        run_node("MaskGuidedKVShare", model=model, timeline=silent, subject="circle")


def test_a_preview_shows_one_subject_of_several(model: Any, clip: Any) -> None:
    timeline, *_ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    both = torch.zeros(2, 1, timeline.latent_frames, 3, 3)
    both[0, :, :, 0] = both[1, :, :, 1] = 1
    subjects = tuple(RecordedSubject(name, heat, heat) for name, heat in zip(("fox", "dog"), both, strict=True))
    record = KVShareRecord()
    record.put(RecordedMasks(timeline, both.amax(0), both.amax(0), subjects), None)
    show = {"record": record, "images": torch.rand(33, 48, 48, 3), "opacity": 0.5}
    parts = [run_node("AttentionMaskPreview", **show, subject=name)[1] for name in ("fox", " dog ", "")]
    assert all(part.any() for part in parts)
    assert torch.equal(parts[0] + parts[1], parts[2])
    with pytest.raises(ValueError, match=r"^Attention Mask Preview: subject: the run followed no 'cat', but fox, dog"):
        run_node("AttentionMaskPreview", **show, subject="cat")


def test_a_preview_before_any_run_is_explained(model: Any, clip: Any) -> None:
    timeline, *_ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    _, record = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="")
    with pytest.raises(ValueError, match=r"^Attention Mask Preview: record: no run .*Name a subject or connect a mask"):
        run_node("AttentionMaskPreview", record=record, images=torch.zeros(1, 8, 8, 3), opacity=0.5)


def test_a_point_to_look_from_is_shown(model: Any, clip: Any) -> None:
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    images = torch.rand(33, 48, 48, 3)
    patched, record = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="", look_at="0.5, 0.5, 20")
    show = {"record": record, "images": images, "opacity": 0.5, "show": "look_at"}
    with pytest.raises(ValueError, match=r"^Attention Mask Preview: record: no .*Set look_at in Mask-Guided KV Share"):
        run_node("AttentionMaskPreview", **show)
    Sampling(1).run(patched, positive, negative, tuple(latent["samples"].shape))
    overlay, heat = run_node("AttentionMaskPreview", **show)
    assert overlay.shape == images.shape
    assert heat.shape == (33, 48, 48) and heat.min() >= 0 and heat[20].max() > 0.1
    # Latent frame 0 lies in no segment with the point: nothing is laid over it.
    assert heat[0].max() == 0 and torch.equal(overlay[0], images[0])


def test_pictures_of_another_video_are_explained(model: Any, clip: Any) -> None:
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip))
    patched, record = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle")
    Sampling(1).run(patched, positive, negative, tuple(latent["samples"].shape))
    with pytest.raises(ValueError, match=r"^Attention Mask Preview: images: 12 images, but .* of 33 frames"):
        run_node("AttentionMaskPreview", record=record, images=torch.zeros(12, 8, 8, 3), opacity=0.5)


def test_a_loader_without_a_text_encoder_is_named(model: Any) -> None:
    with pytest.raises(ValueError, match=r"^Long Video Segmenter: clip: the loader's file has no text encoder"):
        run_node("LongVideoSegmenter", **segmenter_inputs(model, None))


def test_a_start_image_of_the_film_is_the_first_prompts() -> None:
    model, clip, vae, *_ = run_node(
        "LoadVideoDiT", diffusion_model=EMBEDDED_IMAGE, text_encoder=EMBEDDED, vae=EMBEDDED, weight_dtype="default"
    )
    inputs, image = segmenter_inputs(model, clip), torch.rand(1, 48, 48, 3)
    timeline, *with_image, latent, _ = run_node("LongVideoSegmenter", **inputs, vae=vae, start_image=image)
    _, positive, negative, _, _ = run_node("LongVideoSegmenter", **inputs)
    expected = run_node(
        "LongVideoBeatImages",
        model=model,
        vae=vae,
        timeline=timeline,
        positive=positive,
        negative=negative,
        latent=latent,
        beat=1,
        start_image=image,
    )
    for entries, others in zip(with_image, expected, strict=False):
        assert [extra["kvshare_beat"] for _, extra in entries] == [0, 1]
        for (_, extra), (_, other) in zip(entries, others, strict=True):
            assert torch.equal(extra["concat_latent_image"], other["concat_latent_image"])
            assert torch.equal(extra["concat_mask"], other["concat_mask"])
    assert with_image[0][0][1]["concat_mask"][0, 0, 0].max() == 0 and with_image[0][1][1]["concat_mask"].min() == 1
    with pytest.raises(ValueError, match="vae: connect the model's VAE to encode start_image"):
        run_node("LongVideoSegmenter", **inputs, start_image=image)
