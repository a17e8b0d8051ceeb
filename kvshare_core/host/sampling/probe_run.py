"""Runs a probe: samples two short clips with the stock sampler and, in between, evaluates the model once more for every
block and every change of it. The sampler's own predictions are not changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.patcher_extension import WrappersMP
from comfy.utils import ProgressBar, unpack_latents

from ...attention.rope import RopeScheme
from ...attention.token_split import split_tokens
from ...bank.bank import KeyValueBank
from ...config import KVShareConfig, MeasuredModel, MemorySettings
from ...families.base import Family, FamilyInfo
from ...families.model_inputs import LATENT_SHAPES
from ...forward.forward import Batch, Forward, PromptText
from ...plan.making import make_plan
from ...plan.share_plan import SharePlan
from ...probe.figures import (
    Effects,
    ProbeSettings,
    agreement,
    appearance_pull,
    blocks_for_masks,
    contrast,
    figures_of,
    over_latent,
    relative_change,
    subject_mask,
)
from ...probe.measured_preset import MeasuredPreset, preset_of
from ...probe.watchers import (
    NO_CALL,
    Change,
    ChangeBlock,
    HideWords,
    KeepSubject,
    ReadMaps,
    WatchedForward,
    Watcher,
    move_keys,
    see_another,
    see_only_oneself,
)
from ...subject.hidden_words import words_effect
from ...timeline.pictures import as_video, video_shape
from ...timeline.timeline import Timeline
from .. import KEY, is_prompt
from ..loading.model_info import model_info
from .attention_override import ModelInputs, OpenedForward, apply_model_wrapper
from .eager import EAGER
from .packed_latent import part_shapes

WATCHER_KEY = "kvshare_probe"
"""Transformer option of a forward: the watcher of its attention."""

SCHEDULERS: tuple[str, ...] = tuple(comfy.samplers.SCHEDULER_NAMES)

SAMPLER = "euler"
"""Its model calls are at the sampler's sigmas, so that the noise levels are known beforehand."""

Evaluate = Callable[[torch.Tensor, Watcher], torch.Tensor]
"""The prediction of the video [1, channels, frames, height, width] for a noisy latent, under a watcher."""


@dataclass(frozen=True)
class Level:
    """The model call of the sampled clip at one noise level: its number, its noisy latent, and a way to repeat it with
    another latent and a watcher."""

    step: int
    latent: torch.Tensor
    evaluate: Evaluate
    rope_options: Mapping[str, float]


@dataclass(frozen=True)
class Reading:
    """The effect of the subject's words in a clip at one noise level: the prediction, by block the score of their map
    [tokens], and where hiding them changes the prediction [tokens]; the last two on the CPU."""

    plain: torch.Tensor
    scores: dict[int, torch.Tensor]
    effect: torch.Tensor


@dataclass(frozen=True)
class Maps:
    """The maps of one noise level. agreements, contrasts: of each block's, mean over both clips; plain: predictions of
    the other clip and of the one that is changed; scores: of both, by block."""

    agreements: tuple[float, ...]
    contrasts: tuple[float, ...]
    plain: tuple[torch.Tensor, torch.Tensor]
    scores: tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]


def probe_model(
    model: Any,
    timeline: Timeline,
    positive: list[Any],
    negative: list[Any],
    latent: dict[str, Any],
    subject: str,
    settings: ProbeSettings,
) -> MeasuredPreset:
    """The effect of every block of `model`, and the blocks that it suggests. Only a clone is patched, until this
    returns.

    timeline: of one prompt and one segment; positive, negative, latent: those that belong to it. Raises
    families.UnsupportedModelError, words.WordError, and ValueError for inputs that cannot be probed, naming them.
    """
    family, info = model_info(model)
    plan = make_plan(timeline, KVShareConfig(), subject, None)
    _check(model, plan, positive, latent)
    if not info.text_in_every_block:
        raise ValueError(
            "model: only some of its blocks attend to the text, so its blocks cannot be compared. Use it without a "
            "preset, or name blocks in layer_idx of KV Sharing Config."
        )
    moves = family.rope_scheme(model.get_model_object("diffusion_model"), {}) is not None
    progress = ProgressBar(settings.model_calls(info.blocks, moves))
    run = ProbeRun(model, family, info, plan, settings, lambda: progress.update(1))
    noises = [comfy.sample.prepare_noise(latent["samples"], settings.seed + number) for number in (0, 1)]
    bank = KeyValueBank(MemorySettings(place="cpu"))
    others: dict[int, torch.Tensor] = {}
    maps: list[Maps] = []
    effects: list[Sequence[Effects]] = []

    def keep(level: Level) -> None:
        others[level.step] = level.latent.clone()

    def look(level: Level) -> None:
        found = run.read_maps(level, others[level.step])
        maps.append(found)
        if len(effects) < settings.noise_levels:
            effects.append(run.change_blocks(level, others[level.step], found, bank))

    try:
        for noise, visit in zip(noises, (keep, look), strict=True):
            run.sample(noise, positive, negative, latent, visit, settings.levels, settings.sampled_steps)
    finally:
        bank.clear()
    figures = [
        figures_of(
            block,
            [found.agreements[block] for found in maps],
            [found.contrasts[block] for found in maps],
            [changes[block] for changes in effects],
        )
        for block in range(info.blocks)
    ]
    return preset_of(
        MeasuredModel(info.family, info.blocks),
        type(run.diffusion_model).__name__,
        timeline.beats[0].prompt,
        subject or plan.names[0],
        settings,
        figures,
    )


class ProbeRun:
    """One probe of one model.

    plan: of one segment and one subject, whose prompt has other words too; after_call: is called after every call of
    the model.
    """

    def __init__(
        self,
        model: Any,
        family: Family,
        info: FamilyInfo,
        plan: SharePlan,
        settings: ProbeSettings,
        after_call: Callable[[], None] = lambda: None,
    ):
        self.model = model
        self.family = family
        self.info = info
        self.plan = plan
        self.settings = settings
        self.diffusion_model: torch.nn.Module = model.get_model_object("diffusion_model")
        self.grid = (0, 0, 0)
        self.after_call = after_call

    def sample(
        self,
        noise: Any,
        positive: list[Any],
        negative: list[Any],
        latent: dict[str, Any],
        visit: Callable[[Level], None],
        levels: Sequence[int],
        last_step: int,
    ) -> torch.Tensor:
        """Samples a clip until `last_step`; `visit` gets the model calls of the steps `levels`, rising."""
        model = self.model.clone()
        waiting = list(levels)

        def calc_cond_batch(
            executor: Any, base_model: Any, conds: Any, x_in: torch.Tensor, timestep: torch.Tensor, model_options: Any
        ) -> Any:
            outputs = executor(base_model, conds, x_in, timestep, model_options)
            self.after_call()
            options = model_options["transformer_options"]
            sigma = float(timestep.max())
            if waiting and sigma <= float(options["sample_sigmas"][waiting[0]]) * (1 + 1e-5):
                prompt = next(entries for entries in conds if entries and is_prompt(entries[0]))
                shapes = part_shapes([prompt])

                def evaluate(x: torch.Tensor, watcher: Watcher) -> torch.Tensor:
                    throw_exception_if_processing_interrupted()
                    watched = {**model_options, "transformer_options": {**options, WATCHER_KEY: watcher}}
                    (output,) = executor(base_model, [prompt], x, timestep, watched)
                    self.after_call()
                    output = as_video(output) if self.info.frames_in_batch else output
                    return unpack_latents(output, shapes)[0] if shapes else output

                visit(Level(waiting.pop(0), x_in, evaluate, options.get("rope_options") or {}))
            return outputs

        model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, calc_cond_batch)
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, apply_model_wrapper(self._open_forward))
        return comfy.sample.sample(
            model,
            noise,
            self.settings.steps,
            self.settings.cfg,
            SAMPLER,
            self.settings.scheduler,
            positive,
            negative,
            latent["samples"],
            last_step=last_step,
            noise_mask=latent.get("noise_mask"),
            disable_pbar=True,
            seed=self.settings.seed,
        )

    def read(self, level: Level, latent: torch.Tensor) -> Reading:
        """The effect of the subject's words in a noisy latent. Raises ValueError when a block has no map of them."""
        (subject,) = self.plan.tokens(0, "both")
        assert subject is not None
        reader = ReadMaps(subject, self.plan.beat_tokens[0])
        plain = level.evaluate(latent, reader)
        hidden = level.evaluate(latent, HideWords(subject))
        for block in range(self.info.blocks):
            if block not in reader.scores:
                raise ValueError(NO_CALL.format(block=block))
        return Reading(plain, reader.scores, words_effect(hidden, plain, self.grid, self.info.patch)[0].cpu())

    def read_maps(self, level: Level, other: torch.Tensor) -> Maps:
        """Reads the maps of the sampled clip and of the `other` clip's latent."""
        both = [self.read(level, latent) for latent in (other, level.latent)]
        blocks = range(self.info.blocks)
        return Maps(
            tuple(sum(agreement(found.scores[block], found.effect) for found in both) / 2 for block in blocks),
            tuple(sum(contrast(found.scores[block], self.grid) for found in both) / 2 for block in blocks),
            (both[0].plain, both[1].plain),
            (both[0].scores, both[1].scores),
        )

    def change_blocks(self, level: Level, other: torch.Tensor, maps: Maps, bank: KeyValueBank) -> list[Effects]:
        """The effect of changing each block on the prediction of the sampled clip."""
        chosen = blocks_for_masks(maps.agreements)
        masks = [subject_mask(torch.stack([found[block] for block in chosen]).mean(0)) for found in maps.scores]
        if not all(mask.any() for mask in masks):
            raise ValueError("subject: the model's attention maps do not show it. Name another word of the prompt.")
        device = level.latent.device
        there, here = (split_tokens(mask, device) for mask in masks)
        level.evaluate(other, KeepSubject(there, bank))
        goal, plain = maps.plain
        goal_cells, cells = (
            over_latent(mask, self.grid, self.info.patch, plain.shape[2:]).to(plain.device) for mask in masks
        )
        scheme = self._scheme(level.rope_options)

        def changed(block: int, change: Change) -> torch.Tensor:
            watcher = ChangeBlock(block, change)
            output = level.evaluate(level.latent, watcher)
            if not watcher.met:
                raise ValueError(NO_CALL.format(block=block))
            return output

        effects: list[Effects] = []
        for block in range(self.info.blocks):
            alone = relative_change(changed(block, see_only_oneself), plain)
            moved = None
            if scheme is not None:
                moved = relative_change(changed(block, move_keys(scheme, max(1, self.grid[0] // 2))), plain)
            shared = changed(block, see_another(here, bank))
            effects.append(
                Effects(
                    alone,
                    moved,
                    relative_change(shared, plain, cells),
                    relative_change(shared, plain, ~cells),
                    appearance_pull(shared, plain, cells, goal, goal_cells),
                )
            )
        return effects

    def _scheme(self, rope_options: Mapping[str, float]) -> RopeScheme | None:
        return self.family.rope_scheme(self.diffusion_model, rope_options)

    def _open_forward(self, inputs: ModelInputs) -> OpenedForward | None:
        """What computes the attention of one call of the model; None when it is not probed."""
        watcher: Watcher | None = inputs.options.get(WATCHER_KEY)
        if watcher is None:
            return None
        shapes = inputs.others.get(LATENT_SHAPES) or [inputs.latent.shape]
        shape = video_shape(shapes[0]) if self.info.frames_in_batch else shapes[0]
        self.grid = self.info.grid(*shape[2:])
        segment = self.plan.timeline.segments[0]
        forward = Forward(segment, Batch(((0, 0),)), PromptText(inputs.text_tokens(self.family.inputs)), self.grid)
        watched = WatchedForward(self.family, self.info, self.diffusion_model, forward, watcher)
        return OpenedForward(watched.attend, EAGER, _left_unread, forward, self.info.blocks)


def _left_unread(_what: str) -> None:
    """A call that cannot be read is none that is looked for; a block without one is an error of the probe."""


def _check(model: Any, plan: SharePlan, positive: list[Any], latent: dict[str, Any]) -> None:
    """Raises ValueError for what cannot be probed."""
    timeline = plan.timeline
    if model.model_options.get("context_handler") is not None:
        raise ValueError("model: it has context windows. Connect the model that goes into Mask-Guided KV Share.")
    if len(timeline.segments) > 1:
        raise ValueError(
            f"timeline: it has {len(timeline.segments)} segments, but one is probed. Connect a Long Video Segmenter "
            "with one prompt without a duration."
        )
    if timeline.script.common_prompt:
        raise ValueError("timeline: it has a common prompt, which replaces the words to look for. Remove it.")
    if len(plan.names) != 1:
        named = ", ".join(plan.names) or "none"
        raise ValueError(f"subject: the probe needs exactly one, but there is {named}. Name what should stay the same.")
    (tokens,) = plan.tokens(0, "both")
    if tokens is None or not tokens.others:
        raise ValueError("subject: the prompt names nothing else. Add words for something else, such as a place.")
    prompts = [extra for _, extra in positive if is_prompt(extra)]
    if len(prompts) != 1 or len(positive) != 1:
        raise ValueError(
            f"positive: it has {len(positive)} conditionings, {len(prompts)} of Long Video Segmenter, but one is "
            "probed. Connect the positive of the Long Video Segmenter that made the timeline."
        )
    videos = video_shape(latent["samples"].shape)[0]
    if videos != 1:
        raise ValueError(f"latent: it has {videos} videos, but one is probed. Set batch_size to 1.")
