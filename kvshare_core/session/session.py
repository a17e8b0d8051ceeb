"""One sampling run: owns the bank, the subject's masks and the counters.

The host layer makes a session when sampling starts and closes it when sampling ends, however it ends. A model call on
the long latent is a *pass*: `begin_pass`, then one forward (or more, when the host splits its batch) for every
evaluation in order, then `end_pass`, after which no keys are held but those for later stages. In a plan of several
stages the latent is sampled once for each, with `next_stage` in between.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..attention import parts as attention
from ..attention.groups import TokenSplit, sharing_groups, split_tokens
from ..attention.key_masks import ODD_MASK, KeyMask
from ..attention.log_sum_exp import LogSumExpAttention, OutputWithLogSumExp
from ..attention.positions import PositionMover
from ..bank.bank import BankEntry, BankKey, Chunk, KeyValueBank
from ..families.base import AttentionCall, CallSite, Family, FamilyInfo, UnexpectedCallError
from ..forward.entries import exported_entry, imported_entry
from ..forward.forward import Forward
from ..forward.routing import Route, attend_routed
from ..forward.rows import SharedRow, alike, grouped, join_entries, key_masks, key_rows, own_tokens, take_rows
from ..plan import schedule
from ..plan.schedule import Evaluation
from ..plan.share_plan import SharePlan
from ..plan.stages import Stages
from ..point.watcher import PointWatcher
from ..record.record import RecordedMasks, RecordedPoint
from ..subject.hidden_words import HiddenWords
from ..subject.tracker import UNKNOWN_PROMPT, SubjectTracker
from ..timeline.timeline import Segment


class Session:
    """State of one sampling run. `warn` receives each kind of warning once.

    sigma_window: the highest and the lowest sigma that share (start_percent and end_percent of the configuration);
    bank_budget: bytes that the bank may keep on the device where the configuration leaves that open;
    rope_options: how the host scales positions in this run; full_noise: the model's highest sigma, at which runs begin
    anew; held: segments with frames that the run leaves as they are.
    """

    def __init__(
        self,
        plan: SharePlan,
        family: Family,
        info: FamilyInfo,
        diffusion_model: torch.nn.Module,
        warn: Callable[[str], None],
        sigma_window: tuple[float, float] = (math.inf, 0.0),
        bank_budget: int | None = None,
        rope_options: Mapping[str, float] | None = None,
        full_noise: float = math.inf,
        held: Collection[int] = (),
    ):
        self.plan = plan
        self.family = family
        self.info = info
        self.diffusion_model = diffusion_model
        self.sigma_window = sigma_window
        self.full_noise = full_noise
        self.bank = KeyValueBank(plan.config.memory, bank_budget)
        self.blocks = sorted(schedule.shared_blocks(plan.config, info.blocks))
        self.shared_calls = 0
        self._pass: _Pass | None = None
        self._warn = warn
        self._warned: set[str] = set()
        self._trusted = True
        self._tracker = SubjectTracker(plan, self.warn_once, info.patch[0], held)
        self._points = PointWatcher(plan, info.patch[0])
        self._lse_attention = LogSumExpAttention()
        scheme = family.rope_scheme(diffusion_model, rope_options or {})
        # Whole videos have one centre: without subjects keys would be turned by nothing.
        centres_nothing = plan.config.position == "centred" and not plan.guided
        placed = replace(plan.config, position="same") if centres_nothing else plan.config
        self._mover = PositionMover(placed, scheme, info.patch[0], plan.gapped_beat)
        self._device: torch.device | None = None
        self._ever_shared = False
        self._words = HiddenWords(plan, info, self.warn_once)
        self._last_sigma: float | None = None
        self.stages = Stages(plan)

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        self.bank.clear()
        self._tracker.clear()
        self._points.clear()

    def finish(self) -> tuple[RecordedMasks | None, RecordedPoint | None]:
        """Ends a run that came through: what it found out, and a warning when no step shared."""
        if self._trusted and self.plan.shares and self._pass is not None and not self._ever_shared:
            self.warn_once("nothing was shared: no step of this run lies in the steps that the configuration names.")
        return self._tracker.recorded(), self._points.recorded()

    def next_stage(self) -> None:
        """Ends a stage; the latent is going to be sampled from its beginning again."""
        self.stages.next()
        self._last_sigma = None
        self._tracker.begin_stage()

    def begin_pass(self, sigma: float, sample_sigmas: Sequence[float]) -> list[Evaluation]:
        """Starts a model call on the long latent; the evaluations of the stage's segments in order.

        sample_sigmas: the sigmas of the run, falling, with the final one.
        """
        config, steps = self.plan.config, len(sample_sigmas) - 1
        step = schedule.step_of(sigma, sample_sigmas)
        high, low = self.sigma_window
        strengths = tuple(
            self.plan.strength(segment.index, step, steps) if self.plan.sources(segment.index) else 0.0
            for segment in self.plan.timeline.segments
        )
        shares = (
            self._trusted
            and low <= sigma <= high
            and bool(self.blocks)
            and max(strengths) > 0
            and schedule.shares_step(config, step)
        )
        self._ever_shared |= shares
        # A second pass at one sigma is guidance that perturbs the model (skipped layers, for example): its maps do not
        # count beyond it.
        repeats = sigma == self._last_sigma
        reads = self._trusted and (not repeats or self._tracker.per_block) and self._tracker.reads(step, steps)
        if self._last_sigma is None and self.stages.first and sigma >= self.full_noise * (1 - 1e-4):
            self._tracker.begin_anew()
        self._last_sigma = sigma
        self._pass = _Pass(step, strengths, shares, reads, repeats)
        self._release()
        self._tracker.begin_pass(repeats, step, self._tracker.frozen(step, steps))
        planned = schedule.evaluations(self.plan.timeline, config.order, shares)
        now = [evaluation for evaluation in planned if evaluation.segment.index in self.stages.segments]
        # Whichever steps share, later stages see what an early one ends with.
        writes = self._trusted and self.stages.early and not shares
        return [replace(evaluation, role="source") for evaluation in now] if writes else now

    @property
    def needs_sources(self) -> bool:
        """Whether segments look at others that the running pass evaluates, or their maps are read for a later one; in
        a run of several stages they look at what is there already."""
        return not self.stages.has_early_stages and self._pass is not None and (self._pass.shares or self._pass.reads)

    def end_pass(self) -> None:
        """Ends a model call: turns the maps it gathered into masks and releases its keys."""
        self._release()
        self._tracker.end_pass(self._device)
        self._points.end_pass()

    def begin_evaluation(self, evaluation: Evaluation) -> None:
        """Releases the keys that neither this evaluation nor a later one asks for."""
        if not self.stages.has_early_stages:
            remaining = range(evaluation.segment.index, len(self.plan.timeline.segments))
            self.bank.keep_segments({source for later in remaining for source in self.plan.sources(later)})

    def _release(self) -> None:
        """Releases the keys of a pass, unless they are for later ones."""
        if not self.stages.has_early_stages:
            self.bank.clear()

    def wants_effects(self, segment: Segment, prompts: int | None) -> bool:
        """Whether `segment` is to be evaluated once more in the running pass for each subject it shows, without the
        subject's words. Asked when its ordinary evaluation is done, in which the model must have seen its own prompt.
        prompts: as in Forward."""
        if not self._looks(segment.index):
            return False
        if prompts is None:
            self.warn_once(UNKNOWN_PROMPT)
        return self._pass is not None and segment.index in self._pass.met

    def _looks(self, index: int) -> bool:
        """Whether the running pass looks for the subjects of segment `index` by the effect of their words."""
        now = self._pass
        return now is not None and self._trusted and now.reads and self._tracker.wants_effects(index)

    def see_effects(self, segment: Segment, plain: torch.Tensor, hidden: Mapping[int, torch.Tensor]) -> None:
        """What a segment's prediction [rows, channels, frames, height, width] is, and what it is without the words of
        each subject that it shows, by its number."""
        if not self._trusted:
            return
        grid = self.info.grid(*plain.shape[2:])
        effects = self._words.effects(plain, hidden, grid)
        if effects is not None:
            self._tracker.see_effects(segment.index, effects, grid)
            return
        self._tracker.give_up(segment.index)
        self.warn_once(
            f"hiding the subject's words changed nothing in segment {segment.index + 1}; it is not followed there."
        )

    def open_forward(
        self,
        evaluation: Evaluation,
        chunks: tuple[Chunk, ...],
        prompts: int | None,
        rows: int,
        grid: tuple[int, int, int],
        text_tokens: int,
        hides: int | None = None,
    ) -> Forward | None:
        """A forward of the running pass to be watched, or None when nothing of it concerns the session; the arguments
        are those of Forward. One that hides words does nothing else."""
        now = self._pass
        if now is None or not self._trusted:
            return None
        strength = now.strengths[evaluation.segment.index]
        forward = Forward(
            evaluation.segment, chunks, prompts, rows, grid, text_tokens, now.step, evaluation.role, strength
        )
        if hides is not None:
            return replace(forward, shares=False, reads=False, hides=hides)
        # What the words do is what they do without sharing.
        takes_part = evaluation.role != "plain" and (now.shares or self.stages.early)
        forward.shares = takes_part and not self._looks(evaluation.segment.index)
        forward.reads = now.reads and (forward.shares or not self._tracker.per_block)
        if not (forward.shares or forward.reads or forward.segment.texts or self._points.wants(forward)):
            return None
        self._prefetch(forward, self.blocks[:1])
        return forward

    def attend(self, forward: Forward, call: AttentionCall, backend: attention.Backend) -> torch.Tensor | None:
        """The output [rows, heads, tokens, head_dim] of one attention call, or None where the ordinary call will do.

        `backend(query, key, value)` attends as the host would have done.
        """
        index = forward.call_index
        forward.call_index += 1
        if not self._trusted:
            return None
        try:
            site = self.family.classify(self.diffusion_model, index, call, forward.video_tokens, forward.text_tokens)
        except UnexpectedCallError as reason:
            self._distrust()
            self.warn_once(f"{self.info.family}: attention call {index} has {reason}; this model is left unshared.")
            return None
        if site.kind == "other":
            return None
        self._device = call.query.device
        if forward.hides is not None:
            return self._without_words(forward, call, site, backend)
        if site.kind == "aside":
            return None
        if (rows := forward.conditional_rows) is not None:
            if self._pass is not None and forward.own_text:
                self._pass.met.add(forward.segment.index)
            self._points.watch(forward, call, site, rows)
        ordinary = self._watch(forward, call, site)
        if site.kind == "cross" and forward.routes:
            return self._route(forward, call, site, backend)
        if site.kind == "cross" or not forward.shares or site.block not in self.blocks:
            return ordinary
        shared = self._share(forward, call, site, backend)
        return ordinary if shared is None else shared

    def _without_words(
        self, forward: Forward, call: AttentionCall, site: CallSite, backend: attention.Backend
    ) -> torch.Tensor | None:
        """The attention of a forward to which the words of a subject do not exist in the rows of its prompt."""
        masks = self._words.masks(forward, call, site)
        if masks is None:
            return None
        if site.kind == "cross" and forward.routes:
            return self._routed(forward, call, site, masks, backend)
        return self._join(call, forward, site, masks, {}, backend)

    def _route(
        self, forward: Forward, call: AttentionCall, site: CallSite, backend: attention.Backend
    ) -> torch.Tensor | None:
        """The text attention of a segment whose frames have texts of their own."""
        masks = key_masks(forward, call, site)
        if masks is None:
            self.warn_once(f"{self.info.family}: {ODD_MASK}; its prompts are left unrouted.")
            return None
        return self._routed(forward, call, site, masks, backend)

    def _routed(
        self,
        forward: Forward,
        call: AttentionCall,
        site: CallSite,
        masks: Sequence[KeyMask],
        backend: attention.Backend,
    ) -> torch.Tensor:
        video = forward.video_at(site)
        route = Route(forward.segment, video, forward.grid[0], self.info.patch[0])
        lengths = [forward.routes.get(index // forward.rows) for index in range(call.query.shape[0])]
        return attend_routed(call, route, lengths, masks, backend, self._lse_attention)

    def _watch(self, forward: Forward, call: AttentionCall, site: CallSite) -> torch.Tensor | None:
        """Reads the maps of a call. Where that took the whole attention, its output comes as a gift."""
        if forward.reads and site.kind != "cross":
            self._tracker.compare(forward, call, site)
        if not forward.reads or not self._tracker.reads_block(forward.segment.index, site.block):
            return None
        if site.kind == "cross":
            self._tracker.watch(forward, call, site)
        elif site.kind == "joint" and not self._tracker.per_block:
            self._tracker.watch(forward, call, site)
        elif site.kind == "joint" and (not self.blocks or site.block <= self.blocks[-1]):
            return self._watch_exactly(forward, call, site)
        return None

    def _watch_exactly(self, forward: Forward, call: AttentionCall, site: CallSite) -> torch.Tensor | None:
        """Reads exact joint probabilities; the attention itself is computed for it, once."""
        rows = forward.conditional_rows
        if rows is None:
            return None
        video = forward.video_at(site)
        # Where our output would not be used, only the rows and queries that are read are worth computing.
        useless = call.overridden or self._will_share(forward, site)
        chosen, queries = (rows, video) if useless else (slice(None), slice(None))
        found = self._ordinary(forward, call, site, chosen, queries)
        if found is None:
            self.warn_once(f"{self.info.family}: {ODD_MASK}; its subject is not read.")
            return None
        output, total = found
        if useless:
            self._tracker.watch(forward, call, site, total)
            return None
        self._tracker.watch(forward, call, site, total[rows, :, video])
        return output

    def _will_share(self, forward: Forward, site: CallSite) -> bool:
        """Whether the call's output will be made with source keys."""
        return (
            forward.shares
            and site.block in self.blocks
            and forward.role in ("both", "target")
            and bool(self.plan.sources(forward.segment.index))
        )

    def _ordinary(
        self, forward: Forward, call: AttentionCall, site: CallSite, rows: slice, queries: slice
    ) -> OutputWithLogSumExp | None:
        """The attention of `queries` over all own keys of the batch `rows`, with its log-sum-exp."""
        masks = key_masks(forward, call, site)
        if masks is None:
            return None
        outputs: list[OutputWithLogSumExp] = []
        for indices, mask in alike(range(call.query.shape[0])[rows], masks.__getitem__):
            own = own_tokens(key_rows(call, indices), forward, site, mask).everything()
            query = take_rows(call.query, indices)[:, :, queries]
            outputs.append(self._lse_attention(query, own.key, own.value, call.scale, own.key_bias))
        if len(outputs) == 1:
            return outputs[0]
        # Rows with masks of their own come in order, because rows that are alike stand together or alone.
        return torch.cat([output for output, _ in outputs]), torch.cat([total for _, total in outputs])

    def _share(
        self, forward: Forward, call: AttentionCall, site: CallSite, backend: attention.Backend
    ) -> torch.Tensor | None:
        masks = key_masks(forward, call, site)
        if masks is None:
            self.warn_once(f"{self.info.family}: {ODD_MASK}; it is left unshared.")
            return None
        splits = self._splits(forward, site, call.query.device)
        if splits is None:
            known = forward.reads and forward.prompts is not None
            if self._tracker.per_block and known and forward.conditional_rows is None:
                self.warn_once(
                    "negative conditioning was evaluated before the prompt's or beside it; it is left unshared there."
                )
            return None
        segment = forward.segment.index
        sources = self.plan.sources(segment) if forward.role in ("both", "target") else ()
        consumers = self.stages.consumers(segment) if self._writes(forward) else 0
        work: list[SharedRow] = []
        for row in range(forward.rows):
            for place, chunk in enumerate(forward.chunks):
                if chunk[0] != forward.prompts and not self.plan.config.share_uncond:
                    continue
                index = place * forward.rows + row
                key = BankKey(segment, site.block, chunk, row)
                got = [(source, self.bank.get(replace(key, segment=source))) for source in sources]
                found = [
                    (source, imported_entry(self.plan, segment, source, entry.on(call.key.device)))
                    for source, entry in got
                    if entry is not None
                ]
                if consumers != 0:
                    own = own_tokens(key_rows(call, [index]), forward, site, masks[index])
                    self.bank.put(key, exported_entry(self.plan, forward, own, splits[row], row), consumers)
                if found:
                    places, entries = zip(*found, strict=True)
                    work.append(SharedRow(index, row, places, entries, masks[index]))
        self._prefetch(forward, [block for block in self.blocks if block > site.block][:1])
        shared: dict[int, torch.Tensor] = {}
        for same in grouped(work):
            indices = [item.index for item in same]
            own = own_tokens(key_rows(call, indices), forward, site, same[0].mask)
            split = splits[same[0].row]
            moved = [self._moved(forward, call, site, item, split) for item in same]
            entries = [join_entries(entries) for entries in zip(*moved, strict=True)]
            groups = sharing_groups(
                own, split, entries, self.plan.config, forward.strength, forward.grid[1] * forward.grid[2]
            )
            if groups is None:
                continue
            self.shared_calls += len(same)
            output = attention.attend_groups(
                take_rows(call.query, indices), groups, backend, self._lse_attention, call.scale
            )
            shared |= {index: output[place : place + 1] for place, index in enumerate(indices)}
            if len(indices) == call.query.shape[0]:
                return output
        if not shared:
            return None
        return self._join(call, forward, site, masks, shared, backend)

    def _writes(self, forward: Forward) -> bool:
        """Whether the keys of a forward are for others. Later stages do not see a model that guidance perturbs."""
        perturbed = self.stages.has_early_stages and self._pass is not None and self._pass.repeats
        return forward.role in ("both", "source") and not perturbed

    def _moved(
        self, forward: Forward, call: AttentionCall, site: CallSite, item: "SharedRow", split: TokenSplit | None
    ) -> list[BankEntry]:
        """What a batch row sees, its keys where the configuration wants them. How far they move is found for every row
        alone, so that it does not depend on the host's batches, and once per forward, unless every block has masks of
        its own."""
        own = own_tokens(key_rows(call, [item.index]), forward, site, item.mask)
        block = site.block if self._tracker.per_block else 0
        moved: list[BankEntry] = []
        for source, entry in zip(item.sources, item.entries, strict=True):
            name = block, item.index, source
            if name not in forward.offsets:
                gap = self.plan.gap(source, forward.segment.index)
                forward.offsets[name] = self._mover.offsets(entry, own, split, forward.grid, gap)
            moved.append(self._mover.move(entry, forward.offsets[name]))
        return moved

    def _splits(self, forward: Forward, site: CallSite, device: torch.device) -> Sequence[TokenSplit | None] | None:
        """The split of every latent; a list of None where nothing splits the tokens; None where it is unknown yet."""
        if self.plan.guided:
            # Masks of a block that another thread is still finding would be there in some runs and not in others.
            if self._tracker.per_block and not forward.alone and forward.conditional_rows is None:
                return None
            splits = self._tracker.splits(forward, site.block, device)
            return None if splits is None else [split.on(device) for split in splits]
        if self.plan.config.position != "frame":
            return [None] * forward.rows
        if forward.whole is None:
            forward.whole = split_tokens(torch.ones(forward.video_tokens, dtype=torch.bool), device)
        return [forward.whole] * forward.rows

    def _prefetch(self, forward: Forward, blocks: Sequence[int]) -> None:
        """Starts bringing what `blocks` of the forward read."""
        if forward.shares and forward.role in ("both", "target"):
            self.bank.prefetch(
                [
                    BankKey(source, block, chunk, row)
                    for block in blocks
                    for source in self.plan.sources(forward.segment.index)
                    for chunk in forward.chunks
                    for row in range(forward.rows)
                ]
            )

    def _join(
        self,
        call: AttentionCall,
        forward: Forward,
        site: CallSite,
        masks: list[KeyMask],
        shared: dict[int, torch.Tensor],
        backend: attention.Backend,
    ) -> torch.Tensor:
        """Output of all batch rows: `shared` ones as given, the others by ordinary attention."""
        rest = [index for index in range(call.query.shape[0]) if index not in shared]
        for indices, mask in alike(rest, masks.__getitem__):
            own = own_tokens(key_rows(call, indices), forward, site, mask)
            query = take_rows(call.query, indices)
            output = attention.attend(query, [own.everything()], backend, self._lse_attention, call.scale)
            shared |= {index: output[place : place + 1] for place, index in enumerate(indices)}
        return torch.cat([shared[index] for index in range(call.query.shape[0])])

    def _distrust(self) -> None:
        """Leaves this run unshared: what was found and kept so far may belong to other calls than it seemed."""
        self._trusted = False
        self.close()

    def warn_once(self, message: str) -> None:
        """Warns, unless this run has said the same before."""
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)


@dataclass(frozen=True)
class _Pass:
    """What holds for one model call on the long latent. repeats: whether it is at the noise level of the one before;
    met: the segments whose own prompt the model has seen."""

    step: int
    strengths: tuple[float, ...]
    shares: bool
    reads: bool
    repeats: bool
    met: set[int] = field(default_factory=set[int])
