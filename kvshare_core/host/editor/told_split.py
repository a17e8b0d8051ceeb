"""What the plan of a film says of workers, in words: who evaluates what, what travels, and what that gains."""

import math

from ...plan.forecast import ModelFacts, Sampling
from ...plan.share_plan import SharePlan
from ...plan.worker_split import MIB, Split, split_segments

NUMBER_BYTES = 4
"""Of a latent as it travels, float32."""


def told_split(plan: SharePlan, facts: ModelFacts | None, sampling: Sampling, workers: int) -> list[str]:
    """A sentence on the split of a film among so many workers, 0 for one on each GPU, whose number is not known here;
    and one on what travels, where the model is known."""
    if not workers:
        return ["KV Share Workers: one worker for each GPU. Enter a number in workers to see how much faster that is."]
    split = split_segments(plan, workers)
    told = [
        f"KV Share Workers: {_counts(split)} evaluations in each step, with one process {sum(split.alone)}: "
        f"{split.speedup:.1f} times as fast."
    ]
    if facts is not None:
        size = split.wire_bytes(piece_bytes(plan, facts, sampling), 2 if sampling.guided else 1) / MIB
        told.append(f"KV Share Workers: segments {_segments(split)}; {size:.1f} MiB travel in each step.")
    return told


def piece_bytes(plan: SharePlan, facts: ModelFacts, sampling: Sampling) -> int:
    """Bytes of the latent of one segment."""
    info = facts.info
    size = sampling.height // info.compression[1] * (sampling.width // info.compression[2])
    return math.prod((sampling.batch, info.latent_channels, plan.timeline.window, size, NUMBER_BYTES))


def _counts(split: Split) -> str:
    return " + ".join(str(span.evaluations) for span in split.spans)


def _segments(split: Split) -> str:
    """The segments of each worker, counted from 1."""
    ends = ((min(span.own) + 1, max(span.own) + 1) for span in split.spans)
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)
