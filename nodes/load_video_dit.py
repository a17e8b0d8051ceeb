from comfy_api.latest import io

from ..kvshare_core.host.loading import (
    EMBEDDED,
    WEIGHT_DTYPES,
    diffusion_model_names,
    load_video_model,
    text_encoder_names,
    vae_names,
)
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
            description="Loads a video diffusion transformer with its text encoder and VAE, or the small model that "
            "ships with KV Share for trying things out.",
            **search_words("video model loader", "wan loader", "embedded model"),
            inputs=[
                io.Combo.Input(
                    "diffusion_model",
                    options=diffusion_model_names(),
                    default=EMBEDDED,
                    tooltip="A file in models/diffusion_models; 'embedded' is a few megabytes of moving coloured "
                    "shapes.",
                ),
                io.Combo.Input(
                    "text_encoder",
                    options=text_encoder_names(),
                    default=EMBEDDED,
                    tooltip="The text encoder that belongs to the model, such as umT5 for Wan.",
                ),
                io.Combo.Input(
                    "vae", options=vae_names(), default=EMBEDDED, tooltip="The VAE that belongs to the model."
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="Precision in which the model's weights are kept; fp8 halves their memory.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The video model."),
                io.Clip.Output(display_name="clip", tooltip="Its text encoder."),
                io.Vae.Output(display_name="vae", tooltip="Its VAE."),
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, diffusion_model: str, text_encoder: str, vae: str, weight_dtype: str
    ) -> io.NodeOutput:
        return io.NodeOutput(*load_video_model(diffusion_model, text_encoder, vae, weight_dtype))
