from typing import Any

from comfy_api.latest import io

from ..kvshare_core.host.conditioning.pictures import Tiles, decode_loop
from .errors import named_errors
from .inputs import check_connected, search_words, video_samples
from .sockets import CATEGORY


class LongVideoDecodeLoop(io.ComfyNode):
    """Decodes a looping latent so that the last frame leads seamlessly into the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoDecodeLoop",
            display_name="Long Video Decode Loop",
            category=CATEGORY,
            description="Decodes a looping timeline so it loops seamlessly. Both ends are decoded with their "
            "neighbours across the loop, and the first latent frame becomes as many frames as the others.",
            **search_words("seamless loop", "vae decode", "decode tiled"),
            inputs=[
                io.Latent.Input("samples", tooltip="The sampled latent of a looping timeline."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Int.Input(
                    "tile_size",
                    default=0,
                    min=0,
                    max=4096,
                    step=32,
                    tooltip="Tile size in pixels, to save memory. 0 decodes without tiling.",
                ),
                io.Int.Input(
                    "overlap",
                    default=64,
                    min=0,
                    max=4096,
                    step=32,
                    tooltip="Overlap between tiles, in pixels. Raise it if you see seams between tiles.",
                ),
                io.Int.Input(
                    "temporal_size",
                    default=64,
                    min=8,
                    max=4096,
                    step=4,
                    tooltip="Tile length in frames. Lower it if memory is short.",
                ),
                io.Int.Input(
                    "temporal_overlap",
                    default=8,
                    min=4,
                    max=4096,
                    step=4,
                    tooltip="Overlap between tiles, in frames. Raise it if the video pulses where tiles meet.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The frames of the loop. The last frame leads into the first.",
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
        with named_errors("Long Video Decode Loop"):
            check_connected(vae=vae)
            tiles = Tiles(tile_size, overlap, temporal_size, temporal_overlap) if tile_size else None
            video = video_samples("samples", samples)
            if samples["samples"].ndim == 4:
                raise ValueError("samples: this latent is a batch of pictures, which VAE Decode decodes one by one.")
            return io.NodeOutput(decode_loop(vae, video, tiles))
