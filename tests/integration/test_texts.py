"""The texts of refusals and failures in both languages, at real endpoints."""

import contextlib
import importlib
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from aideer.core import clock, errors, settings, texts
from aideer.data.models import Task
from aideer.security import limits
from aideer.security.limits import Limit
from aideer.tasks import attached, control
from aideer.web import asgi, bodies, validation
from local.simulators import wechat
from tasks import stream
from tests.request_samples import POLL, ROUTES, STREAM, World, called, sent
from tests.route_matrix import STREAMED, row
from tests.stream_client import asked, streamed, waited
from tests.support import Answer, Api, Context, Person, http_event, in_loop

CHINESE = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}
ENGLISH = {"accept-language": "en-US,en;q=0.9,zh;q=0.5"}
MakePerson = Callable[..., Person]
PLAIN = [route for route in ROUTES if route not in (*STREAMED, STREAM, POLL)]
"""The routes of the resolver. The others are called below."""
REFUSED = [
    (*route, caller)
    for route in PLAIN
    for caller in ("nothing", "stranger", "visitor")
    if row(*route).cells[caller] >= 400
]
STRICT = [
    (method, path)
    for method, path in PLAIN
    if row(method, path).who in ("anyone", "access") and path not in validation.EXTENSIBLE
]
"""Routes that refuse an unknown query parameter after any caller was let in."""
OAUTH = "/session/oauth2/token"


class ReaderApi(Api):
    """Calls endpoints as a client that sends Accept-Language."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __call__(self, *given: Any, **named: Any) -> Answer:
        return super().__call__(*given, **{**named, "headers": {**(named.get("headers") or {}), **self._headers}})


def told(body: Any) -> list[str]:
    """The texts of a refusal."""
    detail = body["detail"]
    return [detail] if isinstance(detail, str) else [error["msg"] for error in detail]


def check_languages(plain: Answer, english: Answer, chinese: Answer) -> None:
    """Whether these are one refusal: without a language, in English, and in Chinese."""
    assert (plain.status, plain.body) == (english.status, english.body), "old clients see no change"
    assert chinese.status == plain.status, chinese.body
    for answer, language in ((plain, "en"), (english, "en"), (chinese, "zh")):
        assert answer.headers["content-language"] == language
        assert "Accept-Language" in answer.headers["vary"]
    for one, other in zip(told(plain.json), told(chinese.json), strict=True):
        assert not re.search("[\u4e00-\u9fff]", one), one
        assert re.search("[\u4e00-\u9fff]", other), other
    assert {**chinese.json, "detail": None} == {**plain.json, "detail": None} or plain.json["detail"] != told(
        plain.json
    )[0]


def in_languages(call: Callable[[Api], Answer]) -> tuple[Answer, Answer, Answer]:
    """The answers of a call that changes nothing: without a language, in English, and in Chinese."""
    answers = call(Api()), call(ReaderApi(ENGLISH)), call(ReaderApi(CHINESE))
    check_languages(*answers)
    return answers


@pytest.mark.parametrize(("method", "path", "caller"), REFUSED, ids=lambda part: part)
def test_each_refusal_of_a_caller_is_chinese_for_chinese_readers(
    weixin: wechat.Server, method: str, path: str, caller: str
) -> None:
    world = World(caller, row(method, path).who, weixin)
    token, request = world.token(), sent(world, ROUTES[method, path], path)
    in_languages(lambda api: called(api, method, path, request, token))


@pytest.mark.parametrize(("method", "path"), STRICT, ids=lambda part: part)
def test_an_unknown_parameter_is_told_in_chinese(weixin: wechat.Server, method: str, path: str) -> None:
    world = World("admin", row(method, path).who, weixin)
    token, request = world.token(), sent(world, ROUTES[method, path], path)
    request.query = "&".join(filter(None, [request.query, "surprise=1"]))
    _, _, chinese = in_languages(lambda api: called(api, method, path, request, token))
    assert chinese.status == (400 if path.endswith(OAUTH) else 422)
    assert told(chinese.json)[0].startswith("没有这个查询参数")


@pytest.mark.parametrize(
    ("body", "english", "chinese"),
    [
        ({}, "Field required", "此项必填。"),
        ({"preset_id": 1, "title": "a"}, "Input should be a valid string", "此处应为文本。"),
        ({"preset_id": "p", "title": ""}, "String should have at least 1 character", "至少需要 1 个字符。"),
        ({"preset_id": "p", "title": "a" * 51}, "String should have at most 50 characters", "最多 50 个字符。"),
        (
            {"preset_id": "p", "title": "a\nb"},
            "Line breaks and control characters are not allowed.",
            "不能包含换行符或控制字符。",
        ),
        (
            {"preset_id": "p", "title": "a", "visibility": "all"},
            "Input should be 'private' or 'shared'",
            "可选的值有：'private'、'shared'。",
        ),
        (
            {"preset_id": "p", "title": "a", "pinned": True},
            "There is no such field. This object has preset_id, title, auto_title, visibility, messages",
            "没有这个字段，可用的字段有：preset_id、title、auto_title、visibility、messages",
        ),
        (
            {"preset_id": "p", "title": "a", "messages": [{"role": "user", "content": "ä" * 60_000}]},
            "A message can have at most 100 KB of UTF-8.",
            "消息过长，单条消息最多 100 KB（按 UTF-8 计）。",
        ),
        ("[]", "The body cannot be read.", "无法读取请求内容，请检查格式。"),
    ],
)
def test_the_errors_of_fields_are_told_in_both_languages(
    person: MakePerson, body: Any, english: str, chinese: str
) -> None:
    me = person()
    sent = (
        {"raw": body.encode(), "headers": {"content-type": "application/json"}}
        if isinstance(body, str)
        else {"json": body}
    )
    plain, _, translated = in_languages(lambda api: api("chats.create", "POST", "/chats", user=me, **sent))
    assert told(plain.json)[0].startswith(english)
    assert told(translated.json)[0].startswith(chinese)
    programs = [[(error["loc"], error["type"]) for error in answer.json["detail"]] for answer in (plain, translated)]
    assert programs[0] == programs[1]


def test_fields_and_messages_never_hold_what_the_client_sent(person: MakePerson) -> None:
    me = person()
    body = {"preset_id": "p", "title": ["geheim"], "geheim": "geheim", "messages": [{"role": "geheim", "content": "a"}]}
    for answer in in_languages(lambda api: api("chats.create", "POST", "/chats", user=me, json=body)):
        assert "geheim" not in answer.body


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (60, "You may stop 1 answers a minute.", "您每分钟最多可以停止 1 个回答。"),
        (3600, "You may stop 1 answers an hour.", "您每小时最多可以停止 1 个回答。"),
        (45, "You may stop 1 answers in 45 seconds.", "您每 45 秒最多可以停止 1 个回答。"),
    ],
)
def test_a_limit_is_told_with_its_numbers(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, seconds: int, english: str, chinese: str
) -> None:
    me = person()
    monkeypatch.setitem(limits.LIMITS, "stop", Limit(1, seconds))
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)  # all in one window
    for _ in range(2):
        Api()("tasks.stop", "POST", "/tasks/none/stop", user=me)
    plain, _, translated = in_languages(lambda api: api("tasks.stop", "POST", "/tasks/none/stop", user=me))
    assert plain.json == {"detail": english, "code": "too_many_stops"}
    assert translated.json == {"detail": chinese, "code": "too_many_stops"}


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": "password", "username": "nobody-at-all", "password": "secret-123"},
        {"grant_type": "password", "username": "nobody-at-all"},
        {"grant_type": "magic"},
        {"grant_type": "refresh_token", "refresh_token": "none"},
    ],
)
def test_the_description_for_oauth2_clients_stays_english_and_ascii(form: dict[str, str]) -> None:
    """RFC 6749, section 5.2, allows ASCII alone."""
    plain, _, chinese = in_languages(lambda api: api("session.create", "POST", OAUTH, form=form))
    assert chinese.json["error_description"].isascii()
    assert chinese.json["error_description"] == plain.json["error_description"]
    assert chinese.json["error"] == plain.json["error"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"module": "chats.list", "method": "GET", "path": "/nowhere"}, 404),
        ({"module": "chats.list", "method": "PATCH", "path": "/chats"}, 404),
        ({"module": "users.create", "method": "POST", "path": "/users", "raw": b"a" * (bodies.SIZE + 1)}, 413),
        (
            {
                "module": "users.create",
                "method": "POST",
                "path": "/users",
                "raw": b"a",
                "headers": {"content-type": "text/csv"},
            },
            415,
        ),
    ],
    ids=lambda part: str(part)[:60],
)
def test_refusals_of_the_framework_have_both_languages(request_: dict[str, Any], status: int) -> None:
    answer, _, _ = in_languages(
        lambda api: api(
            request_["module"],
            request_["method"],
            request_["path"],
            **{name: value for name, value in request_.items() if name not in ("module", "method", "path")},
        )
    )
    assert answer.status == status


def test_a_bug_and_a_call_beside_the_domain_are_told_in_chinese(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()

    with monkeypatch.context() as patched:
        patched.setattr("chats.list.chat_lists", None)
        plain, _, chinese = in_languages(lambda api: api("chats.list", "GET", "/chats", user=me))
        assert plain.json == {"detail": "The service had an internal error.", "code": "internal"}
        assert chinese.json["detail"] == "服务出现内部错误，请稍后再试。"
    monkeypatch.setattr(settings, "DOMAIN_REQUIRED", True)
    _, _, chinese = in_languages(lambda api: api("chats.list", "GET", "/chats", user=me))
    assert chinese.json == {"detail": "请通过指定的域名访问此接口。", "code": "domain_required"}


def test_the_sam_clis_names_of_headers_are_read_too() -> None:
    event = http_event("GET", "/users/me")
    event["headers"] = {name.title(): value for name, value in {**event["headers"], **CHINESE}.items()}
    answer = importlib.import_module("users.me").handler(event, Context())
    assert json.loads(answer["body"]) == {"detail": "请先登录。", "code": "unauthorized"}


def test_head_has_the_headers_of_the_refusal() -> None:
    for headers, language in ((CHINESE, "zh"), (ENGLISH, "en")):
        answer = ReaderApi(headers)("docs.openapi", "HEAD", "/nowhere")
        assert (answer.status, answer.body, answer.headers["content-language"]) == (404, "", language)


def test_the_language_of_one_request_does_not_stay_for_the_next(person: MakePerson) -> None:
    me = person()
    for _ in range(2):
        in_languages(lambda api: api("chats.get", "GET", "/chats/none", user=me))
    assert Api()("chats.get", "GET", "/chats/none", user=me).json["detail"] == "There is no such chat."


# Failed tasks


def failed(me: Person, code: str) -> Task:
    """A task that failed, as it is stored: with its code alone."""
    world = World("owner", "access", None)  # type: ignore[arg-type]
    world.owner = me  # type: ignore[misc]
    task = world.task
    task.update([Task.status.set("failed"), Task.error_code.set(code), Task.usage.remove(), Task.credits.remove()])
    return task


@pytest.mark.parametrize("code", control.ERRORS)
def test_a_failure_is_stored_as_its_code_and_told_in_the_language_of_each_reader(person: MakePerson, code: str) -> None:
    me = person()
    task = failed(me, code)
    seen = []
    for headers in (CHINESE, {}, ENGLISH, CHINESE):
        body = ReaderApi(headers)("tasks.get", "GET", f"/tasks/{task.id}", user=me).json
        assert body["error"]["code"] == code
        seen.append(body["error"]["message"])
    assert seen[1] == seen[2] == control.ERRORS[code]
    assert seen[0] == seen[3] != seen[1]
    assert re.search("[\u4e00-\u9fff]", seen[0])


def final(body: str) -> Any:
    """The data of a stream's last event."""
    [data] = re.findall("id: end\ndata: (.*)\n", body)
    return json.loads(data)


def test_streams_and_polls_tell_a_failure_in_the_language_of_their_viewer(person: MakePerson) -> None:
    me = person()
    task = failed(me, "throttled")
    path = f"/api/v1/tasks/{task.id}/stream"
    messages = {"zh": "模型请求过多，请一分钟后再试。", "en": control.ERRORS["throttled"]}
    for headers, language in ((CHINESE, "zh"), ({}, "en"), (ENGLISH, "en")):
        live = streamed(path, authorization=f"Bearer {me.token}", **{"last-event-id": "0"}, **headers)
        assert live.headers["vary"] == "Accept-Language"
        polled = waited(path, task.id, me.token, **{"last-event-id": "0"}, **headers)
        for body in (live.text, polled.body):
            assert final(body)["error"] == {"code": "throttled", "message": messages[language]}


# The ASGI side


def answered(answer: httpx.Response) -> Answer:
    return Answer(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.text)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({}, {}, 401),
        ({}, {"token": "garbage"}, 401),
        ({"chat_id": "none"}, {"key": ""}, 400),
        ({"chat_id": "none", "messages": [{"role": "user", "content": "a"}]}, {}, 404),
        ({"chat_id": 1, "nothing": 2}, {}, 422),
        ({}, {}, 422),
        (b"[", {}, 422),
        (b"a" * (bodies.SIZE + 1), {}, 413),
        (b"a", {"content-type": "text/csv"}, 415),
    ],
    ids=lambda part: str(part)[:40],
)
def test_refusals_of_the_streaming_function_have_both_languages(
    person: MakePerson, body: Any, headers: dict[str, str], status: int
) -> None:
    token = None if status == 401 and not headers else headers.get("token", person().token)
    key = {} if headers.get("key") == "" else {"idempotency-key": "k"}
    more = {name: value for name, value in headers.items() if name == "content-type"}
    answers = [answered(asked(body, token, **key, **more, **language)) for language in ({}, ENGLISH, CHINESE)]
    assert answers[0].status == status, answers[0].body
    check_languages(*answers)


def test_refusals_of_streams_have_both_languages(person: MakePerson) -> None:
    me = person()
    for path in (
        "/api/v1/tasks/none/stream",
        "/api/v1/nowhere",
        f"/api/v1/tasks/{failed(me, 'throttled').id}/stream?after=x",
    ):
        answers = [
            answered(streamed(path, authorization=f"Bearer {me.token}", **language))
            for language in ({}, ENGLISH, CHINESE)
        ]
        check_languages(*answers)


def test_two_headers_are_one_list(person: MakePerson) -> None:
    """RFC 9110, section 5.3."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(stream.app), base_url="http://app.test") as client:
            return await client.get("/nowhere", headers=[("accept-language", "en;q=0.5"), ("accept-language", "zh")])

    answer = in_loop(ask())
    assert answer.headers["content-language"] == "zh"
    assert answer.json() == {"detail": "您访问的地址不存在。", "code": "not_found"}


def test_a_bug_of_the_streaming_function_is_told_in_chinese() -> None:
    async def broken(_: Any) -> None:
        raise RuntimeError

    async def ask(headers: dict[str, str]) -> httpx.Response:
        application = asgi.make_application([Route("/broken", broken)], lambda _: contextlib.nullcontext())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://app.test") as client:
            return await client.get("/broken", headers=headers)

    answers = [answered(in_loop(ask(headers))) for headers in ({}, ENGLISH, CHINESE)]
    check_languages(*answers)
    assert (answers[0].status, answers[0].json["code"]) == (500, "internal")


def test_a_viewer_that_is_refused_beside_an_answer_is_told_in_its_language(monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        over = True

    async def body(header: str) -> tuple[dict[str, str], str]:
        texts.accept_language.set(header)
        response = attached.refuse_beside(Run(), errors.Forbidden())  # type: ignore[arg-type]
        pieces = [piece async for piece in response.body_iterator]
        return dict(response.headers), "".join(map(str, pieces))

    headers, text = in_loop(body("zh"))
    assert headers["content-language"] == "zh"
    assert json.loads(text) == {"detail": "您没有权限进行此操作。", "code": "forbidden"}
