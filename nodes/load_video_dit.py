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
            description="Loads a video diffusion transformer with its text encoder and VAE, or one of the small "
            "models that ship with KV Share for trying things out.",
            **search_words("video model loader", "wan loader", "embedded model"),
            inputs=[
                io.Combo.Input(
                    "diffusion_model",
                    options=diffusion_model_names(),
                    default=EMBEDDED,
                    tooltip="A file in models/diffusion_models or models/checkpoints, or a folder in "
                    "models/diffusers; of a model in several parts the first stands for all. 'embedded' is a few "
                    "megabytes of moving coloured shapes with Wan's cross-attention to the text; 'embedded (joint "
                    "attention)' is built like HunyuanVideo, 'embedded (one-stream attention)', which older ComfyUI "
                    "versions cannot load, like CogVideoX; both also draw two shapes.",
                ),
                io.Combo.Input(
                    "text_encoder",
                    options=text_encoder_names(),
                    default=EMBEDDED,
                    tooltip="The text encoder that belongs to the model, such as umT5 for Wan; 'embedded' goes with "
                    "all embedded models, 'from checkpoint' takes the one in the same file as the model.",
                ),
                io.Combo.Input(
                    "vae",
                    options=vae_names(),
                    default=EMBEDDED,
                    tooltip="The VAE that belongs to the model; 'from checkpoint' takes the one in the same file as "
                    "the model.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="Precision in which the model's weights are kept; fp8 halves their memory, and "
                    "fp8_e4m3fn_fast also computes in it where the card can.",
                ),
                io.Combo.Input(
                    "text_encoder_2",
                    options=second_text_encoder_names(),
                    default=NO_FILE,
                    optional=True,
                    tooltip="For models with two text encoders, such as HunyuanVideo with LLaVA-LLaMA-3 and CLIP-L. "
                    "LTX-2 needs none if diffusion_model is its whole checkpoint, else its text projection.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The video model."),
                io.Clip.Output(display_name="clip", tooltip="Its text encoder."),
                io.Vae.Output(display_name="vae", tooltip="Its VAE."),
                io.String.Output(
                    display_name="info",
                    tooltip="Family, blocks, heads, patch, compression, native length and weights of the model, and "
                    "what is known of its blocks, one on each line.",
                ),
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, diffusion_model: str, text_encoder: str, vae: str, weight_dtype: str, text_encoder_2: str = NO_FILE
    ) -> io.NodeOutput:
        with named_errors("LoadVideoDiT"):
            model, clip, decoder = load_video_model(diffusion_model, text_encoder, vae, weight_dtype, text_encoder_2)
            return io.NodeOutput(model, clip, decoder, model_report(model))
