"""Uploads in messages: who may name which, what the model gets, who sees it, and how long the file stays."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aideer.accounts import deletion
from aideer.core import clock, settings
from aideer.core.errors import Unprocessable
from aideer.data import jobs, lookup
from aideer.data.base import new_id
from aideer.data.models import Chat, Message, Preset, Record, Task, Upload, User
from aideer.prompts import tokenizer
from aideer.tasks import executor
from aideer.uploads import (
    attachments,
    document_reader,
    document_text,
    provider_images,
    references,
    storage,
    uploads,
)
from jobs import run
from local.simulators.dashscope import MULTIMODAL_PATH, Server
from tasks import on_queued
from tests.documents import PDF, WORD, make_docx, make_laughs, make_pdf, make_zip_bomb, paragraph
from tests.integration.test_asking import answered as streamed_answer
from tests.integration.test_asking import ask as ask_streamed
from tests.integration.test_uploads import count_open, days_later, fetch  # noqa: F401 - days_later is a fixture
from tests.support import Answer, Api, Context, Person, check_rules, in_loop, make_chat, recorded_calls
from tests.uploaded import announce, make_upload, picture, stored_keys

MakePerson = Callable[..., Person]
SEEING, BLIND = "qwen3.5-plus", "qwen-plus"
VISION = {"model": SEEING}


def image(upload: Any) -> dict[str, Any]:
    return {"role": "user", "type": "image", "content": f"upload:{upload if isinstance(upload, str) else upload.id}"}


def said(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def append(api: Api, user: Person, chat: Chat, *messages: dict[str, Any]) -> Answer:
    body = {"messages": list(messages)}
    return api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=user)


def ask(api: Api, user: Person, chat: Chat, *messages: dict[str, Any]) -> Answer:
    body = {"chat_id": chat.id, "stream": False, "messages": list(messages)}
    return api("tasks.create", "POST", "/tasks", json=body, user=user)


def finish(accepted: Answer) -> Task:
    assert accepted.status == 200, accepted.body
    in_loop(executor.execute(accepted.json["task_id"], clock.now() + 60))
    return Task.get(accepted.json["task_id"], consistent_read=True)


def address(api: Api, user: Person, chat_id: str, n: int = 1) -> Answer:
    path = f"/chats/{chat_id}/messages/{n}/upload"
    return api("chats.upload", "GET", path, user=user, parameters={"id": chat_id, "n": str(n)})


def copy(api: Api, user: Person, chat_id: str) -> Answer:
    return api("chats.copy", "POST", f"/chats/{chat_id}/copy", user=user, parameters={"id": chat_id})


def delete_chat(api: Api, user: Person, chat_id: str) -> None:
    answer = api("chats.delete", "DELETE", f"/chats/{chat_id}", user=user, parameters={"id": chat_id})
    assert answer.status == 200, answer.body


def asked(provider: Server, marker: str) -> dict[str, Any]:
    """The one request whose body has this marker."""
    [request] = [request for request in provider.requests() if marker in str(request.get("body"))]
    return request


def work_jobs(*wanted: str, later: float = 3600) -> None:
    """Work the jobs about these ids that are due by then, and those that they bring about."""
    for _ in range(3):
        for job in list(jobs.list_due(clock.now() + later)):
            if set(wanted) & set(job.data.values()):
                message = {"messageId": "1", "body": json.dumps({"pk": job.pk, "sk": job.sk})}
                run.handler({"Records": [message]}, Context())


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def uses(upload: Upload) -> int:
    found = lookup.find(Upload, upload.id)
    return int(found.uses) if found else -1


# What the model gets


def test_a_photo_is_asked_about_in_one_request(person: MakePerson, provider: Server) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    mark = f"/sim tokens=12 what is it? {chat.id}"
    start, end = streamed_answer(ask_streamed(me, {"chat_id": chat.id, "messages": [image(photo), said(mark)]}))
    assert (start["messages"], end["status"]) == ([1, 2], "finished")
    request = asked(provider, chat.id)
    assert request["path"] == MULTIMODAL_PATH
    [shown, text] = request["body"]["input"]["messages"][-1]["content"]
    assert shown == {"image": provider_images._to_data(storage.read_image(photo) or b"")}
    assert text == {"text": mark}
    assert end["content"].startswith("I can see 1 image.")
    stored = Message.get(f"{chat.id}#{chat.generation}", 1, consistent_read=True)
    assert stored.content == f"upload:{photo.id}", "no address is stored"
    check_rules(me)


def test_a_queued_question_shows_the_photo_too(api: Api, person: MakePerson, provider: Server) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    accepted = ask(api, me, chat, image(photo), said(f"/sim tokens=5 {chat.id}"))
    message = {"messageId": "1", "body": json.dumps({"task_id": accepted.json["task_id"]})}
    assert on_queued.handler({"Records": [message]}, Context(seconds=60)) == {"batchItemFailures": []}
    assert Task.get(accepted.json["task_id"], consistent_read=True).status == "finished"
    parts = asked(provider, chat.id)["body"]["input"]["messages"][-1]["content"]
    assert parts[0]["image"].startswith("data:image/jpeg;base64,")
    check_rules(me)


def test_a_provider_that_can_reach_the_bucket_gets_a_signed_address(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    photo = make_upload(me)
    monkeypatch.setattr(settings, "AWS_ENDPOINT_URL", "")
    [message] = provider_images.resolve([{"role": "user", "content": [{"image": f"upload:{photo.id}"}, {"text": "?"}]}])
    url = message["content"][0]["image"]
    assert f"X-Amz-Expires={storage.GET_SECONDS}" in url
    assert fetch(url).content == storage.read_image(photo)
    assert message["content"][1] == {"text": "?"}


def test_a_prompt_without_uploads_reads_none() -> None:
    messages = [
        {"role": "user", "content": [{"image": "https://example.com/a.png"}]},
        {"role": "user", "content": "Hi"},
    ]
    with recorded_calls() as calls:
        assert provider_images.resolve(messages) is messages
    assert calls == []


def test_naming_an_upload_costs_two_reads(api: Api, person: MakePerson) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    with recorded_calls() as without:
        assert append(api, me, chat, said("a")).status == 200
    with recorded_calls() as naming:
        assert append(api, me, chat, image(photo)).status == 200
    vision = ["GetItem"] if any("Preset" in call for call in naming) else []  # this process may know the preset already
    assert len(naming) - len(without) == 2 + len(vision)


# Where it may stand, and whose it is


def test_a_new_chat_and_an_appended_message_show_it(api: Api, person: MakePerson) -> None:
    me = person()
    photo = make_upload(me, name="my deer.png")
    preset = make_chat(me, parameters=VISION).preset_id
    body = {"preset_id": preset, "title": "Deer", "messages": [image(photo)]}
    made = api("chats.create", "POST", "/chats", json=body, user=me)
    assert made.status == 200, made.body
    [message] = made.json["messages"]
    facts = {
        "id": photo.id,
        "name": "my deer.png",
        "type": "image/png",
        "size": len(picture()),
        "width": 60,
        "height": 40,
    }
    assert (message["content"], message["upload"]) == (f"upload:{photo.id}", facts)
    listed = api("chats.list", "GET", "/chats", user=me).json
    assert "my deer.png" in [chat["last_message"] for chat in listed]
    assert (uses(photo), count_open(me)) == (1, 0)
    chat = Chat.get(made.json["id"])
    assert append(api, me, chat, image(photo)).status == 200
    assert uses(photo) == 1, "a chat uses it once"
    [first, second] = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json["messages"]
    assert first["upload"] == second["upload"] == facts


def test_another_users_upload_is_as_if_there_were_none(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    theirs, chat = make_upload(other), make_chat(me, parameters=VISION)
    preset = chat.preset_id
    for name in (theirs.id, new_id(), "", "x" * 3000):
        opened = {"preset_id": preset, "title": "Deer", "messages": [image(name)]}
        answers = [
            append(api, me, chat, image(name)),
            api("chats.create", "POST", "/chats", json=opened, user=me),
            ask(api, me, chat, image(name)),
            api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat.id, "messages": [image(name)]}, user=me),
        ]
        assert {refusal(answer) for answer in answers} == {(422, "upload_not_found")}
        streamed = ask_streamed(me, {"chat_id": chat.id, "messages": [image(name)]})
        assert (streamed.status_code, streamed.json()["code"]) == (422, "upload_not_found")
    admin = person(permission=2)
    assert refusal(append(api, admin, make_chat(admin, parameters=VISION), image(theirs)))[1] == "upload_not_found"
    assert uses(theirs) == 0
    assert Chat.get(chat.id, consistent_read=True).next_n == 1


def test_what_is_not_ready_or_in_the_wrong_place_is_refused(api: Api, person: MakePerson) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    assert refusal(append(api, me, chat, image(announce(me, b"x").id))) == (422, "upload_not_ready")
    assert refusal(append(api, me, chat, image(photo) | {"role": "assistant"})) == (422, "image_not_users")
    assert refusal(append(api, me, chat, image(photo) | {"type": "document"})) == (422, "wrong_upload_kind")
    assert refusal(append(api, me, make_chat(me), image(photo))) == (422, "model_without_vision")
    text = append(api, me, chat, said(f"upload:{photo.id}"))
    assert (text.status, "upload" in text.json[0]) == (200, False), "a text is a text"
    assert uses(photo) == 0


def test_a_request_adds_at_most_ten(api: Api, person: MakePerson) -> None:
    me = person()
    chat, photos = make_chat(me, parameters=VISION), [make_upload(me) for _ in range(attachments.MOST + 1)]
    assert refusal(append(api, me, chat, *map(image, photos))) == (422, "too_many_uploads")
    assert append(api, me, chat, *map(image, photos[1:])).status == 200
    assert [uses(photo) for photo in photos] == [0] + [1] * attachments.MOST
    assert count_open(me) == 1


def test_a_refused_question_uses_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    User(me.id).update([User.credits.set(0)])
    assert ask(api, me, chat, image(photo), said("?")).status == 402
    quoted = {"chat_id": chat.id, "messages": [image(photo)]}
    assert api("tasks.quote", "POST", "/tasks/quote", json=quoted, user=me).status == 200
    assert (uses(photo), count_open(me)) == (0, 1)


def test_a_deletion_between_the_check_and_the_write_is_found_out(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat, photos = make_chat(me, parameters=VISION), [make_upload(me) for _ in range(5)]
    read = attachments.Attachments.read.__func__  # type: ignore[attr-defined]

    def deleted_then(cls: Any, *arguments: Any, **named: Any) -> Any:
        found = read(cls, *arguments, **named)
        for upload_id in found._uploads:
            if not Upload.get(upload_id).deleted:
                uploads.delete(me.user, upload_id)
        return found

    monkeypatch.setattr(attachments.Attachments, "read", classmethod(deleted_then))
    replacement = {"messages": [image(photos[3])]}
    replaced = api("chats.update", "PUT", f"/chats/{chat.id}", json=replacement, user=me, headers={"If-Match": '"1"'})
    assert refusal(replaced) == (422, "upload_not_found")
    streamed = ask_streamed(me, {"chat_id": chat.id, "messages": [image(photos[4])]})
    assert (streamed.status_code, streamed.json()["code"]) == (422, "upload_not_found")
    body = {"preset_id": chat.preset_id, "title": "Deer", "messages": [image(photos[0])]}
    assert refusal(api("chats.create", "POST", "/chats", json=body, user=me)) == (422, "upload_not_found")
    assert refusal(append(api, me, chat, image(photos[1]))) == (422, "upload_not_found")
    assert refusal(ask(api, me, chat, image(photos[2]))) == (422, "upload_not_found")
    assert not list(Message.query(chat.thread, consistent_read=True))
    check_rules(me)


def test_two_chats_at_once_are_no_obstacle(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    photo, first, second = make_upload(me), make_chat(me, parameters=VISION), make_chat(me, parameters=VISION)
    read = attachments.Attachments.read.__func__  # type: ignore[attr-defined]
    waiting = [first]

    def used_meanwhile(cls: Any, *arguments: Any, **named: Any) -> Any:
        found = read(cls, *arguments, **named)
        if waiting:
            assert append(api, me, waiting.pop(), image(photo)).status == 200
        return found

    monkeypatch.setattr(attachments.Attachments, "read", classmethod(used_meanwhile))
    body = {"preset_id": second.preset_id, "title": "Deer", "messages": [image(photo)]}
    assert api("chats.create", "POST", "/chats", json=body, user=me).status == 200
    assert (uses(photo), count_open(me)) == (2, 0)


def test_a_replacement_keeps_and_adds_images(api: Api, person: MakePerson) -> None:
    me = person()
    chat, photos = make_chat(me, parameters=VISION), [make_upload(me) for _ in range(2)]
    append(api, me, chat, image(photos[0]))
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=me)
    body = {"messages": [*shown.json["messages"], image(photos[1])]}
    answer = api(
        "chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers={"If-Match": shown.headers["etag"]}
    )
    assert answer.status == 200, answer.body
    assert [message["upload"]["id"] for message in answer.json["messages"]] == [photo.id for photo in photos]
    assert [uses(photo) for photo in photos] == [1, 1]


def test_a_chat_may_show_its_image_again_by_every_call(api: Api, person: MakePerson) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    append(api, me, chat, image(photo))
    assert append(api, me, chat, image(photo)).status == 200
    assert finish(ask(api, me, chat, image(photo), said("/sim tokens=5"))).status == "finished"
    streamed_answer(ask_streamed(me, {"chat_id": chat.id, "messages": [image(photo), said("/sim tokens=5")]}))
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=me)
    body = {"messages": [*shown.json["messages"], image(photo)]}
    replaced = api(
        "chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers={"If-Match": shown.headers["etag"]}
    )
    assert replaced.status == 200, replaced.body
    assert uses(photo) == 1


# How long it stays


def test_an_image_that_a_chat_uses_does_not_expire(
    api: Api,
    person: MakePerson,
    days_later: Callable[[float], None],  # noqa: F811
) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    append(api, me, chat, image(photo))
    days_later(30 * 86400)
    work_jobs(photo.id)
    assert uploads.get(me.user, photo.id).status == "ready"
    assert len(stored_keys(me)) == 1


def test_the_last_chat_takes_its_images_along(api: Api, person: MakePerson) -> None:
    me = person()
    first, second, photo = make_chat(me, parameters=VISION), make_chat(me, parameters=VISION), make_upload(me)
    for chat in (first, second):
        append(api, me, chat, image(photo))
    delete_chat(api, me, first.id)
    work_jobs(first.id, photo.id)
    assert (uses(photo), len(stored_keys(me))) == (1, 1)
    delete_chat(api, me, second.id)
    work_jobs(second.id, photo.id)
    assert (uses(photo), stored_keys(me)) == (-1, [])
    assert not list(Record.query(references.key(second.id, "")[0]))


def test_an_image_that_is_deleted_while_in_use_is_gone_everywhere_and_its_chat_goes_on(
    api: Api, person: MakePerson, provider: Server
) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    append(api, me, chat, image(photo))
    assert address(api, me, chat.id).status == 200
    gone = api("uploads.delete", "DELETE", f"/uploads/{photo.id}", user=me, parameters={"id": photo.id})
    assert gone.status == 200
    assert stored_keys(me) == []
    assert refusal(address(api, me, chat.id)) == (404, "upload_not_found")
    task = finish(ask(api, me, chat, said(f"/sim tokens=5 {chat.id}")))
    assert task.status == "finished"
    parts = asked(provider, chat.id)["body"]["input"]["messages"][-1]["content"]
    assert parts[0] == {"text": provider_images.DELETED}
    work_jobs(photo.id)
    assert lookup.find(Upload, photo.id) is None
    finish(ask(api, me, chat, said("/sim tokens=5")))
    delete_chat(api, me, chat.id)
    work_jobs(chat.id)
    assert not list(Record.query(references.key(chat.id, "")[0]))
    check_rules(me)


def test_nothing_of_a_deleted_user_stays(api: Api, person: MakePerson) -> None:
    me, reader = person(), person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    append(api, me, chat, image(photo))
    Chat(chat.id).update([Chat.visibility.set("shared")])
    copied = copy(api, reader, chat.id)
    assert copied.status == 403, "the preset is private"
    unused = make_upload(me)
    deletion.delete(me.user, me.id)
    later = clock.now() + 600
    assert not storage.remove_all(me.id, 0), "a job ends in time, and goes on with the files that are left"
    assert stored_keys(me)
    while not deletion.remove(me.id, later):
        pass
    assert deletion.finish(me.id, later)
    assert stored_keys(me) == []
    assert [lookup.find(Upload, upload.id) for upload in (photo, unused)] == [None, None]
    assert lookup.find(Record, *references.count_key(me.id)) is None


# Who sees it


def test_readers_of_a_shared_chat_see_images_of_visible_messages(api: Api, person: MakePerson) -> None:
    me, reader = person(), person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    append(api, me, chat, image(photo), image(photo) | {"visibility": False}, said("text"))
    assert refusal(address(api, reader, chat.id)) == (403, "forbidden")
    Chat(chat.id).update([Chat.visibility.set("shared")])
    shown = address(api, reader, chat.id)
    assert shown.status == 200
    assert fetch(shown.json["url"]).content == storage.read_image(photo)
    for n in (2, 3, 99):
        assert refusal(address(api, reader, chat.id, n)) == (404, "upload_not_found")
    assert address(api, me, chat.id, 2).status == 200
    [message, _] = api("chats.get", "GET", f"/chats/{chat.id}", user=reader).json["messages"]
    assert message["upload"]["id"] == photo.id


def test_a_copy_shows_the_image_as_long_as_its_owner_keeps_it(api: Api, person: MakePerson) -> None:
    me, reader = person(), person()
    chat, photos = make_chat(me, parameters=VISION), [make_upload(me) for _ in range(2)]
    append(api, me, chat, *map(image, photos))
    Chat(chat.id).update([Chat.visibility.set("shared")])
    Preset(chat.preset_id, 0).update([Preset.visibility.set("shared")])
    copied = copy(api, reader, chat.id)
    assert copied.status == 200, copied.body
    assert [uses(photo) for photo in photos] == [2, 2]
    delete_chat(api, me, chat.id)
    work_jobs(chat.id, *(photo.id for photo in photos))
    assert address(api, reader, copied.json["id"]).status == 200
    stolen = append(api, reader, Chat.get(copied.json["id"]), image(photos[0]))
    assert refusal(stolen) == (422, "upload_not_found"), "a reader of the copy is not its owner"
    uploads.delete(me.user, photos[0].id)
    assert address(api, reader, copied.json["id"], 1).status == 404
    assert address(api, reader, copied.json["id"], 2).status == 200
    again = copy(api, reader, copied.json["id"])
    assert (again.status, uses(photos[1])) == (200, 2)
    for chat_id in (copied.json["id"], again.json["id"]):
        delete_chat(api, reader, chat_id)
        work_jobs(chat_id, photos[1].id)
    assert stored_keys(me) == []


def test_a_copy_that_breaks_off_uses_nothing_in_the_end(api: Api, person: MakePerson) -> None:
    me = person()
    chat, photo = make_chat(me, parameters=VISION), make_upload(me)
    append(api, me, chat, image(photo))
    thread = list(Message.query(Chat.get(chat.id).thread))
    never, generation = new_id(), new_id()
    jobs.create("copy", 60, chat_id=never, generation=generation)
    references.copy(thread, never)
    references.copy(thread, never)  # the repetition of an attempt
    assert uses(photo) == 2
    work_jobs(never)
    assert uses(photo) == 1


def test_only_stored_text_is_a_document_without_an_upload(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    assert refusal(append(api, me, chat, said("text") | {"type": "document"})) == (422, "upload_required")
    with pytest.raises(Unprocessable):
        attachments.Attachments(me.id, chat.id, {}, set()).fill(
            Message("t", 1, role="user", type="image", content="upload:x", create_time="")
        )


# Documents


def document(upload: Any) -> dict[str, Any]:
    return image(upload) | {"type": "document"}


@pytest.mark.parametrize(
    ("file", "media_type", "text"),
    [
        ("你好 deer".encode(), "text/plain", "你好 deer"),
        (b"# Deer", "text/markdown", "# Deer"),
        (make_pdf("Hello deer"), PDF, "Hello deer"),
        (make_docx(paragraph("Hello word")), WORD, "Hello word"),
    ],
    ids=["txt", "md", "pdf", "docx"],
)
def test_a_document_is_asked_about(
    api: Api, person: MakePerson, provider: Server, file: bytes, media_type: str, text: str
) -> None:
    me = person()
    chat, paper = make_chat(me), make_upload(me, file, media_type, "paper")
    shown = api("uploads.get", "GET", f"/uploads/{paper.id}", user=me, parameters={"id": paper.id}).json
    assert (shown["kind"], shown["status"], "url" in shown) == ("document", "ready", False)
    assert shown["tokens"] == tokenizer.count([f"[paper]\n\n{text}"])
    assert stored_keys(me) == [], "the posted file is gone"
    mark = f"/sim tokens=5 what is it? {chat.id}"
    start, end = streamed_answer(ask_streamed(me, {"chat_id": chat.id, "messages": [document(paper), said(mark)]}))
    assert (start["messages"], end["status"]) == ([1, 2], "finished")
    prompt = asked(provider, mark)["body"]["input"]["messages"]
    assert [message["content"] for message in prompt[1:]] == [f"[paper]\n\n{text}", mark]
    [stored, *_] = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json["messages"]
    assert (stored["type"], stored["content"]) == ("document", f"[paper]\n\n{text}")
    assert stored["upload"]["tokens"] == shown["tokens"]
    assert count_open(me) == 0
    check_rules(me)


def test_the_text_of_a_document_counts_in_the_price(api: Api, person: MakePerson) -> None:
    me = person()
    chat, paper = make_chat(me), make_upload(me, b"deer " * 10_000, "text/plain")

    def quote(*messages: dict[str, Any]) -> int:
        body = {"chat_id": chat.id, "messages": [*messages, said("?")]}
        return int(api("tasks.quote", "POST", "/tasks/quote", json=body, user=me).json["input_tokens"])

    assert quote(document(paper)) - quote() >= paper.tokens


def test_the_text_stays_with_its_message_when_the_upload_is_gone(
    api: Api,
    person: MakePerson,
    days_later: Callable[[float], None],  # noqa: F811
) -> None:
    me = person()
    chat, paper, unused = make_chat(me), make_upload(me, b"deer", "text/plain"), make_upload(me, b"moose", "text/plain")
    assert append(api, me, chat, document(paper)).status == 200
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=me)
    kept = {"messages": [*shown.json["messages"], said("And?")]}
    answer = api(
        "chats.update", "PUT", f"/chats/{chat.id}", json=kept, user=me, headers={"If-Match": shown.headers["etag"]}
    )
    assert answer.json["messages"][0]["upload"]["id"] == paper.id
    assert refusal(address(api, me, chat.id)) == (404, "upload_not_found"), "there is no image"
    days_later(uploads.KEPT_SECONDS + 120)
    work_jobs(paper.id, unused.id)
    assert [lookup.find(Upload, upload.id) for upload in (paper, unused)] == [None, None]
    assert (count_open(me), Message.get(Chat.get(chat.id).thread, 1).content) == (0, "[deer.png]\n\ndeer")


def test_a_document_of_another_user_or_an_expired_one_is_as_if_there_were_none(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, other = person(), person()
    theirs, mine = make_upload(other, b"secret", "text/plain"), make_upload(me, b"deer", "text/plain")
    chat = make_chat(me)
    assert refusal(append(api, me, chat, document(theirs))) == (422, "upload_not_found")
    Upload(mine.id).update([Upload.expires_at.set(int(clock.now()) - 1)])
    assert refusal(append(api, me, chat, document(mine))) == (422, "upload_not_found")


@pytest.mark.parametrize(
    ("file", "media_type", "code"),
    [
        (make_laughs(), WORD, "broken_document"),
        (make_zip_bomb(), WORD, "document_too_complex"),
        (make_pdf("x"), WORD, "wrong_file_type"),
        (make_pdf(b""), PDF, "document_without_text"),
        (picture(), "text/plain", "wrong_file_type"),
    ],
    ids=["laughs", "a zip bomb", "a lying type", "a scan", "a picture"],
)
def test_a_hostile_document_is_refused_with_its_reason_and_removed(
    person: MakePerson, file: bytes, media_type: str, code: str
) -> None:
    me = person()
    with pytest.raises(Unprocessable) as refused:
        make_upload(me, file, media_type)
    assert refused.value.code == code
    assert stored_keys(me) == []
    assert count_open(me) == 0


def test_a_reader_that_takes_too_long_or_crashes_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_reader, "SECONDS", 0.01)
    with pytest.raises(Unprocessable) as slow:
        document_reader.read(make_pdf("deer"), document_text.PDF)
    monkeypatch.setattr(document_reader, "SECONDS", 30)
    with pytest.raises(Unprocessable) as crashed:
        document_reader.read(make_pdf("deer"), "no such decoder")
    assert [slow.value.code, crashed.value.code] == ["document_too_complex", "broken_document"]


def read_with(pypdf: str, folder: Path) -> Unprocessable:
    """The refusal of a document that a reader of this source reads."""
    (folder / "pypdf").mkdir()
    (folder / "pypdf" / "errors.py").write_text(
        "FileNotDecryptedError = PdfReadError = WrongPasswordError = ValueError"
    )
    (folder / "pypdf" / "__init__.py").write_text(pypdf)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        with pytest.raises(Unprocessable) as refused:
            document_reader.read(b"%PDF-", document_text.PDF)
    return refused.value


def test_warnings_of_a_reader_fill_no_memory_of_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_child, ended = subprocess.run, []

    def run_and_keep(*args: Any, **more: Any) -> Any:
        ended.append(run_child(*args, **more))
        return ended[-1]

    monkeypatch.setattr(subprocess, "run", run_and_keep)
    noisy = """
import logging
class PdfReader:
    def __init__(self, _):
        for n in range(1000):
            logging.getLogger("pypdf").warning("a broken object")
        raise MemoryError
"""
    assert read_with(noisy, tmp_path).code == "document_too_complex"
    assert len(ended[0].stdout) < 1000
    assert not ended[0].stderr


def test_a_reader_has_no_credentials_and_a_limit_of_memory(tmp_path: Path) -> None:
    hostile = """
import os, sys
class PdfReader:
    is_encrypted = False
    def __init__(self, _):
        assert not [name for name in os.environ if name.startswith("AWS")], "credentials"
        sys.platform == "linux" and bytearray(4 * 1024 ** 3)
        raise MemoryError
"""
    assert read_with(hostile, tmp_path).code == "document_too_complex"
