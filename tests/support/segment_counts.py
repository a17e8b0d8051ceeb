"""Counts how often each segment of a timeline is evaluated."""

from collections import Counter
from typing import Any

from comfy.patcher_extension import WrappersMP


def counting_segments(model: Any, forwards: Counter[int]) -> Any:
    """The model, counting the rows that each segment is evaluated with."""

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = args[5]
        forwards[options["context_window"].segment.index] += len(options["cond_or_uncond"])
        return executor(*args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", count)
    return clone
