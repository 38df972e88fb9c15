"""A process to be killed: for each line of JSON it makes a child that does what the line says, all at once.

It says "begun PID", then "done NAME ANSWER" for each thing that its caller may now rely on, and "over killed" or
"over done" when the child is no more.
"""

import asyncio
import importlib
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aideer.billing import topups
from aideer.chats import chats
from aideer.core import clock
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import User
from aideer.schemas.chats import NewMessages
from aideer.schemas.credits import NewRedemption
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, chat_deletion, executor, sweeper
from tests import prices
from tests.chaos.harness import UiViewing, Viewing, call, completion_scope, is_ui, question_scope, ui_scope
from tests.support import caller
from v1 import serve as v1_function


def say(*words: str) -> None:
    """One line, whole."""
    os.write(1, (" ".join(words) + "\n").encode())


def ask(user: User, chat_id: str, key: str) -> str:
    """POST /tasks."""
    wanted = NewTask(chat_id=chat_id, stream=False)
    return admission.create(caller(user), wanted, IdempotentRequest(user.id, "POST /tasks", key, wanted)).task_id


def redeem(user: User, code: str, key: str) -> str:
    """POST /users/me/credits."""
    wanted = NewRedemption(redeem_code=code)
    return str(topups.redeem(user, code, IdempotentRequest(user.id, "POST /users/me/credits", key, wanted))["value"])


def append(user: User, chat_id: str, content: str) -> str:
    """POST /chats/{id}/messages."""
    new = NewMessages.model_validate({"messages": [{"role": "user", "content": content}]})
    return str(chats.append(user, chat_id, new)[0].n)


def delete(user: User, chat_id: str) -> str:
    """DELETE /chats/{id}."""
    chat_deletion.delete(user, chat_id)
    return "-"


def sweep(_: User) -> str:
    """The schedule's."""
    sweeper.sweep()
    return "-"


async def ask_and_watch(name: str, token: str, key: str, body: str) -> None:
    """POST /tasks/stream, or POST /ui/chat, whose client relies on the task of the first event."""
    told: list[str] = []

    def hear(viewing: Viewing) -> None:
        if viewing.start and not told:
            told.append(viewing.start["task_id"])
            say("done", name, *told)

    if is_ui(json.loads(body)):
        await call(ui_scope(token, key), UiViewing(""), body.encode(), hear)
    else:
        await call(question_scope(token, key), Viewing(""), body.encode(), hear)


async def complete(name: str, key: str, body: str) -> None:
    """POST /v1/chat/completions, whose client relies on the completion's id."""
    told: list[str] = []

    def hear(viewing: Viewing) -> None:
        if not told and (task_id := find_completion(viewing.sent)):
            told.append(task_id)
            say("done", name, task_id)

    await call(completion_scope(key), Viewing(""), body.encode(), hear, app=v1_function.app)


def find_completion(sent: str) -> str | None:
    """The task of a completion, if its client has got the id."""
    found = re.search(r'"id": ?"chatcmpl-([^"]+)"', sent)
    return found[1] if found else None


WATCHED: dict[str, Callable[..., Awaitable[None]]] = {"ask_and_watch": ask_and_watch, "complete": complete}
"""The requests that the process's own event loop answers."""
WORKS: dict[str, Callable[..., str]] = {
    "ask": ask,
    "redeem": redeem,
    "append": append,
    "delete": delete,
    "sweep": sweep,
}


def do(name: str, what: str, user_id: str, *arguments: Any) -> None:
    """One client's request."""
    say("done", name, WORKS[what](User.get(user_id, consistent_read=True), *arguments))


async def work(answers: list[str], works: list[list[str]]) -> None:
    """Everything at once."""
    loop = asyncio.get_running_loop()
    watched = [WATCHED[what](name, *arguments) for name, what, *arguments in works if what in WATCHED]
    works = [each for each in works if each[1] not in WATCHED]
    with ThreadPoolExecutor(8) as pool:
        await asyncio.gather(
            *(executor.execute(task_id, clock.now() + 60) for task_id in answers),
            *watched,
            *(loop.run_in_executor(pool, do, *each) for each in works),
            return_exceptions=True,
        )
    await executor.finish(0)


def main() -> None:
    for module in ("aideer.tasks.asking", "aideer.ai_sdk.door"):  # else each child imports it
        importlib.import_module(module)
    prices.bill_by(prices.FOLDER)
    for line in sys.stdin:
        wanted = json.loads(line)
        if child := os.fork():
            say("over", "killed" if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else "done")
            continue
        say("begun", str(os.getpid()))
        asyncio.run(work(wanted["answers"], wanted["works"]))
        os._exit(0)


if __name__ == "__main__":
    main()
