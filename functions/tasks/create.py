"""POST /tasks: ask for an answer in a chat. Its estimate is held until it ends."""

from aideer import asking
from aideer.auth import Unread
from aideer.contract.headers import IdempotencyKey
from aideer.contract.tasks import AcceptedTask, NewTask
from aideer.http import app, handler
from aideer.idempotency import Once
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/tasks", **documented("Ask for an answer", errors=(402, 403, 404, 409, 413, 429)))
def create(caller: Unread, task: NewTask, key: IdempotencyKey = None) -> AcceptedTask:
    """Accept a task. Open stream_url at once to receive the answer while it is made, or fetch the answer later."""
    return asking.create(caller, task, Once(caller.id, "POST /tasks", key, task))
