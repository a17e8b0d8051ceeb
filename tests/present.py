"""The cases of tests/family_cases.py that the host under test has."""

import pytest

from tests.family_cases import CASES, FamilyCase, HostLacksFamilyError, model_of


def present(name: str) -> FamilyCase:
    """The case of that name; skips the test where the host lacks it."""
    try:
        model_of(name)
    except HostLacksFamilyError as reason:
        pytest.skip(str(reason))
    return CASES[name]
