"""Computes the attention calls of a run: what each is, and which part of the run it concerns."""

from collections.abc import Callable

import torch

from ..attention.log_sum_exp import LogSumExpAttention
from ..attention.parts import Backend
from ..families.base import AttentionCall, UnexpectedCallError
from ..forward.call import OVER_VIDEO, AttentionContext, next_site
from ..forward.forward import Forward
from .account import Reason
from .call_maps import CallMaps
from .call_sharing import CallSharer
from .call_texts import CallTexts
from .settings import RunSettings

Watcher = Callable[[AttentionContext], None]
"""Looks at a call without changing it."""

UNREAD: Reason = "unread"


class RunCalls:
    """The attention calls of one run, in the order in which the model makes them."""

    def __init__(self, settings: RunSettings, maps: CallMaps, texts: CallTexts, sharer: CallSharer, *watchers: Watcher):
        self.device: torch.device | None = None
        """Where the last call was computed."""
        self.prompted: set[int] = set()
        """Segments whose own prompt the model has received in the current pass."""
        self.doubted: set[int] = set()
        """Blocks whose own attention over the video cannot be told from another node's."""
        self._settings = settings
        self._maps = maps
        self._texts = texts
        self._sharer = sharer
        self._watchers = watchers
        self._lse_attention = LogSumExpAttention()

    def attend(self, forward: Forward, call: AttentionCall, backend: Backend) -> torch.Tensor | None:
        """The output [rows, heads, tokens, head_dim] of one call, or None where the ordinary call will do.

        Raises UnexpectedCallError when the call is not one of the family's.
        """
        settings = self._settings
        site = next_site(settings.family, settings.diffusion_model, forward, call)
        if site.kind in OVER_VIDEO and site.block in self.doubted:
            self._sharer.account.tally.reasons.add("doubted")
            return None
        if site.kind == "other":
            return None
        self.device = call.query.device
        context = AttentionContext(forward, call, site, backend, self._lse_attention)
        if forward.text.hidden_subject is not None:
            return self._texts.without_words(context)
        if site.kind == "aside":
            return self._texts.weighed(context)
        if context.conditional_rows is not None:
            if forward.text.own:
                self.prompted.add(forward.segment.index)
            for watch in self._watchers:
                watch(context)
        own_output = self._maps.gather(context)
        if site.kind == "cross":
            return self._texts.routed(context) if forward.text.routes else self._texts.weighed(context)
        shares = forward.shares and site.block in settings.blocks
        output = self._sharer.share(context, self._texts.masks(context)) if shares else None
        output = self._texts.weighed(context) if output is None else output
        return own_output if output is None else output

    def leave_unread(self, forward: Forward, what: str) -> None:
        """Counts a call that is left as it is because of arguments that are not known here, and says so of a run's
        first. what: is said of it."""
        forward.cache.calls += 1
        forward.cache.unread = True
        account, who = self._sharer.account, self._settings.neighbours.other
        account.tally.reasons.add(UNREAD)
        account.explain(
            f"{self._settings.info.family}: an attention call {what}; it is left unshared. {who[0].upper()}{who[1:]} "
            "makes it, or a newer ComfyUI. Take that node off the model, or update KV Share.",
            UNREAD,
            kind=UNREAD,
        )

    def leave(self, forward: Forward, reason: UnexpectedCallError) -> None:
        """Leaves a call that is not the family's as it is, and a block that it puts in doubt; says so, unless a
        call that could not be read has put the forward's calls in the wrong place."""
        left = "only that call is left unshared"
        if reason.lost:
            left = "this model, whose calls can only be counted, is left unshared. Take that node off the model"
        elif reason.doubted is not None:
            left = "and as it could be the model's own, its block is left unshared. Take that node off the model"
            if reason.doubted not in self.doubted:
                self.doubted.add(reason.doubted)
                self._maps.forget_pass()
        who = self._settings.neighbours.other
        message = f"{self._settings.info.family}: {reason}. {who[0].upper()}{who[1:]} adds or changes it; {left}."
        costs: tuple[Reason, ...] = ("lost",) if reason.lost else () if reason.doubted is None else ("doubted",)
        self._sharer.account.explain(message, *costs, kind=UNREAD if forward.cache.unread else None)
