"""One hostile user beside honest ones: `make load`.

    python -m tests.load

It starts a stack with the limits of a deployment. Honest users open a chat, ask, read the answer, and list their chats. They do it
alone first, and then beside one user that sends 100 asks and 100 followers at once, and 1,000 copies.

The run fails if an honest user is refused anything. It also fails if the hostile user is refused in another way than by 429 with
Retry-After, or if more of their requests succeed than the limits say. The times are reported and never judged, because they depend
on what else the machine does.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.integration.stacks import Client, running

ASKS, FOLLOWERS, COPIES = 100, 100, 1_000
HONEST, ROUNDS = 4, 5
OPEN_TASKS, MOST_ASKS, MOST_COPIES, MOST_FOLLOWERS = 5, 60, 30, 3
"""The defaults: open tasks, asks a minute, copies an hour, and followers of one task."""
WINDOWS = 2
"""A run may see this many windows of a limit, if one ends while it lasts."""
NOTICED_SECONDS = 45
"""Until then, every displaced follower has noticed it. Here, one process serves all followers, and 100 of them keep it busy."""
LIMITS = {"THROTTLES": "sign_up=1000/3600"}
"""Names one limit, so all others have their defaults."""


@dataclass
class Crowd:
    """What honest users were answered: seconds by call, and refusals."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refusals: list[str] = field(default_factory=list)

    def note(self, name: str, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Send a request, and note what it took and whether it was refused."""
        began = time.monotonic()
        answer = send()
        self.seconds[name].append(time.monotonic() - began)
        if answer.status_code >= 400:
            self.refusals.append(f"{name}: {answer.status_code} {answer.text[:200]}")
        return answer


@dataclass
class Attack:
    """What the hostile user was answered: the answers by kind, status and code, and what the limits do not allow."""

    answers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    faults: list[str] = field(default_factory=list)

    def note(self, kind: str, answer: httpx.Response) -> None:
        """Note an answer, and whether its refusal is as the limits say."""
        if answer.status_code == 200:
            self.answers[kind]["200"] += 1
            return
        code = answer.json().get("code", "")
        self.answers[kind][f"{answer.status_code} {code}"] += 1
        if answer.status_code != 429 or int(answer.headers.get("Retry-After", 0)) < 1:
            self.faults.append(f"{kind}: {answer.status_code} {answer.text[:200]}")

    def require_at_most(self, kind: str, most: int, found: int | None = None) -> None:
        """Note a fault if more of a kind succeeded than its limit says."""
        found = self.answers[kind]["200"] if found is None else found
        if found > most:
            self.faults.append(f"{kind}: {found} succeeded, and the limit is {most}")


def live(user: Client, crowd: Crowd) -> None:
    """Do what an honest user does: a few questions, with a look at the chats between them."""
    chat_id = user.chat("hello")
    for _ in range(ROUNDS):
        crowd.note("ask, to the last token", lambda: _question(user, chat_id))
        crowd.note("read the chat", lambda: user.http.get(f"/chats/{chat_id}"))
        crowd.note("list the chats", lambda: user.http.get("/chats"))
        crowd.note("copy the chat", lambda: user.http.post(f"/chats/{chat_id}/copy"))


def _question(user: Client, chat_id: str) -> httpx.Response:
    body = {"chat_id": chat_id, "messages": [{"role": "user", "content": "/sim tokens=20 delay=5 and now?"}]}
    return user.http.post("/tasks/stream", json=body, headers={"Idempotency-Key": uuid4().hex})


def live_all(users: list[Client]) -> Crowd:
    """Let all honest users live at the same time."""
    crowd = Crowd()
    with ThreadPoolExecutor(len(users)) as pool:
        for done in [pool.submit(live, user, crowd) for user in users]:
            done.result()
    return crowd


def attack(user: Client, url: str, attack: Attack) -> None:
    """Send the asks, the followers and the copies, all kinds at the same time."""
    kinds = (_ask, _follow, _copy)
    with ThreadPoolExecutor(len(kinds)) as pool:
        for done in [pool.submit(kind, user, url, attack) for kind in kinds]:
            done.result()


def _ask(user: Client, url: str, attack: Attack) -> None:
    chats = [user.chat("/sim tokens=400 delay=20") for _ in range(ASKS)]

    def one(chat_id: str) -> None:
        attack.note("asks", _send(user, "POST", f"{url}/tasks", json={"chat_id": chat_id}))

    with ThreadPoolExecutor(ASKS) as pool:
        list(pool.map(one, chats))
    attack.require_at_most("asks", OPEN_TASKS)


def _follow(user: Client, url: str, attack: Attack) -> None:
    """Open 100 followers of one running answer, and count those that are still open when all have noticed."""
    chat_id = user.chat("/sim tokens=1900 delay=40")
    task = user.post("/tasks", {"chat_id": chat_id, "stream": False})
    stop_at = time.monotonic() + NOTICED_SECONDS
    lock, still_open = threading.Lock(), 0

    def one(_: int) -> None:
        nonlocal still_open
        address = f"{url}/tasks/{task['task_id']}/stream?after=0"
        with httpx.Client(timeout=30) as http, http.stream("GET", address, headers=_token(user)) as answer:
            if answer.status_code != 200:
                answer.read()
                attack.note("followers", answer)
                return
            attack.note("followers", answer)
            for _ in answer.iter_raw():
                if time.monotonic() > stop_at:
                    with lock:
                        still_open += 1
                    return

    with ThreadPoolExecutor(FOLLOWERS) as pool:
        list(pool.map(one, range(FOLLOWERS)))
    attack.answers["followers that stay"]["open"] = still_open
    attack.require_at_most("followers that stay", MOST_FOLLOWERS, still_open)


def _copy(user: Client, url: str, attack: Attack) -> None:
    chat_id = user.chat("hello")

    def one(_: int) -> None:
        attack.note("copies", _send(user, "POST", f"{url}/chats/{chat_id}/copy"))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(COPIES)))
    attack.require_at_most("copies", WINDOWS * MOST_COPIES)


def _send(user: Client, method: str, url: str, **content: Any) -> httpx.Response:
    with httpx.Client(timeout=60) as http:
        return http.request(method, url, headers=_token(user), **content)


def _token(user: Client) -> dict[str, str]:
    return {"Authorization": user.http.headers["Authorization"]}


def report(quiet: Crowd, beside: Crowd, hostile: Attack) -> str:
    """Return what everybody was answered."""
    lines = ["what honest users wait for, ms      quiet: median    p95    beside: median    p95"]
    for name, seconds in quiet.seconds.items():
        both = [_times(seconds), _times(beside.seconds[name])]
        numbers = [f"{median:14.0f} {p95:6.0f}" for median, p95 in both]
        lines.append(f"{name:32}  {'    '.join(numbers)}")
    lines.append(f"refusals of honest users: {len(quiet.refusals)} quiet, {len(beside.refusals)} beside")
    for kind, answers in hostile.answers.items():
        lines.append(f"{kind}: {json.dumps(dict(sorted(answers.items())))}")
    return "\n".join(lines)


def _times(seconds: list[float]) -> tuple[float, float]:
    ordered = sorted(seconds)
    return 1000 * statistics.median(ordered), 1000 * ordered[max(0, round(0.95 * len(ordered)) - 1)]


def run() -> tuple[str, list[str]]:
    """Run it all on a stack of its own. Return the report, and everything that must not be."""
    with tempfile.TemporaryDirectory(prefix="aideer-load-") as folder, running(Path(folder), **LIMITS) as stack:
        honest = [Client(stack) for _ in range(HONEST)]
        user, hostile = Client(stack), Attack()
        quiet = live_all(honest)
        attacking = threading.Thread(target=attack, args=(user, f"{stack.url}/api/v1", hostile))
        attacking.start()
        beside = live_all([Client(stack) for _ in range(HONEST)])
        attacking.join()
    return report(quiet, beside, hostile), [*quiet.refusals, *beside.refusals, *hostile.faults]


def main() -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(prog="make load", description="One hostile user beside honest ones.")
    parser.parse_args()
    text, faults = run()
    print(text)
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
