"""Copies of chats: whole, of what their maker may see, and a chat of their own from the start."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.chats import chats, copies, messages, quota
from aideer.core import clock
from aideer.core.errors import AideerError, PreconditionFailed, TooLarge
from aideer.core.usage import Usage
from aideer.data import jobs
from aideer.data.base import new_id
from aideer.data.branches import Segment
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Preset, Record, Task
from aideer.schemas.chats import READERS_FIELDS, ChatChange, NewMessage, NewMessages, PlacedMessage
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, chat_deletion
from jobs.run import WORKERS
from tests import faults
from tests.integration.test_chats import REPLACING, make_preset, make_task, plain, stored
from tests.integration.test_messages import fill, numbered
from tests.support import Answer, Api, Person, caller, make_chat

MakePerson = Callable[..., Person]


def copy(api: Api, chat_id: str, user: Person, query: str = "") -> Answer:
    return api("chats.copy", "POST", f"/chats/{chat_id}/copy{query and '?'}{query}", user=user)


def thread_of(chat_id: str) -> list[dict[str, Any]]:
    chat = stored(chat_id)
    return [{**m.attribute_values, "thread": ""} for m in Message.query(chat.thread, consistent_read=True)]


def answered(owner: Person, chat: Chat, content: str = "An answer.") -> Task:
    """Let a task answer in a chat, through its settle."""
    task_id = make_task(owner, chat)
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e")])
    text = Text("Thinking.", content)
    return credits.settle(Task.get(task_id), Closer.executor("e"), "finished", text, "stop", Usage(7, 3, 1))


def share(chat: Chat) -> None:
    chat.update([Chat.visibility.set("shared")])


def shared_on(owner: Person, preset_id: str, *questions: str, version: int = 1) -> Chat:
    chat = make_chat(owner, *questions)
    chat.update(
        [Chat.preset_id.set(preset_id), Chat.preset_version.set(version), Chat.visibility.set("shared")],
    )
    return chat


def no_copies(user: Person) -> bool:
    return not list(Chat.scan(Chat.owner_id == user.id))


# --- what is in a copy


def test_a_copy_is_a_chat_of_its_own_with_the_same_messages(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    share(chat)
    task = answered(me, chat)
    body = {"messages": [{"role": "system", "content": "hidden", "visibility": False}]}
    api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me)
    original = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json
    assert original["messages"][1]["task_id"] == task.id
    answer = copy(api, chat.id, me)
    assert answer.status == 200
    made = answer.json
    del original["messages"][1]["task_id"]  # of a task that answered elsewhere, and would be made again there
    assert made == {
        **original,
        "id": made["id"],
        "visibility": "private",
        "version": 1,
        "create_time": made["create_time"],
        "update_time": made["create_time"],
    }
    assert made["id"] != chat.id
    assert answer.headers["etag"] == '"1"'
    assert api("chats.get", "GET", f"/chats/{made['id']}", user=me).json == made
    listed = api("chats.list", "GET", "/chats", user=me).json
    assert [item["id"] for item in listed] == [made["id"], chat.id]
    assert listed[0]["last_message"] == listed[1]["last_message"] == "An answer."

    api("chats.append", "POST", f"/chats/{made['id']}/messages", json=body, user=me)
    assert [m["n"] for m in thread_of(made["id"])] == [1, 2, 3, 4]
    assert len(thread_of(chat.id)) == 3, "the original knows nothing of it"
    api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me)
    assert len(thread_of(made["id"])) == 4


def test_a_copy_up_to_a_message_branches_off_there(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, *"abcde")
    made = copy(api, chat.id, me, "upto=3").json
    assert [m["content"] for m in made["messages"]] == ["a", "b", "c"]
    assert (made["message_count"], stored(made["id"]).next_n, stored(made["id"]).preview) == (3, 4, "c")
    wanted = NewTask(chat_id=made["id"])
    admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted))
    for unknown in (6, 2**53):
        answer = copy(api, chat.id, me, f"upto={unknown}")
        assert (answer.status, answer.json["code"]) == (422, "unknown_message")
    for wrong in ("upto=0", "upto=x", "upto=-1", f"upto={2**60}", "upto="):
        assert copy(api, chat.id, me, wrong).json["code"] == "validation_error"


def test_a_copy_of_an_empty_chat_is_empty(api: Api, person: MakePerson) -> None:
    me = person()
    made = copy(api, make_chat(me).id, me).json
    assert (made["messages"], made["message_count"], stored(made["id"]).next_n) == ([], 0, 1)
    assert api("chats.list", "GET", "/chats", user=me).json[0]["last_message"] is None


def test_the_answer_that_is_being_made_is_not_in_a_copy(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    make_task(me, chat)
    made = copy(api, chat.id, me).json
    assert [m["content"] for m in made["messages"]] == ["Hi"]
    assert "active_task" not in made
    assert make_task(me, stored(made["id"])), "and the copy is free for another"


def test_of_a_shared_chat_others_copy_what_they_see(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    chat = make_chat(owner, "Hi", "hidden")
    preset_id = make_preset(owner, "public")
    chat.update([Chat.preset_id.set(preset_id), Chat.visibility.set("shared")])
    Message(chat.thread, 2).update([Message.visibility.set(False)])
    answered(owner, chat)
    seen = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json["messages"]
    assert [m["n"] for m in seen] == [1, 3]
    made = copy(api, chat.id, me).json
    assert made["messages"] == seen
    assert (made["owner_id"], made["message_count"]) == (me.id, 2)
    assert all("hidden" not in str(m) for m in thread_of(made["id"]))
    for message in thread_of(made["id"]):
        assert {name for name, value in message.items() if value is not None} == {"thread", *READERS_FIELDS} - {
            "upload"
        }
    unseen = copy(api, chat.id, me, "upto=2")
    assert (unseen.status, unseen.json["code"]) == (422, "unknown_message"), "not even that it is there"
    assert [m["n"] for m in copy(api, chat.id, person(permission=2)).json["messages"]] == [1, 2, 3]


@pytest.mark.parametrize("finish_reason", ["interrupted", "content_filter"])
def test_an_answer_that_no_prompt_shows_is_shown_by_no_copys_prompt(
    api: Api, person: MakePerson, finish_reason: str
) -> None:
    owner, me = person(), person()
    chat = shared_on(owner, make_preset(owner, "public"), "Hi")
    answered(owner, chat)
    Message(chat.thread, 2).update([Message.finish_reason.set(finish_reason)])
    assert thread_of(copy(api, chat.id, me).json["id"])[1]["finish_reason"] == finish_reason


@pytest.mark.parametrize("length", [1, 25, 26, 300, messages.COPIED])
def test_up_to_2000_messages_are_copied(api: Api, person: MakePerson, length: int) -> None:
    me = person()
    chat = make_chat(me)
    fill(chat, numbered(chat, length))
    made = copy(api, chat.id, me).json
    assert (made["message_count"], len(made["messages"])) == (length, min(length, 100))
    assert thread_of(made["id"]) == thread_of(chat.id)


def test_what_is_longer_is_too_large_and_can_be_copied_in_part(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me)
    fill(chat, numbered(chat, 2001))
    answer = copy(api, chat.id, me)
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert copy(api, chat.id, me, "upto=2000").status == 200
    monkeypatch.setattr(messages, "COPIED_READS", 1)
    large = make_chat(me)
    fill(large, numbered(large, 13, content="x" * 100_000))
    assert copy(api, large.id, me).json["code"] == "too_large"
    assert copy(api, large.id, me, "upto=5").status == 200


def test_a_branch_is_not_left_out_if_the_messages_before_it_use_the_reads_up(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_chat(person())
    before = numbered(chat, 13, content="x" * 100_000)
    branch = f"{chat.thread}#branch"
    messages.write([*before, Message(branch, 14, role="user", content="Hi", create_time=clock.timestamp())])
    path = (Segment(chat.thread, 1, 13), Segment(branch, 14))
    monkeypatch.setattr(messages, "COPIED_READS", 1)  # and one more for the second segment
    with pytest.raises(TooLarge):
        messages.copy_thread(path, "new", None, own=True)
    monkeypatch.setattr(messages, "COPIED_READS", 2)
    assert len(messages.copy_thread(path, "new", None, own=True)) == 14


# --- who may, and on what preset


def test_a_private_chat_is_copied_by_its_owner_and_admins_alone(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    chat = make_chat(owner, "Hi")
    answer = copy(api, chat.id, me)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    admin = person(permission=2)
    assert copy(api, chat.id, admin).json["owner_id"] == admin.id
    share(chat)
    visitor = copy(api, chat.id, person(permission=0))
    assert (visitor.status, visitor.json["code"]) == (403, "visitor")
    for unknown in (new_id(), "nothing"):
        assert copy(api, unknown, me).json["code"] == "chat_not_found"
    chat_deletion.delete(owner.user, chat.id)
    assert copy(api, chat.id, owner).status == 404
    assert no_copies(me)


def test_a_shared_chat_does_not_share_a_private_preset(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    chat = make_chat(owner, "Hi")  # on a private preset of theirs
    share(chat)
    answer = copy(api, chat.id, me)
    assert (answer.status, answer.json["code"]) == (403, "preset_private")
    Preset(chat.preset_id, Preset.HEAD).delete()
    gone = copy(api, chat.id, me)
    assert (gone.status, gone.json["code"]) == (400, "preset_not_found")
    assert no_copies(me)
    assert copy(api, chat.id, owner).json["preset_version"] == 1, "one's own keeps what it pins, whatever became of it"


def test_a_copy_of_anothers_chat_is_on_the_version_that_is_open_to_all_now(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    preset_id = make_preset(owner, "private", number=1)
    chat = shared_on(owner, preset_id, "Hi")
    body = {"visibility": "unlisted", "messages": []}
    assert api("presets.update", "PUT", f"/presets/{preset_id}", json=body, user=owner).status == 200
    assert copy(api, chat.id, me).json["preset_version"] == 2, "the first was never theirs to use"
    assert copy(api, chat.id, owner).json["preset_version"] == 1


def test_no_copy_and_no_reading_shows_the_presets_messages(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    chat = shared_on(owner, make_preset(owner, "public"), "Hi")
    for answer in (
        copy(api, chat.id, me),
        copy(api, chat.id, owner),
        api("chats.get", "GET", f"/chats/{chat.id}", user=me),
        api("chats.export", "GET", f"/chats/{chat.id}/export", user=owner),
        api("chats.export", "GET", f"/chats/{chat.id}/export?format=markdown", user=owner),
    ):
        assert answer.status == 200
        assert "secret prompt" not in answer.body


# --- at once, and broken off


def test_a_copy_is_one_of_the_two_whole_threads_while_the_original_is_replaced(person: MakePerson) -> None:
    me = person()
    user = me.user
    chat = make_chat(me)
    fill(chat, numbered(chat, 60, content="a"))
    made_copies: list[str] = []

    def replace(round: int) -> None:
        text = "ba"[round % 2]
        wanted = ChatChange(messages=[PlacedMessage(role="user", content=text) for _ in range(60)])
        with contextlib.suppress(PreconditionFailed):  # of two replacements at once, one wins
            chats.change(user, chat.id, wanted, "*")

    def take(_: int) -> None:
        made_copies.append(copies.copy(user, chat.id, None)[0].id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: replace(n) if n % 2 else take(n), range(24)))
    assert len(made_copies) == 12
    for chat_id in made_copies:
        contents = [m["content"] for m in thread_of(chat_id)]
        assert (len(contents), len(set(contents))) == (60, 1)


def test_a_copy_is_of_one_moment_while_messages_are_appended(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    user = me.user
    pair = NewMessages(messages=[NewMessage(role="user", content="x"), NewMessage(role="user", content="y")])
    with ThreadPoolExecutor(4) as pool:
        appends = [pool.submit(chats.append, user, chat.id, pair) for _ in range(10)]
        made_copies = [pool.submit(copies.copy, user, chat.id, None) for _ in range(10)]
    assert all(len(append.result()) == 2 for append in appends)
    for made in made_copies:
        copied, page = made.result()
        assert [m.n for m in page.messages] == list(range(1, len(page.messages) + 1))
        assert len(page.messages) % 2 == 0
        assert copied.message_count == len(page.messages)


def test_a_chat_that_is_made_private_meanwhile_is_not_copied(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, me = person(), person()
    chat = shared_on(owner, make_preset(owner, "public"), "Hi")
    copied = messages.copy_thread

    def meanwhile(*args: Any, **kwargs: Any) -> list[Message]:
        chats.change(owner.user, chat.id, ChatChange(visibility="private"), None)
        return copied(*args, **kwargs)

    monkeypatch.setattr(messages, "copy_thread", meanwhile)
    with pytest.raises(AideerError) as refused:
        copies.copy(me.user, chat.id, None)
    assert refused.value.code == "forbidden"
    assert no_copies(me)


def generation_jobs(chat_id: str) -> list[Record]:
    return [
        record
        for shard in range(jobs.SHARDS)
        for record in Record.query(jobs._pk(shard), consistent_read=True)
        if record.data.get("chat_id") == chat_id
    ]


def test_what_a_copy_leaves_behind_that_was_broken_off_is_removed(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, *"abc")
    written: list[Message] = []
    write = messages.write

    def die(thread: list[Message]) -> None:
        write(thread)
        written.extend(thread)
        raise KeyboardInterrupt  # as abrupt as a killed process

    monkeypatch.setattr(messages, "write", die)
    with pytest.raises(KeyboardInterrupt):
        copies.copy(me.user, chat.id, None)
    thread = written[0].thread
    (job,) = generation_jobs(thread.split("#")[0])
    assert jobs.run(job.pk, job.sk, time.monotonic() + 60, WORKERS)
    assert list(Message.query(thread, consistent_read=True)) == []
    assert [m["content"] for m in thread_of(chat.id)] == ["a", "b", "c"]


def test_the_job_of_a_copy_that_came_to_be_removes_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    made = copy(api, make_chat(me, *"abc").id, me).json
    (job,) = generation_jobs(made["id"])
    due = clock.parse(job.sk.split("#")[0])
    assert due > clock.now() + 1000, "long after any request has ended"
    thread = stored(made["id"]).thread
    replaced = api("chats.update", "PUT", f"/chats/{made['id']}", json=REPLACING, user=me, headers={"If-Match": '"1"'})
    assert replaced.status == 200
    assert jobs.run(job.pk, job.sk, time.monotonic() + 60, WORKERS)
    assert [m.content for m in Message.query(thread, consistent_read=True)] == ["a", "b", "c"], "somebody may read it"
    (job,) = generation_jobs(made["id"])
    assert jobs.run(job.pk, job.sk, time.monotonic() + 60, WORKERS)
    assert list(Message.query(thread, consistent_read=True)) == []
    assert generation_jobs(made["id"]) == []


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactWriteItems", faults.INTERNAL, status=500),
        lambda: faults.answer_lost("TransactWriteItems"),
        lambda: faults.refused("BatchWriteItem", faults.THROTTLED, times=2),
    ],
    ids=["conflict", "internal error", "lost answer", "batch throttled"],
)
def test_on_a_bad_day_too_there_is_one_whole_copy(
    api: Api, person: MakePerson, fault: Callable[[], AbstractContextManager[None]]
) -> None:
    me = person()
    chat = make_chat(me, *"abcdefgh")
    with fault():
        answer = copy(api, chat.id, me)
    assert answer.status == 200, answer.body
    assert thread_of(answer.json["id"]) == thread_of(chat.id)
    assert len(api("chats.list", "GET", "/chats", user=me).json) == 2


@pytest.mark.parametrize("operation", ["PutItem", "BatchWriteItem", "Query"])
def test_a_copy_that_gets_no_answer_is_none(api: Api, person: MakePerson, operation: str) -> None:
    me = person()
    chat = make_chat(me, *"abcdefgh")
    with faults.answer_lost(operation):
        answer = copy(api, chat.id, me)
    assert (answer.status, answer.json["code"]) == (503, "busy")
    assert [item["id"] for item in api("chats.list", "GET", "/chats", user=me).json] == [chat.id]


def test_what_a_copy_costs(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    chat = make_chat(me, *"abc")
    expected = {
        False: [
            "GetItem Users",
            "UpdateItem Records",
            "GetItem Chats",
            "Query Messages",
            "GetItem Chats",
            "PutItem Records",
            "BatchWriteItem",
        ],
        True: [
            *("GetItem Users", "UpdateItem Records", "GetItem Chats", "GetItem Presets", "Query Messages"),
            "GetItem Chats",
            *("PutItem Records", "BatchWriteItem"),
        ],
    }
    theirs = shared_on(person(), make_preset(me, "unlisted"), *"abc")
    quota.make_room(me.id)  # once for each user
    for others, source in ((False, chat), (True, theirs)):
        counted.clear()
        copy(api, source.id, me)
        assert Counter(plain(counted)) == Counter([*expected[others], "TransactWriteItems", "Query Messages"])
