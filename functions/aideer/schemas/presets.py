"""Presets: prompt messages and the model's parameters (ranges: Alibaba Model Studio, "DashScope API reference")."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from aideer.schemas.strings import Body, Description, Omitted, Prompt, Title

MESSAGES_BYTES = 100 * 1024
SCHEMA_BYTES = 16 * 1024
SCHEMA_DEPTH = 32
Visibility = Literal["private", "unlisted", "public"]
OrderBy = Literal["create_time", "update_time", "title"]
Order = Literal["asc", "desc"]
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _plain_json(schema: dict[str, Any]) -> dict[str, Any]:
    # The provider gets the schema unchanged. So refuse values that no encoder takes, and nesting that parsers do not follow.
    try:
        size = (
            len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
            if _is_flat(schema, SCHEMA_DEPTH)
            else 0
        )
    except ValueError:  # NaN, or half of a surrogate pair
        size = 0
    if not 0 < size <= SCHEMA_BYTES:
        raise PydanticCustomError("schema_invalid", "A JSON schema is plain JSON of at most 16 KB, 32 levels deep.")
    return schema


def _is_flat(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(part, levels - 1) for part in inner)


class JsonSchema(Body):
    """The schema that the answer follows."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Omitted[Description] = None
    schema_: Annotated[dict[str, Any], Field(alias="schema"), AfterValidator(_plain_json)]
    strict: Omitted[bool] = None


class JsonObjectFormat(Body):
    """The answer is a JSON object. One of the preset's messages must contain the word JSON."""

    type: Literal["json_object"]


class JsonSchemaFormat(Body):
    """The answer is JSON that follows this schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class SearchOptions(Body):
    """Options of the provider's search. An answer always has its sources."""

    forced_search: Annotated[Omitted[bool], Field(description="Search always, and not where the model sees fit.")] = (
        None
    )
    search_strategy: Annotated[
        Omitted[Literal["turbo", "max"]],
        Field(description="turbo if not given. It decides the fee."),
    ] = None
    enable_citation: Omitted[bool] = None
    citation_format: Omitted[Literal["[<number>]", "[ref_<number>]"]] = None


class Parameters(Body):
    """The parameters of the model call. A parameter that you omit has the model's own default, with three exceptions.

    Without `max_tokens`, it is 2,048. Without `enable_thinking`, the model does not think, unless it always does. Without
    `thinking_budget` and `reasoning_effort`, the budget is 4,096, or the model's maximum if that is less. `GET /prices` lists the
    values that each model accepts. Any other value is refused with its own error code.
    """

    model: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    seed: Annotated[Omitted[int], Field(ge=0, le=2**63 - 1)] = None
    max_tokens: Annotated[Omitted[int], Field(ge=1, le=10**6)] = None
    top_p: Annotated[Omitted[float], Field(gt=0, le=1, allow_inf_nan=False)] = None
    top_k: Annotated[Omitted[int], Field(ge=0, le=100)] = None
    repetition_penalty: Annotated[Omitted[float], Field(gt=0, le=10, allow_inf_nan=False)] = None
    presence_penalty: Annotated[Omitted[float], Field(ge=-2, le=2, allow_inf_nan=False)] = None
    temperature: Annotated[Omitted[float], Field(ge=0, lt=2, allow_inf_nan=False)] = None
    stop: Omitted[_Stop | Annotated[list[_Stop], Field(min_length=1, max_length=4)]] = None
    enable_search: Omitted[bool] = None
    search_options: Omitted[SearchOptions] = None
    enable_thinking: Omitted[bool] = None
    thinking_budget: Annotated[Omitted[int], Field(ge=1, le=10**6, description="At most the model's max_thinking.")] = (
        None
    )
    reasoning_effort: Omitted[Literal["minimal", "low", "medium", "high", "xhigh", "max"]] = None
    response_format: Annotated[Omitted[JsonObjectFormat | JsonSchemaFormat], Field(discriminator="type")] = None

    @classmethod
    def stored(cls, values: dict[str, Any]) -> "Parameters":
        """Return stored parameters as they were accepted. Rules that changed since then must not make them unreadable."""
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
    """A message of the prompt. With `visibility` false, only the preset's owner and admins see it."""

    role: Literal["user", "assistant", "system"]
    type: Literal["text", "image"] = "text"
    content: Prompt
    visibility: bool = True


def _require_size(messages: list[PresetMessage]) -> list[PresetMessage]:
    if sum(len(message.content.encode()) for message in messages) > MESSAGES_BYTES:
        raise PydanticCustomError("messages_too_long", "All messages together may have 100 KB of UTF-8.")
    return messages


PresetMessages = Annotated[list[PresetMessage], Field(max_length=50), AfterValidator(_require_size)]


class NewPreset(Body):
    """A preset to create."""

    title: Title
    description: Description | None = None
    type: Literal["chat_generation"] = "chat_generation"
    visibility: Visibility = "private"
    parameters: Parameters
    messages: Annotated[PresetMessages, Field(default_factory=list)]


class PresetChange(Body):
    """Changes of a preset. A field that you omit or set to null stays as it is, except that a null `description` removes it.

    New `parameters` or `messages` replace all of the old ones.
    """

    title: Title | None = None
    description: Annotated[Description | None, Field(description="null removes it.")] = None
    type: Literal["chat_generation"] | None = None
    visibility: Visibility | None = None
    parameters: Parameters | None = None
    messages: PresetMessages | None = None


class PresetSummaryResponse(BaseModel):
    """A preset without its messages."""

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


class PresetResponse(PresetSummaryResponse):
    """A preset, with the messages that its reader may see."""

    messages: list[PresetMessage]
