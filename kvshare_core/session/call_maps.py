"""Gathers the attention maps that show where the subjects are, from the calls of a run."""

from collections.abc import Callable

import torch

from ..attention.key_masks import ODD_MASK
from ..attention.log_sum_exp import OutputWithLogSumExp
from ..forward.call import AttentionContext
from ..forward.rows import alike
from ..subject.tracker import SubjectTracker
from .settings import RunSettings


class CallMaps:
    """Hands the maps of one run's attention calls to its tracker."""

    def __init__(self, settings: RunSettings, tracker: SubjectTracker, warn: Callable[[str], None]):
        self._settings = settings
        self._tracker = tracker
        self._warn = warn

    def gather(self, context: AttentionContext) -> torch.Tensor | None:
        """Takes the map of a call, where the tracker wants it. Where that needs the whole attention, returns its
        output, which is then the call's; otherwise None."""
        forward, site = context.forward, context.site
        if not forward.finds_subjects:
            return None
        if site.kind != "cross":
            self._tracker.add_likeness(context)
        if not self._tracker.uses_block(forward.segment.index, site.block):
            return None
        if site.kind == "cross" or (site.kind == "joint" and not self._tracker.per_block):
            self._tracker.add_map(context)
        elif site.kind == "joint" and self._is_before_sharing_ends(site.block):
            return self._gather_exactly(context)
        return None

    def forget_pass(self) -> None:
        """Forgets what the running model call gathered, because some of it may be of other calls."""
        self._tracker.forget_pass()

    def _is_before_sharing_ends(self, block: int) -> bool:
        blocks = self._settings.blocks
        return not blocks or block <= blocks[-1]

    def _gather_exactly(self, context: AttentionContext) -> torch.Tensor | None:
        """Takes exact joint probabilities, for which the attention itself is computed, once."""
        rows, video = context.conditional_rows, context.video
        if rows is None:
            return None
        # Where our output would not be used, only the rows and queries of the map are worth computing.
        unused = context.call.overridden or self._will_share(context)
        chosen, queries = (rows, video) if unused else (slice(None), slice(None))
        attention = self._with_log_sum_exp(context, chosen, queries)
        if attention is None:
            self._warn(f"{self._settings.info.family}: {ODD_MASK}; its subject cannot be followed.")
            return None
        output, log_sum_exp = attention
        if unused:
            self._tracker.add_map(context, log_sum_exp)
            return None
        self._tracker.add_map(context, log_sum_exp[rows, :, video])
        return output

    def _will_share(self, context: AttentionContext) -> bool:
        """Whether the call's output will be computed with source keys, or with words weighed."""
        forward = context.forward
        shares = forward.shares and context.site.block in self._settings.blocks and bool(forward.sources)
        return shares or self._settings.plan.weighs(forward.segment)

    def _with_log_sum_exp(self, context: AttentionContext, rows: slice, queries: slice) -> OutputWithLogSumExp | None:
        """The attention of `queries` over all own keys of some batch rows, with its log-sum-exp."""
        masks = context.key_masks
        if masks is None:
            return None
        found: list[OutputWithLogSumExp] = []
        for indices, mask in alike(context.rows[rows], masks.__getitem__):
            own = context.own_tokens(indices, mask).everything()
            query = context.query(indices)[:, :, queries]
            found.append(context.lse_attention(query, own.key, own.value, context.call.scale, own.key_bias))
        if len(found) == 1:
            return found[0]
        # Rows with masks of their own come in order, because rows that are alike are adjacent or alone.
        return torch.cat([output for output, _ in found]), torch.cat([log_sum_exp for _, log_sum_exp in found])
