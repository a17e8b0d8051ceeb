"""Workflows as the browser saves them are converted to /prompt's format by the schemas of a real server."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devtools.client import object_info
from devtools.server import Server
from devtools.workflows import ConversionError, Json, to_api_format, widget_slots


@pytest.fixture(scope="module")
def info(server: Server) -> Json:
    return object_info(server.url)


def node(id: int, type: str, values: Any, links: dict[str, int | None] | None = None, mode: int = 0) -> Json:
    slots = [{"name": name, "link": link} for name, link in (links or {}).items()]
    return {"id": id, "type": type, "mode": mode, "inputs": slots, "widgets_values": values}


def text_to_image() -> Json:
    """A text-to-image workflow with a note, a reroute, an uploaded image and a linked widget."""
    sampler = {"model": 1, "positive": 3, "negative": 4, "latent_image": 5, "steps": 9}
    return {
        "version": 0.4,
        "nodes": [
            node(4, "CheckpointLoaderSimple", ["model.safetensors"]),
            node(6, "CLIPTextEncode", ["a red ball"], {"clip": 2}),
            node(7, "CLIPTextEncode", [""], {"clip": 2}),
            node(5, "EmptyLatentImage", [512, 256, 1]),
            node(3, "KSampler", [42, "randomize", 20, 8.0, "euler", "normal", 1.0], sampler),
            node(10, "Reroute", None, {"": 6}),
            node(8, "VAEDecode", [], {"samples": 7, "vae": 8}),
            node(9, "SaveImage", ["out"], {"images": 10}),
            node(11, "Note", ["read me"]),
            node(12, "PrimitiveInt", [30, "fixed"]),
            node(13, "LoadImage", ["example.png", "image"]),
            node(14, "PreviewImage", None, {"images": 11}),
        ],
        "links": [
            [1, 4, 0, 3, 0, "MODEL"],
            [2, 4, 1, 6, 0, "CLIP"],
            [3, 6, 0, 3, 1, "CONDITIONING"],
            [4, 7, 0, 3, 2, "CONDITIONING"],
            [5, 5, 0, 3, 3, "LATENT"],
            [6, 4, 2, 10, 0, "VAE"],
            [7, 3, 0, 8, 0, "LATENT"],
            [8, 10, 0, 8, 1, "VAE"],
            [9, 12, 0, 3, 4, "INT"],
            [10, 8, 0, 9, 0, "IMAGE"],
            [11, 13, 0, 14, 0, "IMAGE"],
        ],
    }


def test_golden(info: Json) -> None:
    expected = {
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "model.safetensors"}),
        "6": ("CLIPTextEncode", {"text": "a red ball", "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": "", "clip": ["4", 1]}),
        "5": ("EmptyLatentImage", {"width": 512, "height": 256, "batch_size": 1}),
        "3": (
            "KSampler",
            {
                "seed": 42,
                "steps": ["12", 0],
                "cfg": 8.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        ),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"filename_prefix": "out", "images": ["8", 0]}),
        "12": ("PrimitiveInt", {"value": 30}),
        "13": ("LoadImage", {"image": "example.png"}),
        "14": ("PreviewImage", {"images": ["13", 0]}),
    }
    prompt = to_api_format(text_to_image(), info)
    assert {id: (entry["class_type"], entry["inputs"]) for id, entry in prompt.items()} == expected


def test_seed_and_controlled_integer_have_a_helper_widget(info: Json) -> None:
    assert widget_slots(info["KSampler"])[:3] == ["seed", None, "steps"]
    assert widget_slots(info["KSamplerAdvanced"])[1:3] == ["noise_seed", None]
    assert widget_slots(info["PrimitiveInt"]) == ["value", None]


def test_every_node_of_the_host_has_slots(info: Json) -> None:
    for schema in info.values():
        names = [name for name in widget_slots(schema) if name is not None]
        assert len(set(names)) == len(names)


def test_list_value_is_told_from_a_link() -> None:
    info = {"Lists": {"input": {"required": {"values": ["COMBO", {"options": ["a", "b"]}]}}}}
    prompt = to_api_format({"nodes": [node(1, "Lists", [["a", "b"]])], "links": []}, info)
    assert prompt["1"]["inputs"] == {"values": {"__value__": ["a", "b"]}}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (node(1, "NoSuchNode", []), r"node 1 \(NoSuchNode\) is of a type that this ComfyUI lacks"),
        (node(1, "EmptyLatentImage", [8, 8, 1], mode=4), r"node 1 \(EmptyLatentImage\) is muted or bypassed"),
        (node(1, "EmptyLatentImage", [8, 8, 1, 5]), r"node 1 \(EmptyLatentImage\) has 4 widget values, .* take 3"),
        (node(1, "VAEDecode", [], {"vae": 99}), r"node 1 \(VAEDecode\) has an input whose link 99 leads nowhere"),
    ],
)
def test_what_does_not_fit_is_an_error(info: Json, bad: Json, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_api_format({"nodes": [bad], "links": []}, info)


LATENT_NODES = {
    "LatentFlip": ("samples",),
    "LatentUpscale": ("samples",),
    "LatentBatch": ("samples1", "samples2"),
    "KSampler": ("latent_image",),
}
# In the order of the browser's widgets, which is that of the host's node classes.
WIDGETS = {
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "LatentFlip": ("flip_method",),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentBatch": (),
    "KSampler": ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
}
VALUES = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans())


@st.composite
def prompts(draw: st.DrawFn) -> dict[str, Json]:
    """Prompts in API format: a source, then nodes that take latents of earlier ones."""
    kinds = ["EmptyLatentImage", *draw(st.lists(st.sampled_from(sorted(LATENT_NODES)), max_size=5))]
    prompt: dict[str, Json] = {}
    for index, kind in enumerate(kinds):
        inputs: Json = {name: draw(VALUES) for name in WIDGETS[kind]}
        for name in LATENT_NODES.get(kind, ()):
            inputs[name] = [str(draw(st.integers(0, index - 1))), 0]
        prompt[str(index)] = {"class_type": kind, "inputs": inputs}
    return prompt


def as_saved(prompt: dict[str, Json], reroute: bool, objects: bool, control: str) -> Json:
    """`prompt` as the browser would save it, optionally with every link through a reroute or with links as objects."""
    nodes: list[Json] = []
    links: list[list[Any]] = []

    def link(origin: int, slot: int) -> int:
        links.append([len(links) + 1, origin, slot, 0, 0, "LATENT"])
        return len(links)

    for id, entry in prompt.items():
        slots: dict[str, int | None] = {"model": None}
        values: list[Any] = []
        for name, value in entry["inputs"].items():
            if name in WIDGETS[entry["class_type"]]:
                values += [value, control] if name == "seed" else [value]
                continue
            origin, slot = int(value[0]), value[1]
            if reroute:
                via = 1000 + len(nodes) + len(links)
                nodes.append(node(via, "Reroute", None, {"": link(origin, slot)}))
                origin, slot = via, 0
            slots[name] = link(origin, slot)
        nodes.append(node(int(id), entry["class_type"], values, slots))
    named = [{"id": link[0], "origin_id": link[1], "origin_slot": link[2]} for link in links]
    return {"nodes": nodes, "links": named if objects else links}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(prompts(), st.booleans(), st.booleans(), st.sampled_from(["fixed", "randomize", "increment"]))
def test_conversion_undoes_saving(
    info: Json, prompt: dict[str, Json], reroute: bool, objects: bool, control: str
) -> None:
    assert to_api_format(as_saved(prompt, reroute, objects, control), info) == prompt


def test_a_dynamic_combo_takes_the_inputs_of_its_choice() -> None:
    codec = ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "auto", "inputs": {}}, {"key": "h264", "inputs": {}}]}]
    container = [
        "COMFY_DYNAMICCOMBO_V3",
        {"options": [{"key": "auto", "inputs": {}}, {"key": "mp4", "inputs": {"required": {"codec": codec}}}]},
    ]
    required = {"prefix": ["STRING", {}], "format": container, "codec": ["COMBO", {"hidden": True}], "fps": ["INT", {}]}
    info = {"input": {"required": required}}
    assert widget_slots(info, ["a", "mp4", "h264", 8]) == ["prefix", "format", "format.codec", "fps"]
    assert widget_slots(info, ["a", "auto", 8]) == ["prefix", "format", "fps"]


def test_an_input_of_several_types_has_the_widget_of_one(info: Json) -> None:
    required = {"rate": ["FLOAT,INT", {"widgetType": "FLOAT"}], "any": ["IMAGE,MASK", {}], "seed": ["INT", {}]}
    assert widget_slots({"input": {"required": required}}) == ["rate", "seed", None]
    if "LTXVEmptyLatentAudio" in info:
        assert widget_slots(info["LTXVEmptyLatentAudio"]) == ["frames_number", "frame_rate", "batch_size"]
