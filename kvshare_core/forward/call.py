"""One attention call of one forward, with everything that is needed to compute it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from ..attention.groups import OwnTokens, outside_groups
from ..attention.key_masks import KeyMask, hide, read_key_mask
from ..attention.log_sum_exp import LogSumExpAttention
from ..attention.parts import (
    TOKEN_DIM,
    Backend,
    KeyValuePart,
    QueryGroup,
    attend,
    attend_groups,
    empty_output,
    group_outputs,
)
from ..bank.bank import EVERY_HEAD
from ..families.base import (
    BLOCK_INDEX,
    BLOCK_KIND,
    BLOCK_PART,
    AttentionCall,
    BlockName,
    CallSite,
    Family,
    UnexpectedCallError,
)
from .forward import Forward, Layout
from .rows import alike, stretches, take_rows
from .view import View

OVER_VIDEO = ("self", "joint")
"""Kinds of calls in which the video attends to itself."""


@dataclass(frozen=True)
class AttentionContext:
    """One attention call: its forward, the host's tensors, and the block and kind that the family gives it."""

    forward: Forward
    call: AttentionCall
    site: CallSite
    backend: Backend
    """Attends as the host would have done."""
    lse_attention: LogSumExpAttention

    @cached_property
    def view(self) -> View:
        """How the call has the video."""
        name, views = (self.site.grid, self.site.frames_as_rows), self.forward.cache.views
        if name not in views:
            views[name] = View(self.forward.grid, self.site.grid or self.forward.grid, self.site.frames_as_rows)
        return views[name]

    @cached_property
    def video(self) -> slice:
        """Where the video's tokens lie in the sequence of a row."""
        return slice(self.site.video_start, self.site.video_start + self.view.tokens)

    @property
    def chunk_rows(self) -> int:
        """Batch rows of each chunk."""
        return self.forward.batch.latents * self.view.rows

    @cached_property
    def conditional_rows(self) -> slice | None:
        """The batch rows with the segment's own prompt; None when the batch has none."""
        return self.view.rows_of(self.forward.batch.conditional_rows)

    @property
    def rows(self) -> range:
        """All batch rows."""
        return range(self.call.query.shape[0])

    @property
    def key_masks(self) -> list[KeyMask] | None:
        """What the call's own mask hides from each batch row; None for a mask that differs between queries or hides
        video. Read once per forward and layout."""
        layout = self.layout
        known = self.forward.cache.key_masks.get(layout)
        if known is None or known[0] is not self.call.mask:
            video = slice(layout[0], layout[1])
            known = (self.call.mask, read_key_mask(self.call.mask, self.call.key, video))
            self.forward.cache.key_masks[layout] = known
        return known[1]

    def key_masks_without(self, masks: Sequence[KeyMask], tokens: frozenset[int]) -> list[KeyMask] | None:
        """`masks`, with the keys at indices `tokens` hidden from the conditional rows too; computed once per forward
        and layout. None when that leaves a row without a key."""
        layout = self.layout
        cache = self.forward.cache.masks_without_words
        if layout not in cache:
            rows = self.rows[self.conditional_rows or slice(0, 0)]
            video = slice(layout[0], layout[1])
            key = self.call.key
            hidden = {
                mask: hide(mask, tokens, key.shape[2], video, key.device) for mask in {masks[row] for row in rows}
            }
            changed = [hidden[mask] if row in rows else mask for row, mask in enumerate(masks)]
            cache[layout] = [mask for mask in changed if mask is not None]
        return cache[layout] if len(cache[layout]) == len(masks) else None

    def query(self, rows: Sequence[int], key_heads: slice = EVERY_HEAD) -> torch.Tensor:
        """Queries of some batch rows, of the heads that attend to some key heads."""
        return _of_heads(take_rows(self.call.query, rows), self.query_heads(key_heads))

    def query_heads(self, key_heads: slice) -> slice:
        """The heads whose queries attend to the keys of `key_heads`."""
        if key_heads == EVERY_HEAD:
            return EVERY_HEAD
        each = self.call.query.shape[1] // self.call.key.shape[1]
        start, stop, _ = key_heads.indices(self.call.key.shape[1])
        return slice(start * each, stop * each)

    def own_tokens(self, rows: Sequence[int], mask: KeyMask, key_heads: slice = EVERY_HEAD) -> OwnTokens:
        """Keys and values of some batch rows, which `mask` holds for, and of some heads."""
        key = _of_heads(take_rows(self.call.key, rows), key_heads)
        value = _of_heads(take_rows(self.call.value, rows), key_heads)
        known = mask.outside, mask.visible, mask.visible_outside, mask.key_bias, mask.words
        return OwnTokens(key, value, self.video, *known)

    def own_groups(self, own: OwnTokens) -> list[QueryGroup]:
        """Query groups of attention to `own` keys alone, with words weighed: in joint attention for the video and for
        the words, in cross-attention for every query."""
        if own.words is None or self.site.kind != "joint":
            return [QueryGroup(None, own.seen_by_video())]
        return [QueryGroup(own.video_queries, own.seen_by_video()), *outside_groups(own)]

    def attend(self, query: torch.Tensor, parts: Sequence[KeyValuePart]) -> torch.Tensor:
        """Attention of `query` over `parts`."""
        return attend(query, parts, self.backend, self.lse_attention, self.call.scale)

    def attend_groups(self, query: torch.Tensor, groups: Iterable[QueryGroup]) -> torch.Tensor:
        """Attention of `query`, every token of which is in one of the `groups`."""
        return attend_groups(query, groups, self.backend, self.lse_attention, self.call.scale)

    def group_outputs(
        self, query: torch.Tensor, groups: Iterable[QueryGroup], queries_at_once: int | None
    ) -> Iterator[tuple[torch.Tensor | None, torch.Tensor]]:
        """As attention.parts.group_outputs."""
        return group_outputs(query, groups, self.backend, self.lse_attention, self.call.scale, queries_at_once)

    @property
    def layout(self) -> Layout:
        """Where the video lies among the keys, nowhere in attention to the text alone, and how many keys and rows there
        are."""
        video = self.video if self.site.kind in OVER_VIDEO else slice(0, 0)
        return video.start, video.stop, self.call.key_tokens, self.call.key.shape[0]


class CallOutput:
    """The output [rows, heads, tokens, head_dim] of one attention call, put together from pieces."""

    def __init__(self, context: AttentionContext):
        self._context = context
        self._whole: torch.Tensor | None = None
        self._rows: set[int] = set()

    def put(self, rows: Sequence[int], key_heads: slice, tokens: torch.Tensor | None, piece: torch.Tensor) -> None:
        """Takes the output of some batch rows (ascending), heads and queries; None for all queries. It may become part
        of the output."""
        self._rows.update(rows)
        query = self._context.call.query
        if self._whole is None:
            if piece.shape[:-1] == query.shape[:-1]:
                self._whole = piece
                return
            self._whole = empty_output(query, piece)
        heads = self._context.query_heads(key_heads)
        for first, count in stretches(rows):
            there = _of_heads(take_rows(self._whole, rows[first : first + count]), heads)
            part = piece if count == piece.shape[0] else piece[first : first + count]
            if tokens is None:
                there.copy_(part)
            else:
                there.index_copy_(TOKEN_DIM, tokens, part)

    @property
    def is_empty(self) -> bool:
        """Whether no piece has come."""
        return self._whole is None

    def complete(self, masks: Sequence[KeyMask]) -> torch.Tensor:
        """The output of all batch rows; of those that no piece came for, attention over the row's own keys that its
        mask leaves."""
        context = self._context
        rest = [row for row in context.rows if row not in self._rows]
        for rows, mask in alike(rest, masks.__getitem__) if rest else ():
            groups = context.own_groups(context.own_tokens(rows, mask))
            for tokens, piece in context.group_outputs(context.query(rows), groups, None):
                self.put(rows, EVERY_HEAD, tokens, piece)
        assert self._whole is not None
        return self._whole


def _of_heads(tensor: torch.Tensor, heads: slice) -> torch.Tensor:
    """Some heads of a tensor, not copied."""
    return tensor if heads == EVERY_HEAD else tensor[:, heads]


def next_site(family: Family, diffusion_model: Any, forward: Forward, call: AttentionCall) -> CallSite:
    """What an attention call of `forward` is.

    Where the host tells the block, the call must be the next of that block's own; otherwise calls are counted through
    the forward, as long as each is the expected one. Raises UnexpectedCallError for any other call, which then counts
    for nothing.
    """
    cache = forward.cache
    cache.calls += 1
    # Kept, so that a call that comes without it cannot pass for one before the first block.
    cache.block = block = told_block(call) or cache.block
    own = None if block is None else family.calls_of_block(diffusion_model, call, block)
    number = len(cache.taken) if own is None else next((one for one in own if one not in cache.taken), None)

    try:
        site = _site_of(family, diffusion_model, forward, call, number)
    except UnexpectedCallError as reason:
        error = UnexpectedCallError(f"an attention call has {reason}")
        error.lost = own is None
        for taken in own or ():
            with suppress(UnexpectedCallError):
                place = taken if taken in cache.taken else None
                double = _site_of(family, diffusion_model, forward, call, place)
                error.doubted = double.block if double.kind in OVER_VIDEO else error.doubted
        raise error from None
    cache.taken.add(number or 0)
    if site.kind in OVER_VIDEO:
        cache.met.add(site.block)
    return site


def _site_of(
    family: Family, diffusion_model: Any, forward: Forward, call: AttentionCall, number: int | None
) -> CallSite:
    """What call `number` of a forward is, in the family's order. Raises UnexpectedCallError where `call` is not that,
    and for None."""
    if number is None:
        raise UnexpectedCallError("no place among those that the model's own blocks make")
    tokens = forward.lead_tokens + forward.video_tokens
    site = family.classify(diffusion_model, number, call, tokens, forward.text.tokens)
    _check_rows(site, forward, call)
    return replace(site, video_start=site.video_start + forward.lead_tokens) if forward.lead_tokens else site


def told_block(call: AttentionCall) -> BlockName | None:
    """The block that the host names with a call, None where it names none."""
    index, part = call.options.get(BLOCK_INDEX), call.options.get(BLOCK_PART)
    if not isinstance(index, int):
        return None
    return BlockName(index, call.options.get(BLOCK_KIND, "double"), part if isinstance(part, tuple) else None)


def _check_rows(site: CallSite, forward: Forward, call: AttentionCall) -> None:
    """Raises UnexpectedCallError for a call over the video with other batch rows than the forward's, whose prompts are
    not known."""
    rows = len(forward.batch.chunks) * forward.batch.latents * (forward.grid[0] if site.frames_as_rows else 1)
    if site.kind not in ("aside", "other") and call.query.shape[0] != rows:
        raise UnexpectedCallError(f"{call.query.shape[0]} batch rows where the evaluation has {rows}")
