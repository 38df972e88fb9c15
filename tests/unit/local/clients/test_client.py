"""The client of `make chat`, `make demo` and `make bench`: streams that break, answers that are lost, refusals in words."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from rich.console import Console

from local.clients import chat, client
from local.clients.client import Client, End, LostError, NoStackError, Piece, RefusedError, Start
from tests.pauses import clock_with

TEXT = "你好\u2028👩‍🚀 café"
END = {
    "status": "finished",
    "content": TEXT,
    "reasoning": "",
    "finish_reason": "stop",
    "usage": {"input_tokens": 5, "output_tokens": 7, "reasoning_tokens": 0},
    "credits": 2,
    "error": None,
}

START = {
    "task_id": "t",
    "chat_id": "c",
    "position": 0,
    "credits_held": 40,
    "resume_url": "http://stream.test/api/v1/tasks/t/stream?ticket=x&after=0",
}
QUESTION = {"chat_id": "c", "messages": [{"role": "user", "content": "Who are you?"}]}
BUSY = {"detail": "Busy.", "code": "busy"}
TOO_MANY = {"detail": "You may ask for 20 answers a minute.", "code": "too_many_answers"}
TOKENS = {"access_token": "first", "stream_base": "http://stream.test"}

Answer = httpx.Response | Exception


class Broken(httpx.SyncByteStream):
    """A body of which a part comes, and then a broken connection."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        raise httpx.ReadError("broken")


class Server:
    """Answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = iter(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def positions(self) -> list[str | None]:
        return [request.headers.get("Last-Event-ID") for request in self.requests]


def event(position: str, body: dict[str, Any]) -> bytes:
    return f"id: {position}\ndata: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def stream(start: int, end: int, *, ends: bool) -> bytes:
    text = b"".join(event(str(n + 1), {"status": "running", "content": TEXT[n]}) for n in range(start, end))
    opened = f"event: start\nid: {start}\ndata: {{}}\n\n: silence\n\n".encode()
    return opened + text + (event("end", END) + b"event: close\ndata: {}\n\n" if ends else b"")


def streamed(*parts: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=httpx.ByteStream(b"".join(parts)))


def broken(*parts: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Broken(*parts))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(client, "QUESTION_PAUSES", (0.001,) * 5)


@pytest.fixture
def connected() -> Iterator[Callable[[Server], Client]]:
    clients: list[Client] = []

    def connect(server: Server) -> Client:
        clients.append(Client("http://aideer.test", httpx.MockTransport(server)))
        return clients[-1]

    yield connect
    for opened in clients:
        opened.__exit__(None, None, None)


def followed(found: Client) -> tuple[str, End]:
    *pieces, end = found.follow("http://aideer.test/stream")
    assert isinstance(end, End)
    return "".join(piece.text for piece in pieces if isinstance(piece, Piece)), end


def test_a_stream_that_breaks_goes_on_where_it_broke(connected: Callable[[Server], Client]) -> None:
    server = Server(
        broken(stream(0, 3, ends=False)),
        httpx.ConnectError("restarting"),
        httpx.Response(503, json={"message": "Service Unavailable"}),
        broken(stream(3, 5, ends=False), b"id: 6\nda"),
        streamed(stream(5, len(TEXT), ends=True)),
    )
    text, end = followed(connected(server))
    assert text == end.content == TEXT
    assert (end.credits, end.input_tokens, end.output_tokens) == (2, 5, 7)
    assert server.positions == [None, "3", "3", "3", "5"]


def test_a_stream_that_broke_before_its_first_event_is_opened_again_from_its_start(
    connected: Callable[[Server], Client],
) -> None:
    server = Server(broken(), streamed(stream(0, len(TEXT), ends=True)))
    assert followed(connected(server))[0] == TEXT
    assert server.positions == [None, "0"]


def test_text_is_whole_wherever_the_network_cuts_it(connected: Callable[[Server], Client]) -> None:
    whole = stream(0, len(TEXT), ends=True)
    cuts = range(1, len(whole))
    headers = {"Content-Type": "text/event-stream"}
    found = connected(
        Server(*(httpx.Response(200, headers=headers, content=iter([whole[:n], whole[n:]])) for n in cuts))
    )
    for _ in cuts:
        assert followed(found)[0] == TEXT


def test_a_stream_that_cannot_be_opened_again_is_lost(
    connected: Callable[[Server], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 0.05)
    refused = [httpx.ConnectError("gone") for _ in range(100)]
    with pytest.raises(LostError):
        followed(connected(Server(broken(stream(0, 2, ends=False)), *refused)))


def test_a_stream_that_is_refused_says_why(connected: Callable[[Server], Client]) -> None:
    server = Server(httpx.Response(422, json={"detail": "This was streamed before.", "code": "already_streamed"}))
    with pytest.raises(RefusedError, match=r"This was streamed before\.") as refused:
        followed(connected(server))
    assert (refused.value.status, refused.value.code) == (422, "already_streamed")


def begun(start: int = 0, end: int = 0, *, ends: bool = False) -> bytes:
    """The bytes of an asked stream, from its start event on."""
    return f"event: start\nid: 0\ndata: {json.dumps(START)}\n\n".encode() + stream(start, end, ends=ends)


def asked(found: Client) -> tuple[str, Start, End]:
    """Ask, and return the whole text, the one start, and the end."""
    start, *pieces, end = found.ask(QUESTION, "k")
    assert isinstance(start, Start)
    assert isinstance(end, End)
    assert all(isinstance(piece, Piece) for piece in pieces)
    return "".join(piece.text for piece in pieces if isinstance(piece, Piece)), start, end


def test_a_question_and_its_answer_are_one_request(connected: Callable[[Server], Client]) -> None:
    server = Server(httpx.Response(200, json=TOKENS), streamed(begun(0, len(TEXT), ends=True)))
    found = connected(server)
    found.sign_in("alice", "secret")
    text, start, end = asked(found)
    assert text == end.content == TEXT
    assert (start.task_id, start.chat_id, start.credits_held) == ("t", "c", 40)
    request = server.requests[1]
    assert (request.method, str(request.url)) == ("POST", "http://stream.test/api/v1/tasks/stream")
    assert (request.headers["Authorization"], request.headers["Idempotency-Key"]) == ("Bearer first", "k")
    assert json.loads(request.content) == QUESTION


@pytest.mark.parametrize("base", [{}, {"stream_base": None}])
def test_without_a_host_for_streams_a_question_goes_to_the_api(
    connected: Callable[[Server], Client], base: dict[str, Any]
) -> None:
    tokens = httpx.Response(200, json={"access_token": "first", **base})
    server = Server(tokens, streamed(begun(0, len(TEXT), ends=True)))
    found = connected(server)
    found.sign_in("alice", "secret")
    asked(found)
    assert server.requests[1].url.host == "aideer.test"


def test_where_nothing_streams_a_question_is_queued_and_its_answer_is_polled(
    connected: Callable[[Server], Client],
) -> None:
    accepted = START | {"stream_url": "http://aideer.test/api/v1/tasks/t/poll?ticket=x"}
    server = Server(
        httpx.Response(200, json={"access_token": "first", "stream_base": None}),
        httpx.Response(404, json={"detail": "There is no such thing.", "code": "not_found"}),
        httpx.Response(200, json=accepted),
        streamed(stream(0, 3, ends=False)),
        streamed(stream(3, len(TEXT), ends=True)),
    )
    found = connected(server)
    found.sign_in("alice", "secret")
    text, start, end = asked(found)
    assert text == end.content == TEXT
    assert start.task_id == "t"
    queued = server.requests[2]
    assert (queued.url.path, queued.headers["Idempotency-Key"]) == ("/api/v1/tasks", "k")
    assert json.loads(queued.content) == QUESTION
    assert server.positions[3:] == [None, "3"]


def test_a_question_that_is_lost_before_its_start_is_sent_again_with_its_key(
    connected: Callable[[Server], Client],
) -> None:
    server = Server(
        httpx.ConnectError("restarting"),
        httpx.ReadTimeout("lost"),
        httpx.Response(503, json=BUSY),
        broken(),
        streamed(begun(0, len(TEXT), ends=True)),
    )
    assert asked(connected(server))[0] == TEXT
    assert {request.headers["Idempotency-Key"] for request in server.requests} == {"k"}
    assert [request.method for request in server.requests] == ["POST"] * 5
    assert len({request.content for request in server.requests}) == 1


def test_an_answer_that_is_lost_in_the_middle_goes_on_at_its_position(connected: Callable[[Server], Client]) -> None:
    server = Server(broken(begun(0, 3)), broken(stream(3, 5, ends=False)), streamed(stream(5, len(TEXT), ends=True)))
    assert asked(connected(server))[0] == TEXT
    assert [request.method for request in server.requests] == ["POST", "GET", "GET"]
    assert [str(request.url) for request in server.requests[1:]] == [START["resume_url"]] * 2
    assert server.positions == [None, "3", "5"]


def test_an_answer_that_is_lost_after_its_start_is_followed_from_its_first_character(
    connected: Callable[[Server], Client],
) -> None:
    server = Server(broken(begun()), streamed(stream(0, len(TEXT), ends=True)))
    assert asked(connected(server))[0] == TEXT
    assert server.positions == [None, "0"]


@pytest.mark.parametrize(
    ("status", "body"), [(402, {"detail": "No.", "code": "insufficient_credits"}), (409, {}), (429, TOO_MANY)]
)
def test_a_refused_question_is_sent_once_and_says_why(
    connected: Callable[[Server], Client], status: int, body: dict[str, Any]
) -> None:
    server = Server(httpx.Response(status, json=body, headers={"Retry-After": "30"}))
    with pytest.raises(RefusedError) as refused:
        asked(connected(server))
    assert (refused.value.status, refused.value.code) == (status, body.get("code", ""))
    assert len(server.requests) == 1


def test_a_repeated_question_waits_as_long_as_a_limit_asks(
    connected: Callable[[Server], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(client, "time", clock_with(pauses.append))
    later = httpx.Response(429, json=TOO_MANY, headers={"Retry-After": "7"})
    server = Server(httpx.ReadTimeout("lost"), later, streamed(begun(0, len(TEXT), ends=True)))
    assert asked(connected(server))[0] == TEXT
    assert pauses == [0.0, 0.001, 7.0]


def test_a_followed_answer_waits_as_long_as_a_limit_asks(
    connected: Callable[[Server], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(client, "time", clock_with(pauses.append))
    later = httpx.Response(429, json=TOO_MANY, headers={"Retry-After": "2"})
    server = Server(broken(begun(0, 3)), later, streamed(stream(3, len(TEXT), ends=True)))
    assert asked(connected(server))[0] == TEXT
    assert 2.0 in pauses


def test_a_question_is_sent_a_few_times_only(connected: Callable[[Server], Client]) -> None:
    server = Server(*(httpx.ConnectError("gone") for _ in range(9)))
    with pytest.raises(NoStackError, match="make run"):
        asked(connected(server))
    assert len(server.requests) == 6
    server = Server(*(httpx.Response(503, json=BUSY) for _ in range(9)))
    with pytest.raises(RefusedError, match="Busy"):
        asked(connected(server))
    assert len(server.requests) == 6


def test_a_question_signs_in_again_for_an_expired_token(connected: Callable[[Server], Client]) -> None:
    server = Server(
        httpx.Response(200, json=TOKENS),
        httpx.Response(401, json={"detail": "Sign in again.", "code": "token_expired"}),
        httpx.Response(200, json=TOKENS | {"access_token": "second"}),
        streamed(begun(0, len(TEXT), ends=True)),
    )
    found = connected(server)
    found.sign_in("alice", "secret")
    assert asked(found)[0] == TEXT
    assert [request.headers["Authorization"] for request in server.requests[1::2]] == ["Bearer first", "Bearer second"]


def test_a_call_with_a_key_is_repeated_with_that_key_when_its_answer_is_lost(
    connected: Callable[[Server], Client],
) -> None:
    server = Server(httpx.ReadTimeout("lost"), httpx.Response(200, json={"task_id": "t"}))
    assert connected(server).call("POST", "/tasks", {"chat_id": "c"}, key="k") == {"task_id": "t"}
    assert [request.headers["Idempotency-Key"] for request in server.requests] == ["k", "k"]


def test_a_call_without_a_key_is_not_repeated(connected: Callable[[Server], Client]) -> None:
    server = Server(httpx.ReadTimeout("lost"))
    with pytest.raises(NoStackError, match="make run"):
        connected(server).call("POST", "/tasks", {"chat_id": "c"})
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(401, "token_expired"), (403, "fresh_sign_in_required")])
def test_a_token_that_is_too_old_is_replaced(connected: Callable[[Server], Client], status: int, code: str) -> None:
    tokens = [httpx.Response(200, json={"access_token": name}) for name in ("first", "second")]
    old = httpx.Response(status, json={"detail": "Sign in again.", "code": code})
    server = Server(tokens[0], old, tokens[1], httpx.Response(200, json={"id": "u"}))
    found = connected(server)
    found.sign_in("alice", "secret")
    assert found.call("GET", "/users/me") == {"id": "u"}
    assert [request.headers.get("Authorization") for request in server.requests[1::2]] == [
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, text="<html>"), httpx.Response(404, json=[]), httpx.Response(200, json={"status": "ok"})],
)
def test_what_is_no_aideer_is_told_apart(answer: httpx.Response, connected: Callable[[Server], Client]) -> None:
    with pytest.raises(NoStackError, match="no AIDeer"):
        connected(Server(answer)).check()


def test_what_is_no_url_is_said() -> None:
    with pytest.raises(NoStackError, match="no URL"):
        Client("http://127.0.0.1:port")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (409, {"detail": "Taken.", "code": "task_running"}, "Another answer is being made"),
        (
            402,
            {"detail": "No.", "code": "insufficient_credits", "credits_left": 3, "credits_needed": 1200},
            "3 left.*1,200",
        ),
        (
            422,
            {"detail": [{"loc": ["body", "title"], "msg": "Too long"}], "code": "validation_error"},
            "body.title: Too long",
        ),
        (503, {"message": "Service Unavailable"}, r"Service Unavailable \(503\)"),
        (500, {}, r"no reason given \(500\)"),
    ],
)
def test_a_refusal_is_one_line(status: int, body: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        raise RefusedError(0, {"detail": chat.explain(RefusedError(status, body))})


def shown(*pieces: tuple[str, str], end: dict[str, Any]) -> str:
    output = io.StringIO()
    screen = chat.Screen(Console(file=output, width=20))
    for kind, text in pieces:
        screen.write(kind, text)
    screen.complete(End.of({**END, **end}))
    return output.getvalue()


def test_an_answer_is_shown_once_and_whole() -> None:
    long = "一二三四五六七八九十" * 5 + "[red]\t👩‍🚀"
    assert shown(("content", long[:7]), ("content", long[7:30]), end={"content": long}) == long + "\n"


def test_reasoning_stands_before_the_answer() -> None:
    pieces = [("reasoning", "hm"), ("reasoning", "m"), ("content", "yes")]
    assert shown(*pieces, end={"reasoning": "hmm", "content": "yes"}) == "hmm\n\nyes\n"


def test_what_was_lost_stays_on_the_screen() -> None:
    assert shown(("content", "all that came"), end={"status": "failed", "content": "all that"}) == "all that came\n"


def test_a_model_cannot_command_the_terminal() -> None:
    assert shown(("content", "a\x1b[2Jb\rc\x9bd\n"), end={"content": "a\x1b[2Jb\rc\x9bd\n"}) == "a[2Jbcd\n\n"


def test_ctrl_c_before_the_start_stops_the_task_of_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[tuple[str, dict[str, Any]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tasks/stream"):
            raise KeyboardInterrupt
        if request.url.path.endswith("/stop"):
            return httpx.Response(200, json={**END, "status": "stopped", "finish_reason": "stopped"})
        if request.url.path.endswith("/users/me"):
            return httpx.Response(200, json={"credits_left": 9})
        tasks.append((request.headers["Idempotency-Key"], json.loads(request.content)))
        return httpx.Response(200, json={"task_id": "t", "chat_id": "c"})

    monkeypatch.setattr("sys.stdin", io.StringIO("Who are you?\nAnd you?\n"))
    output = io.StringIO()
    with Client("http://aideer.test", httpx.MockTransport(answer)) as found:
        chat.Conversation(found, Console(file=output, width=80), "p", None).run()
    (key, first), (other, second) = tasks
    assert key != other
    assert first == {"messages": [{"role": "user", "content": "Who are you?"}], "chat": {"preset_id": "p"}}
    assert second == {"messages": [{"role": "user", "content": "And you?"}], "chat_id": "c"}
    assert output.getvalue().count("stopped · 2 credits") == 2
