"""Sockets and sizes of the nodes that the released models' workflows use; tests compare them with a host."""

from dataclasses import dataclass

Sockets = tuple[tuple[str, str], ...]
"""Names and types, in the browser's order."""


@dataclass(frozen=True)
class Shape:
    """inputs: those that take links only. size: width and height on the canvas."""

    inputs: Sockets
    outputs: Sockets
    size: tuple[int, int]


def _shape(inputs: str, outputs: str, width: int, height: int) -> Shape:
    """Sockets are written as `name:TYPE`, or as `TYPE` alone where that is the name too."""

    def sockets(text: str) -> Sockets:
        return tuple((name, kind or name) for name, _, kind in (part.partition(":") for part in text.split()))

    return Shape(sockets(inputs), sockets(outputs), (width, height))


CHAIN = "positive:CONDITIONING negative:CONDITIONING"

SHAPES: dict[str, Shape] = {
    "MarkdownNote": _shape("", "", 560, 560),
    "UNETLoader": _shape("", "MODEL", 420, 90),
    "CheckpointLoaderSimple": _shape("", "MODEL CLIP VAE", 420, 110),
    "CLIPLoader": _shape("", "CLIP", 420, 120),
    "DualCLIPLoader": _shape("", "CLIP", 420, 150),
    "VAELoader": _shape("", "VAE", 420, 70),
    "LoraLoaderModelOnly": _shape("model:MODEL", "MODEL", 420, 100),
    "LoadImage": _shape("", "IMAGE MASK", 420, 340),
    "ModelSamplingSD3": _shape("model:MODEL", "MODEL", 300, 70),
    "LongVideoSegmenter": _shape(
        "model:MODEL clip:CLIP vae:VAE references:IMAGE",
        f"timeline:KVSHARE_TIMELINE {CHAIN} latent:LATENT info:STRING",
        560,
        1080,
    ),
    "LongVideoBeatImages": _shape(
        f"model:MODEL vae:VAE timeline:KVSHARE_TIMELINE {CHAIN} latent:LATENT start_image:IMAGE end_image:IMAGE "
        "clip_vision_start_image:CLIP_VISION_OUTPUT clip_vision_end_image:CLIP_VISION_OUTPUT clip:CLIP "
        "middle_image:IMAGE",
        f"{CHAIN} latent:LATENT",
        340,
        380,
    ),
    "LoadVideoDiT": _shape("", "model:MODEL clip:CLIP vae:VAE info:STRING", 420, 200),
    "DiTCtrlConfig": _shape("", "config:KVSHARE_CONFIG", 340, 360),
    "MaskGuidedKVShare": _shape(
        "model:MODEL timeline:KVSHARE_TIMELINE config:KVSHARE_CONFIG mask:MASK earlier_record:KVSHARE_RECORD",
        "model:MODEL record:KVSHARE_RECORD",
        340,
        190,
    ),
    "KSampler": _shape(f"model:MODEL {CHAIN} latent_image:LATENT", "LATENT", 320, 280),
    "KSamplerAdvanced": _shape(f"model:MODEL {CHAIN} latent_image:LATENT", "LATENT", 320, 360),
    "RandomNoise": _shape("", "NOISE", 300, 90),
    "KSamplerSelect": _shape("", "SAMPLER", 300, 70),
    "BasicScheduler": _shape("model:MODEL", "SIGMAS", 300, 120),
    "ManualSigmas": _shape("", "SIGMAS", 300, 70),
    "CFGGuider": _shape(f"model:MODEL {CHAIN}", "GUIDER", 300, 110),
    "SamplerCustomAdvanced": _shape(
        "noise:NOISE guider:GUIDER sampler:SAMPLER sigmas:SIGMAS latent_image:LATENT",
        "output:LATENT denoised_output:LATENT",
        300,
        120,
    ),
    "LTXAVTextEncoderLoader": _shape("", "CLIP", 420, 120),
    "LTXVAudioVAELoader": _shape("", "VAE", 420, 70),
    "LatentUpscaleModelLoader": _shape("", "LATENT_UPSCALE_MODEL", 420, 70),
    "LTXVConditioning": _shape(CHAIN, CHAIN, 340, 90),
    "LTXVEmptyLatentAudio": _shape("audio_vae:VAE", "LATENT", 340, 130),
    "LTXVPreprocess": _shape("image:IMAGE", "IMAGE", 340, 70),
    "LTXVConcatAVLatent": _shape("video_latent:LATENT audio_latent:LATENT", "LATENT", 340, 60),
    "LTXVSeparateAVLatent": _shape("av_latent:LATENT", "video_latent:LATENT audio_latent:LATENT", 340, 60),
    "LTXVLatentUpsampler": _shape("samples:LATENT upscale_model:LATENT_UPSCALE_MODEL vae:VAE", "LATENT", 340, 80),
    "BasicGuider": _shape("model:MODEL conditioning:CONDITIONING", "GUIDER", 300, 60),
    "VAEDecodeAudio": _shape("samples:LATENT vae:VAE", "AUDIO", 260, 60),
    "LTXVAudioVAEDecode": _shape("samples:LATENT audio_vae:VAE", "AUDIO", 260, 60),
    "VAEDecode": _shape("samples:LATENT vae:VAE", "IMAGE", 260, 60),
    "CreateVideo": _shape("images:IMAGE audio:AUDIO", "VIDEO", 260, 90),
    "SaveVideo": _shape("video:VIDEO", "", 420, 400),
    "SaveImage": _shape("images:IMAGE", "", 420, 400),
}
