"""Workflows for released models, at the settings of ComfyUI's own templates: `python3 -m devtools.released_workflows`
writes them to example_workflows/, and `--thumbnails` their pictures, which needs Pillow.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import ROOT
from .saved_graphs import Json, Node, saved, text_of

FOLDER = ROOT / "example_workflows"

NEGATIVE = "blurry, low quality, jpeg artifacts, still picture, subtitles, watermark, deformed hands"

FOX = "\n".join(
    (
        "a red fox runs through deep snow in a pine forest, side view, morning light",
        "a red fox crosses a wooden bridge over a river, side view, soft fog",
        "a red fox rests on a rock by the sea, waves behind it, evening light",
    )
)
WAN_2_1, WAN_2_2 = "Comfy-Org/Wan_2.1_ComfyUI_repackaged", "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"


@dataclass(frozen=True)
class ModelFile:
    """A file that a workflow needs: its name, its folder below models/, and the repository on Hugging Face."""

    name: str
    folder: str
    repository: str


@dataclass(frozen=True)
class Released:
    """A workflow for a released model. subject: the words that name it in every prompt."""

    name: str
    title: str
    files: Sequence[ModelFile]
    remarks: Sequence[str]
    graph: Callable[[], list[Node]]
    subject: str = "fox"


UMT5 = ModelFile("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders", WAN_2_1)
WAN_VAE = ModelFile("wan_2.1_vae.safetensors", "vae", WAN_2_1)
WAN_LOADERS = [
    Node("clip", "CLIPLoader", 1, [UMT5.name, "wan", "default"]),
    Node("vae", "VAELoader", 1, [WAN_VAE.name]),
]


def plan(size: tuple[int, int], fps: float, *, model: str = "unet", negative: str = NEGATIVE, overlap: int = 2) -> Node:
    """The segmenter, with three prompts of one trained length each."""
    values = [FOX, negative, *size, fps, 0, overlap, 1, 0, 0, "linear", "plain"]
    return Node("plan", "LongVideoSegmenter", 2, values, {"model": model, "clip": "clip"})


def share(key: str, model: str, column: int) -> Node:
    """Sharing on a model that comes from `model`."""
    return Node(key, "MaskGuidedKVShare", column, ["fox", ""], {"model": model, "timeline": "plan"})


def video(name: str, fps: float, samples: str, column: int, audio: str = "") -> list[Node]:
    """Decodes and saves the latent of `samples`."""
    sound = {"audio": audio} if audio else {}
    return [
        Node("pictures", "VAEDecode", column, [], {"samples": samples, "vae": "vae"}),
        Node("video", "CreateVideo", column, [fps], {"images": "pictures", **sound}),
        Node("save", "SaveVideo", column + 1, [f"kvshare/{name}", "mp4", "h264"], {"video": "video"}),
    ]


def wan_simple(name: str, unet: str, vae: str, size: tuple[int, int], fps: float, steps: int, cfg: float) -> list[Node]:
    """One model, shift 8, one sampler."""
    sampler = {
        "model": "share",
        "positive": "plan.positive",
        "negative": "plan.negative",
        "latent_image": "plan.latent",
    }
    return [
        Node("unet", "UNETLoader", 1, [unet, "default"]),
        Node("clip", "CLIPLoader", 1, [UMT5.name, "wan", "default"]),
        Node("vae", "VAELoader", 1, [vae]),
        plan(size, fps),
        Node("shift", "ModelSamplingSD3", 3, [8.0], {"model": "unet"}),
        share("share", "shift", 3),
        Node("sampler", "KSampler", 3, [42, "fixed", steps, cfg, "uni_pc", "simple", 1.0], sampler),
        *video(name, fps, "sampler", 4),
    ]


def wan_experts(name: str, kind: str, lora: str | None, start_image: bool = False) -> list[Node]:
    """The two models of Wan 2.2 A14B, each with its own sharing; the first half of the steps is the high-noise one's.

    lora: version of the LoRA for four steps, None for twenty steps without one.
    """
    steps, cfg = (20, 3.5) if lora is None else (4, 1.0)
    nodes: list[Node] = []
    for expert in ("high", "low"):
        file = f"wan2.2_{kind}_{expert}_noise_14B_fp8_scaled.safetensors"
        nodes.append(Node(expert, "UNETLoader", 1, [file, "default"]))
        if lora is not None:
            file = f"wan2.2_{kind}_lightx2v_4steps_lora_{lora}_{expert}_noise.safetensors"
            nodes.append(Node(f"{expert}_lora", "LoraLoaderModelOnly", 1, [file, 1.0], {"model": expert}))
    nodes += [*WAN_LOADERS, plan((640, 640), 16.0, model="high", negative=NEGATIVE if cfg > 1 else "")]
    conditioning = "plan"
    if start_image:
        nodes.append(Node("picture", "LoadImage", 1, ["example.png", "image"], title="Load Image: start of prompt 1"))
        links = {"model": "high", "vae": "vae", "timeline": "plan", "start_image": "picture"}
        links |= {name: f"plan.{name}" for name in ("positive", "negative", "latent")}
        nodes.append(Node("start", "LongVideoBeatImages", 3, [1, 0.5, 1.0], links))
        conditioning = "start"
    latent = f"{conditioning}.latent"
    for expert, noise, span, leftover in (
        ("high", "enable", (0, steps // 2), "enable"),
        ("low", "disable", (steps // 2, 10000), "disable"),
    ):
        origin = expert if lora is None else f"{expert}_lora"
        nodes.append(Node(f"{expert}_shift", "ModelSamplingSD3", 4, [5.0], {"model": origin}, f"Shift, {expert} noise"))
        nodes.append(share(f"{expert}_share", f"{expert}_shift", 4))
        values = [noise, 42, "fixed", steps, cfg, "euler", "simple", *span, leftover]
        sampler = {"model": f"{expert}_share", "latent_image": latent}
        sampler |= {name: f"{conditioning}.{name}" for name in ("positive", "negative")}
        nodes.append(Node(f"{expert}_sampler", "KSamplerAdvanced", 5, values, sampler, f"Sampler, {expert} noise"))
        latent = f"{expert}_sampler"
    return [*nodes, *video(name, 16.0, latent, 6)]


def expert_files(kind: str, lora: str | None) -> list[ModelFile]:
    """Files of Wan 2.2 A14B."""
    experts = ("high", "low")
    models = [f"wan2.2_{kind}_{expert}_noise_14B_fp8_scaled.safetensors" for expert in experts]
    loras = [f"wan2.2_{kind}_lightx2v_4steps_lora_{lora}_{expert}_noise.safetensors" for expert in experts]
    return [
        *(ModelFile(file, "diffusion_models", WAN_2_2) for file in models),
        *(ModelFile(file, "loras", WAN_2_2) for file in loras if lora is not None),
        UMT5,
        WAN_VAE,
    ]


EXPERTS = (
    "The model has two experts, one for high and one for low noise. Both have a *Mask-Guided KV Share* of the same "
    "timeline. The masks that the first sampler finds reach the second through the conditioning; nothing has to be "
    "connected for that."
)
FOUR_STEPS = (
    "With the LoRA, 4 steps at cfg 1 are enough: the first 2 on the high-noise expert, the others on the low-noise one."
)


def wan_file(name: str, folder: str, repository: str = WAN_2_2) -> ModelFile:
    return ModelFile(f"{name}.safetensors", folder, repository)


RELEASED: tuple[Released, ...] = (
    Released(
        "kv_share_wan21_1_3b",
        "Wan 2.1 1.3B, text to video",
        [wan_file("wan2.1_t2v_1.3B_fp16", "diffusion_models", WAN_2_1), UMT5, WAN_VAE],
        ["The files take 9.8 GB.", "832 x 480 at 16 fps, 30 steps, cfg 6, shift 8."],
        lambda: wan_simple("wan21_1_3b", "wan2.1_t2v_1.3B_fp16.safetensors", WAN_VAE.name, (832, 480), 16.0, 30, 6.0),
    ),
    Released(
        "kv_share_wan22_a14b_4steps",
        "Wan 2.2 A14B, text to video in 4 steps",
        expert_files("t2v", "v1.1"),
        [EXPERTS, FOUR_STEPS, "The files take 38 GB.", "640 x 640 at 16 fps, shift 5 on both experts."],
        lambda: wan_experts("wan22_a14b_4steps", "t2v", "v1.1"),
    ),
    Released(
        "kv_share_wan22_a14b",
        "Wan 2.2 A14B, text to video",
        expert_files("t2v", None),
        [EXPERTS, "640 x 640 at 16 fps, 20 steps, 10 on each expert, cfg 3.5, shift 5 on both."],
        lambda: wan_experts("wan22_a14b", "t2v", None),
    ),
    Released(
        "kv_share_wan22_a14b_i2v_4steps",
        "Wan 2.2 A14B, image to video in 4 steps",
        expert_files("i2v", "v1"),
        [
            EXPERTS,
            FOUR_STEPS,
            "*Long Video Beat Images* sets the image with which prompt 1 begins; load yours in *Load Image* and "
            "describe it in the prompt. The later prompts have no image: they go on from the frames before them "
            "(`carry_image` of *KV Share Config*, on by default). For one with an image, add another such node.",
            "640 x 640 at 16 fps, shift 5 on both experts.",
        ],
        lambda: wan_experts("wan22_a14b_i2v_4steps", "i2v", "v1", start_image=True),
    ),
    Released(
        "kv_share_wan22_5b",
        "Wan 2.2 TI2V-5B, text to video",
        [
            wan_file("wan2.2_ti2v_5B_fp16", "diffusion_models"),
            UMT5,
            wan_file("wan2.2_vae", "vae"),
        ],
        ["The files take 18 GB.", "1280 x 704 at 24 fps, 20 steps, cfg 5, shift 8."],
        lambda: wan_simple(
            "wan22_5b", "wan2.2_ti2v_5B_fp16.safetensors", "wan2.2_vae.safetensors", (1280, 704), 24.0, 20, 5.0
        ),
    ),
)


def note(workflow: Released) -> str:
    """What the workflow needs and does, for the MarkdownNote in it."""
    rows = [
        f"| `{file.name}` | models/{file.folder} | [{file.repository}](https://huggingface.co/{file.repository}) |"
        for file in workflow.files
    ]
    return "\n".join(
        [
            f"## {workflow.title}",
            "",
            "Three prompts with one subject become one long video. Download these files, then press *Run*:",
            "",
            "| file | folder | Hugging Face |",
            "|---|---|---|",
            *rows,
            "",
            *(f"- {remark}" for remark in workflow.remarks),
            "- Each prompt gets a segment as long as the model was trained on. For shorter ones, set "
            "`sampling_num_frames` of *Long Video Segmenter*, in latent frames.",
            f"- The subject is named in *Mask-Guided KV Share*: `{workflow.subject}`. It has to be in every prompt.",
            "",
        ]
    )


def workflow_of(workflow: Released) -> Json:
    """A released model's workflow as the browser saves it, its note at the left."""
    return saved(workflow.name, [Node("note", "MarkdownNote", 0, [note(workflow)]), *workflow.graph()])


def write_thumbnail(workflow: Released, file: Path) -> None:
    """Draws the picture under which ComfyUI lists the workflow: its title above three frames of a film strip."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (480, 270), (28, 32, 40))
    draw = ImageDraw.Draw(picture)
    model, _, task = workflow.title.partition(", ")
    draw.text((24, 22), model, (240, 240, 240), ImageFont.load_default(40))
    draw.text((24, 76), task, (160, 190, 230), ImageFont.load_default(26))
    for number, sky in enumerate(((70, 110, 150), (110, 130, 90), (150, 95, 70))):
        left = 24 + 146 * number
        draw.rectangle((left, 140, left + 140, 240), sky)
        x, y = left + 34 + 26 * number, 200 - 12 * number
        draw.ellipse((x - 18, y - 18, x + 18, y + 18), (230, 120, 40))
    picture.save(file, quality=85)


def main(arguments: Sequence[str]) -> int:
    """Writes the workflows, or their thumbnails."""
    for workflow in RELEASED:
        file = FOLDER / f"{workflow.name}.json"
        if "--thumbnails" in arguments:
            write_thumbnail(workflow, file.with_suffix(".jpg"))
        else:
            file.write_text(text_of(workflow_of(workflow)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
