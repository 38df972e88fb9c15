"""Stream access. Only the user that made a task may open its stream, by an access token or by the ticket for this very stream.

Streams from their beginning have a rate limit (limits.py), and each can be opened once. From a position on, the user may go on with
it at any time. That has a rate limit too. Followers and polls also need a slot (slots.py). A viewer's rights end with the session.
An open stream checks the session every CHECK_SECONDS, and once more before it sends its end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from pynamodb.exceptions import PynamoDBException

from aideer.core import aws_errors
from aideer.core.errors import InvalidToken, TooManyRequests, Unprocessable
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Task, User
from aideer.security import auth, budgets, exhausted, rate_limits
from aideer.security.limits import Kind
from aideer.security.rate_limits import Counted
from aideer.tasks import control, leases, slots, stream_log
from aideer.tasks.slots import Slot

CHECK_SECONDS = 5.0
"""The most seconds that an open stream goes on after its viewer's session has ended. The user is read as often."""


_finishing: set[asyncio.Task[None]] = set()
"""The event loop itself holds its tasks only weakly."""


@dataclass(slots=True)
class Viewer:
    """A viewer of a stream, with a token of this version and of this session."""

    user_id: str
    token_version: int
    session_id: str | None = None
    gone: bool = False
    """Whether the session has ended, or another follower took the slot. Then nothing more of the answer may be shown."""
    slot: Slot | None = None
    """The follower's slot, if it has one."""

    @classmethod
    def of(cls, claims: dict[str, Any]) -> "Viewer":
        """Return the holder of these claims."""
        return cls(claims["sub"], claims["ver"], claims.get("sid"))

    @contextlib.asynccontextmanager
    async def checked(self) -> AsyncIterator[None]:
        """Check again and again, while this context lasts, whether the viewer may go on. The result is in `gone`.

        The slot is renewed as often, and free afterwards.
        """
        checking = asyncio.create_task(self._keep_checking())
        try:
            yield
        finally:
            checking.cancel()
            await finish(self._leave(checking))

    def may_see(self, user: User | None) -> bool:
        """Return whether the session goes on. `user` is the user as read just now, or None if there is none."""
        self.gone = self.gone or not auth.is_session_open(user, self.token_version, self.session_id)
        return not self.gone

    async def _leave(self, checking: asyncio.Task[None]) -> None:
        await asyncio.gather(checking, return_exceptions=True)
        if self.slot:
            await asyncio.to_thread(self.slot.release)

    async def _keep_checking(self) -> None:
        while not self.gone:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                self.may_see(await asyncio.to_thread(lookup.find, User, self.user_id))
                if self.slot and not await asyncio.to_thread(self.slot.renew):
                    self.gone = True
            except Exception as error:  # a failed read ends no session: the next round reads again
                logger.warning("viewer", extra={"user_id": self.user_id, "error": type(error).__name__})


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do the last work of a stream, even if the stream is cancelled meanwhile.

    A server that learns of a client's departure cancels the stream, and then each wait of it. On Lambda, none does.
    """
    finishing = asyncio.create_task(work)
    _finishing.add(finishing)
    finishing.add_done_callback(_finishing.discard)
    await asyncio.shield(finishing)


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


async def admit(claims: dict[str, Any], position: int | str | None, *, polls: bool) -> User:
    """Return the caller, and count the opening. A poll from a position does not count, because polls resume all the time.

    Raises Unauthorized, and TooManyRequests if the caller opens or resumes too many streams.
    """
    holder = asyncio.to_thread(auth.get_holder, claims)
    if polls and position is not None:
        return await holder
    kind: Kind = "stream" if position is None else "resume"
    count = asyncio.to_thread(_count, kind, claims["sub"])
    # Both calls run at once, because a person waits for the first token.
    user, counted = await asyncio.gather(holder, count, return_exceptions=True)
    if isinstance(user, BaseException):
        if isinstance(counted, Counted):  # whoever holds a revoked token must not use up the user's limit
            await asyncio.to_thread(rate_limits.give_back, counted)
        raise user
    if isinstance(counted, TooManyRequests):
        exhausted.remember(kind, user.id, counted)
    if isinstance(counted, BaseException):
        raise counted
    return user


def open_stream(user: User, viewer: Viewer, task_id: str, position: int | None, *, polls: bool) -> Task:
    """Return the user's task. If the position is None (from the start), mark the task as streamed.

    Raises NotFound. Raises Unprocessable for a second stream from the start, for a position that was never sent, for a title, and
    for a completion.
    From the start, it also takes the viewer's slot, and raises as `take_slot` does.
    """
    task = control.get_owned(user, task_id)
    if task.type == Task.TITLE or task.chat_id is None:
        raise Unprocessable("not_streamable", "Titles and answers of API keys are not streamed here.")
    if position is not None:
        if position > _furthest(task, position):
            raise Unprocessable("invalid_position", "This stream does not reach this position.")
        return task
    if task.streamed:
        raise _already_streamed()
    take_slot(viewer, task, polls=polls)  # before the mark: a viewer that is refused here may open the stream later
    try:
        return _mark_opened(task_id)
    except Exception:
        if viewer.slot:
            viewer.slot.release()
        raise


def count_resumption(user_id: str) -> None:
    """Count that a user, who was read just now, goes on with an answer. Raises TooManyRequests."""
    try:
        _count("resume", user_id)
    except TooManyRequests as error:
        exhausted.remember("resume", user_id, error)
        raise


def take_slot(viewer: Viewer, task: Task, *, polls: bool = False) -> None:
    """Give the viewer of an open task its slot, as a follower or as a poll. The viewer of an ended task needs none.

    A viewer that has a slot keeps it. Raises TooManyRequests if the user has too many polls. Also raises it for a poll, and for the
    stream of an ended answer, if the user has used up the reading budget.
    """
    if polls or not task.is_open:
        budgets.require(viewer.user_id)
    if task.is_open and not viewer.slot:
        viewer.slot = (slots.take_poll if polls else slots.take_follower)(viewer.user_id, task.id)


def charge(viewer: Viewer, size: int) -> None:
    """Count `size` bytes of an ended answer, or of a poll, towards the viewer's reading budget."""
    with contextlib.suppress(TooManyRequests):  # the next stream is refused
        budgets.charge(viewer.user_id, size)


def _furthest(task: Task, position: int) -> int:
    """Return the last position that a viewer of this task can have received by now."""
    if task.status == "pending":
        return 0
    if task.is_open:  # the log lags behind the viewer beside the executor
        return stream_log.find_end(task.id) + stream_log.LEAD if position else 0
    if task.text_length is None or task.closed_by.startswith("sweep#"):  # the sweeper knew the log only
        return stream_log.LONGEST
    return int(task.text_length)


def _mark_opened(task_id: str) -> Task:
    task, opening = Task(task_id), new_id()
    actions = [Task.streamed.set(True), Task.opening.set(opening)]
    if leases.update(task, actions, Task.id.exists() & Task.streamed.does_not_exist()):
        return task
    stored = leases.read(task_id)  # our own write may have happened, with its answer lost
    if stored is None or stored.opening != opening:
        raise _already_streamed()
    return stored


def _already_streamed() -> Unprocessable:
    return Unprocessable("already_streamed", "This stream was opened before. Open it from a position.")


def _count(kind: Kind, user_id: str) -> Counted | None:
    exhausted.require_room(kind, user_id)
    try:
        # The documentation finds the limits of a call by their names here.
        return rate_limits.count("stream", user_id) if kind == "stream" else rate_limits.count("resume", user_id)
    except PynamoDBException as error:  # an outage must not refuse a viewer: the answer was paid for
        if not aws_errors.is_unavailable(error):
            raise
    return None
