"""Many at once against `make run` itself: two hundred streams, and a thousand tasks for which ten can be paid."""

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.events import Stream, parse
from tests.integration.stacks import ADMIN, Client, Stack, running
from tests.waiting import PATIENCE_SECONDS

STREAMS, TOKENS, DELAY_MS = 200, 100, 50
ASKED, AT_ONCE, PAYABLE = 1_000, 125, 10
TRIES = 1_000
"""The most times that one question is sent."""


@dataclass
class Streams:
    """What came of the streams."""

    complete: int
    failed: int
    slowest_first_token: float
    """Seconds from the first sending of its question."""
    slowest_end: float
    memory_before: int
    memory_most: int
    """Megabytes of all processes of the stack, as ps says (shared pages count in each)."""


@dataclass
class Accepted:
    """What came of the tasks."""

    answers: dict[int, int]
    accepted: int
    reads: int
    least_credits: int
    drift: int
    """Reads in which credits and holds together were not what the user was given."""


def streams() -> Streams:
    """Ask many questions at once by POST /tasks/stream, each in a new chat, and read each answer to its end."""
    with _stack(SIGNUP_CREDITS=str(10**9)) as stack:
        me = Client(stack)
        before = _megabytes(stack)
        with _meanwhile(lambda: _megabytes(stack)) as memory:
            seen = asyncio.run(_watch_all(stack, me))
        failed = complete = 0
        for stream, _, _ in seen:
            stored = me.task(stream.start["task_id"])
            failed += stored["status"] != "finished"
            [_, answer] = me.get(f"/chats/{stored['chat_id']}")["messages"]
            complete += stream.content == stream.final.get("content") == answer["content"] == stored["content"] != ""
        money = me.get("/users/me/credits")
        assert money["credits_held"] == 0
        assert len({stream.start["task_id"] for stream, _, _ in seen}) == STREAMS
        return Streams(complete, failed, max(s[1] for s in seen), max(s[2] for s in seen), before, max(memory))


async def _watch_all(stack: Stack, me: Client) -> list[tuple[Stream, float, float]]:
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": me.http.headers["Authorization"]}
    async with httpx.AsyncClient(base_url=f"{stack.url}/api/v1", timeout=120, limits=limits, headers=headers) as client:
        return await asyncio.gather(*(_watch(client, me.preset_id, n) for n in range(STREAMS)))


async def _watch(client: httpx.AsyncClient, preset_id: str, n: int) -> tuple[Stream, float, float]:
    question = {"role": "user", "content": f"/sim tokens={TOKENS} delay={DELAY_MS} number {n}"}
    body = {"chat": {"preset_id": preset_id}, "messages": [question]}
    text, began, first = "", time.monotonic(), 0.0
    while not text:
        async with client.stream("POST", "/tasks/stream", json=body, headers={"Idempotency-Key": str(n)}) as answer:
            if answer.status_code == 503:  # busy: the same key never asks twice
                await answer.aread()
                continue
            assert answer.status_code == 200, await answer.aread()
            async for piece in answer.aiter_text():
                text += piece
                if not first and '"content"' in text:
                    first = time.monotonic() - began
    return parse(text), first, time.monotonic() - began


def accepted() -> Accepted:
    """Ask for many answers at once that are never made, for credits that pay for a few of them."""
    with _stack(SIGNUP_CREDITS="0") as stack:
        me = Client(stack)
        chats = [me.chat("hello") for _ in range(ASKED)]
        hold = me.post("/tasks/quote", {"chat_id": chats[0]})["credits_at_most"]
        _give(stack, me, PAYABLE * hold)
        reads: list[tuple[int, int]] = []

        def look() -> int:
            money = me.get("/users/me/credits")
            reads.append((money["credits_left"], money["credits_held"]))
            return 0

        with _parked(stack), _meanwhile(look):
            answers = Counter(asyncio.run(_ask_all(stack, me, chats)))
            look()
        return Accepted(
            answers=dict(answers),
            accepted=answers[200],
            reads=len(reads),
            least_credits=min(left for left, _ in reads),
            drift=sum(left + held != PAYABLE * hold for left, held in reads),
        )


async def _ask_all(stack: Stack, me: Client, chats: list[str]) -> list[int]:
    free = asyncio.Semaphore(AT_ONCE)
    headers = {"Authorization": me.http.headers["Authorization"]}
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=f"{stack.url}/api/v1", timeout=60, headers=headers, limits=limits) as client:

        async def ask(chat_id: str) -> int:
            async with free:
                for _ in range(
                    TRIES
                ):  # with the same key: a 503 asks for it, and a server may close an idle connection
                    with suppress(httpx.TransportError):
                        key = {"Idempotency-Key": chat_id}
                        answer = await client.post("/tasks", json={"chat_id": chat_id}, headers=key)
                        if answer.status_code != 503:
                            return answer.status_code
                return 503

        return await asyncio.gather(*map(ask, chats))


def _give(stack: Stack, me: Client, amount: int) -> None:
    form = {"grant_type": "password", "username": ADMIN[0], "password": ADMIN[1]}
    token = httpx.post(f"{stack.url}/api/v1/session/oauth2/token", data=form, timeout=PATIENCE_SECONDS).json()[
        "access_token"
    ]
    headers = {"Authorization": f"Bearer {token}"}
    code = httpx.post(
        f"{stack.url}/api/v1/codes", json={"value": amount}, headers=headers, timeout=PATIENCE_SECONDS
    ).json()["redeem_code"]
    me.post("/users/me/credits", {"redeem_code": code})


@contextmanager
def _parked(stack: Stack) -> Iterator[None]:
    """Without executors: nothing is made, and nothing that was held comes back."""
    background = stack.pid("background")
    os.kill(background, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(background, signal.SIGCONT)


@contextmanager
def _stack(**environment: str) -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="aideer-chaos-") as folder,
        running(Path(folder), OPEN_TASKS=str(ASKED), **environment) as stack,
    ):
        yield stack


@contextmanager
def _meanwhile(measure: Callable[[], int]) -> Iterator[list[int]]:
    """Measure over and over meanwhile."""
    measured: list[int] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.05):
            measured.append(measure())

    with ThreadPoolExecutor(1) as pool:
        measuring = pool.submit(go_on)
        try:
            yield measured
        finally:
            over.set()
        measuring.result()


def _megabytes(stack: Stack) -> int:
    """Resident memory of the stack's processes."""
    rows = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
    processes = [tuple(map(int, row.split())) for row in rows.splitlines()]
    tree = {stack.pid("launcher"), stack.pid("supervisor")}
    for _ in range(6):
        tree |= {pid for pid, parent, _ in processes if parent in tree}
    return sum(kilobytes for pid, _, kilobytes in processes if pid in tree) // 1024
