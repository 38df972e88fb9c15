"""Answers to their client: streamed or whole, beside the executor or from the stream log.

The executor's response ends only after the run is over, because Lambda freezes the process then. A client that leaves is not
announced, and does not end its answer.

A client that repeats its request follows the log, and has a slot, as followers of a chat's answer have (tasks/slots.py). If a
newer follower takes the slot, the older one gets an error. The log is the only copy of an answer here. If the executor could not
write all of it, the client gets an error too, because clients would take a part for the whole.

An answer that is not streamed may take longer than proxies wait. So the status is held back for HELD_SECONDS. After that come 200
and a space every SILENCE_SECONDS, which JSON allows. If the answer fails then, the connection breaks, because the status is gone.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from aideer.billing.credits import Text
from aideer.completions import chunks, refusals
from aideer.completions.chunks import Chunks
from aideer.completions.refusals import Refusal
from aideer.core import clock
from aideer.core.errors import TooManyRequests
from aideer.core.logs import logger
from aideer.data.models import Task, User
from aideer.security import budgets, limits
from aideer.tasks import leases, slots, stream_access, stream_log, streaming
from aideer.tasks.slots import Slot
from aideer.tasks.streaming import INTERRUPT_SECONDS, POLL_SECONDS, SILENCE_SECONDS

if TYPE_CHECKING:
    from aideer.tasks.executor import Run  # the SDK is heavy: the start of the process loads it

HELD_SECONDS = 50.0
_STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
Pieces = list[tuple[str, str]]


class Live:
    """The answer of an executor in this process."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self.task = run.task

    async def pieces(self) -> AsyncGenerator[Pieces, None]:
        """Yield new pieces as they come, and an empty list after each SILENCE_SECONDS without any. Then `task` is closed."""
        run, seen = self._run, 0
        while not (run.over and seen == len(run.shown)):
            await run.changed(seen, SILENCE_SECONDS)
            new = run.shown[seen:]
            seen += len(new)
            if new or not run.over:
                yield new
        self.task = run.end or run.task

    def find_refusal(self) -> Refusal | None:
        """Return the refusal that takes the place of the answer's end, if the closed task has failed."""
        return refusals.of_failure(self.task) if _has_failed(self.task) else None

    def read_text(self) -> Text:
        """Return the whole text of the closed task."""
        ours = self.task.closed_by == self._run.task.executor
        return self._run.received.text if ours else _read_text(self.task)


class Logged:
    """The answer of a task that an earlier attempt has begun, from its beginning."""

    def __init__(self, task: Task, slot: Slot | None = None) -> None:
        self.task = task
        self._slot = slot
        self._displaced = False
        self._position = 0

    @classmethod
    def follow(cls, user: User, task: Task) -> "Logged":
        """Return the answer for a client that repeats its request, with a slot if the task is open.

        Raises TooManyRequests if the user resumes too many answers, or has used up the reading budget.
        """
        stream_access.count_resumption(user.id)
        budgets.require(user.id)
        return cls(task, slots.take_follower(user.id, task.id) if task.is_open else None)

    async def pieces(self) -> AsyncGenerator[Pieces, None]:
        """Yield pieces as `Live.pieces` does. They count towards the user's reading budget."""
        sent = 0
        try:
            async with aclosing(self._read()) as read:
                async for pieces in read:
                    sent += sum(len(text.encode()) for _, text in pieces)
                    yield pieces
        finally:
            await stream_access.finish(asyncio.to_thread(self._leave, sent))

    async def _read(self) -> AsyncGenerator[Pieces, None]:
        spoke = renewed = clock.now()
        interrupt_at = 0.0
        while True:
            end = None if self.task.is_open else int(self.task.text_length or 0)
            parts = await asyncio.to_thread(stream_log.read, self.task.id, self._position, end)
            if parts:
                self._position = parts[-1].end
            if parts or clock.now() - spoke >= SILENCE_SECONDS:
                spoke = clock.now()
                yield [(part.kind, part.text) for part in parts]
            if end is not None:
                return
            await asyncio.sleep(POLL_SECONDS)
            if self._slot and clock.now() - renewed >= stream_access.CHECK_SECONDS:
                renewed = clock.now()
                if not await asyncio.to_thread(self._slot.renew):
                    self._displaced = True
                    return
            stored = await asyncio.to_thread(leases.read, self.task.id)
            if stored and leases.is_expired(stored) and clock.now() >= interrupt_at:
                interrupt_at = clock.now() + INTERRUPT_SECONDS
                stored = await streaming.interrupt(stored)
            self.task = stored or self.task

    def _leave(self, sent: int) -> None:
        if self._slot:
            self._slot.release()
        with contextlib.suppress(TooManyRequests):  # the next one is refused
            budgets.charge(self.task.user_id, sent)

    def find_refusal(self) -> Refusal | None:
        """Return a refusal as `Live.find_refusal` does, also for a lost slot, and for text that the log lacks."""
        if self._displaced:
            return refusals.of_error(limits.refusal("follow_task", slots.LEAST_SECONDS))
        if _has_failed(self.task):
            return refusals.of_failure(self.task)
        return refusals.of_lost_text() if self._position < int(self.task.text_length or 0) else None

    def read_text(self) -> Text:
        """Return the whole text of the closed task."""
        return _read_text(self.task)


def stream(answer: Live | Logged, model: str, *, includes_usage: bool) -> Response:
    """Return the streamed response. Its headers and a comment leave at once, before the model is asked."""
    headers = {**_STREAM_HEADERS, "x-request-id": answer.task.id}
    events = _stream(answer, Chunks(answer.task, model, includes_usage=includes_usage))
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def whole(answer: Live | Logged, model: str) -> Response:
    """Return the response that is not streamed."""
    return _Whole(answer, model)


async def _stream(answer: Live | Logged, form: Chunks) -> AsyncGenerator[str, None]:
    yield chunks.KEEP_ALIVE
    yield form.start()
    async with aclosing(answer.pieces()) as coming:
        async for pieces in coming:
            for kind, text in pieces:
                for chunk in form.add(kind, text):
                    yield chunk
            if not pieces:
                yield chunks.KEEP_ALIVE
    if refusal := answer.find_refusal():
        yield chunks.error_event(refusal.body())
    else:
        for chunk in form.end(answer.task):
            yield chunk
    yield chunks.DONE


class _Whole(Response):
    """Waits for the answer, and decides on its status as late as proxies allow."""

    media_type = "application/json"

    def __init__(self, answer: Live | Logged, model: str) -> None:
        super().__init__()
        self._answer = answer
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting = asyncio.create_task(self._wait())
        await asyncio.wait([waiting], timeout=HELD_SECONDS)
        if waiting.done():
            await (await waiting)(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"x-request-id", self._answer.task.id.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not waiting.done():
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.wait([waiting], timeout=SILENCE_SECONDS)
        response = await waiting
        if response.status_code != 200:
            logger.warning("broken", extra={**leases.log_ids(self._answer.task), "status": response.status_code})
            return  # the server breaks a connection whose response has not ended
        await send({"type": "http.response.body", "body": response.body, "more_body": False})

    async def _wait(self) -> Response:
        async for _ in self._answer.pieces():
            pass
        task = self._answer.task
        if refusal := self._answer.find_refusal():
            return refusal.response()
        text = await asyncio.to_thread(self._answer.read_text)
        return JSONResponse(chunks.completion(task, self._model, text), headers={"x-request-id": task.id})


def _has_failed(task: Task) -> bool:
    return task.status not in ("finished", "stopped")


def _read_text(task: Task) -> Text:
    return stream_log.read_text(task.id, int(task.text_length or 0))
