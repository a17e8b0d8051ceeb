"""Workflows for released models, at the settings of ComfyUI's own templates: `python3 -m devtools.released_workflows`
writes them to example_workflows/, and `--thumbnails` their pictures, which needs Pillow.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import ROOT
from .released_graphs import (
    COG_FOLDER,
    COG_VAE,
    GEMMA,
    H3_AUDIO_VAE,
    H3_ENCODER,
    H3_MODEL,
    H3_VAE,
    LTX_CHECKPOINT,
    LTX_LORA,
    LTX_UPSCALER,
    SD15,
    T5,
    UMT5,
    WAN_VAE,
    cogvideox_paper,
    hunyuan_15,
    ltx_two_stages,
    minimax_h3,
    stills,
    wan_experts,
    wan_simple,
)
from .saved_graphs import Json, Node, saved, text_of

FOLDER = ROOT / "example_workflows"

HUNYUAN = "Comfy-Org/HunyuanVideo_1.5_repackaged"
WAN_2_1, WAN_2_2 = "Comfy-Org/Wan_2.1_ComfyUI_repackaged", "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"


@dataclass(frozen=True)
class ModelFile:
    """A file that a workflow needs: its name, its folder below models/, and where Hugging Face has it.

    inside: its folder in the repository, None for that of repackaged models; "-" for what is not one file of that name.
    """

    name: str
    folder: str
    repository: str
    inside: str | None = None

    @property
    def single(self) -> bool:
        """Whether the repository has it as one file of this name."""
        return self.inside != "-"

    @property
    def url(self) -> str:
        """Of the file, or of its repository."""
        home = f"https://huggingface.co/{self.repository}"
        inside = f"split_files/{self.folder}/" if self.inside is None else self.inside
        return f"{home}/resolve/main/{inside}{self.name}" if self.single else home


@dataclass(frozen=True)
class Released:
    """A workflow for a released model. subject: the words that name it in every prompt; stills: whether every prompt is
    a picture."""

    name: str
    title: str
    files: Sequence[ModelFile]
    remarks: Sequence[str]
    graph: Callable[[], list[Node]]
    subject: str = "fox"
    stills: bool = False


UMT5_FILE = ModelFile(UMT5, "text_encoders", WAN_2_1)
WAN_VAE_FILE = ModelFile(WAN_VAE, "vae", WAN_2_1)


def expert_files(kind: str, lora: str | None) -> list[ModelFile]:
    """Files of Wan 2.2 A14B."""
    experts = ("high", "low")
    models = [f"wan2.2_{kind}_{expert}_noise_14B_fp8_scaled.safetensors" for expert in experts]
    loras = [f"wan2.2_{kind}_lightx2v_4steps_lora_{lora}_{expert}_noise.safetensors" for expert in experts]
    return [
        *(ModelFile(file, "diffusion_models", WAN_2_2) for file in models),
        *(ModelFile(file, "loras", WAN_2_2) for file in loras if lora is not None),
        UMT5_FILE,
        WAN_VAE_FILE,
    ]


# Sizes of files, here and below: the sum of those in the notes of ComfyUI's own templates for the same files
# (comfyui-workflow-templates-json 0.1.123, whose GB are GiB), in GB.
EXPERTS = (
    "The model has two experts, one for high and one for low noise. Both have a *Mask-Guided KV Share* of the same "
    "timeline. The masks that the first sampler finds reach the second through the conditioning; nothing has to be "
    "connected for that."
)
LTX_AUDIO = (
    "Video and audio are made together. If you change prompts, durations or `overlap_size`, set `frames_number` of "
    "*LTXV Empty Latent Audio* to the number of frames in the segmenter's `info`."
)
LTX_STAGES = (
    "640 x 352 at 25 fps in 8 steps, then 1280 x 704 in 3 more, all at cfg 1 with the LoRA at 0.5. Both samplers take "
    "the model from the same *Mask-Guided KV Share*."
)
LTX_IMAGE = (
    "*Long Video Beat Images* sets the image with which prompt 1 begins, at strength 0.7, and once more at strength 1 "
    "on the upscaled latent; load yours in *Load Image* and describe it in the prompt."
)
COG = "THUDM/CogVideoX-2b"
H3 = "Comfy-Org/MiniMax-H3"
H3_STEPS = (
    "1344 x 768 at 24 fps, 20 steps without guidance, so there is no negative prompt. Video and audio are made "
    "together."
)
H3_LENGTHS = (
    "A segment is 124 frames by default; the model was trained on up to 362, `sampling_num_frames` 107. It makes "
    "several shots within a segment by itself: describe them in one prompt."
)
H3_IMAGE = (
    "*Long Video Beat Images* sets the image with which prompt 1 begins, which the text encoder sees too; load yours "
    "in *Load Image* and describe it in the prompt."
)
COG_FILES = (
    "`CogVideoX-2b` is a folder with two parts of the repository: model_index.json and the folder transformer. "
    "The VAE is its file vae/diffusion_pytorch_model.safetensors under another name."
)
COG_SETTINGS = (
    "The settings of DiTCtrl's released code, for comparison: segments of 13 latent frames that overlap by 9, 2 "
    "transition segments between prompts, 50 steps of dpmpp_2m_sde. For your own videos, put *KV Sharing Config* in "
    "place of *DiTCtrl Config (paper)*."
)
STILLS = (
    "Any checkpoint of SD 1.x, 2.x or SDXL works the same way; for SDXL set `width` and `height` to 1024.",
    "Every prompt is a picture. `[4f]` in front of a prompt makes four of it.",
    "The first picture is the one whose subject the others see. Try another seed until you like it.",
    "For the blocks of MasaCtrl (SD 1.x, 2.x) or ConsiStory (SDXL), connect *KV Sharing Config* with `layer_preset` "
    "set to *family*; their steps begin with `start_percent` 0.08 and 0.02.",
    "*Apply ControlNet* takes one image for all pictures, or one for each. The pictures can be keyframes of a video: "
    "connect them to *Long Video Beat Images* through *Get Image from Batch*.",
    "512 x 512, 30 steps, cfg 7. The file takes 2.1 GB.",
)
FOUR_STEPS = (
    "With the LoRA, 4 steps at cfg 1 are enough: the first 2 on the high-noise expert, the others on the low-noise one."
)


def released_file(name: str, folder: str, repository: str = WAN_2_2) -> ModelFile:
    return ModelFile(f"{name}.safetensors", folder, repository)


RELEASED: tuple[Released, ...] = (
    Released(
        "Wan 2.1 1.3B text to video",
        "Wan 2.1 1.3B, text to video",
        [released_file("wan2.1_t2v_1.3B_fp16", "diffusion_models", WAN_2_1), UMT5_FILE, WAN_VAE_FILE],
        ["The files take 9.8 GB.", "832 x 480 at 16 fps, 30 steps, cfg 6, shift 8."],
        lambda: wan_simple("wan21_1_3b", "wan2.1_t2v_1.3B_fp16.safetensors", WAN_VAE, (832, 480), 16.0, 30, 6.0),
    ),
    Released(
        "Wan 2.2 A14B text to video in 4 steps",
        "Wan 2.2 A14B, text to video in 4 steps",
        expert_files("t2v", "v1.1"),
        [EXPERTS, FOUR_STEPS, "The files take 38 GB.", "640 x 640 at 16 fps, shift 5 on both experts."],
        lambda: wan_experts("wan22_a14b_4steps", "t2v", "v1.1"),
    ),
    Released(
        "Wan 2.2 A14B text to video",
        "Wan 2.2 A14B, text to video",
        expert_files("t2v", None),
        [
            EXPERTS,
            "The files take 36 GB.",
            "640 x 640 at 16 fps, 20 steps, 10 on each expert, cfg 3.5, shift 5 on both.",
        ],
        lambda: wan_experts("wan22_a14b", "t2v", None),
    ),
    Released(
        "Wan 2.2 A14B image to video in 4 steps",
        "Wan 2.2 A14B, image to video in 4 steps",
        expert_files("i2v", "v1"),
        [
            EXPERTS,
            FOUR_STEPS,
            "*Long Video Beat Images* sets the image with which prompt 1 begins; load yours in *Load Image* and "
            "describe it in the prompt. The later prompts have no image: they go on from the frames before them "
            "(`carry_image` of *KV Sharing Config*, on by default). For one with an image, add another such node.",
            "The files take 38 GB.",
            "640 x 640 at 16 fps, shift 5 on both experts.",
        ],
        lambda: wan_experts("wan22_a14b_i2v_4steps", "i2v", "v1", start_image=True),
    ),
    Released(
        "Wan 2.2 5B text to video",
        "Wan 2.2 TI2V-5B, text to video",
        [
            released_file("wan2.2_ti2v_5B_fp16", "diffusion_models"),
            UMT5_FILE,
            released_file("wan2.2_vae", "vae"),
        ],
        ["The files take 18 GB.", "1280 x 704 at 24 fps, 20 steps, cfg 5, shift 8."],
        lambda: wan_simple(
            "wan22_5b", "wan2.2_ti2v_5B_fp16.safetensors", "wan2.2_vae.safetensors", (1280, 704), 24.0, 20, 5.0
        ),
    ),
    *(
        Released(
            f"LTX-2.3 {task}",
            f"LTX-2.3, {task}",
            [
                ModelFile(LTX_CHECKPOINT, "checkpoints", "Lightricks/LTX-2.3-fp8", ""),
                ModelFile(LTX_LORA, "loras", "Comfy-Org/ltx-2.3"),
                ModelFile(GEMMA, "text_encoders", "Comfy-Org/ltx-2"),
                ModelFile(LTX_UPSCALER, "latent_upscale_models", "Lightricks/LTX-2.3", ""),
            ],
            [*remarks, LTX_AUDIO, "The files take 42 GB.", LTX_STAGES],
            graph,
        )
        for task, remarks, graph in (
            ("text to video", (), lambda: ltx_two_stages("ltx23_t2v")),
            ("image to video", (LTX_IMAGE,), lambda: ltx_two_stages("ltx23_i2v", start_image=True)),
        )
    ),
    Released(
        "HunyuanVideo 1.5 text to video",
        "HunyuanVideo 1.5, text to video",
        [
            released_file("hunyuanvideo1.5_720p_t2v_fp16", "diffusion_models", HUNYUAN),
            released_file("qwen_2.5_vl_7b_fp8_scaled", "text_encoders", HUNYUAN),
            released_file("byt5_small_glyphxl_fp16", "text_encoders", HUNYUAN),
            released_file("hunyuanvideo15_vae_fp16", "vae", HUNYUAN),
        ],
        ["The files take 29 GB.", "1280 x 720 at 24 fps, 20 steps, cfg 6, shift 7."],
        lambda: hunyuan_15("hunyuan15"),
    ),
    *(
        Released(
            f"MiniMax H3 {task}",
            f"MiniMax H3, {task}",
            [
                ModelFile(H3_MODEL, "diffusion_models", H3, "diffusion_models/"),
                ModelFile(H3_ENCODER, "text_encoders", H3, "text_encoders/"),
                ModelFile(H3_VAE, "vae", "Kijai/MiniMax-H3-experimental", ""),
                ModelFile(H3_AUDIO_VAE, "vae", H3, "vae/"),
            ],
            [*remarks, H3_STEPS, H3_LENGTHS, "The files take about 40 GB."],
            graph,
        )
        for task, remarks, graph in (
            ("text to video", (), lambda: minimax_h3("minimax_h3_t2v")),
            ("image to video", (H3_IMAGE,), lambda: minimax_h3("minimax_h3_i2v", start_image=True)),
        )
    ),
    Released(
        "CogVideoX-2B as in DiTCtrl",
        "CogVideoX-2B, text to video as in DiTCtrl",
        [
            ModelFile(COG_FOLDER, "diffusers", COG, "-"),
            ModelFile(T5, "text_encoders", "comfyanonymous/flux_text_encoders", ""),
            ModelFile(COG_VAE, "vae", COG, "-"),
        ],
        [COG_FILES, COG_SETTINGS],
        lambda: cogvideox_paper("cogvideox_2b_ditctrl"),
    ),
    Released(
        "Storyboard of stills",
        "SD 1.5, storyboard of stills",
        [ModelFile(SD15, "checkpoints", "Comfy-Org/stable-diffusion-v1-5-archive", "")],
        STILLS,
        lambda: stills("storyboard"),
        stills=True,
    ),
)


LENGTHS = (
    "- Each prompt gets a segment as long as the model was trained on. For shorter ones, set `sampling_num_frames` of "
    "*Long Video Segmenter*, in latent frames."
)


def _what_it_makes(workflow: Released) -> str:
    if workflow.stills:
        return "Four prompts with one subject become four pictures of it."
    return "Three prompts with one subject become one long video."


def note(workflow: Released) -> str:
    """What the workflow needs and does, for the MarkdownNote in it. Names stand in italics: where nodes are drawn as
    elements of the page, ComfyUI shows code in a note in blue on brown, which nobody can read."""
    rows = [f"| `{file.name}` | models/{file.folder} | [{file.repository}]({file.url}) |" for file in workflow.files]
    text = "\n".join(
        [
            f"## {workflow.title}",
            "",
            f"{_what_it_makes(workflow)} Download these files, then press *Run*:",
            "",
            "| file | folder | Hugging Face |",
            "|---|---|---|",
            *rows,
            "",
            *(f"- {remark}" for remark in workflow.remarks),
            *([] if workflow.stills else [LENGTHS]),
            f"- The subject is named in *Mask-Guided KV Share*: `{workflow.subject}`. It has to be in every prompt.",
            "",
        ]
    )
    return text.replace("`", "*")


def workflow_of(workflow: Released) -> Json:
    """A released model's workflow as the browser saves it, its note at the left.

    Loaders tell the browser where their files are, so that it offers to download those that are missing.
    """
    made = saved(workflow.name, [Node("note", "MarkdownNote", 0, [note(workflow)]), *workflow.graph()])
    for node in made["nodes"]:
        files = [file for file in workflow.files if file.single and file.name in node["widgets_values"]]
        if files:
            node["properties"]["models"] = [
                {"name": file.name, "url": file.url, "directory": file.folder} for file in files
            ]
    return made


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
