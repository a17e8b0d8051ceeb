"""Shows how far a run is: the host's own progress bar and preview, and an event for the timeline editor."""

from collections.abc import Callable, Sequence
from typing import Any

import comfy.utils
import torch
from comfy.cli_args import LatentPreviewMethod, args
from comfy_execution.utils import get_executing_context

from ...timeline.timeline import Segment, Timeline
from ..running import running_node
from ..server import running_server

EVENT = "kv_share.progress"

NOTICE = "kv_share.notice"
"""Event with what a run has to say, for the editor and for the node that runs."""

CHEAP_PREVIEWS = (LatentPreviewMethod.Auto, LatentPreviewMethod.Latent2RGB)
"""The host's previews that load no model; loading one between two segments could evict the sampled one."""


class RunProgress:
    """Follows one run segment by segment; does nothing without a server. The progress never goes back, although
    samplers may evaluate the model several times in a step."""

    def __init__(self, timeline: Timeline, model: Any, stages: Sequence[int] = (1,)):
        """model: the host's model patcher, for previews; stages: how many segments each stage of the run evaluates in a
        model call; with several stages these are counted in place of steps."""
        self._timeline = timeline
        self._stages = stages if len(stages) > 1 else (1,)
        self._stage = 0
        self._bar = comfy.utils.ProgressBar(1)
        self._previewer = _previewer(model) if self._bar.hook is not None else None
        self._server = running_server()
        self._above = _nodes_above()
        self._step, self._steps, self._reached = 0, 1, 0.0

    def next_stage(self) -> None:
        """Ends a stage, whose steps are counted from 0 again."""
        self._stage += 1

    def counted(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """The callback of a sampler, which then counts segments of the whole run in place of steps of the stage."""

        def counting(step: int, denoised: Any, latent: Any, steps: int) -> Any:
            before, now = sum(self._stages[: self._stage]), self._stages[self._stage]
            done = before * steps + now * min(step + 1, steps)
            return callback(done - 1, denoised, latent, steps * sum(self._stages))

        return counting

    def begin_pass(self, step: int, steps: int) -> None:
        """Starts a model call on the long latent, in step `step` of `steps`."""
        self._step, self._steps = step, steps

    def begin_segment(self, segment: Segment, part: float) -> None:
        """Starts a segment when `part` of the model call is done. The event counts from 0 and names the node that runs,
        and those that it depends on; the host's id of a node in a subgraph begins with that of the subgraph."""
        self._advance(part)
        self._send(
            EVENT,
            {
                "step": self._step,
                "steps": self._steps,
                "segment": segment.index,
                "segments": len(self._timeline.segments),
                "beat": segment.beat,
                "prompt": self._timeline.beats[segment.beat].prompt,
                "part": self._reached,
            },
        )

    def say(self, text: str) -> None:
        """Shows a sentence in the editor."""
        self._send(NOTICE, {"text": text})

    def _send(self, event: str, content: dict[str, Any]) -> None:
        """Sends an event of the node that runs to whoever queued it."""
        context = get_executing_context()
        # Without a client of its own the host would send it to every browser, with the prompt's text.
        if self._server is None or context is None or self._server.client_id is None:
            return
        whose = {"node": context.node_id, "above": self._above, "prompt_id": context.prompt_id}
        self._server.send_sync(event, {**whose, **content}, self._server.client_id)

    def end_segment(self, denoised: torch.Tensor, part: float) -> None:
        """Ends a segment: shows the middle frame of its prediction [batch, channels, frames, h, w]."""
        if self._previewer is None or denoised.ndim != 5:
            self._advance(part)
            return
        middle = denoised[:1, :, denoised.shape[2] // 2 :]
        self._advance(part, self._previewer.decode_latent_to_preview_image("JPEG", middle))

    def _advance(self, part: float, preview: Any = None) -> None:
        """Counts as the host's own samplers do, because both advance one bar."""
        before, now, all_stages = sum(self._stages[: self._stage]), self._stages[self._stage], sum(self._stages)
        reached = (before + now * (self._step + part) / self._steps) / all_stages
        self._reached = max(self._reached, reached)
        self._bar.update_absolute(self._reached * self._steps * all_stages, self._steps * all_stages, preview)


def _nodes_above() -> list[str]:
    """Ids of the nodes that the running one depends on; none where they are unknown."""
    found = running_node()
    return [] if found is None else [node.id for node in found[0].above(found[1])]


def _previewer(model: Any) -> Any:
    """The host's own previewer of single frames, which keeps nothing from call to call. Other packs put previewers of
    whole videos in its place (VideoHelperSuite's animated ones), which count the frames that they are shown: these are
    left to the sampler's callback, and segments are not shown."""
    # Imported here, because it reads the command line of a started host.
    from latent_preview import Latent2RGBPreviewer, get_previewer

    if args.preview_method not in CHEAP_PREVIEWS or get_previewer.__module__ != Latent2RGBPreviewer.__module__:
        return None
    previewer = get_previewer(model.load_device, model.model.latent_format)
    return previewer if type(previewer) is Latent2RGBPreviewer else None
