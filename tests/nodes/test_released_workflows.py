"""The workflows for released models: written by their generator, fit for the host, and run with tiny models of the same
layouts in place of the files."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import comfy.sd
import pytest
import torch
from PIL import Image

from devtools.environment import ROOT
from devtools.released_graphs import H3_AUDIO_VAE, H3_VAE
from devtools.released_workflows import FOLDER, RELEASED, Released, workflow_of
from devtools.saved_graphs import text_of
from devtools.workflows import Json, to_api_format
from kvshare_core.config import KVShareConfig
from kvshare_core.host.loading.model_files import DIFFUSERS
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from tests.support.family_cases import model_of
from tests.support.graph_runs import Loader, node_classes, node_definitions, refusals, run_workflow
from tests.support.node_calls import run_node
from tests.support.present import present
from tests.tiny.cogvideox import TEXT_WIDTH
from tests.tiny.encoders import tiny_encoder
from tests.tiny.ltx_vae import tiny_ltx_audio_vae, tiny_ltx_upsampler, tiny_ltx_vae
from tests.tiny.minimax_vaes import tiny_h3_audio_vae, tiny_h3_vae
from tests.tiny.models import JOINT_TEXT_WIDTH
from tests.tiny.unets import TEXT_WIDTHS
from tests.tiny.vaes import tiny_autoencoder, tiny_image_vae, tiny_wan_vae

SIDE, WINDOW = 64, 3
"""Height and width of the videos, and latent frames of a segment."""

LTX_FRAMES = 8 * (3 * WINDOW - 2 - 1) + 1
"""Frames of three segments of LTX that share a latent frame with each other."""

UPLOAD = "example.png"


def saved(workflow: Released) -> Json:
    return json.loads((FOLDER / f"{workflow.name}.json").read_text(encoding="utf-8"))


def api_workflow(workflow: Released) -> dict[str, Json]:
    """A workflow in API format; skips the test where the host lacks one of its nodes."""
    types = {node["type"] for node in saved(workflow)["nodes"]} - {"MarkdownNote"}
    missing = sorted(types - set(node_classes()))
    if missing:
        pytest.skip(f"this host has no {', '.join(missing)}")
    return to_api_format(saved(workflow), node_definitions())


def named(workflows: tuple[Released, ...] = RELEASED) -> Any:
    """The test for every workflow, under its name."""
    return pytest.mark.parametrize("workflow", workflows, ids=lambda workflow: workflow.name)


@named()
def test_the_committed_file_is_what_the_generator_writes(workflow: Released) -> None:
    file = FOLDER / f"{workflow.name}.json"
    assert file.read_text(encoding="utf-8") == text_of(workflow_of(workflow))
    assert file.stat().st_size < 40_000
    with Image.open(file.with_suffix(".jpg")) as picture:
        assert picture.size == (480, 270)


@named()
def test_nodes_stand_apart(workflow: Released) -> None:
    title = 30
    for one, other in combinations(saved(workflow)["nodes"], 2):
        (x, y), (width, height) = one["pos"], one["size"]
        (other_x, other_y), (other_width, other_height) = other["pos"], other["size"]
        beside = x + width < other_x or other_x + other_width < x
        assert beside or y + height < other_y - title or other_y + other_height < y - title


@named()
def test_sockets_are_those_of_the_host(workflow: Released) -> None:
    api_workflow(workflow)
    for node in saved(workflow)["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        kind = node_classes()[node["type"]]
        types = kind.INPUT_TYPES()
        known = {**types.get("required", {}), **types.get("optional", {})}
        for slot in node["inputs"]:
            assert slot["link"] is None or known[slot["name"]][0] == slot["type"]
        assert [slot["type"] for slot in node["outputs"]] == list(kind.RETURN_TYPES)[: len(node["outputs"])]
        assert not node["outputs"] or len(kind.RETURN_TYPES) == len(node["outputs"])


@named()
def test_the_host_would_queue_it_once_the_files_are_there(workflow: Released) -> None:
    TINY[workflow.name]()  # Skips the test where the host lacks the model.
    files = {file.name for file in workflow.files}
    api = api_workflow(workflow)
    not_there: set[str] = set()
    for reason in refusals(api):
        assert reason["type"] in ("value_not_in_list", "custom_validation_failed"), reason
        not_there.add(reason["extra_info"]["received_value"].removeprefix(DIFFUSERS))
    # Nothing but the files of the models, which are all in the note, and all of those.
    assert not_there - {UPLOAD} == files


@named()
def test_the_note_names_every_file_with_its_folder(workflow: Released) -> None:
    (note,) = [node for node in saved(workflow)["nodes"] if node["type"] == "MarkdownNote"]
    (text,) = note["widgets_values"]
    for file in workflow.files:
        assert f"| *{file.name}* | models/{file.folder} | " in text


@named()
def test_loaders_tell_where_their_files_are(workflow: Released) -> None:
    told = [model for node in saved(workflow)["nodes"] for model in node["properties"].get("models", [])]
    single = [file for file in workflow.files if file.single]
    assert {(model["name"], model["directory"], model["url"]) for model in told} == {
        (file.name, file.folder, file.url) for file in single
    }
    assert all(model["url"].endswith(f"/{model['name']}") for model in told)


@named()
def test_a_page_of_the_models_lists_it(workflow: Released) -> None:
    pages = (ROOT / "docs" / "models").glob("*.md")
    assert [page for page in pages if f"\n## Workflow: {workflow.name}\n" in page.read_text(encoding="utf-8")]


@named()
def test_every_prompt_names_the_subject(workflow: Released) -> None:
    planners = [node for node in api_workflow(workflow).values() if node["class_type"] == "LongVideoSegmenter"]
    sharers = [node for node in api_workflow(workflow).values() if node["class_type"] == "MaskGuidedKVShare"]
    assert len(planners) == 1 and sharers
    for sharer in sharers:
        subject = sharer["inputs"]["subject"]
        assert subject == workflow.subject
        for beat in parse_script(planners[0]["inputs"]["prompts"]).beats:
            assert subject in beat.prompt


LORA_LAYERS = ("diffusion_model.blocks.0.self_attn.q", "diffusion_model.transformer_blocks.0.attn1.to_q")
"""A square layer of each model that gets a LoRA."""


def low_rank(inputs: Json) -> tuple[Any, ...]:
    """The model with a small LoRA of one of its layers, in place of a file's."""
    names = set(inputs["model"].model.state_dict())
    layer = next(name for name in LORA_LAYERS if f"{name}.weight" in names)
    width = inputs["model"].get_model_object(f"{layer}.weight").shape[0]
    generator = torch.Generator().manual_seed(2)
    half = torch.randn(2, width, generator=generator) * 0.05
    lora = {f"{layer}.lora_down.weight": half, f"{layer}.lora_up.weight": half.T.contiguous()}
    model: Any = comfy.sd.load_lora_for_models(inputs["model"], None, lora, inputs["strength_model"], 0)[0]
    assert model.patches
    return (model,)


def picture(inputs: Json) -> tuple[Any, ...]:
    pixels = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))
    return pixels, torch.zeros(1, SIDE, SIDE)


COMMON: Mapping[str, Loader] = {
    "LoraLoaderModelOnly": low_rank,
    "LoadImage": picture,
    "SaveVideo": lambda inputs: (inputs["video"],),
    "SaveImage": lambda inputs: (inputs["images"],),
}


def wan(case: str, vae: Callable[[], Any]) -> Callable[[], Mapping[str, Loader]]:
    """Loaders for a layout of Wan."""

    def loaders() -> Mapping[str, Loader]:
        present(case)
        clip, decoder = tiny_encoder("wan", d_model=4096, vocab_size=512), vae()
        return {
            "UNETLoader": lambda inputs: (model_of(case),),
            "CLIPLoader": lambda inputs: (clip,),
            "VAELoader": lambda inputs: (decoder,),
        }

    return loaders


def hunyuan() -> Mapping[str, Loader]:
    present("hunyuan video 1.5")
    clip, decoder = tiny_encoder("hunyuan_video_15", hidden_size=JOINT_TEXT_WIDTH), tiny_autoencoder(32)
    return {
        "UNETLoader": lambda inputs: (model_of("hunyuan video 1.5"),),
        "DualCLIPLoader": lambda inputs: (clip,),
        "VAELoader": lambda inputs: (decoder,),
    }


def ltx() -> Mapping[str, Loader]:
    present("ltx-2.3")
    clip, decoder, ears, upsampler = tiny_encoder("ltxav"), tiny_ltx_vae(), tiny_ltx_audio_vae(), tiny_ltx_upsampler()
    return {
        "CheckpointLoaderSimple": lambda inputs: (model_of("ltx-2.3"), None, decoder),
        "LTXAVTextEncoderLoader": lambda inputs: (clip,),
        "LTXVAudioVAELoader": lambda inputs: (ears,),
        "LatentUpscaleModelLoader": lambda inputs: (upsampler,),
    }


def minimax_h3() -> Mapping[str, Loader]:
    present("minimax h3")
    clip, vaes = tiny_encoder("minimax"), {H3_VAE: tiny_h3_vae(), H3_AUDIO_VAE: tiny_h3_audio_vae()}
    return {
        "UNETLoader": lambda inputs: (model_of("minimax h3"),),
        "CLIPLoader": lambda inputs: (clip,),
        "VAELoader": lambda inputs: (vaes[inputs["vae_name"]],),
    }


def cogvideox() -> Mapping[str, Loader]:
    present("cogvideox learned positions")
    clip = tiny_encoder("cogvideox", d_model=TEXT_WIDTH)
    # Of the same layout as the model's own, whose size the host fixes.
    decoder = tiny_wan_vae()
    return {"LoadVideoDiT": lambda inputs: (model_of("cogvideox learned positions"), clip, decoder, "")}


def stable_diffusion() -> Mapping[str, Loader]:
    clip, decoder = tiny_encoder("clip_l", hidden_size=TEXT_WIDTHS["SD15"]), tiny_image_vae()
    return {"CheckpointLoaderSimple": lambda inputs: (model_of("sd 1.5 stills"), clip, decoder)}


TINY: dict[str, Callable[[], Mapping[str, Loader]]] = {
    "Wan 2.1 1.3B text to video": wan("wan t2v", tiny_wan_vae),
    "Wan 2.2 A14B text to video in 4 steps": wan("wan t2v", tiny_wan_vae),
    "Wan 2.2 A14B text to video": wan("wan t2v", tiny_wan_vae),
    "Wan 2.2 A14B image to video in 4 steps": wan("wan 2.2 i2v", tiny_wan_vae),
    "Wan 2.2 5B text to video": wan("wan ti2v 5b", lambda: tiny_autoencoder(48)),
    "LTX-2.3 text to video": ltx,
    "LTX-2.3 image to video": ltx,
    "HunyuanVideo 1.5 text to video": hunyuan,
    "MiniMax H3 text to video": minimax_h3,
    "MiniMax H3 image to video": minimax_h3,
    "CogVideoX-2B as in DiTCtrl": cogvideox,
    "Storyboard of stills": stable_diffusion,
}
"""What stands for the files of each workflow."""


AUDIO_DECODERS = ("LTXVAudioVAEDecode", "VAEDecodeAudio")


def shortened(api: Mapping[str, Json]) -> dict[str, Json]:
    """A workflow with a small video, otherwise at its own settings."""
    small = json.loads(json.dumps(api))
    # MiniMax H3 encodes 17 pictures in 5 latent frames.
    stills = any(node["class_type"] == "SaveImage" for node in small.values())
    whole_groups = any(node["inputs"].get("vae_name") == H3_VAE for node in small.values())
    for node in small.values():
        if node["class_type"] == "LongVideoSegmenter":
            window, overlap = (7, 2) if whole_groups else (WINDOW, 1)
            node["inputs"] |= {"width": SIDE, "height": SIDE}
            if not stills:
                node["inputs"] |= {"sampling_num_frames": window, "overlap_size": overlap}
        if node["class_type"] == "KSampler":
            # DiTCtrl shares until step 25.
            node["inputs"]["steps"] = min(node["inputs"]["steps"], 27)
        if node["class_type"] == "DiTCtrlConfig":
            # The last of the tiny model's blocks.
            node["inputs"] |= {"start_layer": 2, "end_layer": 3}
        if node["class_type"] == "LTXVEmptyLatentAudio":
            node["inputs"]["frames_number"] = LTX_FRAMES
    return small


def without_sharing(inputs: Json) -> tuple[Any, ...]:
    off = replace(inputs.get("config", KVShareConfig()), mode="off")
    return run_node("MaskGuidedKVShare", **{**inputs, "config": off})


@named(tuple(workflow for workflow in RELEASED if "ltx" in workflow.name))
def test_the_audio_is_planned_as_long_as_the_video(workflow: Released) -> None:
    api = api_workflow(workflow)
    (planner,) = (node["inputs"] for node in api.values() if node["class_type"] == "LongVideoSegmenter")
    (silence,) = (node["inputs"] for node in api.values() if node["class_type"] == "LTXVEmptyLatentAudio")
    _, info = model_info(TINY[workflow.name]()["CheckpointLoaderSimple"]({})[0])
    script = parse_script(planner["prompts"])
    plan = plan_timeline(script, info.native_frames, planner["overlap_size"], planner["fps"], info.compression[0])
    assert (silence["frames_number"], silence["frame_rate"]) == (plan.frames, plan.fps)


@named(tuple(workflow for workflow in RELEASED if "i2v" in workflow.name))
def test_the_start_image_is_in_the_video(workflow: Released) -> None:
    api, loaders = shortened(api_workflow(workflow)), TINY[workflow.name]()

    def made(image: Loader) -> torch.Tensor:
        swapped = {**COMMON, **loaders, "LoadImage": image}
        (video,) = outputs_of("SaveVideo", api, run_workflow(api, swapped))
        return video[0].get_components().images

    assert not torch.equal(made(picture), made(lambda inputs: (torch.ones(1, SIDE, SIDE, 3), None)))


@named()
def test_it_makes_the_video_that_it_plans_and_shares(workflow: Released, caplog: pytest.LogCaptureFixture) -> None:
    api = shortened(api_workflow(workflow))
    loaders = {**COMMON, **TINY[workflow.name]()}
    done = run_workflow(api, loaders)
    (plan,) = outputs_of("LongVideoSegmenter", api, done)
    images = pictures_of(api, done)
    assert len(plan[0].beats) == (4 if workflow.stills else 3)
    side = 2 * SIDE if outputs_of("LTXVLatentUpsampler", api, done) else SIDE
    assert images.shape == (plan[0].frames, side, side, 3)
    assert torch.isfinite(images).all() and images.std() > 0
    # A warning would say that sharing ended.
    assert not [line for line in caplog.records if line.name == "kvshare" and line.levelno >= logging.WARNING]
    for (video,) in outputs_of("SaveVideo", api, done):
        assert float(video.get_components().frame_rate) == pytest.approx(plan[0].fps)
    sound = next((video.get_components().audio for (video,) in outputs_of("SaveVideo", api, done)), None)
    assert (sound is not None) == any(node["class_type"] in AUDIO_DECODERS for node in api.values())
    if sound is not None:
        seconds = sound["waveform"].shape[-1] / sound["sample_rate"]
        assert torch.isfinite(sound["waveform"]).all() and seconds == pytest.approx(
            plan[0].frames / plan[0].fps, abs=0.1
        )
    for sharing in outputs_of("MaskGuidedKVShare", api, done):
        assert sharing[1].latest() is not None
    apart = pictures_of(api, run_workflow(api, {**loaders, "MaskGuidedKVShare": without_sharing}))
    assert not torch.equal(images, apart)
    if workflow.stills:
        assert torch.equal(images[0], apart[0])


def pictures_of(api: Mapping[str, Json], done: Mapping[str, tuple[Any, ...]]) -> torch.Tensor:
    """What a workflow saves, as a video or as pictures."""
    for (video,) in outputs_of("SaveVideo", api, done):
        return video.get_components().images
    ((images,),) = outputs_of("SaveImage", api, done)
    return images


def outputs_of(kind: str, api: Mapping[str, Json], done: Mapping[str, tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What the nodes of a type gave."""
    return [done[name] for name, node in api.items() if node["class_type"] == kind]
