"""Shares keys and values in one attention call: stores the segment's own, fetches those of its sources, attends."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch

from ..attention.contrast import with_contrast
from ..attention.groups import sharing_groups
from ..attention.key_masks import ODD_MASK, KeyMask
from ..attention.pieces import Division, divide
from ..attention.token_split import TokenSplit, split_tokens
from ..bank.bank import BankEntry, BankKey, Chunk, KeyValueBank
from ..forward.call import AttentionContext, CallOutput
from ..forward.entries import exported_entry, imported_entry
from ..forward.forward import Forward
from ..forward.rows import SharedRow, grouped, join_entries
from ..subject.tracker import SubjectTracker
from .account import RunAccount
from .settings import RunSettings
from .shortage import MemoryShortage

T = TypeVar("T")

Splits = Sequence[TokenSplit | None]
"""Of each latent, which tokens are subject and which background; None where nothing divides them."""


class CallSharer:
    """Computes the calls of one run that share keys and values."""

    def __init__(
        self, settings: RunSettings, tracker: SubjectTracker, account: RunAccount, warn: Callable[[str], None]
    ):
        self.account = account
        """Is told what each call came to."""
        self.bank = KeyValueBank(settings.plan.config.memory, settings.bank_budget, settings.slabs)
        self.shared_calls = 0
        """Batch rows computed with source keys so far, over all calls."""
        self._settings = settings
        self._plan = settings.plan
        self._tracker = tracker
        self._warn = warn
        self._mover = settings.position_mover()
        self._shortage = MemoryShortage(settings.plan.config.memory, warn)

    def share(self, context: AttentionContext, masks: Sequence[KeyMask] | None) -> torch.Tensor | None:
        """The output [rows, heads, tokens, head_dim] of a self- or joint attention in a block that shares; None where
        no row attends to source keys. masks: what each batch row may attend to, None where that cannot be told."""
        tally = self.account.tally
        if masks is None:
            what = f"{self._settings.info.family}: {ODD_MASK}; it is left unshared."
            self.account.explain(f"{what} Take off guide frames, or the node that adds the mask.", "mask of the call")
            tally.reasons.add("mask of the call")
            return None
        splits = self._splits(context)
        if splits is None:
            self._warn_of_early_negative(context.forward)
            tally.reasons.add("subject")
            return None
        # With a bank in the computer's memory two blocks at most are on the device: the source's that is attended to
        # and the segment's own on its way out. The next source's comes when the former is done with.
        self.bank.let_go()
        rows, heads, tokens, head_dim = context.call.query.shape
        division = divide(rows, heads, context.call.key.shape[1], tokens, head_dim)
        output, found = CallOutput(context), False
        for shared in self._rows(context, masks, splits, division.by_row):
            found = True
            self._attend(context, shared, splits[shared[0].row], division, output)
            # Before the next rows' keys are fetched.
            shared.clear()
        self.prefetch(context.forward, context.site.block + 1)
        if output.is_empty:
            if context.forward.sources:
                tally.reasons.add("absent" if found else "keys")
            return None
        tally.blocks.add(context.site.block)
        return output.complete(masks)

    def prefetch(self, forward: Forward, block: int) -> None:
        """Starts fetching what `forward` attends to in the first block that shares, from `block` on."""
        info = self._settings.info
        blocks = self._settings.blocks
        place = bisect_left(blocks, block)
        if place == len(blocks) or not forward.shares or not self.bank.moves:
            return
        rows = forward.batch.latents * (forward.grid[0] if info.frames_as_rows else 1)
        try:
            self.bank.prefetch(
                [
                    BankKey(source, blocks[place], chunk, row)
                    for source in forward.sources
                    for chunk in forward.batch.chunks
                    for row in range(rows)
                ]
            )
        except torch.OutOfMemoryError:
            # Then they are fetched when they are needed, which says what to do when there is no room for them either.
            return

    def _splits(self, context: AttentionContext) -> Splits | None:
        """The split of every row of a chunk; None where it is not known yet."""
        forward, device, view = context.forward, context.call.query.device, context.view
        if self._plan.guided:
            # Masks of a block that another thread is still finding would be there in some runs and not in others.
            if self._tracker.per_block and not forward.batch.alone and context.conditional_rows is None:
                return None
            splits = self._tracker.splits(forward, context.site.block, device)
            if splits is None or view.is_plain:
                return None if splits is None else [split.on(device) for split in splits]
            known, name = forward.cache.splits, (view, self._masks_of(context))
            if name not in known:
                known[name] = view.splits(splits, device)
            return known[name]
        if self._plan.config.position != "frame":
            return [None] * context.chunk_rows
        undivided = forward.cache.undivided
        if view.grid not in undivided:
            undivided[view.grid] = split_tokens(torch.ones(view.tokens, dtype=torch.bool), device)
        return [undivided[view.grid]] * context.chunk_rows

    def _masks_of(self, context: AttentionContext) -> int:
        """The block whose masks count in a call; 0 where all blocks share their masks."""
        return context.site.block if self._tracker.per_block else 0

    def _warn_of_early_negative(self, forward: Forward) -> None:
        """Masks of a block exist only once the prompt itself has passed it."""
        expected = forward.finds_subjects and forward.batch.prompts is not None
        if self._tracker.per_block and expected and forward.batch.conditional_rows is None:
            self._warn(
                "negative conditioning was evaluated before the prompt's or together with another's; it is left "
                "unshared there."
            )

    def _rows(
        self, context: AttentionContext, masks: Sequence[KeyMask], splits: Splits, by_row: bool
    ) -> Iterator[list[SharedRow]]:
        """The batch rows for which there was something to fetch: one after the other, or those together that are alike.
        Of each row that shares the sources are fetched, and its own keys and values stored."""
        batch, count = context.forward.batch, context.chunk_rows
        places = [
            (place * count + row, row, chunk)
            for row in range(count)
            for place, chunk in enumerate(batch.chunks)
            if chunk[0] == batch.prompts or self._plan.config.share_uncond
        ]
        if by_row:
            for index, row, chunk in places:
                if rows := self._exchange(context, index, row, chunk, masks[index], splits[row]):
                    yield rows
        else:
            rows = [
                shared
                for index, row, chunk in places
                for shared in self._exchange(context, index, row, chunk, masks[index], splits[row])
            ]
            yield from grouped(rows)

    def _exchange(
        self,
        context: AttentionContext,
        index: int,
        row: int,
        chunk: Chunk,
        mask: KeyMask,
        split: TokenSplit | None,
    ) -> list[SharedRow]:
        """Fetches the sources of batch row `index` and stores the row's own keys and values; the row, if there was
        something to fetch."""
        forward, device = context.forward, context.call.key.device
        segment, block = forward.segment.index, context.site.block
        fetched = [
            (source, self._within_memory(context, partial(self.bank.get, BankKey(source, block, chunk, row))))
            for source in forward.sources
        ]
        found = [
            (source, imported_entry(self._plan, segment, source, entry.on(device)))
            for source, entry in fetched
            if entry is not None
        ]
        if forward.consumers != 0:
            key = BankKey(segment, block, chunk, row)
            self._within_memory(context, partial(self._store, context, key, index, mask, split))
        if not found:
            return []
        sources, entries = zip(*found, strict=True)
        return [SharedRow(index, row, sources, entries, mask)]

    def _store(
        self, context: AttentionContext, key: BankKey, index: int, mask: KeyMask, split: TokenSplit | None
    ) -> None:
        """Stores the keys and values of batch row `index` for the segments that attend to them."""
        forward = context.forward
        entry = exported_entry(self._plan, forward, context.own_tokens([index], mask), split, key.row)
        self.bank.put(key, replace(entry, origin=context.site.origin), forward.consumers)

    def _within_memory(self, context: AttentionContext, part: Callable[[], T]) -> T:
        """What `part` returns, with measures against a lack of memory."""
        return self._shortage.within(self.bank, context.call.query.shape[2], part)

    def _attend(
        self,
        context: AttentionContext,
        rows: list[SharedRow],
        split: TokenSplit | None,
        division: Division,
        output: CallOutput,
    ) -> None:
        """Puts into `output` what rows that are alike attend to, unless none of their queries attends to a source's
        keys."""
        for key_heads in division.key_heads:
            part = partial(self._attend_heads, context, rows, split, key_heads, output)
            if not self._within_memory(context, part):
                return
        self.shared_calls += len(rows)

    def _attend_heads(
        self,
        context: AttentionContext,
        rows: Sequence[SharedRow],
        split: TokenSplit | None,
        key_heads: slice,
        output: CallOutput,
    ) -> bool:
        """The same of some heads; whether any query attends to a source's keys."""
        indices = [row.index for row in rows]
        moved = [self._moved(context, row, split, key_heads) for row in rows]
        entries = [join_entries(entries) for entries in zip(*moved, strict=True)]
        del moved
        own = context.own_tokens(indices, rows[0].mask, key_heads)
        rules = self._plan.config.rules(context.forward.strength)
        groups = sharing_groups(own, split, entries, rules, context.view.frame_tokens)
        if groups is None:
            return False
        query = context.query(indices, key_heads)
        for tokens, piece in context.group_outputs(query, groups, self._shortage.queries_at_once):
            output.put(indices, key_heads, tokens, piece)
            # Before the next group is computed.
            del piece
        return True

    def _moved(
        self, context: AttentionContext, row: SharedRow, split: TokenSplit | None, key_heads: slice
    ) -> list[BankEntry]:
        """The source entries of a batch row and some heads, their keys moved to where the configuration wants them. The
        distance is found for every row alone, so that it does not depend on the host's batches, for all heads, and once
        per forward, unless every block has masks of its own."""
        forward = context.forward
        block = self._masks_of(context) if context.view.is_plain else context.site.block
        offsets = forward.cache.offsets
        moved: list[BankEntry] = []
        for source, entry in zip(row.sources, row.entries, strict=True):
            name = block, row.index, source
            if name not in offsets:
                own = context.own_tokens([row.index], row.mask)
                gap = self._plan.gap(source, forward.segment.index)
                offsets[name] = self._mover.offsets(entry, own, split, context.view.grid, gap, context.site.origin)
            kept = entry.of_heads(key_heads)
            moved.append(with_contrast(self._mover.move(kept, offsets[name]), self._plan.config.key_contrast, kept))
        return moved
