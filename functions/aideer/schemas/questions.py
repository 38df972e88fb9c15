"""Requests for an answer: in a stored chat, in a new one, or once more for the chat's last answer.

POST /tasks and POST /tasks/stream take the same question and share one scope of idempotency keys. So a client may repeat the one
as the other.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aideer.schemas.chats import NewMessage, PresetId, Visibility
from aideer.schemas.strings import Body, Title

MESSAGES_BYTES = 400_000
"""The most bytes of UTF-8 of the messages in one request. Longer ones are appended first."""
Id = Annotated[str, Field(min_length=1, max_length=64, examples=["01900000-0000-7000-8000-000000000000"])]


class OpenedChat(Body):
    """A chat to open. Without a title, it gets the beginning of the first message of the user."""

    preset_id: PresetId
    title: Title | None = None
    visibility: Visibility = "private"


class NewQuestion(Body):
    """A question. Name a stored chat (`chat_id`), a new one (`chat`), or a task whose answer to make again (`regenerate`).

    `messages` are added to the chat. Together they have at most 400,000 bytes. An answer is made again without new messages.
    """

    chat_id: Id | None = None
    chat: OpenedChat | None = None
    messages: Annotated[list[NewMessage], Field(max_length=50, default_factory=list)]
    regenerate: Annotated[Id | None, Field(description="A task. Its answer must be the last message of its chat.")] = (
        None
    )

    @model_validator(mode="after")
    def _require_one_chat(self) -> Self:
        if self.regenerate is not None and (self.chat is not None or self.messages):
            raise PydanticCustomError("not_with_regenerate", "With `regenerate`, send no `chat` and no `messages`.")
        if self.chat_id is not None and self.chat is not None:
            raise PydanticCustomError("two_chats", "Send either `chat_id` or `chat`.")
        if self.chat_id is None and self.chat is None and self.regenerate is None:
            raise PydanticCustomError("no_chat", "Send `chat_id`, `chat` or `regenerate`.")
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
        sent = self.model_dump(mode="json", include={"chat", "messages", "regenerate"})
        return json.dumps(fields | {name: value for name, value in sent.items() if value}, sort_keys=True)


class NewTask(NewQuestion):
    """A task to create. Set `stream` if you open stream_url at once: the queue then waits a few seconds for you.

    A title is made for a stored chat, without new messages.
    """

    type: Literal["chat_generation", "title_generation"] = "chat_generation"
    stream: bool = True

    @model_validator(mode="after")
    def _require_stored_chat(self) -> Self:
        if self.type == "title_generation" and (self.chat_id is None or self.messages or self.regenerate):
            raise PydanticCustomError("title_of_stored_chat", "A title takes `chat_id` alone.")
        return self

    @property
    def kind(self) -> str:
        """The type of the task."""
        return self.type
