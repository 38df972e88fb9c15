"""PUT and DELETE /chats/{id}/messages/{n}: what they change, whom they refuse, and what they cost."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.chats import edits
from aideer.core import clock, settings
from aideer.data.base import new_id
from aideer.data.models import AuditRecord, Chat, Message, Task
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, executor, leases
from tests.faults import answer_lost
from tests.support import Answer, Api, Person, accepted, caller, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]
IMAGE = "https://pictures.example.com/deer.jpg"


def stored(chat: Chat) -> dict[int, Message]:
    thread = Chat.get(chat.id, consistent_read=True).thread
    return {int(message.n): message for message in Message.query(thread, consistent_read=True)}


def fresh(chat: Chat) -> Chat:
    return Chat.get(chat.id, consistent_read=True)


def change(api: Api, chat: Chat, n: int, body: dict[str, Any], user: Person, tag: str | None = "*") -> Answer:
    headers = {} if tag is None else {"If-Match": tag}
    path = f"/chats/{chat.id}/messages/{n}"
    return api("chats.message_update", "PUT", path, json=body, user=user, headers=headers)


def remove(api: Api, chat: Chat, n: int, user: Person, query: str = "", tag: str | None = "*") -> Answer:
    headers = {} if tag is None else {"If-Match": tag}
    path = f"/chats/{chat.id}/messages/{n}{query}"
    return api("chats.message_delete", "DELETE", path, user=user, headers=headers)


def with_answer(chat: Chat, n: int, **fields: Any) -> None:
    """Store an answer, as a task leaves it."""
    answer = {
        "role": "assistant",
        "content": "Yes.",
        "task_id": "t",
        "model": "m",
        "finish_reason": "stop",
        "credits": 3,
    }
    Message(chat.thread, n, create_time=clock.timestamp(), **{**answer, **fields}).save()
    chat.update(
        [Chat.next_n.set(n + 1), Chat.message_count.add(1), Chat.preview.set("Yes."), Chat.preview_n.set(n)],
    )


# --- changes


def test_a_message_is_changed_in_its_place(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a", "b", "c")
    answer = change(api, chat, 2, {"content": "B"}, me, f'"{chat.version}"')
    assert answer.status == 200, answer.body
    assert (answer.json["n"], answer.json["content"], answer.headers["etag"]) == (2, "B", f'"{chat.version + 1}"')
    assert [message.content for message in stored(chat).values()] == ["a", "B", "c"]
    now = fresh(chat)
    assert (now.version, now.next_n, now.message_count) == (chat.version + 1, 4, 3)
    again = change(api, chat, 3, {"visibility": False}, me, answer.headers["etag"])
    assert (again.status, again.json["visibility"], again.json["content"]) == (200, False, "c")


def test_a_change_that_changes_nothing_keeps_the_version(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a")
    for body in ({}, {"content": "a"}, {"visibility": True}, {"content": None}):
        answer = change(api, chat, 1, body, me)
        assert (answer.status, answer.headers["etag"]) == (200, f'"{chat.version}"')
    assert fresh(chat).version == chat.version


def test_an_answer_keeps_what_it_is_until_it_says_something_else(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a")
    with_answer(chat, 2)
    hidden = change(api, chat, 2, {"visibility": False}, me).json
    assert (hidden["task_id"], hidden["credits"], hidden["visibility"]) == ("t", 3, False)
    edited = change(api, chat, 2, {"content": "No."}, me).json
    assert set(edited) == {"n", "role", "type", "content", "visibility", "create_time"}
    assert (edited["role"], edited["visibility"]) == ("assistant", False)


def test_a_message_is_removed_alone_or_with_what_follows(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, *"abcde")
    alone = remove(api, chat, 2, me)
    assert alone.status == 200, alone.body
    assert [message["n"] for message in alone.json["messages"]] == [1, 3, 4, 5]
    rest = remove(api, chat, 3, me, "?following=true", alone.headers["etag"])
    assert [message["n"] for message in rest.json["messages"]] == [1]
    now = fresh(chat)
    assert (now.version, now.next_n, now.message_count) == (chat.version + 2, 6, 1)
    assert list(stored(chat)) == [1]
    added = {"messages": [{"role": "user", "content": "f"}]}
    new = api("chats.append", "POST", f"/chats/{chat.id}/messages", json=added, user=me).json
    assert [message["n"] for message in new] == [6]  # n only grows


def test_the_preview_is_the_last_visible_message(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    api(
        "chats.append",
        "POST",
        f"/chats/{chat.id}/messages",
        json={"messages": [{"role": "user", "content": text} for text in "abcd"]},
        user=me,
    )

    def preview() -> tuple[str | None, int | None]:
        now = fresh(chat)
        return now.preview, now.preview_n

    assert preview() == ("d", 4)
    for act, expected in (
        (lambda: change(api, chat, 4, {"content": "D"}, me), ("D", 4)),
        (lambda: change(api, chat, 2, {"content": "B"}, me), ("D", 4)),
        (lambda: change(api, chat, 4, {"visibility": False}, me), ("c", 3)),
        (lambda: change(api, chat, 4, {"visibility": True}, me), ("D", 4)),
        (lambda: remove(api, chat, 3, me), ("D", 4)),
        (lambda: remove(api, chat, 4, me), ("B", 2)),
        (lambda: change(api, chat, 1, {"visibility": False}, me), ("B", 2)),
        (lambda: remove(api, chat, 2, me, "?following=true"), (None, None)),
    ):
        assert act().status == 200
        assert preview() == expected


# --- refusals


@pytest.mark.parametrize("act", [lambda *a, **k: change(*a[:3], {"content": "x"}, *a[3:], **k), remove])
def test_the_chats_etag_is_required_and_must_be_the_current_one(
    api: Api, person: MakePerson, act: Callable[..., Answer]
) -> None:
    me = person()
    chat = make_chat(me, "a", "b")
    missing = act(api, chat, 1, me, tag=None)
    assert (missing.status, missing.json["code"]) == (428, "if_match_required")
    old = act(api, chat, 1, me, tag='"0"')
    assert (old.status, old.json["code"]) == (412, "precondition_failed")
    assert act(api, chat, 3, me).json["code"] == "message_not_found"
    assert act(api, chat, 2**53, me).status == 404
    assert act(api, chat, 0, me).status == act(api, chat, 2**53 + 1, me).status == 422
    assert act(api, chat, 1, person()).status == 403
    assert list(stored(chat)) == [1, 2]


def test_of_two_changes_of_one_version_one_happens(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a", "b")
    tag = f'"{chat.version}"'
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(edits.edit, me.user, chat.id, 1, edits.MessageChange(content="A"), tag)
        second = pool.submit(edits.remove, me.user, chat.id, 1, following=False, if_match=tag)
        errors = [future.exception() for future in (first, second)]
    assert sorted(error is None for error in errors) == [False, True]
    assert fresh(chat).version == chat.version + 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"content": ""}, "validation_error"),
        ({"content": "长" * 40_000}, "content_too_long"),
        ({"role": "user"}, "validation_error"),
        ({"visibility": 1}, "validation_error"),
        ({"content": "\ud800"}, "validation_error"),
    ],
)
def test_what_no_message_may_be_is_refused(api: Api, person: MakePerson, body: dict[str, Any], code: str) -> None:
    me = person()
    chat = make_chat(me, "a")
    answer = change(api, chat, 1, body, me)
    assert (answer.status, answer.json["code"]) == (422, code)


def test_an_image_stays_an_image_that_the_model_can_see(api: Api, person: MakePerson) -> None:
    me = person()
    blind, seeing = make_chat(me), make_chat(me, parameters={"model": "qwen3.5-plus"})
    for chat in (blind, seeing):
        Message(chat.thread, 1, role="user", type="image", content=IMAGE, create_time=clock.timestamp()).save()
        chat.update([Chat.next_n.set(2), Chat.message_count.set(1)])
    assert change(api, seeing, 1, {"content": f"{IMAGE}?2"}, me).status == 200
    assert change(api, seeing, 1, {"content": "no address"}, me).json["code"] == "invalid_image_url"
    assert change(api, blind, 1, {"content": f"{IMAGE}?2"}, me).json["code"] == "model_without_vision"
    assert change(api, blind, 1, {"visibility": False}, me).status == 200


def test_more_than_one_transaction_takes_is_refused_whole(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, *map(str, range(92)))
    refused = remove(api, chat, 2, me, "?following=true")
    assert (refused.status, refused.json["code"]) == (413, "too_many_following")
    assert len(stored(chat)) == 92
    assert remove(api, chat, 3, me, "?following=true").status == 200
    assert list(stored(chat)) == [1, 2]


def test_an_administrators_changes_are_recorded(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    chat = make_chat(me, "a", "b")
    assert change(api, chat, 1, {"content": "A"}, admin).status == 200
    assert change(api, chat, 1, {"content": "A"}, admin).status == 200
    assert remove(api, chat, 2, admin).status == 200
    assert change(api, chat, 1, {"content": "me"}, me).status == 200
    records = [record.action for record in AuditRecord.scan() if record.actor_id == admin.id]
    assert sorted(records) == ["chat.change", "chat.change", "chat.read"]


# --- beside a task


def running(me: Person, *questions: str) -> tuple[Task, Chat]:
    task_id, chat = accepted(me, *questions)
    claimed = leases.claim(task_id)
    assert claimed
    return claimed, chat


def test_what_a_running_task_has_read_stays_and_later_messages_change(api: Api, person: MakePerson) -> None:
    me = person()
    task, chat = running(me, "hello")
    added = {"messages": [{"role": "user", "content": text} for text in ("later", "last")]}
    assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json=added, user=me).status == 200
    for n in (1, 2):
        refused = change(api, chat, n, {"content": "x"}, me)
        assert (refused.status, refused.json["code"], refused.json["task_id"]) == (409, "task_running", task.id)
        assert remove(api, chat, n, me).status == 409
        assert remove(api, chat, n, me, "?following=true").status == 409
    assert change(api, chat, 3, {"content": "Later"}, me).status == 200
    assert remove(api, chat, 4, me).status == 200
    in_loop(executor.Run(task, clock.now() + 60, attended=False).work())
    assert [message.role for message in stored(chat).values()] == ["user", "assistant", "user"]
    assert (fresh(chat).message_count, fresh(chat).preview) == (3, "Later")
    check_rules(me)


def test_the_answer_that_is_made_again_stays_until_then(api: Api, person: MakePerson) -> None:
    me = person()
    task, chat = running(me, "hello")
    in_loop(executor.Run(task, clock.now() + 60, attended=False).work())
    again = api("tasks.regenerate", "POST", f"/tasks/{task.id}/regenerate", user=me, parameters={"id": task.id}).json
    assert change(api, chat, 2, {"content": "x"}, me).json["code"] == "task_running"
    assert remove(api, chat, 2, me).json["code"] == "task_running"
    in_loop(executor.execute(again["task_id"], clock.now() + 60))
    assert list(stored(chat)) == [1, 3]
    check_rules(me)


def test_an_answer_cannot_be_made_again_once_it_was_edited(api: Api, person: MakePerson) -> None:
    me = person()
    task, chat = running(me, "hello")
    in_loop(executor.Run(task, clock.now() + 60, attended=False).work())
    shown = api("tasks.get", "GET", f"/tasks/{task.id}", user=me, parameters={"id": task.id}).json["content"]
    assert change(api, chat, 2, {"content": "x"}, me).status == 200
    after = api("tasks.get", "GET", f"/tasks/{task.id}", user=me, parameters={"id": task.id}).json
    assert after["content"] == shown  # the task tells what it said, as long as its log lasts
    refused = api("tasks.regenerate", "POST", f"/tasks/{task.id}/regenerate", user=me, parameters={"id": task.id})
    assert (refused.status, refused.json["code"]) == (409, "not_last_answer")


def test_a_prompt_that_has_become_longer_than_was_priced_is_not_sent(
    api: Api, person: MakePerson, provider: Any
) -> None:
    """A title's task does not hold the chat, so messages can be edited before it begins."""
    me = person()
    chat = make_chat(me, "hello")
    request = admission.identify(caller(me.user), wanted := NewTask(chat_id=chat.id, type="title_generation"), new_id())
    task_id = admission.create(caller(me.user), wanted, request).task_id
    assert change(api, chat, 1, {"content": "0123456789" * 90}, me).status == 200
    calls = len(provider.requests())
    in_loop(executor.execute(task_id, clock.now() + 60))
    task = Task.get(task_id, consistent_read=True)
    assert (task.status, task.error_code, task.credits) == ("failed", "prompt_changed", 0)
    assert len(provider.requests()) == calls
    shown = api("tasks.get", "GET", f"/tasks/{task_id}", user=me, parameters={"id": task_id}).json
    assert shown["error"]["code"] == "prompt_changed"
    check_rules(me)


def test_a_prompt_that_has_become_shorter_is_sent(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello hello hello")
    request = admission.identify(caller(me.user), wanted := NewTask(chat_id=chat.id, type="title_generation"), new_id())
    task_id = admission.create(caller(me.user), wanted, request).task_id
    assert change(api, chat, 1, {"content": "hello"}, me).status == 200
    in_loop(executor.execute(task_id, clock.now() + 60))
    assert Task.get(task_id, consistent_read=True).status == "finished"
    check_rules(me)


# --- cost, and lost answers


def test_a_change_costs_the_same_at_any_length(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    costs = []
    for length in (3, 300):
        chat = make_chat(me, *map(str, range(length)))
        counted.clear()
        assert change(api, chat, 2, {"content": "x"}, me).status == 200
        edit = Counter(name for name in counted if "Records" not in name)
        counted.clear()
        assert remove(api, chat, length, me, "?following=true").status == 200
        costs.append((edit, Counter(name for name in counted if "Records" not in name)))
    assert costs[0] == costs[1]
    edit, removal = costs[0]
    tables = settings.USERS_TABLE, settings.CHATS_TABLE
    reads = {f"GetItem {table}": 1 for table in tables} | {f"Query {settings.MESSAGES_TABLE}": 1}
    assert edit == {**reads, "TransactWriteItems": 1}
    # What follows is read too, and afterwards the chat with its last messages.
    again = {f"GetItem {settings.CHATS_TABLE}": 2, f"Query {settings.MESSAGES_TABLE}": 3}
    assert removal == {**reads, "TransactWriteItems": 1, **again}


def test_a_change_whose_answer_is_lost_has_happened_once(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a", "b", "c")
    with answer_lost("TransactWriteItems"):
        assert change(api, chat, 1, {"content": "A"}, me).status == 200
    with answer_lost("TransactWriteItems"):
        assert remove(api, chat, 2, me).status == 200
    assert [message.content for message in stored(chat).values()] == ["A", "c"]
    assert fresh(chat).version == chat.version + 2
