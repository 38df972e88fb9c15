"""The simulated DashScope, spoken to without the adapter."""

import dataclasses
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest
from hypothesis import given
from hypothesis import strategies as st

import local.simulators.dashscope
from local.simulators import prose
from local.simulators.dashscope import MULTIMODAL_PATH, TEXT_PATH, Server
from local.simulators.dashscope_scenarios import EVENT_ERRORS, FAILS, FORMS, REFUSALS, RETIRED, TAILS, USAGES, Scenario
from local.stack.template import ROOT
from tests.waiting import PATIENCE_SECONDS

SHIPPED = json.loads((ROOT / "functions/aideer/billing/prices/beijing.json").read_text())["models"]
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
    model: str | None = None,
    stream: bool = True,
    **headers: str,
) -> str:
    body = {
        "model": ("qwen3.5-plus" if path == MULTIMODAL_PATH else "qwen-plus") if model is None else model,
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": parameters or {},
    }
    request = urllib.request.Request(
        server.base_url.removesuffix("/api/v1") + path,
        json.dumps(body).encode(),
        {"Authorization": "Bearer sk-x", **({"X-DashScope-SSE": "enable"} if stream else {}), **headers},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
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
        assert f"「你好 {n}」" in "".join(tokens)
        assert 60 <= len(tokens) - 1 <= 120
        assert tokens == contents(post(server, f"你好 {n}", STREAMED))
    assert len(set(map(len, answers.values()))) > 1
    assert any(ord(char) > 0xFFFF for tokens in answers.values() for char in "".join(tokens))


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
    assert parts == [[{"text": "Yes, "}], [{"text": "of course."}], []]


def test_cumulative_and_whole_answers(server: Server) -> None:
    whole = json.loads(post(server, "/sim tokens=4", {"result_format": "message"}, stream=False))
    assert whole["output"]["choices"][0]["message"]["content"] == "Yes, of course."
    assert contents(post(server, "/sim tokens=4", {"result_format": "message"}))[-2:] == ["Yes, of course."] * 2
    assert json.loads(post(server, "/sim tokens=1", stream=False))["output"] == {
        "finish_reason": "stop",
        "text": "Yes, of course.",
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


def test_an_echo_is_the_message_as_it_stands(server: Server) -> None:
    text = "# Title\n\n    code  <b>\n| a |\n|---|\n🦌 你好"
    tokens = contents(post(server, f"/sim echo delay=0\n{text}", STREAMED))
    assert "".join(tokens) == text
    assert len(tokens) > 10


def test_a_cut_emoji_is_two_escapes(server: Server) -> None:
    answer = post(server, "/sim tokens=20 cut_emoji 🙂", STREAMED)
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
        {"parameters": {"thinking_budget": 81_921}},
        {"parameters": {"response_format": {"type": "json_object"}}},
        {
            "parameters": {**STREAMED, "enable_thinking": True, "response_format": {"type": "json_object"}},
            "content": "json",
        },
        {"parameters": {"response_format": {"type": "xml"}}},
        {"content": [{"image": "data:image/png,x"}], "path": MULTIMODAL_PATH},
        {"content": [{"text": "hi"}], "path": MULTIMODAL_PATH, "model": "qwen-plus"},
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
    assert contents(post(server, "/sim tokens=1 fail=nonsense 1=2", STREAMED))[0] == "Yes, of course."


def test_unknown_and_retired_models_are_not_found(server: Server) -> None:
    for model in ("qwen-turbo", "qwq-plus", "gpt-4o"):
        assert refused(server, "hi", model=model) == (404, "ModelNotFound")


@pytest.mark.parametrize("model", ["deepseek-v3.2", "qwen3.6-plus", "qwen3.7-plus"])
def test_each_model_has_a_longest_chain_of_thought(server: Server, model: str) -> None:
    most = {"deepseek-v3.2": 32_768, "qwen3.6-plus": 131_072, "qwen3.7-plus": 262_144}[model]
    content, path = ("hi", TEXT_PATH) if model.startswith("deep") else ([{"text": "hi"}], MULTIMODAL_PATH)
    post(server, content, {"thinking_budget": most}, model=model, path=path)
    assert refused(server, content, {"thinking_budget": most + 1}, model=model, path=path)[0] == 400


@pytest.mark.parametrize("model", SHIPPED, ids=lambda model: model["model"])
def test_the_shipped_price_table_and_the_simulated_provider_agree_on_a_model(
    server: Server, model: dict[str, Any]
) -> None:
    """A failure after an edit of the table: local/simulators/dashscope_scenarios.py does not know the model as the table has it."""
    multimodal = model["endpoint"] == "multimodal"
    content: object = [{"text": "/sim tokens=1"}] if multimodal else "/sim tokens=1"
    parameters = {"thinking_budget": model.get("max_thinking") or 1}
    asked = {"model": model["model"], "path": MULTIMODAL_PATH if multimodal else TEXT_PATH}
    if model["model"] in RETIRED:
        assert refused(server, content, parameters, **asked) == (404, "ModelNotFound")
    else:
        assert post(server, content, parameters, **asked)


@pytest.mark.parametrize("name", sorted(REFUSALS.keys() - {"throttle_twice"}))
def test_a_refusal_comes_in_three_shapes(server: Server, name: str) -> None:
    status, code, _ = REFUSALS[name]
    assert refused(server, f"/sim fail={name}") == (status, code)
    with pytest.raises(HTTPError) as raised:
        post(server, f"/sim fail={name}_sse")
    with raised.value as error:
        assert error.code == status
        assert events(error.read().decode())[0]["code"] == code
    assert json.loads(post(server, f"/sim fail={name}_200"))["code"] == code
    assert [bill["accepted"] for bill in server.bills(f"={name}")][-3:] == [False, False, True]


@pytest.mark.parametrize("name", EVENT_ERRORS)
def test_an_error_within_a_stream_comes_in_two_shapes(server: Server, name: str) -> None:
    named, plain = (post(server, f"/sim at=2 fail={name}{shape}", STREAMED) for shape in ("", "_plain"))
    assert events(named)[-1]["code"] == events(plain)[-1]["code"] == EVENT_ERRORS[name][1]
    assert len(events(named)) == len(events(plain)) == 3
    assert "event:error" in named
    assert "event:error" not in plain


def test_the_filter_strikes_at_a_token(server: Server) -> None:
    answer = post(server, "/sim filter at=4", STREAMED)
    assert events(answer)[-1]["code"] == "DataInspectionFailed"
    assert server.bills("filter at=4")[-1]["output_tokens"] == 4


@pytest.mark.parametrize("tail", sorted(TAILS - {"silence", "reset", "garbage"}))
def test_something_may_follow_the_finish_reason(server: Server, tail: str) -> None:
    answer = post(server, f"/sim tokens=3 tail={tail}", STREAMED)
    before, _, after = answer.partition('"finish_reason":"stop"')
    assert before
    assert "data:" in after
    if tail in ("late_usage", "more_usage"):
        assert events(answer)[-1]["usage"]["output_tokens"] == (3 if tail == "late_usage" else 6)


def test_usage_tells_cached_tokens_and_searches(server: Server) -> None:
    assert "plugins" not in events(post(server, "/sim tokens=3 search=2", STREAMED))[-1]["usage"], "nobody asked for it"
    searching = {**STREAMED, "enable_search": True}
    first, *_, last = events(post(server, "/sim tokens=3 search=2 cached=20", searching))
    assert [result["index"] for result in first["output"]["search_info"]["search_results"]] == [1, 2]
    assert last["output"]["search_info"]["search_results"] == []
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 20}
    assert last["usage"]["plugins"]["search"]["count"] == 1
    parameters = {**STREAMED, "enable_search": True, "search_options": {"enable_source": True}}
    assert "plugins" in events(post(server, "天气怎么样", parameters))[-1]["usage"]
    assert "plugins" not in events(post(server, "the weather", parameters))[-1]["usage"]
    forced = {**parameters, "search_options": {"forced_search": True}}
    assert "plugins" in events(post(server, "the weather", forced))[-1]["usage"]


@pytest.mark.parametrize("usage", sorted(USAGES))
def test_the_usage_may_be_wrong(server: Server, usage: str) -> None:
    told = [event.get("usage") for event in events(post(server, f"/sim tokens=4 usage={usage}", STREAMED))]
    assert told != [event["usage"] for event in events(post(server, "/sim tokens=4", STREAMED))]
    assert server.bills(f"usage={usage}")[-1]["output_tokens"] == 4


@pytest.mark.parametrize("form", sorted(FORMS))
def test_an_event_stream_may_be_written_in_other_ways(server: Server, form: str) -> None:
    assert post(server, f"/sim tokens=4 form={form}", STREAMED) != post(server, "/sim tokens=4", STREAMED)


def test_an_answer_that_shall_be_json_is_json(server: Server) -> None:
    parameters = {**STREAMED, "response_format": {"type": "json_object"}}
    assert json.loads("".join(contents(post(server, "Answer in JSON", parameters))))["answer"]
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "words": {"type": "array", "items": {"type": "string"}}},
    }
    parameters = {**STREAMED, "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    assert json.loads("".join(contents(post(server, "hi", parameters)))).keys() == {"n", "words"}


def test_max_completion_tokens_counts_reasoning_too(server: Server) -> None:
    parameters = {**STREAMED, "enable_thinking": True, "max_completion_tokens": 15}
    *_, last = events(post(server, "hi", parameters))
    assert last["usage"]["output_tokens"] == 15
    assert last["output"]["choices"][0]["finish_reason"] == "length"


def test_the_bill_of_an_answer_is_its_last_usage(server: Server) -> None:
    *_, last = events(post(server, "/sim tokens=7 think=3 cached=5 the bill", {**STREAMED, "enable_thinking": True}))
    assert server.wait_for(lambda _: not server.bills("the bill")[0]["open"])
    [bill] = server.bills("the bill")
    assert (bill["accepted"], bill["open"]) == (True, False)
    assert (bill["input_tokens"], bill["output_tokens"]) == (
        last["usage"]["input_tokens"],
        last["usage"]["output_tokens"],
    )
    assert (bill["reasoning_tokens"], bill["cached_tokens"], bill["searches"]) == (3, 5, 0)


def test_a_call_that_is_closed_early_is_billed_for_what_was_generated(server: Server) -> None:
    host, port = server.base_url.removeprefix("http://").removesuffix("/api/v1").split(":")
    body = json.dumps(
        {"model": "qwen-plus", "input": {"messages": [{"role": "user", "content": "/sim tokens=1000 delay=5 early"}]}}
    )
    head = f"POST {TEXT_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-x\r\nX-DashScope-SSE: enable\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        received = b""
        while b"id:5\n" not in received:
            received += connection.recv(65536)
        assert server.bills("early")[0]["open"]
    assert server.wait_for(lambda _: not server.bills("early")[0]["open"])
    [bill] = server.bills("early")
    assert bill["accepted"]
    assert bill["input_tokens"] > 0
    assert 5 <= bill["output_tokens"] < 1000


QUESTIONS = [
    "你好",
    "为什么天空是蓝色的？",
    "Hello",
    "Why is the sky blue?",
    "空はなぜ青いのですか",
    "하늘은 왜 파란가요",
    "",
    "[b]",
]


@given(st.one_of(st.sampled_from(QUESTIONS), st.text(max_size=80)), st.integers(1, 200), st.booleans())
def test_prose_has_the_tokens_that_were_asked_for_and_ends_with_a_sentence(
    question: str, tokens: int, cut_emoji: bool
) -> None:
    said = prose.answer(question, tokens, cut_emoji=cut_emoji)
    assert len(said) == tokens
    assert all(said)
    text = "".join(said).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    assert re.search(r"[.。！？!?]\s?$", text)
    assert said == prose.answer(question, tokens, cut_emoji=cut_emoji)


LANGUAGES = list(zip(QUESTIONS[:6], ["zh", "zh", "en", "en", "ja", "ko"], strict=True))


@pytest.mark.parametrize(("question", "language"), LANGUAGES)
def test_prose_is_in_the_language_of_the_question(question: str, language: str) -> None:
    assert prose.language_of(question) == language
    text = "".join(prose.answer(question, 80))
    assert prose.language_of(text[:30]) == language
    assert text != "".join(prose.answer(question + "!", 80))


def test_every_directive_is_documented() -> None:
    assert local.simulators.dashscope.__doc__
    fields = {field.name for field in dataclasses.fields(Scenario)} - {"text"}
    assert all(re.search(rf"\b{name}\b", local.simulators.dashscope.__doc__) for name in fields)
    assert REFUSALS.keys() | EVENT_ERRORS.keys() <= FAILS


def test_requests_are_listed_until_the_list_is_cleared(server: Server) -> None:
    server.reset()
    post(server, "/sim tokens=1")
    with urllib.request.urlopen(
        server.base_url.removesuffix("/api/v1") + "/__requests", timeout=PATIENCE_SECONDS
    ) as response:
        [entry] = json.load(response)
    assert entry["path"] == TEXT_PATH
    assert entry["body"]["input"]["messages"][0]["content"] == "/sim tokens=1"
    urllib.request.urlopen(server.base_url.removesuffix("/api/v1") + "/__reset", b"", timeout=PATIENCE_SECONDS).close()
    assert server.requests() == []


def test_tokens_keep_to_their_deadlines(server: Server) -> None:
    def timed() -> float:
        began = time.perf_counter()
        post(server, "/sim tokens=300 delay=2", STREAMED)
        return time.perf_counter() - began

    # Relative sleeps would always take more. A busy machine may take more too, but not every time.
    assert 0.6 <= next((took for took in (timed() for _ in range(10)) if took < 1.2), 99) < 1.2
