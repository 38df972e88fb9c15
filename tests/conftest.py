"""What all tests share: the environment of the functions, two simulated providers, and one embedded AWS for each process.

Tests use fresh ids. tests/integration/conftest.py starts the embedded AWS; in tests/unit it refuses calls.
"""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import argon2
import hypothesis
import pytest

from local.simulators import dashscope, wechat
from local.stack.settings import SIMULATED_WECHAT
from tests import prices
from tests.embedded_aws import EmbeddedAws

if TYPE_CHECKING:
    from tests.recorder import Call, Recorder
    from tests.support import Api, Person

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("aideer", deadline=None)
hypothesis.settings.load_profile("aideer")

_running = contextlib.ExitStack()
# Open tasks of the previous release ask models that have been retired since.
_provider = dashscope.Server(tokens=12, delay_ms=2, retired=frozenset())
_wechat = wechat.Server()
_calls: set[tuple[str, str, str]] = set()
"""Which function used what, over the whole run: tests/recorder.py."""
_recorder: "pytest.StashKey[Recorder]" = pytest.StashKey()
EMBEDDED_AWS: "pytest.StashKey[EmbeddedAws]" = pytest.StashKey()
KEYS = {"dashscope_api_key": "sk-test", **SIMULATED_WECHAT}
CALLS = "aideer/calls"
"""Where pytest's cache keeps them for tests/permissions."""


def pytest_configure(config: pytest.Config) -> None:
    """Before any import of aideer: its settings are read from the environment once."""
    if all(argument.startswith("tests/e2e") for argument in config.args):
        return  # where functions run as they are deployed
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return  # xdist's workers run the tests
    aws = _running.enter_context(EmbeddedAws())
    _running.enter_context(_provider)
    _running.enter_context(_wechat)
    os.environ.update(aws.environment)
    os.environ["SIGNUP_CREDITS"] = "1000000"
    os.environ["UNCOVERED_CREDITS"] = "1000000"
    os.environ["OPEN_TASKS"] = "1000"
    os.environ["LEASE_SECONDS"] = "15"  # a question in doubt waits for it, in real time
    os.environ["THROTTLES"] = "all=1000000/60"
    os.environ["STREAM_BASE_URL"] = "http://stream.test"
    os.environ["DASHSCOPE_HTTP_BASE_URL"] = _provider.base_url
    os.environ["WECHAT_BASE_URL"] = os.environ["WECHAT_OPEN_URL"] = _wechat.base_url
    try:
        from aideer.core import settings  # noqa: F401
    except KeyError as missing:
        raise pytest.UsageError(
            f"core/settings.py reads {missing}, and Globals of template.yaml do not set it (docs/architecture.md: setting)"
        ) from None
    prices.bill_by(prices.FOLDER)
    config.stash[EMBEDDED_AWS] = aws
    from aideer.security import password_hashing
    from tests import changes_rule
    from tests.recorder import Recorder

    changes_rule.watch()
    password_hashing._hasher = functools.cache(lambda: argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    recorder = Recorder(aws.resources)
    recorder.start()
    config.stash[_recorder] = recorder


def pytest_xdist_auto_num_workers() -> int:
    """The processes of `-n auto`. Whole stacks and deadlines let a processor wait, so there is one more than processors."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A long test that begins last would leave all other processors idle."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of xdist's workers has ended, and sends what it noted."""
    _calls.update(map(tuple, getattr(node, "workeroutput", {}).get(CALLS, [])))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Workers hand their calls over; who has them all keeps them, if everything was run."""
    config = session.config
    if _recorder in config.stash:
        _calls.update(config.stash[_recorder].calls)
    if hasattr(config, "workeroutput"):
        config.workeroutput[CALLS] = sorted(_calls)
    elif _is_whole(config) and config.cache:
        config.cache.set(CALLS, sorted(_calls))


def _is_whole(config: pytest.Config) -> bool:
    narrowed = any(
        config.getoption(option, None) for option in ("keyword", "markexpr", "deselect", "ignore", "lf", "collectonly")
    )
    return config.args_source == pytest.Config.ArgsSource.TESTPATHS and not narrowed


def pytest_unconfigure() -> None:
    _running.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test fails if the product changed a chat without a mark meanwhile: tests/changes_rule.py."""
    yield
    if "aideer.data.changes" in sys.modules:  # not in tests/e2e
        from tests import changes_rule

        if broken := changes_rule.take_broken():
            pytest.fail(broken[0], pytrace=False)


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
def weixin() -> Iterator[wechat.Server]:
    """The simulated WeChat, with nothing asked of it yet."""
    _wechat.reset()
    yield _wechat
    _wechat.reset()


@pytest.fixture
def used(pytestconfig: pytest.Config) -> "set[Call]":
    """Which function has made which AWS call in this process so far, this test's included: tests/recorder.py."""
    return pytestconfig.stash[_recorder].calls


@pytest.fixture
def use_prices(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Lets the rest of the test bill by another table: `use_prices(prices.change_model("qwen-plus", search=None))`."""

    def use(table: dict[str, Any]) -> None:
        folder = tmp_path / "prices"
        folder.mkdir(exist_ok=True)
        (folder / f"{table['region']}.json").write_text(json.dumps(table), encoding="utf-8")
        prices.bill_by(folder)

    yield use
    prices.bill_by(prices.FOLDER)


@pytest.fixture
def counted() -> Iterator[list[str]]:
    """The DynamoDB, SQS and Secrets Manager calls made while the test runs, by name, as botocore sends them."""
    from tests.support import recorded_calls

    with recorded_calls() as calls:
        yield calls
