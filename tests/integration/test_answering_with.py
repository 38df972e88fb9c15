"""An answer made again by another preset or model, which the chat itself does not get."""

from collections.abc import Callable
from typing import Any

import pytest

from aideer.core import clock
from aideer.data.models import AuditRecord, Chat, Message, Preset, Task
from aideer.tasks import executor
from local.simulators import dashscope
from tests.integration.test_asking import answered, ask
from tests.support import Api, Person, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]


def asked_once(me: Person, **parameters: Any) -> tuple[Chat, str]:
    chat = make_chat(me, "hello", parameters=parameters)
    return chat, answered(ask(me, {"chat_id": chat.id}))[0]["task_id"]


def body_of(provider: dashscope.Server) -> dict[str, Any]:
    found: dict[str, Any] = [seen for seen in provider.requests() if "body" in seen][-1]["body"]
    return found


def other_preset(me: Person, text: str = "You are brief.", **parameters: Any) -> str:
    preset_id: str = make_chat(me, parameters=parameters).preset_id
    for number in (0, 1):
        Preset(preset_id, number).update([Preset.messages.set([{"role": "system", "type": "text", "content": text}])])
    return preset_id


@pytest.mark.parametrize("door", ["stream", "queue"])
def test_another_model_answers_this_once(api: Api, person: MakePerson, provider: dashscope.Server, door: str) -> None:
    me = person()
    chat, task_id = asked_once(me)
    body = {"regenerate": task_id, "model": "qwen-max"}
    if door == "stream":
        again = answered(ask(me, body))[0]["task_id"]
    else:
        again = api("tasks.create", "POST", "/tasks", json={**body, "stream": False}, user=me).json["task_id"]
        in_loop(executor.execute(again, clock.now() + 60))
    assert (body_of(provider)["model"], body_of(provider)["input"]["messages"][0]["content"]) == (
        "qwen-max",
        "You are helpful.",
    )
    task = Task.get(again, consistent_read=True)
    assert (task.model, task.tariff["model"], task.status) == ("qwen-max", "qwen-max", "finished")
    message = Message.get(chat.thread, task.answer_n, consistent_read=True)
    assert message.model == "qwen-max"
    answered(ask(me, {"chat_id": chat.id, "messages": [{"role": "user", "content": "and now?"}]}))
    assert body_of(provider)["model"] == "qwen-plus"
    check_rules(me)


@pytest.mark.parametrize("door", ["stream", "queue"])
def test_another_preset_answers_this_once_and_the_chat_keeps_its_own(
    api: Api, person: MakePerson, provider: dashscope.Server, door: str
) -> None:
    me = person()
    chat, task_id = asked_once(me)
    preset = other_preset(me, model="qwen-flash", temperature=0.1)
    body = {"regenerate": task_id, "preset_id": preset}
    if door == "stream":
        again = answered(ask(me, body))[0]["task_id"]
    else:
        again = api("tasks.create", "POST", "/tasks", json={**body, "stream": False}, user=me).json["task_id"]
        in_loop(executor.execute(again, clock.now() + 60))
    sent = body_of(provider)
    assert [message["content"] for message in sent["input"]["messages"]] == ["You are brief.", "hello"]
    assert (sent["model"], sent["parameters"]["temperature"]) == ("qwen-flash", 0.1)
    task = Task.get(again, consistent_read=True)
    assert (task.preset_id, task.preset_version, task.status) == (preset, 1, "finished")
    now = Chat.get(chat.id, consistent_read=True)
    assert (now.preset_id, now.preset_version) == (chat.preset_id, 1)
    check_rules(me)


def test_a_preset_and_a_model_go_together(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    _, task_id = asked_once(me)
    answered(ask(me, {"regenerate": task_id, "preset_id": other_preset(me), "model": "qwen-max"}))
    assert body_of(provider)["model"] == "qwen-max"
    assert body_of(provider)["input"]["messages"][0]["content"] == "You are brief."


def test_the_price_is_that_of_the_model_that_answers(api: Api, person: MakePerson) -> None:
    me = person()
    _, task_id = asked_once(me)
    holds = {}
    for model in ("qwen-plus", "qwen-max"):
        body = {"regenerate": task_id, "model": model}
        quoted = api("tasks.quote", "POST", "/tasks/quote", json=body, user=me).json
        start, _ = answered(ask(me, body))
        assert start["credits_held"] == quoted["credits_at_most"]
        holds[model], task_id = start["credits_held"], start["task_id"]
    assert holds["qwen-max"] > holds["qwen-plus"]
    check_rules(me)


def test_a_model_must_do_what_the_preset_and_the_chat_need(person: MakePerson) -> None:
    me = person()
    for parameters, model, code in (
        ({}, "none", "model_not_priced"),
        ({"enable_thinking": True}, "qwen-max", "thinking_not_supported"),
    ):
        _, task_id = asked_once(me, **parameters)
        refused = ask(me, {"regenerate": task_id, "model": model})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    chat = make_chat(me, parameters={"model": "qwen3.5-plus"})
    image = {"role": "user", "type": "image", "content": "https://pictures.example.com/deer.jpg"}
    start, _ = answered(ask(me, {"chat_id": chat.id, "messages": [image]}))
    for blind in ({"model": "qwen-max"}, {"preset_id": other_preset(me)}):
        refused = ask(me, {"regenerate": start["task_id"], **blind})
        assert (refused.status_code, refused.json()["code"]) == (422, "model_without_vision")
    check_rules(me)


def test_only_a_preset_that_one_may_use_answers(person: MakePerson) -> None:
    me, other, admin = person(), person(), person(permission=2)
    _, task_id = asked_once(me)
    refused = ask(me, {"regenerate": task_id, "preset_id": other_preset(other)})
    assert (refused.status_code, refused.json()["code"]) == (403, "preset_private")
    missing = ask(me, {"regenerate": task_id, "preset_id": "none"})
    assert (missing.status_code, missing.json()["code"]) == (400, "preset_not_found")
    _, theirs = asked_once(admin)
    answered(ask(admin, {"regenerate": theirs, "preset_id": other_preset(other)}))
    records = [record.action for record in AuditRecord.scan() if record.actor_id == admin.id]
    assert records == ["preset.use"]


@pytest.mark.parametrize("extra", [{"model": "qwen-max"}, {"preset_id": "x"}])
def test_only_an_answer_made_again_takes_another_preset(person: MakePerson, extra: dict[str, Any]) -> None:
    me = person()
    refused = ask(me, {"chat_id": make_chat(me, "hello").id, **extra})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_error")


def test_a_repeated_request_with_another_model_is_another_question(person: MakePerson) -> None:
    me = person()
    _, task_id = asked_once(me)
    body = {"regenerate": task_id, "model": "qwen-max"}
    first = answered(ask(me, body, "tap"))
    assert answered(ask(me, body, "tap")) == first
    other = ask(me, {**body, "model": "qwen-plus"}, "tap")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
