"""What each client does, and how its program tells the result. It runs in .venv/clients, so it needs the standard library only.

A program gives `run` a function for each case of CASES. The function returns what the client was told of the usage, as (input,
output) tokens of each answer, or None where the client tells none. It raises if the client does not do what the case promises.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

Told = Iterable[tuple[int, int]] | None

CASES = {
    "models": "list models",
    "ask": "ask",
    "stream": "stream",
    "leave": "leave a stream",
    "tools": "tools, there and back",
    "image": "image",
    "json": "JSON answer",
    "broken": "answer that fails in the middle",
    "poor": "no credits left",
    "wrong_key": "bad key",
    "limited": "rate limit, then a retry",
    "slow": "90 s without streaming, through a proxy that gives up at 60 s",
}
"""Every case, with its name in the table of docs/clients.md."""
ANSWERS: dict[str, int | None] = {
    "models": 0,
    "ask": 1,
    "stream": 1,
    "leave": 1,
    "tools": 2,
    "image": 1,
    "json": 1,
    "broken": 0,
    "poor": 0,
}
ANSWERS |= {"wrong_key": 0, "limited": None, "slow": 1}
"""How many answers the ledger must have after each case. None: as many as the client was told."""
CHAT_CASES = {
    "ask": "ask",
    "go_on": "ask further",
    "stream": "reasoning",
    "resume": "stream that is cut, then resumed",
    "reload": "page that is loaded anew while an answer is made",
    "stop": "stop",
    "leave": "leave a stream",
    "again": "regenerate",
    "edit": "edit a message",
    "list": "open a chat of `GET /chats`",
    "image": "image",
    "broken": "answer that fails in the middle",
    "poor": "no credits left",
    "wrong_key": "bad token",
    "limited": "rate limit, then again",
}
"""Every case of the clients of /ui/chat, with its name in their table."""
CHAT_ANSWERS: dict[str, int | None] = {
    **dict.fromkeys(("ask", "stream", "resume", "reload", "stop", "leave", "image"), 1),
    **dict.fromkeys(("go_on", "again"), 2),
    **dict.fromkeys(("edit", "list"), 3),
    **dict.fromkeys(("broken", "poor", "wrong_key"), 0),
    "limited": None,
}
"""How many answers the ledger must have after each of them, as in ANSWERS."""
LIMIT = "answer=3/20"
"""The rate limit of the stack, for one user: the fourth answer within twenty seconds is refused."""
MOST_ASKS = 20
"""A client that is not refused within so many asks will not be."""
SLOW = "/sim tokens=90 delay=1000"
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
VISION, MODEL, DEAR_MODEL = "qwen3.5-plus", "qwen-plus", "qwen-max"
"""In the case `poor`, the key may spend one credit, which pays for no answer of the dear model."""
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL_TOOL = "/sim tool=get_weather Peking 鹿"
FAIL = "/sim tokens=9 fail=internal_mid at=4"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


class Door(NamedTuple):
    """What a client needs in one case."""

    base_url: str
    key: str


def run(cases: dict[str, Callable[[Door], Told]]) -> None:
    """Do the cases that the arguments name, and print the result of each as a line of JSON.

    The arguments are the base URL, the one of the slow case, and `case=key` for each case. The slow case runs beside the others.
    """
    base_url, slow_url, *pairs = sys.argv[1:]
    keys = dict(pair.split("=", 1) for pair in pairs)
    with ThreadPoolExecutor(1) as beside:
        slow = beside.submit(_do, cases, "slow", Door(slow_url, keys.pop("slow"))) if "slow" in keys else None
        for name, key in keys.items():
            print(_do(cases, name, Door(base_url, key)), flush=True)
        if slow:
            print(slow.result(), flush=True)


def _do(cases: dict[str, Callable[[Door], Told]], name: str, door: Door) -> str:
    result: dict[str, Any] = {"case": name, "told": None, "error": None}
    if name not in cases:
        result["error"] = "not offered"
    else:
        try:
            told = cases[name](door)
            result["told"] = None if told is None else [list(each) for each in told]
        except Exception:
            result["error"] = traceback.format_exc(limit=-3)
    return json.dumps(result)


def require(condition: object, what: object) -> None:
    """Raise unless a promise is kept. A plain assert could be switched off."""
    if not condition:
        raise AssertionError(what)
