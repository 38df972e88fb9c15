"""Who may reach the local stack, from which pages, what the console says first, and the line for each request."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from local.stack import welcome
from local.stack.middleware import Guard, RequestLog, loopback_hosts
from local.stack.server import guarded
from local.stack.settings import DEFAULT_ADMIN, Settings

PAGE = "https://app.example"


async def secret(_: Request) -> PlainTextResponse:
    return PlainTextResponse("a secret")


def inner() -> Any:
    """An app whose own CORS lets everybody in, as the template's does by default."""
    return CORSMiddleware(
        Starlette(routes=[Route("/api/v1/users/me", secret, methods=["GET", "POST"])]),
        allow_origins=["*"],
        allow_methods=["GET", "PUT"],
        allow_headers=["Authorization"],
        expose_headers=["ETag"],
    )


def client(**variables: str) -> httpx.AsyncClient:
    app = guarded(inner(), Settings.read(variables))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000")


def cors(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "Authorization"}


@pytest.mark.parametrize(
    "origin", [PAGE, "http://evil.example", "null", "http://127.0.0.1:9999", "http://127.0.0.1.evil.example"]
)
async def test_a_page_from_elsewhere_reads_nothing(origin: str) -> None:
    async with client() as http:
        for answer in (
            await http.get("/api/v1/users/me", headers={"Origin": origin}),
            await http.get("/", headers={"Origin": origin}),
            await http.options("/api/v1/users/me", headers={"Origin": origin, **PREFLIGHT}),
        ):
            assert cors(answer) == {}


async def test_a_listed_page_reads_what_the_api_lets_it_and_its_neighbour_does_not() -> None:
    async with client(ALLOWED_ORIGINS=f"http://localhost:5173, {PAGE}/") as http:
        answer = await http.get("/api/v1/users/me", headers={"Origin": PAGE})
        assert cors(answer) == {"access-control-allow-origin": PAGE, "access-control-expose-headers": "ETag"}
        assert "Origin" in answer.headers["vary"]
        preflight = cors(
            await http.options("/api/v1/users/me", headers={"Origin": "http://localhost:5173", **PREFLIGHT})
        )
        assert preflight["access-control-allow-origin"] == "http://localhost:5173"
        assert "PUT" in preflight["access-control-allow-methods"]
        for near in (f"{PAGE}:8443", "http://app.example", f"{PAGE}.evil", "https://evil-app.example"):
            assert cors(await http.get("/api/v1/users/me", headers={"Origin": near})) == {}


async def test_all_pages_may_be_let_in_by_name() -> None:
    async with client(ALLOWED_ORIGINS="*") as http:
        assert cors(await http.get("/api/v1/users/me", headers={"Origin": PAGE}))["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
async def test_this_machine_is_let_in_by_its_own_names(host: str) -> None:
    async with client() as http:
        assert (await http.get("/api/v1/users/me", headers={"Host": host})).text == "a secret"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:8000.evil.example",
        "localhost.evil:8000",
        "",
    ],
)
async def test_a_foreign_name_reaches_nothing(host: str) -> None:
    async with client() as http:
        for path in ("/", "/api/v1/users/me"):
            answer = await http.get(path, headers={"Host": host})
            assert answer.status_code == 403
            assert "ALLOWED_HOSTS" in answer.json()["message"]


async def test_a_page_of_the_stack_itself_needs_no_cors_and_one_under_its_other_name_does() -> None:
    async with client() as http:
        own = await http.get("/api/v1/users/me", headers={"Origin": "http://127.0.0.1:8000"})
        other = await http.get("/api/v1/users/me", headers={"Origin": "http://localhost:8000"})
    assert (own.text, cors(own)) == ("a secret", {})
    assert cors(other)["access-control-allow-origin"] == "http://localhost:8000"


async def test_a_listed_name_reaches_the_stack_with_its_port_or_with_any() -> None:
    async with client(ALLOWED_HOSTS="app.example, tunnel.example:444") as http:
        status = {
            host: (await http.get("/api/v1/users/me", headers={"Host": host})).status_code
            for host in ("app.example", "app.example:1234", "tunnel.example:444", "tunnel.example", "sub.app.example")
        }
    assert list(status.values()) == [200, 200, 200, 403, 403]


@given(st.text(st.characters(codec="latin-1", blacklist_characters="\r\n\0"), max_size=40))
def test_no_other_name_is_ever_let_in(host: str) -> None:
    guard = Guard(inner(), loopback_hosts(8000))
    assert guard._knows(host.lower()) == (host.lower() in {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"})


# The first words on the console


def test_the_first_line_says_what_to_open_and_its_commands_reach_this_stack() -> None:
    settings = Settings.read({"PORT": "8431", "STATE_DIR": "/tmp/a b"})
    shown = welcome.text(settings, "")
    assert shown.splitlines()[0] == "Open http://127.0.0.1:8431"
    assert "PORT=8431 STATE_DIR='/tmp/a b' make chat" in shown
    assert " / ".join(DEFAULT_ADMIN) in shown


def test_the_first_words_tell_no_secret() -> None:
    variables = {"ADMIN_USERNAME": "ann", "ADMIN_PASSWORD": "geheim-1", "DASHSCOPE_API_KEY": "sk-geheim"}
    shown = welcome.text(Settings.read(variables), "")
    assert "geheim" not in shown
    assert "(ADMIN_PASSWORD)" in shown


# The line for each request


def logged(app: Any) -> tuple[httpx.AsyncClient, list[str]]:
    lines: list[str] = []
    transport = httpx.ASGITransport(RequestLog(app, lines.append), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000"), lines


async def test_each_request_is_a_line_without_its_query_and_headers() -> None:
    http, lines = logged(inner())
    async with http:
        await http.get("/api/v1/users/me?ticket=geheim", headers={"Authorization": "Bearer geheim"})
        await http.post("/nothing?code=geheim")
    assert [re.sub(r"\d+ ms$", "N ms", line) for line in lines] == [
        "GET /api/v1/users/me 200 N ms",
        "POST /nothing 404 N ms",
    ]


async def test_a_stream_is_one_line_when_it_is_over() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"a", b"b"):
            assert lines == []
            yield part

    http, lines = logged(StreamingResponse(parts()))
    async with http:
        assert (await http.get("/stream")).content == b"ab"
    assert len(lines) == 1
    assert lines[0].startswith("GET /stream 200 ")


async def test_a_request_without_an_answer_is_a_line_too() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("geheim")

    http, lines = logged(broken)
    async with http:
        await http.get("/x")
    assert lines[0].startswith("GET /x left ")


@given(st.binary(max_size=300))
async def test_no_path_makes_a_second_line_or_commands_a_terminal(path: bytes) -> None:
    lines: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    await RequestLog(app, lines.append)({"type": "http", "method": "GET", "raw_path": path}, None, None)
    assert re.fullmatch(r"GET [!-~]* left \d+ ms", lines[0])
    assert len(lines[0]) < 300
