from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.host.sampling.patch import apply
from ..kvshare_core.plan.making import make_plan
from ..kvshare_core.record.record import KVShareRecord
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import check_connected, search_words
from .sockets import CATEGORY, ConfigSocket, RecordSocket, TimelineSocket


class MaskGuidedKVShare(io.ComfyNode):
    """Patches a MODEL so that a stock sampler samples the whole timeline with a consistent subject."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskGuidedKVShare",
            display_name="Mask-Guided KV Share",
            category=CATEGORY,
            description="Patches a video model so that any sampler evaluates a timeline segment by segment, and the "
            "subject of later segments attends to the subject of earlier ones.",
            **search_words(
                "kv share",
                "film",
                "story",
                "ditctrl",
                "masactrl",
                "consistent subject",
                "consistent character",
                "attention sharing",
            ),
            inputs=[
                io.Model.Input("model", tooltip="The video model to patch. The input model itself is not changed."),
                TimelineSocket.Input("timeline", tooltip="From Long Video Segmenter."),
                ConfigSocket.Input(
                    "config",
                    optional=True,
                    tooltip="From KV Sharing Config or DiTCtrl Config (paper). If not connected, the defaults.",
                ),
                io.String.Input(
                    "subject",
                    default="",
                    tooltip="Words that name one subject to keep consistent, exactly as in every prompt: fox, or red "
                    "fox. Leave it empty if the script sets its own subjects. With no subject at all, everything is "
                    "shared.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Mask of one subject: one image for all frames, or one per frame. Overrides subject words, "
                    "including those of the script.",
                ),
                io.String.Input(
                    "look_at",
                    default="",
                    optional=True,
                    tooltip="A point of the video as x, y, frame, with x and y from 0 to 1. Its attention map is "
                    "recorded for Attention Mask Preview. Does not change the video.",
                ),
                RecordSocket.Input(
                    "earlier_record",
                    optional=True,
                    tooltip="Record of an earlier run of the same film, from Long Video Load or from the "
                    "Mask-Guided KV Share of the previous sampler. Its subject masks are used from the first step, so "
                    "a stopped run resumes exactly where it was.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="For any sampler, with the same timeline's conditioning and latent."
                ),
                RecordSocket.Output(
                    display_name="record", tooltip="The subject masks, for Attention Mask Preview and Long Video Save."
                ),
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        model: Any,
        timeline: Timeline,
        subject: str,
        config: KVShareConfig | None = None,
        mask: torch.Tensor | None = None,
        look_at: str = "",
        earlier_record: KVShareRecord | None = None,
    ) -> io.NodeOutput:
        with named_errors("Mask-Guided KV Share"):
            check_connected(model=model, timeline=timeline)
            plan = make_plan(timeline, config or KVShareConfig(), subject, mask, look_at)
            return io.NodeOutput(*apply(model, plan, earlier_record))
