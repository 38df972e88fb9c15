"""Requests and responses for chats and messages. messages.py checks the sizes that depend on stored data."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from aideer.data import models
from aideer.schemas.strings import Body, Omitted, Title
from aideer.schemas.tasks import Source, TaskUsage

CONTENT_BYTES = 100 * 1024
READERS_FIELDS = ("n", "role", "type", "content", "visibility", "create_time")
"""The fields of a message that readers of a shared chat see. Only the owner sees a new field until it is named here."""

OrderBy = Literal["create_time", "update_time", "title"]
Order = Literal["asc", "desc"]
Visibility = Literal["private", "shared"]
Role = Literal["user", "assistant", "system"]
Kind = Literal["text", "image"]
PresetId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


def _require_size(content: str) -> str:
    if len(content.encode()) > CONTENT_BYTES:
        raise PydanticCustomError("content_too_long", "A message can have at most 100 KB of UTF-8.")
    return content


class NewMessage(Body):
    """A message to be stored. With `visibility` false, readers of a shared chat do not see it.

    An image has the role `user` and an https URL as its content. The preset's model must accept images.
    """

    role: Role
    type: Kind = "text"
    content: Annotated[str, StringConstraints(min_length=1), AfterValidator(_require_size)]
    visibility: bool = True


class NewMessages(Body):
    """Messages to append."""

    messages: Annotated[list[NewMessage], Field(min_length=1, max_length=50)]


class NewChat(Body):
    """A chat to open on a preset."""

    preset_id: PresetId
    title: Title
    visibility: Visibility = "private"
    messages: Annotated[list[NewMessage], Field(max_length=50, default_factory=list)]


class PlacedMessage(Body):
    """A message of a replacement. With `n` it is a stored message, kept or edited. Without `n` it is a new message.

    Fields that only responses have are ignored, so that you can send back a message as you read it.
    """

    n: Annotated[int | None, Field(ge=1, le=2**53)] = None
    role: Role
    type: Kind = "text"
    content: Annotated[
        str,
        StringConstraints(max_length=10**7),  # any constraint will do: see strings.py
        Field(description="At most 100 KB of UTF-8, unless it is what is stored."),
    ]
    visibility: Annotated[bool | None, Field(description="If left out: as it was, and true for a new message.")] = None
    create_time: Annotated[Any, Field(description="Ignored.")] = None
    task_id: Annotated[Any, Field(description="Ignored.")] = None
    model: Annotated[Any, Field(description="Ignored.")] = None
    reasoning: Annotated[Any, Field(description="Ignored.")] = None
    finish_reason: Annotated[Any, Field(description="Ignored.")] = None
    usage: Annotated[Any, Field(description="Ignored.")] = None
    credits: Annotated[Any, Field(description="Ignored.")] = None
    sources: Annotated[Any, Field(description="Ignored.")] = None


class ChatChange(Body):
    """Changes of a chat. A field that you omit or set to null stays as it is."""

    title: Title | None = None
    visibility: Visibility | None = None
    preset_id: PresetId | None = None
    messages: Annotated[
        list[PlacedMessage] | None,
        Field(max_length=2000, description="Replace the visible ones: stored ones in the order of n, then new ones."),
    ] = None


class MessageResponse(BaseModel):
    """A stored message."""

    model_config = ConfigDict(from_attributes=True)

    n: int
    role: Role
    type: Kind
    content: str
    visibility: bool
    create_time: str
    task_id: Omitted[str] = None
    model: Omitted[str] = None
    reasoning: Omitted[str] = None
    finish_reason: Annotated[
        Omitted[str], Field(description="stop, length, content_filter, stopped or interrupted.")
    ] = None
    usage: Omitted[TaskUsage] = None
    credits: Omitted[int] = None
    sources: Omitted[list[Source]] = None


class _AnyChat(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    owner_id: str
    preset_id: str
    preset_version: int
    title: str
    visibility: Visibility
    version: int
    active_task: Annotated[Omitted[str], Field(description="The task that is answering.")] = None
    create_time: str
    update_time: str


class ChatResponse(_AnyChat):
    """A chat and messages of it, in the order of n. Readers of a shared chat see neither counts nor how answers were made."""

    message_count: Annotated[Omitted[int], Field(description="The number of all messages, hidden ones included.")] = (
        None
    )
    messages: list[MessageResponse]

    @classmethod
    def of(cls, chat: models.Chat, messages: Iterable[models.Message], *, shared: bool = False) -> "ChatResponse":
        """Return the chat as its owner sees it. If it is `shared` with the reader, show only READERS_FIELDS of its messages."""
        whole = _AnyChat.model_validate(chat)
        if not shared:
            shown = [MessageResponse.model_validate(message) for message in messages]
            return cls(**dict(whole), message_count=chat.message_count, messages=shown)
        whole.active_task = None
        seen = [MessageResponse(**{name: getattr(message, name) for name in READERS_FIELDS}) for message in messages]
        return cls(**dict(whole), messages=seen)


class ChatSummaryResponse(_AnyChat):
    """A chat without its messages."""

    message_count: int
    last_message: str | None = Field(
        validation_alias="preview", description="The beginning (200 characters) of the last visible message."
    )
