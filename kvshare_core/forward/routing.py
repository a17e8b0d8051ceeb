"""Prompt routing: every latent frame of a segment attends to the texts of its own time.

The model gets the texts of a routed segment concatenated. Each frame's queries weigh them exactly as one softmax over
all of their tokens would with the logarithm of each text's weight added to its scores (docs/timeline.md).
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

import torch

from ..attention.key_masks import KeyMask
from ..attention.parts import TOKEN_DIM, KeyValuePart, QueryGroup
from ..devices import upload
from .call import AttentionContext


def attend_routed(context: AttentionContext, masks: Sequence[KeyMask], frame_patch: int) -> torch.Tensor:
    """The output [rows, heads, tokens, head_dim] of a cross-attention in which some chunks have several texts.

    masks: what each row's mask hides; frame_patch: latent frames per token frame. Raises ValueError when the keys of a
    row are not its texts.
    """
    forward = context.forward
    outputs: list[torch.Tensor] = []
    for row, mask in enumerate(masks):
        lengths = forward.text.routes.get(row // context.chunk_rows)
        if lengths is None:
            groups = [QueryGroup(None, tuple(_visible_keys(context, row, range(context.call.key_tokens), mask)))]
        else:
            groups = routed_groups(context, row, lengths, mask, frame_patch)
        outputs.append(context.attend_groups(context.query([row]), groups))
    return torch.cat(outputs)


def routed_groups(
    context: AttentionContext, row: int, lengths: Sequence[int], mask: KeyMask, frame_patch: int
) -> list[QueryGroup]:
    """Query groups of one row, whose keys are the texts of the segment, of `lengths` tokens each.

    Queries outside the video attend to the segment's own text. Where the host has repeated the texts to fit another
    row's, every copy counts alike. Raises ValueError when the keys are not these texts.
    """
    call, segment, video = context.call, context.forward.segment, context.video
    total = sum(lengths)
    if call.key_tokens % total:
        raise ValueError(f"{call.key_tokens} text tokens, but the texts have {total}")
    starts = list(accumulate(lengths, initial=0))
    texts = [
        _visible_keys(
            context, row, (copy + token for copy in range(0, call.key_tokens, total) for token in range(*span)), mask
        )
        for span in pairwise(starts)
    ]
    view = context.view
    frame_tokens = view.frame_tokens
    queries: dict[tuple[float, ...], list[int]] = {}
    weights_of_frames = list(zip(*(text.of_token_frames(frame_patch) for text in segment.texts), strict=True))
    if view.frames_as_rows:
        weights_of_frames = [weights_of_frames[row % view.rows]]
    for frame, weights in enumerate(weights_of_frames):
        first = video.start + frame * frame_tokens
        queries.setdefault(weights, []).extend(range(first, first + frame_tokens))
    outside = [*range(video.start), *range(video.stop, call.query_tokens)]
    if outside:
        own = tuple(float(text.beat == segment.beat) for text in segment.texts)
        queries.setdefault(own, []).extend(outside)
    return [
        QueryGroup(
            upload(torch.tensor(sorted(tokens)), call.query.device),
            tuple(
                part.weighed(weight) for text, weight in zip(texts, weights, strict=True) if weight > 0 for part in text
            ),
        )
        for weights, tokens in queries.items()
    ]


def _visible_keys(context: AttentionContext, row: int, tokens: Iterable[int], mask: KeyMask) -> list[KeyValuePart]:
    """The keys and values of one row at `tokens`, without those that the mask hides; weighed words apart."""
    call, hidden, words = context.call, set(mask.hidden), mask.words
    weights = {} if words is None else dict(words.places)
    by_weight: dict[float, list[int]] = {}
    for token in tokens:
        if token not in hidden:
            by_weight.setdefault(weights.get(token, 1.0), []).append(token)
    parts: list[KeyValuePart] = []
    for weight, places in by_weight.items():
        index = upload(torch.tensor(places), call.key.device)
        key, value = (tensor[row : row + 1].index_select(TOKEN_DIM, index) for tensor in (call.key, call.value))
        bias = None if mask.key_bias is None else mask.key_bias.index_select(1, index)
        part = KeyValuePart(key, value, 0.0, bias)
        parts.append(part if words is None else words.weigh(part, weight))
    return parts
