"""Prompt routing: every latent frame of a segment looks at the texts of its own time.

The model gets the texts of a routed segment one behind the other, and each frame's queries weigh them, exactly as one
softmax over all of their tokens with the logarithm of the weight added (research.md 1.5, 8).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch

from ..attention.key_masks import KeyMask
from ..attention.log_sum_exp import LogSumExpAttention
from ..attention.parts import TOKEN_DIM, Backend, KeyValuePart, QueryGroup, attend_groups
from ..devices import upload
from ..families.base import AttentionCall
from ..timeline.timeline import Segment


@dataclass(frozen=True)
class Route:
    """Where the frames of a routed segment stand among the queries: `video`, of `frames` token frames, each of `patch`
    latent frames."""

    segment: Segment
    video: slice
    frames: int
    patch: int


def attend_routed(
    call: AttentionCall,
    route: Route,
    lengths: Sequence[Sequence[int] | None],
    masks: Sequence[KeyMask],
    backend: Backend,
    lse_attention: LogSumExpAttention,
) -> torch.Tensor:
    """The output [rows, heads, tokens, head_dim] of a cross-attention some of whose rows have several texts.

    lengths: of each row the tokens of its texts, None for a row with one text; masks: which keys each row's mask hides.
    Raises ValueError when the keys of a row are not its texts.
    """
    outputs: list[torch.Tensor] = []
    for index, (texts, mask) in enumerate(zip(lengths, masks, strict=True)):
        query, key, value = (tensor[index : index + 1] for tensor in (call.query, call.key, call.value))
        row = replace(call, query=query, key=key, value=value)
        if texts is None:
            groups = [QueryGroup(None, (_part(row, range(call.key_tokens), mask),))]
        else:
            groups = routed_groups(row, route, texts, mask)
        outputs.append(attend_groups(query, groups, backend, lse_attention, call.scale))
    return torch.cat(outputs)


def routed_groups(call: AttentionCall, route: Route, lengths: Sequence[int], mask: KeyMask) -> list[QueryGroup]:
    """Query groups of one row, whose keys are the texts of the segment, of `lengths` tokens each.

    Queries around the video look at the segment's own text. Where the host has repeated the texts to fit another row's,
    every copy counts alike. Raises ValueError when the keys are not these texts.
    """
    total = sum(lengths)
    if call.key_tokens % total:
        raise ValueError(f"{call.key_tokens} text tokens, but the texts have {total}")
    starts = list(accumulate(lengths, initial=0))
    parts = [
        _part(call, (copy + token for copy in range(0, call.key_tokens, total) for token in range(*span)), mask)
        for span in pairwise(starts)
    ]
    video, segment = route.video, route.segment
    frame_tokens = (video.stop - video.start) // route.frames
    queries: dict[tuple[float, ...], list[int]] = {}
    of_frames = zip(*(text.of_token_frames(route.patch) for text in segment.texts), strict=True)
    for frame, weights in enumerate(of_frames):
        first = video.start + frame * frame_tokens
        queries.setdefault(weights, []).extend(range(first, first + frame_tokens))
    outside = [*range(video.start), *range(video.stop, call.query_tokens)]
    if outside:
        own = tuple(float(text.beat == segment.beat) for text in segment.texts)
        queries.setdefault(own, []).extend(outside)
    return [
        QueryGroup(
            upload(torch.tensor(sorted(tokens)), call.query.device),
            tuple(part.weighed(weight) for part, weight in zip(parts, weights, strict=True) if weight > 0),
        )
        for weights, tokens in queries.items()
    ]


def _part(call: AttentionCall, places: Iterable[int], mask: KeyMask) -> KeyValuePart:
    """The keys at `places` that the mask does not hide."""
    hidden = set(mask.hidden)
    index = upload(torch.tensor([place for place in places if place not in hidden]), call.key.device)
    key, value = (tensor.index_select(TOKEN_DIM, index) for tensor in (call.key, call.value))
    return KeyValuePart(key, value, 0.0, None if mask.key_bias is None else mask.key_bias.index_select(1, index))
