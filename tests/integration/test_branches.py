"""Branches: a question that takes the place of an earlier one keeps it, and one call shows it again."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aideer.core import clock, settings
from aideer.data.branches import SIBLINGS
from aideer.data.models import AuditRecord, Chat, Message, Task
from aideer.tasks import chat_deletion, conversations, executor
from local.simulators import dashscope
from tests.faults import answer_lost
from tests.integration.test_asking import answered, ask
from tests.support import Answer, Api, Person, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]


def said(content: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


def fresh(chat: Chat | str) -> Chat:
    return Chat.get(chat if isinstance(chat, str) else chat.id, consistent_read=True)


def get(api: Api, chat: Chat, user: Person, query: str = "") -> Answer:
    answer = api("chats.get", "GET", f"/chats/{chat.id}{query}", user=user)
    assert answer.status == 200, answer.body
    return answer


def shown(api: Api, chat: Chat, user: Person) -> list[tuple[int, str]]:
    return [(message["n"], message["content"]) for message in get(api, chat, user).json["messages"]]


def questions(api: Api, chat: Chat, user: Person) -> list[str]:
    found = get(api, chat, user).json["messages"]
    return [message["content"] for message in found if message["role"] == "user"]


def switch(api: Api, chat: Chat, branch: str, user: Person, tag: str | None = "*") -> Answer:
    headers = {} if tag is None else {"If-Match": tag}
    return api("chats.branch", "PUT", f"/chats/{chat.id}/branch", json={"branch": branch}, user=user, headers=headers)


def talk(me: Person, *texts: str) -> Chat:
    """A chat with these questions, each with its answer."""
    chat = make_chat(me)
    for text in texts:
        answered(ask(me, {"chat_id": chat.id, "messages": [said(text)]}))
    return fresh(chat)


def branch(me: Person, chat: Chat, n: int, *texts: str) -> str:
    """Ask these in the place of message `n`, and return the new branch."""
    answered(ask(me, {"chat_id": chat.id, "branch_at": n, "messages": [said(text) for text in texts]}))
    return str(fresh(chat).branch)


def sent(provider: dashscope.Server) -> list[str]:
    """The contents of the last prompt."""
    request = [seen for seen in provider.requests() if "body" in seen][-1]
    return [message["content"] for message in request["body"]["input"]["messages"]]


# --- asking in the place of an earlier message


def test_an_edited_question_keeps_the_old_one_as_a_sibling(
    api: Api, person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    chat = talk(me, "one", "two", "three")
    before = shown(api, chat, me)
    start, end = answered(ask(me, {"chat_id": chat.id, "branch_at": 3, "messages": [said("TWO")]}))
    assert sent(provider) == ["You are helpful.", "one", before[1][1], "TWO"]
    assert (start["messages"], end["message"]["n"], start["chat_version"]) == ([3], 4, chat.version + 1)
    now = get(api, chat, me).json
    assert [(m["n"], m["role"]) for m in now["messages"]] == [
        (1, "user"),
        (2, "assistant"),
        (3, "user"),
        (4, "assistant"),
    ]
    assert (now["message_count"], fresh(chat).next_n) == (4, 5)
    assert fresh(chat).preview == end["content"][:200]
    siblings = now["messages"][2]["siblings"]
    assert (siblings["count"], siblings["shown"], siblings["branches"][0]) == (2, 2, "main")
    assert [("siblings" in message) for message in now["messages"]] == [False, False, True, False]
    old = switch(api, chat, "main", me, f'"{now["version"]}"')
    assert old.status == 200, old.body
    assert [(m["n"], m["content"]) for m in old.json["messages"]] == before
    assert old.json["messages"][2]["siblings"] == {**siblings, "shown": 1}
    back = fresh(chat)
    assert (back.next_n, back.message_count, back.preview, back.preview_n) == (7, 6, chat.preview, 6)
    check_rules(me)


def test_the_first_question_can_be_edited_too(api: Api, person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    chat = talk(me, "one")
    branch(me, chat, 1, "ONE")
    assert sent(provider) == ["You are helpful.", "ONE"]
    assert questions(api, chat, me) == ["ONE"]
    assert get(api, chat, me).json["messages"][0]["siblings"]["count"] == 2


def test_branches_of_branches_lead_to_their_own_messages(
    api: Api, person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    chat = talk(me, "one", "two")
    first = branch(me, chat, 3, "TWO")
    answered(ask(me, {"chat_id": chat.id, "messages": [said("three")]}))
    second = branch(me, chat, 5, "THREE")
    third = branch(me, chat, 1, "ONE")
    assert questions(api, chat, me) == ["ONE"]
    for name, expected in (
        (first, ["one", "TWO", "three"]),
        (second, ["one", "TWO", "THREE"]),
        ("main", ["one", "two"]),
        (third, ["ONE"]),
        (second, ["one", "TWO", "THREE"]),
    ):
        assert switch(api, chat, name, me).status == 200
        assert questions(api, chat, me) == expected
        assert fresh(chat).message_count == 2 * len(expected)
    answered(ask(me, {"chat_id": chat.id, "messages": [said("four")]}))
    assert [text for text in sent(provider) if not text.startswith("I ")][1::2][:1] == [sent(provider)[1]]
    assert questions(api, chat, me) == ["one", "TWO", "THREE", "four"]
    assert [message for message in sent(provider) if message in ("one", "two", "TWO", "three", "THREE", "four")] == [
        "one",
        "TWO",
        "THREE",
        "four",
    ]
    check_rules(me)


@pytest.mark.parametrize("door", ["stream", "queue"])
def test_both_doors_begin_branches(api: Api, person: MakePerson, door: str) -> None:
    me = person()
    chat = talk(me, "one")
    body = {"chat_id": chat.id, "branch_at": 1, "messages": [said("ONE")]}
    if door == "stream":
        answered(ask(me, body))
    else:
        made = api("tasks.create", "POST", "/tasks", json={**body, "stream": False}, user=me)
        assert made.status == 200, made.body
        in_loop(executor.execute(made.json["task_id"], clock.now() + 60))
    assert [n for n, _ in shown(api, chat, me)] == [1, 2]
    assert questions(api, chat, me) == ["ONE"]
    check_rules(me)


def test_a_repeated_request_begins_one_branch(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one")
    body = {"chat_id": chat.id, "branch_at": 1, "messages": [said("ONE")]}
    first = answered(ask(me, body, "tap"))
    assert answered(ask(me, body, "tap")) == first
    assert len(fresh(chat).branches) == 2
    other = ask(me, {**body, "branch_at": 2}, "tap")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_refused_branch_leaves_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "one", "two")
    me.user.update([type(me.user).credits.set(0)])
    refused = ask(me, {"chat_id": chat.id, "branch_at": 1, "messages": [said("ONE")]})
    assert refused.status_code == 402
    now = fresh(chat)
    assert (now.branches, now.branch, now.version, now.active_task) == (None, None, chat.version, None)
    assert shown(api, chat, me) == [(1, "one"), (2, "two")]


def test_a_quote_prices_the_branch(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one", "two")
    body = {"chat_id": chat.id, "branch_at": 1, "messages": [said("ONE")]}
    quoted = api("tasks.quote", "POST", "/tasks/quote", json=body, user=me).json
    start, _ = answered(ask(me, body))
    assert start["credits_held"] == quoted["credits_at_most"]


@pytest.mark.parametrize(
    "body",
    [
        {"branch_at": 1},
        {"branch_at": 1, "chat": {"preset_id": "x"}, "messages": [said("x")]},
        {"branch_at": 1, "regenerate": "x"},
        {"branch_at": 0, "messages": [said("x")]},
        {"branch_at": "1", "messages": [said("x")]},
    ],
)
def test_a_branch_takes_a_chat_and_messages(person: MakePerson, body: dict[str, Any]) -> None:
    me = person()
    whole = body if "chat" in body or "regenerate" in body else {"chat_id": make_chat(me, "one").id, **body}
    answer = ask(me, whole)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


def test_a_branch_begins_at_a_message_of_ones_own_chat(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "one")
    missing = ask(me, {"chat_id": chat.id, "branch_at": 2, "messages": [said("x")]})
    assert (missing.status_code, missing.json()["code"]) == (404, "message_not_found")
    assert ask(person(), {"chat_id": chat.id, "branch_at": 1, "messages": [said("x")]}).status_code == 403


def test_a_message_has_a_limited_number_of_siblings(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "one")
    tree = chat.tree
    for number in range(SIBLINGS - 1):
        tree.fork(f"b{number}", 0, 0, 2, 1)
    Message(tree.path[-1].thread, 1, role="user", content="last", create_time=clock.timestamp()).save()
    fields = tree.to_fields()
    chat.update([getattr(Chat, name).set(value) for name, value in fields.items()])
    refused = ask(me, {"chat_id": chat.id, "branch_at": 1, "messages": [said("x")]})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_branches")


# --- showing another branch


def test_switching_needs_the_chats_etag_and_a_branch_of_it(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one")
    branch(me, chat, 1, "ONE")
    assert switch(api, chat, "main", me, None).json["code"] == "if_match_required"
    assert switch(api, chat, "main", me, '"1"').json["code"] == "precondition_failed"
    assert switch(api, chat, "another", me).json["code"] == "branch_not_found"
    assert switch(api, chat, "main", person()).status == 403
    assert questions(api, chat, me) == ["ONE"]
    version = fresh(chat).version
    same = switch(api, chat, str(fresh(chat).branch), me)
    assert (same.status, same.json["version"]) == (200, version)


def test_an_administrator_switches_too_and_the_trail_says_so(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    chat = talk(me, "one")
    branch(me, chat, 1, "other")
    assert switch(api, chat, "main", admin).status == 200
    assert questions(api, chat, me) == ["one"]
    [record] = [found for found in AuditRecord.by_user.query(me.id) if found.action == "chat.change"]
    assert (record.actor_id, record.about) == (admin.id, chat.id)


def test_while_a_task_answers_the_branch_stays(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one")
    body = {"chat_id": chat.id, "branch_at": 1, "messages": [said("ONE")], "stream": False}
    task_id = api("tasks.create", "POST", "/tasks", json=body, user=me).json["task_id"]
    refused = switch(api, chat, "main", me)
    assert (refused.status, refused.json["code"], refused.json["task_id"]) == (409, "task_running", task_id)
    busy = ask(me, {"chat_id": chat.id, "branch_at": 1, "messages": [said("x")]})
    assert (busy.status_code, busy.json()["code"]) == (409, "task_running")
    in_loop(executor.execute(task_id, clock.now() + 60))
    assert [n for n, _ in shown(api, chat, me)] == [1, 2]
    assert switch(api, chat, "main", me).status == 200
    check_rules(me)


def test_a_failed_answer_leaves_its_question_in_the_branch(
    api: Api, person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    chat = talk(me, "one")
    answered(ask(me, {"chat_id": chat.id, "branch_at": 1, "messages": [said("/sim fail=drop_before")]}))
    assert len(shown(api, chat, me)) == 1
    assert switch(api, chat, "main", me).status == 200
    assert len(shown(api, chat, me)) == 2
    check_rules(me)


def test_a_title_is_that_of_the_branch_it_was_asked_for(
    api: Api, person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    chat = talk(me, "one")
    branch(me, chat, 1, "ONE")
    body = {"chat_id": chat.id, "type": "title_generation"}
    task_id = api("tasks.create", "POST", "/tasks", json=body, user=me).json["task_id"]
    assert switch(api, chat, "main", me).status == 200
    in_loop(executor.execute(task_id, clock.now() + 60))
    assert "ONE" in sent(provider)[-1]
    assert Task.get(task_id, consistent_read=True).status == "finished"


def test_a_lost_answer_of_a_switch_changes_it_once(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one")
    branch(me, chat, 1, "ONE")
    version = fresh(chat).version
    with answer_lost("TransactWriteItems"):
        assert switch(api, chat, "main", me, f'"{version}"').status == 200
    assert fresh(chat).version == version + 1


# --- what knows branches


def test_readers_copies_and_exports_see_the_shown_path_alone(api: Api, person: MakePerson) -> None:
    me, reader = person(), person()
    chat = talk(me, "one", "two")
    branch(me, chat, 3, "TWO")
    chat.update([Chat.visibility.set("shared")])
    assert questions(api, chat, reader) == ["one", "TWO"]
    assert not any("siblings" in message for message in get(api, chat, reader).json["messages"])
    copied = api("chats.copy", "POST", f"/chats/{chat.id}/copy", user=me).json
    assert [m["content"] for m in copied["messages"] if m["role"] == "user"] == ["one", "TWO"]
    assert fresh(copied["id"]).branches is None
    assert [m["n"] for m in api("chats.copy", "POST", f"/chats/{chat.id}/copy?upto=3", user=me).json["messages"]] == [
        1,
        2,
        3,
    ]
    exported = api("chats.export", "GET", f"/chats/{chat.id}/export", user=me).json
    assert [m["content"] for m in exported["messages"] if m["role"] == "user"] == ["one", "TWO"]


def test_each_branch_is_exported_by_following_the_siblings(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, *"abcd")
    _fork(chat, 3, "C")
    _fork(chat, 4, "D")  # it goes on from the first message of C
    _fork(chat, 1, "A")
    stored = fresh(chat).attribute_values
    found: dict[str, list[str]] = {}
    todo = ["main"]
    while todo:
        wanted = todo.pop()
        path: str | None = f"/chats/{chat.id}/export?branch={wanted}"
        texts = []
        while path:
            answer = api("chats.export", "GET", path, user=me)
            assert answer.status == 200, answer.body
            texts += [message["content"] for message in answer.json["messages"]]
            for message in answer.json["messages"]:
                todo += [name for name in message.get("siblings", {}).get("branches", []) if name not in found]
            link = answer.headers.get("link")
            path = link[1 : link.index(">")] if link else None
        assert answer.json["message_count"] == len(texts)
        found[wanted] = texts
    assert found == {
        "main": ["a", "b", "c", "d"],
        "C": ["a", "b", "C0", "C1", "C2"],
        "D": ["a", "b", "C0", "D0", "D1", "D2"],
        "A": ["A0", "A1", "A2"],
    }
    assert fresh(chat).attribute_values == stored, "an export changes nothing"
    markdown = api("chats.export", "GET", f"/chats/{chat.id}/export?format=markdown&branch=D", user=me).body
    assert "D2" in markdown
    assert "A2" not in markdown
    for unknown in ("nobody", "D0", "MAIN"):
        refused = api("chats.export", "GET", f"/chats/{chat.id}/export?branch={unknown}", user=me)
        assert (refused.status, refused.json["code"]) == (404, "branch_not_found")
    plain = make_chat(me, "hello")
    assert len(api("chats.export", "GET", f"/chats/{plain.id}/export?branch=main", user=me).json["messages"]) == 1


def _fork(chat: Chat, n: int, text: str) -> None:
    """Give the chat a branch `text` of three messages in the place of the message `n` of its shown path, and show it."""
    tree = fresh(chat).tree
    tree.fork(text, n - 1, n - 1, n + 3, 3)
    for more in range(3):
        now = clock.timestamp()
        Message(tree.path[-1].thread, n + more, role="user", content=f"{text}{more}", create_time=now).save()
    chat.update([getattr(Chat, key).set(value) for key, value in tree.to_fields().items()])


def test_a_page_ends_and_goes_on_at_any_place_of_a_path(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, *"abcdefgh")
    for n, text in ((7, "G"), (4, "D"), (5, "E")):
        _fork(chat, n, text)
    whole = ["a", "b", "c", "D0", "E0", "E1", "E2"]
    assert [text for _, text in shown(api, chat, me)] == whole
    for limit in range(1, 9):
        for start, order in (("", -1), ("after=0&", 1)):
            path: str | None = f"/chats/{chat.id}?{start}limit={limit}"
            pages = []
            while path:
                answer = api("chats.get", "GET", path, user=me)
                pages.append([message["content"] for message in answer.json["messages"]])
                for message in answer.json["messages"]:
                    assert ("siblings" in message) == (message["n"] in (4, 5)), (path, message)
                link = answer.headers.get("link")
                path = link[1 : link.index(">")] if link else None
            assert [text for page in pages[::order] for text in page] == whole
            assert all(len(page) == limit for page in pages[:-1])


def test_a_copy_and_a_replacement_of_a_branched_chat(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one")
    branch(me, chat, 1, "ONE")
    read = get(api, chat, me)
    body = {"messages": read.json["messages"]}
    headers = {"If-Match": read.headers["etag"]}
    refused = api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers=headers)
    assert (refused.status, refused.json["code"]) == (409, "chat_branched")
    copied = api("chats.copy", "POST", f"/chats/{chat.id}/copy", user=me).json
    again = api("chats.update", "PUT", f"/chats/{copied['id']}", json=body, user=me, headers={"If-Match": '"1"'})
    assert again.status == 200, again.body


def test_the_deletion_of_a_chat_removes_every_branch(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one", "two")
    branch(me, chat, 3, "TWO")
    branch(me, chat, 1, "ONE")
    threads = fresh(chat).tree.threads
    assert len(threads) == 3
    assert all(list(Message.query(thread, consistent_read=True)) for thread in threads)
    chat_deletion.delete(me.user, chat.id)
    assert chat_deletion.remove({"chat_id": chat.id}, clock.now() + 60)
    assert not any(list(Message.query(thread, consistent_read=True)) for thread in threads)


def test_removing_the_last_message_of_a_branch_shows_a_sibling(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one", "two")
    branch(me, chat, 3, "TWO")
    path = f"/chats/{chat.id}/messages/3?following=true"
    answer = api("chats.message_delete", "DELETE", path, user=me, headers={"If-Match": "*"})
    assert answer.status == 200, answer.body
    assert questions(api, chat, me) == ["one", "two"]
    now = fresh(chat)
    assert (now.branches, now.branch, now.message_count, now.next_n, now.preview_n) == (None, None, 4, 5, 4)


def remove(api: Api, chat: Chat, n: int, user: Person) -> Answer:
    path = f"/chats/{chat.id}/messages/{n}?following=true"
    answer = api("chats.message_delete", "DELETE", path, user=user, headers={"If-Match": "*"})
    assert answer.status == 200, answer.body
    return answer


def test_a_removed_message_is_no_preview_when_another_branch_is_shown(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one", "two")
    branch(me, chat, 3, "TWO")
    switch(api, chat, "main", me)
    remove(api, chat, 3, me)
    assert questions(api, chat, me) == ["one", "TWO"]
    remove(api, chat, 2, me)  # with the whole of the other branch
    assert shown(api, chat, me) == [(1, "one")]
    assert (fresh(chat).preview, fresh(chat).preview_n) == ("one", 1)


def test_after_a_removal_the_chat_shows_no_branch_that_is_empty(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one", "two")
    first = branch(me, chat, 3, "TWO")
    second = branch(me, chat, 4, "more")  # behind the question of the first
    switch(api, chat, first, me)
    remove(api, chat, 4, me)
    api("chats.message_delete", "DELETE", f"/chats/{chat.id}/messages/3", user=me, headers={"If-Match": "*"})
    assert questions(api, chat, me) == ["one", "more"]
    siblings = get(api, chat, me).json["messages"][2]["siblings"]
    assert siblings == {"count": 2, "shown": 2, "branches": ["main", second]}
    switch(api, chat, "main", me)
    remove(api, chat, 3, me)
    assert questions(api, chat, me) == ["one", "more"]
    assert fresh(chat).message_count == 4


def test_what_other_branches_share_is_not_removed_with_what_follows(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one", "two")
    branch(me, chat, 3, "TWO")
    path = f"/chats/{chat.id}/messages/1?following=true"
    refused = api("chats.message_delete", "DELETE", path, user=me, headers={"If-Match": "*"})
    assert (refused.status, refused.json["code"]) == (409, "branches_follow")
    alone = api("chats.message_delete", "DELETE", f"/chats/{chat.id}/messages/2", user=me, headers={"If-Match": "*"})
    assert [message["n"] for message in alone.json["messages"]] == [1, 3, 4]
    assert alone.json["messages"][1]["siblings"]["count"] == 2
    assert [m["n"] for m in switch(api, chat, "main", me).json["messages"]] == [1, 3, 4]
    assert questions(api, chat, me) == ["one", "two"]


def test_an_answer_is_made_again_in_its_branch(api: Api, person: MakePerson) -> None:
    me = person()
    chat = talk(me, "one")
    start, _ = answered(ask(me, {"chat_id": chat.id, "branch_at": 1, "messages": [said("ONE")]}))
    again, _ = answered(ask(me, {"regenerate": start["task_id"]}))
    assert [n for n, _ in shown(api, chat, me)] == [1, 3]
    switch(api, chat, "main", me)
    refused = ask(me, {"regenerate": again["task_id"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_last_answer")
    check_rules(me)


# --- cost


def test_a_branch_costs_one_query_more_and_a_path_one_for_each_segment(
    person: MakePerson, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = talk(me, "one", "two")
    first: list[Counter[str]] = []
    from aideer.providers import dashscope as client

    real = client.stream

    def noted(*arguments: Any, **named: Any) -> Any:
        first.append(Counter(name for name in counted if "Records" not in name))
        return real(*arguments, **named)

    monkeypatch.setattr(client, "stream", noted)
    plain = {f"GetItem {settings.CHATS_TABLE}": 1, "TransactWriteItems": 1}
    counted.clear()
    branch(me, chat, 3, "TWO")
    assert first.pop() == {**plain, f"Query {settings.MESSAGES_TABLE}": 2}
    counted.clear()
    conversations._remembered.clear()
    answered(ask(me, {"chat_id": chat.id, "messages": [said("three")]}))
    assert first.pop() == {**plain, f"Query {settings.MESSAGES_TABLE}": 2}
