"""Follows the subjects through a sampling run: gathers maps while forwards run and turns them into token splits.

Contrast and appearance masks are found in one model call and used from the next noise level on, so that all segments of
a call see the same ones, and so does a call that guidance compares with it; threshold masks (DiTCtrl section 3.2)
belong to one block of one forward, and to one subject. Scores, heat and masks are [subjects, rows, tokens].
"""

from collections.abc import Callable, Collection

import torch

from ..attention.groups import TokenSplit, split_tokens
from ..attention.key_masks import read_key_mask
from ..attention.parts import TOKEN_DIM
from ..devices import upload
from ..families.base import AttentionCall
from ..forward.attended_texts import AttendedText, attended_texts
from ..forward.call import AttentionContext
from ..forward.forward import Forward
from ..plan.schedule import Role
from ..plan.share_plan import SharePlan
from ..record.record import RecordedMasks, RecordedStep, RecordedSubject, SegmentMasks, over_timeline
from . import appearance, maps

MOST_STEPS = 8
"""Steps whose masks are recorded at most; of a longer run evenly spaced ones."""

UNKNOWN_PROMPT = "the conditioning does not come from LongVideoSegmenter; its subject cannot be followed."

Moment = tuple[int, Role, int]
"""Segment, role and block that a threshold mask belongs to."""


class SubjectTracker:
    """Maps, masks and splits of one run.

    frame_patch: latent frames per token frame. warn: is told what cannot be followed. held: segments with frames that
    the run leaves as they are: some models get them without the noise that they are told, and words act anywhere then,
    so masks of these begin with maps.
    """

    def __init__(self, plan: SharePlan, warn: Callable[[str], None], frame_patch: int = 1, held: Collection[int] = ()):
        self.plan = plan
        self.settings = plan.config.masks
        self.frame_patch = frame_patch
        self._warn = warn
        self._held = frozenset(held)
        self._given_up: set[int] = set()
        self._grid: maps.Grid | None = None
        self._heat: dict[int, torch.Tensor] = {}
        self._masks: dict[int, torch.Tensor] = {}
        self._splits: dict[int, list[TokenSplit]] = {}
        self._before: dict[int, list[TokenSplit]] = {}
        self._repeats = False
        self._step = 0
        self._frozen = False
        self._course: dict[int, dict[int, torch.Tensor]] = {}
        self._spacing = 1
        self._effects: dict[int, torch.Tensor] = {}
        self._scores: dict[int, torch.Tensor] = {}
        self._likeness: dict[int, torch.Tensor] = {}
        self._examples: dict[int, appearance.Examples] = {}
        self._running: dict[tuple[int, Role], tuple[torch.Tensor, int]] = {}
        self._moments: dict[Moment, list[TokenSplit]] = {}
        self._indices: dict[tuple[tuple[int, ...], int, torch.device], torch.Tensor] = {}
        self._hidden: tuple[torch.Tensor, frozenset[int]] | None = None
        self._known = (
            {}
            if plan.known is None
            else {index: known for index, known in enumerate(plan.known.masks) if known is not None}
        )
        self._masks |= self._known
        self._blind = not self._known
        if plan.known is not None:
            self._examples |= {index: known for index, known in enumerate(plan.known.examples) if known is not None}
            self._effects |= {index: known for index, known in enumerate(plan.known.effects) if known is not None}

    @property
    def per_block(self) -> bool:
        """Whether every block has masks of its own."""
        return self.plan.finds_subjects and self.settings.kind == "threshold"

    def clear(self) -> None:
        """Frees everything."""
        for store in (self._heat, self._masks, self._splits, self._before, self._scores, self._likeness):
            store.clear()
        for store in (self._examples, self._running, self._moments, self._indices, self._course, self._effects):
            store.clear()
        self._hidden = None

    def begin_stage(self) -> None:
        """Starts to follow subjects in other segments, of which nothing may be known."""
        self._blind = not self._known

    def begin_pass(self, repeats: bool = False, step: int = 0, frozen: bool = False) -> None:
        """Starts a model call on the long latent in sampler step `step`.

        frozen: whether masks that are there stay as they are; repeats: at the noise level of the one before, whose
        masks it uses again and whose record it leaves: guidance must not take a change of masks for an effect of its
        own.
        """
        self._repeats = repeats
        self._step = step
        self._frozen = frozen
        if not repeats:
            self._before = dict(self._splits)
        for store in (self._scores, self._likeness, self._running, self._moments):
            store.clear()

    def end_pass(self, device: torch.device | None) -> None:
        """Turns the maps gathered in a model call into the masks of the next; one transfer from `device` for all."""
        self._running.clear()
        self._moments.clear()
        self._hidden = None
        found: dict[int, torch.Tensor] = {}
        kept = self._masks.keys() if self._frozen else frozenset[int]()
        for index in sorted({*self._scores, *self._likeness} - kept):
            score = self._followed(index, self._scores.get(index, self._effects.get(index)))
            shown = self.plan.shown(self.plan.timeline.segments[index])
            heat, mask = (score, score > 0) if not shown else self._found(score, self._masks.get(index), shown)
            self._heat[index], found[index] = (self._with_absent(values, shown) for values in (heat, mask))
        self._scores.clear()
        self._likeness.clear()
        if not found:
            return
        self._masks |= found
        self._blind = False
        first = next(iter(found.values())).device
        on_cpu = torch.stack([mask.to(first) for mask in found.values()]).cpu()
        self._keep_course(dict(zip(found, on_cpu, strict=True)))
        for index, masks in zip(found, on_cpu, strict=True):
            self._splits[index] = self._split_rows(masks, device or torch.device("cpu"))

    def _keep_course(self, found: dict[int, torch.Tensor]) -> None:
        """Keeps the masks of this step, by segment; where they grow too many, every other one goes."""
        if self._step % self._spacing:
            return
        self._course[self._step] = {**self._course.get(self._step, {}), **found}
        if len(self._course) > MOST_STEPS:
            self._spacing *= 2
            self._course = {step: masks for step, masks in self._course.items() if step % self._spacing == 0}

    def _followed(self, index: int, words: torch.Tensor | None) -> torch.Tensor:
        """The score of a segment's subjects from where their `words` point and from what looks like them, of which one
        may be missing; the next call has its examples where both agree."""
        score = self._likeness.get(index, words)
        assert score is not None
        if self.settings.kind == "appearance":
            pointed = score if words is None else words.to(score.device)
            self._examples[index] = appearance.choose_examples(maps.standardised(score) + maps.standardised(pointed))
        return score

    def _found(
        self, score: torch.Tensor, before: torch.Tensor | None, shown: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Heat and masks of the subjects that are shown; before: the masks of all subjects until now."""
        heat = maps.normalise_over_clip(score)
        if before is not None:
            before = upload(before, score.device)
            before = before if len(shown) == len(before) else torch.stack([before[number] for number in shown])
        mask = maps.threshold_mask(heat, self.settings.thres, before, self.settings.hysteresis)
        return heat, maps.divide_claims(self._finish(mask, score), heat)

    def _with_absent(self, values: torch.Tensor, shown: tuple[int, ...]) -> torch.Tensor:
        """Values [shown subjects, rows, tokens] as those of all subjects; 0 for those that are not shown."""
        count = len(self.plan.names)
        if len(shown) == count:
            return values
        rest = values.new_zeros(values.shape[1:])
        return torch.stack([values[shown.index(number)] if number in shown else rest for number in range(count)])

    def reads(self, step: int, steps: int) -> bool:
        """Whether maps of `step` of `steps` count; frozen masks need no more."""
        settings = self.settings
        if not self.plan.finds_subjects or (settings.attn_map_step_idx and step not in settings.attn_map_step_idx):
            return False
        return self._blind or not self.frozen(step, steps)

    def frozen(self, step: int, steps: int) -> bool:
        """Whether masks are not to change any more in `step` of `steps`."""
        return not self.per_block and step >= self.settings.freeze_after * steps

    def begin_anew(self) -> None:
        """Forgets where words acted in a run before this one, which begins with nothing but noise."""
        self._effects.clear()

    def wants_effects(self, index: int) -> bool:
        """Whether the effect of their words should say where the subjects of segment `index` are, and nothing does."""
        return self._by_effect(index) and index not in self._effects and index not in self._given_up

    def _by_effect(self, index: int) -> bool:
        return self.settings.by_effect and index not in self._held

    def give_up(self, index: int) -> None:
        """Never asks for the effects of segment `index` again."""
        self._given_up.add(index)

    def see_effects(self, index: int, effects: torch.Tensor, grid: maps.Grid) -> None:
        """Where the words of the subjects that segment `index` shows act, [shown subjects, rows, tokens of `grid`]."""
        self._grid = grid
        self._effects[index] = self._scores[index] = maps.standardised(effects)

    def reads_block(self, index: int, block: int) -> bool:
        """Whether the maps of `block` count in segment `index`."""
        if self._by_effect(index):
            return False
        return not self.settings.attn_map_layer_idx or block in self.settings.attn_map_layer_idx

    def watch(self, context: AttentionContext, log_sum_exp: torch.Tensor | None = None) -> None:
        """Reads the map of one call. log_sum_exp: [conditional rows, heads, video tokens] of a joint call, for
        exact probabilities in it."""
        forward = context.forward
        if forward.batch.prompts is None:
            self._warn(UNKNOWN_PROMPT)
            return
        rows = context.conditional_rows
        if rows is None:
            return
        query = context.call.query[rows, :, context.video]
        totals: dict[int, torch.Tensor] = {}
        for text in attended_texts(context, self.frame_patch):
            scores = self._text_scores(context, query, text, log_sum_exp)
            if scores is None:
                return
            for number, score in scores.items():
                weighed = score * self._weight(text, forward, query.device)
                totals[number] = totals[number] + weighed if number in totals else weighed
        if totals:
            total = torch.stack([totals[number] for number in sorted(totals)])
        elif not self.per_block:
            total = torch.zeros(0, forward.batch.latents, forward.video_tokens, device=query.device)
        else:
            return
        self._grid = forward.grid
        if not self.per_block:
            _add(self._scores, forward.segment.index, maps.standardised(total))
        else:
            place = (forward.segment.index, forward.role)
            before, count = self._running.get(place, (torch.zeros_like(total), 0))
            self._running[place] = (before + total, count + 1)

    def compare(self, context: AttentionContext) -> None:
        """Compares the video tokens of one self- or joint attention with the examples of the subjects, where there are
        any."""
        forward, rows = context.forward, context.conditional_rows
        examples = self._examples.get(forward.segment.index)
        if self.settings.kind != "appearance" or examples is None or rows is None or forward.batch.prompts is None:
            return
        self._grid = forward.grid
        value = context.call.value[rows, :, context.video]
        score = maps.standardised(appearance.likeness(value, examples.to(value.device)))
        _add(self._likeness, forward.segment.index, score)

    def _weight(self, text: AttendedText, forward: Forward, device: torch.device) -> float | torch.Tensor:
        """The weight of a text, of each video token where frames weigh texts for themselves."""
        if not isinstance(text.weight, tuple):
            return text.weight
        of_frames = upload(torch.tensor(text.weight), device)
        return of_frames.repeat_interleave(forward.frame_tokens)

    def _text_scores(
        self,
        context: AttentionContext,
        query: torch.Tensor,
        text: AttendedText,
        log_sum_exp: torch.Tensor | None,
    ) -> dict[int, torch.Tensor] | None:
        """Score [rows, video tokens] of each subject that a text names, by its number; None where the tokens do not
        fit."""
        call, rows = context.call, context.conditional_rows or slice(0, 0)
        subjects = {
            number: subject
            for number, subject in enumerate(self.plan.tokens(text.beat, context.forward.role))
            if subject is not None
        }
        if not subjects:
            return {}
        named = [token for subject in subjects.values() for token in subject.subject]
        exact = log_sum_exp is not None
        tokens = self._columns(named, text.beat, exact) or tuple(
            sorted({*self._visible_text(call, text, rows), *named})
        )
        if max(tokens) >= text.length:
            self._warn("the prompt has more tokens than the model received; its subject cannot be followed.")
            return None
        index = self._index(tokens, text.start, call.key.device)
        text_key = call.key[rows].index_select(TOKEN_DIM, index)
        probabilities = maps.text_probabilities(query, text_key, call.scale, log_sum_exp)
        if not self.per_block:
            return {number: maps.subject_score(probabilities, tokens, subject) for number, subject in subjects.items()}
        column = {token: place for place, token in enumerate(tokens)}
        return {
            number: probabilities[..., [column[token] for token in subject.subject]].sum(-1)
            for number, subject in subjects.items()
        }

    def _columns(self, named: list[int], beat: int, exact: bool) -> tuple[int, ...]:
        """Text tokens whose probabilities are needed: with exact ones those that name subjects, else all that the
        softmax is over. Empty when the plan does not say which tokens are real."""
        if exact:
            return tuple(dict.fromkeys(named))
        if self.plan.beat_tokens:
            return tuple(sorted({*self.plan.beat_tokens[beat], *named}))
        return ()

    def _visible_text(self, call: AttentionCall, text: AttendedText, rows: slice) -> tuple[int, ...]:
        """Tokens of a text that the call's own mask does not hide from the conditional rows; all without a mask. A
        model call passes the same mask to all its blocks, so it is read once."""
        if call.mask is None:
            return tuple(range(text.length))
        if self._hidden is None or self._hidden[0] is not call.mask:
            masks = read_key_mask(call.mask, call.key, slice(0, 0))
            self._hidden = call.mask, frozenset(masks[rows.start].hidden if masks else ())
        hidden = self._hidden[1]
        return tuple(token for token in range(text.length) if text.start + token not in hidden)

    def _index(self, tokens: tuple[int, ...], text_start: int, device: torch.device) -> torch.Tensor:
        """Places of text tokens in a sequence, on `device`; made once per run."""
        name = tokens, text_start, device
        if name not in self._indices:
            self._indices[name] = upload(torch.tensor(tokens) + text_start, device)
        return self._indices[name]

    def splits(self, forward: Forward, block: int, device: torch.device) -> list[TokenSplit] | None:
        """The split of every latent of the forward in `block`; None while none is known."""
        if self.plan.mask is not None:
            return self._from_users_mask(forward, self.plan.mask, device)
        if not self.per_block:
            return self._newest(forward, device)
        moment = (forward.segment.index, forward.role, block)
        if moment not in self._moments:
            running = self._running.get(moment[:2])
            if running is None or forward.batch.conditional_rows is None:
                return None
            score = running[0] / running[1]
            heat = maps.normalise_over_frames(score, forward.grid)
            mask = self._finish(maps.threshold_mask(heat, self.settings.thres), score)
            if not self._repeats:
                self._heat[forward.segment.index] = heat
                self._masks[forward.segment.index] = mask
            self._moments[moment] = self._split_rows(mask.cpu(), device)
        return self._moments[moment]

    def _newest(self, forward: Forward, device: torch.device) -> list[TokenSplit] | None:
        """The splits of the newest masks of the clip; at first those of the plan's known masks."""
        splits, index = self._before if self._repeats else self._splits, forward.segment.index
        if index not in splits and index in self._known:
            known = self._known[index]
            here = (len(self.plan.names), forward.batch.latents, forward.video_tokens)
            if known.shape != here:
                raise ValueError(
                    f"known masks: segment {index} has {list(known.shape)} [subjects, batch, tokens] in them, but "
                    f"{list(here)} in this run; make the latent as it was."
                )
            self._grid = forward.grid
            splits[index] = self._split_rows(known, device)
        return splits.get(index)

    def _finish(self, mask: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        assert self._grid is not None
        if self.settings.presence > 0:
            mask = maps.drop_absent_frames(mask, score, self.settings.presence, self._grid)
        return maps.clean_mask(mask, self._grid) if self.settings.clean else mask

    def _split_rows(self, masks: torch.Tensor, device: torch.device) -> list[TokenSplit]:
        """The split of every latent by masks [subjects, rows, tokens] on the CPU and their rim."""
        assert self._grid is not None
        whole = maps.with_rim(masks, self.settings.rim, self._grid)
        return [split_tokens(whole[:, row], device) for row in range(whole.shape[1])]

    def _from_users_mask(self, forward: Forward, mask: torch.Tensor, device: torch.device) -> list[TokenSplit]:
        index = forward.segment.index
        if index not in self._splits:
            segment = forward.segment
            values = (
                maps.mask_to_tokens(mask, self.plan.timeline.pictures_of(segment), forward.grid, self.frame_patch)
                >= 0.5
            )
            self._grid = forward.grid
            self._masks[index] = values.expand(1, forward.batch.latents, -1)
            self._splits[index] = [split_tokens(values.cpu(), device)] * forward.batch.latents
        return self._splits[index]

    def recorded(self) -> RecordedMasks | None:
        """Masks over the whole timeline as they were last; None when no subject was followed."""
        if not self._masks or self._grid is None:
            return None
        timeline = self.plan.timeline
        found: dict[int, torch.Tensor] = {}
        for index, mask in self._masks.items():
            both = torch.stack([self._heat.get(index, mask).float().cpu(), mask.float().cpu()])
            found[index] = self._over_latent_frames(both)
        heat, mask = over_timeline(timeline, found)
        mask = (mask >= 0.5).float()
        naming = map(self.plan.naming, range(len(self.plan.names)))
        subjects = map(RecordedSubject, self.plan.names, heat, mask, naming)
        masks = (self._masks.get(segment.index) for segment in timeline.segments)
        examples = (self._examples.get(segment.index) for segment in timeline.segments)
        effects = (self._effects.get(segment.index) for segment in timeline.segments)
        segments = SegmentMasks(
            self.plan.names,
            tuple(None if mask is None else mask.cpu() for mask in masks),
            tuple(None if chosen is None else chosen.to(torch.device("cpu")) for chosen in examples),
            tuple(None if effect is None else effect.cpu() for effect in effects),
        )
        course = tuple(
            RecordedStep(
                step,
                over_timeline(
                    timeline, {index: self._over_latent_frames(mask.float()) for index, mask in masks.items()}
                )
                >= 0.5,
            )
            for step, masks in sorted(self._course.items())
        )
        return RecordedMasks(timeline, heat.amax(0), mask.amax(0), tuple(subjects), segments, course)

    def _over_latent_frames(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., tokens] of a segment as [..., latent frames, h, w]."""
        assert self._grid is not None
        return maps.spread_over_latent_frames(
            values.unflatten(-1, self._grid), self.plan.timeline.window, self.frame_patch
        )


def _add(totals: dict[int, torch.Tensor], index: int, score: torch.Tensor) -> None:
    """Adds a block's score to that of segment `index`."""
    totals[index] = totals[index] + score if index in totals else score
