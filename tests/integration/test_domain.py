"""Requests that come through the domain, and those that pass it by, on both doors."""

import json
from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from aideer.core import settings, warmth
from aideer.security import auth, rate_limits
from aideer.security.limits import Limit
from aideer.web import origin
from tasks import stream
from tests.stream_client import streamed, waited
from tests.support import Answer, Api, Person, accepted, in_loop, make_chat

MakePerson = Callable[..., Person]

SECRET, PREVIOUS = "s" * 48, "p" * 48


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment with a domain, and without a firewall."""
    monkeypatch.setattr(settings, "ORIGIN_SECRETS", (SECRET, PREVIOUS))


@pytest.fixture
def firewall(domain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment with a firewall before its domain."""
    monkeypatch.setattr(settings, "DOMAIN_REQUIRED", True)


def through(address: str = "198.51.100.7", secret: str = SECRET) -> dict[str, str]:
    """The headers that CloudFront adds."""
    return {origin.SECRET_HEADER: secret, origin.ADDRESS_HEADER: address}


def wrong_password(api: Api, seen: str, **headers: str) -> int:
    form = {"grant_type": "password", "username": uuid4().hex, "password": "wrong"}
    return api("session.create", "POST", "/session/oauth2/token", form=form, headers=headers, address=seen).status


@pytest.fixture
def two_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "sign_in_address", Limit(2, 3600))


def test_behind_the_domain_each_viewer_has_an_address_of_their_own(api: Api, domain: None, two_tries: None) -> None:
    """CloudFront's own addresses are all that the API sees, and are shared by everybody."""
    edge = "203.0.113.200"
    one, other = f"2001:db8:{uuid4().hex[:4]}::1", f"2001:db8:{uuid4().hex[:4]}::1"
    assert [wrong_password(api, edge, **through(one)) for _ in range(3)] == [400, 400, 429]
    assert wrong_password(api, edge, **through(other, PREVIOUS)) == 400


def test_who_passes_the_domain_by_is_counted_by_the_address_that_aws_sees(
    api: Api, domain: None, two_tries: None
) -> None:
    seen = f"2001:db8:{uuid4().hex[:4]}::2"
    tries = [wrong_password(api, seen, **through(f"10.0.0.{n}", "guessed")) for n in range(3)]
    assert tries == [400, 400, 429]


def test_what_is_no_address_is_counted_as_one(api: Api, domain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(rate_limits, "normalize_address", lambda given: counted.append(given) or rate_limits.UNKNOWN)
    wrong_password(api, "203.0.113.1", **through("not an address"))
    assert counted == ["not an address"]


ANYWHERE = [
    ("health.get", "GET", "/health"),
    ("prices.list", "GET", "/prices"),
    ("users.me", "GET", "/users/me"),
    ("session.create", "POST", "/session/oauth2/token"),
    ("health.get", "HEAD", "/health"),
]


@pytest.mark.parametrize(("module", "method", "path"), ANYWHERE)
def test_a_firewall_cannot_be_passed_by(api: Api, firewall: None, module: str, method: str, path: str) -> None:
    for headers in ({}, through(secret="guessed")):
        refused = api(module, method, path, headers=headers)
        assert refused.status == 403
        assert refused.json["code"] == "domain_required"
        assert refused.headers["cache-control"] == "private, no-store"
    assert api(module, method, path, headers=through()).status != 403


def test_neither_door_of_the_stream_lets_anybody_pass(person: MakePerson, firewall: None) -> None:
    me = person()
    task, _ = accepted(me, "hello")
    for kind in ("stream", "poll"):
        path = f"/api/v1/tasks/{task}/{kind}"
        direct = streamed(path, Authorization=f"Bearer {me.token}")
        assert (direct.status_code, direct.json()["code"]) == (403, "domain_required")
        assert direct.headers["x-content-type-options"] == "nosniff"
        behind_the_api = waited(path, task, me.token)
        assert (behind_the_api.status, json.loads(behind_the_api.body)["code"]) == (403, "domain_required")
    answer = streamed(f"/api/v1/tasks/{task}/stream", Authorization=f"Bearer {me.token}", **through())
    assert answer.status_code == 200
    assert answer.text.endswith("event: close\ndata: {}\n\n")


@pytest.mark.parametrize(
    ("method", "path", "constant"), [("GET", "/ready", (200, "ok")), ("POST", "/events", (204, ""))]
)
def test_the_web_adapters_own_paths_answer_a_constant_to_anybody(
    firewall: None, method: str, path: str, constant: tuple[int, str]
) -> None:
    """The second one is where a ping arrives, which is no request."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(stream.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, json=warmth.PING)

    answer = in_loop(ask())
    assert (answer.status_code, answer.text) == constant


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody executes the task here, so waiting for its text would be in vain."""
    monkeypatch.setattr(stream, "WAIT_SECONDS", 0.1)


def ask(api: Api, person: MakePerson) -> Answer:
    me = person()
    return api("tasks.create", "POST", "/tasks", json={"chat_id": make_chat(me, "hello").id}, user=me)


def test_streams_are_handed_out_where_the_deployment_says(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "STREAM_BASE_URL", "https://chat.example.com")
    body = ask(api, person).json
    start = f"https://chat.example.com/api/v1/tasks/{body['task_id']}/stream?ticket="
    assert body["stream_url"].startswith(start)
    assert body["resume_url"] == f"{body['stream_url']}&after=0"


@pytest.mark.parametrize(("path", "told"), [("stream", "https://chat.example.com"), ("poll", None)])
def test_a_sign_in_names_the_host_of_streams_only_where_something_streams(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, path: str, told: str | None
) -> None:
    monkeypatch.setattr(settings, "STREAM_BASE_URL", "https://chat.example.com")
    monkeypatch.setattr(settings, "STREAM_PATH", path)
    assert auth.issue_pair(person().user, "password")["stream_base"] == told


@pytest.mark.usefixtures("quick")
def test_where_nothing_streams_the_polling_door_is_handed_out_on_the_host_that_was_called(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "STREAM_BASE_URL", "")
    monkeypatch.setattr(settings, "STREAM_PATH", "poll")
    body = ask(api, person).json
    assert body["stream_url"].startswith(f"https://api.test/api/v1/tasks/{body['task_id']}/poll?ticket=")
    path, _, ticket = body["stream_url"].removeprefix("https://api.test").partition("?")
    answer = waited(f"{path}?{ticket}", body["task_id"])
    assert answer.status == 200
    assert "event: start" in answer.body
