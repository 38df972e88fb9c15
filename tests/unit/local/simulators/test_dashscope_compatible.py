"""The simulated DashScope's OpenAI-compatible endpoint, spoken to without a client library."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest

from local.simulators import prose
from local.simulators.dashscope import Server
from local.simulators.dashscope_compatible import COMPATIBLE_PATH
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(delay_ms=0) as server:
        yield server


def post(server: Server, body: object, key: str = "sk-test") -> str:
    url = server.base_url.removesuffix("/api/v1") + COMPATIBLE_PATH
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
        assert response.headers["Content-Type"] == "text/event-stream;charset=UTF-8"
        text: str = response.read().decode()
        return text


def chunks(text: str) -> list[dict[str, Any]]:
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def body(question: str, **parameters: Any) -> dict[str, Any]:
    return {
        "model": "qwen-plus",
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        **parameters,
    }


def test_a_token_is_a_chunk(server: Server) -> None:
    *tokens, end = chunks(post(server, body("/sim tokens=5 hello")))
    assert [chunk["choices"][0]["delta"]["content"] for chunk in tokens] == prose.answer("hello", 5)
    assert [chunk["choices"][0]["delta"].get("role") for chunk in tokens] == ["assistant", None, None, None, None]
    assert {chunk["object"] for chunk in tokens} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in [*tokens, end]}) == 1
    assert end["choices"][0] == {"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": "stop"}


def test_the_usage_comes_last_if_it_is_asked_for(server: Server) -> None:
    *_, end, usage = chunks(post(server, body("/sim tokens=5 hello", stream_options={"include_usage": True})))
    assert end["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert usage["usage"]["total_tokens"] == 5 + usage["usage"]["prompt_tokens"]


def test_max_tokens_cuts_and_reasoning_has_a_field_of_its_own(server: Server) -> None:
    *tokens, end = chunks(post(server, body("/sim tokens=5 think=2 hello", max_tokens=3, enable_thinking=True)))
    deltas = [chunk["choices"][0]["delta"] for chunk in tokens]
    assert ["reasoning_content" in delta for delta in deltas] == [True, True, False, False, False]
    assert end["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("sent", "key", "status", "code"),
    [
        (body("hello"), "other", 401, "invalid_api_key"),
        (body("hello") | {"stream": False}, "sk-test", 400, "invalid_parameter_error"),
        ({"model": "qwen-plus"}, "sk-test", 400, "invalid_parameter_error"),
        ([], "sk-test", 400, "invalid_parameter_error"),
    ],
)
def test_refusals_have_openai_s_shape(server: Server, sent: object, key: str, status: int, code: str) -> None:
    with pytest.raises(HTTPError) as refused:
        post(server, sent, key)
    assert refused.value.status == status
    assert json.loads(refused.value.read())["error"]["code"] == code
