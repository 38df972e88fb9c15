"""The ASGI app's own routes, which the web adapter calls."""

import contextlib

import httpx

from aideer.web import asgi
from tests.support import in_loop


def ask(method: str, path: str) -> httpx.Response:
    """The answer of an app without any other route."""
    app = asgi.make_application([], lambda _: contextlib.nullcontext())

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
            return await client.request(method, path, content=b'{"source": "aws.events"}')

    return in_loop(send())


def test_an_event_that_is_no_request_gets_an_empty_204() -> None:
    answer = ask("POST", "/events")
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_app_is_ready_as_soon_as_it_answers() -> None:
    assert ask("GET", "/ready").status_code == 200


def test_only_the_adapter_s_methods_have_routes() -> None:
    for method, path in (("GET", "/events"), ("POST", "/ready"), ("PUT", "/events")):
        answer = ask(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
