"""A run whose sharing finds no memory goes on with less of it, or stops and says what to change."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from kvshare_core.bank.bank import KeyValueBank
from kvshare_core.bank.pinned_memory import PinnedMemoryError
from kvshare_core.config import KVShareConfig, MemorySettings
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.session.shortage import FEWEST_QUERIES, MemoryShortage
from tests.support.away_bank import AwayBank
from tests.support.fake_family import FakeModel, Outputs, self_only, timeline_of

GRID = (3, 16, 16)
SAVE = MemorySettings(place="device", out_of_memory="save_memory")


@dataclass
class ShortModel(FakeModel):
    """A model on a device that runs out of memory where `short` says so of a call's queries."""

    short: Callable[[int], bool] = lambda queries: False

    def backend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if self.short(query.shape[2]):
            raise torch.OutOfMemoryError("out of memory on purpose")
        return super().backend(query, key, value)


def plan_with(memory: MemorySettings) -> SharePlan:
    return SharePlan(timeline_of(3, GRID[0]), KVShareConfig(sources="first and previous", memory=memory))


def run(
    bank: type[KeyValueBank], short: Callable[[SamplingRun, int], bool], memory: MemorySettings = SAVE
) -> tuple[list[Outputs], ShortModel]:
    """A pass of a model that is `short` of memory in some calls."""
    model = ShortModel(plan_with(memory), self_only(2), GRID)
    session = model.session()
    session.use_bank(bank(memory))
    model.short = lambda queries: short(session, queries)
    outputs = [outputs for _, outputs in model.run_pass(session)]
    assert session.shared_calls > 0
    return outputs, model


def difference(one: list[Outputs], other: list[Outputs]) -> float:
    pairs = zip(one, other, strict=True)
    return max(
        float((left - right).abs().max())
        for first, second in pairs
        for place in first
        for left, right in zip(first[place], second[place], strict=True)
    )


@pytest.fixture(scope="module")
def expected() -> list[Outputs]:
    return run(AwayBank, lambda session, queries: False)[0]


def test_keys_and_values_leave_the_device_first_and_nothing_changes(expected: list[Outputs]) -> None:
    outputs, model = run(AwayBank, lambda session, queries: session.bank.device_bytes > 0)
    assert difference(outputs, expected) == 0
    assert len(model.warnings) == 1 and "system RAM" in model.warnings[0]


def test_then_attention_is_computed_in_pieces_and_stays_exact(expected: list[Outputs]) -> None:
    outputs, model = run(AwayBank, lambda session, queries: queries > 300)
    assert difference(outputs, expected) < 1e-12
    assert ["system RAM" in model.warnings[0], "smaller pieces" in model.warnings[1]] == [True, True]
    assert len(model.warnings) == 2


def test_on_a_device_that_entries_cannot_leave_they_turn_to_fp8(expected: list[Outputs]) -> None:
    failures = iter([True])
    outputs, model = run(KeyValueBank, lambda session, queries: len(session.bank) > 0 and next(failures, False))
    assert len(model.warnings) == 1 and "fp8" in model.warnings[0]
    assert 0 < difference(outputs, expected) < 0.2


def test_a_run_that_should_not_save_memory_stops_and_names_the_setting() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="out_of_memory of KV Sharing Memory Settings to 'save_memory'"):
        run(AwayBank, lambda session, queries: len(session.bank) > 0, MemorySettings(place="device"))


def test_a_run_that_can_save_no_more_stops_and_says_what_needs_less() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="already goes on with the least it can; fewer blocks"):
        run(AwayBank, lambda session, queries: True)


def test_only_fp8_helps_where_system_ram_runs_out() -> None:
    warnings: list[str] = []
    shortage = MemoryShortage(SAVE, warnings.append)
    bank = AwayBank(MemorySettings(place="cpu"))

    def store() -> str:
        if bank.memory.dtype == "model":
            raise PinnedMemoryError("no memory left")
        return "stored"

    def never() -> None:
        raise PinnedMemoryError("no memory left")

    assert shortage.within(bank, 4 * FEWEST_QUERIES, store) == "stored"
    assert shortage.queries_at_once is None and len(warnings) == 1
    with pytest.raises(torch.OutOfMemoryError):
        shortage.within(bank, 4 * FEWEST_QUERIES, never)
    assert shortage.queries_at_once is None and len(warnings) == 1
