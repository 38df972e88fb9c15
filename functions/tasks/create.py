"""POST /tasks: ask for an answer in a chat. Its estimate is held until it ends."""

from aideer.data.idempotency import IdempotentRequest
from aideer.schemas.headers import IdempotencyKey
from aideer.schemas.tasks import AcceptedTaskResponse, NewTask
from aideer.security.auth import Unread
from aideer.tasks import admission
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/tasks", **describe("Ask for an answer", errors=(402, 403, 404, 409, 413, 429)))
def create(caller: Unread, task: NewTask, key: IdempotencyKey = None) -> AcceptedTaskResponse:
    """Accept a task. Open stream_url at once to receive the answer while it is made, or fetch the answer later."""
    return admission.create(caller, task, IdempotentRequest(caller.id, "POST /tasks", key, task))
