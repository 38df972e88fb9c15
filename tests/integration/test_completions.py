"""/v1: chat completions by API keys, in the form that clients of OpenAI's API read."""

import asyncio
import base64
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from aideer.accounts import api_keys
from aideer.accounts.api_keys import ApiKeyChange
from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.completions import answers, requests, retries
from aideer.core import clock, metrics, settings
from aideer.core.usage import Usage
from aideer.data.models import CreditEntry, Preset, Record, Task, TaskEvent, User
from aideer.security import api_keys as stored_keys
from aideer.security import budgets, limits, rate_limits
from aideer.security.limits import LIMITS, Limit
from aideer.tasks import leases, stream_access, stream_log
from aideer.tasks.stream_log import Slice
from local.simulators import dashscope
from tests import policies, prices
from tests.api_keys import find_room, holder, make_key, new_task
from tests.completion_client import QUESTION, call, chunks, complete, connected, deltas
from tests.faults import answer_lost
from tests.support import Api, Person, UsePrices, check_rules, in_loop, make_chat, sweep
from tests.waiting import until
from v1 import serve

MakePerson = Callable[..., Person]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
PIXEL = base64.b64encode(b"\x89PNG\r\n").decode()
INFINITE = b'{"model": "qwen-plus", "messages": [{"role": "user", "content": "x"}], "metadata": 1e999}'
RETRY = {"x-stainless-retry-count": "1"}
VISION = "qwen3.5-plus"


@pytest.fixture
def me(person: MakePerson) -> Person:
    return person()


@pytest.fixture
def key(me: Person) -> str:
    return make_key(me).key


def error(response: httpx.Response) -> tuple[int, str, str]:
    """The status, the type and the code of a refusal, which must have OpenAI's form."""
    body = response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"]
    return response.status_code, body["type"], body["code"]


def task_of(response: httpx.Response) -> Task:
    return Task.get(response.headers["x-request-id"], consistent_read=True)


def asked(provider: dashscope.Server, text: str) -> list[dict[str, Any]]:
    """The bodies in which the provider was sent this text."""
    bodies = [entry["body"] for entry in provider.requests() if "body" in entry]
    return [body for body in bodies if text in json.dumps(body, ensure_ascii=False)]


def messages_of(key: str, text: str) -> list[dict[str, Any]]:
    """What the app sends to its server, for a completion that is not streamed."""
    body = json.dumps({"model": "qwen-plus", "messages": [{"role": "user", "content": text}]}).encode()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "scheme": "http",
        "server": ("v1.test", 80),
    }
    in_loop(serve.app(scope, receive, send))
    return sent


def wait_until_asked(provider: dashscope.Server, text: str) -> None:
    """Wait until the provider has been sent this text."""
    assert provider.wait_for(lambda entries: any(text in json.dumps(entry) for entry in entries))


# The answer


def test_a_whole_completion_has_the_form_that_clients_read(me: Person, key: str) -> None:
    response = complete(key, "/sim tokens=4 details think=2 What is a deer?", enable_thinking=True)
    body = response.json()
    [choice] = body["choices"]
    assert (body["object"], body["model"], body["id"]) == (
        "chat.completion",
        "qwen-plus",
        f"chatcmpl-{task_of(response).id}",
    )
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    assert choice["message"]["content"]
    assert choice["message"]["reasoning_content"]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 2}
    [line] = [each for each in CreditEntry.query(me.id) if each.task_id]
    assert (line.kind, -line.amount, line.key_id) == ("api", usage["aideer"]["credits"], task_of(response).key["id"])
    check_rules(me)


def test_a_stream_is_the_whole_completion_in_pieces(key: str) -> None:
    text = "/sim tokens=9 think=3 details What is a deer? 🦌"
    whole = complete(key, text, enable_thinking=True).json()
    shown = chunks(complete(key, text, enable_thinking=True, stream=True, stream_options={"include_usage": True}))
    assert {(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in shown} == {
        (shown[0]["id"], shown[0]["created"], "qwen-plus", "chat.completion.chunk")
    }
    assert shown[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert deltas(shown, "role") == ["assistant"]
    message = whole["choices"][0]["message"]
    assert "".join(deltas(shown, "content")) == message["content"]
    assert "".join(deltas(shown, "reasoning_content")) == message["reasoning_content"]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in shown if chunk["choices"]]
    assert Counter(reasons) == {None: len(reasons) - 1, "stop": 1}
    assert reasons[-1] == "stop"
    assert [bool(chunk["choices"]) for chunk in shown] == [True] * (len(shown) - 1) + [False]
    usages = [chunk["usage"] for chunk in shown]
    assert usages[:-1] == [None] * (len(shown) - 1)
    assert {**usages[-1], "aideer": None} == {**whole["usage"], "aideer": None}


def test_a_chunk_is_one_line_by_every_rule_for_the_ends_of_lines(me: Person) -> None:
    """Some clients split lines by Unicode's rules."""
    said = "a\x85b\u2028c\u2029d\x0b\x0c\x1c\r\n"
    [chunk] = answers.Chunks(new_task(me.id, 1, None), "m", includes_usage=False).add("content", said)
    [line] = chunk.removesuffix("\n\n").splitlines()
    assert json.loads(line.removeprefix("data: "))["choices"][0]["delta"] == {"content": said}


def test_the_usage_comes_only_where_it_was_asked_for(key: str) -> None:
    shown = chunks(complete(key, stream=True))
    assert all(chunk["choices"] and "usage" not in chunk for chunk in shown)


def test_an_answer_that_is_cut_off_ends_as_length(key: str) -> None:
    response = complete(key, "/sim tokens=50", max_tokens=5)
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert response.json()["usage"]["completion_tokens"] == 5
    assert (
        complete(key, "/sim tokens=50", max_tokens=9, max_completion_tokens=4).json()["usage"]["completion_tokens"] == 4
    )


def test_a_filtered_answer_says_so(me: Person, key: str) -> None:
    assert complete(key, "/sim filter").json()["choices"][0]["finish_reason"] == "content_filter"
    shown = chunks(complete(key, "/sim filter", stream=True))
    assert shown[-1]["choices"][0]["finish_reason"] == "content_filter"
    check_rules(me)


def test_a_prompt_and_its_answer_are_in_no_task_and_no_log(
    me: Person, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="aideer"):
        response = complete(key, "The secret is 鹿角7391.", tools=[WEATHER], stop=["7391鹿"])
    task = task_of(response)
    assert task.prompt["messages"] == 1
    stored = json.dumps(task.to_dynamodb_dict(), ensure_ascii=False)
    assert "7391" not in stored
    assert "get_weather" not in stored
    assert len(stored.encode()) < 4096
    assert "7391" not in caplog.text


def test_a_completion_asks_nothing_before_the_hold_and_makes_few_calls(key: str, counted: list[str]) -> None:
    complete(key)  # the secrets
    counted.clear()
    complete(key, "/sim tokens=3 delay=0")
    first = [name for name in counted if "Task" not in name or "Transact" in name][:2]
    assert first == [f"GetItem {settings.RECORDS_TABLE}", "TransactWriteItems"]
    assert Counter(name.split()[0] for name in counted) == {"GetItem": 2, "TransactWriteItems": 2, "PutItem": 1}


def test_a_task_of_a_key_is_the_users_and_has_no_chat(api: Api, me: Person, key: str) -> None:
    task_id = complete(key).headers["x-request-id"]
    shown = api("tasks.get", "GET", f"/tasks/{task_id}", user=me, parameters={"id": task_id}).json
    assert (shown["chat_id"], shown["type"], shown["status"], shown["stream_url"]) == (None, "api", "finished", None)
    again = api("tasks.regenerate", "POST", f"/tasks/{task_id}/regenerate", user=me, parameters={"id": task_id})
    assert again.status == 404


# What is asked


def test_unknown_fields_are_ignored(key: str) -> None:
    more = {
        "user": "u",
        "store": False,
        "metadata": {"a": "b"},
        "logprobs": True,
        "service_tier": "auto",
        "logit_bias": {},
    }
    assert complete(key, stream_options={"include_usage": True}, frequency_penalty=1, **more).status_code == 200


def test_parameters_reach_the_provider_in_its_ranges(key: str, provider: dashscope.Server) -> None:
    complete(key, "range 8842", temperature=2, top_p=0, seed=-1, presence_penalty=1, stop="x", top_k=5)
    [body] = asked(provider, "range 8842")
    sent = body["parameters"]
    assert (sent["temperature"], sent["top_p"], sent["seed"]) == (1.99, 0.01, 2**63 - 1)
    assert (sent["presence_penalty"], sent["stop"], sent["top_k"]) == (1, "x", 5)


@pytest.mark.parametrize(
    ("sent", "thinks"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"enable_thinking": True}, True),
        ({"thinking_budget": 10}, True),
        ({}, False),
    ],
)
def test_the_effort_decides_whether_the_model_thinks(key: str, sent: dict[str, Any], thinks: bool) -> None:
    message = complete(key, **sent).json()["choices"][0]["message"]
    assert ("reasoning_content" in message) == thinks
    assert complete(key, model="qwen-max", **sent).status_code == 200, (
        "it never thinks, and clients send an effort to any"
    )


def test_messages_of_all_roles_reach_the_provider(key: str, provider: dashscope.Server) -> None:
    called = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "Be kind 5517."},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}], "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    assert complete(key, messages=messages, tools=[WEATHER]).json()["choices"][0]["finish_reason"] == "stop"
    [body] = asked(provider, "Be kind 5517")
    assert body["input"]["messages"] == [
        {"role": "system", "content": "Be kind 5517."},
        {"role": "user", "content": "One\ntwo"},
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "content": "Rain.", "tool_call_id": "call_1"},
    ]


@pytest.mark.parametrize("address", ["https://example.com/deer.png", f"data:image/png;base64,{PIXEL}"])
def test_images_reach_a_model_that_sees(key: str, provider: dashscope.Server, address: str) -> None:
    said = f"image of {len(address)} and 7780"
    image = {"type": "image_url", "image_url": {"url": address, "detail": "high"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": said}, image]}]
    assert complete(key, model=VISION, messages=messages).status_code == 200
    [body] = asked(provider, said)
    assert body["input"]["messages"] == [{"role": "user", "content": [{"text": said}, {"image": address}]}]
    refused = complete(key, model="qwen-plus", messages=messages)
    assert error(refused) == (400, "invalid_request_error", "unsupported_parameter")


@pytest.mark.parametrize("address", ["http://example.com/a.png", "file:///etc/passwd", "data:text/html;base64,AA", "x"])
def test_other_addresses_of_images_are_refused(key: str, address: str) -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}]
    refused = complete(key, model=VISION, messages=messages)
    assert error(refused) == (400, "invalid_request_error", "invalid_image_url")


def test_json_answers_are_json(key: str) -> None:
    answered = complete(key, "Answer as JSON.", response_format={"type": "json_object"}).json()
    assert "answer" in json.loads(answered["choices"][0]["message"]["content"])
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "count", "schema": schema, "strict": True}}
    answered = complete(key, response_format=form).json()
    assert json.loads(answered["choices"][0]["message"]["content"]) == {"n": 1}
    assert complete(key, response_format={"type": "text"}).status_code == 200
    refused = complete(key, "Answer.", response_format={"type": "json_object"})
    assert (error(refused)[2], refused.json()["error"]["param"]) == ("invalid_value", "messages")


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "god", "content": "x"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id", "invalid_value"),
        (
            {"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]},
            "messages.0.tool_call_id",
            "invalid_value",
        ),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"tools": [WEATHER, CLOCK], "tool_choice": "required"}, "tool_choice", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "invalid_value"),
        ({"enable_search": True, "model": "qwq-plus"}, None, "model_not_found"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_name(
    me: Person, key: str, sent: dict[str, Any], param: str | None, code: str
) -> None:
    refused = complete(key, **sent)
    assert (refused.json()["error"]["param"], refused.json()["error"]["code"]) == (param, code)
    assert refused.status_code == (404 if code == "model_not_found" else 400)
    assert me.user.holds.attribute_values == {}


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"model": NaN}', INFINITE, b'{"model": "\\ud800", "messages": []}', b"\xff"]
)
def test_a_body_that_is_none_is_refused(key: str, raw: bytes) -> None:
    assert call("POST", "/v1/chat/completions", key, raw).status_code == 400
    deep = b'{"model": "qwen-plus", "messages": ' + b"[" * 100_000
    assert call("POST", "/v1/chat/completions", key, deep).status_code == 400


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"messages": [{"role": "user", "content": [{}] * 10_000}]}, "messages.0.content.0.type"),
        ({"messages": [5] * 4_000}, "messages.0"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}] * 128}]}, "messages.0.tool_calls.0.id"),
        ({"stop": [5] * 10_000}, "stop.0"),
        ({"tools": [{}] * 128}, "tools.0.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ],
)
def test_a_body_is_read_up_to_its_first_wrong_item(sent: dict[str, Any], param: str) -> None:
    body = {"model": "qwen-plus", "messages": [QUESTION], **sent}
    with pytest.raises(ValidationError) as refused:
        requests.CompletionRequest.model_validate(body)
    assert refused.value.error_count() <= 2
    with pytest.raises(requests.FieldError) as told:
        requests.parse(json.dumps(body).encode())
    assert told.value.param == param


def test_a_body_that_cannot_be_read_counts_as_a_refused_ask(
    me: Person, key: str, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setitem(LIMITS, "ask", Limit(2, 3600))
    bodies = [b"{", b"{}", b"{", b"{"]
    refused = [call("POST", "/v1/chat/completions", key, raw) for raw in bodies]
    assert [each.status_code for each in refused] == [400, 400, 429, 429]
    assert refused[-1].headers["retry-after"]
    counted.clear()
    assert call("POST", "/v1/chat/completions", key, b"{").status_code == 429
    assert [name.split()[0] for name in counted] == ["GetItem"], "the key is read, and nothing else"


def test_a_prompt_that_is_too_long_is_refused(key: str) -> None:
    refused = complete(key, "鹿" * 200_000, model="qwen-max")
    assert error(refused) == (400, "invalid_request_error", "context_length_exceeded")


# Tools


def test_a_model_calls_a_tool_and_reads_its_result(me: Person, key: str) -> None:
    question = {"role": "user", "content": "/sim tool=get_weather Peking 鹿"}
    first = complete(key, messages=[question], tools=[WEATHER, CLOCK]).json()["choices"][0]
    assert (first["finish_reason"], first["message"]["content"]) == ("tool_calls", None)
    [called] = first["message"]["tool_calls"]
    assert (called["type"], called["function"]["name"]) == ("function", "get_weather")
    assert json.loads(called["function"]["arguments"]) == {"city": "Peking 鹿"}
    result = {"role": "tool", "tool_call_id": called["id"], "content": "Rain."}
    second = complete(key, messages=[question, first["message"], result], tools=[WEATHER, CLOCK]).json()["choices"][0]
    assert second["finish_reason"] == "stop"
    assert second["message"]["content"]
    check_rules(me)


def test_the_id_of_a_call_is_streamed_once(key: str) -> None:
    shown = chunks(complete(key, "/sim tool=get_weather Peking 鹿", tools=[WEATHER], stream=True))
    pieces = [piece for pieces in deltas(shown, "tool_calls") for piece in pieces]
    assert len(pieces) > 2
    assert [("id" in piece, "name" in piece["function"]) for piece in pieces] == [(True, True)] + [(False, False)] * (
        len(pieces) - 1
    )
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"city": "Peking 鹿"}
    assert shown[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_required_tool_is_called(key: str) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answered = complete(key, tools=[WEATHER], tool_choice=choice).json()["choices"][0]
        assert answered["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    other = complete(key, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "none"}})
    assert error(other)[2] == "invalid_value"


def test_tools_are_priced(key: str) -> None:
    large = {**WEATHER, "function": {**WEATHER["function"], "description": "鹿" * 4000}}  # type: ignore[dict-item]
    plain, tooled = (task_of(complete(key, "/sim tokens=3", tools=tools)) for tools in (None, [large]))
    assert tooled.input_tokens > plain.input_tokens + 4000


def test_ids_of_called_tools_are_priced(key: str) -> None:
    def ask(call_id: str) -> Task:
        function = {"name": "get_time", "arguments": "{}"}
        called = {"role": "assistant", "tool_calls": [{"id": call_id, "type": "function", "function": function}]}
        result = {"role": "tool", "tool_call_id": call_id, "content": "noon"}
        return task_of(complete(key, messages=[QUESTION, called, result], tools=[CLOCK]))

    short, long = (ask("c" * length) for length in (1, 201))
    assert long.input_tokens >= short.input_tokens + 400, "once in the call, and once in its result"


def test_a_model_without_tools_refuses_them(key: str, use_prices: UsePrices) -> None:
    use_prices(prices.change_model("qwen-plus", tools=False))
    refused = complete(key, tools=[WEATHER])
    assert (error(refused)[2], refused.json()["error"]["param"]) == ("unsupported_parameter", "tools")


# Presets and models


def test_models_and_presets_are_listed_as_the_key_allows(me: Person, key: str, person: MakePerson) -> None:
    own, foreign = make_chat(me).preset_id, make_chat(person()).preset_id
    listed = call("GET", "/v1/models", key).json()
    assert listed["object"] == "list"
    ids = [each["id"] for each in listed["data"]]
    assert "qwen-plus" in ids
    assert f"preset-{own}" in ids
    assert f"preset-{foreign}" not in ids
    assert "qwen-turbo" not in ids, "it is retired"
    for each in listed["data"]:
        assert {"id", "object", "created", "owned_by"} <= set(each)
        assert not set("@,/") & set(each["id"])
    narrow = make_key(me, models=["qwen-max", f"preset-{own}"]).key
    assert [each["id"] for each in call("GET", "/v1/models", narrow).json()["data"]] == ["qwen-max", f"preset-{own}"]
    assert call("GET", "/v1/models/qwen-max", narrow).json()["id"] == "qwen-max"
    assert call("GET", f"/v1/models/preset-{own}", narrow).json()["id"] == f"preset-{own}"
    for model in ("qwen-plus", f"preset-{foreign}", "none"):
        assert error(call("GET", f"/v1/models/{model}", narrow)) == (404, "invalid_request_error", "model_not_found")


def test_models_count_towards_the_reading_budget_with_all_that_is_read(
    me: Person, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    own, *_ = (make_chat(me).preset_id for _ in range(20))
    Preset(own, Preset.HEAD).update([Preset.messages.set([{"role": "system", "type": "text", "content": "x" * 5_000}])])
    narrow = make_key(me, models=[f"preset-{own}"]).key
    monkeypatch.setattr(budgets, "BATCH", 1)
    counter, *_ = rate_limits._window("read", me.id)
    used = []
    for path in ("/v1/models", f"/v1/models/preset-{own}"):
        assert call("GET", path, narrow).status_code == 200
        used.append(int(Record.get(*counter, consistent_read=True).uses))
    assert used[0] >= 4, "the list of all models, although the key may ask one"
    assert used[1] - used[0] >= 5, "the preset's messages"
    monkeypatch.setitem(LIMITS, "read", Limit(1, LIMITS["read"].seconds))
    assert call("GET", "/v1/models", narrow).status_code == 429
    counted.clear()
    assert {call("GET", path, narrow).status_code for path in ("/v1/models", f"/v1/models/preset-{own}")} == {429}
    assert not [name for name in counted if settings.PRESETS_TABLE in name]


def test_a_preset_answers_with_its_messages_and_parameters(me: Person, key: str, provider: dashscope.Server) -> None:
    preset_id = make_chat(me, parameters={"temperature": 0.5, "seed": 7}).preset_id
    Preset(preset_id, Preset.HEAD).update(
        [Preset.messages.set([{"role": "system", "type": "text", "content": "Be a deer 6612.", "visibility": False}])]
    )
    answered = complete(key, model=f"preset-{preset_id}", temperature=0.25).json()
    assert answered["model"] == f"preset-{preset_id}"
    [body] = asked(provider, "Be a deer 6612.")
    assert [message["role"] for message in body["input"]["messages"]] == ["system", "user"]
    assert (body["parameters"]["temperature"], body["parameters"]["seed"]) == (0.25, 7)


def test_a_preset_of_another_user_is_no_model(key: str, person: MakePerson) -> None:
    preset_id = make_chat(person()).preset_id
    refused = complete(key, model=f"preset-{preset_id}")
    assert error(refused) == (404, "invalid_request_error", "model_not_found")
    Preset(preset_id, Preset.HEAD).update([Preset.visibility.set("public")])
    assert complete(key, model=f"preset-{preset_id}").status_code == 200


def test_a_key_asks_only_its_models(me: Person) -> None:
    narrow = make_key(me, models=["qwen-max"]).key
    assert error(complete(narrow)) == (403, "invalid_request_error", "model_not_allowed")
    assert complete(narrow, model="qwen-max").status_code == 200


# Who may ask


@pytest.mark.parametrize("method_path", ["GET /v1/models", "GET /v1/models/x", "POST /v1/chat/completions"])
@pytest.mark.parametrize("token", [None, "sk-unknown", "eyJhbGciOiJub25lIn0.e30.", "refresh"])
def test_without_a_good_key_every_call_is_401(me: Person, method_path: str, token: str | None) -> None:
    method, path = method_path.split()
    refused = call(method, path, me.refresh_token if token == "refresh" else token)
    assert error(refused) == (401, "authentication_error", "invalid_api_key")


def test_a_paused_expired_or_revoked_key_is_401(me: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    paused, revoked, expiring = (make_key(me, **more) for more in ({}, {}, {"expires_at": "2099-01-01"}))
    api_keys.change(me.user, paused.id, ApiKeyChange(disabled=True))
    api_keys.revoke(me.user, "me", revoked.id)
    for made in (paused, revoked):
        assert error(complete(made.key))[0] == 401
    later = clock.parse("2099-01-02T00:00:00Z")
    monkeypatch.setattr(clock, "now", lambda: later)
    assert error(complete(expiring.key))[0] == 401


def test_the_keys_of_a_visitor_and_of_a_deleted_user_are_refused(me: Person, key: str) -> None:
    User(me.id).update([User.permission.set(0)])
    assert error(complete(key))[0] == 403
    User(me.id).update([User.permission.set(1), User.deleted.set(True)])
    assert error(complete(key))[0] == 401
    assert error(call("GET", "/v1/models", key))[0] == 401


def test_an_access_token_opens_the_door_too(me: Person) -> None:
    response = complete(me.token)
    assert (response.status_code, task_of(response).key) == (200, None)
    User(me.id).update([User.token_version.add(1)])
    assert error(complete(me.token))[0] == 401


def test_unknown_paths_are_404_in_openais_form(key: str) -> None:
    assert error(call("POST", "/v1/responses", key, {})) == (404, "invalid_request_error", "not_found")


# Limits and money


def test_without_credits_the_answer_is_402(person: MakePerson) -> None:
    me = person(credits=0)
    assert error(complete(make_key(me).key)) == (402, "insufficient_quota", "insufficient_credits")


def test_a_key_never_spends_more_than_its_limit(me: Person) -> None:
    made = make_key(me, credit_limit=40)
    statuses = []
    with ThreadPoolExecutor(4) as threads:
        for response in threads.map(lambda n: complete(made.key, f"/sim tokens=200 {n}"), range(12)):
            statuses.append(response.status_code)
            if response.status_code != 200:
                assert error(response) == (402, "insufficient_quota", "insufficient_credits")
    lines = [line for line in CreditEntry.query(me.id) if line.key_id == made.id]
    assert 0 < -sum(line.amount for line in lines) <= 40
    assert statuses.count(200) == len(lines) > 0
    assert find_room(stored_keys.digest(made.key)) == 40 + sum(line.amount for line in lines)
    check_rules(me)


def test_rate_limits_are_429_with_retry_after(me: Person, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind: limits.Kind = "answer"
    monkeypatch.setitem(LIMITS, kind, Limit(1, 60))
    assert complete(key).status_code == 200
    refused = complete(key)
    assert error(refused) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert int(refused.headers["Retry-After"]) > 0
    check_rules(me)


def test_keys_take_all_places_for_open_tasks_but_one(me: Person, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "OPEN_TASKS", 1)
    User(me.id).update([User.holds["another"].set(5)])
    refused = complete(key)
    assert error(refused)[0] == 429
    assert "1 tasks" in refused.json()["error"]["message"]


@pytest.mark.parametrize("fault", ["answer lost", "twice"])
def test_a_hold_whose_outcome_was_unknown_asks_once(
    me: Person, key: str, provider: dashscope.Server, fault: str
) -> None:
    said = f"lost {fault} {me.id}"
    with answer_lost("TransactWriteItems", times=1 if fault == "answer lost" else 2):
        assert complete(key, said).status_code == 200
    assert len(asked(provider, said)) == 1
    check_rules(me)


# Failures


FAILURES = [
    ("throttle", 429, "rate_limit_exceeded", None),
    ("inspect_in", 400, "content_filter", "false"),
    ("context", 400, "context_length_exceeded", "false"),
    ("image", 400, "invalid_image_url", "false"),
    ("retired", 400, "invalid_value", "false"),
    ("badkey", 502, "upstream_auth", "false"),
    ("internal", 502, "upstream_error", "false"),
    ("internal_mid", 502, "upstream_error", "false"),
    ("drop_mid", 502, "upstream_error", "false"),
]


def test_what_a_client_lets_the_provider_refuse_is_no_fault_of_the_provider(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no client can raise the operator's alarm. In a chat, the same failure is one of a preset."""
    emitted: list[str] = []
    monkeypatch.setattr(metrics, "emit", lambda values, **_: emitted.extend(values))
    assert complete(key, "/sim fail=retired").status_code == 400
    assert "AnswersFailed" in emitted
    assert "ProviderFailures" not in emitted
    assert complete(key, "/sim fail=badkey").status_code == 502
    assert "ProviderFailures" in emitted


@pytest.mark.parametrize(("fail", "status", "code", "again"), FAILURES)
def test_a_failure_has_a_status_that_clients_repeat_only_where_nothing_happened(
    me: Person, key: str, monkeypatch: pytest.MonkeyPatch, fail: str, status: int, code: str, again: str | None
) -> None:
    from aideer.tasks import executor

    monkeypatch.setattr(executor, "RETRY_SECONDS", 0.0)
    before = me.user.credits
    refused = complete(key, f"/sim fail={fail}")
    assert (refused.status_code, error(refused)[2], refused.headers.get("x-should-retry")) == (status, code, again)
    assert me.user.credits == before
    check_rules(me)


@pytest.mark.parametrize("fail", ["internal_mid", "drop_mid", "truncate"])
def test_a_failure_in_a_stream_is_an_error_event_and_no_finish_reason(me: Person, key: str, fail: str) -> None:
    shown = chunks(complete(key, f"/sim fail={fail}", stream=True))
    assert shown[-1]["error"]["code"] == "upstream_error"
    assert [chunk["choices"][0]["finish_reason"] for chunk in shown[:-1]] == [None] * (len(shown) - 1)
    check_rules(me)


# Slow answers, retries and ends


def test_a_slow_whole_answer_sends_spaces_so_that_no_proxy_gives_up(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "HELD_SECONDS", 0.05)
    monkeypatch.setattr(answers, "SILENCE_SECONDS", 0.05)
    response = complete(key, "/sim tokens=10 delay=40")
    assert response.status_code == 200
    assert response.text.startswith("  ")
    assert response.json()["choices"][0]["finish_reason"] == "stop"
    assert response.headers["x-request-id"] in response.json()["id"]


def test_a_slow_whole_answer_that_fails_breaks_the_connection(
    me: Person, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answers, "HELD_SECONDS", 0.01)
    monkeypatch.setattr(answers, "SILENCE_SECONDS", 0.05)
    sent = messages_of(key, "/sim tokens=10 delay=40 fail=internal_mid at=5")
    assert (sent[0]["type"], sent[0]["status"]) == ("http.response.start", 200)
    assert {message["body"] for message in sent[1:]} == {b" "}
    assert all(message["more_body"] for message in sent[1:]), "so the server breaks the connection"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    check_rules(me)


@pytest.mark.parametrize("stream", [False, True])
def test_a_retry_gets_the_answer_of_the_first_attempt(
    me: Person, key: str, provider: dashscope.Server, stream: bool
) -> None:
    said = f"/sim tool=get_weather retry {me.id}"
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": said}], "stream": stream, "tools": [WEATHER]}
    first = call("POST", "/v1/chat/completions", key, body)
    second = call("POST", "/v1/chat/completions", key, body, **RETRY)
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    if stream:
        joined = [
            "".join(piece["function"]["arguments"] for pieces in deltas(chunks(each), "tool_calls") for piece in pieces)
            for each in (first, second)
        ]
        assert joined[0] == joined[1] != ""
    else:
        assert second.json() == first.json()
    assert len(asked(provider, said)) == 1
    assert sum(bool(line.task_id) for line in CreditEntry.query(me.id)) == 1


def test_a_retry_of_a_refused_request_does_not_get_the_answer_of_an_equal_one(
    me: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: limits.Kind = "answer"
    body = {"model": "qwen-plus", "messages": [QUESTION]}
    first = call("POST", "/v1/chat/completions", key, body)
    monkeypatch.setitem(LIMITS, kind, Limit(1, 60))
    assert call("POST", "/v1/chat/completions", key, body).status_code == 429
    monkeypatch.setitem(LIMITS, kind, Limit(100, 60))
    again = call("POST", "/v1/chat/completions", key, body, **RETRY)
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    check_rules(me)


def test_equal_requests_without_the_header_are_different_ones(me: Person, key: str, provider: dashscope.Server) -> None:
    said = f"equal {me.id}"
    ids = {complete(key, said).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == len(asked(provider, said)) == 2


def test_a_retry_by_another_key_or_after_throttling_asks_anew(
    me: Person, key: str, provider: dashscope.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aideer.tasks import executor

    monkeypatch.setattr(executor, "RETRY_SECONDS", 0.0)
    said = f"/sim fail=throttle_twice anew {me.id}"
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": said}]}
    statuses = [call("POST", "/v1/chat/completions", key, body, **RETRY).status_code for _ in range(3)]
    assert statuses == [429, 429, 200]
    assert call("POST", "/v1/chat/completions", make_key(me).key, body, **RETRY).status_code == 200
    assert len(asked(provider, said)) == 4


def test_a_retry_follows_an_attempt_that_still_runs(me: Person, key: str, provider: dashscope.Server) -> None:
    said = f"/sim tokens=20 delay=30 running {me.id}"

    async def both(client: httpx.AsyncClient) -> httpx.Response:
        body = {"model": "qwen-plus", "messages": [{"role": "user", "content": said}]}
        first = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await asyncio.to_thread(wait_until_asked, provider, said)
        second = await client.post("/v1/chat/completions", json=body, headers=RETRY)
        assert second.json() == (await first).json()
        return second

    assert connected(both, key).status_code == 200
    assert len(asked(provider, said)) == 1


def test_an_attempt_whose_process_died_is_told_as_a_failure(me: Person, key: str) -> None:
    made = stored_keys.find(key)
    body = {"model": "qwen-plus", "messages": [QUESTION]}
    task_id = call("POST", "/v1/chat/completions", key, body).headers["x-request-id"]
    ended = Task.get(task_id, consistent_read=True)
    # As it was when its process died.
    from tests.api_keys import complete as hold

    task = hold(made, 10)
    Task(task.id).update([Task.lease_until.set(clock.now() - 1)])
    [record] = Record.query(f"completion#{me.id}#{made.id}", consistent_read=True)
    record.update([Record.data.set({"task_id": task.id})])
    refused = call("POST", "/v1/chat/completions", key, body, **RETRY)
    assert (refused.status_code, error(refused)[2]) == (502, "interrupted")
    assert Task.get(task.id, consistent_read=True).status == "failed"
    assert ended.status == "finished"
    check_rules(me)


# Retries and their limits


@pytest.mark.parametrize(("value", "retries_"), [("1", True), ("9" * 5_000, True), ("000", False), ("x", False)])
def test_a_retry_is_known_by_its_count(value: str, retries_: bool) -> None:
    assert retries.is_retry({"x-stainless-retry-count": value}) is retries_


def test_retries_that_follow_an_answer_take_slots_and_the_newest_wins(
    me: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "follow_task", Limit(1, 60))
    monkeypatch.setattr(stream_access, "CHECK_SECONDS", 0.0)
    body = {"model": "qwen-plus", "messages": [QUESTION]}
    task = noted_attempt(me, key, body)

    async def two(client: httpx.AsyncClient) -> httpx.Response:
        async def follow() -> httpx.Response:
            return await client.post("/v1/chat/completions", json=body, headers=RETRY)

        older = asyncio.create_task(follow())
        await asyncio.to_thread(wait_for_slots, me, 1)
        newer = asyncio.create_task(follow())
        displaced = await older
        assert error(displaced) == (429, "rate_limit_error", "rate_limit_exceeded")
        await asyncio.to_thread(settle_by_hand, task, "Deer")
        return await newer

    answered = connected(two, key)
    assert answered.json()["choices"][0]["message"]["content"] == "Deer"
    wait_for_slots(me, 0)
    check_rules(me)


def test_retries_are_counted_as_resumptions(me: Person, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "resume", Limit(2, 3600))
    body = {"model": "qwen-plus", "messages": [QUESTION]}
    call("POST", "/v1/chat/completions", key, body)
    repeated = [call("POST", "/v1/chat/completions", key, body, **RETRY) for _ in range(3)]
    assert [each.status_code for each in repeated] == [200, 200, 429]
    assert repeated[-1].headers["retry-after"]


def test_answers_of_retries_count_towards_the_reading_budget(
    me: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    monkeypatch.setitem(LIMITS, "read", Limit(1, 3600))
    body = {"model": "qwen-plus", "messages": [QUESTION]}
    call("POST", "/v1/chat/completions", key, body)
    statuses = [call("POST", "/v1/chat/completions", key, body, **RETRY).status_code for _ in range(3)]
    assert statuses == [200, 200, 429], "the second finds the budget used up, and the third is refused"


def test_an_answer_whose_log_is_not_whole_is_told_as_a_failure(me: Person, key: str) -> None:
    body = {"model": "qwen-plus", "messages": [QUESTION]}
    task_id = call("POST", "/v1/chat/completions", key, body).headers["x-request-id"]
    *_, last = TaskEvent.query(task_id, consistent_read=True)
    last.delete()  # as if DynamoDB had not taken the last write of the log
    refused = call("POST", "/v1/chat/completions", key, body, **RETRY)
    assert error(refused) == (502, "server_error", "internal_error")
    assert refused.headers["x-should-retry"] == "false"
    streamed = {**body, "stream": True}
    task_id = call("POST", "/v1/chat/completions", key, streamed).headers["x-request-id"]
    *_, last = TaskEvent.query(task_id, consistent_read=True)
    last.delete()
    *shown, end = chunks(call("POST", "/v1/chat/completions", key, streamed, **RETRY))
    assert end["error"]["code"] == "internal_error"
    assert {chunk["choices"][0]["finish_reason"] for chunk in shown} == {None}


def test_an_answer_that_its_user_has_deleted_is_not_shown_again(api: Api, me: Person, key: str) -> None:
    body = {"model": "qwen-plus", "messages": [QUESTION]}
    first = call("POST", "/v1/chat/completions", key, body).headers["x-request-id"]
    assert api("tasks.delete", "DELETE", f"/tasks/{first}", user=me, parameters={"id": first}).status == 200
    assert call("POST", "/v1/chat/completions", key, body, **RETRY).headers["x-request-id"] != first


def noted_attempt(me: Person, key: str, body: dict[str, Any]) -> Task:
    """A running task that retries of this body find, as if another process made its answer."""
    from tests.api_keys import complete as hold

    made = stored_keys.find(key)
    task = hold(made, 10)
    digest = hashlib.sha256(httpx.Request("POST", "http://v1.test", json=body).content).hexdigest()
    Record(f"completion#{me.id}#{made.id}", digest, data={"task_id": task.id}, ttl=int(clock.now()) + 900).save()
    return task


def settle_by_hand(task: Task, text: str) -> None:
    """End a task as its executor would."""
    stream_log.write(task.id, Slice(0, "content", text))
    credits.settle(task, Closer.executor(task.executor), "finished", Text(content=text), "stop", Usage(1, 1))


def wait_for_slots(me: Person, count: int) -> None:
    """Wait until so many followers of this user have slots."""

    def slots() -> int:
        return sum(len(found.data["slots"]) for found in Record.query(f"slots#{me.id}", consistent_read=True))

    until(lambda: slots() == count, f"{count} slots")


# Cancelling


def test_a_completion_can_be_cancelled(me: Person, key: str, provider: dashscope.Server) -> None:
    said = f"/sim tokens=500 delay=20 cancel {me.id}"

    async def both(client: httpx.AsyncClient) -> httpx.Response:
        body = {"model": "qwen-plus", "messages": [{"role": "user", "content": said}]}
        first = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await asyncio.to_thread(wait_until_asked, provider, said)
        [task_id] = me.user.holds.attribute_values
        other = await client.post(
            f"/v1/chat/completions/chatcmpl-{task_id}/cancel", headers={"Authorization": f"Bearer {make_key(me).key}"}
        )
        assert error(other)[0] == 404, "of another key"
        stopped = await client.post(f"/v1/chat/completions/chatcmpl-{task_id}/cancel")
        assert stopped.json() == {"id": f"chatcmpl-{task_id}", "object": "chat.completion", "status": "stopped"}
        return await first

    answered = connected(both, key).json()
    assert answered["choices"][0]["finish_reason"] == "stop"
    assert answered["usage"]["completion_tokens"] < 500
    assert error(call("POST", "/v1/chat/completions/chatcmpl-x/cancel", key))[0] == 404
    check_rules(me)


def test_a_token_cancels_no_task_of_a_chat_here(api: Api, me: Person) -> None:
    """The function may not close it."""
    asked = {"chat_id": make_chat(me, "Hello").id, "stream": True}
    task_id = api("tasks.create", "POST", "/tasks", json=asked, user=me).json["task_id"]
    assert error(call("POST", f"/v1/chat/completions/chatcmpl-{task_id}/cancel", me.token))[0] == 404
    assert Task.get(task_id, consistent_read=True).status == "pending"


def test_a_client_that_leaves_is_billed_for_the_whole_answer(me: Person, key: str, provider: dashscope.Server) -> None:
    said = f"/sim tokens=6 delay=5 leave {me.id}"

    async def leave(client: httpx.AsyncClient) -> httpx.Response:
        body = {"model": "qwen-plus", "messages": [{"role": "user", "content": said}], "stream": True}
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await asyncio.to_thread(wait_until_asked, provider, said)
        asking.cancel()
        return httpx.Response(200)

    connected(leave, key)
    [line] = [each for each in CreditEntry.query(me.id) if each.task_id]
    assert line.output_tokens == 6
    check_rules(me)


def test_the_sweeper_ends_a_completion_whose_process_died(me: Person) -> None:
    made = make_key(me, credit_limit=1000)
    from tests.api_keys import complete as hold

    task = hold(stored_keys.find(made.key), 300)
    Task(task.id).update([Task.lease_until.set(clock.now() - 1)])
    sweep()
    assert leases.read(task.id).error_code == "interrupted"  # type: ignore[union-attr]
    assert find_room(stored_keys.digest(made.key)) == 1000
    assert holder(me).holds.attribute_values == {}
    check_rules(me)


def test_the_function_of_v1_may_reach_no_chat() -> None:
    allowed = json.dumps(policies.TEMPLATE.document["Resources"]["V1ServeFunction"]["Properties"]["Policies"])
    assert "RecordsTable" in allowed
    for table in ("ChatsTable", "MessagesTable", "IdentitiesTable", "UploadsTable"):
        assert table not in allowed
