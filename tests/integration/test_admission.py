"""Quotes, answers made again, and titles."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aideer.billing import pricing
from aideer.core import characters, clock, settings
from aideer.core.errors import TooLarge
from aideer.data.models import Chat, CreditEntry, Message, Task
from aideer.prompts import prompts
from aideer.schemas.chats import CONTENT_BYTES
from aideer.tasks import control, executor, stream_log
from local.simulators.dashscope import Server
from tests.support import Answer, Api, Person, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]


def alone(task_id: str) -> None:
    in_loop(executor.execute(task_id, clock.now() + 60))


def ask(api: Api, person: Person, chat_id: str, **body: Any) -> dict[str, Any]:
    answer = api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id, "stream": False, **body}, user=person)
    assert answer.status == 200, answer.body
    value: dict[str, Any] = answer.json
    return value


def again(api: Api, person: Person, task_id: str, **more: Any) -> Answer:
    return api("tasks.regenerate", "POST", f"/tasks/{task_id}/regenerate", user=person, **more)


def answered(api: Api, person: Person, question: str = "hello") -> tuple[str, Chat]:
    chat = make_chat(person, question)
    task_id = ask(api, person, chat.id)["task_id"]
    alone(task_id)
    return task_id, chat


def messages(chat: Chat) -> list[Message]:
    return list(Message.query(chat.thread, consistent_read=True))


def grow(chat: Chat, count: int, content: str, **more: Any) -> None:
    """Put so many messages at the end of a chat."""
    first = int(Chat.get(chat.id, consistent_read=True).next_n)
    common = {"role": "user", "content": content, "create_time": clock.timestamp(), **more}
    with Message.batch_write() as batch:
        for n in range(first, first + count):
            batch.save(Message(chat.thread, n, **common))
    Chat(chat.id).update([Chat.next_n.add(count), Chat.message_count.add(count), Chat.version.add(1)])


def stored(task_id: str) -> Task:
    return Task.get(task_id, consistent_read=True)


# Quotes


def test_a_quote_is_what_the_task_then_holds_and_has_no_effect(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello 你好")
    before = me.user.attribute_values
    quote = api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, user=me)
    assert quote.status == 200
    assert me.user.attribute_values["credits"] == before["credits"]
    assert Chat.get(chat.id, consistent_read=True).active_task is None
    accepted = ask(api, me, chat.id)
    assert quote.json == {
        "input_tokens": quote.json["input_tokens"],
        "max_tokens": accepted["max_tokens"],
        "credits_at_most": accepted["credits_held"],
        "affordable": True,
    }


def test_a_quote_for_who_cannot_pay_says_what_it_would_take(api: Api, person: MakePerson) -> None:
    me = person(credits=0)
    chat = make_chat(me, "hello", parameters={"max_tokens": 100})
    quote = api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, user=me).json
    assert (quote["affordable"], quote["max_tokens"]) == (False, 100)
    assert quote["credits_at_most"] > 0


def test_a_quote_is_refused_as_the_task_would_be(api: Api, person: MakePerson) -> None:
    me = person()

    def quoted(chat_id: str, user: Person) -> int:
        return api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat_id}, user=user).status

    chat = make_chat(me, "hello")
    assert quoted("nothing", me) == 404
    assert quoted(chat.id, person()) == 403
    assert quoted(chat.id, person(permission=0)) == 403
    assert quoted(make_chat(me).id, me) == 422
    assert quoted(make_chat(me, "7" * 40_000, parameters={"model": "qwen-max"}).id, me) == 413
    for token in (None, "x.y.z", me.refresh_token):
        answer = api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, token=token)
        assert answer.status == 401


def test_what_is_not_shown_to_the_model_does_not_end_a_conversation(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a question " * 10)
    before = api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, user=me).json
    grow(chat, 12, "i" * 300_000, role="assistant", finish_reason="interrupted")
    assert api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, user=me).json == before
    accepted = ask(api, me, chat.id)
    alone(accepted["task_id"])
    assert stored(accepted["task_id"]).status == "finished"


def test_a_prompt_is_whole_or_there_is_none(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setattr(prompts, "READS", 3)
    me = person()
    chat = make_chat(me, "the question", *["asked again"] * 100)
    grow(chat, 10, "i" * 300_000, role="assistant", finish_reason="interrupted")
    counted.clear()
    answer = api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, user=me)
    assert (answer.status, answer.json["code"]) == (413, "context_too_long")
    assert counted.count(f"Query {settings.MESSAGES_TABLE}") == 3


def test_short_messages_are_read_no_further_than_they_can_be_sent(person: MakePerson, counted: list[str]) -> None:
    chat = make_chat(person())
    grow(chat, 150, "h")
    preset = prompts.get_preset(chat.preset_id, 1)
    counted.clear()
    tariff = {**pricing.get_tariff("qwen-plus"), "max_input": 300}
    with pytest.raises(TooLarge):  # a message is more than its text
        prompts.build(preset, chat.path, 151, tariff)
    assert Counter(counted) == Counter([f"Query {settings.MESSAGES_TABLE}"])


# Answers made again


def test_the_new_answer_takes_the_place_of_the_old_one(api: Api, person: MakePerson) -> None:
    me = person()
    first, chat = answered(api, me)
    accepted = again(api, me, first)
    assert accepted.status == 200
    assert [message.task_id for message in messages(chat)] == [None, first]  # still there
    second = accepted.json["task_id"]
    alone(second)
    [_, answer] = messages(chat)
    assert (answer.task_id, answer.n) == (second, 3)
    now = Chat.get(chat.id, consistent_read=True)
    assert (now.message_count, now.active_task) == (2, None)
    assert control.read_text(stored(first)).content  # the old one can still be looked at, in the log
    check_rules(me)


def test_an_answer_that_fails_to_be_made_again_leaves_the_old_one(api: Api, person: MakePerson) -> None:
    me = person()
    first, chat = answered(api, me)
    Message(chat.thread, 1).update([Message.content.set("/sim fail=drop_mid at=5 delay=1")])
    second = again(api, me, first).json["task_id"]
    alone(second)
    assert stored(second).status == "failed"
    assert control.read_text(stored(second)).content  # as far as it came
    assert [message.task_id for message in messages(chat)] == [None, first]
    third = again(api, me, second).json["task_id"]  # of the one that failed, the same question
    assert stored(third).replaces == stored(second).replaces
    control.request_stop(third)  # before it began: no text
    assert [message.task_id for message in messages(chat)] == [None, first]
    Message(chat.thread, 1).update([Message.content.set("hello again")])
    fourth = again(api, me, first).json["task_id"]
    alone(fourth)
    assert [message.task_id for message in messages(chat)] == [None, fourth]
    check_rules(me)


def test_the_prompt_of_an_answer_made_again_ends_before_the_old_one(
    api: Api, person: MakePerson, provider: Any
) -> None:
    me = person()
    first, _ = answered(api, me, "a question of its own")
    provider.reset()
    alone(again(api, me, first).json["task_id"])
    [request] = provider.requests()
    assert [message["role"] for message in request["body"]["input"]["messages"]] == ["system", "user"]


def test_only_the_last_answer_is_made_again(api: Api, person: MakePerson) -> None:
    me = person()
    first, chat = answered(api, me)
    now = Chat.get(chat.id, consistent_read=True)
    Message(chat.thread, now.next_n, role="user", content="and now?", create_time=clock.timestamp()).save()
    Chat(chat.id).update([Chat.next_n.add(1)])
    refused = again(api, me, first)
    assert (refused.status, refused.json["code"]) == (409, "not_last_answer")


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_what_its_user_has_rewritten_is_no_answer_to_replace(api: Api, person: MakePerson, role: str) -> None:
    me = person()
    first, chat = answered(api, me)
    Message(chat.thread, 1).update([Message.content.set("/sim fail=drop_mid at=5 delay=1")])
    second = again(api, me, first).json["task_id"]
    alone(second)
    assert stored(second).replaces == 2, "and it has failed"
    read = api("chats.get", "GET", f"/chats/{chat.id}", user=me)
    edited = [read.json["messages"][0], {"n": 2, "role": role, "content": "my own words"}]
    headers = {"If-Match": read.headers["etag"]}
    assert (
        api("chats.update", "PUT", f"/chats/{chat.id}", json={"messages": edited}, user=me, headers=headers).status
        == 200
    )
    for task_id in (first, second):
        refused = again(api, me, task_id)
        assert (refused.status, refused.json["code"]) == (409, "not_last_answer")
    assert [m.content for m in messages(Chat.get(chat.id, consistent_read=True))][1:] == ["my own words"]
    check_rules(me)


def test_an_answer_is_made_again_once_for_one_key_and_not_beside_another(api: Api, person: MakePerson) -> None:
    me = person()
    first, _ = answered(api, me)
    key = {"Idempotency-Key": "again"}
    accepted = again(api, me, first, headers=key)
    assert again(api, me, first, headers=key).body == accepted.body
    beside = again(api, me, first)
    assert (beside.status, beside.json["code"]) == (409, "task_running")
    check_rules(me)


def test_making_again_is_for_its_user(api: Api, person: MakePerson) -> None:
    me = person()
    first, _ = answered(api, me)
    assert again(api, person(), first).status == 404
    assert again(api, person(permission=2), first).status == 404
    assert again(api, person(permission=0), first).status == 403
    for token in (None, "x.y.z", me.refresh_token):
        answer = api("tasks.regenerate", "POST", f"/tasks/{first}/regenerate", token=token)
        assert answer.status == 401


# Titles


def test_a_title_of_messages_that_are_gone_asks_no_model(api: Api, person: MakePerson, provider: Server) -> None:
    me = person()
    chat = make_chat(me, "hello")
    before = len(provider.requests())
    accepted = ask(api, me, chat.id, type="title_generation")
    Message(chat.thread, 1).delete()
    alone(accepted["task_id"])
    task = stored(accepted["task_id"])
    assert (task.status, task.error_code, task.credits) == ("failed", "interrupted", 0)
    assert len(provider.requests()) == before
    check_rules(me)


def test_a_title_is_made_beside_an_answer_and_billed(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    running = ask(api, me, chat.id)  # the chat is occupied
    accepted = ask(api, me, chat.id, type="title_generation")
    assert accepted["stream_url"] is None
    alone(accepted["task_id"])
    task = stored(accepted["task_id"])
    now = Chat.get(chat.id, consistent_read=True)
    assert task.status == "finished"
    assert now.title == characters.extract_title(stream_log.read_text(task.id).content) != "Test"
    assert len(now.title) <= characters.TITLE_CHARACTERS
    assert now.active_task == running["task_id"]
    assert len(messages(chat)) == 1
    [entry] = [e for e in CreditEntry.query(me.id, consistent_read=True) if e.task_id == task.id]
    assert (entry.kind, entry.amount) == ("title_generation", -task.credits)
    check_rules(me)


def test_a_title_that_its_user_changed_meanwhile_stays(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    accepted = ask(api, me, chat.id, type="title_generation")
    Chat(chat.id).update([Chat.title.set("Mine")])
    alone(accepted["task_id"])
    assert stored(accepted["task_id"]).status == "finished"
    assert Chat.get(chat.id, consistent_read=True).title == "Mine"
    check_rules(me)


def test_a_title_that_fails_changes_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "/sim fail=drop_mid at=5 delay=1")
    accepted = ask(api, me, chat.id, type="title_generation")
    alone(accepted["task_id"])
    assert stored(accepted["task_id"]).status == "failed"
    now = Chat.get(chat.id, consistent_read=True)
    assert (now.title, now.version) == ("Test", chat.version)
    check_rules(me)


def test_a_title_is_told_nothing_that_is_hidden(api: Api, person: MakePerson, provider: Any) -> None:
    me = person()
    chat = make_chat(me, "seen", "a secret")
    Message(chat.thread, 2).update([Message.visibility.set(False)])
    accepted = ask(api, me, chat.id, type="title_generation")
    provider.reset()
    alone(accepted["task_id"])
    [request] = provider.requests()
    asked = str(request["body"]["input"]["messages"])
    assert "seen" in asked
    assert "secret" not in asked
    assert "You are helpful" not in asked


def test_a_title_is_looked_for_in_the_last_few_megabytes(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    chat = make_chat(me, "seen")
    grow(chat, 9, "h" * CONTENT_BYTES, visibility=False)
    ask(api, me, chat.id, type="title_generation")
    counted.clear()
    grow(chat, 45, "h" * CONTENT_BYTES, visibility=False)
    body = {"chat_id": chat.id, "type": "title_generation"}
    answer = api("tasks.quote", "POST", "/tasks/quote", json=body, user=me)
    assert (answer.status, answer.json["code"]) == (422, "empty_chat")
    assert counted.count(f"Query {settings.MESSAGES_TABLE}") == 4, "of a megabyte at most, each"


def test_a_title_needs_something_said_and_is_not_streamed(api: Api, person: MakePerson) -> None:
    me = person()
    empty = api(
        "tasks.create", "POST", "/tasks", json={"chat_id": make_chat(me).id, "type": "title_generation"}, user=me
    )
    assert (empty.status, empty.json["code"]) == (422, "empty_chat")
    chat = make_chat(me, "hello")
    accepted = ask(api, me, chat.id, type="title_generation")
    shown = api("tasks.get", "GET", f"/tasks/{accepted['task_id']}", user=me).json
    assert (shown["type"], shown["stream_url"]) == ("title_generation", None)
    from tests.integration.test_tasks import streamed

    answer = streamed(f"/api/v1/tasks/{accepted['task_id']}/stream", authorization=f"Bearer {me.token}")
    assert (answer.status_code, answer.json()["code"]) == (422, "not_streamable")
    assert stored(accepted["task_id"]).status == "pending"


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Rain in spring", "Rain in spring"),
        ('\n  "Rain in spring."\nand more', "Rain in spring"),
        ("《春雨》", "春雨"),
        ("## Rain", "Rain"),
        ("x" * 80, "x" * 50),
        ("", ""),
        (' "" ', ""),
    ],
)
def test_a_title_is_the_first_line_without_its_marks(answer: str, title: str) -> None:
    assert characters.extract_title(answer) == title
