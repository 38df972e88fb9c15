"""One embedded AWS for the whole run, with the tables, queues and secrets of template.yaml; tests share it and use fresh ids."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from local import aws, dashscope

if TYPE_CHECKING:
    from tests.support import Api, Person

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("aideer", deadline=None)
hypothesis.settings.load_profile("aideer")

_running = contextlib.ExitStack()
_provider = dashscope.Server(tokens=12, delay_ms=2)


def pytest_configure() -> None:
    """Before any import of aideer: its settings are read from the environment once."""
    folder = Path(_running.enter_context(tempfile.TemporaryDirectory(prefix="aideer-tests-")))
    stack = _running.enter_context(aws.running(folder))
    _running.enter_context(_provider)
    os.environ.update(stack.environment)
    os.environ["SIGNUP_CREDITS"] = "1000000"
    os.environ["STREAM_BASE_URL"] = "http://stream.test"
    os.environ["DASHSCOPE_HTTP_BASE_URL"] = _provider.base_url


def pytest_unconfigure() -> None:
    _running.close()


@pytest.fixture(scope="session")
def api() -> "Api":
    """The endpoints, called as API Gateway calls them."""
    from tests.support import Api

    return Api()


@pytest.fixture
def person(api: "Api") -> Callable[..., "Person"]:
    """Makes users: `person()`, `person(permission=0)`, `person(permission=2)`."""
    from tests.support import make_person

    return lambda permission=1, credits=None: make_person(permission, credits)


@pytest.fixture
def provider() -> dashscope.Server:
    """The simulated DashScope that the engine calls."""
    return _provider


@pytest.fixture
def counted() -> Iterator[list[str]]:
    """The DynamoDB, SQS and Secrets Manager calls made while the test runs, by name, as botocore sends them."""
    from tests.support import recorded_calls

    with recorded_calls() as calls:
        yield calls
