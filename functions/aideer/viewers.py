"""Who may watch a task's stream: whoever made the task, by an access token or by the ticket for this very stream.

Streams from their beginning are counted (throttling.py) and opened once; from a position on, anybody's own goes on at any time.
A viewer's rights end with their session. An open stream looks again every CHECK_SECONDS, and once more before it says its end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger
from pynamodb.exceptions import PynamoDBException

from aideer import auth, dynamodb, leases, streamlog, tasks, throttling, titles
from aideer.errors import InvalidToken, TooManyRequests, Unprocessable
from aideer.models import Task, User, new_id

CHECK_SECONDS = 5.0
"""How long an open stream goes on at most after its viewer's session has ended; the user is read as often."""

logger = Logger(service="aideer")


@dataclass(slots=True)
class Viewer:
    """Somebody who watches a stream, by a token of this version."""

    user_id: str
    token_version: int
    gone: bool = False
    """Whether the session has ended: nothing of the answer may be shown any more."""

    @classmethod
    def of(cls, claims: dict[str, Any]) -> "Viewer":
        """The holder of these claims."""
        return cls(claims["sub"], claims["ver"])

    @contextlib.asynccontextmanager
    async def checked(self) -> AsyncIterator[None]:
        """Look again, while this context lasts, whether the session goes on; `gone` says so."""
        checking = asyncio.create_task(self._keep_checking())
        try:
            yield
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    def may_see(self, user: User | None) -> bool:
        """Whether the session goes on, by the user as read just now (None where there is none)."""
        self.gone = self.gone or user is None or bool(user.deleted) or user.token_version != self.token_version
        return not self.gone

    async def _keep_checking(self) -> None:
        while not self.gone:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                self.may_see(await asyncio.to_thread(_stored, self.user_id))
            except Exception as error:  # no answer ends no session: the next round asks again
                logger.warning("viewer", extra={"user_id": self.user_id, "error": type(error).__name__})


def claims(task_id: str, authorization: str | None, ticket: str | None) -> dict[str, Any]:
    """What the access token says, or the ticket. Raises Unauthorized, and InvalidToken for another kind."""
    if ticket is None:
        return auth.access_claims(authorization)
    said = auth.verify(ticket)
    if said["typ"] != "stream":
        raise InvalidToken("wrong_token_type", "This takes a stream's ticket.")
    if said["task"] != task_id:
        raise InvalidToken("invalid_token", "This ticket is for another stream.")
    return said


async def admitted(claims: dict[str, Any], *, from_start: bool) -> User:
    """The caller. Raises Unauthorized, and TooManyRequests where they open too many streams from their start."""
    holder = asyncio.to_thread(auth.holder, claims)
    if not from_start:
        return await holder
    # Beside the other call, as somebody waits for the first token.
    user, refusal = await asyncio.gather(holder, asyncio.to_thread(_too_many, claims["sub"]))
    if refusal:
        raise refusal
    return user


def opened(user: User, task_id: str, position: int | None) -> Task:
    """The user's task, which is marked as streamed where the position is None: from its start.

    Raises NotFound, and Unprocessable for a second stream from the start, for a position that nobody was ever sent, and for a
    title.
    """
    task = tasks.of(user, task_id)
    if task.type == titles.TYPE:
        raise Unprocessable("not_streamable", "Titles are not streamed.")
    if position is not None:
        if position > _furthest(task):
            raise Unprocessable("invalid_position", "This stream does not reach this position.")
        return task
    task, opening = Task(task_id), new_id()
    actions = [Task.streamed.set(True), Task.opening.set(opening)]
    if not leases.update(task, actions, Task.id.exists() & Task.streamed.does_not_exist()):
        stored = leases.read(task_id)  # the refusal may be the echo of our own write, its answer lost
        if stored is None or stored.opening != opening:
            raise Unprocessable("already_streamed", "This was streamed before: go on from a position.")
        return stored
    return task


def _furthest(task: Task) -> int:
    """Return the last position that a viewer of this task can have been sent by now."""
    if task.status == "pending":
        return 0
    if leases.is_open(task) or task.text_length is None or task.closed_by.startswith("sweep#"):
        # The log lags behind the viewer beside the executor, and its end is all that the sweep knows.
        return streamlog.LONGEST
    return int(task.text_length)


def _stored(user_id: str) -> User | None:
    try:
        return User.get(user_id, consistent_read=True)
    except User.DoesNotExist:
        return None


def _too_many(user_id: str) -> TooManyRequests | None:
    try:
        throttling.count("stream", user_id)
    except TooManyRequests as refusal:
        return refusal
    except PynamoDBException as error:  # what it is to spare has other worries, and an answer was paid for
        if not dynamodb.unavailable(error):
            raise
    return None
