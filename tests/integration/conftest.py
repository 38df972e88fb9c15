"""The embedded AWS, from the first of these tests on."""

import pytest

from tests.conftest import EMBEDDED_AWS, KEYS


@pytest.fixture(scope="session", autouse=True)
def embedded_aws(pytestconfig: pytest.Config) -> None:
    """Start it before any other fixture."""
    pytestconfig.stash[EMBEDDED_AWS].start(**KEYS)
