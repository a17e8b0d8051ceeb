"""What a segment leaves in the key/value bank, and what another sees of it."""

import torch

from ..attention.groups import OwnTokens
from ..attention.parts import TOKEN_DIM
from ..attention.token_split import TokenPlaces, TokenSplit
from ..bank.bank import BankEntry, StoredTokens
from ..plan.share_plan import SharePlan
from .forward import Forward


def exported_entry(plan: SharePlan, forward: Forward, own: OwnTokens, split: TokenSplit | None, row: int) -> BankEntry:
    """What batch row `row` of a segment's chunk leaves for later ones, by the `split` of its video; None leaves all of
    it as one subject."""
    config = plan.config
    text = own.outside_part() if config.share_text else None
    stored_text = None if text is None else StoredTokens(text.key, text.value, torch.arange(text.key.shape[TOKEN_DIM]))
    if split is None:
        places = torch.arange(own.video.stop - own.video.start)
        kept = _drop_tokens(places, config.token_dropout, forward, row)
        if kept is places:
            video = own.video_part(0.0)
            # Copied, because a backend may use the memory of its inputs.
            everything = StoredTokens(video.key.clone(), video.value.clone(), places)
        else:
            everything = own.stored(TokenPlaces.of(kept, own.key.device))
        return BankEntry((everything,), None, stored_text)
    exported = plan.exported_parts(forward.segment.index)
    subjects: list[StoredTokens | None] = []
    for number, places in enumerate(split.subjects):
        kept = _drop_tokens(places.on_cpu, config.token_dropout, forward, row)
        chosen = places if kept is places.on_cpu else TokenPlaces.of(kept, own.key.device)
        subjects.append(own.stored(chosen) if number in exported.subjects else None)
    background = own.stored(split.background) if exported.background else None
    return BankEntry(tuple(subjects), background, stored_text)


def imported_entry(plan: SharePlan, segment: int, source: int, entry: BankEntry) -> BankEntry:
    """What `segment` sees of the `entry` of `source`."""
    part_sources = plan.part_sources(segment)
    subjects = tuple(
        part if source in sources else None for part, sources in zip(entry.subjects, part_sources.subjects, strict=True)
    )
    background = entry.background if source in part_sources.background else None
    return BankEntry(subjects, background, entry.text, entry.origin)


def _drop_tokens(places: torch.Tensor, part: float, forward: Forward, row: int) -> torch.Tensor:
    """`places` without a random `part` of them: the same in all blocks of a forward, another choice in every step."""
    if part == 0.0:
        return places
    generator = torch.Generator().manual_seed((forward.step * 10_007 + forward.segment.index) * 1_009 + row)
    keep = len(places) - int(part * len(places))
    return places[torch.randperm(len(places), generator=generator)[:keep].sort().values]
