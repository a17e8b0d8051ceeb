"""What a probe does in the attention calls of one forward: it reads maps, hides words, or changes one block.

Changes touch only what the video sees of the video; text and what else stands beside it is attended to as before, so
that figures of families with joint attention and with attention of its own to the text mean the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ..attention.groups import OwnTokens, sharing_groups
from ..attention.key_masks import ODD_MASK, KeyMask
from ..attention.log_sum_exp import LogSumExpAttention
from ..attention.parts import TOKEN_DIM, Backend, KeyValuePart, QueryGroup
from ..attention.rope import RopeScheme, position_offsets, rotate
from ..attention.token_split import TokenSplit
from ..bank.bank import BankEntry, BankKey, KeyValueBank
from ..config import KVShareConfig
from ..devices import upload
from ..families.base import AttentionCall, Family, FamilyInfo, UnexpectedCallError
from ..forward.call import AttentionContext, CallOutput, next_site
from ..forward.forward import Forward
from ..prompt_words import SubjectTokens
from ..subject import maps

SHARED = KVShareConfig(mode="replace", strength=1.0)
"""How a share probe lets the subject see the other clip's: in place of itself, where the effect is plainest."""


@dataclass(frozen=True)
class ProbedCall:
    """One attention call of a forward of a single latent."""

    context: AttentionContext
    own: OwnTokens
    """Its keys and values."""
    mask: KeyMask
    """What the call's own mask hides."""

    @property
    def block(self) -> int:
        return self.context.site.block

    @property
    def video_query(self) -> torch.Tensor:
        """Queries of the video [1, heads, video tokens, head_dim]."""
        return self.context.call.query[:, :, self.context.video]

    def splits(self, split: TokenSplit) -> list[TokenSplit]:
        """The split of the latent as those of the call's batch rows."""
        device = self.context.call.key.device
        return self.context.view.splits([split.on(device)], device)

    def own_of(self, row: int) -> OwnTokens:
        """Keys and values of one batch row."""
        return self.own if len(self.context.rows) == 1 else self.context.own_tokens([row], self.mask)

    def attend_groups(self, groups: Iterable[QueryGroup]) -> torch.Tensor:
        """The output of all queries, each in one of the groups."""
        return self.context.attend_groups(self.context.call.query, groups)


Change = Callable[[ProbedCall], torch.Tensor]
"""The output that one block's attention among the video's tokens is given instead of its own."""


class Watcher(Protocol):
    """Sees every attention call of a forward that has queries of the video."""

    def at(self, probed: ProbedCall) -> torch.Tensor | None:
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

    def at(self, probed: ProbedCall) -> torch.Tensor | None:
        if probed.context.site.kind in ("self", "aside"):
            return None
        if self.tokens[-1] >= probed.context.forward.text.tokens:
            raise ValueError(
                f"positive: the prompt has text tokens up to {self.tokens[-1]}, but the model received "
                f"{probed.context.forward.text.tokens}. Connect the positive of the Long Video Segmenter that made the "
                "timeline."
            )
        index = upload(torch.tensor(self.tokens) + probed.context.site.text_start, probed.context.call.key.device)
        text_key = probed.context.call.key.index_select(TOKEN_DIM, index)
        probabilities = maps.text_probabilities(probed.video_query, text_key, probed.context.call.scale)
        score = maps.subject_score(probabilities, self.tokens, self.subject)
        self.scores[probed.block] = probed.context.view.to_masks(score)[0].cpu()
        return None


class HideWords:
    """Takes the subject's words away: no token sees them in any block. The prompt must have others."""

    def __init__(self, subject: SubjectTokens):
        self.subject = subject

    def at(self, probed: ProbedCall) -> torch.Tensor | None:
        if probed.context.site.kind == "self":
            return None
        places = frozenset(probed.context.site.text_start + token for token in self.subject.subject)
        masks = probed.context.key_masks_without([probed.mask] * len(probed.context.rows), places)
        assert masks is not None
        return CallOutput(probed.context).complete(masks)


class KeepSubject:
    """Puts keys and values of the subject of every block into a bank, for one reader each."""

    def __init__(self, split: TokenSplit, bank: KeyValueBank):
        self.split = split
        self.bank = bank

    def at(self, probed: ProbedCall) -> torch.Tensor | None:
        if probed.context.site.kind in ("self", "joint"):
            for row, split in enumerate(probed.splits(self.split)):
                stored = probed.own_of(row).stored(split.subjects[0])
                self.bank.put(bank_key(probed.block, row), BankEntry((stored,)), 1)
        return None


class ChangeBlock:
    """Changes the attention of one block. met: whether the forward came to it."""

    def __init__(self, block: int, change: Change):
        self.block = block
        self.change = change
        self.met = False

    def at(self, probed: ProbedCall) -> torch.Tensor | None:
        if probed.context.site.kind in ("cross", "aside") or probed.block != self.block:
            return None
        self.met = True
        return self.change(probed)


def bank_key(block: int, row: int) -> BankKey:
    """Where the bank of a share probe has the subject of a batch row of `block`."""
    return BankKey(0, block, (0, 0), row)


def see_only_oneself(probed: ProbedCall) -> torch.Tensor:
    """Every video token sees no other video token but itself: the attention's output without what it moves between
    tokens (the identity matrix of perturbed-attention guidance, 2403.17377, which leaves text in)."""
    query, own = probed.video_query, probed.own
    repeats = query.shape[1] // own.key.shape[1]
    key, value = (tensor[:, :, own.video].repeat_interleave(repeats, dim=1) for tensor in (own.key, own.value))
    beside = own.outside_part()
    if beside is None or beside.key.shape[TOKEN_DIM] == 0:
        return _with_rest(probed, value)
    factor = query.shape[-1] ** -0.5 if probed.context.call.scale is None else probed.context.call.scale
    output, total = probed.context.lse_attention(
        query, beside.key, beside.value, probed.context.call.scale, beside.key_bias
    )
    score = (query.to(total.dtype) * key.to(total.dtype)).sum(-1) * factor
    if own.key_bias is not None:
        score = score + own.key_bias[:, None, own.video]
    weight = torch.sigmoid(score - total)[..., None]
    return _with_rest(probed, torch.lerp(output.to(weight.dtype), value.to(weight.dtype), weight).to(query.dtype))


def move_keys(scheme: RopeScheme, frames: int) -> Change:
    """The video sees its own keys as they would be `frames` token frames earlier (FreeFlux, arXiv 2503.16153)."""

    def change(probed: ProbedCall) -> torch.Tensor:
        outside, own = probed.own.outside, probed.own.video_part(0.0)
        forward = probed.context.forward
        tokens = torch.arange(forward.video_tokens)
        earlier = position_offsets(scheme, torch.tensor([-frames, 0, 0]), tokens, forward.grid)
        moved = replace(own, key=rotate(own.key, scheme, earlier))
        beside = probed.own.outside_part()
        parts: tuple[KeyValuePart, ...] = (moved,) if beside is None else (beside, moved)
        if outside is None:
            return probed.attend_groups([QueryGroup(None, parts)])
        video = torch.arange(probed.own.video.start, probed.own.video.stop, device=own.key.device)
        return probed.attend_groups([QueryGroup(video, parts), QueryGroup(outside, (probed.own.everything(),))])

    return change


def see_another(split: TokenSplit, bank: KeyValueBank) -> Change:
    """The subject sees that of another clip, which KeepSubject has put into `bank`, instead of itself."""

    def change(probed: ProbedCall) -> torch.Tensor:
        device, context = probed.context.call.key.device, probed.context
        outputs: list[torch.Tensor] = []
        for row, own_split in enumerate(probed.splits(split)):
            entry, own = bank.get(bank_key(probed.block, row)), probed.own_of(row)
            if entry is None:
                raise ValueError(NO_CALL.format(block=probed.block))
            groups = sharing_groups(own, own_split, [entry.on(device)], SHARED.rules(SHARED.strength))
            # A coarse block may have no token of the subject in this frame.
            groups = [QueryGroup(None, (own.everything(),))] if groups is None else groups
            outputs.append(context.attend_groups(context.query([row]), groups))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

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
        try:
            site = next_site(self.family, self.diffusion_model, self.forward, call)
        except UnexpectedCallError as reason:
            raise ValueError(
                f"model: {self.info.family}: {reason}; its blocks cannot be told apart. "
                "Take nodes off the model that change its attention."
            ) from None
        if site.kind == "other":
            return None
        context = AttentionContext(self.forward, call, site, backend, self.lse_attention)
        masks = context.key_masks
        if masks is None:
            raise ValueError(f"model: {self.info.family}: {ODD_MASK}. Take guide frames out of the conditioning.")
        return self.watcher.at(ProbedCall(context, context.own_tokens(context.rows, masks[0]), masks[0]))


def _with_rest(probed: ProbedCall, video: torch.Tensor) -> torch.Tensor:
    """`video` as the output of the video's queries, the others' being ordinary."""
    rest = probed.own.outside
    if rest is None:
        return video
    query = probed.context.call.query
    ordinary = probed.context.attend(query.index_select(TOKEN_DIM, rest), [probed.own.everything()])
    output = torch.empty_like(query, memory_format=torch.contiguous_format)
    output[:, :, probed.own.video] = video
    return output.index_copy_(TOKEN_DIM, rest, ordinary)
