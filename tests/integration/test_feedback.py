"""Feedback on answers: who gives and sees it, that its counts are exact, and that it vanishes with its message."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.accounts import deletion
from aideer.billing import counters, statistics
from aideer.billing.credits import Closer, Text, settle
from aideer.chats import feedback
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.base import new_id
from aideer.data.models import AuditRecord, Chat, Message, Preset, Record, Task
from aideer.schemas.feedback import FeedbackChange
from aideer.web import pagination
from tests import faults
from tests.integration.test_branches import branch, switch, talk
from tests.integration.test_jobs import jobs_of, run
from tests.support import Answer, Api, Person, make_chat, recorded_calls

MakePerson = Callable[..., Person]


def answered(owner: Person, *, answers: int = 1, model: str | None = None) -> Chat:
    """A chat of a question and answers of a model that no other test has, unless one is named."""
    chat = make_chat(owner, "Question", *["Answer"] * answers)
    for n in range(2, answers + 2):
        Message(chat.thread, n).update(
            [Message.role.set("assistant"), Message.model.set(model or f"m-{new_id()}"), Message.task_id.set(new_id())]
        )
    return chat


def model_of(chat: Chat, n: int = 2) -> str:
    return str(Message.get(chat.thread, n).model)


def rate(api: Api, user: Person, chat: Chat, n: int = 2, **body: Any) -> Answer:
    return api("chats.rate", "PUT", f"/chats/{chat.id}/messages/{n}/feedback", json=body, user=user)


def unrate(api: Api, user: Person, chat: Chat, n: int = 2) -> Answer:
    return api("chats.unrate", "DELETE", f"/chats/{chat.id}/messages/{n}/feedback", user=user)


def shown(api: Api, user: Person, chat: Chat, n: int = 2) -> Any:
    messages = api("chats.get", "GET", f"/chats/{chat.id}", user=user).json["messages"]
    return next(message for message in messages if message["n"] == n).get("feedback")


def listed(api: Api, admin: Person, query: str = "") -> list[dict[str, Any]]:
    """All pages of the list of administrators."""
    found, path = [], f"/admin/feedback{query}"
    while path:
        answer = api("admin.feedback", "GET", path, user=admin)
        assert answer.status == 200, answer.body
        found += answer.json
        path = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
    return found


def ratings(chat: Chat, model: str | None = None) -> tuple[int, int]:
    """The counts of today of a chat's model, after a comparison with those of its preset."""
    day = clock.timestamp()[:10]
    counts = statistics._sum(map(statistics._counts, counters.day_keys(day)))
    found = counts.get(model or model_of(chat), Counter())
    preset = counts.get(statistics._RATED, Counter())
    pair = found["rated_up"], found["rated_down"]
    assert pair == (preset[f"{chat.preset_id} rated_up"], preset[f"{chat.preset_id} rated_down"])
    return pair


def entries(chat: Chat) -> int:
    """The records about the feedback in a chat."""
    found = [r for r in Record.scan(Record.pk.startswith("feedback")) if chat.id in json.dumps([r.pk, r.data])]
    return len(found)


# --- rating


def test_an_answer_is_rated_changed_and_unrated_and_the_counts_follow(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner)
    given = rate(api, owner, chat, rating="down", tags=[" wrong ", "wrong", "长"], comment=" A deer\nhas none. ")
    assert given.status == 200, given.body
    stored = given.json["feedback"]
    assert (stored["rating"], stored["tags"], stored["comment"]) == ("down", ["wrong", "长"], "A deer\nhas none.")
    assert shown(api, owner, chat) == stored
    assert (ratings(chat), entries(chat)) == ((0, 1), 2)
    assert given.json["chat_version"] == Chat.get(chat.id).version == chat.version + 1
    assert rate(api, owner, chat, rating="up").json["feedback"].keys() == {"rating", "tags", "update_time"}
    assert (ratings(chat), entries(chat)) == ((1, 0), 2)
    assert unrate(api, owner, chat).json == {"message": "Removed."}
    assert (shown(api, owner, chat), ratings(chat), entries(chat)) == (None, (0, 0), 0)
    assert unrate(api, owner, chat).json["code"] == "feedback_not_found"
    rate(api, owner, chat, rating="up")
    gone = rate(api, owner, chat, rating=None)
    assert (gone.json["feedback"], ratings(chat), entries(chat)) == (None, (0, 0), 0)


def test_a_repeated_rating_changes_nothing(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner)
    body = {"rating": "up", "tags": ["good"], "comment": "Yes."}
    first = rate(api, owner, chat, **body)
    assert rate(api, owner, chat, **body).json == first.json
    assert rate(api, owner, chat, rating="up", tags=["good"]).json["feedback"]["tags"] == ["good"]
    assert (ratings(chat), entries(chat)) == ((1, 0), 2)
    assert rate(api, owner, answered(owner), rating=None).json["feedback"] is None


def test_a_rating_leaves_the_place_of_its_chat_in_the_list(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner)
    rate(api, owner, chat, rating="up")
    assert Chat.get(chat.id).update_time == chat.update_time


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rating": "best"},
        {"rating": 1},
        {"rating": "up", "tags": ["x" * 33]},
        {"rating": "up", "tags": [""]},
        {"rating": "up", "tags": ["a\nb"]},
        {"rating": "up", "tags": [f"t{n}" for n in range(9)]},
        {"rating": "up", "comment": "x" * 1001},
        {"rating": "up", "comment": "  "},
        {"rating": "up", "comment": "\x00"},
        {"rating": "up", "stars": 5},
    ],
)
def test_feedback_that_is_none_is_refused(api: Api, person: MakePerson, body: dict[str, Any]) -> None:
    owner = person()
    chat = answered(owner)
    answer = rate(api, owner, chat, **body)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert entries(chat) == 0


def test_only_answers_of_a_model_are_rated(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner)
    assert rate(api, owner, chat, n=1, rating="up").json["code"] == "not_an_answer"
    assert unrate(api, owner, chat, n=1).json["code"] == "not_an_answer"
    Message(chat.thread, 2).update([Message.model.remove()])
    assert rate(api, owner, chat, rating="up").json["code"] == "not_an_answer"
    for n, code in ((9, "message_not_found"), (0, "validation_error"), (2**53 + 1, "validation_error")):
        assert rate(api, owner, chat, n=n, rating="up").json["code"] == code
    assert (
        api("chats.rate", "PUT", f"/chats/{new_id()}/messages/2/feedback", json={"rating": "up"}, user=owner).status
        == 404
    )


def test_only_the_owner_rates_and_only_the_owner_and_administrators_see_it(api: Api, person: MakePerson) -> None:
    owner, other, admin = person(), person(), person(permission=2)
    chat = answered(owner)
    chat.update([Chat.visibility.set("shared")])
    rate(api, owner, chat, rating="up", comment="Mine.")
    for nobody in (other, admin):
        assert rate(api, nobody, chat, rating="down").status == unrate(api, nobody, chat).status == 403
    assert shown(api, other, chat) is None
    assert shown(api, admin, chat)["comment"] == "Mine."
    Preset(chat.preset_id, Preset.HEAD).update([Preset.visibility.set("public")])
    copies = [api("chats.copy", "POST", f"/chats/{chat.id}/copy", user=user).json for user in (owner, other)]
    assert all("feedback" not in message for copy in copies for message in copy["messages"])
    link = api("chats.share", "POST", f"/chats/{chat.id}/shares", json={}, user=owner).json
    assert "Mine." not in api("shared.get", "GET", f"/shared/{link['token']}").body
    assert ratings(chat) == (1, 0), "a copy counts nothing"


def test_a_message_can_be_sent_back_with_its_feedback_and_keeps_it(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    chat = answered(owner)
    rate(api, owner, chat, rating="up")
    whole = api("chats.get", "GET", f"/chats/{chat.id}", user=owner)
    headers = {"If-Match": whole.headers["etag"]}
    body = {"messages": whole.json["messages"]}
    after = api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=owner, headers=headers)
    assert after.status == 200, after.body
    assert after.json["messages"][1]["feedback"]["rating"] == "up"
    assert [entry["chat_id"] for entry in listed(api, admin, f"?model={model_of(Chat.get(chat.id))}")] == [chat.id]


# --- its end


def test_feedback_vanishes_with_its_message_and_the_counts_stay(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    chat = answered(owner, model=f"m-{new_id()}")
    model = model_of(chat)
    rate(api, owner, chat, rating="down", comment="Secret")
    edited = {
        "messages": [{"n": 1, "role": "user", "content": "Question"}, {"n": 2, "role": "assistant", "content": "x"}]
    }
    answer = api("chats.update", "PUT", f"/chats/{chat.id}", json=edited, user=owner, headers={"If-Match": "*"})
    assert (answer.status, shown(api, owner, chat)) == (200, None)
    assert listed(api, admin, f"?model={model}") == []
    assert ratings(chat, model) == (0, 1)


def test_another_answer_begins_without_feedback(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    chat = answered(owner)
    task_id = new_id()
    Message(chat.thread, 2).update([Message.task_id.set(task_id)])
    chat.update([Chat.next_n.set(3)])
    now = clock.timestamp()
    Task(
        task_id,
        user_id=owner.id,
        chat_id=chat.id,
        type="chat_generation",
        status="finished",
        hold=1,
        model="qwen-plus",
        tariff={},
        preset_id=chat.preset_id,
        preset_version=1,
        parameters={},
        max_tokens=10,
        thread=chat.thread,
        prompt_end=2,
        answer_n=2,
        closed_by="x",
        create_time=now,
        end_time=now,
    ).save()
    rate(api, owner, chat, rating="down")
    model = model_of(chat)
    asked = api("tasks.regenerate", "POST", f"/tasks/{task_id}/regenerate", user=owner)
    assert asked.status == 200, asked.body
    task = Task(asked.json["task_id"])
    task.update([Task.status.set("running"), Task.executor.set("e")])
    settle(Task.get(task.id), Closer.executor("e"), "finished", Text("", "Better"), "stop", Usage(1, 1))
    messages = api("chats.get", "GET", f"/chats/{chat.id}", user=owner).json["messages"]
    assert [("feedback" in m, m["content"]) for m in messages] == [(False, "Question"), (False, "Better")]
    assert listed(api, admin, f"?model={model}") == []
    assert ratings(chat, model) == (0, 1)


def test_a_chat_and_a_user_that_are_deleted_leave_no_feedback(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    first, second = answered(owner, answers=2), answered(owner)
    for chat, n in ((first, 2), (first, 3), (second, 2)):
        rate(api, owner, chat, n, rating="up", comment="Secret")
    models = [model_of(first), model_of(first, 3), model_of(second)]
    assert (entries(first), entries(second)) == (4, 2)
    api("chats.delete", "DELETE", f"/chats/{first.id}", user=owner)
    assert listed(api, admin, f"?model={models[0]}") == [], "at once"
    assert not feedback.remove_of_chat(first.id, time.monotonic() - 1), "later, if the time is over"
    for job in jobs_of(first):
        run(job)
    assert (entries(first), entries(second)) == (0, 2)
    deletion.delete(owner.user, owner.id)
    assert deletion.remove(owner.id, time.monotonic() + 60)
    assert entries(second) == 0
    assert listed(api, admin, f"?model={models[2]}") == []
    assert ratings(second, models[2]) == (1, 0)


# --- the list of administrators


def test_administrators_see_what_was_rated_and_leave_a_trace(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    chat = answered(owner)
    rate(api, owner, chat, rating="down", tags=["wrong"], comment="No.")
    [entry] = listed(api, admin, f"?model={model_of(chat)}")
    stored = shown(api, owner, chat)
    assert entry.pop("id")
    assert entry == {
        "user_id": owner.id,
        "chat_id": chat.id,
        "n": 2,
        "model": model_of(chat),
        "preset_id": chat.preset_id,
        **stored,
    }
    assert "Answer" not in json.dumps(entry)
    mine = [r.action for r in AuditRecord.query(AuditRecord.ALL, scan_index_forward=False) if r.actor_id == admin.id]
    assert mine == ["feedback.list"]
    assert api("admin.feedback", "GET", "/admin/feedback", user=owner).status == 403


def test_the_list_is_newest_first_and_filtered_page_by_page(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    model = f"m-{new_id()}"
    chats = [answered(owner, model=model) for _ in range(5)]
    for number, chat in enumerate(chats):
        rate(api, owner, chat, rating="up" if number % 2 else "down")
    rate(api, owner, chats[0], rating="down", comment="Changed last.")
    order = [0, 4, 3, 2, 1]
    assert [e["chat_id"] for e in listed(api, admin, f"?model={model}&limit=2")] == [chats[at].id for at in order]
    ups = listed(api, admin, f"?model={model}&rating=up&limit=1")
    assert [entry["chat_id"] for entry in ups] == [chats[3].id, chats[1].id]
    ours = listed(api, admin, f"?preset_id={chats[2].preset_id}")
    assert [entry["chat_id"] for entry in ours] == [chats[2].id]
    assert listed(api, admin)[: len(order)] == listed(api, admin, f"?model={model}")
    cursor = api("admin.feedback", "GET", f"/admin/feedback?model={model}&limit=1", user=admin).headers["x-next-cursor"]
    foreign = api("admin.feedback", "GET", f"/admin/feedback?cursor={cursor}", user=admin)
    long = pagination.encode("feedback None None None", ["x" * 1100])
    made_up = api("admin.feedback", "GET", f"/admin/feedback?cursor={long}", user=admin)
    assert [refused.status for refused in (foreign, made_up)] == [422, 422]
    assert [refused.json["code"] for refused in (foreign, made_up)] == ["invalid_cursor"] * 2


@pytest.mark.parametrize("query", ["", "&model=nobody-has-it"])
def test_a_page_costs_the_same_however_many_ratings_there_are(api: Api, person: MakePerson, query: str) -> None:
    owner, admin = person(), person(permission=2)
    rate(api, owner, answered(owner), rating="up")
    bills = []
    for more in (0, 5_000):
        _seed(more)
        with recorded_calls() as calls:
            answer = api("admin.feedback", "GET", f"/admin/feedback?limit=5{query}", user=admin)
        assert answer.status == 200
        bills.append(Counter(call.split()[0] for call in calls))
    assert bills[1]["Query"] <= 8
    if not query:
        assert bills[0] == bills[1] == Counter({"GetItem": 1, "PutItem": 1, "Query": 1, "BatchGetItem": 2})


def _seed(number: int) -> None:
    from aideer.data import batch_write

    data = {"chat_id": "gone", "thread_end": "", "n": 2, "rating": "up", "model": "qwen-plus", "preset_id": "p"}
    old = [Record(feedback.LIST, f"0-{new_id()}", data=data).serialize() for _ in range(number)]
    for start in range(0, number, batch_write.SIZE):
        batch_write.write(Record, puts=old[start : start + batch_write.SIZE])


# --- exactly


def test_ratings_that_race_are_counted_exactly(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner)
    user, dice = owner.user, random.Random(7)
    wanted = [dice.choice(["up", "down", None]) for _ in range(24)]

    def once(rating: Any) -> None:
        feedback.change(user, chat.id, 2, FeedbackChange(rating=rating, tags=[new_id()[:8]]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, wanted))
    stored = shown(api, owner, chat)
    last = stored["rating"] if stored else None
    assert ratings(chat) == (int(last == "up"), int(last == "down"))
    assert entries(chat) == (2 if last else 0)


@pytest.mark.parametrize("rating", ["up", None])
def test_a_lost_answer_counts_once(api: Api, person: MakePerson, rating: str | None) -> None:
    owner = person()
    chat = answered(owner)
    rate(api, owner, chat, rating="down")
    with faults.answer_lost("TransactWriteItems", times=5):
        assert rate(api, owner, chat, rating=rating).status == 200
    assert ratings(chat) == (int(rating == "up"), 0)


@pytest.mark.parametrize("rating", ["up", None])
def test_a_rating_that_has_happened_is_not_taken_for_refused(api: Api, person: MakePerson, rating: str | None) -> None:
    owner = person()
    chat = answered(owner)
    rate(api, owner, chat, rating="down")
    with faults.doubted():
        answer = rate(api, owner, chat, rating=rating) if rating else unrate(api, owner, chat)
    assert answer.status == 200, answer.body
    assert ratings(chat) == (int(rating == "up"), 0)


def test_a_preset_that_changed_loses_the_rating_that_it_had(api: Api, person: MakePerson) -> None:
    owner = person()
    chat, other = answered(owner), make_chat(owner)
    rate(api, owner, chat, rating="up")
    Chat(chat.id).update([Chat.preset_id.set(other.preset_id)])
    rate(api, owner, chat, rating="down")
    counts = statistics._sum(map(statistics._counts, counters.day_keys(clock.timestamp()[:10])))[statistics._RATED]
    assert counts[f"{chat.preset_id} rated_up"] == counts[f"{chat.preset_id} rated_down"] == 0
    assert (counts[f"{other.preset_id} rated_up"], counts[f"{other.preset_id} rated_down"]) == (0, 1)


def test_a_replacement_from_before_the_rating_is_refused_and_the_rating_stays(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner)
    before = api("chats.get", "GET", f"/chats/{chat.id}", user=owner)
    rate(api, owner, chat, rating="up")
    body, headers = {"messages": before.json["messages"]}, {"If-Match": before.headers["etag"]}
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=owner, headers=headers).status == 412
    assert shown(api, owner, chat)["rating"] == "up"


def test_a_chat_that_is_deleted_at_that_moment_is_not_rated(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = person()
    chat = answered(owner)
    read = feedback._to_stored

    def deleted_meanwhile(*args: Any) -> Any:
        api("chats.delete", "DELETE", f"/chats/{chat.id}", user=owner)
        return read(*args)

    monkeypatch.setattr(feedback, "_to_stored", deleted_meanwhile)
    assert rate(api, owner, chat, rating="up").json["code"] == "chat_not_found"
    assert (ratings(chat), entries(chat)) == ((0, 0), 0)


def test_a_rating_makes_so_many_calls(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner)
    rate(api, owner, chat, rating="up")
    with recorded_calls() as calls:
        rate(api, owner, chat, rating="down")
    assert Counter(call.split()[0] for call in calls) == Counter(
        {"GetItem": 3, "Query": 1, "UpdateItem": 1, "TransactWriteItems": 1}
    )


def test_feedback_stays_with_the_answer_of_its_branch(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    chat = talk(owner, "a", "b")
    branch_id = branch(owner, chat, 2, "B")
    model = f"m-{new_id()}"
    for thread in (chat.thread, f"{chat.thread}#{branch_id}"):
        Message(thread, 2).update([Message.role.set("assistant"), Message.model.set(model)])
    assert rate(api, owner, chat, rating="up").status == 200
    assert switch(api, chat, "main", owner).status == 200
    assert shown(api, owner, chat) is None
    assert rate(api, owner, chat, rating="down").status == 200
    found = [(entry["rating"], entry.get("branch")) for entry in listed(api, admin, f"?model={model}")]
    assert found == [("down", None), ("up", branch_id)]
