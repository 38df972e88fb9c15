"""LangChain's ChatOpenAI, in the cases of cases.py."""

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
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI


def _model(door: Door, model: str = MODEL, retries: int = 0, **more) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=door.base_url,
        api_key=door.key,
        model=model,
        max_retries=retries,
        timeout=300,
        stream_usage=True,
        **more,
    )


def _told(answer) -> tuple[int, int]:
    return answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]


def ask(door: Door) -> Told:
    answer = _model(door).invoke("Hello")
    require(answer.content, answer)
    return [_told(answer)]


def stream(door: Door) -> Told:
    whole = None
    for chunk in _model(door).stream("/sim tokens=12 What is a deer? 🦌"):
        whole = chunk if whole is None else whole + chunk
    require(whole.content, whole)
    require(whole.response_metadata["finish_reason"] == "stop", whole)
    return [_told(whole)]


def leave(door: Door) -> Told:
    for chunk in _model(door).stream("/sim tokens=20 delay=50"):
        if chunk.content:
            break
    return None


def tools(door: Door) -> Told:
    model = _model(door).bind_tools([TOOL])
    question = HumanMessage(CALL_TOOL)
    first = model.invoke([question])
    [call] = first.tool_calls
    require((call["name"], call["args"]) == ("get_weather", {"city": "Peking 鹿"}), call)
    second = model.invoke([question, first, ToolMessage("Rain.", tool_call_id=call["id"])])
    require(second.content, second)
    return [_told(first), _told(second)]


def image(door: Door) -> Told:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = _model(door, VISION).invoke([HumanMessage(parts)])
    require(answer.content, answer)
    return [_told(answer)]


def as_json(door: Door) -> Told:
    schema = {"title": "count", **SCHEMA}
    answer = _model(door).with_structured_output(schema, method="json_schema", include_raw=True).invoke("Count.")
    require(answer["parsed"] == {"n": 1}, answer)
    require(json.loads(answer["raw"].content) == {"n": 1}, answer)
    return [_told(answer["raw"])]


def broken(door: Door) -> Told:
    text = ""
    try:
        for chunk in _model(door).stream(FAIL):
            text += chunk.content
    except openai.APIError as error:
        require(text, "some text came first")
        require("provider failed" in str(error), error)
        return []
    raise AssertionError("a cut text was taken for a whole one")


def poor(door: Door) -> Told:
    try:
        _model(door, DEAR_MODEL, retries=2).invoke("Hello")
    except openai.APIStatusError as error:
        require(error.status_code == 402, error)
        return []
    raise AssertionError("not refused")


def wrong_key(door: Door) -> Told:
    try:
        _model(door._replace(key="sk-wrong")).invoke("Hello")
    except openai.AuthenticationError:
        return []
    raise AssertionError("not refused")


def limited(door: Door) -> Told:
    said, told = "/sim tokens=3 delay=0", []
    for _ in range(MOST_ASKS):
        try:
            told.append(_told(_model(door).invoke(said)))
        except openai.RateLimitError:
            return [*told, _told(_model(door, retries=2).invoke(said))]
    raise AssertionError("not refused")


def slow(door: Door) -> Told:
    return [_told(_model(door, max_tokens=90).invoke(SLOW))]


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
