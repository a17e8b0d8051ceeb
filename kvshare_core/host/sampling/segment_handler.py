"""Evaluates a long latent segment by segment inside the host's `calc_cond_batch`.

This covers every guider and every sub-step of every sampler, and leaves batching, offloading and wrappers to the host
 (docs/architecture.md#a-tensors-trip).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from comfy.context_windows import ContextHandlerABC

from ...config import Order
from ...families.model_inputs import ImageChannels, InputLayout, PackedAudio, ReferenceFrames
from ...plan.schedule import Evaluation, needed_evaluations, plain_evaluations, sharing_evaluations, step_of
from ...timeline.pictures import as_pictures, as_video, video_shape
from ...timeline.timeline import FRAME_DIM, Timeline
from .. import BEAT_TAG, COMMON_TAG, is_for
from ..conditioning.carried_image import ImagesGiven, KnownFrames
from ..conditioning.controls import Controls
from ..conditioning.joining import join_texts
from ..conditioning.mixing import interpolate_conditioning
from ..conditioning.of_beats import EntriesOfBeats, in_force
from ..conditioning.slicing import check_divisible, slice_conditioning
from .elsewhere import Elsewhere
from .lead import Lead, check_front, inputs_behind, lead_frames
from .packed_latent import Blend, Latent, check_audio, evaluating_pictures, latent_of, part_shapes
from .run_state import RunState, run_state
from .segment_call import SegmentCall
from .segment_weights import segment_weights
from .segment_window import Conditioning, SegmentWindow

GUIDANCE_FUNCTIONS = frozenset({"sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function"})
"""Model options of the host under which other nodes change guidance; some compare all frames with each other."""


@dataclass(frozen=True)
class SegmentHandler(ContextHandlerABC):
    """Evaluates the segments of a timeline. Frozen, so that copies of a MODEL may share it or copy it."""

    timeline: Timeline
    family_inputs: Mapping[str, InputLayout]
    """The layout over time of the inputs of the model's family."""
    order: Order = "lockstep"
    audio: PackedAudio | None = None
    """What the family states about audio in the latent."""
    image_channels: ImageChannels | None = None
    """How an image-to-video model takes images; None for other models."""
    carry_image: bool = True
    """Whether such a model is given known frames as images."""
    images_optional: bool = False
    """Whether the model may be a text-to-video one with the same channels."""
    references: ReferenceFrames | None = None
    """How the conditioning tells of reference frames in front of the video; None for models whose nodes add none."""
    frames_in_batch: bool = False
    """Whether the latent is a batch of pictures, the film's frames."""
    elsewhere: Elsewhere | None = None
    """Where the segments are evaluated; None for this process."""

    @property
    def dim(self) -> int:
        return FRAME_DIM

    @property
    def context_length(self) -> int:
        return self.timeline.window

    def should_use_context(
        self,
        model: Any,
        conds: list[Conditioning],
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict[str, Any],
    ) -> bool:
        """Always; raises ValueError when the latent or the conditioning is not the one of the timeline."""
        # First, because guide frames make the latent longer too.
        for cond in conds:
            check_divisible(cond or (), self.family_inputs)
        planned = self.timeline.latent_frames
        parts = part_shapes(conds)
        shape = parts[0] if parts else video_shape(x_in.shape) if self.frames_in_batch else x_in.shape
        lead = 0 if len(shape) != 5 or parts else lead_frames(self.references, shape[FRAME_DIM], planned, conds)
        if len(shape) != 5 or shape[FRAME_DIM] - lead != planned:
            found = f"{shape[FRAME_DIM]} frames" if len(shape) == 5 else f"the shape {tuple(shape)}"
            fix = "Connect the latent of the same Long Video Segmenter to the sampler."
            if self.references is not None:
                fix = (
                    f"Set the length of the node that makes the conditioning to {self.timeline.frames}, as the "
                    "timeline's, and connect its latent: a frame that it adds for a reference picture is known."
                )
            raise ValueError(
                f"Mask-Guided KV Share: the latent has {found}, but the timeline plans {planned} latent frames. {fix}"
            )
        if self.references is not None and not lead:
            check_front(self.references, planned, conds)
        for part in parts[1:]:
            if self.audio is not None:
                check_audio(self.audio, model, conds, self.timeline, part)
        self._check_conditioning(conds)
        return True

    def _check_conditioning(self, conds: Sequence[Conditioning | None]) -> None:
        """Every beat must have conditioning, and no conditioning may be of a beat that the timeline does not have."""
        beats = set(range(len(self.timeline.beats)))
        for cond in conds:
            tags = {entry[BEAT_TAG] for entry in cond or () if BEAT_TAG in entry}
            for_every_beat = any(BEAT_TAG not in entry and COMMON_TAG not in entry for entry in cond or ())
            if tags - beats or (tags and not for_every_beat and tags != beats):
                found = ", ".join(str(tag + 1) for tag in sorted(tags))
                raise ValueError(
                    f"Mask-Guided KV Share: the conditioning has prompts {found}, but the timeline has {len(beats)} of "
                    "them. Connect the conditioning of the same Long Video Segmenter to the sampler."
                )

    def get_resized_cond(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        cond_in: Conditioning | None,
        x_in: torch.Tensor,
        window: SegmentWindow,
        device: Any = None,
        model: Any = None,
    ) -> Conditioning | None:
        """The conditioning of the window's beat, its per-frame tensors sliced to the window.

        model: the host's model, which on newer hosts knows how to slice inputs of its own.

        In a transition each entry of the beat is interpolated with the entry of the next beat at the same index, and in
        a routed segment the texts of all its beats are joined; an entry without a beat stays as it is. Raises
        ValueError when one beat has more entries than the other, or something cannot be cut.
        """
        if cond_in is None:
            return None
        beat, next_beat = window.segment.beat, window.segment.next_beat
        resize = getattr(model, "resize_cond_for_context_window", None)

        def sliced(cond: dict[str, Any]) -> dict[str, Any]:
            return slice_conditioning(cond, x_in, window.segment, window, self.family_inputs, resize)

        cond_in = [cond for cond in cond_in if is_for(cond, window.segment.index)]
        own = [sliced(cond) for cond in cond_in if cond.get(BEAT_TAG, beat) == beat]
        tagged = [cond for cond in own if BEAT_TAG in cond]

        def partners_of(other: int) -> Conditioning:
            found = tagged if other == beat else [sliced(cond) for cond in cond_in if cond.get(BEAT_TAG) == other]
            if len(found) != len(tagged):
                raise ValueError(
                    f"Mask-Guided KV Share: prompt {beat + 1} has {len(tagged)} conditionings and prompt {other + 1} "
                    f"has {len(found)}, so there can be no transition between them. Give both the same number, or cut "
                    "from one to the other."
                )
            return found

        if next_beat is not None:
            partners = iter(partners_of(next_beat))
            return [
                interpolate_conditioning(cond, next(partners), window.segment.mix, self.family_inputs)
                if BEAT_TAG in cond
                else cond
                for cond in own
            ]
        if window.segment.texts and tagged:
            rows = iter(zip(*(partners_of(text.beat) for text in window.segment.texts), strict=True))
            return [self._routed(cond, next(rows), window) if BEAT_TAG in cond else cond for cond in own]
        return own

    def _routed(self, own: dict[str, Any], entries: Sequence[dict[str, Any]], window: SegmentWindow) -> dict[str, Any]:
        joined, lengths = join_texts(own, entries)
        window.routes[joined["uuid"]] = lengths
        return joined

    def execute(
        self,
        calc_cond_batch: Callable[..., list[torch.Tensor]],
        model: Any,
        conds: list[Conditioning],
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict[str, Any],
    ) -> list[torch.Tensor]:
        """One model call on the long latent: every segment in order, blended.

        The host's outputs are denoised predictions, and guidance is linear in them: blending them here is blending
        after guidance, as DiTCtrl does. Frames of segments that are not evaluated are returned as they were.
        """
        if self.frames_in_batch and x_in.ndim == 4:
            evaluate = evaluating_pictures(calc_cond_batch)
            outputs = self.execute(evaluate, model, conds, as_video(x_in), timestep, model_options)
            return [as_pictures(output) for output in outputs]
        options = model_options["transformer_options"]
        state = run_state(options)
        run = None if state is None else state.run
        frames = 0 if self.references is None else x_in.shape[FRAME_DIM] - self.timeline.latent_frames
        if frames:
            lead = Lead(frames, x_in, len(conds))
            behind = replace(self, references=None, family_inputs=inputs_behind(self.family_inputs, frames))
            conds = [cond and [lead.without_front(entry, self.family_inputs) for entry in cond] for cond in conds]
            around = lead.around(calc_cond_batch)
            return lead.whole(behind.execute(around, model, conds, lead.video, timestep, model_options))
        latent = latent_of(x_in, conds, self.timeline, self.audio)
        sums = [Blend(latent) for _ in conds]
        # The only time in a step that the CPU waits for the device to say where the sampler is.
        sigma = float(timestep.max())
        conds = [cond and in_force(cond, sigma) for cond in conds]
        planned = self._begin_pass(state, options, sigma)
        needed = self._needed(planned, state, latent, model_options)
        progress = None if state is None else state.progress
        known = KnownFrames.none_of(latent.video) if state is None else state.known_like(latent.video)
        given = ImagesGiven() if state is None else state.given
        controls = None if not self.frames_in_batch else Controls() if state is None else state.controls
        channels = self._image_channels(conds, known, given)
        # Once in a model call: a copy of the whole video for every segment would be time in proportion to its square.
        known = known if channels is None else known.copy()
        lists = [EntriesOfBeats(cond) if cond else None for cond in conds]
        call = SegmentCall(
            self, calc_cond_batch, model, timestep, model_options, latent, lists, run, channels, known, given, controls
        )
        elsewhere = None if state is None else state.elsewhere
        made = call.predictions(needed, progress) if elsewhere is None else elsewhere.predictions(call, needed)
        for number, (evaluation, prediction) in enumerate(made):
            for total, output in zip(sums, prediction.outputs, strict=True):
                total.add(
                    evaluation.segment.index,
                    output,
                    partial(segment_weights, self.timeline, self.order, evaluation.weight),
                )
            if progress is not None:
                progress.end_segment(prediction.shown, (number + 1) / len(needed))
        if run is not None:
            run.end_pass()
        complete = len({evaluation.segment.index for evaluation in needed}) == len(self.timeline.segments)
        return [total.result(complete) for total in sums]

    def _image_channels(
        self, conds: list[Conditioning], known: KnownFrames, given: ImagesGiven
    ) -> ImageChannels | None:
        """How the model takes images; None also for one that may be a text-to-video model and gets none."""
        channels = self.image_channels
        if channels is None or not self.images_optional or bool(known.known.any()):
            return channels
        found = [given.by(entry, None, channels, known.latent.shape[1]) for cond in conds for entry in cond or ()]
        return channels if any(frames is not None and bool(frames.any()) for frames in found) else None

    def inputs(self, layout: InputLayout) -> list[str]:
        """The names of the family's inputs that lie so over time."""
        return [name for name, found in self.family_inputs.items() if found == layout]

    def _begin_pass(self, state: RunState | None, options: dict[str, Any], sigma: float) -> Sequence[Evaluation]:
        if state is None:
            return plain_evaluations(self.timeline, self.order)
        sigmas = state.sigmas.of(options["sample_sigmas"])
        state.progress.begin_pass(step_of(sigma, sigmas), len(sigmas) - 1)
        return state.run.begin_pass(sigma, sigmas)

    def _needed(
        self, planned: Sequence[Evaluation], state: RunState | None, latent: Latent, model_options: dict[str, Any]
    ) -> Sequence[Evaluation]:
        """Those of the planned evaluations whose output or keys are used; all when no frame is held, or when guidance
        or drift control compares whole videos."""
        if state is None or state.held is None or GUIDANCE_FUNCTIONS & model_options.keys():
            return planned
        run, plan = state.run, state.run.settings.plan
        if plan.config.drift_control > 0:
            return planned
        wanted = state.held.free_segments(latent.stretches)
        if plan.look is not None:
            looked = self.timeline.frame_of(plan.look.picture)
            wanted |= {segment.index for segment in self.timeline.segments_at(looked)}
        if run.stages.early:
            of_run = needed_evaluations(sharing_evaluations(self.timeline, self.order), wanted, plan.sources)
            wanted = {evaluation.segment.index for evaluation in of_run}
        return needed_evaluations(planned, wanted, plan.sources if run.needs_sources else lambda _: ())
