"""Ray for the tests of workers, one for all tests of a module."""

from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.support.worker_films import start_ray, stop_ray


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """Ray on this machine; the test is skipped where it is not installed."""
    started = start_ray()
    yield started
    stop_ray(started)
