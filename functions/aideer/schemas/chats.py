"""Requests and responses for chats and messages. messages.py checks the sizes that depend on stored data."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from aideer.data import models
from aideer.data.branches import Tree
from aideer.schemas.feedback import Feedback
from aideer.schemas.strings import Body, Omitted, Tag, Title, drop_repeated
from aideer.schemas.tasks import Source, TaskUsage
from aideer.schemas.uploads import FileResponse

CONTENT_BYTES = 100 * 1024
MOST_MESSAGES = 50
"""The most messages that one request brings."""
READERS_FIELDS = ("n", "role", "type", "content", "visibility", "create_time", "upload")
"""The fields of a message that readers of a shared chat see. Only the owner sees a new field until it is named here."""

OWNERS_FIELDS = ("active_task", "auto_title", "pinned", "archived", "tags")
"""The fields of a chat that readers of a shared chat do not see."""
TAGS = 20

OrderBy = Literal["create_time", "update_time", "title"]
Order = Literal["asc", "desc"]
Visibility = Literal["private", "shared"]
TitleSource = Literal["person", "model", "message", "default"]
Role = Literal["user", "assistant", "system"]
Kind = Literal["text", "image", "document"]
PresetId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


def _require_size(content: str) -> str:
    if len(content.encode()) > CONTENT_BYTES:
        raise PydanticCustomError("content_too_long", "A message can have at most 100 KB of UTF-8.")
    return content


class NewMessage(Body):
    """A message to be stored. With `visibility` false, readers of a shared chat do not see it.

    An image has the role `user`. Its content is an https URL, or the `content` of an upload. The preset's model must accept images.
    A document has the role `user`, and the `content` of an upload. It is stored with the text of the document as its content.
    """

    role: Role
    type: Kind = "text"
    content: Annotated[str, StringConstraints(min_length=1), AfterValidator(_require_size)]
    visibility: bool = True


class NewMessages(Body):
    """Messages to append."""

    messages: Annotated[list[NewMessage], Field(min_length=1, max_length=MOST_MESSAGES)]


AutoTitle = Annotated[
    Omitted[bool],
    Field(description="Let the model make the title after the first answer, once. It costs as a title does."),
]


class NewChat(Body):
    """A chat to open on a preset. Without a title, it gets the beginning of the first message of the user."""

    preset_id: PresetId
    title: Title | None = None
    auto_title: AutoTitle = None
    visibility: Visibility = "private"
    messages: Annotated[list[NewMessage], Field(max_length=MOST_MESSAGES, default_factory=list)]


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
    upload: Annotated[Any, Field(description="Ignored.")] = None
    feedback: Annotated[Any, Field(description="Ignored.")] = None
    siblings: Annotated[Any, Field(description="Ignored.")] = None


class ChatChange(Body):
    """Changes of a chat. A field that you omit or set to null stays as it is."""

    title: Title | None = None
    auto_title: AutoTitle = None
    visibility: Visibility | None = None
    preset_id: PresetId | None = None
    pinned: bool | None = None
    archived: bool | None = None
    tags: Annotated[
        Annotated[list[Tag], Field(max_length=TAGS), AfterValidator(drop_repeated)] | None,
        Field(description="Replace all tags. They are stored trimmed, in NFC, each once."),
    ] = None
    messages: Annotated[
        list[PlacedMessage] | None,
        Field(max_length=2000, description="Replace the visible ones: stored ones in the order of n, then new ones."),
    ] = None


class MessageChange(Body):
    """Changes of a message. A field that you omit or set to null stays as it is."""

    content: Annotated[
        str | None,
        StringConstraints(min_length=1),
        Field(description="At most 100 KB of UTF-8, unless it is stored so."),
    ] = None
    visibility: bool | None = None


class BranchChoice(Body):
    """The branch to show, as `siblings` of a message names it."""

    branch: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Siblings(BaseModel):
    """The branches that go on in different ways from the message before this one."""

    count: int
    shown: Annotated[int, Field(description="Which of them is shown, counted from 1.")]
    branches: Annotated[list[str], Field(description="Their ids. PUT /chats/{id}/branch shows another one.")]


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
    upload: Annotated[Omitted[FileResponse], Field(description="The uploaded file that the message shows.")] = None
    feedback: Annotated[Omitted[Feedback], Field(description="The opinion of the chat's owner on this answer.")] = None
    siblings: Annotated[
        Omitted[Siblings], Field(description="Only if there are several: the first message of each branch has them.")
    ] = None

    @classmethod
    def of(cls, chat: models.Chat, message: models.Message, previous: int) -> "MessageResponse":
        """Return a message of a chat's shown path as its owner sees it. `previous` is the n of the message before it, or 0."""
        shown = cls.model_validate(message)
        if chat.branches:
            _add_siblings(chat.tree, [shown], previous)
        return shown


def _add_siblings(tree: Tree, shown: Iterable[MessageResponse], previous: int) -> None:
    for message in shown:
        branches = tree.find_alternatives(previous)
        if len(branches) > 1:
            place = branches.index(tree.find_next(previous)) + 1
            message.siblings = Siblings(count=len(branches), shown=place, branches=branches)
        previous = message.n


class _AnyChat(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    owner_id: str
    preset_id: str
    preset_version: int
    title: str
    title_source: Annotated[
        TitleSource,
        BeforeValidator(lambda stored: stored or models.Chat.PERSON),
        Field(description="The source of the title. message: the beginning of the first one. default: a placeholder."),
    ]
    auto_title: Annotated[
        Omitted[bool], Field(description="Whether the model may make the title. Readers do not see it.")
    ] = None
    visibility: Visibility
    version: int
    active_task: Annotated[Omitted[str], Field(description="The task that is answering.")] = None
    pinned: Annotated[Omitted[bool], BeforeValidator(bool)] = None
    archived: Annotated[Omitted[bool], BeforeValidator(bool)] = None
    tags: Annotated[Omitted[list[str]], BeforeValidator(lambda tags: tags or [])] = None
    create_time: str
    update_time: str


class ChatResponse(_AnyChat):
    """A chat and messages of it, in the order of n.

    Readers of a shared chat see neither counts nor marks (`pinned`, `archived`, `tags`) nor how answers were made.
    """

    message_count: Annotated[Omitted[int], Field(description="The number of all messages, hidden ones included.")] = (
        None
    )
    messages: list[MessageResponse]

    @classmethod
    def of(
        cls, chat: models.Chat, messages: Iterable[models.Message], previous: int = 0, *, shared: bool = False
    ) -> "ChatResponse":
        """Return the chat as its owner sees it. If it is `shared` with the reader, show only READERS_FIELDS of its messages.

        `previous` is the n of the message before these, or 0.
        """
        whole = _AnyChat.model_validate(chat)
        if not shared:
            shown = [MessageResponse.model_validate(message) for message in messages]
            if chat.branches:
                _add_siblings(chat.tree, shown, previous)
            return cls(**dict(whole), message_count=chat.message_count, messages=shown)
        seen = [MessageResponse(**{name: getattr(message, name) for name in READERS_FIELDS}) for message in messages]
        return cls(**whole.model_dump(exclude=set(OWNERS_FIELDS)), messages=seen)


class ChatSummaryResponse(_AnyChat):
    """A chat without its messages."""

    message_count: int
    last_message: str | None = Field(
        validation_alias="preview", description="The beginning (200 characters) of the last visible message."
    )


class ChangeResponse(BaseModel):
    """A chat that changed, as it is now, or the note that it was deleted."""

    chat_id: str
    version: Annotated[Omitted[int], Field(description="The version of `chat`.")] = None
    deleted: Annotated[Omitted[Literal[True]], Field(description="Instead of the other two.")] = None
    chat: Omitted[ChatSummaryResponse] = None

    @classmethod
    def of(cls, chat_id: str, chat: models.Chat | None) -> "ChangeResponse":
        """Return the change of a chat. Without `chat`, the chat was deleted."""
        if chat is None:
            return cls(chat_id=chat_id, deleted=True)
        return cls(chat_id=chat_id, version=int(chat.version), chat=ChatSummaryResponse.model_validate(chat))


class ChangesResponse(BaseModel):
    """Changes since a cursor."""

    changes: Annotated[list[ChangeResponse], Field(description="Each chat at most once.")]
    next: Annotated[str, Field(description="The cursor of the next call.")]
    more: Annotated[bool, Field(description="Whether to call again at once.")]
