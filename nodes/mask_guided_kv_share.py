from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.host.sampling.patch import apply
from ..kvshare_core.plan.making import make_plan
from ..kvshare_core.record.record import KVShareRecord
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import search_words
from .sockets import CATEGORY, ConfigSocket, RecordSocket, TimelineSocket


class MaskGuidedKVShare(io.ComfyNode):
    """Patches a MODEL so that the stock sampler makes the whole timeline with one subject."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskGuidedKVShare",
            display_name="Mask-Guided KV Share",
            category=CATEGORY,
            description="Patches a video model so that the stock sampler evaluates a timeline segment by segment, and "
            "the subject of later segments attends to the subject of earlier ones.",
            **search_words("ditctrl", "masactrl", "consistent subject", "consistent character", "attention sharing"),
            inputs=[
                io.Model.Input("model", tooltip="The video model to patch; the input itself is left as it is."),
                TimelineSocket.Input("timeline", tooltip="The plan from LongVideoSegmenter."),
                ConfigSocket.Input(
                    "config",
                    optional=True,
                    tooltip="From KVShareConfig or DiTCtrlConfig; without it the defaults hold.",
                ),
                io.String.Input(
                    "subject",
                    default="",
                    tooltip="Words that name what should stay the same, as they stand in every prompt: fox, or red "
                    "fox. They are one subject together. Leave it empty where the script names subjects itself, which "
                    "are then followed each by itself; other words beside them are an error. With neither everything "
                    "is shared.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="A mask of the subject: one picture for all frames or one for each. It overrides the "
                    "words, also those of the script, and is one subject.",
                ),
                io.String.Input(
                    "look_at",
                    default="",
                    optional=True,
                    tooltip="A point of the video as x, y, frame, with x and y from 0 to 1: AttentionMaskPreview then "
                    "can show what the model looks at from there. Changes nothing about the video.",
                ),
                RecordSocket.Input(
                    "earlier_record",
                    optional=True,
                    tooltip="The record of an earlier run of the same film, from LongVideoLoad or from the "
                    "MaskGuidedKVShare of a sampler before this one: where it found the subjects holds from the first "
                    "step on, so that a run that was broken off goes on as if it had not been.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="For any sampler, with the conditioning and latent of the timeline."
                ),
                RecordSocket.Output(
                    display_name="record", tooltip="For AttentionMaskPreview: where the subject was found."
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
        with named_errors("MaskGuidedKVShare"):
            plan = make_plan(timeline, config or KVShareConfig(), subject, mask, look_at)
            return io.NodeOutput(*apply(model, plan, earlier_record))
