"""Stream access. Only the user that made a task may open its stream, by an access token or by the ticket for this very stream.

Streams from their beginning have a rate limit (rate_limits.py), and each can be opened once. From a position on, the user may
go on with it at any time. A viewer's rights end with the session. An open stream checks the session every CHECK_SECONDS, and once
more before it sends its end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pynamodb.exceptions import PynamoDBException

from aideer.core import aws_errors
from aideer.core.errors import InvalidToken, TooManyRequests, Unprocessable
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Task, User
from aideer.security import auth, rate_limits
from aideer.tasks import control, leases, stream_log

CHECK_SECONDS = 5.0
"""The most seconds that an open stream goes on after its viewer's session has ended. The user is read as often."""


@dataclass(slots=True)
class Viewer:
    """A viewer of a stream, with a token of this version."""

    user_id: str
    token_version: int
    gone: bool = False
    """Whether the session has ended. Then nothing more of the answer may be shown."""

    @classmethod
    def of(cls, claims: dict[str, Any]) -> "Viewer":
        """Return the holder of these claims."""
        return cls(claims["sub"], claims["ver"])

    @contextlib.asynccontextmanager
    async def checked(self) -> AsyncIterator[None]:
        """Check again and again, while this context lasts, whether the session goes on. The result is in `gone`."""
        checking = asyncio.create_task(self._keep_checking())
        try:
            yield
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    def may_see(self, user: User | None) -> bool:
        """Return whether the session goes on. `user` is the user as read just now, or None if there is none."""
        self.gone = self.gone or user is None or bool(user.deleted) or user.token_version != self.token_version
        return not self.gone

    async def _keep_checking(self) -> None:
        while not self.gone:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                self.may_see(await asyncio.to_thread(lookup.find, User, self.user_id))
            except Exception as error:  # a failed read ends no session: the next round reads again
                logger.warning("viewer", extra={"user_id": self.user_id, "error": type(error).__name__})


def verify_claims(task_id: str, authorization: str | None, ticket: str | None) -> dict[str, Any]:
    """Return the claims of the access token, or of the ticket. Raises Unauthorized, and InvalidToken for another kind of token."""
    if ticket is None:
        return auth.verify_access_token(authorization)
    said = auth.verify(ticket)
    if said["typ"] != "stream":
        raise InvalidToken("wrong_token_type", "This call takes a stream's ticket.")
    if said["task"] != task_id:
        raise InvalidToken("invalid_token", "This ticket is for another stream.")
    return said


async def admit(claims: dict[str, Any], *, from_start: bool) -> User:
    """Return the caller. Raises Unauthorized, and TooManyRequests if the caller opens too many streams from their start."""
    holder = asyncio.to_thread(auth.get_holder, claims)
    if not from_start:
        return await holder
    # Both calls run at once, because a person waits for the first token.
    user, refusal = await asyncio.gather(holder, asyncio.to_thread(_too_many, claims["sub"]))
    if refusal:
        raise refusal
    return user


def open_stream(user: User, task_id: str, position: int | None) -> Task:
    """Return the user's task. If the position is None (from the start), mark the task as streamed.

    Raises NotFound. Raises Unprocessable for a second stream from the start, for a position that was never sent, and for a title.
    """
    task = control.get_owned(user, task_id)
    if task.type == Task.TITLE:
        raise Unprocessable("not_streamable", "Titles are not streamed.")
    if position is not None:
        if position > _furthest(task):
            raise Unprocessable("invalid_position", "This stream does not reach this position.")
        return task
    task, opening = Task(task_id), new_id()
    actions = [Task.streamed.set(True), Task.opening.set(opening)]
    if not leases.update(task, actions, Task.id.exists() & Task.streamed.does_not_exist()):
        stored = leases.read(task_id)  # our own write may have happened, with its answer lost
        if stored is None or stored.opening != opening:
            raise Unprocessable("already_streamed", "This stream was opened before. Open it from a position.")
        return stored
    return task


def _furthest(task: Task) -> int:
    """Return the last position that a viewer of this task can have received by now."""
    if task.status == "pending":
        return 0
    if task.is_open or task.text_length is None or task.closed_by.startswith("sweep#"):
        # The log lags behind the viewer beside the executor. If the sweeper closed the task, it knew the log only.
        return stream_log.LONGEST
    return int(task.text_length)


def _too_many(user_id: str) -> TooManyRequests | None:
    try:
        rate_limits.count("stream", user_id)
    except TooManyRequests as refusal:
        return refusal
    except PynamoDBException as error:  # an outage must not refuse a viewer: the answer was paid for
        if not aws_errors.is_unavailable(error):
            raise
    return None
