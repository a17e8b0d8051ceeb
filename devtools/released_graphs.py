"""The graphs of the workflows for released models, from the loaders to the saved video."""

from .saved_graphs import Node

NEGATIVE = "blurry, low quality, jpeg artifacts, still picture, subtitles, watermark, deformed hands"

FOX = "\n".join(
    (
        "a red fox runs through deep snow in a pine forest, side view, morning light",
        "a red fox crosses a wooden bridge over a river, side view, soft fog",
        "a red fox rests on a rock by the sea, waves behind it, evening light",
    )
)
UMT5, WAN_VAE = "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan_2.1_vae.safetensors"

WAN_LOADERS = [
    Node("clip", "CLIPLoader", 1, [UMT5, "wan", "default"]),
    Node("vae", "VAELoader", 1, [WAN_VAE]),
]


def plan(size: tuple[int, int], fps: float, *, model: str = "unet", negative: str = NEGATIVE, overlap: int = 2) -> Node:
    """The segmenter, with three prompts of one trained length each."""
    values = [FOX, negative, *size, fps, 0, overlap, 1, 0, 0, "linear", "plain"]
    return Node("plan", "LongVideoSegmenter", 2, values, {"model": model, "clip": "clip"})


def share(key: str, model: str, column: int, config: str = "") -> Node:
    """Sharing on a model that comes from `model`, at the default settings or those of `config`."""
    links = {"model": model, "timeline": "plan", **({"config": config} if config else {})}
    return Node(key, "MaskGuidedKVShare", column, ["fox", ""], links)


def video(name: str, fps: float, samples: str, column: int, audio: str = "", vae: str = "vae") -> list[Node]:
    """Decodes and saves the latent of `samples`."""
    sound = {"audio": audio} if audio else {}
    return [
        Node("pictures", "VAEDecode", column, [], {"samples": samples, "vae": vae}),
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
        Node("clip", "CLIPLoader", 1, [UMT5, "wan", "default"]),
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


SIGMAS = "1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0"
"""The eight distilled steps of LTX-2.3."""
MORE_SIGMAS = "0.85, 0.725, 0.4219, 0.0"
"""Those at twice the height and width."""


def custom_sampler(
    prefix: str, column: int, latent: str, sigmas: Node, guider: Node, method: str = "euler"
) -> list[Node]:
    """A sampler of parts; its key is `prefix` and `sampler`."""
    parts = {"noise": f"{prefix}noise", "sampler": f"{prefix}method", "latent_image": latent}
    parts |= {"guider": guider.key, "sigmas": sigmas.key}
    return [
        Node(f"{prefix}noise", "RandomNoise", column, [42, "fixed"]),
        Node(f"{prefix}method", "KSamplerSelect", column, [method]),
        sigmas,
        guider,
        Node(f"{prefix}sampler", "SamplerCustomAdvanced", column, [], parts),
    ]


def hunyuan_15(name: str) -> list[Node]:
    """HunyuanVideo 1.5 at 720p."""
    encoders = ["qwen_2.5_vl_7b_fp8_scaled.safetensors", "byt5_small_glyphxl_fp16.safetensors"]
    both = {"positive": "plan.positive", "negative": "plan.negative"}
    return [
        Node("unet", "UNETLoader", 1, ["hunyuanvideo1.5_720p_t2v_fp16.safetensors", "default"]),
        Node("clip", "DualCLIPLoader", 1, [*encoders, "hunyuan_video_15", "default"]),
        Node("vae", "VAELoader", 1, ["hunyuanvideo15_vae_fp16.safetensors"]),
        plan((1280, 720), 24.0),
        Node("shift", "ModelSamplingSD3", 3, [7.0], {"model": "unet"}),
        share("share", "shift", 3),
        *custom_sampler(
            "",
            4,
            "plan.latent",
            Node("sigmas", "BasicScheduler", 4, ["simple", 20, 1.0], {"model": "shift"}),
            Node("guider", "CFGGuider", 4, [6.0], {"model": "share", **both}),
        ),
        *video(name, 24.0, "sampler", 5),
    ]


LTX_FPS = 25.0
LTX_FRAMES = 345
"""Frames of three segments of 16 latent frames that overlap by 2; the audio has to be as long."""
LTX_CHECKPOINT = "ltx-2.3-22b-dev-fp8.safetensors"
LTX_LORA = "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors"
GEMMA = "gemma_3_12B_it_fp4_mixed.safetensors"
LTX_UPSCALER = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"


def ltx_start_image(
    name: str, column: int, strength: float, both: dict[str, str], latent: str
) -> tuple[Node, dict[str, str], str]:
    """A node that holds the start image in `latent`, and both conditionings and the latent as they come out of it."""
    links = {"model": "ckpt.MODEL", "vae": "ckpt.VAE", "timeline": "plan", "start_image": "compressed", **both}
    node = Node(name, "LongVideoBeatImages", column, [1, 0.5, strength], {**links, "latent": latent})
    return node, {"positive": f"{name}.positive", "negative": f"{name}.negative"}, f"{name}.latent"


def ltx_two_stages(name: str, start_image: bool = False) -> list[Node]:
    """LTX-2.3 with its audio: sampled at half the height and width, upscaled, and sampled on."""
    nodes = [
        Node("ckpt", "CheckpointLoaderSimple", 1, [LTX_CHECKPOINT]),
        Node("lora", "LoraLoaderModelOnly", 1, [LTX_LORA, 0.5], {"model": "ckpt.MODEL"}),
        Node("clip", "LTXAVTextEncoderLoader", 1, [GEMMA, LTX_CHECKPOINT, "default"]),
        Node("audio_vae", "LTXVAudioVAELoader", 1, [LTX_CHECKPOINT]),
        Node("upscaler", "LatentUpscaleModelLoader", 1, [LTX_UPSCALER]),
        plan((640, 352), LTX_FPS, model="ckpt.MODEL", negative=""),
        share("share", "lora", 3),
        Node("rate", "LTXVConditioning", 3, [LTX_FPS], {key: f"plan.{key}" for key in ("positive", "negative")}),
        Node("silence", "LTXVEmptyLatentAudio", 3, [LTX_FRAMES, LTX_FPS, 1], {"audio_vae": "audio_vae"}),
    ]
    both, latent = {"positive": "rate.positive", "negative": "rate.negative"}, "plan.latent"
    if start_image:
        nodes.insert(
            5, Node("picture", "LoadImage", 1, ["example.png", "image"], title="Load Image: start of prompt 1")
        )
        nodes.append(Node("compressed", "LTXVPreprocess", 3, [18], {"image": "picture"}))
        held, both, latent = ltx_start_image("start", 3, 0.7, both, latent)
        nodes.append(held)
    nodes += [
        Node("both", "LTXVConcatAVLatent", 3, [], {"video_latent": latent, "audio_latent": "silence"}),
        *custom_sampler(
            "",
            4,
            "both",
            Node("sigmas", "ManualSigmas", 4, [SIGMAS]),
            Node("guider", "CFGGuider", 4, [1.0], {"model": "share", **both}),
        ),
        Node("apart", "LTXVSeparateAVLatent", 5, [], {"av_latent": "sampler"}),
        Node(
            "large",
            "LTXVLatentUpsampler",
            5,
            [],
            {"samples": "apart.video_latent", "upscale_model": "upscaler", "vae": "ckpt.VAE"},
        ),
    ]
    latent = "large"
    if start_image:
        held, both, latent = ltx_start_image("start_again", 5, 1.0, both, latent)
        nodes.append(held)
    return [
        *nodes,
        Node("both_again", "LTXVConcatAVLatent", 5, [], {"video_latent": latent, "audio_latent": "apart.audio_latent"}),
        *custom_sampler(
            "large_",
            6,
            "both_again",
            Node("large_sigmas", "ManualSigmas", 6, [MORE_SIGMAS]),
            Node("large_guider", "CFGGuider", 6, [1.0], {"model": "share", **both}),
        ),
        Node("done", "LTXVSeparateAVLatent", 7, [], {"av_latent": "large_sampler"}),
        Node("sound", "LTXVAudioVAEDecode", 7, [], {"samples": "done.audio_latent", "audio_vae": "audio_vae"}),
        *video(name, LTX_FPS, "done.video_latent", 7, audio="sound", vae="ckpt.VAE"),
    ]


H3_MODEL = "minimax_h3_fl2va_pruned_int8_convrot.safetensors"
H3_ENCODER = "qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors"
H3_VAE, H3_AUDIO_VAE = "minimax_h3_video_vae_int8_convrot.safetensors", "minimax_h3_audio_vae_fp32.safetensors"


def minimax_h3(name: str, start_image: bool = False) -> list[Node]:
    """MiniMax H3 with its audio, without guidance."""
    nodes = [
        Node("unet", "UNETLoader", 1, [H3_MODEL, "default"]),
        Node("clip", "CLIPLoader", 1, [H3_ENCODER, "minimax", "default"]),
        Node("vae", "VAELoader", 1, [H3_VAE]),
        Node("audio_vae", "VAELoader", 1, [H3_AUDIO_VAE], title="Load VAE: audio"),
    ]
    prompts = "plan"
    if start_image:
        nodes.append(Node("picture", "LoadImage", 1, ["example.png", "image"], title="Load Image: start of prompt 1"))
    nodes.append(plan((1344, 768), 24.0, negative=""))
    if start_image:
        links = {"model": "unet", "vae": "vae", "timeline": "plan", "start_image": "picture", "clip": "clip"}
        links |= {key: f"plan.{key}" for key in ("positive", "negative", "latent")}
        nodes.append(Node("start", "LongVideoBeatImages", 3, [1, 0.5, 1.0], links))
        prompts = "start"
    guider = Node("guider", "BasicGuider", 4, [], {"model": "share", "conditioning": f"{prompts}.positive"})
    sigmas = Node("sigmas", "BasicScheduler", 4, ["simple", 20, 1.0], {"model": "unet"})
    return [
        *nodes,
        share("share", "unet", 3),
        *custom_sampler("", 4, f"{prompts}.latent", sigmas, guider, "res_multistep"),
        Node("apart", "LTXVSeparateAVLatent", 5, [], {"av_latent": "sampler"}),
        Node("sound", "VAEDecodeAudio", 5, [], {"samples": "apart.audio_latent", "vae": "audio_vae"}),
        *video(name, 24.0, "apart.video_latent", 5, audio="sound"),
    ]


SD15 = "v1-5-pruned-emaonly-fp16.safetensors"

STORYBOARD = "\n".join(
    (
        "a red fox with a green scarf, standing in deep snow, storybook illustration",
        "a red fox with a green scarf, crossing a wooden bridge, storybook illustration",
        "a red fox with a green scarf, asleep under an old oak, storybook illustration",
        "a red fox with a green scarf, looking at the sea, storybook illustration",
    )
)


def stills(name: str) -> list[Node]:
    """SD 1.5: every prompt a picture, the first one the anchor of all others."""
    loaded = {"model": "ckpt.MODEL", "clip": "ckpt.CLIP"}
    negative = "blurry, low quality, deformed, text, watermark"
    values = [STORYBOARD, negative, 512, 512, 1.0, 0, 0, 1, 0, 0, "linear", "plain"]
    sampler = {"model": "share", "latent_image": "plan.latent"}
    sampler |= {key: f"plan.{key}" for key in ("positive", "negative")}
    return [
        Node("ckpt", "CheckpointLoaderSimple", 1, [SD15]),
        Node("plan", "LongVideoSegmenter", 2, values, loaded),
        share("share", "ckpt.MODEL", 3),
        Node("sampler", "KSampler", 3, [42, "fixed", 30, 7.0, "dpmpp_2m", "karras", 1.0], sampler),
        Node("pictures", "VAEDecode", 4, [], {"samples": "sampler", "vae": "ckpt.VAE"}),
        Node("save", "SaveImage", 4, [f"kvshare/{name}"], {"images": "pictures"}),
    ]


COG_FOLDER, COG_VAE, T5 = "CogVideoX-2b", "cogvideox_vae.safetensors", "t5xxl_fp16.safetensors"


def cogvideox_paper(name: str) -> list[Node]:
    """CogVideoX-2B with the settings of DiTCtrl's released code."""
    values = [FOX, "", 720, 480, 8.0, 13, 9, 1, 2, 0, "triangle", "plain"]
    loaded = {"model": "load", "clip": "load.clip"}
    sampler = {
        "model": "share",
        "positive": "plan.positive",
        "negative": "plan.negative",
        "latent_image": "plan.latent",
    }
    return [
        Node("load", "LoadVideoDiT", 1, [f"diffusers folder: {COG_FOLDER}", T5, COG_VAE, "default", "none"]),
        Node("plan", "LongVideoSegmenter", 2, values, loaded),
        Node("paper", "DiTCtrlConfig", 3, [2, 25, 25, 30, "", "", 0.3, "", ""]),
        share("share", "load", 3, config="paper"),
        Node("sampler", "KSampler", 3, [42, "fixed", 50, 6.0, "dpmpp_2m_sde", "simple", 1.0], sampler),
        *video(name, 8.0, "sampler", 4, vae="load.vae"),
    ]
