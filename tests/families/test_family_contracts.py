"""Every family keeps every contract of the design on the real host."""

import pytest

from tests.support.family_cases import FamilyCase
from tests.support.family_contracts import CONTRACTS


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_family_keeps_the_contract(case: FamilyCase, contract: str) -> None:
    CONTRACTS[contract](case)
