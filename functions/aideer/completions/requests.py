"""Requests of chat completions, as clients of OpenAI's API send them.

Clients differ in the fields that they send, so unknown fields are ignored. A field that changes what is answered is refused if it
cannot be followed (`n`, tools of a model without tools).
"""

import hashlib
import json
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from aideer.core.errors import BadRequest, Detail
from aideer.web import bodies

BODY_BYTES = 6 * 1024 * 1024
"""The most bytes of a body: what Lambda takes (AWS: "Lambda quotas", invocation payload)."""
TOOLS_BYTES = 128 * 1024
SCHEMA_BYTES = 64 * 1024
_LEVELS = 64


UNSUPPORTED = "unsupported_parameter"
"""The code for a field that cannot be followed."""


class FieldError(BadRequest):
    """A field of the request that cannot be used. Clients show its name, `param`."""

    def __init__(self, code: str, detail: str, param: str | None) -> None:
        super().__init__(code, detail)
        self.param = param


class _AtFirst(FailFast):
    """A list fails at its first wrong item. An error takes a kilobyte, and a body has room for two million wrong items."""

    __hash__ = object.__hash__  # unions compare the hashes of their members


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class ImageAddress(_Lenient):
    """The address of an image: https, or data:image/…;base64."""

    url: str


class Part(_Lenient):
    """A part of a message: {type: text, text} or {type: image_url, image_url: {url}}."""

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: ImageAddress | None = None


class CalledFunction(_Lenient):
    """What a model has called."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    arguments: str


class ToolCall(_Lenient):
    """A call of a tool in an earlier answer."""

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(_Lenient):
    """A message of the prompt."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], _AtFirst()] | None = None
    tool_calls: Annotated[list[ToolCall], _AtFirst()] | None = Field(default=None, max_length=128)
    tool_call_id: str | None = Field(default=None, min_length=1, max_length=256)


class Function(_Lenient):
    """A function that the model may call. `parameters` is a JSON schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(_Lenient):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class ChosenFunction(_Lenient):
    name: str


class ChosenTool(_Lenient):
    """The tool that the model must call."""

    type: Literal["function"]
    function: ChosenFunction


class JsonSchema(_Lenient):
    """The schema that the answer follows."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=1024)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Lenient):
    include_usage: bool | None = None


class CompletionRequest(_Lenient):
    """The body of POST /v1/chat/completions. DashScope's own parameters may stand beside OpenAI's."""

    model: str = Field(min_length=1, max_length=128)
    messages: Annotated[list[ChatMessage], _AtFirst()] = Field(min_length=1, max_length=4000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=100)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | Annotated[list[str], _AtFirst()] | None = None
    seed: int | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], _AtFirst()] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    enable_thinking: bool | None = None
    thinking_budget: int | None = Field(default=None, ge=1, le=10**6)
    enable_search: bool | None = None


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request as it came: what it wants, and the digest of its body, by which a retry is known."""

    wanted: CompletionRequest
    digest: str

    @property
    def includes_usage(self) -> bool:
        """Whether the stream's client wants a chunk with the usage."""
        options = self.wanted.stream_options
        return bool(options and options.include_usage)


async def read(stream: AsyncIterable[bytes]) -> IncomingRequest:
    """Read a request. Raises BadRequest with `param`, and TooLarge."""
    return parse(await bodies.read_stream(stream, BODY_BYTES))


def parse(raw: bytes) -> IncomingRequest:
    """Read a request from its body. Raises as `read` does."""
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant)
        # Half a surrogate pair is no text, and 1e999 is read as an infinity.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise FieldError("invalid_value", "The body cannot be read.", None) from None
    try:
        wanted = CompletionRequest.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        first = max(found, key=lambda each: len(each["loc"]))  # of a text or a list, the list's error says more
        field = ".".join(str(part) for part in first["loc"] if not _names_a_type(part)) or None
        raise invalid(field, first["msg"]) from None
    if wanted.n not in (None, 1):
        raise FieldError(UNSUPPORTED, "Only one answer at a time: `n` must be 1.", "n")
    stops = [wanted.stop] if isinstance(wanted.stop, str) else wanted.stop or []
    if len(stops) > 4 or any(not 0 < len(stop) <= 100 for stop in stops):
        raise invalid("stop", "1 to 4 texts of 1 to 100 characters")
    _limit("tools", wanted.tools and [tool.model_dump(exclude_none=True) for tool in wanted.tools], TOOLS_BYTES)
    form = wanted.response_format
    if form and form.type == "json_schema" and not (form.json_schema and form.json_schema.schema_):
        raise invalid("response_format.json_schema.schema", "Field required")
    _limit("response_format", form and form.json_schema and form.json_schema.schema_, SCHEMA_BYTES)
    return IncomingRequest(wanted, hashlib.sha256(raw).hexdigest())


def invalid(param: str | None, problem: str) -> FieldError:
    """Return the error for a field whose value cannot be used."""
    detail = Detail("`{field}` is not valid here: {problem}.", field=param or "body", problem=problem)
    return FieldError("invalid_value", detail, param)


def _names_a_type(part: int | str) -> bool:
    """Return whether this part of an error's place is a member of a union, which is no name in the request."""
    return part in ("str", ChosenTool.__name__) or str(part).endswith("]")


def _limit(param: str, value: Any, most: int) -> None:
    if not value:
        return
    if not _is_flat(value, _LEVELS) or len(json.dumps(value, ensure_ascii=False).encode()) > most:
        raise invalid(param, f"At most {most} bytes of JSON, {_LEVELS} levels deep")


def _is_flat(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(part, levels - 1) for part in inner)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are no JSON
