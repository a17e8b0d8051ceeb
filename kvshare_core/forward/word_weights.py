"""Where the weighed words of a segment's texts stand in one attention call."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ..attention.key_masks import KeyMask, weigh_words
from .attended_texts import AttendedText, attended_texts, copies
from .call import AttentionContext

BeatWeights = Mapping[int, float]
"""Weights of the words of one prompt, by their text tokens."""


def weighed_masks(
    context: AttentionContext,
    masks: list[KeyMask],
    of_beats: Sequence[BeatWeights],
    normalised: bool,
    frame_patch: int,
    warn: Callable[[str], None],
) -> list[KeyMask]:
    """`masks` of the batch rows of a call, with the words weighed for the rows of the segment's own prompt; computed
    once per forward and layout.

    of_beats: the weights in every beat's prompt; normalised: as in WeighedWords; frame_patch: latent frames per token
    frame; warn: receives the reason where words cannot be weighed.
    """
    if context.conditional_rows is None or context.site.kind in ("self", "other"):
        return masks
    known = context.forward.cache.weighed_masks.get(context.layout)
    if known is not None and known[0] is masks:
        return known[1]
    try:
        found = _weighed(context, masks, weights_of_places(attended_texts(context, frame_patch), of_beats), normalised)
    except ValueError as reason:
        number = context.forward.segment.beat + 1
        warn(f"prompt {number}: {reason}; its words are left unweighed.")
        found = masks
    context.forward.cache.weighed_masks[context.layout] = masks, found
    return found


def _weighed(
    context: AttentionContext, masks: list[KeyMask], weights: Mapping[int, float], normalised: bool
) -> list[KeyMask]:
    """The same for the words at the places `weights`. Raises ValueError where they leave the video nothing to attend
    to."""
    if not weights:
        return masks
    weights = {copy + place: weight for copy in copies(context) for place, weight in weights.items()}
    found, key = list(masks), context.call.key
    for row in context.rows[context.conditional_rows or slice(0, 0)]:
        mask = weigh_words(masks[row], weights, normalised, key.shape[2], slice(*context.layout[:2]), key.device)
        if mask is None:
            raise ValueError("every word of the prompt has weight 0")
        found[row] = mask
    return _without_copies(found)


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
