"""Turns the configuration into query groups: which queries attend to which keys.

(docs/architecture.md#the-algebra-of-sharing; DiTCtrl, arXiv 2412.18597, section 3.3.)
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch

from ..bank.bank import BankEntry, StoredTokens
from ..config import SharingRules
from .parts import TOKEN_DIM, KeyValuePart, QueryGroup, log_weight
from .token_split import SequencePlaces, TokenPlaces, TokenSplit
from .weighed_words import WeighedWords


@dataclass(frozen=True)
class OwnTokens:
    """The sequence of one attention call, [rows, heads, tokens, head_dim].

    video: where the video's tokens stand; outside: indices of all other tokens, None when there are none.
    visible, visible_outside: the keys that the call's own mask does not hide, of all and of those outside the video, as
    in KeyMask; None when it hides none. key_bias: what the mask adds to the scores beyond hiding, [rows, tokens].
    words: those that are weighed.
    """

    key: torch.Tensor
    value: torch.Tensor
    video: slice
    outside: torch.Tensor | None = None
    visible: torch.Tensor | slice | None = None
    visible_outside: torch.Tensor | None = None
    key_bias: torch.Tensor | None = None
    words: WeighedWords | None = None

    def everything(self) -> KeyValuePart:
        """All keys that may be seen, unweighed; several groups of queries share one copy."""
        return self._everything

    @cached_property
    def _everything(self) -> KeyValuePart:
        return self._chosen(self.visible)

    @cached_property
    def _without_words(self) -> KeyValuePart:
        assert self.words is not None
        return self._chosen(self.words.visible)

    def _chosen(self, places: torch.Tensor | slice | None) -> KeyValuePart:
        if isinstance(places, slice):
            return self._stretch(places, 0.0)
        return KeyValuePart(self.key, self.value, 0.0, self.key_bias, places).taken()

    def seen_by_video(self) -> tuple[KeyValuePart, ...]:
        """All keys that may be seen, as queries of the video see them."""
        return (self.everything(),) if self.words is None else (self._without_words, *self.word_parts())

    def word_parts(self, bias: float = 0.0) -> list[KeyValuePart]:
        """The weighed words as queries of the video see them, beside text of weight exp(bias)."""
        words = self.words
        if words is None:
            return []
        return [words.weigh(self.part_at(index, bias), weight) for weight, index in words.by_weight]

    def video_part(self, bias: float) -> KeyValuePart:
        """The video's keys, weighed by exp(bias)."""
        return self._stretch(self.video, bias)

    def outside_part(self, bias: float = 0.0) -> KeyValuePart | None:
        """The keys outside the video that may be seen, copied and weighed by exp(bias): text, reference frames."""
        return None if self.outside_keys is None else self.part_at(self.outside_keys, bias).taken()

    def outside_parts(self, bias: float = 0.0) -> list[KeyValuePart]:
        """The same as queries of the video see it."""
        if self.words is not None:
            return [self.part_at(self.words.visible_outside, bias).taken(), *self.word_parts(bias)]
        outside = self.outside_part(bias)
        return [] if outside is None else [outside]

    def part_at(self, index: torch.Tensor, bias: float = 0.0) -> KeyValuePart:
        """The keys at `index` of the sequence, weighed by exp(bias)."""
        return KeyValuePart(self.key, self.value, bias, self.key_bias, index)

    @property
    def outside_keys(self) -> torch.Tensor | None:
        """Indices of the keys outside the video that may be seen; None where all tokens are the video's."""
        return self.outside if self.outside is None or self.visible_outside is None else self.visible_outside

    @property
    def unweighed_outside(self) -> torch.Tensor | None:
        """The same without weighed words."""
        return self.outside_keys if self.words is None else self.words.visible_outside

    @property
    def video_queries(self) -> torch.Tensor:
        """Indices of the video's tokens."""
        return torch.arange(self.video.start, self.video.stop, device=self.key.device)

    def take_video(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the video tokens `places`, which are on the device, copied."""
        index = places + self.video.start if self.video.start else places
        return self.key.index_select(TOKEN_DIM, index), self.value.index_select(TOKEN_DIM, index)

    def stored(self, places: TokenPlaces) -> StoredTokens:
        """The video tokens at `places` as the bank keeps them."""
        return StoredTokens(*self.take_video(places.on_device), places.on_cpu)

    def _stretch(self, tokens: slice, bias: float) -> KeyValuePart:
        key_bias = None if self.key_bias is None else self.key_bias[:, tokens]
        return KeyValuePart(self.key[:, :, tokens], self.value[:, :, tokens], bias, key_bias)


def sharing_groups(
    own: OwnTokens,
    split: TokenSplit | None,
    sources: Sequence[BankEntry],
    rules: SharingRules,
    frame_tokens: int = 0,
) -> Iterator[QueryGroup] | None:
    """Query groups of one latent's attention, one at a time, or None when nothing foreign is to be seen.

    Without a split all video queries see all source keys. With one, queries of a subject see what the sources leave of
    that subject; background queries keep to their own keys, or see the sources' background too where `share_background`
    asks for it. Queries outside the video keep to their own keys, except with `share_text`, where they see all of the
    sources; then queries of the video see the text of their sources too, also of one that has no video token for them.
    Sources without a single token leave a group as it was. frame_tokens: tokens of one latent frame, for position
    `frame`.
    """
    builder = GroupBuilder(own, rules)
    subjects = [
        _foreign_tokens(sources, [entry.subjects[number] for entry in sources], rules)
        for number in range(1 if split is None else len(split.subjects))
    ]
    if split is None:
        return _unguided(own, subjects[0], builder)
    background = _foreign_tokens(sources, [entry.background for entry in sources], rules)
    assignments = [
        (split.background, background if rules.share_background else NOTHING),
        *zip(split.subjects, subjects, strict=True),
    ]
    if not any(seen.count for _, seen in assignments):
        return None
    texts = _foreign_tokens(sources, [entry.text for entry in sources], rules).texts
    video = [tokens for seen in (*subjects, background) for tokens in seen.video]
    beside = ForeignTokens(texts, video) if texts else NOTHING
    sequence = split.in_sequence(own.video.start, own.unweighed_outside)
    return _guided(builder, assignments, sequence, beside, frame_tokens)


def outside_groups(
    own: OwnTokens, bias: float = 0.0, texts: Sequence[KeyValuePart] = (), video: Sequence[KeyValuePart] = ()
) -> Iterator[QueryGroup]:
    """The groups of queries outside the video, which see the foreign `texts` and `video` beside own keys weighed by
    exp(bias), or own keys alone; a weighed word sees the video with its weight."""
    text, own_video = own.outside_part(bias), own.video_part(bias)
    assert own.outside is not None and text is not None
    everything = (text, own_video, *texts, *video) if texts or video else (own.everything(),)
    words = own.words
    if words is None:
        yield QueryGroup(own.outside, everything)
        return
    yield QueryGroup(words.other_queries, everything)
    for weight, index in words.by_weight:
        seen = [words.weigh(part, weight) for part in (own_video, *video)]
        yield QueryGroup(index, (text, *texts, *seen))


def _guided(
    builder: "GroupBuilder",
    assignments: Sequence[tuple[TokenPlaces, "ForeignTokens"]],
    sequence: SequencePlaces,
    beside: "ForeignTokens",
    frame_tokens: int,
) -> Iterator[QueryGroup]:
    """The groups of all video tokens by what they see, in the order of `sequence`, and of those outside the video,
    which see `beside`."""
    own, tokens = builder.own, sequence.parts
    for number, (places, seen) in enumerate(assignments):
        same_kind = SameKindTokens(tokens[number], partial(sequence.rest, number))
        if seen.video and builder.rules.frame_locked:
            yield from _frames(places.on_cpu, same_kind, seen, builder, frame_tokens)
        else:
            yield builder.group(tokens[number], seen, same_kind)
    if own.outside is not None:
        yield from builder.outside_groups(beside)


@dataclass(frozen=True)
class SameKindTokens:
    """The segment's own video tokens of the same kind as what is seen of a source, and all other keys that may be
    seen: indices in the sequence."""

    tokens: torch.Tensor
    rest: Callable[[], torch.Tensor]
    parts: tuple[KeyValuePart, KeyValuePart] | None = None
    """What `GroupBuilder.own_parts` gives for them, where several groups use it; None to make it anew."""


@dataclass(frozen=True)
class ForeignTokens:
    """What some queries see of their sources: text, and tokens of the video."""

    texts: Sequence[StoredTokens] = ()
    video: Sequence[StoredTokens] = ()

    @cached_property
    def count(self) -> int:
        """How many tokens there are."""
        return sum(tokens.key.shape[TOKEN_DIM] for tokens in (*self.texts, *self.video))


NOTHING = ForeignTokens()


def _foreign_tokens(
    sources: Sequence[BankEntry], parts: Sequence[StoredTokens | None], rules: SharingRules
) -> ForeignTokens:
    """What is seen of the `sources` by queries that see `parts` of them, one or None for each."""
    video = [part for part in parts if part is not None]
    if not rules.share_text:
        return ForeignTokens((), video)
    pairs = zip(sources, parts, strict=True)
    return ForeignTokens([entry.text for entry, part in pairs if part is not None and entry.text is not None], video)


@dataclass(frozen=True)
class GroupBuilder:
    """What a query sees of itself and of source tokens."""

    own: OwnTokens
    rules: SharingRules

    @property
    def _own_bias(self) -> float:
        """Log-weight of the own keys that source keys stand in for."""
        return log_weight(self.rules.own_weight)

    def group(self, queries: torch.Tensor, seen: ForeignTokens, same_kind: SameKindTokens | None = None) -> QueryGroup:
        """The group of `queries` of the video that see `seen`, or their own keys alone when there is nothing to see."""
        return QueryGroup(queries, self.parts_of(seen, same_kind) or self.own.seen_by_video())

    def outside_groups(self, seen: ForeignTokens) -> Iterator[QueryGroup]:
        """The groups of queries outside the video that see `seen`, or their own keys alone."""
        texts, video = (self.foreign_parts(part) for part in (ForeignTokens(seen.texts), ForeignTokens((), seen.video)))
        return outside_groups(self.own, self._own_bias if texts or video else 0.0, texts, video)

    def foreign_parts(self, seen: ForeignTokens, weight: float = 1.0) -> list[KeyValuePart]:
        """The parts of `seen`, without empty ones; weight: what they count for at full strength."""
        bias = math.log(self.rules.strength * weight)
        return [
            KeyValuePart(tokens.key, tokens.value, bias)
            for tokens in (*seen.texts, *seen.video)
            if tokens.key.shape[TOKEN_DIM] > 0
        ]

    def own_parts(self, same_kind: SameKindTokens) -> tuple[KeyValuePart, KeyValuePart]:
        """In mode `swap`, the own keys that count in full, and those of the same kind that source keys stand in for."""
        return self.own.part_at(same_kind.rest()), self.own.part_at(same_kind.tokens, self._own_bias)

    def parts_of(self, seen: ForeignTokens, same_kind: SameKindTokens | None = None) -> tuple[KeyValuePart, ...] | None:
        """All parts for queries that see `seen`; None when nothing foreign is among them, or no query is there in mode
        `swap`. Without `same_kind` the whole video is of one kind."""
        if not seen.count:
            return None
        if self.rules.mode == "extend":
            return (*self.own.seen_by_video(), *self.foreign_parts(seen))
        if self.rules.mode == "swap":
            if same_kind is not None and same_kind.tokens.numel() == 0:
                return None
            return self._swapped(seen, same_kind)
        replaced = self._own_bias
        outside = self.own.outside_parts(replaced if seen.texts else 0.0)
        return (*outside, self.own.video_part(replaced), *self.foreign_parts(seen))

    def _swapped(self, seen: ForeignTokens, same_kind: SameKindTokens | None) -> tuple[KeyValuePart, ...]:
        """All parts where source tokens take over a part of what the own tokens of their kind count for."""
        if same_kind is None:
            kept, same = self.own.outside_parts(), self.own.video_part(self._own_bias)
        else:
            rest, same = same_kind.parts or self.own_parts(same_kind)
            kept = [rest, *self.own.word_parts()]
        return (*kept, same, *self.foreign_parts(seen, same.count / seen.count))


def _unguided(own: OwnTokens, seen: ForeignTokens, builder: GroupBuilder) -> Iterator[QueryGroup] | None:
    parts = builder.parts_of(seen)
    if parts is None:
        return None
    if own.outside is None or (seen.texts and own.words is None):
        return iter([QueryGroup(None, parts)])
    beside = builder.outside_groups(seen if seen.texts else NOTHING)
    return iter([QueryGroup(own.video_queries, parts), *beside])


def _frames(
    places: torch.Tensor, same_kind: SameKindTokens, seen: ForeignTokens, builder: GroupBuilder, frame_tokens: int
) -> Iterator[QueryGroup]:
    """One group per latent frame of the video tokens `places`, which `same_kind` has as indices: it attends to the text
    and to the stored tokens of the same frame only."""
    if builder.rules.mode == "swap":
        rest, same = builder.own_parts(same_kind)
        same_kind = replace(same_kind, parts=(rest.taken(), same.taken()))
    video = builder.own.video
    for frame in range((video.stop - video.start) // frame_tokens):
        queries = _within(places, frame, frame_tokens)
        if queries.start == queries.stop:
            continue
        here = [_narrow(tokens, _within(tokens.tokens, frame, frame_tokens)) for tokens in seen.video]
        yield builder.group(same_kind.tokens[queries], ForeignTokens(seen.texts, here), same_kind)


def _within(places: torch.Tensor, frame: int, frame_tokens: int) -> slice:
    """The part of ascending `places` that lies in latent frame `frame`."""
    bounds = torch.searchsorted(places, torch.tensor([frame * frame_tokens, (frame + 1) * frame_tokens]))
    return slice(int(bounds[0]), int(bounds[1]))


def _narrow(stored: StoredTokens, part: slice) -> StoredTokens:
    return StoredTokens(stored.key[:, :, part], stored.value[:, :, part], stored.tokens[part])
