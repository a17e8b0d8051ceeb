from typing import Any

from comfy_api.latest import io

from ..kvshare_core.host.conditioning.pictures import Tiles, decode_loop
from .errors import named_errors
from .inputs import search_words, video_samples
from .sockets import CATEGORY


class LongVideoDecodeLoop(io.ComfyNode):
    """Decodes a looped latent so that its last picture goes over into its first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoDecodeLoop",
            display_name="Long Video Decode Loop",
            category=CATEGORY,
            description="Decodes the latent of a timeline that loops. The first frame becomes as many pictures as the "
            "others, and what is decoded at the ends knows what lies beyond them, so that the video goes round.",
            **search_words("seamless loop", "vae decode", "decode tiled"),
            inputs=[
                io.Latent.Input("samples", tooltip="The sampled latent of a timeline that loops."),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                io.Int.Input(
                    "tile_size",
                    default=0,
                    min=0,
                    max=4096,
                    step=32,
                    tooltip="Pixels of a tile, to save memory; 0 decodes in one piece.",
                ),
                io.Int.Input(
                    "overlap", default=64, min=0, max=4096, step=32, tooltip="Pixels that neighbouring tiles share."
                ),
                io.Int.Input("temporal_size", default=64, min=8, max=4096, step=4, tooltip="Frames of a tile."),
                io.Int.Input(
                    "temporal_overlap", default=8, min=4, max=4096, step=4, tooltip="Frames that tiles share."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The frames of the loop; the first follows the last as any frame the one before.",
                )
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        samples: dict[str, Any],
        vae: Any,
        tile_size: int,
        overlap: int,
        temporal_size: int,
        temporal_overlap: int,
    ) -> io.NodeOutput:
        with named_errors("LongVideoDecodeLoop"):
            tiles = Tiles(tile_size, overlap, temporal_size, temporal_overlap) if tile_size else None
            return io.NodeOutput(decode_loop(vae, video_samples("samples", samples), tiles))
