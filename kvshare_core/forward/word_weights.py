"""Where the weighed words of a segment's texts stand in one attention call."""

from collections.abc import Iterable, Mapping, Sequence

from ..attention.key_masks import KeyMask, weigh_words
from .attended_texts import AttendedText, attended_texts
from .call import AttentionContext

BeatWeights = Mapping[int, float]
"""Weights of the words of one prompt, by their text tokens."""


def weighed_masks(
    context: AttentionContext,
    masks: list[KeyMask],
    of_beats: Sequence[BeatWeights],
    normalised: bool,
    frame_patch: int,
) -> list[KeyMask]:
    """`masks` of the batch rows of a call, with the words weighed for the rows of the segment's own prompt; computed
    once per forward and layout.

    of_beats: the weights in every beat's prompt; normalised: as in WeighedWords; frame_patch: latent frames per token
    frame. Raises ValueError for words that the model did not receive, and where their weights leave the video nothing
    to attend to.
    """
    if context.conditional_rows is None or context.site.kind in ("self", "other"):
        return masks
    known = context.forward.cache.weighed_masks.get(context.layout)
    if known is not None and known[0] is masks:
        return known[1]
    texts = attended_texts(context, frame_patch)
    weights = weights_of_places(texts, of_beats)
    if context.forward.text.routes and texts:
        # The host repeats joined texts to fit another row's; every copy counts alike.
        length = texts[-1].start + texts[-1].length
        copies = range(0, context.call.key_tokens, length)
        weights = {copy + place: weight for copy in copies for place, weight in weights.items()}
    found = list(masks)
    if weights:
        video = slice(*context.layout[:2])
        for row in context.rows[context.conditional_rows]:
            key = context.call.key
            mask = weigh_words(masks[row], weights, normalised, key.shape[2], video, key.device)
            if mask is None:
                raise ValueError("every word of the prompt has weight 0")
            found[row] = mask
        found = _without_copies(found)
    context.forward.cache.weighed_masks[context.layout] = masks, found
    return found


def _without_copies(masks: Sequence[KeyMask]) -> list[KeyMask]:
    """The same masks, equal ones as one object, whose indices are then found once."""
    seen: dict[KeyMask, KeyMask] = {}
    return [seen.setdefault(mask, mask) for mask in masks]


def weights_of_places(texts: Iterable[AttendedText], of_beats: Sequence[BeatWeights]) -> dict[int, float]:
    """The weights of all words of the texts that a segment attends to, by their places in the sequence of keys. In a
    transition the weights are interpolated as the texts are. Raises ValueError when a text is too short for its words.
    """
    found: dict[int, float] = {}
    for text in texts:
        share = 1.0 if isinstance(text.weight, tuple) else text.weight
        for token, weight in of_beats[text.beat].items():
            if token >= text.length:
                raise ValueError("the prompt has more tokens than the model received")
            place = text.start + token
            found[place] = found.get(place, 1.0) + share * (weight - 1.0)
    return {place: weight for place, weight in found.items() if weight != 1}
