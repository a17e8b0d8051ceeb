"""One sampling run: owns the bank, the maps and the counters.

The host layer makes a session when sampling starts and closes it when sampling ends, however it ends. A model call on
the long latent is a *pass*: `begin_pass`, then one forward (or more, when the host splits its batch) for every segment
in order, then `end_pass`, after which no keys are held. Masks found in one pass are used from the next pass on, so that
all segments of a pass see the same ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from . import attention, maps, schedule
from .config import KVShareConfig
from .families.base import AttentionCall, Family, FamilyInfo, UnexpectedCallError
from .kv_bank import BankEntry, BankKey, Chunk, KeyValueBank
from .record import RecordedMasks
from .sharing import TokenSplit, sharing_groups, split_tokens
from .timeline import Segment, Timeline
from .words import SubjectTokens


@dataclass(frozen=True)
class SharePlan:
    """Everything frozen that a session works from.

    subjects: for each beat the tokens of the subject, or empty when no subject was named.
    beat_tokens: for each beat all real text tokens.
    mask: a user's subject mask [pictures, h, w] in 0..1, or None.
    """

    timeline: Timeline
    config: KVShareConfig
    subjects: tuple[SubjectTokens, ...]
    beat_tokens: tuple[tuple[int, ...], ...]
    mask: torch.Tensor | None

    @property
    def guided(self) -> bool:
        """Whether a subject mask splits the tokens."""
        return self.mask is not None or bool(self.subjects)


@dataclass
class Forward:
    """One forward of the diffusion model on one segment, opened and dropped by the host layer.

    chunks: of each batch chunk the list of conditioning it comes from and its place there, the same for every segment;
    prompts: the list that begins with the beat's own prompt, None when that is unknown; rows: latents in each chunk;
    grid: tokens (t, h, w); text_tokens: length of the conditioning.
    """

    segment: Segment
    chunks: tuple[Chunk, ...]
    prompts: int | None
    rows: int
    grid: tuple[int, int, int]
    text_tokens: int
    step: int
    call_index: int = 0

    @property
    def video_tokens(self) -> int:
        return math.prod(self.grid)


class Session:
    """State of one sampling run. `warn` receives each kind of warning once."""

    def __init__(
        self,
        plan: SharePlan,
        family: Family,
        info: FamilyInfo,
        diffusion_model: torch.nn.Module,
        warn: Callable[[str], None],
    ):
        self.plan = plan
        self.family = family
        self.info = info
        self.diffusion_model = diffusion_model
        self.bank = KeyValueBank()
        self.shared_calls = 0
        self._warn = warn
        self._warned: set[str] = set()
        self._trusted = True
        self._masks: dict[int, torch.Tensor] = {}
        self._heat: dict[int, torch.Tensor] = {}
        self._scores: dict[int, torch.Tensor] = {}
        self._grid: tuple[int, int, int] | None = None

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        self.bank.clear()
        self._masks.clear()
        self._heat.clear()
        self._scores.clear()

    def begin_pass(self) -> None:
        """Starts a model call on the long latent."""
        self.bank.clear()
        self._scores.clear()

    def end_pass(self) -> None:
        """Ends a model call: turns the maps it gathered into masks and releases its keys."""
        self.bank.clear()
        for index, score in self._scores.items():
            self._heat[index] = maps.normalise_over_clip(score)
            self._masks[index] = maps.threshold_mask(self._heat[index], self.plan.config.thres)
        self._scores.clear()

    def begin_segment(self, segment: Segment) -> None:
        """Releases the keys that no later segment asks for."""
        self.bank.keep_segments(self._sources(segment.index))

    def wants(self, step: int) -> bool:
        """Whether a forward in `step` has to be watched at all."""
        return self._trusted and (self._reads_maps() or schedule.shares_step(self.plan.config, step))

    def attend(self, forward: Forward, call: AttentionCall, backend: attention.Backend) -> torch.Tensor:
        """One attention call of a watched forward; `backend(query, key, value)` is what the host would have done."""
        index = forward.call_index
        forward.call_index += 1
        if not self._trusted:
            return backend(call.query, call.key, call.value)
        try:
            site = self.family.classify(self.diffusion_model, index, call, forward.video_tokens, forward.text_tokens)
        except UnexpectedCallError as reason:
            self._distrust()
            self.warn_once(f"{self.info.family}: attention call {index} has {reason}; this model is left unshared.")
            return backend(call.query, call.key, call.value)
        if site.kind == "cross" and self._reads_maps():
            self._watch(forward, call)
        if site.kind == "self" and self._shares(forward, site.block):
            if not call.masked:
                return self._share(forward, call, site.block, backend)
            self.warn_once(f"{self.info.family}: self-attention comes with a mask; it is left unshared.")
        return backend(call.query, call.key, call.value)

    def recorded_masks(self) -> RecordedMasks | None:
        """Masks over the whole timeline from the newest finished pass; None when no subject was followed."""
        if not self._masks or self._grid is None:
            return None
        timeline = self.plan.timeline
        frames, height, width = self._grid
        rows = next(iter(self._masks.values())).shape[0]
        total = torch.zeros(2, rows, timeline.latent_frames, height, width)
        count = torch.zeros(timeline.latent_frames)
        for segment in timeline.segments:
            if segment.index not in self._masks:
                continue
            mask = self._masks[segment.index].float().cpu()
            heat = self._heat.get(segment.index, mask).float().cpu()
            pieces = torch.stack([heat, mask]).reshape(2, rows, frames, height, width)
            total[:, :, segment.start : segment.stop] += pieces
            count[segment.start : segment.stop] += 1
        total /= count.clamp(min=1)[:, None, None]
        return RecordedMasks(timeline, total[0], (total[1] >= 0.5).float())

    def _reads_maps(self) -> bool:
        return bool(self.plan.subjects) and self.plan.mask is None

    def _shares(self, forward: Forward, block: int) -> bool:
        config = self.plan.config
        return schedule.shares_step(config, forward.step) and schedule.shares_block(config, block)

    def _sources(self, index: int) -> set[int]:
        chosen = self.plan.config.sources
        sources = set[int]()
        if chosen in ("first", "first and previous"):
            sources.add(0)
        if chosen in ("previous", "first and previous"):
            sources.add(index - 1)
        return {source for source in sources if 0 <= source < index}

    def _needed_later(self, index: int) -> bool:
        last = len(self.plan.timeline.segments) - 1
        return any(index in self._sources(later) for later in range(index + 1, last + 1))

    def _watch(self, forward: Forward, call: AttentionCall) -> None:
        beat = forward.segment.beat
        tokens = self.plan.beat_tokens[beat]
        if tokens[-1] >= call.key_tokens:
            self.warn_once("the prompt has more tokens than the model received; its subject cannot be followed.")
            return
        if forward.prompts is None:
            self.warn_once("the conditioning does not come from LongVideoSegmenter; its subject cannot be followed.")
            return
        self._grid = forward.grid
        for place, chunk in enumerate(forward.chunks):
            if chunk != (forward.prompts, 0):
                continue
            rows = slice(place * forward.rows, (place + 1) * forward.rows)
            probabilities = maps.text_probabilities(
                call.query[rows], call.key[rows], tokens, call.heads, call.token_dim
            )
            score = maps.subject_score(probabilities, tokens, self.plan.subjects[beat])
            known = self._scores.get(forward.segment.index)
            self._scores[forward.segment.index] = score if known is None else known + score

    def _mask(self, forward: Forward) -> torch.Tensor | None:
        """Subject mask [rows, tokens] of the forward's segment, or None while none is known."""
        if self.plan.mask is None:
            return self._masks.get(forward.segment.index)
        known = self._masks.get(forward.segment.index)
        if known is None:
            segment = forward.segment
            values = maps.mask_to_tokens(
                self.plan.mask, segment.start, segment.stop, forward.grid, self.info.compression[0]
            )
            known = (values >= 0.5).expand(forward.rows, -1)
            self._masks[segment.index] = known
            self._grid = forward.grid
        return known

    def _share(self, forward: Forward, call: AttentionCall, block: int, backend: attention.Backend) -> torch.Tensor:
        mask = None
        if self.plan.guided:
            mask = self._mask(forward)
            if mask is None:
                return backend(call.query, call.key, call.value)
            mask = mask.to(call.query.device)
        keeps = self._needed_later(forward.segment.index)
        sources = sorted(self._sources(forward.segment.index))
        shared: dict[int, torch.Tensor] = {}
        for row in range(forward.rows):
            split = None if mask is None else split_tokens(mask[row])
            for place, chunk in enumerate(forward.chunks):
                if chunk[0] != forward.prompts and not self.plan.config.share_uncond:
                    continue
                index = place * forward.rows + row
                own = replace(
                    call,
                    query=call.query[index : index + 1],
                    key=call.key[index : index + 1],
                    value=call.value[index : index + 1],
                )
                if keeps:
                    self.bank.put(BankKey(forward.segment.index, block, chunk, row), self._entry(own, split))
                entries = [self.bank.get(BankKey(source, block, chunk, row)) for source in sources]
                groups = sharing_groups(own, split, [entry for entry in entries if entry], self.plan.config)
                if groups is None:
                    continue
                self.shared_calls += 1
                shared[index] = attention.attend_groups(own.query, groups, backend, call.heads, call.token_dim)
        return _join_rows(call, shared, backend)

    def _entry(self, own: AttentionCall, split: TokenSplit | None) -> BankEntry:
        if split is None:
            return BankEntry(own.key.clone(), own.value.clone())
        key = attention.take_tokens(own.key, split.subject, own.token_dim)
        value = attention.take_tokens(own.value, split.subject, own.token_dim)
        if not self.plan.config.share_background:
            return BankEntry(key, value)
        return BankEntry(
            key,
            value,
            attention.take_tokens(own.key, split.background, own.token_dim),
            attention.take_tokens(own.value, split.background, own.token_dim),
        )

    def _distrust(self) -> None:
        """Leaves this run unshared: what was found and kept so far may belong to other calls than it seemed."""
        self._trusted = False
        self.close()

    def warn_once(self, message: str) -> None:
        """Warns, unless this run has said the same before."""
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)


def _join_rows(call: AttentionCall, shared: dict[int, torch.Tensor], backend: attention.Backend) -> torch.Tensor:
    """Output of all batch rows: `shared` ones as given, the others by one ordinary call."""
    total = call.query.shape[0]
    plain = [row for row in range(total) if row not in shared]
    if len(plain) == total:
        return backend(call.query, call.key, call.value)
    if plain:
        index = torch.tensor(plain, device=call.query.device)
        rest = backend(*(tensor.index_select(0, index) for tensor in (call.query, call.key, call.value)))
        shared = shared | {row: rest[place : place + 1] for place, row in enumerate(plain)}
    return torch.cat([shared[row] for row in range(total)])
