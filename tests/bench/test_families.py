"""The matrix of families and contracts is measured, not asserted."""

import pytest

from bench.families import measure_families
from tests.support import family_contracts


def test_a_row_says_which_contracts_hold() -> None:
    (row,) = measure_families("this host", quick=True)
    assert row["contracts"] == dict.fromkeys(list(family_contracts.CONTRACTS)[:2], True)
    assert (row["passed"], row["blocks_shared"], row["forwards"], row["reason"]) == (True, 3, 2, None)


def test_a_broken_contract_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: object) -> None:
        raise AssertionError("not kept")

    monkeypatch.setattr(family_contracts, "CONTRACTS", {"broken": broken})
    (row,) = measure_families("this host", quick=True)
    assert (row["contracts"], row["passed"]) == ({"broken": False}, False)
