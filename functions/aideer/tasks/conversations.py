"""The conversations in which this process has just answered. Most questions follow an answer, and often one process makes both.

For the next question in such a conversation, the process knows the chat and its messages, so it reads neither. The transaction that
accepts the question requires the chat's version, which every change of the chat or of its messages raises. So the model is never
asked with messages that have changed. If they have, the transaction is refused, and the chat is read after all.

A remembered conversation may be out of date, so no refusal may rest on it (admission.py). It is used once, by the user that owns
the chat, and only for a short time.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from aideer.core import clock
from aideer.data.models import Chat
from aideer.prompts.prompts import Prompt, Turns
from aideer.schemas.questions import NewQuestion
from aideer.tasks.results import Result

KEPT_SECONDS = 600.0
MOST_BYTES = 200_000
"""The most bytes of the messages of a conversation that is remembered."""
_MOST = 64
"""The most conversations that a process remembers."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat and its messages, as they were stored at the end of an answer. Callers must not change them."""

    chat: Chat
    turns: Turns
    until: float


_remembered: OrderedDict[tuple[str, str], Conversation] = OrderedDict()
_lock = threading.Lock()


def take(user_id: str, wanted: NewQuestion) -> Conversation | None:
    """Return the conversation in which this user's question goes on, if this process remembers it, and forget it."""
    with _lock:
        found = _remembered.pop((user_id, wanted.chat_id or ""), None)
    goes_on = wanted.regenerate is None and wanted.continues is None and wanted.branch_at is None
    return found if found and goes_on and clock.now() < found.until else None


def remember(prompt: Prompt, version: int | None, result: Result) -> None:
    """Remember the conversation of an answer, which was made from this prompt.

    `version` is the chat's version after the task was accepted. If more than the answer has changed since, or the answer was not
    stored, the conversation is not remembered.
    """
    chat, answer, task = result.chat, result.message, result.task
    if chat is None or answer is None or task.continued or version is None or chat.active_task:
        return
    if int(chat.version) != version + 1:
        return
    turns = prompt.turns.add(answer)
    if sum(len(content.encode()) for _, _, content in turns.shown) > MOST_BYTES:
        return
    now = clock.now()
    with _lock:
        for key in [key for key, known in _remembered.items() if known.until <= now]:
            del _remembered[key]
        _remembered[task.user_id, chat.id] = Conversation(chat, turns, now + KEPT_SECONDS)
        _remembered.move_to_end((task.user_id, chat.id))
        while len(_remembered) > _MOST:
            _remembered.popitem(last=False)
