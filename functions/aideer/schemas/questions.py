"""Requests for an answer: in a stored chat, in a new one, or once more for the chat's last answer.

POST /tasks and POST /tasks/stream take the same question and share one scope of idempotency keys. So a client may repeat the one
as the other.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aideer.schemas.chats import MOST_MESSAGES, AutoTitle, NewMessage, PresetId, Visibility
from aideer.schemas.strings import Body, Title

MESSAGES_BYTES = 400_000
"""The most bytes of UTF-8 of the messages in one request. Longer ones are appended first."""
_IN_RECORDS = {"chat", "messages", "regenerate", "branch_at", "preset_id", "model", "continues"}
Id = Annotated[str, Field(min_length=1, max_length=64, examples=["01900000-0000-7000-8000-000000000000"])]


class OpenedChat(Body):
    """A chat to open. Without a title, it gets the beginning of the first message of the user."""

    preset_id: PresetId
    title: Title | None = None
    auto_title: AutoTitle = None
    visibility: Visibility = "private"


class NewQuestion(Body):
    """A question. Name a stored chat (`chat_id`), a new one (`chat`), or a task whose answer to make again (`regenerate`).

    `messages` are added to the chat. Together they have at most 400,000 bytes. An answer is made again or continued without new
    messages.
    """

    chat_id: Id | None = None
    chat: OpenedChat | None = None
    messages: Annotated[list[NewMessage], Field(max_length=MOST_MESSAGES, default_factory=list)]
    regenerate: Annotated[Id | None, Field(description="A task. Its answer must be the last message of its chat.")] = (
        None
    )
    branch_at: Annotated[
        int | None,
        Field(
            ge=1,
            le=2**53,
            description="The n of a message whose place `messages` take. It stays, with what follows it, as a sibling branch.",
        ),
    ] = None
    preset_id: Annotated[
        PresetId | None,
        Field(description="With `regenerate`: the preset that answers this once. The chat keeps its own."),
    ] = None
    model: Annotated[
        Id | None, Field(description="With `regenerate`: the model that answers this once, in place of the preset's.")
    ] = None
    continues: Annotated[
        Id | None,
        Field(
            description="A task. Its answer ended as `length` or `interrupted`, and is the last message of its chat."
        ),
    ] = None

    @model_validator(mode="after")
    def _require_one_chat(self) -> Self:
        if self.regenerate is not None and (self.chat is not None or self.messages):
            raise PydanticCustomError("not_with_regenerate", "With `regenerate`, send no `chat` and no `messages`.")
        if self.chat_id is not None and self.chat is not None:
            raise PydanticCustomError("two_chats", "Send either `chat_id` or `chat`.")
        if self.continues is not None and (self.regenerate is not None or self.chat is not None or self.messages):
            raise PydanticCustomError("not_with_continues", "With `continues`, send no other question.")
        if (self.preset_id is not None or self.model is not None) and self.regenerate is None:
            raise PydanticCustomError("only_with_regenerate", "`preset_id` and `model` go with `regenerate` alone.")
        if self.branch_at is not None and (self.chat_id is None or not self.messages or self.regenerate is not None):
            raise PydanticCustomError("branch_of_messages", "With `branch_at`, send `chat_id` and `messages`.")
        if self.chat_id is None and self.chat is None and self.regenerate is None and self.continues is None:
            raise PydanticCustomError("no_chat", "Send `chat_id`, `chat`, `regenerate` or `continues`.")
        return self

    @property
    def kind(self) -> str:
        """The type of the task."""
        return "chat_generation"

    def canonical(self, *, stream: bool = True) -> str:
        """Return the question as text, for the comparison of repeated requests.

        `stream` says only when the queue starts, so a repeated request may differ in it. Release 0.1.0 stored it as it was sent.
        """
        fields: dict[str, Any] = {"chat_id": self.chat_id, "stream": stream, "type": self.kind}
        sent = self.model_dump(mode="json", include=_IN_RECORDS)
        return json.dumps(fields | {name: value for name, value in sent.items() if value}, sort_keys=True)


class NewTask(NewQuestion):
    """A task to create. Set `stream` if you open stream_url at once: the queue then waits a few seconds for you.

    A title is made for a stored chat, without new messages.
    """

    type: Literal["chat_generation", "title_generation"] = "chat_generation"
    stream: bool = True

    @model_validator(mode="after")
    def _require_stored_chat(self) -> Self:
        if self.type == "title_generation" and (
            self.chat_id is None or self.messages or self.regenerate or self.continues
        ):
            raise PydanticCustomError("title_of_stored_chat", "A title takes `chat_id` alone.")
        return self

    @property
    def kind(self) -> str:
        """The type of the task."""
        return self.type
