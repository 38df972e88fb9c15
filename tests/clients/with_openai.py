"""openai-python, in the cases of cases.py."""

import json

import openai
from cases import (
    CALL_TOOL,
    DEAR_MODEL,
    FAIL,
    MODEL,
    MOST_ASKS,
    PIXEL,
    SCHEMA,
    SLOW,
    TOOL,
    VISION,
    Door,
    Told,
    require,
    run,
)


def _client(door: Door, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=door.base_url, api_key=door.key, max_retries=retries, timeout=300)


def _say(text: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


def _told(answer) -> tuple[int, int]:
    return answer.usage.prompt_tokens, answer.usage.completion_tokens


def models(door: Door) -> Told:
    client = _client(door)
    listed = [model.id for model in client.models.list()]
    require(MODEL in listed, listed)
    require(client.models.retrieve(MODEL).owned_by == "aideer", "one model")
    return []


def ask(door: Door) -> Told:
    answer = _client(door).chat.completions.create(model=MODEL, messages=_say("Hello"), max_completion_tokens=50)
    require(answer.choices[0].message.content, answer)
    require(answer.choices[0].finish_reason in ("stop", "length"), answer)
    require(answer.usage.aideer["credits"] > 0, answer)
    return [_told(answer)]


def stream(door: Door) -> Told:
    text, reasoning, last = "", "", None
    chunks = _client(door).chat.completions.create(
        model=MODEL,
        messages=_say("/sim tokens=12 think=5 What is a deer? 🦌"),
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"enable_thinking": True},
    )
    for chunk in chunks:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            reasoning += getattr(chunk.choices[0].delta, "reasoning_content", None) or ""
        last = chunk
    require(text and reasoning, (text, reasoning))
    require(last.usage, "usage")
    return [_told(last)]


def leave(door: Door) -> Told:
    chunks = _client(door).chat.completions.create(model=MODEL, messages=_say("/sim tokens=20 delay=50"), stream=True)
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    chunks.close()
    return None


def tools(door: Door) -> Told:
    client, said = _client(door), _say(CALL_TOOL)
    with client.chat.completions.stream(
        model=MODEL, messages=said, tools=[TOOL], stream_options={"include_usage": True}
    ) as events:
        for _ in events:
            pass
        first = events.get_final_completion()
    message = first.choices[0].message
    require(first.choices[0].finish_reason == "tool_calls", first)
    [call] = message.tool_calls
    require(json.loads(call.function.arguments) == {"city": "Peking 鹿"}, call)
    called = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": call.function.arguments},
    }
    said += [
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
    ]
    second = client.chat.completions.create(model=MODEL, messages=said, tools=[TOOL])
    require(second.choices[0].message.content, second)
    return [_told(first), _told(second)]


def image(door: Door) -> Told:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = _client(door).chat.completions.create(model=VISION, messages=[{"role": "user", "content": parts}])
    require(answer.choices[0].message.content, answer)
    return [_told(answer)]


def as_json(door: Door) -> Told:
    form = {"type": "json_schema", "json_schema": {"name": "count", "schema": SCHEMA, "strict": True}}
    answer = _client(door).chat.completions.create(model=MODEL, messages=_say("Count."), response_format=form)
    require(json.loads(answer.choices[0].message.content) == {"n": 1}, answer)
    return [_told(answer)]


def broken(door: Door) -> Told:
    text = ""
    try:
        for chunk in _client(door).chat.completions.create(model=MODEL, messages=_say(FAIL), stream=True):
            text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        require(text, "some text came first")
        require(error.code == "upstream_error", error)
        return []
    raise AssertionError("a cut text was taken for a whole one")


def poor(door: Door) -> Told:
    try:
        _client(door, 2).chat.completions.create(model=DEAR_MODEL, messages=_say("Hello"))
    except openai.APIStatusError as error:
        require((error.status_code, error.code) == (402, "insufficient_credits"), error)
        return []
    raise AssertionError("not refused")


def wrong_key(door: Door) -> Told:
    try:
        _client(door._replace(key="sk-wrong")).models.list()
    except openai.AuthenticationError as error:
        require(error.code == "invalid_api_key", error)
        return []
    raise AssertionError("not refused")


def limited(door: Door) -> Told:
    said, told = _say("/sim tokens=3 delay=0"), []
    for _ in range(MOST_ASKS):
        try:
            told.append(_told(_client(door).chat.completions.create(model=MODEL, messages=said)))
        except openai.RateLimitError as error:
            require(int(error.response.headers["retry-after"]) > 0, error)
            return [*told, _told(_client(door, 2).chat.completions.create(model=MODEL, messages=said))]
    raise AssertionError("not refused")


def slow(door: Door) -> Told:
    answer = _client(door).chat.completions.create(model=MODEL, messages=_say(SLOW), max_tokens=90)
    return [_told(answer)]


run(
    {
        "models": models,
        "ask": ask,
        "stream": stream,
        "leave": leave,
        "tools": tools,
        "image": image,
        "json": as_json,
        "broken": broken,
        "poor": poor,
        "wrong_key": wrong_key,
        "limited": limited,
        "slow": slow,
    }
)
