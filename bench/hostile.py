"""What bench.fuzz tries: for each way in from outside, values that are nearly right or far from it, and how they come.

Import it in a host that runs.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import folder_paths
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kvshare_core.config import KVShareConfig
from kvshare_core.host.files import preset_files, run_files
from kvshare_core.host.loading.model_headers import model_facts
from kvshare_core.record.record import KVShareRecord, RecordedMasks
from kvshare_core.script.editor_places import read_film
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from tests.support.node_calls import NODES, run_node
from tests.support.random_scripts import TOKENS
from tests.support.windows import tiny_timeline
from tests.tiny.models import CHANNELS

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "host" / "files" / "golden"


@dataclass(frozen=True)
class Kind:
    """One way in."""

    name: str
    values: SearchStrategy[Any]
    attempt: Callable[[Any], None]
    """Lets a value in; errors are what the user would read."""
    named: str
    """A pattern that every clear error matches: what it names."""
    every: int = 1
    """One value of this kind is tried for so many scripts."""


# Scripts.

NUMBERS = st.sampled_from(
    [0, 1, -1, 0.0, -0.0, 0.5, 1.5, 3600, 1e9, 1e308, 5e-324, -1e308, 2**31, 2**63, 10**40, float("nan"), float("inf")]
)
LETTERS = st.characters() | st.sampled_from(["\u0301", "\u200d", "\ufeff", "\u202e", "\ud83d", "\udd8a", "\0", "\x1b"])
LINES = st.sampled_from(
    [
        "[3s] a fox runs",
        "[48f] a fox sleeps | seed: 3",
        "[cut]",
        "[blend 4f]",
        "[route 1s, gap 2s]",
        "[segments 3]",
        "subject: fox = red fox from first",
        "negative: blurry until 40%",
        "common: a film",
        "loop: yes",
        "lora: x.safetensors 0.5",
        "strength: 0.5",
        "\\n\\| \\[",
    ]
)
PIECES = LINES | st.sampled_from(TOKENS) | st.text(LETTERS, max_size=6) | st.just("\n") | NUMBERS.map(str)
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.lists(LINES | st.text(LETTERS), max_size=12).map("\n".join)
LARGE_TEXTS = st.builds(
    lambda piece, count, end: piece * count + end, PIECES.filter(bool), st.sampled_from([1000, 20_000]), PIECES
)

NAMES = st.sampled_from(
    "version beats prompt duration value unit transition kind segments gap negative subject subjects name words from "
    "sources strength lora loras file seed loop common until".split()
)
LEAVES = st.none() | st.booleans() | NUMBERS | LINES | NAMES | st.text(LETTERS, max_size=8) | st.sampled_from(["3s", 3])


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.lists(inner, max_size=5) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=6)


VALUES = st.recursive(LEAVES, _containers, max_leaves=25)
BEATS = st.fixed_dictionaries(
    {"prompt": st.just("a fox") | LEAVES},
    optional={
        name: VALUES for name in ("duration", "transition", "negative", "subject", "strength", "lora", "seed", "source")
    },
)
FINE_BEATS = st.fixed_dictionaries(
    {"prompt": st.just("a fox runs")},
    optional={
        "duration": st.sampled_from(["3s", "48f", 2, 2.5]) | NUMBERS,
        "transition": st.sampled_from(["cut", "blend 4f", "segments 2"]),
        "negative": st.text(LETTERS, max_size=4),
        "strength": st.floats(0, 1) | NUMBERS,
        "seed": NUMBERS,
    },
)
FILMS = st.fixed_dictionaries(
    {"version": st.just(1), "beats": st.lists(FINE_BEATS, min_size=1, max_size=5)}
) | st.fixed_dictionaries(
    {"beats": st.lists(BEATS, max_size=4) | VALUES}, optional={name: VALUES for name in ("version", "loop", "negative")}
)
JSON_TEXTS = st.builds(
    lambda value, plain, cut: json.dumps(value, ensure_ascii=plain)[:cut],
    FILMS | st.dictionaries(NAMES, VALUES, max_size=6),
    st.booleans(),
    st.none() | st.none() | st.none() | st.integers(0, 80),
) | st.sampled_from(['{"beats": ' + "[" * 5000, '{"a":' * 5000, '{"beats": [' + '"a",' * 20_000 + '"a"]}'])


def read_script(text: str) -> None:
    """A script in the node and in the editor, and its plan."""
    script = parse_script(text)
    json.dumps(read_film(text)[1], allow_nan=False)
    plan_timeline(script, 21, 2, 16.0, 4)


# Widgets.

ODD_VALUES = (
    NUMBERS
    | st.text(LETTERS, max_size=12)
    | st.sampled_from(
        [
            "0-999999999",
            "1,2,,3",
            "5-2",
            "-1",
            "0.5, 0.5, 1",
            "nan, nan, 0",
            "1e400",
            "fox and fox",
            " ",
            "99999999999999",
        ]
    )
)
SETTINGS = ("KVShareConfig", "KVShareMaskSettings", "KVShareMemorySettings", "DiTCtrlConfig")


def _fitting(widget: Any) -> SearchStrategy[Any]:
    """Values that the host lets pass: it checks kinds, ranges and choices before a node runs."""
    kind = widget.get_io_type()
    if kind == "COMBO":
        return st.sampled_from(list(widget.options))
    if kind == "BOOLEAN":
        return st.booleans()
    if kind == "INT":
        return st.integers(widget.min, widget.max) | st.sampled_from([widget.min, widget.max])
    if kind == "FLOAT":
        return st.floats(widget.min, widget.max) | st.sampled_from([widget.min, widget.max])
    return ODD_VALUES.map(str)


def _settings(name: str) -> SearchStrategy[tuple[str, dict[str, Any]]]:
    widgets = [widget for widget in NODES[name].GET_SCHEMA().inputs if hasattr(widget, "default")]
    given = {widget.id: _fitting(widget) for widget in widgets if widget.id != "config"}
    return st.tuples(st.just(name), st.fixed_dictionaries(given))


def set_widgets(value: tuple[str, dict[str, Any]]) -> None:
    """A node of settings with values of its widgets."""
    name, given = value
    takes_config = any(widget.id == "config" for widget in NODES[name].GET_SCHEMA().inputs)
    run_node(name, **given, **({"config": KVShareConfig()} if takes_config else {}))


# Tensors.

DTYPES = st.sampled_from(
    [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64]
)


@cache
def _timeline() -> Any:
    return tiny_timeline(2)


@cache
def _record() -> KVShareRecord:
    timeline, record = _timeline(), KVShareRecord()
    heat = torch.rand(1, timeline.latent_frames, 3, 3)
    record.put(RecordedMasks(timeline, heat, (heat > 0.5).float()), None)
    return record


def _made(shape: list[int], dtype: torch.dtype, device: str, fill: float) -> torch.Tensor:
    tensor = torch.zeros(shape, device=device)
    return (tensor + fill).to(dtype)


def _right_shapes() -> SearchStrategy[list[int]]:
    frames = tiny_timeline(2).latent_frames
    latent, images = [1, CHANNELS, frames, 6, 6], [tiny_timeline(2).frames, 24, 24, 3]
    return st.sampled_from([latent, images, images[:3], [1, 24, 24]])


def _nearly(shape: list[int]) -> SearchStrategy[list[int]]:
    """The shape with one side changed, one more or one fewer."""
    places = st.integers(0, len(shape) - 1)
    changed = st.builds(
        lambda place, size: [*shape[:place], size, *shape[place + 1 :]], places, st.sampled_from([0, 1, 2, 3, 4, 7])
    )
    return changed | st.just(shape[1:]) | st.just([1, *shape]) | st.just([]) | st.just(shape)


TENSORS = st.builds(
    _made,
    _right_shapes().flatmap(_nearly),
    st.just(torch.float32) | DTYPES,
    st.sampled_from(["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]),
    st.sampled_from([0.0, 0.5, 1.0, -5.0, 1e30, float("nan"), float("inf")]),
)
TENSOR_PLACES = st.sampled_from(
    ["save", "save mask", "redo", "continue", "existing", "mask", "preview", "preview point", "decode loop"]
)


def give_tensor(value: tuple[str, torch.Tensor]) -> None:
    """A tensor at an input of one of the nodes."""
    place, tensor = value
    timeline = _timeline()
    fitting = torch.zeros(1, CHANNELS, timeline.latent_frames, 6, 6)
    latent: dict[str, Any] = {"samples": tensor}
    hold = {"timeline": timeline, "hold": "start", "beat": 1, "soft_frames": 0}
    calls: dict[str, Callable[[], Any]] = {
        "save": lambda: run_node("LongVideoSave", timeline=timeline, latent=latent, filename_prefix="fuzz"),
        "save mask": lambda: run_node(
            "LongVideoSave",
            timeline=timeline,
            latent={"samples": fitting, "noise_mask": tensor},
            filename_prefix="fuzz",
        ),
        "redo": lambda: run_node("LongVideoRedoBeat", timeline=timeline, latent=latent, beat=1),
        "continue": lambda: run_node(
            "LongVideoContinue", **hold, latent=latent, existing={"samples": fitting[:, :, :2]}
        ),
        "existing": lambda: run_node("LongVideoContinue", **hold, latent={"samples": fitting}, existing=latent),
        "mask": lambda: run_node(
            "MaskGuidedKVShare", model=_model(), timeline=timeline, subject="", config=KVShareConfig(), mask=tensor
        ),
        "preview": lambda: run_node("AttentionMaskPreview", record=_record(), images=tensor, opacity=0.5),
        "preview point": lambda: run_node(
            "AttentionMaskPreview", record=_record(), images=tensor, opacity=0.5, show="look_at"
        ),
        "decode loop": lambda: run_node(
            "LongVideoDecodeLoop",
            samples=latent,
            vae=_vae(),
            tile_size=0,
            overlap=64,
            temporal_size=64,
            temporal_overlap=8,
        ),
    }
    calls[place]()


@cache
def _model() -> Any:
    from kvshare_core.embedded.model import load_embedded

    return load_embedded("cross-attention").model


@cache
def _vae() -> Any:
    from kvshare_core.embedded.model import load_vae

    return load_vae()


# Files.


def _spoiled(content: bytes, places: list[tuple[int, int]], cut: int | None) -> bytes:
    changed = bytearray(content)
    for place, byte in places:
        changed[place % len(changed)] = byte
    return bytes(changed[:cut])


def _header(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text


OFFSETS = st.lists(st.integers(-1, 64) | st.just(2**63), min_size=1, max_size=3)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "F8_E4M3", "X", "", 3, None]),
        "shape": st.lists(st.sampled_from([0, 1, 2, -1, 2**40, 2**63, 1.5, "1"]), max_size=4) | LEAVES,
        "data_offsets": OFFSETS | LEAVES,
    }
)
DEEP = '{"samples": ' + "[" * 50_000


@cache
def _golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


RUN, PRESET = "run_unversioned.kvshare.safetensors", "preset_unversioned.kvshare.json"


@cache
def _golden_run() -> tuple[Any, bytes]:
    content = _golden(RUN)
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_document(change: Callable[[Any], Any]) -> bytes:
    header, data = _golden_run()
    key = run_files.CONTENT
    document = json.loads(header["__metadata__"][key])
    metadata = {**header["__metadata__"], key: json.dumps(change(document))}
    return _header({**header, "__metadata__": metadata}) + data


def _replaced(document: Any, choices: list[int], value: Any) -> Any:
    """A document with one of its values, found by following `choices`, replaced."""
    if not choices or not isinstance(document, (dict, list)) or not document:
        return value
    keys: list[Any] = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[choices[0] % len(keys)]
    changed = document.copy()
    changed[key] = _replaced(document[key], choices[1:], value)
    return changed


CHOICES = st.lists(st.integers(0, 12), min_size=1, max_size=7)
RUN_BYTES = (
    st.builds(
        lambda places, cut: _spoiled(_golden(RUN), places, cut),
        st.lists(st.tuples(st.integers(0, 10**6) | st.integers(0, 4000), st.integers(0, 255)), max_size=4),
        st.none() | st.integers(0, 5000),
    )
    | st.builds(
        lambda choices, value: _with_document(lambda document: _replaced(document, choices, value)), CHOICES, VALUES
    )
    | st.dictionaries(st.sampled_from(["samples.0", "__metadata__", "x"]), ENTRIES | VALUES, max_size=3).map(_header)
    | st.binary(max_size=64)
    | st.sampled_from(
        [b"\xff" * 8, struct.pack("<Q", 2**40) + b"{}", _header({"__metadata__": {"kvshare_long_video": DEEP}})]
    )
)
PRESET_BYTES = (
    st.builds(
        lambda choices, value: json.dumps(_replaced(json.loads(_golden(PRESET)), choices, value)).encode(),
        CHOICES,
        VALUES,
    )
    | st.builds(
        lambda places, cut: _spoiled(_golden(PRESET), places, cut),
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4),
        st.none() | st.integers(0, 2000),
    )
    | VALUES.map(lambda value: json.dumps({"kvshare_preset": value}).encode())
    | st.sampled_from([DEEP.encode(), b"[" * 100_000, b"", b"\xff\xfe", b" " * (32 << 20)])
)


def load_run(content: bytes) -> None:
    """A saved run, and what the nodes do with it that take one."""
    (Path(folder_paths.get_input_directory()) / f"fuzz{run_files.SUFFIX}").write_bytes(content)
    model_facts((str(Path(folder_paths.get_input_directory(), f"fuzz{run_files.SUFFIX}")),))
    timeline, latent, record = run_node("LongVideoLoad", file=f"fuzz{run_files.SUFFIX}")
    timeline.describe()
    run_node("LongVideoRedoBeat", timeline=timeline, latent=latent, beat=1)
    run_node("LongVideoSave", timeline=timeline, latent=latent, filename_prefix="fuzz", record=record)
    if record.latest() is not None:
        images = torch.zeros(timeline.frames, 8, 8, 3)
        run_node("AttentionMaskPreview", record=record, images=images, opacity=0.5)


def load_preset(content: bytes) -> None:
    """A measured preset."""
    (Path(folder_paths.get_input_directory()) / f"fuzz{preset_files.SUFFIX}").write_bytes(content)
    run_node("KVShareLoadPreset", config=KVShareConfig(), file=f"fuzz{preset_files.SUFFIX}")


# The route.

FILM_INPUTS = st.fixed_dictionaries(
    {"prompts": TEXTS | LEAVES},
    optional={
        name: NUMBERS | LEAVES | st.just(["9", 0])
        for name in (
            "width",
            "height",
            "fps",
            "sampling_num_frames",
            "overlap_size",
            "batch_size",
            "num_transition_blocks",
            "longer_mid_segment",
        )
    },
)
INPUTS = st.dictionaries(
    st.sampled_from("model timeline config subject steps cfg mode strength step_idx diffusion_model".split()),
    LEAVES | st.sampled_from([["1", 0], ["2", 0], ["3", 0], ["4", 0]]),
    max_size=5,
)
CLASSES = st.sampled_from(
    "MaskGuidedKVShare KVShareConfig KVShareMaskSettings KVShareMemorySettings DiTCtrlConfig KSampler LoadVideoDiT "
    "Reroute PrimitiveNode".split()
)
OTHERS = st.dictionaries(
    st.sampled_from("2 3 4 9".split()), st.fixed_dictionaries({"class_type": CLASSES, "inputs": INPUTS}), max_size=4
)
REQUESTS = (
    (
        st.builds(
            lambda inputs, others: {
                "node": "1",
                "graph": {"1": {"class_type": "LongVideoSegmenter", "inputs": inputs}, **others},
            },
            FILM_INPUTS,
            OTHERS,
        )
        | VALUES
        | st.fixed_dictionaries({"node": VALUES, "graph": VALUES})
    ).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | st.just(b"[" * 100_000)
)


def ask_route(body: bytes) -> None:
    """A request of the editor, as its route answers it."""
    from kv_share.nodes.plan_answer import answer_for

    json.dumps(answer_for(body, lambda: None), allow_nan=False)


IN_A_SCRIPT = r"line \d|column|prompt|beat|script|subject|seconds|frames|JSON|loop|common|version"
KINDS: tuple[Kind, ...] = (
    Kind("scripts as text", TEXTS, read_script, IN_A_SCRIPT),
    Kind("scripts as JSON", JSON_TEXTS, read_script, IN_A_SCRIPT, every=2),
    Kind("large scripts", LARGE_TEXTS, read_script, IN_A_SCRIPT, every=500),
    Kind("widgets", st.sampled_from(SETTINGS).flatmap(_settings), set_widgets, r"^[\w() -]+: \w+", every=10),
    Kind("tensors", st.tuples(TENSOR_PLACES, TENSORS), give_tensor, r"^[\w() -]+: \w+", every=20),
    Kind("saved runs", RUN_BYTES, load_run, r"^[\w() -]+: \w+", every=20),
    Kind("presets", PRESET_BYTES, load_preset, r"^[\w() -]+: file", every=20),
    Kind("requests of the editor", REQUESTS, ask_route, r"\w{3}", every=10),
)
