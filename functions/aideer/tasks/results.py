"""The results of a closed task: its message, its chat and its user's credits.

They are read after the close, consistently and by one call, so no part of them is older than the close.
"""

import random
import time
from dataclasses import dataclass
from typing import Any

from aideer.billing.credits import Text
from aideer.core.errors import Busy
from aideer.data import lookup
from aideer.data.base import Table, connection
from aideer.data.models import Chat, Message, Task, User
from aideer.schemas import chats as schemas
from aideer.tasks import stream_log

_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """A closed task and the items beside it. An item that does not exist or is deleted is None."""

    task: Task
    user: User | None
    chat: Chat | None
    message: Message | None
    """The answer as its chat has it now, or None if no answer was stored, or if it was edited or removed since."""
    answer: Message | None
    """The answer as it was stored at the close, as long as it exists."""

    def fields(self) -> dict[str, Any]:
        """Return the fields that the last event of a stream has besides those of the task itself."""
        message = schemas.MessageResponse.model_validate(self.message).model_dump(mode="json") if self.message else None
        stored = self.answer or self.message
        return {
            "message": message,
            "chat_version": int(self.chat.version) if self.chat else None,
            "credits_left": int(self.user.credits) if self.user else None,
            "sources": (stored.sources if stored else None) or [],
        }

    def text(self) -> Text:
        """Return the answer's text: from its message if it exists, else from the stream log, as far as that holds it."""
        stored = self.answer or self.message
        if stored:
            return stream_log.cut_text(self.task, stored)
        return stream_log.read_text(self.task.id, None if self.task.text_length is None else int(self.task.text_length))


def read(task: Task) -> Result:
    """Read the results of a closed task. Raises Busy if DynamoDB keeps leaving out a part for too long."""
    keys: dict[type[Table], dict[str, Any]] = {
        User: {"id": {"S": task.user_id}},
        Chat: {"id": {"S": task.chat_id}},
    }
    if task.answer_n is not None:
        keys[Message] = {"thread": {"S": task.thread}, "n": {"N": str(task.answer_n)}}
    items = _read_items(keys)
    user, chat, answer = items.get(User), items.get(Chat), items.get(Message)
    if answer is not None and answer.task_id != task.id:
        answer = None  # it was edited since
    if user is not None and user.deleted:
        user = None
    if chat is not None and (chat.deleted or chat.owner_id != task.user_id):
        chat = None
    message = answer if chat else None
    if chat is not None and task.answer_n is not None and not chat.has_thread(task.thread):
        message = _find_moved(chat, task)  # the chat's messages were replaced since
    return Result(task, user, chat, message, answer)


def _read_items(keys: dict[type[Table], dict[str, Any]]) -> dict[type[Table], Any]:
    """Read one item of each table, by one BatchGetItem.

    DynamoDB may leave out a part (AWS: "BatchGetItem", UnprocessedKeys), which is then requested again. Raises Busy.
    """
    tables = {model.Meta.table_name: model for model in keys}
    left = {model.Meta.table_name: {"Keys": [key], "ConsistentRead": True} for model, key in keys.items()}
    found: dict[type[Table], Any] = {}
    give_up_at, pause = time.monotonic() + _PATIENCE_SECONDS, 0.02
    client: Any = connection().client  # a batch of pynamodb reads one table only
    while True:
        answer = client.batch_get_item(RequestItems=left)
        for table, items in answer["Responses"].items():
            for item in items:
                found[tables[table]] = tables[table].from_raw_data(item)
        left = answer.get("UnprocessedKeys")
        if not left:
            return found
        if time.monotonic() > give_up_at:
            raise Busy
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 0.5)


def _find_moved(chat: Chat, task: Task) -> Message | None:
    message = lookup.find(Message, chat.thread, int(task.answer_n))
    return message if message and message.task_id == task.id else None
