"""Presets: prompt messages and the model's parameters (ranges: Alibaba Model Studio, "DashScope API reference")."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from aideer.contract.strings import Body, Description, Prompt, Title

MESSAGES_BYTES = 100 * 1024
PresetId = Annotated[str, Path(min_length=1, max_length=64)]
Visibility = Literal["private", "unlisted", "public"]
OrderBy = Literal["create_time", "update_time", "title"]
Order = Literal["asc", "desc"]
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _is_none(value: object) -> bool:
    return value is None


class Parameters(Body):
    """What the model is called with; what is not given is the model's own default."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    seed: Annotated[int | None, Field(ge=0, le=2**31 - 1, exclude_if=_is_none)] = None
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
    enable_thinking: Annotated[bool | None, Field(exclude_if=_is_none)] = None
    thinking_budget: Annotated[int | None, Field(ge=1, le=81_920, exclude_if=_is_none)] = None


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
    """A change of a preset: what is not given, or null, stays; only the description can be taken away.

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
