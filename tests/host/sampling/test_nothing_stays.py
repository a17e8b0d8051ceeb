"""What films leave in memory: nothing, however many there are."""

import gc

import torch

from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.windows import share


def objects_alive() -> tuple[int, int]:
    """How many objects Python follows, and how many of them are tensors."""
    gc.collect()
    alive = gc.get_objects()
    return len(alive), sum(1 for one in alive if issubclass(type(one), torch.Tensor))


def test_films_leave_no_object_behind() -> None:
    case = CASES["wan t2v"]
    timeline, model = case.timeline(3), model_of(case.name)
    counts: list[tuple[int, int]] = []
    for number in range(6):
        patched, record = share(model, timeline, SHARED, subject="fox")
        sample(case, patched, timeline, steps=2, cfg=3.0)
        del patched, record
        # The first films fill caches of the host and of torch.
        if number >= 2:
            counts.append(objects_alive())
    tensors = [count for _, count in counts]
    assert tensors[0] == tensors[-1], counts
    assert counts[-1][0] - counts[0][0] <= 3, counts
