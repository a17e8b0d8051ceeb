"""The cases of tests/support/family_cases.py and the embedded models that the host under test has."""

import pytest

from kvshare_core.embedded.model import EmbeddedKind, is_available
from tests.support.family_cases import CASES, FamilyCase, HostLacksFamilyError, model_of


def present(name: str) -> FamilyCase:
    """The case of that name; skips the test where the host lacks it."""
    try:
        model_of(name)
    except HostLacksFamilyError as reason:
        pytest.skip(str(reason))
    return CASES[name]


def known(attention: EmbeddedKind) -> EmbeddedKind:
    """The embedded model of that kind; skips the test where the host does not know its layout."""
    if not is_available(attention):
        pytest.skip("this host does not know the layout")
    return attention
