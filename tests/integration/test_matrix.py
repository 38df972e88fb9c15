"""Every route of the template, called as each kind of caller: tests/route_matrix.py says what each is answered.

An answer must also be one that the document describes, and the function's policies must allow its AWS calls.
"""

import functools

import pytest

from aideer.security import password_hashing
from local.simulators import wechat
from tests import policies
from tests.conformance import check_answer, operation
from tests.recorder import Call
from tests.request_samples import ROUTES, SENT, STREAM, World, called, sent
from tests.route_matrix import FOREIGN, PEOPLE, STREAMED, row
from tests.stream_client import streamed
from tests.support import Api, recorded_calls

NEVER_READ = set(FOREIGN) - {"signed out"}
"""These tokens are refused by what they say themselves."""
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem", "SendMessage"}
FUNCTIONS = {
    (event.properties["Method"].upper(), event.properties["Path"]): function.name
    for function in policies.TEMPLATE.functions.values()
    for event in function.events
    if event.type == "HttpApi"
} | dict.fromkeys(
    STREAMED, next(function.name for function in policies.TEMPLATE.functions.values() if not function.runs_here)
)
"""Each route's function."""
CELLS = [(*route, caller) for route in ROUTES for caller in (*FOREIGN, *PEOPLE)]


_hashed = functools.cache(password_hashing.hash_password)


@pytest.fixture(autouse=True)
def _one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody has the same password: to hash it for each would take longer than all else."""
    monkeypatch.setattr(password_hashing, "hash_password", _hashed)


def check_headers(headers: dict[str, str], body: str) -> None:
    """Whether an answer's type is final, and nothing keeps what is private or holds a token."""
    assert headers["x-content-type-options"] == "nosniff"
    kept = headers["cache-control"]
    assert "no-store" in kept or "etag" in headers or kept.startswith(("public", "no-cache, no-transform"))
    assert "no-store" in kept or not body.startswith('{"access_token"')


def check_code(method: str, path: str, status: int, code: str | None) -> None:
    """Whether the document names the code of a refusal, at its status."""
    if code is not None:
        assert f"`{code}`" in operation(method, path)["responses"][str(status)]["description"]


@pytest.mark.parametrize(("method", "path", "caller"), CELLS, ids=lambda part: part)
def test_each_caller_is_answered_as_the_contract_says(
    api: Api, weixin: wechat.Server, used: set[Call], method: str, path: str, caller: str
) -> None:
    call = row(method, path)
    expected = call.cells[caller]
    world = World(caller, call.who, weixin)
    token = world.token()
    request = sent(world, ROUTES[method, path], path)
    with recorded_calls() as calls:
        answer = called(api, method, path, request, token)
    assert answer.status == expected, answer.body
    policies.check_missing(FUNCTIONS[method, path], used)
    check_answer(method, path, answer.status, answer.headers, answer.body)
    check_headers(answer.headers, answer.body)
    check_code(method, path, answer.status, answer.json.get("code") if answer.status >= 400 else None)
    if answer.status == 401:
        assert answer.headers["www-authenticate"] == (
            "Bearer" if caller == "nothing" else 'Bearer error="invalid_token"'
        )
    if caller in NEVER_READ and expected in (400, 401):
        assert not {call.split()[0] for call in calls} & WRITES, calls


@pytest.mark.parametrize("caller", [*FOREIGN, *PEOPLE])
def test_the_streaming_door_answers_as_the_other_one_does(weixin: wechat.Server, caller: str) -> None:
    expected = row(*STREAM).cells[caller]
    world = World(caller, "access", weixin)
    token = world.token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = streamed(STREAM[1].format(id=world.task.id), **headers)
    assert answer.status_code == expected, answer.text
    headers = {k.lower(): v for k, v in answer.headers.items()}
    check_answer(*STREAM, answer.status_code, headers, answer.text)
    check_headers(headers, answer.text)


def test_what_is_sent_is_sent_to_routes_that_there_are() -> None:
    assert set(SENT) <= set(ROUTES.values())
