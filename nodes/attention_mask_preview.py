import torch
from comfy_api.latest import io

from ..kvshare_core.choices import wrong_choice
from ..kvshare_core.host.files.map_files import save_maps
from ..kvshare_core.host.files.viewer import view_of
from ..kvshare_core.host.running import findings_above
from ..kvshare_core.record.preview import heat_of_pictures, overlay_heat, pictures_of, rgb_of, without_heat
from ..kvshare_core.record.record import Findings, KVShareRecord
from .errors import named_errors
from .inputs import check_connected, rare, search_words
from .sockets import CATEGORY, RecordSocket

SUBJECT, POINT = "subject", "look_at"


class AttentionMaskPreview(io.ComfyNode):
    """Shows the subject mask that was found from attention."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttentionMaskPreview",
            display_name="Attention Mask Preview",
            category=CATEGORY,
            description="Overlays the subject map found by attention on the decoded frames. Browse it by frame, "
            "subject and segment in the node. To save it as a video, connect images to Create Video and Save Video.",
            is_output_node=True,
            **search_words("attention map", "heatmap", "subject mask"),
            inputs=[
                RecordSocket.Input("record", tooltip="From Mask-Guided KV Share."),
                io.Image.Input(
                    "images",
                    tooltip="The decoded frames of the same run. They also make this node wait for the sampler.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.6,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Opacity of the heatmap over the frames. Lower it to see more of the frames.",
                ),
                io.Combo.Input(
                    "show",
                    options=[SUBJECT, POINT],
                    default=SUBJECT,
                    optional=True,
                    tooltip="subject: where the subject was found. look_at: the attention map of the point set in "
                    "Mask-Guided KV Share; the mask output is then that map.",
                ),
                io.String.Input(
                    "subject",
                    default="",
                    optional=True,
                    tooltip="Name of one subject from the script, to show only that one. Empty shows all subjects.",
                ),
                io.String.Input(
                    "mask_save_dir",
                    default="",
                    optional=True,
                    tooltip="A folder inside the output folder, such as kvshare/maps. Every run is saved in a new "
                    "folder of its own there: the masks, and the attention maps that keep_maps of KV Sharing Mask "
                    "Settings names, as numbers (safetensors), pictures (PNG) and an animation (WebP). Empty saves "
                    "nothing.",
                    **rare(),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The frames with the heatmap. Use Create Video and Save Video to save them as a video.",
                ),
                io.Mask.Output(display_name="mask", tooltip="The subject mask that guided the sharing, one per frame."),
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        record: KVShareRecord,
        images: torch.Tensor,
        opacity: float,
        show: str = SUBJECT,
        subject: str = "",
        mask_save_dir: str = "",
    ) -> io.NodeOutput:
        with named_errors("Attention Mask Preview"):
            check_connected(record=record, images=images)
            if show not in (SUBJECT, POINT):
                raise ValueError(wrong_choice("show", show, (SUBJECT, POINT)))
            findings = findings_above(record, "images")
            images = rgb_of(images)
            folder = mask_save_dir.strip()
            if folder and findings.maps and findings.masks is None and show == SUBJECT:
                shown = without_heat(images)
            elif show == POINT:
                shown = cls._point(findings, images, opacity)
            else:
                shown = cls._masks(findings, images, opacity, subject.strip())
            saved = save_maps(findings, shown[0], folder) if folder else []
            view = view_of(findings, images, show=show, subject=subject.strip(), opacity=opacity)
            if saved:
                view["kvshare_saved"] = saved
        return io.NodeOutput(*shown, ui=view)

    @classmethod
    def _masks(
        cls, findings: Findings, images: torch.Tensor, opacity: float, subject: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        masks = findings.masks
        if masks is None and findings.named:
            raise ValueError(
                "record: the run had a subject, but no step looked for it: the common prompt held in all of them, "
                "denoise was 0, or sharing ended early (see the log). Let the common prompt end earlier, such as until "
                "20%, or raise denoise. With sharing off, a film is looked at only if this input was connected while "
                "it was sampled: change the sampler's seed to sample it again."
            )
        if masks is None:
            raise ValueError(
                "record: no run of this model has found a subject yet. Name a subject or connect a mask in "
                "Mask-Guided KV Share, and connect the decoded frames of the sampler that uses its model."
                + cls._said(findings)
            )
        if subject:
            masks = masks.of(subject)
        heat, mask = pictures_of(masks, images.shape[0], images.shape[1], images.shape[2])
        return overlay_heat(images, heat, opacity), mask

    @classmethod
    def _point(cls, findings: Findings, images: torch.Tensor, opacity: float) -> tuple[torch.Tensor, torch.Tensor]:
        point = findings.point
        if point is None:
            raise ValueError(
                "record: no run of this model has recorded a point yet. Set look_at in Mask-Guided KV Share, and "
                "connect the decoded frames of the sampler that uses its model."
            )
        heat = heat_of_pictures(point.heat, point.timeline, images.shape[0], images.shape[1], images.shape[2])
        return overlay_heat(images, heat, opacity), heat

    @staticmethod
    def _said(findings: Findings) -> str:
        """What the run had to say of itself."""
        return "".join(f" That run: {notice}" for notice in findings.notices)
