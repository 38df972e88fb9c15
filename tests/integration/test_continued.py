"""The rest of an answer that was cut off: one message in the end, with the sum of what both parts cost."""

from collections.abc import Callable
from typing import Any

import pytest

from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.base import new_id
from aideer.data.models import Chat, CreditEntry, Message, Task
from aideer.prompts.prompts import CONTINUE
from aideer.tasks import admission, executor, leases, questions, results
from local.simulators import dashscope
from tests.integration.test_asking import answered, ask, events
from tests.stream_client import streamed
from tests.support import Api, Person, accepted, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]


def cut_off(me: Person, **parameters: Any) -> tuple[Chat, dict[str, Any]]:
    """A chat whose answer was cut at max_tokens, and the last event of its stream."""
    chat = make_chat(me, "/sim tokens=12", parameters={"max_tokens": 5, **parameters})
    start, end = answered(ask(me, {"chat_id": chat.id}))
    assert end["finish_reason"] == "length"
    return chat, {**end, "task_id": start["task_id"]}


def interrupted(me: Person, text: Text) -> tuple[Chat, Task]:
    task_id, chat = accepted(me, "hello")
    task = leases.claim(task_id)
    assert task
    return chat, credits.release(task, Closer.executor(task.executor), "upstream_error", text)


def answers(chat: Chat) -> list[Message]:
    path = Chat.get(chat.id, consistent_read=True).path
    found = [message for part in path for message in Message.query(part.thread, consistent_read=True)]
    return [message for message in found if message.role == "assistant"]


@pytest.mark.parametrize("door", ["stream", "queue"])
def test_the_rest_of_an_answer_joins_it(api: Api, person: MakePerson, provider: dashscope.Server, door: str) -> None:
    me = person()
    chat, first = cut_off(me)
    if door == "stream":
        start, second = answered(ask(me, {"continues": first["task_id"]}))
        task_id = start["task_id"]
    else:
        body = {"continues": first["task_id"], "stream": False}
        task_id = api("tasks.create", "POST", "/tasks", json=body, user=me).json["task_id"]
        in_loop(executor.execute(task_id, clock.now() + 60))
        second = api("tasks.get", "GET", f"/tasks/{task_id}", user=me, parameters={"id": task_id}).json
    sent = [seen for seen in provider.requests() if "body" in seen][-1]["body"]["input"]["messages"]
    assert [(message["role"], message["content"]) for message in sent] == [
        ("system", "You are helpful."),
        ("user", "/sim tokens=12"),
        ("assistant", first["content"]),
        ("user", CONTINUE),
    ]
    [answer] = answers(chat)
    assert answer.content == first["content"] + second["content"]
    assert answer.task_id == task_id
    assert answer.credits == first["credits"] + second["credits"]
    for name in ("input_tokens", "output_tokens"):
        assert answer.usage[name] == first["usage"][name] + second["usage"][name]
    now = Chat.get(chat.id, consistent_read=True)
    assert (now.message_count, now.preview, now.preview_n) == (2, answer.content[:200], answer.n)
    lines = [-entry.amount for entry in CreditEntry.query(me.id, consistent_read=True) if entry.task_id]
    assert sorted(lines) == sorted([first["credits"], second["credits"]])
    check_rules(me)


def test_a_stream_shows_the_rest_alone_and_the_whole_message_at_its_end(person: MakePerson) -> None:
    me = person()
    chat, first = cut_off(me)
    shown = events(ask(me, {"continues": first["task_id"]}, "tap").text)
    end = shown[-2]["data"]
    assert end["message"]["content"] == first["content"] + end["content"]
    again = events(ask(me, {"continues": first["task_id"]}, "tap").text)
    assert again[-2]["data"] == end
    resumed = events(streamed(shown[0]["data"]["resume_url"].removeprefix("http://stream.test")).text)
    assert (resumed[0]["data"]["replaces"], resumed[0]["data"]["continued"]) == (2, True), (
        "who resumes knows where it goes on"
    )
    assert resumed[-2]["data"]["content"] == end["content"]
    task = Task.get(shown[0]["data"]["task_id"], consistent_read=True)
    assert results.read(task).text().content == end["content"]
    assert len(answers(chat)) == 1


def test_an_answer_can_be_continued_again_and_made_again(person: MakePerson) -> None:
    me = person()
    chat, first = cut_off(me)
    texts, task_id = [first["content"]], first["task_id"]
    for _ in range(3):
        start, end = answered(ask(me, {"continues": task_id}))
        texts.append(end["content"])
        task_id = start["task_id"]
        if end["finish_reason"] != "length":
            break
    assert answers(chat)[0].content == "".join(texts)
    answered(ask(me, {"regenerate": task_id}))
    assert len(answers(chat)) == 1
    check_rules(me)


def test_an_interrupted_answer_is_continued(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    chat, task = interrupted(me, Text("I think", "It is"))
    _, end = answered(ask(me, {"continues": task.id}))
    sent = [seen for seen in provider.requests() if "body" in seen][-1]["body"]["input"]["messages"]
    assert sent[-2]["content"] == "It is"
    [answer] = answers(chat)
    assert (answer.reasoning, answer.content) == ("I think", "It is" + end["content"])
    assert (answer.credits, answer.finish_reason) == (end["credits"], "stop")
    check_rules(me)


def test_a_failed_continuation_leaves_the_answer_as_it_was(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    chat, first = cut_off(me)
    [before] = answers(chat)
    request = admission.identify(caller := me_caller(me), wanted := question(first["task_id"]), new_id())
    made = admission.begin(caller, wanted, request)
    end = credits.release(made.task, Closer.executor(made.task.executor), "upstream_error", Text("", "more"))
    assert end.status == "failed"
    [after] = answers(chat)
    assert after.attribute_values == before.attribute_values
    again, _ = answered(ask(me, {"continues": first["task_id"]}))
    assert answers(chat)[0].task_id == again["task_id"]
    check_rules(me)


def me_caller(me: Person) -> Any:
    from tests.support import caller

    return caller(me.user)


def question(task_id: str) -> Any:
    from aideer.schemas.questions import NewQuestion

    return NewQuestion(continues=task_id)


def test_stopped_early_a_continuation_keeps_both_parts(person: MakePerson) -> None:
    me = person()
    chat, first = cut_off(me)
    request = admission.identify(caller := me_caller(me), wanted := question(first["task_id"]), new_id())
    made = admission.begin(caller, wanted, request)
    closer, usage = Closer.executor(made.task.executor), Usage(20, 1)
    credits.settle(made.task, closer, "stopped", Text("", " and"), "stopped", usage)
    [answer] = answers(chat)
    assert (answer.content, answer.finish_reason) == (first["content"] + " and", "stopped")
    check_rules(me)


def test_only_the_last_answer_that_was_cut_off_is_continued(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    whole = make_chat(me, "hello")
    start, _ = answered(ask(me, {"chat_id": whole.id}))
    chat, first = cut_off(me)
    _, silent = interrupted(me, Text("I think", ""))
    for task_id in (start["task_id"], silent.id):
        refused = ask(me, {"continues": task_id})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_cut_off")
    assert ask(person(), {"continues": first["task_id"]}).status_code == 404
    assert ask(me, {"continues": first["task_id"], "chat_id": whole.id}).status_code == 404
    with monkeypatch.context() as patch:
        patch.setattr(questions, "CONTINUED_BYTES", 3)
        refused = ask(me, {"continues": first["task_id"]})
        assert (refused.status_code, refused.json()["code"]) == (413, "answer_too_long")
    body = {"messages": [{"role": "user", "content": "later"}]}
    api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me)
    assert ask(me, {"continues": first["task_id"]}).json()["code"] == "not_cut_off"


@pytest.mark.parametrize(
    "extra", [{"regenerate": "x"}, {"chat": {"preset_id": "x"}}, {"messages": [{"role": "user", "content": "x"}]}]
)
def test_a_continuation_takes_no_other_question(person: MakePerson, extra: dict[str, Any]) -> None:
    refused = ask(person(), {"continues": "x", **extra})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_error")


def test_an_answer_is_continued_in_its_branch(person: MakePerson) -> None:
    me = person()
    chat, _ = cut_off(me)
    body = {"chat_id": chat.id, "branch_at": 1, "messages": [{"role": "user", "content": "/sim tokens=11"}]}
    start, first = answered(ask(me, body))
    assert first["finish_reason"] == "length"
    _, second = answered(ask(me, {"continues": start["task_id"]}))
    now = Chat.get(chat.id, consistent_read=True)
    assert [m.content for m in Message.query(now.path[-1].thread, consistent_read=True)] == [
        "/sim tokens=11",
        first["content"] + second["content"],
    ]
    assert len(list(Message.query(now.thread, consistent_read=True))) == 2
    check_rules(me)


def test_the_whole_answer_fits_an_item(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, provider: dashscope.Server
) -> None:
    """However often an answer is continued, its bytes stay below what one answer may have."""
    me = person()
    chat, task = interrupted(me, Text("", "x" * 150_000))
    question_of = Message.get(chat.thread, 1, consistent_read=True)
    question_of.content = "/sim fail=huge"
    question_of.save()
    monkeypatch.setattr("aideer.prompts.prompts.CONTINUE", "/sim fail=huge")
    answered(ask(me, {"continues": task.id}))
    [answer] = answers(chat)
    assert 150_000 < len(answer.content.encode()) <= 300_000
    check_rules(me)
