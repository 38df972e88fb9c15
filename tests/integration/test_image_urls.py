"""Images in chats: who may send which, what the model is asked, what it costs at most, and that no file of ours is ever opened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aideer.billing import pricing
from aideer.core import clock
from aideer.data.models import Chat, Message, Task
from aideer.prompts import prompts
from aideer.tasks import executor
from local.simulators.dashscope import MULTIMODAL_PATH, Server
from tests import prices
from tests.support import Answer, Api, Person, UsePrices, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]
SEEING, BLIND = "qwen3.5-plus", "qwen-plus"
ADDRESS = "https://example.com/cat.png"
IMAGE = {"role": "user", "type": "image", "content": ADDRESS}


def said(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def append(api: Api, person: Person, chat: Chat, *messages: dict[str, Any]) -> Answer:
    body = {"messages": list(messages)}
    return api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=person)


def put(api: Api, person: Person, chat: Chat, **change: Any) -> Answer:
    etag = f'"{stored(chat).version}"'
    return api("chats.update", "PUT", f"/chats/{chat.id}", json=change, user=person, headers={"If-Match": etag})


def ask(api: Api, person: Person, chat: Chat, **more: Any) -> Answer:
    return api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id, "stream": False, **more}, user=person)


def stored(chat: Chat) -> Chat:
    return Chat.get(chat.id, consistent_read=True)


def thread(chat: Chat) -> list[Message]:
    return list(Message.query(stored(chat).thread, consistent_read=True))


def answered(api: Api, person: Person, chat: Chat, **more: Any) -> Task:
    accepted = ask(api, person, chat, **more)
    assert accepted.status == 200, accepted.body
    in_loop(executor.execute(accepted.json["task_id"], clock.now() + 60))
    return Task.get(accepted.json["task_id"], consistent_read=True)


def asked(provider: Server, marker: str) -> dict[str, Any]:
    """The one request whose body has this marker."""
    [request] = [request for request in provider.requests() if marker in str(request.get("body"))]
    return request


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


WITHOUT_VISION = (422, "model_without_vision")


def test_a_picture_is_asked_about_and_answered(api: Api, person: MakePerson, provider: Server) -> None:
    me = person()
    chat = make_chat(me, parameters={"model": SEEING})
    mark = f"/sim tokens=12 what is it? {chat.id}"
    sent = append(api, me, chat, IMAGE, said(mark))
    assert [(message["type"], message["content"]) for message in sent.json] == [("image", ADDRESS), ("text", mark)]
    task = answered(api, me, chat)
    assert task.status == "finished"
    request = asked(provider, chat.id)
    assert request["path"] == MULTIMODAL_PATH
    assert request["body"]["input"]["messages"] == [
        {"role": "system", "content": [{"text": "You are helpful."}]},
        {"role": "user", "content": [{"image": ADDRESS}, {"text": mark}]},
    ]
    answer = thread(chat)[-1]
    assert (answer.role, answer.type) == ("assistant", "text")
    assert answer.content.startswith("I can see 1 image.")
    assert answer.usage == task.usage
    check_rules(me)


def test_a_conversation_about_pictures_goes_on(api: Api, person: MakePerson, provider: Server) -> None:
    me = person()
    chat = make_chat(me, parameters={"model": SEEING})
    append(api, me, chat, said("first"), IMAGE)
    assert answered(api, me, chat).status == "finished"
    answer = thread(chat)[-1].content
    append(api, me, chat, IMAGE, said(f"second {chat.id}"))
    answered(api, me, chat)
    assert asked(provider, chat.id)["body"]["input"]["messages"][1:] == [
        {"role": "user", "content": [{"text": "first"}, {"image": ADDRESS}]},
        {"role": "assistant", "content": [{"text": answer}]},
        {"role": "user", "content": [{"image": ADDRESS}, {"text": f"second {chat.id}"}]},
    ]


def test_a_picture_alone_is_a_question(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, parameters={"model": SEEING})
    append(api, me, chat, IMAGE)
    assert answered(api, me, chat).status == "finished"


def test_a_picture_of_the_preset_is_shown_to_the_model(api: Api, person: MakePerson, provider: Server) -> None:
    me = person()
    body = {"title": "Look", "parameters": {"model": SEEING}, "messages": [IMAGE]}
    preset = api("presets.create", "POST", "/presets", json=body, user=me).json
    opened = {"preset_id": preset["id"], "title": "t", "messages": [said("/sim tokens=3 and this?"), IMAGE]}
    chat = Chat.get(api("chats.create", "POST", "/chats", json=opened, user=me).json["id"])
    append(api, me, chat, said(f"well {chat.id}"))
    assert answered(api, me, chat).status == "finished"
    [message] = asked(provider, chat.id)["body"]["input"]["messages"]
    assert [*message["content"][0]] == [*message["content"][2]] == ["image"]
    assert len(message["content"]) == 4


# What is refused


def test_a_model_without_vision_is_sent_none(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hi")
    opened = {"preset_id": chat.preset_id, "title": "t", "messages": [IMAGE]}
    assert refusal(api("chats.create", "POST", "/chats", json=opened, user=me)) == WITHOUT_VISION
    assert refusal(append(api, me, chat, said("a"), IMAGE)) == WITHOUT_VISION
    assert refusal(put(api, me, chat, messages=[IMAGE])) == WITHOUT_VISION
    assert refusal(put(api, me, chat, messages=[{**IMAGE, "n": 1}])) == WITHOUT_VISION
    assert stored(chat).version == 1


def test_a_preset_that_is_switched_later_is_found_out(api: Api, person: MakePerson) -> None:
    me = person()
    chat, blind = make_chat(me, parameters={"model": SEEING}), make_chat(me).preset_id
    append(api, me, chat, IMAGE, said("and?"))
    image = thread(chat)[0]
    back = [{"n": image.n, **IMAGE}, said("new")]
    # At once with new images it is refused; images that are there do not keep anyone from another preset ...
    assert refusal(put(api, me, chat, preset_id=blind, messages=[IMAGE])) == WITHOUT_VISION
    assert put(api, me, chat, preset_id=blind).status == 200
    # ... nor from putting back what was read, but such a model is not asked.
    assert put(api, me, chat, messages=back).status == 200
    assert refusal(append(api, me, chat, IMAGE)) == WITHOUT_VISION
    assert refusal(ask(api, me, chat)) == WITHOUT_VISION
    quote = api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, user=me)
    assert refusal(quote) == WITHOUT_VISION
    assert me.user.holds.attribute_values == {}
    assert ask(api, me, chat, type="title_generation").status == 200
    # Without the image it is, and with a model that sees new ones may come in the same change.
    assert put(api, me, chat, messages=[said("only words")]).status == 200
    seeing = make_chat(me, parameters={"model": SEEING}).preset_id
    assert put(api, me, chat, preset_id=seeing, messages=[IMAGE]).status == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"content": "http://example.com/a.png"}, "invalid_image_url"),
        ({"content": "file:///etc/hostname"}, "invalid_image_url"),
        ({"content": "/etc/hostname"}, "invalid_image_url"),
        ({"content": "data:image/png;base64,AAAA"}, "invalid_image_url"),
        ({"content": "https://169.254.169.254/latest/meta-data/"}, "invalid_image_url"),
        ({"content": "https://localhost/"}, "invalid_image_url"),
        ({"content": "https://a:b@example.com/"}, "invalid_image_url"),
        ({"content": "https://example.com/ a.png"}, "invalid_image_url"),
        ({"content": "https://example.com/\x00"}, "invalid_image_url"),
        ({"content": ""}, "validation_error"),
        ({"type": "video"}, "validation_error"),
        ({"role": "assistant"}, "image_not_users"),
        ({"role": "system"}, "image_not_users"),
    ],
)
def test_what_is_no_image_is_refused_wherever_it_is_sent(
    api: Api, person: MakePerson, change: dict[str, str], code: str
) -> None:
    me = person()
    chat, message = make_chat(me, "hi", parameters={"model": SEEING}), {**IMAGE, **change}
    opened = {"preset_id": chat.preset_id, "title": "t", "messages": [message]}
    replaced = "invalid_image_url" if change == {"content": ""} else code
    assert refusal(api("chats.create", "POST", "/chats", json=opened, user=me)) == (422, code)
    assert refusal(append(api, me, chat, message)) == (422, code)
    assert refusal(put(api, me, chat, messages=[message])) == (422, replaced)
    assert refusal(put(api, me, chat, messages=[{**message, "n": 1}])) == (422, replaced)
    assert stored(chat).version == 1


# What it costs


def test_a_hold_counts_each_image_at_the_models_figure(api: Api, person: MakePerson) -> None:
    me = person()
    tariff = pricing.get_tariff(SEEING)
    assert tariff
    chat = make_chat(me, "hi", parameters={"model": SEEING, "max_tokens": 100})

    def quoted() -> dict[str, int]:
        answer = api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id}, user=me)
        assert answer.status == 200
        value: dict[str, int] = answer.json
        return value

    without = quoted()
    append(api, me, chat, IMAGE, IMAGE, IMAGE)
    with_three = quoted()
    more = with_three["input_tokens"] - without["input_tokens"]
    assert more == 3 * (tariff["image_tokens"] + 5)
    assert with_three["credits_at_most"] >= without["credits_at_most"] + more * tariff["tiers"][0]["input"] // 1_000_000
    task = answered(api, me, chat)
    assert task.hold == with_three["credits_at_most"]
    assert 0 < task.credits <= task.hold
    check_rules(me)


def test_more_images_than_the_model_has_room_for_are_too_long(
    api: Api, person: MakePerson, use_prices: UsePrices
) -> None:
    me = person()
    use_prices(prices.change_model(SEEING, max_input=128_000))
    chat = make_chat(me, parameters={"model": SEEING})
    append(api, me, chat, *[IMAGE] * 50)
    answer = ask(api, me, chat)
    assert (answer.status, answer.json["code"]) == (413, "context_too_long")


def test_a_title_is_made_without_the_images_address(api: Api, person: MakePerson, provider: Server) -> None:
    me = person()
    chat = make_chat(me, parameters={"model": SEEING})
    append(api, me, chat, said(f"look {chat.id}"), {**IMAGE, "content": "https://example.com/a.png?signature=secret"})
    assert answered(api, me, chat, type="title_generation").status == "finished"
    request = asked(provider, chat.id)
    assert "secret" not in str(request["body"])
    assert "user: [image]" in str(request["body"])


# The SDK uploads files of the machine that it runs on, if one lets it


@pytest.mark.parametrize("spell", [str, "file://{}".format], ids=["its path", "its file URL"])
@pytest.mark.parametrize("model", [SEEING, BLIND])
def test_a_text_that_is_the_name_of_a_file_of_ours_is_a_text(
    api: Api,
    person: MakePerson,
    provider: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    spell: Callable[[Path], str],
) -> None:
    monkeypatch.setattr("dashscope.base_http_api_url", provider.base_url)
    me = person()
    chat = make_chat(me, parameters={"model": model})
    secret = tmp_path / f"{chat.id}.txt"
    secret.write_text("the secret")
    provider.reset()
    texts = [spell(secret), "/etc/hostname", "file:///etc/hostname"]
    for message in texts:
        assert append(api, me, chat, said(message)).status == 200
    if model == SEEING:
        assert append(api, me, chat, IMAGE, said(spell(secret))).status == 200
    assert answered(api, me, chat).status == "finished"
    [request] = provider.requests()  # and none for leave to upload
    assert request["path"].endswith("/generation")
    sent = str(request["body"]["input"])
    assert all(text in sent for text in texts)
    assert "the secret" not in sent
    assert "x-dashscope-ossresourceresolve" not in request["headers"]


def test_the_prompt_has_images_of_what_was_stored_before_addresses_were_checked(person: MakePerson) -> None:
    """Whatever a table holds, the adapter takes https images only: this one fails, and opens nothing."""
    me = person()
    chat = make_chat(me, "hi", parameters={"model": SEEING})
    Message(chat.thread, 2, role="user", type="image", content="/etc/hostname", create_time=clock.timestamp()).save()
    prompt = prompts.build(prompts.get_preset(chat.preset_id, 1), chat.path, 3, pricing.get_tariff(SEEING))
    assert prompt.images == 1

    async def call() -> None:
        options = {"endpoint": "multimodal", "api_key": "sk", "base_url": "http://127.0.0.1:9/api/v1"}
        stream = executor.dashscope.stream(SEEING, prompt.messages, {}, idle_seconds=1, **options)
        await anext(stream)

    with pytest.raises(ValueError, match="https"):
        in_loop(call())
