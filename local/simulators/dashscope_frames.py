"""The events of one simulated answer, and the provider's bill for it."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from local.simulators.dashscope_scenarios import Scenario, images_of, text_of

SEARCH_TOKENS = 900
"""Tokens that search results add to the input."""
IMAGE_TOKENS = 64
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Bill:
    """The provider's charge for one request: its input from acceptance on, and the generated output until the end."""

    request_id: str
    accepted: bool = False
    """Whether status 200 was sent."""
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    searches: int = 0
    open: bool = True
    """Whether the answer is still being made."""


@dataclass(slots=True)
class Frames:
    """Builds the events of one answer from the text so far and the usage, which is cumulative."""

    parameters: dict[str, Any]
    messages: list[dict[str, Any]]
    scenario: Scenario
    bill: Bill
    multimodal: bool
    searched: bool
    _content: str = ""
    _reasoning: str = ""
    _told: int = 0
    _calls: list[dict[str, Any]] = field(default_factory=list)
    _text_tokens: int = field(init=False)
    _image_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        # English and Chinese have about 5 bytes a token. Count slightly fewer tokens, so that a hold by counted tokens also
        # suffices here.
        self._text_tokens = sum(4 + len(text_of(message).encode()) // 6 for message in self.messages)
        self._text_tokens += SEARCH_TOKENS if self.searched else 0
        self._image_tokens = IMAGE_TOKENS * sum(map(images_of, self.messages))

    def accept(self) -> None:
        """Begin to charge, because status 200 is about to be sent."""
        bill = self.bill
        bill.accepted, bill.input_tokens = True, self._text_tokens + self._image_tokens
        bill.cached_tokens = min(self.scenario.cached, bill.input_tokens)
        bill.searches = int(self.searched)

    def add(self, token: str, *, is_reasoning: bool) -> dict[str, Any]:
        """Return the event of one more token."""
        self.bill.output_tokens += 1
        if is_reasoning:
            self.bill.reasoning_tokens += 1
            self._reasoning += token
        else:
            self._content += token
        if self.parameters.get("incremental_output"):
            return self._body("" if is_reasoning else token, token if is_reasoning else "", "null")
        return self._body(self._content, self._reasoning, "null")

    def end(self, finish_reason: str) -> dict[str, Any]:
        """Return the event with the finish_reason."""
        if not self.parameters.get("incremental_output"):
            return self.whole(finish_reason)
        return self._body("", "", finish_reason)

    def whole(self, finish_reason: str) -> dict[str, Any]:
        """Return the whole answer in one event, as for a call without streaming."""
        return self._body(self._content, self._reasoning, finish_reason)

    def nothing(self) -> dict[str, Any]:
        """Return an event that adds no text."""
        return self._body("", "", "null")

    def tool_calls(self) -> dict[str, Any]:
        """Return an event that calls a tool which the request did not offer."""
        body = self._body("", "", "tool_calls")
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        body["output"]["choices"][0]["message"]["tool_calls"] = [call]
        return body

    def call(self, piece: dict[str, Any]) -> dict[str, Any]:
        """Return the event of one more piece of a call of a tool."""
        self.bill.output_tokens += 1
        self._calls.append(piece)
        body = self._body("", "", "null")
        body["output"]["choices"][0]["message"]["tool_calls"] = [piece]
        return body

    def error(self, code: str, message: str) -> dict[str, Any]:
        """Return an error in DashScope's words."""
        return {"code": code, "message": message, "request_id": self.bill.request_id}

    def usage_alone(self, *, extra_tokens: int = 0) -> dict[str, Any]:
        """Return an event with the usage and without output."""
        self.bill.output_tokens += extra_tokens
        return {"output": None, "usage": self._counts(), "request_id": self.bill.request_id}

    def _body(self, content: str, reasoning: str, finish_reason: str) -> dict[str, Any]:
        output: dict[str, Any]
        if not self.multimodal and self.parameters.get("result_format") != "message":
            output = {"finish_reason": finish_reason, "text": content}
        else:
            parts = [{"text": content}] if content else []
            message = {"role": "assistant", "content": parts if self.multimodal else content}
            if self.bill.reasoning_tokens:
                message["reasoning_content"] = reasoning
            output = {"choices": [{"message": message, "finish_reason": finish_reason}]}
        if self.searched:
            output["search_info"] = {"search_results": [] if self._told else self._results()}
        self._told += 1
        body = {"output": output, "request_id": self.bill.request_id}
        if (usage := self._usage(finish_reason)) is not None:
            body["usage"] = usage
        return body

    def _results(self) -> list[dict[str, Any]]:
        options = self.parameters.get("search_options")
        if self.scenario.search is None and not (isinstance(options, dict) and options.get("enable_source")):
            return []
        return [
            {
                "site_name": "示例网站" if n % 2 else "Example",
                "icon": "https://www.example.com/favicon.ico",
                "index": n,
                "title": f"示例网页 {n}" if n % 2 else f"Example page {n}",
                "url": f"https://www.example.com/pages/{n}",
            }
            for n in range(1, (3 if self.scenario.search is None else self.scenario.search) + 1)
        ]

    def _usage(self, finish_reason: str) -> dict[str, Any] | None:
        ended = finish_reason != "null"
        match self.scenario.usage:
            case "none":
                return None
            case "shrinking" if ended:
                return {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
            case "partial":
                counts = self._counts()
                return (
                    {"input_tokens": counts["input_tokens"]}
                    if self._told == 1
                    else {"output_tokens": counts["output_tokens"]}
                )
            case "garbage" if ended:
                return {"input_tokens": "many", "output_tokens": -1, "prompt_tokens_details": 7, "plugins": []}
        if self.scenario.tail == "late_usage":
            return {}
        return self._counts()

    def _counts(self) -> dict[str, Any]:
        bill = self.bill
        usage: dict[str, Any] = {
            "input_tokens": bill.input_tokens,
            "output_tokens": bill.output_tokens,
            "total_tokens": bill.input_tokens + bill.output_tokens,
            "prompt_tokens_details": {"cached_tokens": bill.cached_tokens},
        }
        if self.multimodal:
            usage["image_tokens"] = self._image_tokens
            usage["input_tokens_details"] = {"text_tokens": self._text_tokens, "image_tokens": self._image_tokens}
            spoken = bill.output_tokens - bill.reasoning_tokens
            usage["output_tokens_details"] = {"text_tokens": spoken, "reasoning_tokens": bill.reasoning_tokens}
        elif bill.reasoning_tokens and self.scenario.details:
            usage["output_tokens_details"] = {"reasoning_tokens": bill.reasoning_tokens}
        if bill.searches:
            usage["plugins"] = {"search": {"count": bill.searches, "strategy": "turbo"}}
        return usage


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


def dumps(value: object) -> str:
    """Return JSON as DashScope writes it. Half a surrogate pair has no UTF-8, so JSON must escape it."""
    text = _encode(value)
    return _encode_ascii(value) if _HALF_PAIR.search(text) else text


def event(number: int, body: dict[str, Any], status: int = 200, *, form: str = "", plain: bool = False) -> bytes:
    """Return one event. `plain` gives an error the shape of any other event."""
    kind = "result" if status == 200 or plain else "error"
    data = dumps(body)
    if form == "split":
        half = len(data) // 2
        data = f"{data[:half]}\ndata:{data[half:]}"
    text = f"id:{number}\nevent:{kind}\n:HTTP_STATUS/{200 if plain else status}\ndata:{data}\n\n"
    if form in ("crlf", "cr"):
        text = text.replace("\n", "\r\n" if form == "crlf" else "\r")
    return text.encode()
