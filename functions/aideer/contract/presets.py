"""Presets: prompt messages and the model's parameters (ranges: Alibaba Model Studio, "DashScope API reference")."""

import json
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from aideer.contract.strings import Body, Description, Prompt, Title

MESSAGES_BYTES = 100 * 1024
SCHEMA_BYTES = 16 * 1024
SCHEMA_DEPTH = 32
PresetId = Annotated[str, Path(min_length=1, max_length=64)]
Visibility = Literal["private", "unlisted", "public"]
OrderBy = Literal["create_time", "update_time", "title"]
Order = Literal["asc", "desc"]
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _is_none(value: object) -> bool:
    return value is None


def _plain_json(schema: dict[str, Any]) -> dict[str, Any]:
    # It is sent on as it is: what no encoder takes, or nests deeper than parsers go, must not get in.
    try:
        size = (
            len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
            if _is_flat(schema, SCHEMA_DEPTH)
            else 0
        )
    except ValueError:  # NaN, or half a surrogate pair
        size = 0
    if not 0 < size <= SCHEMA_BYTES:
        raise PydanticCustomError("schema_invalid", "A JSON schema is plain JSON of at most 16 KB, 32 levels deep.")
    return schema


def _is_flat(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(part, levels - 1) for part in inner)


class JsonSchema(Body):
    """The schema that an answer obeys."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[Description | None, Field(exclude_if=_is_none)] = None
    schema_: Annotated[dict[str, Any], Field(alias="schema"), AfterValidator(_plain_json)]
    strict: Annotated[bool | None, Field(exclude_if=_is_none)] = None


class JsonObjectFormat(Body):
    """The answer is a JSON object. One of the preset's messages must have the word JSON."""

    type: Literal["json_object"]


class JsonSchemaFormat(Body):
    """The answer is JSON of this schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class SearchOptions(Body):
    """How the provider searches. Sources always come back."""

    forced_search: Annotated[
        bool | None, Field(exclude_if=_is_none, description="Search always, and not where the model sees fit.")
    ] = None
    search_strategy: Annotated[
        Literal["turbo", "max"] | None,
        Field(exclude_if=_is_none, description="turbo if not given. It decides the fee."),
    ] = None
    enable_citation: Annotated[bool | None, Field(exclude_if=_is_none)] = None
    citation_format: Annotated[Literal["[<number>]", "[ref_<number>]"] | None, Field(exclude_if=_is_none)] = None


class Parameters(Body):
    """What the model is called with; what is not given is the model's own default.

    `GET /prices` says what each model takes: anything else is refused with a code of its own.
    """

    model: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    seed: Annotated[int | None, Field(ge=0, le=2**63 - 1, exclude_if=_is_none)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=10**6, exclude_if=_is_none)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False, exclude_if=_is_none)] = None
    top_k: Annotated[int | None, Field(ge=0, le=100, exclude_if=_is_none)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0, le=10, allow_inf_nan=False, exclude_if=_is_none)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2, allow_inf_nan=False, exclude_if=_is_none)] = None
    temperature: Annotated[float | None, Field(ge=0, lt=2, allow_inf_nan=False, exclude_if=_is_none)] = None
    stop: Annotated[
        _Stop | Annotated[list[_Stop], Field(min_length=1, max_length=4)] | None, Field(exclude_if=_is_none)
    ] = None
    enable_search: Annotated[bool | None, Field(exclude_if=_is_none)] = None
    search_options: Annotated[SearchOptions | None, Field(exclude_if=_is_none)] = None
    enable_thinking: Annotated[bool | None, Field(exclude_if=_is_none)] = None
    thinking_budget: Annotated[
        int | None, Field(ge=1, le=10**6, exclude_if=_is_none, description="At most the model's max_thinking.")
    ] = None
    reasoning_effort: Annotated[
        Literal["minimal", "low", "medium", "high", "xhigh", "max"] | None, Field(exclude_if=_is_none)
    ] = None
    response_format: Annotated[
        JsonObjectFormat | JsonSchemaFormat | None, Field(discriminator="type", exclude_if=_is_none)
    ] = None

    @classmethod
    def stored(cls, values: dict[str, Any]) -> "Parameters":
        """Return stored parameters as they were accepted: rules that have changed since must not make them unreadable."""
        parts: dict[str, Any] = {}
        if (options := values.get("search_options")) is not None:
            parts["search_options"] = SearchOptions.model_construct(**options)
        if (form := values.get("response_format")) is not None:
            parts["response_format"] = JsonObjectFormat.model_construct(**form)
            if (schema := form.get("json_schema")) is not None:
                schema = JsonSchema.model_construct(**schema)
                parts["response_format"] = JsonSchemaFormat.model_construct(type=form["type"], json_schema=schema)
        return cls.model_construct(**values | parts)


class PresetMessage(Body):
    """A message of the prompt. With `visibility` false, only the preset's owner and admins ever see it."""

    role: Literal["user", "assistant", "system"]
    type: Literal["text", "image"] = "text"
    content: Prompt
    visibility: bool = True


def _bounded(messages: list[PresetMessage]) -> list[PresetMessage]:
    if sum(len(message.content.encode()) for message in messages) > MESSAGES_BYTES:
        raise PydanticCustomError("messages_too_long", "All messages together may have 100 KB of UTF-8.")
    return messages


PresetMessages = Annotated[list[PresetMessage], Field(max_length=50), AfterValidator(_bounded)]


class NewPreset(Body):
    """A preset to be made."""

    title: Title
    description: Description | None = None
    type: Literal["chat_generation"] = "chat_generation"
    visibility: Visibility = "private"
    parameters: Parameters
    messages: Annotated[PresetMessages, Field(default_factory=list)]


class PresetChange(Body):
    """The changes of a preset. Fields that are left out (or null) stay; only a description can be removed.

    `parameters` and `messages` are replaced whole.
    """

    title: Title | None = None
    description: Annotated[Description | None, Field(description="null removes it.")] = None
    type: Literal["chat_generation"] | None = None
    visibility: Visibility | None = None
    parameters: Parameters | None = None
    messages: PresetMessages | None = None


class PresetSummary(BaseModel):
    """A preset, as it is listed."""

    id: str
    owner_id: str
    version: int
    title: str
    description: str | None
    type: str
    visibility: Visibility
    parameters: Parameters
    like_count: int
    create_time: str
    update_time: str


class Preset(PresetSummary):
    """A preset, with the messages that its reader may see."""

    messages: list[PresetMessage]
