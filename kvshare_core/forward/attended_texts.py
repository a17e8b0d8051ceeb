"""Which texts a segment's video attends to in one call, with what weight, and where their tokens lie among the keys."""

from dataclasses import dataclass
from itertools import accumulate

from ..plan.share_plan import text_weights
from .call import AttentionContext


@dataclass(frozen=True)
class AttendedText:
    """One of the texts that a segment attends to."""

    beat: int
    """The beat whose text it is."""
    weight: float | tuple[float, ...]
    """One number, or one for each token frame."""
    start: int
    """Index of its first token in the sequence of keys."""
    length: int
    """How many tokens it has."""

    def weight_at(self, token_frame: int) -> float:
        """Its weight in one token frame."""
        return self.weight[token_frame] if isinstance(self.weight, tuple) else self.weight


def copies(context: AttentionContext) -> range:
    """How far behind the prompt's texts their copies begin, the texts themselves among them: hosts repeat a text that
    shares a batch with a longer one, which changes nothing as long as all copies are treated alike."""
    text, site, batch = context.forward.text, context.site, context.forward.batch
    received = text.tokens if site.text_tokens is None else site.text_tokens
    lengths = text.routes.get(batch.chunks.index((batch.prompts or 0, 0)))
    own = text.own_tokens if lengths is None else sum(lengths)
    if own is None or own >= received or received % own:
        return range(1)
    return range(0, received, own)


def attended_texts(context: AttentionContext, frame_patch: int) -> tuple[AttendedText, ...]:
    """The texts that the conditional rows attend to. In a routed segment the texts are concatenated, and every frame
    has weights of its own for them; in a transition they are one text, interpolated token by token.

    frame_patch: latent frames per token frame. Raises ValueError for a batch without conditional rows.
    """
    segment, batch, text = context.forward.segment, context.forward.batch, context.forward.text
    lengths = text.routes.get(batch.chunks.index((batch.prompts or 0, 0)))
    if lengths is None:
        site = context.site
        whole = site.text_start, text.tokens if site.text_tokens is None else site.text_tokens
        return tuple(AttendedText(beat, weight, *whole) for beat, weight in text_weights(segment))
    starts = accumulate(lengths, initial=context.site.text_start)
    return tuple(
        AttendedText(routed.beat, tuple(routed.of_token_frames(frame_patch)), start, length)
        for routed, start, length in zip(segment.texts, starts, lengths, strict=False)
    )
