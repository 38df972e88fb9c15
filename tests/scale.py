"""What a user with many chats, and a chat with many messages, cost: calls and capacity of each request, at any size.

    .venv/bin/python -m tests.scale --markdown >> docs/performance.md

prints the section of that page. tests/integration/test_scale.py holds it to be the same at 10 and at 10,000.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aideer.data.models import Chat
    from tests.capacity import Bill
    from tests.support import Api, Person

SIZES = (10, 10_000)
TEXT = "A question of forty characters, or so it is."
HEAD = """
## Long lists

    .venv/bin/python -m tests.scale --markdown >> docs/performance.md

A user with {chats} chats, and a chat with {messages} messages of {bytes} bytes: what each request calls, and the read and
write units that DynamoDB bills for it. The embedded AWS reports no capacity, so units are computed by DynamoDB's rules from the
sizes of what was read and written (`tests/capacity.py`). `tests/integration/test_scale.py` holds that lists, pages and appends
cost the same at any size.

An answer's prompt is the conversation, so asking reads as much of it as the model is sent: a hundred messages first, then 1 MB
at a time. It stops when that is more than the model's context holds, and is refused (413), however long the chat is.

"""


def seeded(owner: "Person", size: int) -> "Chat":
    """Give a user so many chats; the newest has so many messages, the last of them a question."""
    from aideer.chats import chat_marks, messages
    from aideer.core import clock
    from aideer.data import batch_write
    from aideer.data.base import new_id
    from aideer.data.models import Chat, Message, Record
    from tests.support import make_chat

    main = make_chat(owner)
    now = clock.now()
    others = [
        Chat(
            new_id(),
            owner_id=owner.id,
            preset_id=main.preset_id,
            preset_version=1,
            title=f"Chat {n:05}",
            visibility="private",
            version=1,
            generation=new_id(),
            next_n=2,
            message_count=1,
            create_time=clock.timestamp(now - n),
            update_time=clock.timestamp(now - size + n),
        )
        for n in range(1, size)
    ]
    for start in range(0, len(others), batch_write.SIZE):
        batch_write.write(Chat, puts=[chat.serialize() for chat in others[start : start + batch_write.SIZE]])
    long_ago = clock.timestamp(now)
    messages.write([Message(chat.thread, 1, role="user", content=TEXT, create_time=long_ago) for chat in others])
    messages.write(
        [
            Message(
                main.thread, n, role="user" if (size - n) % 2 == 0 else "assistant", content=TEXT, create_time=long_ago
            )
            for n in range(1, size + 1)
        ]
    )
    main.update([Chat.next_n.set(size + 1), Chat.message_count.set(size), Chat.title.set("Chat 00000")])
    main.update([Chat.pinned.set(True)])
    Record(*chat_marks._key(owner.id), ids={main.id}).save()
    return main


def lists(api: "Api", owner: "Person", chat: "Chat", size: int) -> "dict[str, Bill]":
    """Requests that cost the same at any size, and what each did."""
    pages = {
        f"GET /chats?order_by={by}&limit=5{what}": f"/chats?order_by={by}&limit=5{query}"
        for by in ("create_time", "update_time", "title")
        for what, query in (("", ""), ("&cursor=… (in the middle)", f"&cursor={_middle(owner, by, size)}"))
    }
    pages["GET /chats?q=Chat&limit=5"] = "/chats?q=Chat&limit=5"
    pages["GET /chats?archived=false&limit=5"] = "/chats?archived=false&limit=5"
    pages["GET /chats?pinned=true&limit=5"] = "/chats?pinned=true&limit=5"
    bills = {name: _bill(api, "chats.list", "GET", path, owner) for name, path in pages.items()}
    for what, query in (
        ("", ""),
        (f"&before={size // 2 + 3}", f"&before={size // 2 + 3}"),
        (f"&after={size // 2 - 2}", f"&after={size // 2 - 2}"),
    ):
        name = f"GET /chats/{{id}}?limit=5{what.split('=')[0]}{'=n' if what else ''}"
        bills[name] = _bill(api, "chats.get", "GET", f"/chats/{chat.id}?limit=5{query}", owner)
    body = {"messages": [{"role": "user", "content": TEXT}]}
    bills["POST /chats/{id}/messages"] = _bill(api, "chats.append", "POST", f"/chats/{chat.id}/messages", owner, body)
    return bills


def searching(api: "Api", owner: "Person") -> "dict[str, Bill]":
    """Searches that find nothing, so that a page looks at as many chats as it may."""
    return {
        "GET /search?q=… (a page without a hit)": _bill(api, "search.list", "GET", "/search?q=moose", owner),
        "GET /search?q=…&scope=titles": _bill(api, "search.list", "GET", "/search?q=moose&scope=titles", owner),
        "GET /chats?tag=… (a page without a hit)": _bill(api, "chats.list", "GET", "/chats?tag=moose", owner),
    }


def asking(api: "Api", owner: "Person", chat: "Chat") -> "dict[str, Bill]":
    """Requests whose cost is that of their prompt."""
    from aideer.billing.credits import Closer, Text, settle
    from aideer.core.usage import Usage
    from aideer.data.models import Task
    from aideer.prompts import prompts

    prompts.get_preset(chat.preset_id, 1)  # as in a warm process
    bills = {"POST /tasks": _bill(api, "tasks.create", "POST", "/tasks", owner, {"chat_id": chat.id})}
    (task_id,) = owner.user.holds.attribute_values
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e")])
    settle(Task.get(task_id), Closer.executor("e"), "finished", Text("", TEXT), "stop", Usage(1, 1))
    path = f"/tasks/{task_id}/regenerate"
    bills["POST /tasks/{id}/regenerate"] = _bill(api, "tasks.regenerate", "POST", path, owner)
    return bills


def refused(api: "Api", owner: "Person", chat: "Chat") -> "Bill":
    """Asking a model whose context is less than the chat."""
    from aideer.data.models import Preset
    from aideer.prompts import prompts

    version = Preset.get(chat.preset_id, 1)
    version.update([Preset.parameters.set({"model": "qwen-max"})])
    prompts.get_preset.cache_clear()
    prompts.get_preset(chat.preset_id, 1)
    return _bill(api, "tasks.create", "POST", "/tasks", owner, {"chat_id": chat.id}, status=413)


def _middle(owner: "Person", by: str, size: int) -> str:
    """A cursor of a list with as many chats before as behind it."""
    from aideer.chats import chat_lists
    from aideer.web import pagination

    keys = list(chat_lists._INDEXES[by].query(owner.id, scan_index_forward=False, limit=max(1, size // 2 - 1)))
    return pagination.encode(f"chats {by} desc ", [getattr(keys[-1], by), keys[-1].id])


def _bill(
    api: "Api", module: str, method: str, path: str, owner: "Person", body: Any = None, status: int = 200
) -> "Bill":
    from tests.capacity import metered

    with metered() as bill:
        answer = api(module, method, path, json=body, user=owner)
    assert answer.status == status, answer.body
    return bill


def report() -> str:
    """The section of docs/performance.md."""
    from tests.support import Api, make_person

    found = []
    for size in SIZES:
        owner = make_person(balance=10**9)
        chat = seeded(owner, size)
        api = Api()
        bills = {**lists(api, owner, chat, size), **searching(api, owner), **asking(api, owner, chat)}
        if size == max(SIZES):
            other = seeded(make_person(balance=10**9), size)
            stranger = make_person(balance=10**9)
            other.update([type(other).owner_id.set(stranger.id)])
            bills["POST /tasks, too long for its model (413)"] = refused(api, stranger, other)
        found.append(bills)
    small, large = found
    numbers = [f"{size:,}" for size in SIZES]
    text = HEAD.format(chats=" or ".join(numbers), messages=" or ".join(numbers), bytes=len(TEXT))
    text += f"| request | calls, at {numbers[1]} | RCU, WCU at {numbers[0]} | at {numbers[1]} |\n| --- | --- | ---: | ---: |\n"
    for name, bill in large.items():
        calls = ", ".join(_counted(bill.calls))
        before = small.get(name)
        text += f"| {name} | {calls} | {_units(before) if before else ''} | {_units(bill)} |\n"
    return text


def _counted(calls: list[str]) -> list[str]:
    return [f"{call} × {calls.count(call)}" if calls.count(call) > 1 else call for call in dict.fromkeys(calls)]


def _units(bill: "Bill") -> str:
    return f"{bill.read:g}, {bill.write:g}"


def main() -> int:
    """Measure on an embedded AWS of its own, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description="What long lists cost.")
    parser.add_argument("--markdown", action="store_true", help="the section of docs/performance.md")
    parser.parse_args()
    sys.path.insert(0, "functions")
    from local.stack import resources

    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="aideer-scale-")))
        os.environ.update(running.enter_context(resources.run_stack(folder)).environment)
        os.environ.update(SIGNUP_CREDITS="0", STREAM_BASE_URL="http://stream.test", POWERTOOLS_LOG_LEVEL="ERROR")
        with contextlib.redirect_stdout(sys.stderr):  # the metrics that the product prints
            page = report()
        print(page, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
