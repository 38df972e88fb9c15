"""The embedded AWS, from the first of these tests on, and windows of rate limits that last."""

from types import SimpleNamespace

import pytest

from tests.conftest import EMBEDDED_AWS, KEYS


@pytest.fixture(scope="session", autouse=True)
def embedded_aws(pytestconfig: pytest.Config) -> None:
    """Start it before any other fixture."""
    pytestconfig.stash[EMBEDDED_AWS].start(**KEYS)


@pytest.fixture(autouse=True)
def lasting_windows(embedded_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rate limits see the moment at which the test began, unless the test sets the clock.

    Otherwise a test that counts up to the limit of an hour would fail if it ran across the full hour.
    """
    from aideer.core import clock
    from aideer.security import rate_limits

    real, began = clock.now, clock.now()
    monkeypatch.setattr(rate_limits, "clock", SimpleNamespace(now=lambda: began if clock.now is real else clock.now()))
