"""POST /tasks: queue a question, for clients that watch its answer later or poll. Its estimate is held until it ends."""

from aideer.schemas.headers import IdempotencyKey
from aideer.schemas.questions import NewTask
from aideer.schemas.tasks import AcceptedTaskResponse
from aideer.security.callers import Unread
from aideer.tasks import admission
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/tasks", **describe("Ask for an answer", errors=(400, 402, 403, 404, 409, 413, 429)))
def create(caller: Unread, task: NewTask, key: IdempotencyKey = None) -> AcceptedTaskResponse:
    """Queue a question. Open stream_url at once to receive the answer while it is made, or fetch the answer later.

    A client that reads streams asks by POST /tasks/stream, in one request. New messages and a new chat are stored together with the
    task, or not at all.
    """
    return admission.create(caller, task, admission.identify(caller, task, key))
