"""Attention to the text where it differs from the host's: routed prompts, and prompts with words hidden or weighed."""

from collections.abc import Callable

import torch

from ..attention.key_masks import ODD_MASK, KeyMask
from ..forward.call import AttentionContext, CallOutput
from ..forward.routing import attend_routed
from ..forward.word_weights import weighed_masks
from ..subject.hidden_words import HiddenWords
from .settings import RunSettings


class CallTexts:
    """Computes the attention to text of one run where it is not the host's."""

    def __init__(self, settings: RunSettings, hidden_words: HiddenWords, warn: Callable[[str], None]):
        self._settings = settings
        self._hidden_words = hidden_words
        self._warn = warn

    def without_words(self, context: AttentionContext) -> torch.Tensor | None:
        """The output of a call in a forward that hides a subject's words from the rows of its prompt; None where the
        call does not attend to text."""
        masks = self._hidden_words.masks(context)
        if masks is None:
            return None
        masks = self._weigh(context, masks)
        if context.site.kind == "cross" and context.forward.text.routes:
            return attend_routed(context, masks, self._settings.frame_patch)
        return CallOutput(context).complete(masks)

    def weighed(self, context: AttentionContext) -> torch.Tensor | None:
        """The output of a call to own keys in which words of the prompt are weighed; None where none is."""
        masks = self.masks(context) if self._weighs(context) else None
        if masks is None or all(mask.words is None for mask in masks):
            return None
        return CallOutput(context).complete(masks)

    def routed(self, context: AttentionContext) -> torch.Tensor | None:
        """The cross-attention of a segment whose frames have texts of their own; None, with a warning, where the
        call's own mask does not allow it."""
        masks = self.masks(context)
        if masks is None:
            self._warn(f"{self._settings.info.family}: {ODD_MASK}; its prompts are left unrouted.")
            return None
        return attend_routed(context, masks, self._settings.frame_patch)

    def masks(self, context: AttentionContext) -> list[KeyMask] | None:
        """What each batch row may attend to in a call, with words weighed; None where the call's own mask cannot be
        told."""
        masks = context.key_masks
        if not self._weighs(context):
            return masks
        if masks is None:
            self._warn(f"{self._settings.info.family}: {ODD_MASK}; the words of its prompt are left unweighed.")
            return None
        return self._weigh(context, masks)

    def _weighs(self, context: AttentionContext) -> bool:
        """Whether words of the texts of a call's segment are weighed; a common prompt has none of them."""
        return context.forward.text.own and self._settings.plan.weighs(context.forward.segment)

    def _weigh(self, context: AttentionContext, masks: list[KeyMask]) -> list[KeyMask]:
        if not self._weighs(context):
            return masks
        plan, frame_patch = self._settings.plan, self._settings.frame_patch
        normalised = plan.config.reweight_form == "normalised"
        return weighed_masks(context, masks, plan.weights, normalised, frame_patch, self._warn)
