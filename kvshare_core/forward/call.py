"""One attention call of one forward, with everything that is needed to compute it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..attention.groups import OwnTokens
from ..attention.key_masks import KeyMask, hide, read_key_mask
from ..attention.log_sum_exp import LogSumExpAttention
from ..attention.parts import Backend, KeyValuePart, QueryGroup, attend, attend_groups
from ..families.base import AttentionCall, CallSite, Family, UnexpectedCallError
from .forward import Forward, Layout
from .rows import alike, take_rows

OutputPiece = tuple[Sequence[int], torch.Tensor]
"""Batch rows, ascending, and their output [those rows, heads, tokens, head_dim]."""


@dataclass(frozen=True)
class AttentionContext:
    """One attention call: its forward, the host's tensors, and the block and kind that the family gives it."""

    forward: Forward
    call: AttentionCall
    site: CallSite
    backend: Backend
    """Attends as the host would have done."""
    lse_attention: LogSumExpAttention

    @property
    def video(self) -> slice:
        """Where the video's tokens lie in the sequence."""
        return slice(self.site.video_start, self.site.video_start + self.forward.video_tokens)

    @property
    def conditional_rows(self) -> slice | None:
        """The batch rows with the segment's own prompt; None when the batch has none."""
        return self.forward.batch.conditional_rows

    @property
    def rows(self) -> range:
        """All batch rows."""
        return range(self.call.query.shape[0])

    @property
    def key_masks(self) -> list[KeyMask] | None:
        """What the call's own mask hides from each batch row; None for a mask that differs between queries or hides
        video. Read once per forward and layout."""
        layout = self._layout("self", "joint")
        known = self.forward.cache.key_masks.get(layout)
        if known is None or known[0] is not self.call.mask:
            video = slice(layout[0], layout[1])
            known = (self.call.mask, read_key_mask(self.call.mask, self.call.key, video))
            self.forward.cache.key_masks[layout] = known
        return known[1]

    def key_masks_without(self, masks: Sequence[KeyMask], tokens: frozenset[int]) -> list[KeyMask] | None:
        """`masks`, with the keys at indices `tokens` hidden from the conditional rows too; computed once per forward
        and layout. None when that leaves a row without a key."""
        layout = self._layout("joint")
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

    def query(self, rows: Sequence[int]) -> torch.Tensor:
        """Queries of some batch rows."""
        return take_rows(self.call.query, rows)

    def own_tokens(self, rows: Sequence[int], mask: KeyMask) -> OwnTokens:
        """Keys and values of some batch rows, which `mask` holds for."""
        key, value = take_rows(self.call.key, rows), take_rows(self.call.value, rows)
        return OwnTokens(key, value, self.video, mask.outside, mask.visible, mask.visible_outside, mask.key_bias)

    def attend(self, query: torch.Tensor, parts: Sequence[KeyValuePart]) -> torch.Tensor:
        """Attention of `query` over `parts`."""
        return attend(query, parts, self.backend, self.lse_attention, self.call.scale)

    def attend_groups(self, query: torch.Tensor, groups: Sequence[QueryGroup]) -> torch.Tensor:
        """Attention of `query`, every token of which is in one of the `groups`."""
        return attend_groups(query, groups, self.backend, self.lse_attention, self.call.scale)

    def complete(self, pieces: Sequence[OutputPiece], masks: Sequence[KeyMask]) -> torch.Tensor:
        """The output of all batch rows: that of `pieces` for their rows, and for the others attention over the row's
        own keys that its mask leaves."""
        done = {row for rows, _ in pieces for row in rows}
        rest = [row for row in self.rows if row not in done]
        ordinary = [
            (rows, self.attend(self.query(rows), [self.own_tokens(rows, mask).everything()]))
            for rows, mask in alike(rest, masks.__getitem__)
        ]
        whole = [*pieces, *ordinary]
        if len(whole) == 1:
            return whole[0][1]
        outputs = {row: output[index : index + 1] for rows, output in whole for index, row in enumerate(rows)}
        return torch.cat([outputs[row] for row in self.rows])

    def _layout(self, *kinds: str) -> Layout:
        """Where the video lies among the keys in calls of these kinds; nowhere in others."""
        video = self.video if self.site.kind in kinds else slice(0, 0)
        return video.start, video.stop, self.call.key_tokens


def next_site(family: Family, diffusion_model: Any, forward: Forward, call: AttentionCall) -> CallSite:
    """What the next attention call of `forward` is. Raises UnexpectedCallError, with the number of the call."""
    number = forward.cache.calls
    forward.cache.calls += 1
    try:
        tokens = forward.lead_tokens + forward.video_tokens
        site = family.classify(diffusion_model, number, call, tokens, forward.text.tokens)
        return replace(site, video_start=site.video_start + forward.lead_tokens) if forward.lead_tokens else site
    except UnexpectedCallError as reason:
        raise UnexpectedCallError(f"attention call {number} has {reason}") from None
