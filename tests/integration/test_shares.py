"""Share links: what anybody sees by one, until when, and how much of it."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aideer.accounts import deletion
from aideer.chats import messages, shares
from aideer.core import clock, settings
from aideer.data.base import new_id
from aideer.data.models import AuditRecord, Chat, Message, Preset, Record, Upload, User
from aideer.security import budgets, exhausted, limits
from aideer.security.limits import LIMITS, Limit
from aideer.uploads import references
from tests import faults
from tests.integration.test_branches import branch, switch, talk
from tests.integration.test_jobs import jobs_of, run
from tests.support import Answer, Api, Person, make_chat, recorded_calls
from tests.uploaded import make_upload

MakePerson = Callable[..., Person]
NOT_FOUND = (404, {"detail": "There is no such link.", "code": "share_not_found"})


@pytest.fixture(autouse=True)
def _nothing_read_yet() -> Iterator[None]:
    budgets._unwritten.clear()
    exhausted._ends.clear()
    yield
    budgets._unwritten.clear()
    exhausted._ends.clear()


def answered(owner: Person, *texts: str) -> Chat:
    """A chat in which every second text is an answer, with reasoning, sources and a cost."""
    chat = make_chat(owner, *texts)
    for n in range(2, len(texts) + 1, 2):
        sources = [{"index": 1, "title": "Deer", "url": "https://deer.example/", "site_name": "Deer"}]
        Message(chat.thread, n).update(
            [
                Message.role.set("assistant"),
                Message.model.set("qwen-plus"),
                Message.reasoning.set("Hm."),
                Message.credits.set(7),
                Message.task_id.set(new_id()),
                Message.finish_reason.set("stop"),
                Message.usage.set({"input_tokens": 5, "output_tokens": 3, "reasoning_tokens": 0}),
                Message.sources.set(sources),
            ]
        )
    return chat


def share(api: Api, user: Person, chat: Chat, key: str | None = None, **body: Any) -> Answer:
    headers = {"Idempotency-Key": key} if key else {}
    return api("chats.share", "POST", f"/chats/{chat.id}/shares", json=body, user=user, headers=headers)


def made(api: Api, user: Person, chat: Chat, **body: Any) -> dict[str, Any]:
    answer = share(api, user, chat, **body)
    assert answer.status == 200, answer.body
    link: dict[str, Any] = answer.json
    return link


def seen(api: Api, token: str, query: str = "", **more: Any) -> Answer:
    return api("shared.get", "GET", f"/shared/{token}{query}", **more)


def texts(api: Api, token: str, query: str = "") -> list[str]:
    answer = seen(api, token, query)
    assert answer.status == 200, answer.body
    return [message["content"] for message in answer.json["messages"]]


def listed(api: Api, user: Person, chat: Chat) -> Answer:
    return api("chats.shares", "GET", f"/chats/{chat.id}/shares", user=user)


def revoke(api: Api, user: Person, chat: Chat, share_id: str) -> Answer:
    return api("chats.unshare", "DELETE", f"/chats/{chat.id}/shares/{share_id}", user=user)


def said(answer: Answer) -> tuple[int, Any]:
    return answer.status, answer.json


def records(*words: str, prefix: str = "") -> list[Record]:
    """All records that name one of these anywhere."""
    found = Record.scan(Record.pk.startswith(prefix) if prefix else None)
    return [r for r in found if any(w in json.dumps([r.pk, r.sk, r.data]) for w in words)]


# --- what a link shows


def test_anybody_reads_a_chat_by_its_link_and_sees_no_more_than_its_owner_says(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner, "Question", "Answer")
    link = made(api, owner, chat)
    answer = seen(api, link["token"])
    assert answer.status == 200
    assert answer.json == {
        "title": "Test",
        "create_time": link["create_time"],
        "expires_at": link["expires_at"],
        "messages": [
            {"n": 1, "role": "user", "type": "text", "content": "Question", "create_time": chat.create_time},
            {
                "n": 2,
                "role": "assistant",
                "type": "text",
                "content": "Answer",
                "create_time": chat.create_time,
                "sources": [{"index": 1, "title": "Deer", "url": "https://deer.example/", "site_name": "Deer"}],
            },
        ],
    }
    assert owner.id not in answer.body
    assert chat.id not in answer.body
    assert owner.username not in answer.body


def test_reasoning_nickname_and_preset_are_shown_if_the_owner_says_so(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner, "Question", "Answer")
    link = made(api, owner, chat, reasoning=True, nickname=True, preset=True)
    User(owner.id).update([User.nickname.set("Fawn")])
    shown = seen(api, link["token"]).json
    assert (shown["owner"], shown["preset"], shown["messages"][1]["reasoning"]) == ("Fawn", "Test", "Hm.")
    assert "credits" not in shown["messages"][1]
    assert "model" not in shown["messages"][1]


def test_a_preset_that_is_gone_hinders_no_link(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "Question")
    Preset(chat.preset_id, 1).delete()
    assert "preset" not in seen(api, made(api, owner, chat, preset=True)["token"]).json


def test_hidden_messages_and_filtered_answers_are_on_no_link(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner, "Question", "Answer", "Secret", "Filtered")
    Message(chat.thread, 3).update([Message.visibility.set(False)])
    Message(chat.thread, 4).update([Message.finish_reason.set("content_filter")])
    assert texts(api, made(api, owner, chat)["token"]) == ["Question", "Answer"]


def test_a_link_ends_at_the_message_that_the_owner_names(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner, "a", "b", "c", "d")
    link = made(api, owner, chat, upto=2)
    assert (link["upto"], link["message_count"]) == (2, 2)
    assert texts(api, link["token"]) == ["a", "b"]
    assert texts(api, link["token"], "?before=99") == ["a", "b"]
    assert texts(api, link["token"], "?after=1") == ["b"]
    assert texts(api, link["token"], "?after=2") == []
    for upto in (5, 99):
        assert share(api, owner, chat, upto=upto).json["code"] == "unknown_message"


def test_what_is_written_later_is_never_shown(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner, "a", "b")
    link = made(api, owner, chat)
    more = {"messages": [{"role": "user", "content": "c"}]}
    assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json=more, user=owner).status == 200
    assert texts(api, link["token"]) == ["a", "b"]
    assert texts(api, link["token"], "?after=2") == []
    # The answer of a task that was open then has an n below that of later messages, and is shown as little.
    Message(chat.thread, 2).delete()
    Message(chat.thread, 2, role="assistant", content="late", create_time=clock.timestamp()).save()
    assert texts(api, link["token"]) == ["a"]


def test_an_edited_message_disappears_from_a_link_and_so_does_one_that_is_made_anew(
    api: Api, person: MakePerson
) -> None:
    owner = person()
    chat = answered(owner, "a", "b", "c")
    link = made(api, owner, chat)
    kept = [{"n": 1, "role": "user", "content": "a"}, {"n": 2, "role": "assistant", "content": "other"}]
    answer = api(
        "chats.update", "PUT", f"/chats/{chat.id}", json={"messages": kept}, user=owner, headers={"If-Match": "*"}
    )
    assert answer.status == 200, answer.body
    assert texts(api, link["token"]) == ["a"]
    other = make_chat(owner, "same")
    again = made(api, owner, other)
    Message(other.thread, 1).update([Message.create_time.set(clock.timestamp())])
    assert texts(api, again["token"]) == []


def test_a_message_that_is_hidden_disappears_at_once_and_comes_back(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = answered(owner, "a", "b")
    token = made(api, owner, chat)["token"]
    Message(chat.thread, 1).update([Message.visibility.set(False)])
    assert texts(api, token) == ["b"]
    Message(chat.thread, 1).update([Message.visibility.set(True)])
    assert texts(api, token) == ["a", "b"]


def test_a_link_keeps_the_title_that_the_chat_had(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    token = made(api, owner, chat)["token"]
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": "Private"}, user=owner).status == 200
    assert seen(api, token).json["title"] == "Test"


def test_a_link_is_read_page_by_page_in_both_directions(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, *"abcde")
    token = made(api, owner, chat)["token"]
    for query, pages in (
        ("?limit=2", [["d", "e"], ["b", "c"], ["a"]]),
        ("?limit=2&after=0", [["a", "b"], ["c", "d"], ["e"]]),
    ):
        found, address = [], f"/shared/{token}{query}"
        while address:
            answer = api("shared.get", "GET", address)
            found.append([message["content"] for message in answer.json["messages"]])
            link = answer.headers.get("link", "")
            address = link.partition(">")[0].removeprefix("<")
        assert found == pages, query


def test_what_stays_of_a_link_costs_the_same_however_long_the_chat_has_become(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a", "b")
    token = made(api, owner, chat)["token"]
    seen(api, token)
    counts = []
    for size in (3, 2_000):
        now = clock.timestamp()
        messages.write([Message(chat.thread, n, role="user", content="x", create_time=now) for n in range(3, size)])
        with recorded_calls() as calls:
            assert texts(api, token) == ["a", "b"]
        counts.append(sorted(call.split()[0] for call in calls))
    assert counts[0] == counts[1] == ["GetItem", "GetItem", "GetItem", "Query", "UpdateItem"]


# --- its secret


def test_a_token_is_too_long_to_guess_and_stored_nowhere(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    links = [share(api, owner, chat, key=new_id()).json for _ in range(3)]
    tokens = {link["token"] for link in links}
    assert len(tokens) == 3
    assert all(len(token) * 6 >= 256 for token in tokens)
    assert not records(*tokens)


def test_addresses_are_of_the_domain_or_of_what_was_called(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    monkeypatch.setattr(settings, "PUBLIC_BASE_URL", "https://chat.example.com")
    link = made(api, owner, chat)
    assert link["url"] == f"https://chat.example.com/s/{link['token']}"
    assert link["api_url"] == f"https://chat.example.com/api/v1/shared/{link['token']}"
    monkeypatch.setattr(settings, "PUBLIC_BASE_URL", "")
    assert made(api, owner, chat)["api_url"].startswith("https://api.test/api/v1/shared/")


def test_nothing_lists_or_keeps_what_a_link_shows_and_it_gives_its_address_to_nobody(
    api: Api, person: MakePerson
) -> None:
    owner = person()
    token = made(api, owner, make_chat(owner, "a"))["token"]
    for answer in (seen(api, token), seen(api, "unknown")):
        assert answer.headers["x-robots-tag"] == "noindex, nofollow"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "private, no-store"


# --- its end


def test_every_link_that_shows_nothing_gives_the_same_answer(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, gone = person(), person()
    chat, deleted = make_chat(owner, "a"), make_chat(owner, "a")
    revoked, dead = made(api, owner, chat), made(api, owner, deleted)
    orphan = made(api, gone, make_chat(gone, "a"))
    short = made(api, owner, chat, expires_in=60)
    assert revoke(api, owner, chat, revoked["id"]).json == {"message": "Revoked."}
    assert api("chats.delete", "DELETE", f"/chats/{deleted.id}", user=owner).status == 200
    deletion.delete(gone.user, gone.id)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + 60)
    tokens = [revoked["token"], dead["token"], orphan["token"], short["token"], "unknown", "%23", short["id"]]
    answers = [seen(api, token) for token in tokens]
    assert [said(answer) for answer in answers] == [NOT_FOUND] * len(tokens)
    assert len({json.dumps(answer.headers, sort_keys=True) for answer in answers}) == 1


def test_a_link_expires_in_thirty_days_or_when_its_owner_says(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    for body, days in (({}, 30), ({"expires_in": 86400}, 1)):
        link = made(api, owner, chat, **body)
        assert clock.parse(link["expires_at"]) - clock.parse(link["create_time"]) == pytest.approx(days * 86400)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert made(api, owner, chat, expires_at=tomorrow)["expires_at"].startswith(f"{tomorrow}T23:59:59")
    for body, code in (
        ({"expires_at": "2020-01-01"}, "expires_in_the_past"),
        ({"expires_at": "2200-01-01"}, "expires_too_late"),
        ({"expires_in": 59}, "validation_error"),
        ({"expires_in": 367 * 86400}, "validation_error"),
        ({"expires_in": 60, "expires_at": tomorrow}, "validation_error"),
        ({"upto": 0}, "validation_error"),
        ({"reasoning": "yes"}, "validation_error"),
        ({"password": "x"}, "validation_error"),
    ):
        answer = share(api, owner, chat, **body)
        assert (answer.status, answer.json["code"]) == (422, code), body


def test_an_expired_link_is_in_no_list_and_takes_no_place(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    monkeypatch.setattr(shares, "OF_A_CHAT", 1)
    link = made(api, owner, chat, expires_in=60)
    assert share(api, owner, chat).json["code"] == "too_many_shares"
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + 61)
    assert listed(api, owner, chat).json == []
    assert revoke(api, owner, chat, link["id"]).json["code"] == "share_not_found"
    assert share(api, owner, chat).status == 200


def test_a_chat_and_a_user_that_are_deleted_leave_no_link(api: Api, person: MakePerson) -> None:
    owner = person()
    first, second = make_chat(owner, "a"), make_chat(owner, "a")
    for chat in (first, first, second):
        made(api, owner, chat)
    assert len(records(first.id, prefix="share")) == 6
    api("chats.delete", "DELETE", f"/chats/{first.id}", user=owner)
    for job in jobs_of(first):
        run(job)
    assert not records(first.id, prefix="share")
    assert len(records(second.id, prefix="share")) == 3
    deletion.delete(owner.user, owner.id)
    assert deletion.remove(owner.id, time.monotonic() + 60)
    assert not records(owner.id, second.id, prefix="share")


def test_a_removal_that_breaks_off_goes_on_later(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    made(api, owner, chat)
    assert not shares.remove_of_chat(chat.id, time.monotonic() - 1)
    assert not shares.remove_of_user(owner.id, time.monotonic() - 1)
    assert shares.remove_of_chat(chat.id, time.monotonic() + 10)
    assert shares.remove_of_user(owner.id, time.monotonic() + 10)


# --- who may


def test_only_the_owner_makes_links_and_the_owner_and_administrators_see_and_revoke_them(
    api: Api, person: MakePerson
) -> None:
    owner, other, admin = person(), person(), person(permission=2)
    chat = make_chat(owner, "a")
    chat.update([Chat.visibility.set("shared")])
    for nobody in (other, admin):
        assert share(api, nobody, chat).status == 403
    visitor = person(permission=0)
    assert share(api, visitor, make_chat(visitor, "a")).json["code"] == "visitor"
    link = made(api, owner, chat)
    assert listed(api, other, chat).status == revoke(api, other, chat, link["id"]).status == 403
    shown = listed(api, owner, chat).json
    assert shown == [{name: link[name] for name in link.keys() - {"token", "url", "api_url"}}]
    assert listed(api, admin, chat).json == shown
    assert revoke(api, admin, chat, link["id"]).status == 200
    assert said(seen(api, link["token"])) == NOT_FOUND
    trail = [record.action for record in AuditRecord.by_user.query(owner.id)]
    assert sorted(trail) == ["share.list", "share.revoke"]
    assert revoke(api, owner, chat, link["id"]).json["code"] == "share_not_found"
    assert revoke(api, owner, make_chat(owner, "b"), link["id"]).json["code"] == "share_not_found"


def test_a_link_of_another_chat_is_not_revoked(api: Api, person: MakePerson) -> None:
    owner, other = person(), person()
    link = made(api, owner, make_chat(owner, "a"))
    assert revoke(api, other, make_chat(other, "a"), link["id"]).json["code"] == "share_not_found"
    assert texts(api, link["token"]) == ["a"]


def test_there_is_nothing_to_share_in_an_empty_chat_and_too_much_in_a_long_one(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = person()
    assert share(api, owner, make_chat(owner)).json["code"] == "nothing_to_share"
    monkeypatch.setattr(shares, "MESSAGES", 2)
    chat = make_chat(owner, "a", "b", "c")
    answer = share(api, owner, chat)
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert share(api, owner, chat, upto=2).status == 200
    assert api("chats.share", "POST", f"/chats/{new_id()}/shares", json={}, user=owner).status == 404


# --- once, and not too many


def test_a_repeated_request_gives_the_same_link_with_its_token(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    first = share(api, owner, chat, key="k")
    assert share(api, owner, chat, key="k").json == first.json
    assert len(listed(api, owner, chat).json) == 1
    assert share(api, owner, chat, key="k", upto=1).json["code"] == "idempotency_key_reused"
    revoke(api, owner, chat, first.json["id"])
    assert said(share(api, owner, chat, key="k")) == NOT_FOUND


def test_one_key_at_once_makes_one_link(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    from aideer.data.idempotency import IdempotentRequest
    from aideer.schemas.shares import NewShare

    new, user = NewShare(), owner.user

    def make(_: int) -> str:
        return shares.create(user, chat.id, new, IdempotentRequest(owner.id, "r", "one", new)).token

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(8)))) == 1
    assert len(listed(api, owner, chat).json) == 1


@pytest.mark.parametrize("limit", ["OF_A_CHAT", "OF_A_USER"])
def test_links_that_are_made_at_once_never_exceed_the_limits(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    from aideer.core.errors import Conflict
    from aideer.data.idempotency import IdempotentRequest
    from aideer.schemas.shares import NewShare

    monkeypatch.setattr(shares, limit, 3)
    owner = person()
    chats = [make_chat(owner, "a") for _ in range(1 if limit == "OF_A_CHAT" else 4)]
    new, user = NewShare(), owner.user

    def make(n: int) -> bool:
        try:
            shares.create(user, chats[n % len(chats)].id, new, IdempotentRequest(owner.id, "r", None, new))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(make, range(8))) == 3
    assert sum(len(listed(api, owner, chat).json) for chat in chats) == 3


def test_a_lost_answer_makes_no_second_link_and_revokes_all_the_same(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    with faults.answer_lost("TransactWriteItems"):
        link = made(api, owner, chat)
    assert [one["id"] for one in listed(api, owner, chat).json] == [link["id"]]
    with faults.answer_lost("TransactWriteItems"):
        assert revoke(api, owner, chat, link["id"]).status == 200
    assert listed(api, owner, chat).json == []


def test_a_chat_that_is_deleted_at_that_moment_gets_no_link(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    read = messages.read_page

    def deleted_meanwhile(*args: Any, **more: Any) -> Any:
        page = read(*args, **more)
        api("chats.delete", "DELETE", f"/chats/{chat.id}", user=owner)
        return page

    monkeypatch.setattr(messages, "read_page", deleted_meanwhile)
    assert share(api, owner, chat).json["code"] == "chat_not_found"
    assert not records(chat.id, prefix="share")


# --- what it may cost


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_limit(kind: limits.Kind, times: int, seconds: int = 3600) -> None:
        monkeypatch.setitem(LIMITS, kind, Limit(times, seconds))

    return set_limit


def test_links_are_made_so_often_an_hour(api: Api, person: MakePerson, limit: Callable[..., None]) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    limit("share", 2)
    assert [share(api, owner, chat).status for _ in range(3)] == [200, 200, 429]
    assert share(api, owner, chat, key="k").json["code"] == "too_many_new_shares"


def test_an_address_reads_links_so_often_a_minute(api: Api, person: MakePerson, limit: Callable[..., None]) -> None:
    owner = person()
    token = made(api, owner, make_chat(owner, "a"))["token"]
    limit("shared", 2)
    here, there = "198.51.100.77", "2001:db8:77::1"
    assert [seen(api, token, address=here).status for _ in range(3)] == [200, 200, 429]
    refused = seen(api, "unknown", address=here)
    assert (refused.status, refused.json["code"]) == (429, "too_many_link_requests")
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    with recorded_calls() as calls:
        assert seen(api, token, address=here).status == 429
    assert not calls, "a process remembers it"
    assert seen(api, token, address=there).status == 200
    assert [seen(api, token, address=f"2001:db8:77::{n}").status for n in (2, 3)] == [200, 429]


def test_hidden_messages_that_are_read_over_count_towards_the_budgets(
    api: Api, person: MakePerson, limit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, reader = person(), person()
    chat = make_chat(owner, "a", *["x"] * 60, "z")
    for n in range(2, 62):
        Message(chat.thread, n).update([Message.visibility.set(False), Message.content.set("x" * 60_000)])
    Chat(chat.id).update([Chat.visibility.set("shared")])
    token = made(api, owner, chat)["token"]
    limit("shared_read", 10)
    limit("read", 10)
    monkeypatch.setattr(budgets, "BATCH", 1)
    assert texts(api, token) == ["a", "z"]
    read = "chats.get", "GET", f"/chats/{chat.id}"
    assert len(api(*read, user=reader).json["messages"]) == 2
    assert [seen(api, token).status, api(*read, user=reader).status] == [429, 429]


# --- images


def image_of(api: Api, token: str, n: int) -> Answer:
    return api("shared.upload", "GET", f"/shared/{token}/messages/{n}/upload")


def test_a_link_shows_the_uploaded_images_of_its_messages_and_no_others(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, "a", "b", "c", "d")
    ready = [make_upload(owner) for _ in range(2)]
    for n, upload in zip((2, 4), ready, strict=True):
        content = references.to_content(upload.id)
        Message(chat.thread, n).update([Message.type.set("image"), Message.content.set(content)])
    link = made(api, owner, chat, upto=3)
    shown = image_of(api, link["token"], 2)
    assert (shown.status, shown.headers["content-type"], shown.body[6:10]) == (200, "image/jpeg", "JFIF")
    assert (shown.headers["x-robots-tag"], shown.headers["cache-control"]) == ("noindex, nofollow", "private, no-store")
    assert [said(image_of(api, link["token"], n)) for n in (1, 3, 4, 9)] == [NOT_FOUND] * 4
    assert said(image_of(api, "unknown", 2)) == NOT_FOUND
    Message(chat.thread, 2).update([Message.visibility.set(False)])
    assert said(image_of(api, link["token"], 2)) == NOT_FOUND
    Message(chat.thread, 2).update([Message.visibility.set(True)])
    Upload(ready[0].id).update([Upload.deleted.set(True)])
    assert said(image_of(api, link["token"], 2)) == NOT_FOUND


def test_images_count_towards_the_budget_of_the_owners_links(
    api: Api, person: MakePerson, limit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    content = references.to_content(make_upload(owner).id)
    Message(chat.thread, 1).update([Message.type.set("image"), Message.content.set(content)])
    token = made(api, owner, chat)["token"]
    limit("shared_read", 1)
    monkeypatch.setattr(budgets, "BATCH", 1)
    assert [image_of(api, token, 1).status for _ in range(3)] == [200, 429, 429]
    assert seen(api, token).json["code"] == "too_many_readers"


def test_a_link_shows_the_path_that_was_shown_when_it_was_made_and_no_other_branch(
    api: Api, person: MakePerson
) -> None:
    owner = person()
    chat = talk(owner, "a", "b")
    link = made(api, owner, chat)
    before = texts(api, link["token"])
    branch(owner, chat, 3, "B", "C")
    assert texts(api, link["token"]) == before[:2]
    later = made(api, owner, chat)
    after = texts(api, later["token"])
    assert after[:4] == [*before[:2], "B", "C"]
    assert switch(api, chat, "main", owner).status == 200
    assert texts(api, link["token"]) == before
    assert texts(api, later["token"]) == before[:2]


def test_an_image_costs_a_read_of_its_message_alone(api: Api, person: MakePerson) -> None:
    owner = person()
    chat = make_chat(owner, *["x"] * 10)
    content = references.to_content(make_upload(owner).id)
    Message(chat.thread, 6).update([Message.type.set("image"), Message.content.set(content)])
    token = made(api, owner, chat)["token"]
    looked: list[int] = []

    def look(parsed: dict[str, Any], **_: Any) -> None:
        looked.append(parsed["ScannedCount"])

    events = Message._get_connection().connection.client.meta.events
    events.register("after-call.dynamodb.Query", look)
    try:
        assert image_of(api, token, 6).status == 200
    finally:
        events.unregister("after-call.dynamodb.Query", look)
    assert looked == [1]
