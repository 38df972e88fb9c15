"""Who may watch a task's stream: whoever made the task, by an access token or by the ticket for this very stream.

Streams from their beginning are counted (throttling.py) and opened once; from a position on, anybody's own goes on at any time.
"""

import asyncio
from typing import Any

from pynamodb.exceptions import PynamoDBException

from aideer import auth, dynamodb, leases, tasks, throttling, titles
from aideer.errors import BadRequest, TooManyRequests, Unauthorized, Unprocessable
from aideer.models import Task, User, new_id


def claims(task_id: str, authorization: str | None, ticket: str | None) -> dict[str, Any]:
    """What the access token says, or the ticket. Raises Unauthorized, and BadRequest for another kind of token."""
    if ticket is None:
        return auth.access_claims(authorization)
    said = auth.verify(ticket)
    if said["typ"] != "stream":
        raise BadRequest("wrong_token_type", "This takes a stream's ticket.")
    if said["task"] != task_id:
        raise Unauthorized("invalid_token", "This ticket is for another stream.")
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


def opened(user: User, task_id: str, *, from_start: bool) -> Task:
    """The user's task, which is marked as streamed from its start.

    Raises NotFound, and Unprocessable for a second stream from the start, and for a title.
    """
    task = tasks.of(user, task_id)
    if task.type == titles.TYPE:
        raise Unprocessable("not_streamable", "Titles are not streamed.")
    if from_start:
        task, opening = Task(task_id), new_id()
        actions = [Task.streamed.set(True), Task.opening.set(opening)]
        if not leases.update(task, actions, Task.id.exists() & Task.streamed.does_not_exist()):
            stored = leases.read(task_id)  # the refusal may be the echo of our own write, its answer lost
            if stored is None or stored.opening != opening:
                raise Unprocessable("already_streamed", "This was streamed before: go on from a position.")
            return stored
    return task


def _too_many(user_id: str) -> TooManyRequests | None:
    try:
        throttling.count("stream", user_id)
    except TooManyRequests as refusal:
        return refusal
    except PynamoDBException as error:  # what it is to spare has other worries, and an answer was paid for
        if not dynamodb.unavailable(error):
            raise
    return None
