"""The simulated DashScope, spoken to without the adapter."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from local.dashscope import MULTIMODAL_PATH, TEXT_PATH, Server

STREAMED = {"result_format": "message", "incremental_output": True}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(delay_ms=0) as server:
        yield server


def post(
    server: Server,
    content: object,
    parameters: dict[str, Any] | None = None,
    *,
    path: str = TEXT_PATH,
    model: str = "qwen-plus",
    stream: bool = True,
    **headers: str,
) -> str:
    body = {
        "model": model,
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": parameters or {},
    }
    request = urllib.request.Request(
        server.base_url.removesuffix("/api/v1") + path,
        json.dumps(body).encode(),
        {"Authorization": "Bearer sk-x", **({"X-DashScope-SSE": "enable"} if stream else {}), **headers},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
    return answer.decode()


def events(answer: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data:")) for line in answer.split("\n") if line.startswith("data:")]


def contents(answer: str) -> list[Any]:
    return [event["output"]["choices"][0]["message"]["content"] for event in events(answer)]


def refused(server: Server, *args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(HTTPError) as raised:
        post(server, *args, **kwargs)
    with raised.value as error:
        return error.code, json.loads(error.read())["code"]


def test_an_answer_echoes_the_question_in_60_to_120_tokens_and_is_always_the_same(server: Server) -> None:
    answers = {n: contents(post(server, f"你好 {n}", STREAMED)) for n in range(5)}
    for n, tokens in answers.items():
        assert "".join(tokens).startswith(f"你说：「你好 {n}」。")
        assert 60 <= len(tokens) - 1 <= 120
        assert tokens == contents(post(server, f"你好 {n}", STREAMED))
    assert len(set(map(len, answers.values()))) > 1
    assert any(ord(char) > 0xFFFF for char in "".join(answers[0]))


def test_the_wire_is_dashscopes(server: Server) -> None:
    answer = post(server, "/sim tokens=2 hi", STREAMED)
    assert answer.startswith('id:1\nevent:result\n:HTTP_STATUS/200\ndata:{"output":{"choices":[{"message":')
    assert answer.endswith("}\n\n")
    first, _, last = events(answer)
    assert first["output"]["choices"][0]["finish_reason"] == "null"
    assert last["output"]["choices"][0] == {"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
    assert last["usage"]["total_tokens"] == last["usage"]["input_tokens"] + 2
    parts = contents(
        post(server, [{"text": "/sim tokens=2"}, {"image": "https://x/y"}], STREAMED, path=MULTIMODAL_PATH)
    )
    assert parts == [[{"text": "我看"}], [{"text": "到"}], []]


def test_cumulative_and_whole_answers(server: Server) -> None:
    whole = json.loads(post(server, "/sim tokens=4", {"result_format": "message"}, stream=False))
    assert whole["output"]["choices"][0]["message"]["content"] == "好的，我们慢慢"
    assert contents(post(server, "/sim tokens=4", {"result_format": "message"}))[-2:] == ["好的，我们慢慢"] * 2
    assert json.loads(post(server, "/sim tokens=1", stream=False))["output"] == {
        "finish_reason": "stop",
        "text": "好的",
    }


def test_limits_are_honoured(server: Server) -> None:
    thinking = {**STREAMED, "enable_thinking": True, "thinking_budget": 3, "max_tokens": 5}
    *_, last = events(post(server, "hi", thinking))
    assert last["output"]["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["output_tokens"] == 8
    assert "output_tokens_details" not in last["usage"]
    *_, last = events(post(server, "/sim details", thinking))
    assert last["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}
    assert "reasoning_content" not in post(server, "/sim think=5", {**STREAMED, "enable_thinking": False})


def test_a_cut_emoji_is_two_escapes(server: Server) -> None:
    answer = post(server, "/sim tokens=9 cut_emoji 🙂", STREAMED)
    assert "\\ud83d" in answer
    assert "\\ud83d\\ude42" not in answer
    assert "🙂" in "".join(contents(answer)).encode("utf-16", "surrogatepass").decode("utf-16")


@pytest.mark.parametrize(
    "invalid",
    [
        {"parameters": {"temperature": 2}},
        {"parameters": {"top_p": 0}},
        {"parameters": {"max_tokens": 0}},
        {"parameters": {"seed": "1"}},
        {"parameters": {"enable_thinking": True}},
        {"model": ""},
        {"model": "qwen3.5-plus"},
        {"content": [{"text": "hi"}]},
        {"content": "hi", "path": MULTIMODAL_PATH},
        {"path": "/api/v1/services/aigc/nothing"},
    ],
)
def test_what_dashscope_refuses_is_refused(server: Server, invalid: dict[str, Any]) -> None:
    assert refused(server, **{"content": "hi", **invalid}) == (400, "InvalidParameter")


def test_faults_by_directive_and_by_header(server: Server) -> None:
    assert refused(server, "hi", Authorization="Bearer nonsense") == (401, "InvalidApiKey")
    assert refused(server, "/sim fail=arrearage") == (400, "Arrearage")
    assert refused(server, "hi", **{"x-fake-scenario": "ratequota"}) == (429, "Throttling.RateQuota")
    for _ in range(2):
        assert refused(server, "/sim fail=throttle_twice x") == (429, "Throttling")
    assert "x" in post(server, "/sim fail=throttle_twice x", STREAMED)
    assert contents(post(server, "/sim tokens=1 fail=nonsense 1=2", STREAMED))[0] == "你说"


def test_requests_are_listed_until_the_list_is_cleared(server: Server) -> None:
    server.reset()
    post(server, "/sim tokens=1")
    with urllib.request.urlopen(server.base_url.removesuffix("/api/v1") + "/__requests", timeout=5) as response:
        [entry] = json.load(response)
    assert entry["path"] == TEXT_PATH
    assert entry["body"]["input"]["messages"][0]["content"] == "/sim tokens=1"
    urllib.request.urlopen(server.base_url.removesuffix("/api/v1") + "/__reset", b"", timeout=5).close()
    assert server.requests() == []


def test_tokens_keep_to_their_deadlines(server: Server) -> None:
    began = time.perf_counter()
    post(server, "/sim tokens=300 delay=2", STREAMED)
    assert 0.6 <= time.perf_counter() - began < 1.2  # relative sleeps would take more


def test_it_runs_as_a_program() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "local.dashscope", "--port", "0", "--tokens", "3", "--delay-ms", "0"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout
        ready, url = program.stdout.readline().split()
        assert ready == "READY"
        server = Server()
        server.base_url = url
        assert len(contents(post(server, "hi", STREAMED))) == 4
    finally:
        program.terminate()
        program.communicate(timeout=10)
