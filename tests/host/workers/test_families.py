"""Every layout of every family, divided among workers of this process."""

from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.host.loading.model_info import SOURCE_ATTACHMENT, ModelSource, model_info
from kvshare_core.host.workers.settings import WorkerSettings
from kvshare_core.host.workers.workers import with_workers
from tests.support.family_cases import FamilyCase, model_of
from tests.support.family_contracts import sample
from tests.support.windows import share
from tests.support.worker_pool import hire

SHARED = KVShareConfig(share_background=True)
TWO = WorkerSettings(workers=2)


@pytest.fixture
def model(case: FamilyCase, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny model of a layout, which workers get in place of what they would load."""
    model = model_of(case.name).clone()
    model.set_attachments(SOURCE_ATTACHMENT, ModelSource("Load Video DiT", case.name))
    monkeypatch.setattr("kvshare_core.host.workers.worker.load_source", lambda source: model_of(source.name).clone())
    return model


def test_workers_make_the_film_of_one_process(case: FamilyCase, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = hire(monkeypatch, 2)
    timeline = case.timeline(3)
    batch = max(case.batches)
    patched, _ = share(model, timeline, SHARED, "fox")
    if model_info(model)[1].frames_in_batch:
        with pytest.raises(ValueError, match="image model"):
            with_workers(patched, TWO)
        return
    expected = sample(case, patched, timeline, batch)
    assert torch.equal(sample(case, with_workers(patched, TWO), timeline, batch), expected)
    assert len(pools) == 1
