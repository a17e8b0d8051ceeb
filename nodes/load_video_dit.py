from comfy_api.latest import io

from ..kvshare_core.host.loading.loading import (
    WEIGHT_DTYPES,
    load_video_model,
    model_report,
    second_text_encoder_names,
    text_encoder_names,
    vae_names,
)
from ..kvshare_core.host.loading.model_files import EMBEDDED, diffusion_model_names
from ..kvshare_core.host.loading.text_encoders import NO_FILE
from .errors import named_errors
from .inputs import search_words
from .sockets import CATEGORY


class LoadVideoDiT(io.ComfyNode):
    """Loads a video diffusion transformer with its text encoder and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadVideoDiT",
            display_name="Load Video DiT",
            category=CATEGORY,
            description="Loads a video diffusion transformer with its text encoder and VAE, or one of the small demo "
            "models that ship with KV Share.",
            **search_words("video model loader", "wan loader", "embedded model"),
            inputs=[
                io.Combo.Input(
                    "diffusion_model",
                    options=diffusion_model_names(),
                    default=EMBEDDED,
                    tooltip="A file in models/diffusion_models or models/checkpoints, or a folder in models/diffusers; "
                    "for a sharded model, its first file. The embedded models are a few megabytes and draw moving "
                    "coloured shapes: 'embedded' is built like Wan, 'embedded (joint attention)' like HunyuanVideo, "
                    "'embedded (one-stream attention)' like CogVideoX (needs a newer ComfyUI), 'embedded (image)' "
                    "like the image-to-video models of Wan 2.2. 'embedded (ViT3D)' draws pixels, best 8 "
                    "frames of 32 x 32.",
                ),
                io.Combo.Input(
                    "text_encoder",
                    options=text_encoder_names(),
                    default=EMBEDDED,
                    tooltip="The model's text encoder, such as umT5 for Wan. 'embedded' is for the embedded models, "
                    "'from checkpoint' uses the one in the model's file.",
                ),
                io.Combo.Input(
                    "vae",
                    options=vae_names(),
                    default=EMBEDDED,
                    tooltip="The model's VAE. 'embedded' is for the embedded models, 'from checkpoint' uses the one in "
                    "the model's file.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="Precision of the model's weights. fp8 halves their memory; fp8_e4m3fn_fast also computes "
                    "in fp8 if the GPU supports it.",
                ),
                io.Combo.Input(
                    "text_encoder_2",
                    options=second_text_encoder_names(),
                    default=NO_FILE,
                    optional=True,
                    tooltip="For models with two text encoders, such as HunyuanVideo (LLaVA-LLaMA-3 and CLIP-L). For "
                    "LTX-2, the text projection; none if diffusion_model is the full checkpoint.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The video model."),
                io.Clip.Output(display_name="clip", tooltip="Its text encoder."),
                io.Vae.Output(display_name="vae", tooltip="Its VAE."),
                io.String.Output(
                    display_name="info",
                    tooltip="Family, blocks, heads, patch size, compression, native length and weights of the model, "
                    "and what is known about its blocks, one per line.",
                ),
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, diffusion_model: str, text_encoder: str, vae: str, weight_dtype: str, text_encoder_2: str = NO_FILE
    ) -> io.NodeOutput:
        with named_errors("Load Video DiT"):
            model, clip, decoder = load_video_model(diffusion_model, text_encoder, vae, weight_dtype, text_encoder_2)
            return io.NodeOutput(model, clip, decoder, model_report(model))
