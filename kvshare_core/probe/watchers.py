"""What a probe does in the attention calls of one forward: it reads maps, hides words, or changes one block.

Changes touch only what the video sees of the video; text and what else stands beside it is attended to as before, so
that figures of families with joint attention and with attention of its own to the text mean the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ..attention.groups import OwnTokens, TokenSplit, sharing_groups
from ..attention.key_masks import KeyMask
from ..attention.log_sum_exp import LogSumExpAttention
from ..attention.parts import TOKEN_DIM, Backend, KeyValuePart, QueryGroup, attend, attend_groups
from ..attention.rope import RopeScheme, rotate
from ..bank.bank import BankEntry, BankKey, KeyValueBank
from ..config import KVShareConfig
from ..devices import upload
from ..families.base import AttentionCall, CallSite, Family, FamilyInfo, UnexpectedCallError
from ..forward.forward import Forward
from ..forward.rows import key_masks, masks_without, own_tokens
from ..prompt_words import SubjectTokens
from ..subject import maps

SHARED = KVShareConfig(mode="replace", strength=1.0)
"""How a share probe lets the subject see the other clip's: in place of itself, where the effect is plainest."""


@dataclass(frozen=True)
class SeenCall:
    """One attention call of a forward of a single latent, of which `own` is the sequence and `mask` what it hides."""

    forward: Forward
    call: AttentionCall
    site: CallSite
    own: OwnTokens
    mask: KeyMask
    backend: Backend
    lse_attention: LogSumExpAttention

    @property
    def video_query(self) -> torch.Tensor:
        """Queries of the video [1, heads, video tokens, head_dim]."""
        start = self.site.video_start
        return self.call.query[:, :, start : start + self.forward.video_tokens]

    def grouped(self, groups: list[QueryGroup]) -> torch.Tensor:
        """The output of all queries, each in one of the groups."""
        return attend_groups(self.call.query, groups, self.backend, self.lse_attention, self.call.scale)


Change = Callable[[SeenCall], torch.Tensor]
"""The output that one block's attention among the video's tokens is given instead of its own."""


class Watcher(Protocol):
    """Sees every attention call of a forward that has queries of the video."""

    def at(self, seen: SeenCall) -> torch.Tensor | None:
        """The output the call is to have, None for the ordinary one."""
        ...


class ReadMaps:
    """Reads in every block how much more each video token looks at the subject than at the other content words.

    text: all real text tokens. scores: by block float32 [video tokens] on the CPU.
    """

    def __init__(self, subject: SubjectTokens, text: tuple[int, ...]):
        self.subject = subject
        self.tokens = tuple(sorted({*text, *subject.subject, *subject.others}))
        self.scores: dict[int, torch.Tensor] = {}

    def at(self, seen: SeenCall) -> torch.Tensor | None:
        if seen.site.kind in ("self", "aside"):
            return None
        if self.tokens[-1] >= seen.forward.text_tokens:
            raise ValueError(
                f"positive: the prompt has text tokens up to {self.tokens[-1]}, but the model received "
                f"{seen.forward.text_tokens}. Connect the positive of the LongVideoSegmenter that made the timeline."
            )
        index = upload(torch.tensor(self.tokens) + seen.site.text_start, seen.call.key.device)
        text_key = seen.call.key.index_select(TOKEN_DIM, index)
        probabilities = maps.text_probabilities(seen.video_query, text_key, seen.call.scale)
        self.scores[seen.site.block] = maps.subject_score(probabilities, self.tokens, self.subject)[0].cpu()
        return None


class HideWords:
    """Takes the subject's words away: no token sees them in any block. The prompt must have others."""

    def __init__(self, subject: SubjectTokens):
        self.subject = subject

    def at(self, seen: SeenCall) -> torch.Tensor | None:
        if seen.site.kind == "self":
            return None
        places = frozenset(seen.site.text_start + token for token in self.subject.subject)
        masks = masks_without(seen.forward, seen.call, seen.site, [seen.mask], places)
        assert masks is not None
        own = own_tokens((seen.call.key, seen.call.value), seen.forward, seen.site, masks[0])
        return attend(seen.call.query, [own.everything()], seen.backend, seen.lse_attention, seen.call.scale)


class KeepSubject:
    """Puts keys and values of the subject of every block into a bank, for one reader each."""

    def __init__(self, split: TokenSplit, bank: KeyValueBank):
        self.split = split
        self.bank = bank

    def at(self, seen: SeenCall) -> torch.Tensor | None:
        if seen.site.kind in ("self", "joint"):
            split = self.split.on(seen.call.key.device)
            stored = seen.own.stored(split.subject, split.subject_index)
            self.bank.put(bank_key(seen.site.block), BankEntry(stored), 1)
        return None


class ChangeBlock:
    """Changes the attention of one block. met: whether the forward came to it."""

    def __init__(self, block: int, change: Change):
        self.block = block
        self.change = change
        self.met = False

    def at(self, seen: SeenCall) -> torch.Tensor | None:
        if seen.site.kind in ("cross", "aside") or seen.site.block != self.block:
            return None
        self.met = True
        return self.change(seen)


def bank_key(block: int) -> BankKey:
    """Where the bank of a share probe has the subject of `block`."""
    return BankKey(0, block, (0, 0), 0)


def see_only_oneself(seen: SeenCall) -> torch.Tensor:
    """Every video token sees no other video token but itself: the attention's output without what it moves between
    tokens (the identity matrix of perturbed-attention guidance, 2403.17377, which leaves text in)."""
    query, own = seen.video_query, seen.own
    repeats = query.shape[1] // own.key.shape[1]
    key, value = (tensor[:, :, own.video].repeat_interleave(repeats, dim=1) for tensor in (own.key, own.value))
    beside = own.outside_part()
    if beside is None or beside.key.shape[TOKEN_DIM] == 0:
        return _with_rest(seen, value)
    factor = query.shape[-1] ** -0.5 if seen.call.scale is None else seen.call.scale
    output, total = seen.lse_attention(query, beside.key, beside.value, seen.call.scale, beside.key_bias)
    score = (query.to(total.dtype) * key.to(total.dtype)).sum(-1) * factor
    if own.key_bias is not None:
        score = score + own.key_bias[:, None, own.video]
    weight = torch.sigmoid(score - total)[..., None]
    return _with_rest(seen, torch.lerp(output.to(weight.dtype), value.to(weight.dtype), weight).to(query.dtype))


def move_keys(scheme: RopeScheme, frames: int) -> Change:
    """The video sees its own keys as they would be `frames` token frames earlier (FreeFlux; research.md 2.2)."""

    def change(seen: SeenCall) -> torch.Tensor:
        own = seen.own.video_part(0.0)
        moved = replace(own, key=rotate(own.key, scheme, torch.tensor([-frames, 0, 0])))
        beside = seen.own.outside_part()
        parts: tuple[KeyValuePart, ...] = (moved,) if beside is None else (beside, moved)
        if seen.own.outside is None:
            return seen.grouped([QueryGroup(None, parts)])
        video = torch.arange(seen.own.video.start, seen.own.video.stop, device=own.key.device)
        return seen.grouped([QueryGroup(video, parts), QueryGroup(seen.own.outside, (seen.own.everything(),))])

    return change


def see_another(split: TokenSplit, bank: KeyValueBank) -> Change:
    """The subject sees that of another clip, which KeepSubject has put into `bank`, instead of itself."""

    def change(seen: SeenCall) -> torch.Tensor:
        entry = bank.get(bank_key(seen.site.block))
        if entry is None:
            raise ValueError(NO_CALL.format(block=seen.site.block))
        device = seen.call.key.device
        groups = sharing_groups(seen.own, split.on(device), [entry.on(device)], SHARED, SHARED.strength)
        assert groups is not None
        return seen.grouped(groups)

    return change


NO_CALL = (
    "model: its block {block} was left out of a forward. Take nodes off the model that skip blocks or reuse outputs of "
    "earlier steps, such as EasyCache."
)
"""What is wrong with a model that does not come to a block."""


class WatchedForward:
    """The attention calls of one forward, told by the family and shown to a watcher; never guessed.

    `attend` raises ValueError for calls that the family does not expect, because figures of unknown blocks are none.
    """

    def __init__(
        self, family: Family, info: FamilyInfo, diffusion_model: torch.nn.Module, forward: Forward, watcher: Watcher
    ):
        self.family = family
        self.info = info
        self.diffusion_model = diffusion_model
        self.forward = forward
        self.watcher = watcher
        self.lse_attention = LogSumExpAttention()

    def attend(self, call: AttentionCall, backend: Backend) -> torch.Tensor | None:
        """The output of a call, None for the ordinary one; the backend attends as the host would have done."""
        forward, index = self.forward, self.forward.call_index
        forward.call_index += 1
        try:
            site = self.family.classify(self.diffusion_model, index, call, forward.video_tokens, forward.text_tokens)
        except UnexpectedCallError as reason:
            raise ValueError(
                f"model: {self.info.family}: attention call {index} has {reason}; its blocks cannot be told apart. "
                "Take nodes off the model that change its attention."
            ) from None
        if site.kind == "other":
            return None
        masks = key_masks(forward, call, site)
        if masks is None:
            raise ValueError(
                f"model: {self.info.family}: attention call {index} comes with a mask that hides video or depends "
                "on the query. Take guide frames out of the conditioning."
            )
        own = own_tokens((call.key, call.value), forward, site, masks[0])
        return self.watcher.at(SeenCall(forward, call, site, own, masks[0], backend, self.lse_attention))


def _with_rest(seen: SeenCall, video: torch.Tensor) -> torch.Tensor:
    """`video` as the output of the video's queries, the others' being ordinary."""
    rest = seen.own.outside
    if rest is None:
        return video
    ordinary = attend(
        seen.call.query.index_select(TOKEN_DIM, rest),
        [seen.own.everything()],
        seen.backend,
        seen.lse_attention,
        seen.call.scale,
    )
    output = torch.empty_like(seen.call.query, memory_format=torch.contiguous_format)
    output[:, :, seen.own.video] = video
    return output.index_copy_(TOKEN_DIM, rest, ordinary)
