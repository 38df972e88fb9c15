"""Conversations that a process remembers: the next question in one reads nothing, and is never asked with what has changed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideer.chats import quota
from aideer.core import clock
from aideer.core import settings as environment
from aideer.data.base import new_id
from aideer.data.models import Chat, Message
from aideer.prompts import prompts
from aideer.providers import dashscope as client
from aideer.tasks import conversations, executor
from local.simulators import dashscope
from tests.integration.test_asking import answered, ask
from tests.integration.test_branches import fresh, said, switch
from tests.support import Api, Person, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]
READS = {f"GetItem {environment.CHATS_TABLE}", f"Query {environment.MESSAGES_TABLE}"}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    conversations._remembered.clear()
    yield
    conversations._remembered.clear()


@pytest.fixture
def before(counted: list[str], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """For each call of the model, the AWS calls that came before it since `counted` was cleared."""
    found: list[list[str]] = []
    real = client.stream

    def noted(*arguments: Any, **named: Any) -> Any:
        found.append(list(counted))
        return real(*arguments, **named)

    monkeypatch.setattr(client, "stream", noted)
    return found


def go_on(me: Person, chat: Chat | str, text: str = "And then?", **more: Any) -> dict[str, Any]:
    chat_id = chat if isinstance(chat, str) else chat.id
    return answered(ask(me, {"chat_id": chat_id, "messages": [said(text)], **more}))[1]


def sent(provider: dashscope.Server) -> list[tuple[str, Any]]:
    """The last prompt, without the preset's message."""
    [*_, request] = [seen for seen in provider.requests() if "body" in seen]
    return [(message["role"], message["content"]) for message in request["body"]["input"]["messages"]][1:]


def stored_prompt(chat: Chat | str) -> list[tuple[str, Any]]:
    """What the prompt of the newest answer has to be, as the tables have it."""
    whole = fresh(chat)
    read = prompts.newest_first(whole.path, int(whole.next_n) - 1, prompts.READS)
    return [(message.role, message.content) for message in read][::-1]


def test_the_next_question_makes_one_call_before_the_model_is_asked(
    person: MakePerson, provider: dashscope.Server, counted: list[str], before: list[list[str]]
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    quota.make_room(me.id)
    for text in ("two", "three"):
        counted.clear()
        go_on(me, chat, text)
        assert before[-1] == ["TransactWriteItems"]
        assert sent(provider) == stored_prompt(chat)
    assert [content for role, content in sent(provider) if role == "user"] == ["hello", "And then?", "two", "three"]
    check_rules(me)


def test_so_does_the_first_question_after_a_chat_was_opened_or_answered_again(
    person: MakePerson, provider: dashscope.Server, counted: list[str], before: list[list[str]]
) -> None:
    me = person()
    start, _ = answered(ask(me, {"chat": {"preset_id": make_chat(me).preset_id}, "messages": [said("one")]}))
    chat_id = start["chat_id"]
    for text in ("two", None, "three"):
        counted.clear()
        body = {"chat_id": chat_id, "messages": [said(text)]} if text else {"regenerate": start["task_id"]}
        start, _ = answered(ask(me, body))
        assert sent(provider) == stored_prompt(chat_id)
        assert READS.isdisjoint(before[-1]) == bool(text)
    check_rules(me)


def append(api: Api, me: Person, chat: Chat) -> None:
    body = {"messages": [said("meanwhile"), said("an answer", "assistant")]}
    assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me).status == 200


def edit(api: Api, me: Person, chat: Chat) -> None:
    path = f"/chats/{chat.id}/messages/1"
    headers = {"If-Match": "*"}
    assert api("chats.message_update", "PUT", path, json={"content": "edited"}, user=me, headers=headers).status == 200


def remove(api: Api, me: Person, chat: Chat) -> None:
    path = f"/chats/{chat.id}/messages/1"
    assert api("chats.message_delete", "DELETE", path, user=me, headers={"If-Match": "*"}).status == 200


def replace(api: Api, me: Person, chat: Chat) -> None:
    headers = {"If-Match": "*"}
    body = {"messages": [said("all new")]}
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers=headers).status == 200


def retitle(api: Api, me: Person, chat: Chat) -> None:
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": new_id()}, user=me).status == 200


def move(api: Api, me: Person, chat: Chat) -> None:
    """To another preset, whose message is another."""
    other = make_chat(me, parameters={"model": "qwen-max"})
    body = {"preset_id": other.preset_id}
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me).status == 200


def answer_elsewhere(api: Api, me: Person, chat: Chat) -> None:
    """By the queue, whose executor remembers nothing here."""
    body = {"chat_id": chat.id, "messages": [said("elsewhere")], "stream": False}
    task = api("tasks.create", "POST", "/tasks", json=body, user=me).json
    in_loop(executor.execute(task["task_id"], clock.now() + 100))


def branch_off_elsewhere(api: Api, me: Person, chat: Chat) -> None:
    body = {"chat_id": chat.id, "messages": [said("instead")], "branch_at": 1, "stream": False}
    task = api("tasks.create", "POST", "/tasks", json=body, user=me).json
    in_loop(executor.execute(task["task_id"], clock.now() + 100))


def switch_back(api: Api, me: Person, chat: Chat) -> None:
    if fresh(chat).branches:
        assert switch(api, chat, "main", me).status == 200


CHANGES = [append, edit, remove, replace, retitle, move, answer_elsewhere, branch_off_elsewhere]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_chat_that_has_changed_since_is_read_again(
    api: Api,
    person: MakePerson,
    provider: dashscope.Server,
    counted: list[str],
    before: list[list[str]],
    change: Callable[[Api, Person, Chat], None],
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    change(api, me, chat)
    counted.clear()
    end = go_on(me, chat, "after the change")
    assert end["status"] == "finished"
    assert before[-1].count("TransactWriteItems") == 2, "the first one was refused"
    assert set(before[-1]) > READS
    assert sent(provider) == stored_prompt(chat)
    check_rules(me)


@given(
    st.lists(
        st.sampled_from(
            [go_on, go_on, append, edit, remove, retitle, answer_elsewhere, branch_off_elsewhere, switch_back]
        ),
        max_size=8,
    )
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_always_the_prompt_is_what_is_stored(
    api: Api, person: MakePerson, provider: dashscope.Server, steps: list[Any]
) -> None:
    me = person()
    chat = make_chat(me, "hello", "hello again")
    for step in [go_on, *steps, go_on]:
        if step is not go_on:
            first = next(iter(Message.query(fresh(chat).path[0].thread, consistent_read=True)), None)
            if step in (edit, remove, branch_off_elsewhere) and (first is None or first.n != 1 or fresh(chat).branches):
                continue  # there is no message 1 of one's own any more
            step(api, me, chat)
            continue
        go_on(me, chat, new_id())
        assert sent(provider) == stored_prompt(chat)
    check_rules(me)


def test_a_deleted_chat_is_answered_no_more(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 200
    refused = ask(me, {"chat_id": chat.id, "messages": [said("still there?")]})
    assert (refused.status_code, refused.json()["code"]) == (404, "chat_not_found")


def test_nobody_else_goes_on_in_a_remembered_chat(person: MakePerson, before: list[list[str]]) -> None:
    me = person()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    asked = len(before)
    for other in (person(), person(permission=2)):
        assert ask(other, {"chat_id": chat.id, "messages": [said("and I?")]}).status_code == 403
    assert len(before) == asked
    assert (me.id, chat.id) in conversations._remembered


def test_no_refusal_rests_on_what_is_remembered(
    api: Api, person: MakePerson, provider: dashscope.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, "x" * 9_000)
    go_on(me, chat)
    edit(api, me, chat)  # now it is short
    reach = prompts.compute_reach
    monkeypatch.setattr(prompts, "compute_reach", lambda tariff: (5_000, reach(tariff)[1]))
    assert go_on(me, chat)["status"] == "finished"
    assert sent(provider) == stored_prompt(chat)
    replaced = fresh(chat)
    replace(api, me, replaced)
    long = ask(me, {"chat_id": chat.id, "messages": [said("x" * 6_000)]})
    assert (long.status_code, long.json()["code"]) == (413, "context_too_long"), "a true one stays"


def test_a_refused_question_may_be_asked_again(person: MakePerson, provider: dashscope.Server) -> None:
    me = person(credits=1_000)
    chat = make_chat(me, "hello")
    go_on(me, chat)
    user = me.user
    user.update([type(user).credits.set(0)])
    assert ask(me, {"chat_id": chat.id, "messages": [said("poor")]}).status_code == 402
    user.update([type(user).credits.set(1_000)])
    go_on(me, chat, "rich")
    assert [content for role, content in sent(provider) if role == "user"] == ["hello", "And then?", "rich"]


def test_a_repeated_question_gets_its_first_answer(person: MakePerson, before: list[list[str]]) -> None:
    me, key = person(), new_id()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    body = {"chat_id": chat.id, "messages": [said("once")]}
    first, second = (answered(ask(me, body, key)) for _ in range(2))
    assert first[0]["task_id"] == second[0]["task_id"]
    assert first[1]["content"] == second[1]["content"]
    assert len(before) == 2
    check_rules(me)


@pytest.mark.parametrize("question", ["/sim fail=upstream_error", "/sim finish=length"])
def test_an_answer_that_failed_or_was_cut_off_is_in_no_later_prompt(
    person: MakePerson, provider: dashscope.Server, question: str
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    answered(ask(me, {"chat_id": chat.id, "messages": [said(question)]}))
    go_on(me, chat, "next")
    assert sent(provider) == stored_prompt(chat)


def test_it_is_remembered_for_a_while_and_once(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    wanted = conversations.NewQuestion.model_validate({"chat_id": chat.id, "messages": [said("x")]})
    now = clock.now()
    assert conversations.take(me.id, wanted)
    assert conversations.take(me.id, wanted) is None
    go_on(me, chat)
    monkeypatch.setattr(clock, "now", lambda: now + conversations.KEPT_SECONDS + 60)
    assert conversations.take(me.id, wanted) is None


def test_a_process_remembers_few_and_none_that_is_large(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "_MOST", 2)
    me = person()
    chats = [make_chat(me, "hello") for _ in range(3)]
    for chat in chats:
        go_on(me, chat)
    assert [chat_id for _, chat_id in conversations._remembered] == [chat.id for chat in chats[1:]]
    monkeypatch.setattr(conversations, "MOST_BYTES", 100)
    go_on(me, chats[2], "x" * 100)
    assert [chat_id for _, chat_id in conversations._remembered] == [chats[1].id]


def test_other_kinds_of_questions_read_the_chat(
    person: MakePerson, counted: list[str], before: list[list[str]]
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    go_on(me, chat)
    counted.clear()
    go_on(me, chat, "instead", branch_at=1)
    assert set(before[-1]) > READS
    assert before[-1].count("TransactWriteItems") == 1
