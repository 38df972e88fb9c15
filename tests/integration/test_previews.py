"""The list of chats quotes the last message that is there and shown, whatever has become of others."""

from collections.abc import Callable

import pytest

from aideer.billing import credits
from aideer.billing.credits import PREVIEW_CHARACTERS, Closer, Text
from aideer.chats import chats
from aideer.core.usage import Usage
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Task
from aideer.schemas.chats import ChatChange, NewMessage, NewMessages, PlacedMessage
from aideer.schemas.questions import NewTask
from aideer.tasks import admission
from tests.integration.test_chats import make_task, stored
from tests.support import Api, Person, caller, make_chat, make_person

Operation = Callable[[Person, Chat], None]


def settled(task_id: str, status: str, text: Text) -> None:
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e")])
    credits.settle(Task.get(task_id), Closer.executor("e"), status, text, "stop", Usage(7, 3, 1))  # type: ignore[arg-type]


def append(owner: Person, chat: Chat) -> None:
    chats.append(
        owner.user, chat.id, NewMessages(messages=[NewMessage(role="user", content=f"question {chat.next_n}")])
    )


def append_hidden(owner: Person, chat: Chat) -> None:
    hidden = NewMessage(role="user", content=f"hidden {chat.next_n}", visibility=False)
    chats.append(owner.user, chat.id, NewMessages(messages=[hidden]))


def answer(owner: Person, chat: Chat) -> None:
    append(owner, chat)
    settled(make_task(owner, stored(chat.id)), "finished", Text("", f"answer {chat.next_n}"))


def stop_while_it_thinks(owner: Person, chat: Chat) -> None:
    append(owner, chat)
    settled(make_task(owner, stored(chat.id)), "stopped", Text("thought", ""))


def fail_half_way(owner: Person, chat: Chat) -> None:
    append(owner, chat)
    task_id = make_task(owner, stored(chat.id))
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e")])
    credits.release(Task.get(task_id), Closer.executor("e"), "upstream_error", Text("", f"half {chat.next_n}"))


def regenerate(owner: Person, chat: Chat) -> None:
    last = thread_of(chat)[-1:]
    if last and last[0].task_id:
        request = IdempotentRequest(owner.id, "POST /tasks", None, NewTask(chat_id=chat.id))
        again = admission.regenerate(caller(owner.user), last[0].task_id, request)
        settled(again.task_id, "finished", Text("", f"another {chat.next_n}"))


def append_while_it_answers(owner: Person, chat: Chat) -> None:
    append(owner, chat)
    task_id = make_task(owner, stored(chat.id))
    append(owner, stored(chat.id))
    settled(task_id, "finished", Text("", f"late {chat.next_n}"))


def remove_last(owner: Person, chat: Chat) -> None:
    replace(owner, chat, [message for message in thread_of(chat) if message.visibility][:-1])


def hide_last(owner: Person, chat: Chat) -> None:
    shown = [message for message in thread_of(chat) if message.visibility]
    for message in shown[-1:]:
        message.visibility = False
    replace(owner, chat, shown)


def replace(owner: Person, chat: Chat, thread: list[Message]) -> None:
    placed = [
        PlacedMessage(n=message.n, role=message.role, content=message.content, visibility=message.visibility)  # type: ignore[arg-type]
        for message in thread
    ]
    chats.change(owner.user, chat.id, ChatChange(messages=placed), f'"{chat.version}"')


def thread_of(chat: Chat) -> list[Message]:
    return list(Message.query(stored(chat.id).thread, consistent_read=True))


SEQUENCES: list[list[Operation]] = [
    [append, append_hidden, remove_last, remove_last],
    [answer, hide_last, hide_last],
    [answer, stop_while_it_thinks, remove_last],
    [answer, regenerate, remove_last, remove_last],
    [fail_half_way, regenerate, hide_last],
    [append_while_it_answers, remove_last, append_hidden],
    [append_hidden, answer, regenerate, regenerate],
]


@pytest.mark.parametrize("operations", SEQUENCES, ids=lambda operations: "-".join(o.__name__ for o in operations))
def test_a_preview_quotes_the_last_message_that_is_there(api: Api, operations: list[Operation]) -> None:
    owner = make_person()
    chat = make_chat(owner)
    for operation in operations:
        operation(owner, stored(chat.id))
        said = [message for message in thread_of(chat) if message.visibility and message.content]
        expected = said[-1].content[:PREVIEW_CHARACTERS] if said else None
        [listed] = api("chats.list", "GET", "/chats", user=owner).json
        assert listed["last_message"] == expected, operation.__name__
