"""The faults that the simulated DashScope can produce on request, and its own refusals."""

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_QUOTA = "Allocated quota exceeded, please increase your quota limit."
_INPUT = "Input data may contain inappropriate content."
_OUTPUT = "Output data may contain inappropriate content."
_BUSY = "Too many requests. Your requests are being throttled due to system capacity limits. Please try again later."
URL_ERROR = (400, "InvalidParameter", "url error, please check url！")

REFUSALS = {
    "throttle": (429, "Throttling", "Requests throttling triggered."),
    "throttle_twice": (429, "Throttling", "Requests throttling triggered."),
    "ratequota": (429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    "allocationquota": (429, "Throttling.AllocationQuota", _QUOTA),
    "busy": (503, "ModelServingError", _BUSY),
    "badkey": (401, "InvalidApiKey", "Invalid API-key provided."),
    "inspect_in": (400, "DataInspectionFailed", _INPUT),
    "arrearage": (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
    "overdue": (429, "PostpaidBillOverdue", "The postpaid bill is overdue."),
    "context": (400, "InvalidParameter", "Range of input length should be [1, 30720]"),
    "image": (
        400,
        "InvalidParameter.DataInspection",
        "Unable to download the media resource during the data inspection process.",
    ),
    "url": URL_ERROR,
    "retired": (404, "ModelNotFound", "Model not exist."),
    "budget": (
        400,
        "InvalidParameter",
        "The thinking_budget parameter must be a positive integer and not greater than 1024",
    ),
    "timeout": (500, "ResponseTimeout", "Response timeout!"),
    "internal": (500, "InternalError.Algo", "inference internal error."),
}
"""Refusals before any event. NAME_sse gives the same refusal with an SSE body, as production sometimes does. NAME_200 gives it in
a JSON body with status 200.
"""
EVENT_ERRORS = {
    "inspect_mid": (400, "DataInspectionFailed", _OUTPUT),
    "throttle_mid": (429, "Throttling.AllocationQuota", _QUOTA),
    "overdue_mid": (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
    "internal_mid": (500, "InternalError.Algo", "inference internal error."),
}
"""Errors within a stream, sent as `event:error`. NAME_plain sends the same error as a plain data line, which is the other shape.
"""
FAILS = frozenset(
    {
        *REFUSALS,
        *(f"{name}_{shape}" for name in REFUSALS if name != "throttle_twice" for shape in ("sse", "200")),
        *EVENT_ERRORS,
        *(f"{name}_plain" for name in EVENT_ERRORS),
        "drop_before",  # a reset instead of an answer
        "drop_mid",  # a reset
        "fin_mid",  # an orderly close inside the chunked body
        "truncate",  # a well-formed end without a finish_reason
        "badjson",
        "bigline",  # one event of more than 200 KB
        "huge",  # an answer of more than 300 KB
        "stall",  # silence
        "stall_keepalive",  # only comments
        "stall_empty",  # only events without text and with the same usage
        "heartbeat",  # comment lines between the events, which are no fault
        "http503_html",
        "no_usage",
        "empty",
        "tools",
    }
)
TAILS = frozenset(
    {"done", "null", "empty", "error", "filter", "garbage", "text", "reset", "silence", "more_usage", "late_usage"}
)
USAGES = frozenset({"none", "shrinking", "partial", "garbage"})
FORMS = frozenset({"bom", "crlf", "cr", "split"})
LATE_SECONDS = 1.5

RETIRED = frozenset({"qwen-turbo", "qwq-plus"})
"""Retired models, since 2026-10-10, by the provider's decommissioning notice."""
_KNOWN = re.compile(r"(qwen|qwq|qvq|deepseek-|kimi-|glm-)")
_MULTIMODAL = re.compile(r"qwen3\.[5-9]|qwen-?vl|qwen\d-vl|qvq|.*omni")
_BUDGETS = (
    (re.compile(r"deepseek|kimi|glm"), 32_768),
    (re.compile(r"qwen3\.6"), 131_072),
    (re.compile(r"qwen3\.[78]"), 262_144),
    (re.compile(r""), 81_920),
)
"""The longest chain of thought of each model in tokens, by the provider's model list."""
_RANGES: dict[str, Callable[[float], bool]] = {
    "temperature": lambda value: 0 <= value < 2,
    "top_p": lambda value: 0 < value <= 1,
    "top_k": lambda value: value >= 0,
    "presence_penalty": lambda value: -2 <= value <= 2,
    "repetition_penalty": lambda value: value > 0,
    "seed": lambda value: 0 <= value < 2**63,
    "max_tokens": lambda value: value >= 1,
    "max_completion_tokens": lambda value: value >= 1,
}


@dataclass(slots=True)
class Scenario:
    """The settings of a directive, and the message without it."""

    text: str
    tokens: int | None = None
    delay: float | None = None
    think: int | None = None
    fail: str = ""
    at: int = 3
    cut_emoji: bool = False
    details: bool = False
    echo: bool = False
    search: int | None = None
    cached: int = 0
    tail: str = ""
    usage: str = ""
    form: str = ""
    tool: str = ""

    @classmethod
    def read(cls, text: str) -> "Scenario":
        scenario = cls(text)
        start = text.find("/sim ")
        if start < 0:
            return scenario
        line, newline, below = text[start + 5 :].partition("\n")
        said = [word for word in line.split() if not scenario._obey(word)]
        scenario.text = f"{text[:start]}{' '.join(said)}{newline}{below}".strip()
        return scenario

    def _obey(self, word: str) -> bool:
        match word.split("=", 1):
            case [("tokens" | "think" | "at" | "search" | "cached") as name, value] if value.isdecimal():
                setattr(self, name, int(value))
            case ["delay", value] if re.fullmatch(r"\d+(\.\d+)?", value):
                self.delay = float(value)
            case ["fail", value] if value in FAILS:
                self.fail = value
            case ["tail", value] if value in TAILS:
                self.tail = value
            case ["usage", value] if value in USAGES:
                self.usage = value
            case ["form", value] if value in FORMS:
                self.form = value
            case ["tool", value] if re.fullmatch(r"[\w-]+", value):
                self.tool = value
            case [("cut_emoji" | "details" | "echo") as name]:
                setattr(self, name, True)
            case ["search"]:
                self.search = 3
            case ["filter"]:
                self.fail = "inspect_mid"
            case _:
                return False
        return True


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message of either endpoint."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def images_of(message: dict[str, Any]) -> int:
    """Return the number of images in a message."""
    content = message.get("content")
    return sum("image" in part for part in content if isinstance(part, dict)) if isinstance(content, list) else 0


def thinks(model: str, parameters: dict[str, Any], scenario: Scenario) -> bool:
    """Return whether this call is answered with reasoning. Some models think unless the call forbids it."""
    wanted = parameters.get("enable_thinking")
    unasked = scenario.think is not None or model.startswith(("qwq", "qwen3.8-max"))
    return bool(wanted) or (wanted is None and unasked)


def refusal(
    model: Any, messages: Any, parameters: dict[str, Any], *, multimodal: bool, stream: bool, retired: frozenset[str]
) -> tuple[int, str, str] | None:
    """Return (status, code, message) of a call that DashScope refuses, or None."""
    if not isinstance(model, str) or not model:
        return (
            400,
            "InvalidParameter",
            "Required parameter(model) missing or invalid, please check the request parameters.",
        )
    if model in retired or not _KNOWN.match(model):
        return REFUSALS["retired"]
    if multimodal != bool(_MULTIMODAL.match(model)):
        return URL_ERROR
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return 400, "InvalidParameter", "Required body invalid, please check the request body format."
    if message := _of_messages(messages, multimodal=multimodal) or _of_parameters(
        model, messages, parameters, stream=stream
    ):
        return 400, "InvalidParameter", message
    return None


def _of_messages(messages: list[dict[str, Any]], *, multimodal: bool) -> str:
    for message in messages:
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            return "Role must be in [user, system, assistant, tool]"
        if not isinstance(message.get("content"), list if multimodal else str):
            return f"Input should be a valid {'list' if multimodal else 'string'}: input.messages.content"
        for part in message["content"] if multimodal else []:
            if not isinstance(part, dict) or not part.keys() <= {"text", "image"}:
                return "Input should be a valid part: input.messages.content"
            if not re.match(r"https?://|oss://|data:image/[\w.+-]+;base64,", part.get("image", "https://")):
                return "The provided URL does not appear to be valid. Ensure it is correctly formatted."
    return ""


def _of_parameters(model: str, messages: list[dict[str, Any]], parameters: dict[str, Any], *, stream: bool) -> str:
    prefix = "<400> InternalError.Algo.InvalidParameter: "
    for name, allowed in _RANGES.items():
        value = parameters.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not allowed(value)):
            return f"{prefix}{name} is out of its range."
    budget = parameters.get("thinking_budget")
    most = next(tokens for pattern, tokens in _BUDGETS if pattern.match(model))
    if budget is not None and (type(budget) is not int or not 0 < budget <= most):
        return f"{prefix}The thinking_budget parameter must be a positive integer and not greater than {most}"
    thinking = parameters.get("enable_thinking")
    if thinking and not (stream and parameters.get("incremental_output")):
        return f'{prefix}The incremental_output parameter must be "true" when enable_thinking is true'
    if message := _of_tools(parameters.get("tools"), parameters.get("tool_choice")):
        return f"{prefix}{message}"
    kind = parameters["response_format"].get("type") if isinstance(parameters.get("response_format"), dict) else None
    if kind not in (None, "text", "json_object", "json_schema"):
        return f"{prefix}Unknown format of response_format."
    if kind in ("json_object", "json_schema") and thinking:
        return f"{prefix}Json mode response is not supported when enable_thinking is true"
    if kind == "json_object" and not any("json" in text_of(message).lower() for message in messages):
        return f"{prefix}'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    return ""


def _of_tools(tools: Any, choice: Any) -> str:
    for tool in tools or ():
        if not isinstance(tool, dict) or tool.get("type") != "function" or not tool.get("function", {}).get("name"):
            return "Input should be a valid tool: parameters.tools"
    if choice not in (None, "auto", "none") and not (isinstance(choice, dict) and choice.get("type") == "function"):
        return "tool_choice is one of the strings that should be ['none', 'auto']"
    return ""


def called_tool(
    scenario: Scenario, messages: list[dict[str, Any]], parameters: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the function that the answer calls, or None. It is the one that tool_choice names, or the directive `tool`.

    The answer to a tool's result calls none.
    """
    choice = parameters.get("tool_choice")
    named = choice["function"]["name"] if isinstance(choice, dict) else scenario.tool
    if choice == "none" or messages[-1]["role"] == "tool":
        return None
    functions = [tool["function"] for tool in parameters.get("tools") or ()]
    return next((function for function in functions if function["name"] == named), None)


def instance_of(schema: Any, text: str) -> Any:
    """Return a value that a JSON schema allows, for its simple types. The text fills string values."""
    if not isinstance(schema, dict):
        return text
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: instance_of(value, text) for name, value in (schema.get("properties") or {}).items()}
        case "array":
            return [instance_of(schema.get("items"), text)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
    return text


def call_pieces(function: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """Return the pieces of a call of this function, as DashScope streams them: later ones have an empty id and no name."""
    arguments = json.dumps(instance_of(function.get("parameters"), text.strip()), ensure_ascii=False)
    first = {"name": function["name"], "arguments": ""}
    pieces = [{"index": 0, "id": f"call_{zlib.crc32(text.encode()):08x}", "type": "function", "function": first}]
    for start in range(0, len(arguments), 12):
        rest = {"arguments": arguments[start : start + 12]}
        pieces.append({"index": 0, "id": "", "type": "function", "function": rest})
    return pieces


def as_json(text: str, response_format: Any) -> str:
    """Return the answer as JSON if the call asked for that."""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_object":
        return json.dumps({"answer": text.strip()}, ensure_ascii=False)
    if kind == "json_schema":
        schema = (response_format.get("json_schema") or {}).get("schema")
        return json.dumps(instance_of(schema, text.strip()), ensure_ascii=False)
    return text
