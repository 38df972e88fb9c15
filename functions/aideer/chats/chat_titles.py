"""Titles of chats: given by a person, made by the model, or taken from the first message of the user.

`title_source` says which. A chat without any of them is called UNTITLED, until its first message with text comes. Only a
person's title is safe from `auto_title`: the close of the title's task requires that the title is still a provisional one. So a
person's title wins at any moment. `title_task` is set once, in the transaction that accepts the task, so a chat has at most one.
"""

from collections.abc import Iterable, Sequence

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.core import characters
from aideer.data.models import Chat, Message
from aideer.schemas.chats import NewMessage

UNTITLED = "New chat"
"""The title of a chat in which no message has a text that could be one."""


def choose(title: str | None, said: Sequence[NewMessage]) -> tuple[str, str]:
    """Return the title of a new chat, and its source."""
    if title is not None:
        return title, Chat.PERSON
    beginning = _find_beginning(said)
    return (beginning, Chat.MESSAGE) if beginning else (UNTITLED, Chat.DEFAULT)


def retitle(chat: Chat, said: Sequence[Message]) -> list[Action]:
    """Return the actions that title an untitled chat by its first message. They belong to the write that adds these messages.

    This write must require the version of the chat that was read.
    """
    if chat.title_source != Chat.DEFAULT or not (beginning := _find_beginning(said)):
        return []
    return [Chat.title.set(beginning), Chat.title_source.set(Chat.MESSAGE)]


def awaits_title(chat: Chat) -> bool:
    """Return whether the model is to make the title of this chat, as it was read, after the next answer."""
    return bool(chat.auto_title) and chat.title_task is None and chat.title_source in Chat.PROVISIONAL


def still_awaits_title() -> Condition:
    """Return the same as a condition on the chat, which also must not be deleted."""
    condition: Condition = Chat.id.exists() & Chat.deleted.does_not_exist() & (Chat.auto_title == True)  # noqa: E712
    condition &= Chat.title_task.does_not_exist() & Chat.title_source.is_in(*Chat.PROVISIONAL)
    return condition


def _find_beginning(said: Iterable[NewMessage | Message]) -> str:
    """Return the beginning of the user's first message with text, as a title, or ""."""
    asked = (message.content for message in said if message.role == "user" and message.type == "text")
    return characters.one_line(next(asked, ""), characters.TITLE_CHARACTERS)
