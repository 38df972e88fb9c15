"""LiteLLM, which calls AIDeer as a provider that is compatible with OpenAI, in the cases of cases.py."""

import json

import litellm
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

litellm.suppress_debug_info = True


def _ask(door: Door, said, model: str = MODEL, retries: int = 0, **more):
    return litellm.completion(
        model=f"openai/{model}",
        api_base=door.base_url,
        api_key=door.key,
        messages=said,
        max_retries=retries,
        timeout=300,
        **more,
    )


def _say(text: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


def _told(answer) -> tuple[int, int]:
    return answer.usage.prompt_tokens, answer.usage.completion_tokens


def ask(door: Door) -> Told:
    answer = _ask(door, _say("Hello"))
    require(answer.choices[0].message.content, answer)
    return [_told(answer)]


def stream(door: Door) -> Told:
    said = _say("/sim tokens=12 think=5 What is a deer? 🦌")
    chunks = list(
        _ask(door, said, stream=True, stream_options={"include_usage": True}, extra_body={"enable_thinking": True})
    )
    whole = litellm.stream_chunk_builder(chunks)
    require(whole.choices[0].message.content, whole)
    require(whole.choices[0].message.reasoning_content, whole)
    require(whole.choices[0].finish_reason == "stop", whole)
    return [_told(whole)]


def leave(door: Door) -> Told:
    for chunk in _ask(door, _say("/sim tokens=20 delay=50"), stream=True):
        if chunk.choices[0].delta.content:
            break
    return None


def tools(door: Door) -> Told:
    said = _say(CALL_TOOL)
    chunks = list(_ask(door, said, tools=[TOOL], stream=True, stream_options={"include_usage": True}))
    first = litellm.stream_chunk_builder(chunks)
    message = first.choices[0].message
    [call] = message.tool_calls
    require(first.choices[0].finish_reason == "tool_calls", first)
    require(json.loads(call.function.arguments) == {"city": "Peking 鹿"}, call)
    said += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "Rain."}]
    second = _ask(door, said, tools=[TOOL])
    require(second.choices[0].message.content, second)
    return [_told(first), _told(second)]


def image(door: Door) -> Told:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = _ask(door, [{"role": "user", "content": parts}], VISION)
    require(answer.choices[0].message.content, answer)
    return [_told(answer)]


def as_json(door: Door) -> Told:
    form = {"type": "json_schema", "json_schema": {"name": "count", "schema": SCHEMA, "strict": True}}
    answer = _ask(door, _say("Count."), response_format=form)
    require(json.loads(answer.choices[0].message.content) == {"n": 1}, answer)
    return [_told(answer)]


def broken(door: Door) -> Told:
    text = ""
    try:
        for chunk in _ask(door, _say(FAIL), stream=True):
            text += chunk.choices[0].delta.content or ""
    except Exception as error:  # its class differs from version to version
        require(text, "some text came first")
        require("provider failed" in str(error), error)
        return []
    raise AssertionError("a cut text was taken for a whole one")


def poor(door: Door) -> Told:
    try:
        _ask(door, _say("Hello"), DEAR_MODEL, retries=2)
    except litellm.exceptions.APIError as error:
        require("credits" in str(error), error)
        return []
    raise AssertionError("not refused")


def wrong_key(door: Door) -> Told:
    try:
        _ask(door._replace(key="sk-wrong"), _say("Hello"))
    except litellm.exceptions.AuthenticationError:
        return []
    raise AssertionError("not refused")


def limited(door: Door) -> Told:
    said, told = _say("/sim tokens=3 delay=0"), []
    for _ in range(MOST_ASKS):
        try:
            told.append(_told(_ask(door, said)))
        except litellm.exceptions.RateLimitError:
            return [*told, _told(_ask(door, said, retries=2))]
    raise AssertionError("not refused")


def slow(door: Door) -> Told:
    return [_told(_ask(door, _say(SLOW), max_tokens=90))]


run(
    {
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
