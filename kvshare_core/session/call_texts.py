"""Attention to the text where it differs from the host's: routed prompts, and prompts with words hidden."""

from collections.abc import Callable

import torch

from ..attention.key_masks import ODD_MASK
from ..forward.call import AttentionContext, CallOutput
from ..forward.routing import attend_routed
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
        if context.site.kind == "cross" and context.forward.text.routes:
            return attend_routed(context, masks, self._settings.frame_patch)
        return CallOutput(context).complete(masks)

    def routed(self, context: AttentionContext) -> torch.Tensor | None:
        """The cross-attention of a segment whose frames have texts of their own; None, with a warning, where the
        call's own mask does not allow it."""
        masks = context.key_masks
        if masks is None:
            self._warn(f"{self._settings.info.family}: {ODD_MASK}; its prompts are left unrouted.")
            return None
        return attend_routed(context, masks, self._settings.frame_patch)
