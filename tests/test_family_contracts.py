"""Every family keeps every contract of the design on the real host."""

import pytest

from tests.family_cases import CASES, FamilyCase, HostLacksFamilyError, model_of
from tests.family_contracts import CONTRACTS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> FamilyCase:
    try:
        model_of(request.param.name)
    except HostLacksFamilyError as reason:
        pytest.skip(str(reason))
    return request.param


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_family_keeps_the_contract(case: FamilyCase, contract: str) -> None:
    CONTRACTS[contract](case)
