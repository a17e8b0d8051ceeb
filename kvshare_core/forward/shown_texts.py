"""Which texts a segment looks at in one call, with what weight, and where they stand in the sequence of keys."""

from dataclasses import dataclass
from itertools import accumulate

from ..families.base import CallSite
from ..plan.share_plan import text_weights
from .forward import Forward


@dataclass(frozen=True)
class ShownText:
    """One of the texts that a segment looks at: whose it is, its weight as one number or for each token frame, and
    where its `length` tokens start in the sequence of keys."""

    beat: int
    weight: float | tuple[float, ...]
    start: int
    length: int

    def weight_at(self, token_frame: int) -> float:
        """Its weight in one token frame."""
        return self.weight[token_frame] if isinstance(self.weight, tuple) else self.weight


def shown_texts(forward: Forward, site: CallSite, frame_patch: int) -> tuple[ShownText, ...]:
    """The texts that the conditional rows of a forward look at. In a routed segment, whose texts stand one behind the
    other, every frame weighs them for itself; in a transition they are one text, mixed token by token.

    frame_patch: latent frames per token frame.
    """
    segment = forward.segment
    lengths = forward.routes.get(forward.chunks.index((forward.prompts or 0, 0)))
    if lengths is None:
        whole = site.text_start, forward.text_tokens
        return tuple(ShownText(beat, weight, *whole) for beat, weight in text_weights(segment))
    starts = accumulate(lengths, initial=site.text_start)
    return tuple(
        ShownText(text.beat, tuple(text.of_token_frames(frame_patch)), start, length)
        for text, start, length in zip(segment.texts, starts, lengths, strict=False)
    )
