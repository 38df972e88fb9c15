"""/ui/chat: chats and their answers, as clients of the AI SDK ask for them and read them."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aideer.accounts import deletion
from aideer.chats import client_ids, configuration
from aideer.core import settings
from aideer.data import jobs, lookup
from aideer.data.models import Chat, Message, Record, Task, Upload, User
from aideer.providers import dashscope as client
from aideer.security import exhausted, limits
from aideer.security.limits import Kind, Limit
from aideer.tasks import ask_limit, control, conversations, stream_access
from jobs import run
from local.simulators import dashscope
from tasks import stream
from tests import policies
from tests.stream_client import requested
from tests.support import Api, Context, Person, accepted, check_rules, in_loop, make_chat
from tests.ui_client import PATH, call, post
from tests.ui_messages import Shown, answered, new_id, said
from tests.uploaded import make_upload, picture, stored_keys
from tests.waiting import until

MakePerson = Callable[..., Person]
UNKNOWN_OWN = "01980c2f-3c4d-7e5f-a061-7c8d9e0f1a2b"
"""An id in the form of AIDeer's, of no chat."""


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """A process of its own for each test."""
    for remembered in (client_ids._remembered, conversations._remembered, ask_limit._refused, exhausted._ends):
        remembered.clear()  # type: ignore[attr-defined]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[Kind, Limit], None]:
    return lambda kind, limit: monkeypatch.setitem(limits.LIMITS, kind, limit)


@pytest.fixture
def before(counted: list[str], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """For each call of the model, the AWS calls that came before it since `counted` was cleared."""
    found: list[list[str]] = []
    real = client.stream

    def noted(*arguments: Any, **named: Any) -> Any:
        found.append([each for each in counted if not each.startswith("GetSecretValue")])
        return real(*arguments, **named)

    monkeypatch.setattr(client, "stream", noted)
    return found


def messages(chat_id: str) -> list[Message]:
    """The stored messages of the shown path of a chat."""
    chat = Chat.get(chat_id, consistent_read=True)
    found = []
    for segment in chat.path:
        if part := segment.clip(1, 2**53):
            found += list(Message.query(segment.thread, Message.n.between(*part), consistent_read=True))
    return found


def contents(chat_id: str) -> list[str]:
    return [message.content for message in messages(chat_id)]


class Talk:
    """A chat as a client has it: its id, and the messages that the client shows."""

    def __init__(self, me: Person, id: str | None = None, **body: Any) -> None:
        self.me, self.id = me, id or new_id()
        self.shown: list[dict[str, Any]] = []
        self.body = body or {"preset_id": make_chat(me).preset_id}

    def send(self, *parts: Any, **more: Any) -> Shown:
        """sendMessage."""
        self.shown.append(said(*parts))
        return self._note(self.post(**more))

    def edit(self, at: int, *parts: Any, **more: Any) -> Shown:
        """sendMessage with messageId."""
        message = said(*parts, id=self.shown[at]["id"])
        self.shown = [*self.shown[:at], message]
        return self._note(self.post(messageId=message["id"], **more))

    def regenerate(self, at: int | None = None, *, named: bool = True, **more: Any) -> Shown:
        """regenerate, with messageId or without."""
        named_as = {} if at is None or not named else {"messageId": self.shown[at]["id"]}
        at = len(self.shown) - 1 if at is None else at
        self.shown = self.shown[: at if self.shown[at]["role"] == "assistant" else at + 1]
        return self._note(self.post(trigger="regenerate-message", **named_as, **more))

    def post(self, **more: Any) -> httpx.Response:
        return post(self.me, self.id, *self.shown, **{**self.body, **more})

    def _note(self, response: httpx.Response) -> Shown:
        shown = Shown.of(response)
        self.shown.append(answered(str(shown.id), shown.text()))
        return shown

    @property
    def chat_id(self) -> str:
        return str(client_ids.find_chat(self.me.id, self.id))


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def calls_of(provider: dashscope.Server) -> int:
    return sum("body" in seen for seen in provider.requests())


def sent(provider: dashscope.Server) -> list[Any]:
    """The contents of the last prompt, without the preset's message."""
    asked = [seen for seen in provider.requests() if "body" in seen][-1]["body"]["input"]["messages"]
    return [message["content"] for message in asked][1:]


# Asking


def test_the_first_message_opens_a_chat_and_is_answered(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    shown = talk.send("What is a deer?", title="Deer", visibility="shared")
    chat = Chat.get(shown.metadata["chat_id"], consistent_read=True)
    task = Task.get(shown.metadata["task_id"], consistent_read=True)
    assert (chat.id, chat.owner_id, chat.title, chat.visibility) == (talk.chat_id, me.id, "Deer", "shared")
    assert (shown.id, shown.finish, shown.kinds) == (task.id, "stop", ["text"])
    assert contents(chat.id) == ["What is a deer?", shown.text()]
    assert shown.metadata["credits"] == task.credits
    assert shown.metadata["credits_left"] == me.user.credits
    assert (shown.metadata["n"], shown.metadata["messages"], shown.metadata["status"]) == (2, [1], "finished")
    assert shown.metadata["usage"]["output_tokens"] == task.usage["output_tokens"]
    assert shown.positions[0] == "0"
    assert shown.positions[-1] == "end"
    assert int(shown.positions[-2]) == len(shown.text()) == task.text_length
    check_rules(me)


def test_a_further_message_goes_on_in_the_chat_and_the_history_is_the_stored_one(
    person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    talk = Talk(me)
    shown = talk.send("What is a deer?")
    talk.shown[-1]["parts"][-1]["text"] = "Something that nobody has said."
    second = talk.send("And a moose?")
    assert second.metadata["chat_id"] == shown.metadata["chat_id"]
    assert sent(provider) == ["What is a deer?", shown.text(), "And a moose?"]
    assert len(messages(talk.chat_id)) == 4
    check_rules(me)


def test_reasoning_comes_first_in_a_part_of_its_own(person: MakePerson) -> None:
    talk = Talk(person())
    shown = talk.send("/sim tokens=12 think=5 Why?", model="qwen3.5-plus", parameters={"enable_thinking": True})
    task = Task.get(str(shown.id), consistent_read=True)
    assert shown.kinds == ["reasoning", "text"]
    assert [message.reasoning for message in messages(talk.chat_id)] == [None, shown.text("reasoning")]
    assert (task.model, task.parameters["enable_thinking"]) == ("qwen3.5-plus", True)
    check_rules(talk.me)


def test_a_search_brings_its_sources(person: MakePerson) -> None:
    shown = Talk(person()).send("/sim tokens=3 search=2", parameters={"enable_search": True})
    sources = [chunk for chunk in shown.chunks if chunk["type"] == "source-url"]
    assert len(sources) == 2
    assert len({source["sourceId"] for source in sources}) == 2
    assert all(source["url"].startswith("https://") and source["title"] for source in sources)


def test_the_fields_of_the_app_are_held_to_the_ranges_of_presets(person: MakePerson) -> None:
    talk = Talk(person())
    shown = talk.send("Hello", parameters={"temperature": 0.25, "max_tokens": 7, "seed": 5, "top_p": 0.5})
    task = Task.get(str(shown.id), consistent_read=True)
    assert task.max_tokens == 7
    given = {name: task.parameters[name] for name in ("temperature", "seed", "top_p")}
    assert given == {"temperature": 0.25, "seed": 5, "top_p": 0.5}
    talk.shown.append(said("And now?"))
    for parameters in ({"temperature": 2}, {"temprature": 1}, {"max_tokens": 0}, {"top_p": "1"}):
        assert refusal(talk.post(parameters=parameters)) == (422, "validation_error")
    assert refusal(talk.post(parameters={"max_tokens": 10**6})) == (422, "max_tokens_too_large")
    assert refusal(talk.post(model="none")) == (422, "model_not_priced")
    assert len(messages(talk.chat_id)) == 2


def test_without_a_preset_the_default_one_opens_the_chat(api: Api, person: MakePerson) -> None:
    admin, me = person(permission=2), person()
    body = {"title": "Default", "visibility": "public", "parameters": {"model": "qwen-plus"}}
    preset = api("presets.create", "POST", "/presets", json=body, user=admin).json["id"]
    before = configuration.read()
    tag = {"If-Match": "*"}
    try:
        api("admin.set_config", "PUT", "/admin/config", json={"default_preset": None}, user=admin, headers=tag)
        refused = post(me, new_id(), said("Hello"))
        assert refusal(refused) == (400, "preset_required")
        api("admin.set_config", "PUT", "/admin/config", json={"default_preset": preset}, user=admin, headers=tag)
        shown = Shown.of(post(me, new_id(), said("Hello")))
    finally:
        restored = {"default_preset": before.default_preset}
        api("admin.set_config", "PUT", "/admin/config", json=restored, user=admin, headers=tag)
    assert Chat.get(shown.metadata["chat_id"], consistent_read=True).preset_id == preset


def test_a_chat_of_the_api_goes_on_by_its_own_id(api: Api, person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    chat = make_chat(me, "first")
    talk = Talk(me, chat.id)
    talk.shown = [said("first", id="1"), answered("2")]
    shown = talk.send("second")
    assert shown.metadata["chat_id"] == chat.id
    assert sent(provider) == ["first", "second"]
    read = api("chats.get", "GET", f"/chats/{chat.id}", user=me, parameters={"id": chat.id}).json
    assert [message["content"] for message in read["messages"]] == ["first", "second", shown.text()]


def test_a_client_may_make_ids_in_the_form_of_aideers(person: MakePerson) -> None:
    me = person()
    talk = Talk(me, UNKNOWN_OWN)
    talk.send("Hello")
    talk.send("And now?")
    assert talk.chat_id != UNKNOWN_OWN
    assert len(messages(talk.chat_id)) == 4


def test_one_users_ids_are_not_anothers(person: MakePerson) -> None:
    me, other = person(), person()
    mine, theirs = Talk(me), Talk(other)
    theirs.id = mine.id
    assert mine.send("Hello").metadata["chat_id"] != theirs.send("Hello").metadata["chat_id"]


# Sending again


def test_a_message_that_is_sent_again_gets_the_same_answer_and_is_paid_once(
    person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    talk = Talk(me)
    for question in ("Hello", "And now?"):
        first = talk.send(question)
        talk.shown.pop()
        made, credits = calls_of(provider), me.user.credits
        again = Shown.of(talk.post())
        assert (again.id, again.text(), again.metadata["credits"]) == (
            first.id,
            first.text(),
            first.metadata["credits"],
        )
        assert (calls_of(provider), me.user.credits) == (made, credits)
        talk.shown.append(answered(str(first.id)))
    assert len(messages(talk.chat_id)) == 4
    check_rules(me)


def test_a_first_message_that_another_process_is_sent_again_asks_nothing(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    first = talk.send("Hello")
    client_ids._remembered.clear()
    again = Shown.of(post(me, talk.id, talk.shown[0], **talk.body))
    assert again.id == first.id
    assert len(list(Chat.by_create_time.query(me.id))) == 2, "the one of the preset, and this one"


def test_an_answer_that_is_gone_is_not_told_again(api: Api, person: MakePerson) -> None:
    talk = Talk(person())
    first = talk.send("Hello")
    api("tasks.delete", "DELETE", f"/tasks/{first.id}", user=talk.me, parameters={"id": str(first.id)})
    talk.shown.pop()
    assert refusal(talk.post()) == (404, "task_not_found")


def test_an_id_that_comes_with_other_words_is_refused(person: MakePerson) -> None:
    talk = Talk(person())
    talk.send("Hello")
    other = said("Something else", id=talk.shown[0]["id"])
    assert refusal(post(talk.me, talk.id, other, **talk.body)) == (422, "message_id_reused")
    assert len(messages(talk.chat_id)) == 2


def test_of_messages_that_come_at_once_each_is_asked_once(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    chat, message, preset = new_id(), said("/sim tokens=5 delay=20 at once"), make_chat(me).preset_id

    async def all_at_once() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {me.token}"}
        transport = httpx.ASGITransport(stream.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stream.test", headers=headers) as http:
            body = {"id": chat, "messages": [message], "trigger": "submit-message", "preset_id": preset}
            return list(await asyncio.gather(*(http.post(PATH, json=body) for _ in range(4))))

    made = calls_of(provider)
    shown = [Shown.of(response) for response in in_loop(all_at_once())]
    assert len({each.id for each in shown}) == 1
    assert len({each.text() for each in shown}) == 1
    assert calls_of(provider) == made + 1
    assert len(list(Chat.by_create_time.query(me.id))) == 2
    check_rules(me)


def test_two_first_messages_of_one_chat_share_it(person: MakePerson) -> None:
    """The second one does not know that the first has opened the chat."""
    me = person()
    talk = Talk(me)
    first = talk.send("One")
    client_ids._remembered.clear()
    second = Shown.of(post(me, talk.id, said("Two"), **talk.body))
    assert first.metadata["chat_id"] == second.metadata["chat_id"]
    assert [message.content for message in messages(talk.chat_id) if message.role == "user"] == ["One", "Two"]


# Editing and regenerating


def test_an_edited_message_begins_a_branch_at_its_place(
    api: Api, person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    kept = talk.send("Two")
    shown = talk.edit(0, "Three")
    assert sent(provider) == ["Three"]
    assert contents(talk.chat_id) == ["Three", shown.text()]
    read = api("chats.get", "GET", f"/chats/{talk.chat_id}", user=me, parameters={"id": talk.chat_id}).json
    assert read["messages"][0]["siblings"] == {
        "count": 2,
        "shown": 2,
        "branches": read["messages"][0]["siblings"]["branches"],
    }
    main = [message.content for message in Message.query(Chat.get(talk.chat_id).thread, consistent_read=True)]
    assert main[2:] == ["Two", kept.text()], "the old branch stays"
    check_rules(me)


def test_an_edit_that_is_sent_again_is_asked_once_and_a_further_edit_once_more(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    edited = talk.edit(0, "Two")
    talk.shown.pop()
    assert Shown.of(talk.post(messageId=talk.shown[0]["id"])).id == edited.id
    further = talk.edit(0, "Three")
    back = talk.edit(0, "Two")
    assert len({edited.id, further.id, back.id}) == 3
    assert contents(talk.chat_id) == ["Two", back.text()]
    check_rules(me)


def test_messages_of_the_api_are_edited_by_their_n(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "One", "Two")
    shown = Shown.of(post(me, chat.id, said("Three", id="2"), messageId="2"))
    assert contents(chat.id) == ["One", "Three", shown.text()]
    again = Shown.of(post(me, chat.id, said("Three", id="2"), messageId="2"))
    assert again.id == shown.id


def test_a_refused_message_is_edited_before_it_was_ever_stored(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.shown.append(said(""))
    assert refusal(talk.post()) == (422, "empty_message")
    opened = talk.edit(0, "Now with words")
    assert contents(talk.chat_id) == ["Now with words", opened.text()]
    talk.shown.append(said(""))
    assert refusal(talk.post()) == (422, "empty_message")
    second = talk.edit(2, "Again with words")
    assert contents(talk.chat_id)[2:] == ["Again with words", second.text()]


def test_an_edit_of_an_unknown_message_is_refused(person: MakePerson) -> None:
    talk = Talk(person())
    talk.send("One")
    talk.send("Two")
    for unknown in ("never", "17"):
        edit = post(talk.me, talk.id, said("Three", id=unknown), messageId=unknown)
        assert refusal(edit) == (404, "message_not_found")
    stale = post(talk.me, talk.id, answered(talk.shown[1]["id"]), said("Three", id="never"), messageId="never")
    assert refusal(stale) == (404, "message_not_found"), "the client does not show the last answer"
    assert len(messages(talk.chat_id)) == 4


@pytest.mark.parametrize("named", [True, False])
def test_the_last_answer_is_made_again_in_its_place(
    person: MakePerson, named: bool, provider: dashscope.Server
) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    old = talk.send("Two")
    new = talk.regenerate(3, named=named)
    assert new.id != old.id
    assert [message.task_id for message in messages(talk.chat_id)][1:] == [talk.shown[1]["id"], None, new.id]
    assert sent(provider)[-1] == "Two"
    assert talk.regenerate(2).id not in (old.id, new.id), "a client may name the question"
    assert len(messages(talk.chat_id)) == 4
    check_rules(me)


def test_an_earlier_answer_is_made_again_in_a_branch(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    talk.send("Two")
    shown = talk.regenerate(1)
    assert sent(provider) == ["One"]
    assert contents(talk.chat_id) == ["One", shown.text()]
    assert len(Chat.get(talk.chat_id, consistent_read=True).tree.ids) == 2
    assert talk.regenerate().finish == "stop"
    assert len(Chat.get(talk.chat_id, consistent_read=True).tree.ids) == 2, "now it is the last one"
    check_rules(me)


def test_a_question_whose_answer_failed_is_asked_again(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    failed = talk.send("/sim fail=internal")
    assert failed.error == {"code": "upstream_error", "detail": control.explain("upstream_error")}
    assert contents(talk.chat_id) == ["/sim fail=internal"]
    again = talk.regenerate(0)
    assert again.error, "it fails again"
    assert contents(talk.chat_id) == ["/sim fail=internal"]
    assert me.user.credits == 1_000_000
    check_rules(me)


def test_an_answer_that_failed_in_the_middle_is_made_again(person: MakePerson) -> None:
    talk = Talk(person())
    failed = talk.send("/sim tokens=9 fail=internal_mid at=4")
    assert failed.text()
    assert failed.error
    assert (failed.metadata["status"], failed.metadata["credits"]) == ("failed", 0)
    assert talk.regenerate().id != failed.id
    check_rules(talk.me)


def test_a_key_makes_a_repeated_regeneration_harmless(person: MakePerson) -> None:
    talk = Talk(person())
    talk.send("One")
    body = {"id": talk.id, "messages": talk.shown[:1], "trigger": "regenerate-message"}
    headers = {"Idempotency-Key": "again"}
    ids = {Shown.of(call("POST", "", talk.me.token, body, **headers)).id for _ in range(2)}
    assert len(ids) == 1
    long = call("POST", "", talk.me.token, body, **{"Idempotency-Key": "x" * 129})
    assert refusal(long) == (400, "idempotency_key_required")


def test_there_is_nothing_to_regenerate_in_a_chat_that_is_none(person: MakePerson) -> None:
    me = person()
    for chat in (new_id(), UNKNOWN_OWN):
        refused = post(me, chat, said("Hello"), trigger="regenerate-message")
        assert refusal(refused) == (404, "chat_not_found")


# Files


def data_url(file: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(file).decode()}"


def file_part(url: str, media_type: str = "image/png", **more: Any) -> dict[str, Any]:
    return {"type": "file", "mediaType": media_type, "url": url, **more}


SEES: dict[str, Any] = {"model": "qwen3.5-plus"}


def test_an_image_within_a_message_is_stored_as_an_upload_of_its_chat(
    api: Api, person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    chat = make_chat(me, parameters=SEES)
    talk = Talk(me, preset_id=chat.preset_id)
    shown = talk.send("What is it?", file_part(data_url(picture()), filename="deer\n.png"))
    stored = messages(talk.chat_id)
    assert [message.type for message in stored] == ["text", "image", "text"]
    upload = Upload.get(stored[1].content.removeprefix("upload:"), consistent_read=True)
    assert (upload.name, upload.status, upload.uses, upload.open) == ("deer.png", "ready", 1, None)
    assert stored_keys(me) == [f"images/{me.id}/{upload.id}"]
    [part] = [part for part in sent(provider)[0] if "image" in part]
    assert part["image"].startswith("data:image/jpeg;base64,"), "what the provider gets was drawn anew"
    address = api(
        "chats.upload",
        "GET",
        f"/chats/{talk.chat_id}/messages/2/upload",
        user=me,
        parameters={"id": talk.chat_id, "n": "2"},
    )
    assert address.status == 200, address.body
    talk.shown.pop()
    assert Shown.of(talk.post()).id == shown.id
    assert len(stored_keys(me)) == 1, "a message that is sent again stores no image"
    talk.shown.append(answered(str(shown.id)))
    talk.send("And now?")
    assert any("image" in part for part in sent(provider)[0]), "the history has the image"
    check_rules(me)


def test_addresses_and_uploads_are_images_and_documents(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    talk = Talk(me, preset_id=make_chat(me, parameters=SEES).preset_id)
    document = make_upload(me, b"All about deer.", "text/plain", "deer.txt")
    image = make_upload(me)
    talk.send(
        file_part("https://example.com/deer.png"),
        file_part(f"upload:{image.id}"),
        file_part(f"upload:{document.id}", "text/plain"),
        {"type": "data-note", "data": {}},
        {"type": "reasoning", "text": "ignored"},
        "What are they?",
    )
    assert [message.type for message in messages(talk.chat_id)][:4] == ["image", "image", "document", "text"]
    talk.edit(0, "No image.")
    assert sent(provider) == [[{"text": "No image."}]], "an edit takes the place of all that was made of the message"


@pytest.mark.parametrize(
    ("part", "refused"),
    [
        (file_part("data:image/png;base64,%%%"), (422, "invalid_data_url")),
        (file_part("data:image/png;base64,"), (422, "invalid_data_url")),
        (file_part("data:,deer"), (422, "invalid_data_url")),
        (file_part(data_url(b"no picture")), (422, "wrong_file_type")),
        (file_part(data_url(picture("JPEG"))), (422, "wrong_file_type")),
        (file_part(data_url(picture(size=(5, 5)))), (422, "picture_too_narrow")),
        (file_part(data_url(picture(size=(5000, 2501)))), (422, "too_many_pixels")),
        (file_part(data_url(b"deer", "text/plain"), "text/plain"), (415, "upload_required")),
        (file_part(data_url(b"<svg/>", "image/svg+xml"), "image/svg+xml"), (415, "unsupported_upload")),
        (file_part("http://example.com/deer.png"), (422, "invalid_image_url")),
        (file_part("https://127.0.0.1/deer.png"), (422, "invalid_image_url")),
        (file_part("https://example.com/deer.pdf", "application/pdf"), (422, "upload_required")),
        (file_part("upload:none"), (422, "upload_not_found")),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    person: MakePerson, part: dict[str, Any], refused: tuple[int, str]
) -> None:
    me = person()
    preset = make_chat(me, parameters=SEES).preset_id
    assert refusal(post(me, new_id(), said(part, "What is it?"), preset_id=preset)) == refused
    assert me.user.credits == 1_000_000
    assert stored_keys(me) == []


def test_images_count_towards_the_limits_of_uploads(person: MakePerson, limited: Callable[[Kind, Limit], None]) -> None:
    limited("upload", Limit(1, 86400))
    me = person()
    preset = make_chat(me, parameters=SEES).preset_id
    image = file_part(data_url(picture()))
    assert refusal(post(me, new_id(), said(image, image), preset_id=preset)) == (429, "too_many_uploads")


# Refusals


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "c"},
        {"id": "c", "messages": []},
        {"id": "", "messages": [said("x")]},
        {"id": "c" * 129, "messages": [said("x")]},
        {"id": "\ud800", "messages": [said("x")]},
        {"id": "c", "messages": [said("x")], "trigger": "resume-stream"},
        {"id": "c", "messages": ["x"]},
        {"id": "c", "messages": [{"id": "m", "role": "user"}]},
        {"id": "c", "messages": [{"id": "m", "role": "robot", "parts": []}]},
        {"id": "c", "messages": [said({"type": "text", "text": "\ud800"})]},
        {"id": "c", "messages": [said({"type": "text", "text": 1})]},
        {"id": "c", "messages": [said("x" * 102_401)]},
        {"id": "c", "messages": [said({"type": "file", "url": "https://example.com/x"})]},
        {"id": "c", "messages": [said(*["x"] * 201)]},
        {"id": "c", "messages": [said("x")], "messageId": 1},
        [],
        b"{",
        b"\xff",
        b"",
        b'{"id": "c", "messages": [' + b"[" * 100_000,
    ],
)
def test_a_bad_body_is_a_clear_422_and_quotes_nothing(person: MakePerson, body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = call("POST", "", person().token, raw, **{"Content-Type": "application/json"})
    assert refusal(answer) == (422, "validation_error")
    assert all(error.keys() == {"loc", "msg", "type"} for error in answer.json()["detail"])
    assert "xxxx" not in answer.text


def test_other_refusals_before_the_stream(person: MakePerson) -> None:
    me = person()
    preset = make_chat(me).preset_id
    assert refusal(call("POST", "", me.token, b"x", **{"Content-Type": "text/plain"})) == (
        415,
        "unsupported_media_type",
    )
    assert refusal(call("POST", "", me.token, b" " * (6 * 1024 * 1024 + 1))) == (413, "too_large")
    assert refusal(post(me, new_id(), said("x"), preset_id="none")) == (400, "preset_not_found")
    assert refusal(post(me, new_id(), said("x"), preset_id=make_chat(person()).preset_id)) == (403, "preset_private")
    assert refusal(post(me, new_id(), answered("a"), preset_id=preset)) == (422, "last_message_not_user")
    assert refusal(post(me, new_id(), said(), preset_id=preset)) == (422, "empty_message")
    assert refusal(post(me, new_id(), said(*["x"] * 51), preset_id=preset)) == (422, "too_many_parts")
    assert refusal(post(person(credits=0), new_id(), said("x"), preset_id=preset))[0] == 403
    poor = person(credits=0)
    talk = Talk(poor)
    talk.shown.append(said("Hello"))
    assert refusal(talk.post()) == (402, "insufficient_credits")
    poor.user.update([User.credits.set(1_000_000)])
    talk.shown.append(said("And now?"))
    assert Shown.of(talk.post()).finish == "stop", "the refused message has left nothing"
    assert contents(talk.chat_id)[0] == "And now?"


def test_a_large_history_is_no_obstacle(person: MakePerson) -> None:
    talk = Talk(person())
    talk.send("Hello")
    talk.shown.insert(0, answered("x", "y" * 3_000_000))
    assert talk.send("And now?").finish == "stop"


def test_unreadable_and_refused_requests_count_as_refused_asks(
    person: MakePerson, limited: Callable[[Kind, Limit], None]
) -> None:
    limited("ask", Limit(3, 3600))
    me = person()
    bodies: list[Any] = [
        b"{",
        {"id": "c", "messages": [said()]},
        {"id": new_id(), "messages": [said("x")], "preset_id": "none"},
    ]
    assert [call("POST", "", me.token, body).status_code for body in bodies] == [422, 422, 400]
    assert refusal(call("POST", "", me.token, b"{")) == (429, "too_many_asks")


def test_answers_and_open_tasks_are_limited(
    person: MakePerson, limited: Callable[[Kind, Limit], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited("answer", Limit(1, 3600))
    talk = Talk(person())
    talk.send("Hello")
    talk.shown.append(said("And now?"))
    refused = talk.post()
    assert refusal(refused) == (429, "too_many_answers")
    assert int(refused.headers["retry-after"]) > 0
    limited("answer", Limit(1000, 60))
    monkeypatch.setattr(settings, "OPEN_TASKS", 1)
    accepted(talk.me, "hello")
    assert refusal(talk.post()) == (429, "too_many_open_tasks")


def test_a_chat_that_is_answering_takes_no_other_message(person: MakePerson) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    refused = post(me, chat.id, said("And now?"))
    assert refusal(refused) == (409, "task_running")
    assert refused.json()["task_id"] == task_id


@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("GET", "/{}/stream"), ("POST", "/{}/stop")])
def test_who_may_not_see_a_chat_learns_nothing_of_it(person: MakePerson, method: str, path: str) -> None:
    owner, stranger, admin = person(), person(), person(permission=2)
    _, chat = accepted(owner, "hello")
    talk = Talk(owner)
    talk.send("Hello")
    for other in (stranger, admin):
        for chat_id in (chat.id, UNKNOWN_OWN):
            body = {"id": chat_id, "messages": [said("Hello"), said("Hello")]} if not path else None
            if body and chat_id == UNKNOWN_OWN:
                continue  # it would open a chat of the caller's
            refused = call(method, path.format(chat_id), other.token, body)
            assert refusal(refused) == (404, "chat_not_found")
    if path:
        assert call(method, path.format(talk.id), stranger.token).status_code == 204, "their own ids are their own"


def test_a_revoked_token_opens_and_reveals_nothing(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("Hello")
    me.user.update([User.token_version.add(1)])
    for body in (
        {"messages": [*talk.shown, said("And now?")]},
        {"messages": [said("x", id="none")], "messageId": "none"},
        {"messages": [said("x")], "trigger": "regenerate-message"},
        {"messages": [said(file_part(data_url(picture())))]},
        {"messages": [said()]},
    ):
        assert refusal(call("POST", "", me.token, {"id": talk.id, **body})) == (401, "token_revoked")
    assert refusal(call("GET", f"/{talk.id}/stream", me.token)) == (401, "token_revoked")
    assert refusal(call("POST", f"/{talk.id}/stop", me.token)) == (401, "token_revoked")
    assert stored_keys(me) == []


# Opening the answer again, and stopping it


async def _running(
    me: Person, http: httpx.AsyncClient, body: dict[str, Any]
) -> tuple["asyncio.Task[httpx.Response]", str]:
    asking = asyncio.create_task(http.post(PATH, json=body))
    held = await asyncio.to_thread(until, lambda: list(me.user.holds.attribute_values), "an open task")
    return asking, held[0]


def connected(work: Callable[[httpx.AsyncClient], Any], me: Person) -> Any:
    async def run() -> Any:
        headers = {"Authorization": f"Bearer {me.token}"}
        transport = httpx.ASGITransport(stream.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stream.test", headers=headers) as http:
            return await work(http)

    return in_loop(run())


def test_a_running_answer_comes_again_whole_and_from_its_start(person: MakePerson) -> None:
    me = person()
    chat, preset = new_id(), make_chat(me).preset_id
    body = {"id": chat, "messages": [said("/sim tokens=30 delay=15")], "preset_id": preset}

    async def both(http: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        asking, _ = await _running(me, http, body)
        again = await http.get(f"{PATH}/{chat}/stream")
        return await asking, again

    first, again = (Shown.of(response) for response in connected(both, me))
    assert (again.id, again.text(), again.finish) == (first.id, first.text(), "stop")
    assert again.metadata["credits"] == first.metadata["credits"]
    ended = call("GET", f"/{chat}/stream", me.token)
    assert (ended.status_code, ended.content) == (204, b"")
    check_rules(me)


def test_a_queued_answer_of_the_api_is_made_for_whoever_opens_its_chat(person: MakePerson) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    shown = Shown.of(call("GET", f"/{chat.id}/stream", me.token))
    assert (shown.id, shown.finish) == (task_id, "stop")
    assert contents(chat.id) == ["hello", shown.text()]
    check_rules(me)


def test_where_nothing_is_answering_there_is_nothing_to_open_or_stop(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("Hello")
    for chat in (talk.id, talk.chat_id, new_id()):
        for method, path in (("GET", "stream"), ("POST", "stop")):
            answer = call(method, f"/{chat}/{path}", me.token)
            assert (answer.status_code, answer.content) == (204, b"")


def test_a_stop_ends_the_answer_for_its_viewer_and_pays_for_what_came(person: MakePerson) -> None:
    me = person()
    chat, preset = new_id(), make_chat(me).preset_id
    body = {"id": chat, "messages": [said("/sim tokens=500 delay=20")], "preset_id": preset}

    async def both(http: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        asking, _ = await _running(me, http, body)
        stopped = await http.post(f"{PATH}/{chat}/stop")
        return await asking, stopped

    answer, stopped = connected(both, me)
    shown = Shown.of(answer)
    assert (shown.aborted, shown.finish, shown.metadata["status"]) == (True, "stop", "stopped")
    assert stopped.status_code == 200
    assert (stopped.json()["task_id"], stopped.json()["status"]) == (shown.id, "stopped")
    assert stopped.json()["credits"] == shown.metadata["credits"]
    check_rules(me)


def test_stops_and_openings_are_limited(person: MakePerson, limited: Callable[[Kind, Limit], None]) -> None:
    limited("stop", Limit(1, 3600))
    limited("resume", Limit(2, 3600))
    me = person()
    for _ in range(2):
        _, chat = accepted(me, "hello")
    assert call("POST", f"/{chat.id}/stop", me.token).status_code == 200
    _, chat = accepted(me, "hello")
    assert refusal(call("POST", f"/{chat.id}/stop", me.token)) == (429, "too_many_stops")
    statuses = [call("GET", f"/{new_id()}/stream", me.token).status_code for _ in range(3)]
    assert statuses == [204, 204, 429]


# Streams that break off


@pytest.mark.parametrize(
    ("directive", "reason"), [("tokens=9 filter at=4", "content-filter"), ("tokens=50", "length"), ("tokens=3", "stop")]
)
def test_each_end_has_a_reason_that_clients_know(person: MakePerson, directive: str, reason: str) -> None:
    parameters = {"max_tokens": 5} if reason == "length" else None
    assert Talk(person()).send(f"/sim {directive}", parameters=parameters).finish == reason


def test_a_stream_without_its_end_is_an_error_and_never_a_whole_answer(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the viewer's session ends, or where the tables do not respond."""
    monkeypatch.setattr(stream_access.Viewer, "may_see", lambda *_: False)
    shown = Talk(person()).send("Hello")
    assert shown.error == {
        "code": "stream_broken",
        "detail": "The stream broke off before the end of the answer. Open it again.",
    }


def test_the_end_of_a_stream_speaks_the_readers_language(person: MakePerson) -> None:
    me = person()
    body = {"id": new_id(), "messages": [said("/sim fail=internal")], "preset_id": make_chat(me).preset_id}
    shown = Shown.of(call("POST", "", me.token, body, **{"Accept-Language": "zh-CN"}))
    assert shown.error
    assert shown.error["code"] == "upstream_error"
    assert not shown.error["detail"].isascii()


def test_a_client_that_leaves_pays_for_the_whole_answer_and_finds_it(api: Api, person: MakePerson) -> None:
    me = person()
    chat, preset = new_id(), make_chat(me).preset_id
    body = {"id": chat, "messages": [said("/sim tokens=20 delay=10")], "preset_id": preset}

    async def leave(http: httpx.AsyncClient) -> str:
        asking, task_id = await _running(me, http, body)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        return task_id

    task_id = connected(leave, me)
    task = Task.get(task_id, consistent_read=True)
    assert task.status == "finished"
    chat_id = str(task.chat_id)
    assert len(messages(chat_id)) == 2
    check_rules(me)


# Calls


def operations(calls: list[str]) -> list[str]:
    names = {
        settings.CHATS_TABLE: "Chats",
        settings.MESSAGES_TABLE: "Messages",
        settings.RECORDS_TABLE: "Records",
        settings.PRESETS_TABLE: "Presets",
    }
    return [" ".join(names.get(word, word) for word in one.split()) for one in calls]


def test_the_fewest_calls_come_before_the_model(
    person: MakePerson, counted: list[str], before: list[list[str]]
) -> None:
    me = person()
    first = Talk(me)
    for text in ("The quota of chats", "and the preset"):
        first.send(text)
    talk = Talk(me, **first.body)
    before.clear()

    def told(ask: Callable[[], Any]) -> list[str]:
        counted.clear()
        ask()
        return operations(before[-1])

    assert told(lambda: talk.send("One")) == ["GetItem Presets", "TransactWriteItems"]
    assert told(lambda: talk.send("Two")) == ["TransactWriteItems"]
    conversations._remembered.clear()
    known = ["GetItem Chats", "Query Messages", "TransactWriteItems"]
    assert told(lambda: talk.send("Three")) == known
    conversations._remembered.clear()
    client_ids._remembered.clear()
    assert told(lambda: talk.send("Four")) == ["GetItem Records", *known], "another process"


# Deletion


def records_of(me: Person, chat_id: str) -> list[Record]:
    return [
        *Record.query(f"client_chats#{me.id}", consistent_read=True),
        *Record.query(f"client_messages#{chat_id}", consistent_read=True),
    ]


def work_jobs(*chat_ids: str) -> None:
    for job in list(jobs.list_due(time.time() + 60)):
        if job.data["kind"] == "chat" and job.data["chat_id"] in chat_ids:
            message = {"messageId": "1", "body": json.dumps({"pk": job.pk, "sk": job.sk})}
            assert run.handler({"Records": [message]}, Context()) == {"batchItemFailures": []}


def test_the_ids_go_with_their_chat_and_are_free_again(api: Api, person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    talk.edit(0, "Two")
    old = talk.chat_id
    assert len(records_of(me, old)) == 3
    assert api("chats.delete", "DELETE", f"/chats/{old}", user=me, parameters={"id": old}).status == 200
    talk.shown.append(said("Three"))
    assert refusal(talk.post()) == (404, "chat_not_found")
    work_jobs(old)
    assert records_of(me, old) == []
    assert lookup.find(Chat, old) is None
    shown = Shown.of(talk.post())
    assert shown.metadata["chat_id"] != old
    assert client_ids.remove_of_chat(old, time.monotonic() + 60), "a job that is worked twice"
    assert talk.chat_id == shown.metadata["chat_id"]


def test_a_late_worker_leaves_the_id_to_the_chat_that_has_it_now(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    old = "01980c2f-0000-7e5f-a061-7c8d9e0f1a2b"
    Record(f"client_messages#{old}", "name", data={"user_id": me.id, "client_id": talk.id}).save()
    assert client_ids.remove_of_chat(old, time.monotonic() + 60)
    client_ids._remembered.clear()
    assert talk.send("Two").metadata["chat_id"] == talk.chat_id


def test_a_removal_that_has_no_time_is_gone_on_with(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    assert not client_ids.remove_of_chat(talk.chat_id, time.monotonic() - 1)
    assert not client_ids.remove_of_user(me.id, time.monotonic() - 1)
    assert len(records_of(me, talk.chat_id)) == 3
    assert client_ids.remove_of_user(me.id, time.monotonic() + 60)
    assert len(records_of(me, talk.chat_id)) == 2


def test_a_deleted_users_ids_are_removed(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    chat_id = talk.chat_id
    deletion.delete(me.user, me.id)
    assert deletion.remove(me.id, time.monotonic() + 60)
    assert records_of(me, chat_id) == []


def test_an_export_and_a_copy_know_nothing_of_the_clients_ids(api: Api, person: MakePerson) -> None:
    talk = Talk(person())
    talk.send("One")
    path = {"id": talk.chat_id}
    exported = api("chats.export", "GET", f"/chats/{talk.chat_id}/export", user=talk.me, parameters=path)
    assert talk.id not in exported.body
    copied = api("chats.copy", "POST", f"/chats/{talk.chat_id}/copy", json={}, user=talk.me, parameters=path).json["id"]
    assert list(Record.query(f"client_messages#{copied}", consistent_read=True)) == []


def test_the_functions_may_make_all_of_these_calls(used: set[Any]) -> None:
    """Runs last here: it looks at what the tests before it have caused."""
    for function in ("TasksStreamFunction", "JobsRunFunction"):
        policies.check_missing(function, used)


# Ids that no client has


ODD = {
    "too long for a key": "鹿" * 400,
    "empty": "",
    "a surrogate alone": "\ud800",
    "a number": 5,
    "nothing": None,
    "an object": {"a": 1},
}


@pytest.mark.parametrize("trigger", ["submit-message", "regenerate-message"])
@pytest.mark.parametrize("place", ["id", "messageId", "the last message", "the message before"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_no_id_is_a_fault(person: MakePerson, counted: list[str], odd: Any, place: str, trigger: str) -> None:
    me = person()
    talk = Talk(me)
    talk.send("/sim tokens=2 delay=0")
    shown = [*talk.shown, said("Again")]
    body = {"id": talk.id, "messages": shown, "trigger": trigger, "messageId": "another", **talk.body}
    if place in body:
        body[place] = odd
    else:
        shown[-1 if place == "the last message" else -2]["id"] = odd
    raw = json.dumps(body).encode()  # in ASCII, so it may have a surrogate alone
    response = requested("POST", PATH, raw, me.token, **{"Content-Type": "application/json"})
    assert response.status_code in (200, 404, 422), response.text
    check_rules(me)


@pytest.mark.parametrize("odd", ["鹿" * 400, "", "\ud800"], ids=["too long", "empty", "a surrogate"])
def test_dynamodb_is_asked_for_no_key_that_it_refuses(counted: list[str], odd: str) -> None:
    """The embedded AWS takes keys of any length."""
    assert client_ids.find_chat("u1", odd) is None
    assert client_ids.find_message("c1", odd) is None
    assert counted == []
