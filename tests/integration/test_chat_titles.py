"""Titles of chats: given by a person, taken from the first message, or made by the model after the first answer."""

import importlib
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.chats import chat_titles
from aideer.core import aws, characters, clock, settings
from aideer.core.usage import Usage
from aideer.data import jobs
from aideer.data.base import new_id
from aideer.data.models import Chat, CreditEntry, Message, Record, Task, User
from aideer.schemas.questions import NewTask, OpenedChat
from aideer.security import limits
from aideer.security.limits import Limit
from aideer.tasks import auto_titles, executor, leases
from local.simulators.dashscope import Server
from tests import faults
from tests.stream_client import asked
from tests.support import Answer, Api, Context, Person, check_rules, in_loop, make_chat, sweep

MakePerson = Callable[..., Person]
QUESTION = {"role": "user", "content": "Are deer shy?"}
IMAGE = {"role": "user", "type": "image", "content": "https://example.com/deer.png"}


def create(api: Api, me: Person, **body: Any) -> dict[str, Any]:
    parameters = body.pop("parameters", None)
    preset = make_chat(me, parameters=parameters).preset_id
    answer = api("chats.create", "POST", "/chats", json={"preset_id": preset, **body}, user=me)
    assert answer.status == 200, answer.body
    value: dict[str, Any] = answer.json
    return value


def change(api: Api, me: Person, chat_id: str, **body: Any) -> Answer:
    return api("chats.update", "PUT", f"/chats/{chat_id}", json=body, user=me)


def append(api: Api, me: Person, chat_id: str, *new: dict[str, Any]) -> None:
    answer = api("chats.append", "POST", f"/chats/{chat_id}/messages", json={"messages": list(new)}, user=me)
    assert answer.status == 200, answer.body


def ask(api: Api, me: Person, chat_id: str, **body: Any) -> str:
    body = {"chat_id": chat_id, "stream": False, **body}
    answer = api("tasks.create", "POST", "/tasks", json=body, user=me)
    assert answer.status == 200, answer.body
    return str(answer.json["task_id"])


def stored(chat_id: str) -> Chat:
    return Chat.get(chat_id, consistent_read=True)


def named(chat_id: str) -> tuple[str, str | None]:
    chat = stored(chat_id)
    return chat.title, chat.title_source


def tasks_of(me: Person) -> list[Task]:
    return sorted(Task.scan(Task.user_id == me.id, consistent_read=True), key=lambda task: task.id)


def titles_of(me: Person) -> list[Task]:
    return [task for task in tasks_of(me) if task.type == Task.TITLE]


def run(task_id: str) -> None:
    in_loop(executor.execute(task_id, clock.now() + 60))


def jobs_of(chat_id: str) -> list[Record]:
    return [job for job in jobs.list_due(clock.now()) if job.data["kind"] == "title" and job.data["chat_id"] == chat_id]


def work(*left: Record) -> list[Any]:
    handler = importlib.import_module("jobs.run").handler
    records = [{"messageId": new_id(), "body": json.dumps({"pk": job.pk, "sk": job.sk})} for job in left]
    failed: list[Any] = handler({"Records": records}, Context(seconds=60))["batchItemFailures"]
    return failed


def wish(api: Api, me: Person, content: str = QUESTION["content"], **body: Any) -> str:
    """A chat that waits for a title, with a question."""
    question = {**QUESTION, "content": content}
    return str(create(api, me, auto_title=True, messages=[question], **body)["id"])


def answered(api: Api, me: Person, content: str = QUESTION["content"]) -> str:
    """A chat that waits for a title, with its first answer."""
    chat_id = wish(api, me, content)
    run(ask(api, me, chat_id))
    return chat_id


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """Messages to queues. None arrives."""
    messages: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(aws, "enqueue", lambda queue, message, delay=0: messages.append((queue, message)))
    return messages


# --- the first message


def test_a_chat_without_a_title_is_named_by_its_first_message_of_the_user(api: Api, person: MakePerson) -> None:
    me = person()
    messages = [{"role": "assistant", "content": "Hello"}, {**QUESTION, "content": " Are\ndeer " + "shy" * 30}]
    chat = create(api, me, messages=messages)
    assert (chat["title"], chat["title_source"]) == (("Are deer " + "shy" * 30)[:50], "message")


@pytest.mark.parametrize(
    "messages",
    [[], [IMAGE], [{"role": "assistant", "content": "Hello"}], [{"role": "user", "content": "\u200b \n"}]],
    ids=["nothing", "an image", "an answer", "nothing to see"],
)
def test_without_a_text_of_the_user_it_is_untitled(api: Api, person: MakePerson, messages: list[Any]) -> None:
    chat = create(api, person(), messages=messages, parameters={"model": "qwen3.5-plus"} if IMAGE in messages else None)
    assert (chat["title"], chat["title_source"]) == (chat_titles.UNTITLED, "default")


def test_a_title_that_is_given_is_a_persons(api: Api, person: MakePerson) -> None:
    chat = create(api, person(), title="Deer", messages=[QUESTION])
    assert (chat["title"], chat["title_source"]) == ("Deer", "person")


def test_messages_that_are_appended_later_name_an_untitled_chat_once(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = create(api, me)["id"]
    append(api, me, chat_id, {"role": "assistant", "content": "Hello"})
    assert named(chat_id) == (chat_titles.UNTITLED, "default")
    append(api, me, chat_id, QUESTION)
    assert named(chat_id) == ("Are deer shy?", "message")
    append(api, me, chat_id, {"role": "user", "content": "And bold?"})
    assert named(chat_id) == ("Are deer shy?", "message")


@pytest.mark.parametrize("streams", [False, True])
def test_a_question_names_an_untitled_chat(api: Api, person: MakePerson, streams: bool) -> None:
    me = person()
    chat_id = create(api, me)["id"]
    if streams:
        body = {"chat_id": chat_id, "messages": [QUESTION]}
        assert asked(body, me.token, **{"Idempotency-Key": new_id()}).status_code == 200
    else:
        ask(api, me, chat_id, messages=[QUESTION])
    assert named(chat_id) == ("Are deer shy?", "message")


def test_replaced_messages_name_an_untitled_chat(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = create(api, me)["id"]
    path, headers = f"/chats/{chat_id}", {"If-Match": "*"}
    body = {"messages": [QUESTION]}
    assert api("chats.update", "PUT", path, json=body, user=me, headers=headers).json["title"] == "Are deer shy?"
    body = {"messages": [{**QUESTION, "content": "Other"}], "title": "Mine"}
    changed = api("chats.update", "PUT", path, json=body, user=me, headers=headers).json
    assert (changed["title"], changed["title_source"]) == ("Mine", "person")


def test_no_message_renames_a_chat_that_a_person_named(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = create(api, me)["id"]
    change(api, me, chat_id, title=chat_titles.UNTITLED)  # the very text that it had
    append(api, me, chat_id, QUESTION)
    assert named(chat_id) == (chat_titles.UNTITLED, "person")


def test_a_person_who_renames_while_a_message_is_appended_wins(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat_id = create(api, me)["id"]
    retitle = chat_titles.retitle

    def meanwhile(chat: Chat, said: Any) -> Any:
        monkeypatch.setattr(chat_titles, "retitle", retitle)
        change(api, me, chat_id, title="Mine")
        return retitle(chat, said)

    monkeypatch.setattr(chat_titles, "retitle", meanwhile)
    append(api, me, chat_id, QUESTION)
    assert named(chat_id) == ("Mine", "person")
    assert stored(chat_id).message_count == 1


def test_a_chat_of_the_first_release_counts_as_named_by_a_person(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)  # stored as release 0.1 did
    assert api("chats.get", "GET", f"/chats/{chat.id}", user=me).json["title_source"] == "person"
    change(api, me, chat.id, auto_title=True)
    append(api, me, chat.id, QUESTION)
    run(ask(api, me, chat.id))
    assert named(chat.id) == ("Test", None)
    assert not jobs_of(chat.id)


def test_a_copy_is_named_as_its_original_and_waits_for_no_title(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = wish(api, me)
    copied = api("chats.copy", "POST", f"/chats/{chat_id}/copy", user=me).json
    assert (copied["title"], copied["title_source"]) == ("Are deer shy?", "message")
    assert "auto_title" not in copied


# --- auto_title


def test_after_the_first_answer_the_model_makes_the_title_and_it_is_billed(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    assert named(chat_id) == ("Are deer shy?", "message")
    [job] = jobs_of(chat_id)
    assert not work(job)
    assert not jobs_of(chat_id)
    [task] = titles_of(me)
    assert (task.status, task.chat_id, stored(chat_id).title_task) == ("pending", chat_id, task.id)
    run(task.id)
    title, source = named(chat_id)
    assert (source, title != "Are deer shy?", len(title) <= characters.TITLE_CHARACTERS) == ("model", True, True)
    [entry] = [entry for entry in CreditEntry.query(me.id, consistent_read=True) if entry.task_id == task.id]
    assert (entry.kind, entry.amount) == ("title_generation", -Task.get(task.id, consistent_read=True).credits)
    check_rules(me)


def test_one_request_opens_a_chat_that_gets_its_title(api: Api, person: MakePerson) -> None:
    me = person()
    chat = {"preset_id": make_chat(me).preset_id, "auto_title": True}
    answer = asked({"chat": chat, "messages": [QUESTION]}, me.token, **{"Idempotency-Key": new_id()})
    assert answer.status_code == 200
    [task] = tasks_of(me)
    work(*jobs_of(task.chat_id))
    [title] = titles_of(me)
    run(title.id)
    assert named(task.chat_id)[1] == "model"
    assert stored(task.chat_id).auto_title is True
    check_rules(me)


def test_the_answer_and_its_end_wait_for_no_title(
    api: Api, person: MakePerson, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat_id = wish(api, me)
    order: list[str] = []
    notify, send = executor.Run._notify, jobs.send_named
    monkeypatch.setattr(
        executor.Run, "_notify", lambda self: (order.append("over") if self.over else None, notify(self))[1]
    )
    monkeypatch.setattr(jobs, "send_named", lambda *about: (order.append("title"), send(*about))[1])
    answer = asked({"chat_id": chat_id}, me.token, **{"Idempotency-Key": new_id()})
    assert "event: close" in answer.text
    assert order == ["over", "title"]
    [job] = jobs_of(chat_id)
    assert sent == [(settings.JOBS_QUEUE_URL, {"pk": job.pk, "sk": job.sk})]


def test_a_queue_that_fails_takes_nothing_from_the_answer_and_the_sweep_sends_the_job(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat_id = wish(api, me)
    task_id = ask(api, me, chat_id)
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "send_named", lambda *_: 1 / 0)
        run(task_id)
    assert Task.get(task_id, consistent_read=True).status == "finished"
    messages: list[Any] = []
    monkeypatch.setattr(aws, "enqueue", lambda queue, message, delay=0: messages.append((queue, message)))
    [job] = jobs_of(chat_id)
    sweep()
    assert (settings.JOBS_QUEUE_URL, {"pk": job.pk, "sk": job.sk}) in messages


def test_clients_that_never_ask_for_it_see_no_other_call(
    api: Api, person: MakePerson, counted: list[str], sent: list[Any]
) -> None:
    me = person()
    chat_id = create(api, me, messages=[QUESTION])["id"]
    task_id = ask(api, me, chat_id)
    sent.clear()
    run(task_id)
    assert not sent
    assert not jobs_of(chat_id)
    task = Task.get(task_id, consistent_read=True)
    assert (task.entitles, task.unasked) == (None, None)


def test_a_chat_gets_one_title_task_however_often_the_job_comes(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    [job] = jobs_of(chat_id)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: auto_titles.make(job.data, 0), range(8)))
    assert len(titles_of(me)) == 1
    work(job, job)
    assert len(titles_of(me)) == 1
    check_rules(me)


def test_a_title_comes_once_also_if_it_is_wished_again(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    work(*jobs_of(chat_id))
    run(titles_of(me)[0].id)
    for wished in (False, True):
        assert change(api, me, chat_id, auto_title=wished).json["auto_title"] is wished
    append(api, me, chat_id, QUESTION)
    run(ask(api, me, chat_id))
    assert not jobs_of(chat_id)
    assert len(titles_of(me)) == 1


def test_a_title_that_failed_is_not_tried_again(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = wish(api, me, "/sim tokens=4 delay=1")
    run(ask(api, me, chat_id))
    Message(stored(chat_id).thread, 1).update([Message.content.set("/sim fail=drop_mid at=5 delay=1")])
    work(*jobs_of(chat_id))
    run(titles_of(me)[0].id)
    assert titles_of(me)[0].status == "failed"
    append(api, me, chat_id, QUESTION)
    run(ask(api, me, chat_id))
    assert not jobs_of(chat_id)
    assert len(titles_of(me)) == 1
    check_rules(me)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_worker_that_is_told_nothing_makes_one_title_task(api: Api, person: MakePerson, lost: int) -> None:
    me = person()
    chat_id = answered(api, me)
    [job] = jobs_of(chat_id)
    with faults.answer_lost("TransactWriteItems", lost):
        work(job)
    work(job)
    [task] = titles_of(me)
    assert stored(chat_id).title_task == task.id
    check_rules(me)


def test_a_close_that_is_told_nothing_writes_one_job(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = wish(api, me)
    task_id = ask(api, me, chat_id)
    task = leases.claim(task_id)
    assert task
    with faults.answer_lost("TransactWriteItems"):
        credits.settle(task, Closer.executor(task.executor), "finished", Text(content="Yes."), "stop", Usage(5, 5))
    assert len(jobs_of(chat_id)) == 1
    check_rules(me)


# --- a person's title


def end_of(api: Api, me: Person, when: str, chat_id: str, rename: Callable[[], Any]) -> None:
    """Go on from an open answer to the end of the title, and rename at some moment."""
    [task] = tasks_of(me)
    if when == "before the answer ends":
        rename()
    run(task.id)
    if when == "before the title is accepted":
        rename()
    work(*jobs_of(chat_id))
    if when == "before the title is made":
        rename()
    for title in titles_of(me):
        run(title.id)
    if when == "after the title is made":
        rename()


@pytest.mark.parametrize("same", [False, True], ids=["another text", "the very text"])
@pytest.mark.parametrize(
    "when",
    [
        "before the answer ends",
        "before the title is accepted",
        "before the title is made",
        "after the title is made",
    ],
)
def test_a_person_who_renames_at_any_moment_wins(api: Api, person: MakePerson, when: str, same: bool) -> None:
    me = person()
    chat_id = wish(api, me)
    ask(api, me, chat_id)
    given = "Are deer shy?" if same else "Mine"
    end_of(api, me, when, chat_id, lambda: change(api, me, chat_id, title=given))
    assert named(chat_id) == (given, "person")
    assert len(titles_of(me)) == (when in ("before the title is made", "after the title is made"))
    assert {task.status for task in tasks_of(me)} == {"finished"}
    check_rules(me)


def test_who_takes_the_wish_back_in_time_pays_for_no_title(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    change(api, me, chat_id, auto_title=False)
    work(*jobs_of(chat_id))
    assert not titles_of(me)
    assert named(chat_id) == ("Are deer shy?", "message")


def test_a_wish_on_an_older_chat_is_for_its_next_answer(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = create(api, me, messages=[QUESTION])["id"]
    run(ask(api, me, chat_id))
    change(api, me, chat_id, auto_title=True)
    assert not jobs_of(chat_id)
    append(api, me, chat_id, QUESTION)
    run(ask(api, me, chat_id))
    assert len(jobs_of(chat_id)) == 1


def test_a_chat_with_a_given_title_gets_no_other_one(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = wish(api, me, title="Deer")
    run(ask(api, me, chat_id))
    assert not jobs_of(chat_id)
    assert named(chat_id) == ("Deer", "person")


def test_a_title_that_a_person_asks_for_is_the_models_and_the_wish_is_done(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = wish(api, me)
    run(ask(api, me, chat_id))
    run(ask(api, me, chat_id, type="title_generation"))
    assert named(chat_id)[1] == "model"
    work(*jobs_of(chat_id))
    assert len(titles_of(me)) == 1


def test_only_the_owner_who_pays_for_a_title_wishes_for_it(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    chat_id = create(api, me, messages=[QUESTION])["id"]
    refused = change(api, admin, chat_id, auto_title=True)
    assert (refused.status, refused.json["code"]) == (403, "not_owner")
    assert change(api, admin, chat_id, title="Moderated").json["title_source"] == "person"


# --- no title, quietly


def assert_untitled(me: Person, chat_id: str) -> None:
    assert not work(*jobs_of(chat_id))
    assert not jobs_of(chat_id)
    assert not titles_of(me)
    assert (named(chat_id)[1], stored(chat_id).title_task) == ("message", None)
    check_rules(me)


def test_without_credits_there_is_no_title_and_the_next_answer_tries_again(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    left = int(me.user.credits)
    User(me.id).update([User.credits.set(0)])
    assert not work(*jobs_of(chat_id))
    assert not titles_of(me)
    User(me.id).update([User.credits.set(left)])
    append(api, me, chat_id, QUESTION)
    run(ask(api, me, chat_id))
    work(*jobs_of(chat_id))
    assert len(titles_of(me)) == 1
    check_rules(me)


def test_with_too_many_open_tasks_there_is_no_title(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat_id = answered(api, me)
    monkeypatch.setattr(settings, "OPEN_TASKS", 2)
    for _ in range(2):
        ask(api, me, make_chat(me, "hello").id)
    assert_untitled(me, chat_id)


def test_a_title_counts_as_an_answer_and_is_limited_like_one(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat_id = answered(api, me)
    monkeypatch.setitem(limits.LIMITS, "answer", Limit(1, 3600))
    ask(api, me, make_chat(me, "hello").id)
    assert_untitled(me, chat_id)


def test_a_retired_model_makes_no_title(api: Api, person: MakePerson, use_prices: Any) -> None:
    from tests import prices

    me = person()
    chat_id = answered(api, me)
    use_prices(prices.change_model("qwen-plus", retires_on="2020-01-01"))
    assert_untitled(me, chat_id)


@pytest.mark.parametrize("directive", ["fail=drop_mid at=5", "filter at=4", "fail=empty"])
def test_an_answer_that_is_none_leads_to_no_title(api: Api, person: MakePerson, directive: str) -> None:
    me = person()
    chat_id = answered(api, me, f"/sim {directive} delay=1")
    assert not jobs_of(chat_id)


def test_a_deleted_chat_or_user_gets_no_title(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    left = jobs_of(chat_id)
    api("chats.delete", "DELETE", f"/chats/{chat_id}", user=me)
    assert not work(*left)
    assert not titles_of(me)
    other = answered(api, me)
    left = jobs_of(other)
    assert api("users.delete", "DELETE", f"/users/{me.id}", user=me).status == 200
    assert not work(*left)
    assert not titles_of(me)


def test_a_visitor_gets_no_title(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    User(me.id).update([User.permission.set(0)])
    assert_untitled(me, chat_id)


def test_who_has_signed_out_meanwhile_gets_the_title(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = answered(api, me)
    User(me.id).update([User.token_version.add(1)])
    work(*jobs_of(chat_id))
    assert len(titles_of(me)) == 1


# --- what is shown


def test_readers_of_a_shared_chat_do_not_see_the_wish(api: Api, person: MakePerson) -> None:
    me = person()
    chat_id = wish(api, me, visibility="shared")
    assert api("chats.get", "GET", f"/chats/{chat_id}", user=me).json["auto_title"] is True
    [listed] = [chat for chat in api("chats.list", "GET", "/chats", user=me).json if chat["id"] == chat_id]
    assert (listed["auto_title"], listed["title_source"]) == (True, "message")
    assert "auto_title" not in api("chats.get", "GET", f"/chats/{chat_id}", user=person()).json


def test_a_key_of_the_release_before_is_still_known() -> None:
    """It stored a hash of the request, without auto_title."""
    wanted = NewTask.model_validate({"chat": {"preset_id": "p", "title": "t"}, "messages": []})
    assert json.loads(wanted.canonical())["chat"] == {"preset_id": "p", "title": "t", "visibility": "private"}
    wished = wanted.model_copy(update={"chat": OpenedChat(preset_id="p", auto_title=True)})
    assert json.loads(wished.canonical())["chat"]["auto_title"] is True


def test_a_title_costs_the_close_no_read_and_one_message(
    api: Api, person: MakePerson, counted: list[str], provider: Server
) -> None:
    me = person()
    plain, wished = create(api, me, messages=[QUESTION])["id"], wish(api, me)
    calls = []
    for chat_id in (plain, wished):
        task_id = ask(api, me, chat_id)
        counted.clear()
        run(task_id)
        calls.append(Counter(call for call in counted if "TaskEvents" not in call))
    assert calls[1] - calls[0] == Counter(["SendMessage"])
    assert not calls[0] - calls[1]
