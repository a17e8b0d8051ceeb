"""One model call on a long latent: predicts its segments one by one, each with conditioning cut to it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from comfy.model_management import throw_exception_if_processing_interrupted

from ...config import Order
from ...families.model_inputs import ImageChannels, InputLayout
from ...plan.schedule import Evaluation
from ...session.sampling_run import SamplingRun
from ...session.taking_part import PromptNeededError
from ...timeline.timeline import Timeline
from ..conditioning.carried_image import ImagesGiven, KnownFrames, with_images
from ..conditioning.controls import Controls
from ..conditioning.of_beats import EntriesOfBeats, prompts_first
from ..conditioning.sequence import fit_sequence
from .lead import has_front
from .packed_latent import Latent
from .progress import RunProgress
from .segment_window import Conditioning, SegmentWindow


class CutsConditioning(Protocol):
    """What a model call needs of the handler of its segments."""

    @property
    def timeline(self) -> Timeline: ...

    @property
    def order(self) -> Order: ...

    @property
    def carry_image(self) -> bool:
        """Whether an image-to-video model is given known frames as images."""
        ...

    def get_resized_cond(
        self,
        cond_in: Conditioning | None,
        x_in: torch.Tensor,
        window: SegmentWindow,
        device: Any = None,
        model: Any = None,
    ) -> Conditioning | None:
        """The conditioning of one segment, cut from that of the whole video."""
        ...

    def inputs(self, layout: InputLayout) -> list[str]:
        """The names of the family's inputs that lie so over time."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What the host predicts of one segment, one tensor for each list of conditioning."""

    outputs: list[torch.Tensor]
    prompts: int
    """The list that begins with the segment's prompt."""

    @property
    def shown(self) -> torch.Tensor:
        """The prediction of the prompt."""
        return self.outputs[self.prompts]


@dataclass(frozen=True)
class SegmentCall:
    """What is the same for all segments of one model call. The latent's parts may be mere shapes where pieces come from
    elsewhere; lists: of conditioning, in the order of the sampler; channels: how the model takes images, None where it
    takes none."""

    handler: CutsConditioning
    calc_cond_batch: Callable[..., list[torch.Tensor]]
    model: Any
    timestep: torch.Tensor
    model_options: dict[str, Any]
    latent: Latent
    lists: Sequence[EntriesOfBeats | None]
    run: SamplingRun | None
    channels: ImageChannels | None
    known: KnownFrames
    given: ImagesGiven
    controls: Controls | None = None
    """The ControlNets of segments; None where the model takes none."""

    def predictions(
        self, needed: Sequence[Evaluation], progress: RunProgress | None
    ) -> Iterator[tuple[Evaluation, Prediction]]:
        """The evaluations `needed` with what is predicted, in order."""
        for number, evaluation in enumerate(needed):
            if progress is not None:
                progress.begin_segment(evaluation.segment, number / len(needed))
            yield evaluation, self.prediction(evaluation, self.latent.piece(evaluation.segment.index))

    def prediction(self, evaluation: Evaluation, piece: torch.Tensor) -> Prediction:
        """One evaluation; piece: the latent of its segment."""
        index, run, latent = evaluation.segment.index, self.run, self.latent
        packed = piece.shape[-1] if len(latent.parts) > 1 else None
        window = SegmentWindow(evaluation, latent.video, packed, latent.audio_windows(index))
        window.controls = self.controls
        own = [entries.of_segment(evaluation.segment) if entries else None for entries in self.lists]
        conds = [prompts_first(self._fitted(cond, window)) for cond in own]
        if self.channels is not None:
            conds = [self._with_image(cond, window, self.channels) for cond in conds]
        window.take(conds)
        if run is not None:
            run.begin_evaluation(evaluation)
        evaluate = partial(_evaluate, self.calc_cond_batch, self.model, piece, self.timestep, self.model_options)
        outputs = _prompt_before_others(evaluate, window, conds, run)
        if run is not None:
            run.end_evaluation(evaluation)
        if run is not None and not window.common:
            self._see_effects(run, window, conds, outputs, evaluate)
        prediction = Prediction(outputs, window.prompts or 0)
        if self.channels is not None:
            self.known.add(evaluation.segment, latent.video_of(index, prediction.shown))
        return prediction

    def _with_image(
        self, entries: Conditioning | None, window: SegmentWindow, channels: ImageChannels
    ) -> Conditioning | None:
        """A segment's conditioning for an image-to-video model, given what is known of its frames; warns of a segment
        without any image."""
        if entries is None:
            return None
        own = self.known.of_segment(window.segment)
        if not self.handler.carry_image:
            own = replace(own, known=torch.zeros_like(own.known))
        entries, shown = with_images(entries, window.segment, own, channels, self.given)
        if self.run is not None and not (shown or has_front(entries)):
            self.run.warn_once(
                f"the model takes an image, but prompt {window.segment.beat + 1} begins without one, so what it shows "
                "is made up. Give it one with Long Video Beat Images."
            )
        return entries

    def _fitted(self, cond: Conditioning | None, window: SegmentWindow) -> Conditioning | None:
        """The conditioning of a segment, which tells the model the segment's shapes and sequence."""
        segment, latent = window.segment, self.latent
        resized = latent.conditioning(
            self.handler.get_resized_cond(cond, latent.video, window, model=self.model),
            segment.index,
            self.handler.inputs("audio"),
        )
        names = self.handler.inputs("sequence")
        if resized is None or not names:
            return resized
        shapes = latent.shapes(segment.index)
        return [fit_sequence(entry, names, shapes, segment, self.handler.timeline) for entry in resized]

    def _see_effects(
        self,
        run: SamplingRun,
        window: SegmentWindow,
        conds: list[Conditioning | None],
        outputs: list[torch.Tensor],
        evaluate: Callable[[SegmentWindow, list[Conditioning | None]], list[torch.Tensor]],
    ) -> None:
        """Evaluates a segment again with the subjects' words hidden, if the run needs that, and passes it the
        predictions.

        conds, outputs: lists of conditioning and their predictions.
        """
        segment, prompts, latent = window.segment, window.prompts, self.latent
        if not run.wants_effects(segment, prompts) or prompts is None:
            return
        hidden: dict[int, torch.Tensor] = {}
        for subject in run.settings.plan.shown(segment):
            hiding, prompt = window.hiding(subject, conds[prompts] or [])
            output = evaluate(hiding, [*[None] * prompts, prompt])[prompts]
            hidden[subject] = latent.video_of(segment.index, output)
        run.see_effects(segment, latent.video_of(segment.index, outputs[prompts]), hidden)


def _evaluate(
    calc_cond_batch: Callable[..., list[torch.Tensor]],
    model: Any,
    piece: torch.Tensor,
    timestep: torch.Tensor,
    model_options: dict[str, Any],
    window: SegmentWindow,
    conds: list[Conditioning | None],
) -> list[torch.Tensor]:
    """The host's predictions of one segment, one for each list of conditioning."""
    throw_exception_if_processing_interrupted()
    options = {**model_options["transformer_options"], "context_window": window}
    return calc_cond_batch(model, conds, piece, timestep, {**model_options, "transformer_options": options})


def _prompt_before_others(
    evaluate: Callable[[SegmentWindow, list[Conditioning | None]], list[torch.Tensor]],
    window: SegmentWindow,
    conds: list[Conditioning | None],
    run: SamplingRun | None,
) -> list[torch.Tensor]:
    """The predictions of one segment. Where memory holds one conditioning at a time, hosts evaluate the last list
    first; if that needs masks that are found with the prompt, the prompt's list is evaluated by itself before the
    others."""
    prompts = window.prompts
    if run is None or prompts is None:
        return evaluate(window, conds)
    if not run.part.prompt_apart:
        with suppress(PromptNeededError):
            return evaluate(window, conds)
    alone = evaluate(window, [entries if index == prompts else None for index, entries in enumerate(conds)])
    others = evaluate(window, [None if index == prompts else entries for index, entries in enumerate(conds)])
    return [*others[:prompts], alone[prompts], *others[prompts + 1 :]]
