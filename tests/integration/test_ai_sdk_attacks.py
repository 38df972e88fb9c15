"""/ui/chat under attack: the messages of other people, keys that are used again, and requests that cost more than they show."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from aideer.chats import client_ids
from aideer.core.errors import Unprocessable
from aideer.data.models import Chat
from aideer.security import exhausted
from aideer.tasks import ask_limit, chat_deletion, conversations
from aideer.uploads import inline_images
from local.simulators import dashscope
from tests.integration.test_ai_sdk import SEES, Talk, calls_of, contents, data_url, file_part, refusal
from tests.support import Person, check_rules, make_chat
from tests.ui_client import call, post
from tests.ui_messages import Shown, new_id, said
from tests.uploaded import picture, stored_keys

MakePerson = Callable[..., Person]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """A process of its own for each test."""
    for remembered in (client_ids._remembered, conversations._remembered, ask_limit._refused, exhausted._ends):
        remembered.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize("visibility", ["private", "shared"])
@pytest.mark.parametrize("more", [{}, {"messageId": "msg-1"}], ids=["sent", "edited"])
@pytest.mark.parametrize("words", ["Hello", "Something else"])
def test_the_ids_of_anothers_messages_open_nothing(
    person: MakePerson, visibility: str, more: dict[str, Any], words: str
) -> None:
    owner, stranger = person(), person()
    talk = Talk(owner, preset_id=make_chat(owner).preset_id, visibility=visibility)
    talk.shown = [said("Hello", id="msg-1")]
    assert Shown.of(talk.post()).finish == "stop"
    refused = post(stranger, talk.chat_id, said(words, id="msg-1"), **more)
    assert refusal(refused) == (404, "chat_not_found")
    assert Shown.of(post(owner, talk.chat_id, said("Hello", id="msg-1"))).finish == "stop", "the owner's own may be"
    check_rules(owner)
    check_rules(stranger)


def test_a_key_makes_a_repeated_regeneration_of_an_earlier_answer_harmless(
    person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    talk.send("Two")
    body = {
        "id": talk.id,
        "messages": talk.shown[:1],
        "trigger": "regenerate-message",
        "messageId": talk.shown[1]["id"],
    }
    first = Shown.of(call("POST", "", me.token, body, **{"Idempotency-Key": "again"}))
    made, credits = calls_of(provider), me.user.credits
    again = Shown.of(call("POST", "", me.token, body, **{"Idempotency-Key": "again"}))
    assert again.id == first.id
    assert (calls_of(provider), me.user.credits) == (made, credits)
    assert contents(talk.chat_id) == ["One", first.text()]
    check_rules(me)


def test_a_key_that_comes_with_another_wish_is_refused(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    body = {"id": talk.id, "messages": talk.shown, "trigger": "regenerate-message"}
    assert Shown.of(call("POST", "", me.token, body, **{"Idempotency-Key": "again"})).finish == "stop"
    other = {**body, "model": "qwen-max"}
    refused = call("POST", "", me.token, other, **{"Idempotency-Key": "again"})
    assert refusal(refused) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("remembered", [False, True])
def test_until_a_deleted_chat_is_removed_its_id_opens_no_other(person: MakePerson, *, remembered: bool) -> None:
    me = person()
    talk = Talk(me)
    talk.send("One")
    chat_deletion.delete(me.user, talk.chat_id)
    if not remembered:
        client_ids._remembered.clear()
    assert refusal(post(me, talk.id, said("Two"), **talk.body)) == (404, "chat_not_found")
    check_rules(me)


def test_an_id_that_is_no_unicode_is_no_message(person: MakePerson) -> None:
    talk = Talk(person())
    talk.send("One")
    body = {
        "id": talk.id,
        "messages": [{**said("One"), "id": "\ud800"}],
        "trigger": "regenerate-message",
        "messageId": "none",
    }
    raw = json.dumps(body).encode()
    assert call("POST", "", talk.me.token, raw, **{"Content-Type": "application/json"}).status_code == 422


def test_a_stop_finds_the_chat_that_has_the_id_now(person: MakePerson) -> None:
    me = person()
    talk = Talk(me)
    talk.send("Hello")
    old = make_chat(me)
    old.update([Chat.deleted.set(True)])
    client_ids.remember_chat(me.id, talk.id, old.id)  # as a process does that has not heard of the deletion
    assert call("POST", f"/{talk.id}/stop", me.token).status_code == 204


def test_too_many_images_are_refused_before_any_is_stored(person: MakePerson) -> None:
    me = person()
    preset = make_chat(me, parameters=SEES).preset_id
    images = [file_part(data_url(picture()))] * 11
    assert refusal(post(me, new_id(), said(*images), preset_id=preset)) == (422, "too_many_uploads")
    assert stored_keys(me) == []


def test_a_key_that_is_too_long_is_refused_before_the_body_is_read(person: MakePerson) -> None:
    refused = call("POST", "", person().token, b"{", **{"Idempotency-Key": "x" * 129})
    assert refusal(refused) == (400, "idempotency_key_required")


def test_the_beginning_of_a_data_address_is_read_at_little_cost() -> None:
    address = "data:image/png" + ";a" * 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(Unprocessable):
            inline_images.parse(address, None)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(address)
    finally:
        tracemalloc.stop()
